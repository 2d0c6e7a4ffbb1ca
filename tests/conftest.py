"""What every test shares. Without a GPU Triton runs by its interpreter, which must be said before it is imported."""

import os
import random

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats itself only with this
torch.set_num_threads(1)  # small models; threads that wait for each other beside another process take many times longer


@pytest.fixture(autouse=True)
def _seed() -> None:
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_tf32() -> None:
    """Results are compared with float64's; convolutions of torch may use TF32 unless told not to."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


@pytest.fixture
def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
