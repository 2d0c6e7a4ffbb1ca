"""Kernel tests run Triton wherever it is, without TF32, and fill memory that nobody wrote with NaN."""

from collections.abc import Iterator

import pytest
import torch

from aekit import kernels
from aekit.kernels._cells import precision


@pytest.fixture(autouse=True)
def _triton() -> Iterator[None]:
    kernels.use("triton")
    torch.use_deterministic_algorithms(True)
    with precision("float32"):
        yield
    torch.use_deterministic_algorithms(False)
    kernels.use("auto")
