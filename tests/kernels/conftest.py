"""Kernel tests run Triton wherever it is, and fill memory that nobody wrote with NaN."""

from collections.abc import Iterator

import pytest
import torch

from aekit import kernels


@pytest.fixture(autouse=True)
def _triton() -> Iterator[None]:
    kernels.use("triton")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    kernels.use("auto")
