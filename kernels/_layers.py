"""Which layers of a model a kernel runs: those in which it beat eager and compiled torch on that GPU.

`WINS` is kept from bench/results/kernels-<gpu>.csv; bench/kernels.py prints what belongs in it. On a GPU that was not
measured torch runs the layers.
"""

import torch
from torch import Tensor

from aekit.kernels import _registry
from aekit.kernels._registry import runs_triton, why_no_triton

LAYERS = (
    "conv from 1 channel",
    "conv to 1 channel",
    "conv",
    "conv_transpose to 1 channel",
    "conv_transpose",
    "linear",
    "decode_error",
)
WINS: dict[str, frozenset[str]] = {}  # name of the GPU, as torch tells it -> names in LAYERS


def layer_name(kernel: str, c_in: int, c_out: int) -> str:
    """The name in LAYERS of a convolution, or of another kernel."""
    if kernel == "conv" and 1 in (c_in, c_out):
        return "conv from 1 channel" if c_in == 1 else "conv to 1 channel"
    return "conv_transpose to 1 channel" if kernel == "conv_transpose" and c_out == 1 else kernel


def prefers(layer: str, x: Tensor) -> bool:
    """Whether this layer (of LAYERS, or "") goes to its kernel for x: always after use("triton"), never after torch."""
    if not layer or not runs_triton(x):
        return False
    return _registry.chosen() == "triton" or layer in winners()


def winners() -> frozenset[str]:
    """The layers that kernels run on this GPU."""
    return WINS.get(torch.cuda.get_device_name(), frozenset())


def where_kernels_run() -> str:
    """One line for people: what runs by Triton in this process, and on what ground."""
    if _registry.chosen() == "torch" or not torch.cuda.is_available() or why_no_triton():
        return "none: torch runs everything"
    measured = torch.cuda.get_device_name() in WINS
    ground = "layers as measured on this GPU" if measured else "layers by torch: this GPU was not measured"
    return f"{', '.join(['reparameterize', 'sample_error', *sorted(winners())])} ({ground})"
