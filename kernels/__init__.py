"""Triton kernels, each beside the torch reference that defines it; `KERNELS` lists them, `use` chooses the path."""

from aekit.kernels._layers import layer_name, prefers, where_kernels_run
from aekit.kernels._registry import CHOICES, KERNELS, Kernel, runs_triton, use, why_no_static, why_no_triton
from aekit.kernels.conv import conv
from aekit.kernels.conv_transpose import conv_transpose
from aekit.kernels.decode_error import decode_error
from aekit.kernels.linear import linear
from aekit.kernels.reparameterize import gaussian_kl, reparameterize
from aekit.kernels.sample_error import sample_error

__all__ = [
    "CHOICES",
    "KERNELS",
    "Kernel",
    "conv",
    "conv_transpose",
    "decode_error",
    "gaussian_kl",
    "layer_name",
    "linear",
    "prefers",
    "reparameterize",
    "runs_triton",
    "sample_error",
    "use",
    "where_kernels_run",
    "why_no_static",
    "why_no_triton",
]
