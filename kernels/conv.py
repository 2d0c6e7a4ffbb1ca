"""A convolution over 1 or 2 dimensions with its bias and activation: the output is written once, channels last.

Made for few channels. With one channel in or out there is nothing for a matrix product: plain multiply-adds.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aekit.kernels._convolution import check, convolve, flat_rows, pair, total_gradient, weight_gradient
from aekit.kernels._epilogue import ACTIVATIONS, from_total, layer_autograd
from aekit.kernels._registry import KERNELS, Inputs, Kernel, runs_triton, triton_op

Numbers = int | Sequence[int]


def conv_reference(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Numbers = 1, padding: Numbers = 0,
    activation: str = "none",
) -> Tensor:  # fmt: skip
    """See `conv`."""
    convolution: Any = F.conv1d if x.ndim == 3 else F.conv2d
    return ACTIVATIONS[activation](convolution(x, weight, bias, stride, padding))


def _forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int], activation: str
) -> Tensor:
    geometry = zip(x.shape[2:], weight.shape[2:], stride, padding, strict=True)
    return convolve(x, weight, bias, [(n + 2 * p - k) // s + 1 for n, k, s, p in geometry], stride, padding, activation)


@triton_op("conv_backward")
def _backward_op(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, y: Tensor, stride: Sequence[int],
    padding: Sequence[int], activation: str, to_x: bool, to_weight: bool, to_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of x, weight and bias, each empty unless asked for."""
    saved = _forward(x, weight, bias, stride, padding, "none") if from_total(activation, x.dtype) else y
    grad, grad_bias = total_gradient(grad, saved, activation, to_bias)
    grad_x = grad_weight = x.new_empty(0)
    if to_x:
        grad_x = convolve(grad, weight.transpose(0, 1), None, x.shape[2:], stride, padding, transposed=True)
    if to_weight:
        grad_weight = weight_gradient(grad, x, weight.shape[2:], stride, padding)
    return grad_x, grad_weight, grad_bias


@triton_op("conv", *layer_autograd(conv_reference, _backward_op))
def _forward_op(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int], activation: str
) -> Tensor:
    return _forward(x, weight, bias, stride, padding, activation)


def conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Numbers = 1, padding: Numbers = 0,
    activation: str = "none",
) -> Tensor:  # fmt: skip
    """activation(convolution + bias): (B, C_out, HO, WO) for x (B, C, H, W), (B, C_out, TO) for x (B, C, T).

    weight (C_out, C, ...) and bias (C_out,) of the same floating type as x, sums in float32 (float64 for float64);
    stride and padding with zeros are one number, or one for each dimension; activation is a name in ACTIVATIONS.
    Takes any layout, and is quickest where channels lie last, as they do in what it returns.
    """
    stride, padding = pair(stride, x.ndim - 2), pair(padding, x.ndim - 2)
    check(x, weight, bias, (weight.shape[1], weight.shape[0]), stride, padding, activation)
    if any(n + 2 * p < k for n, k, p in zip(x.shape[2:], weight.shape[2:], padding, strict=True)):
        raise ValueError(f"{list(weight.shape[2:])} taps do not fit {list(x.shape[2:])} padded by {padding}")
    if not runs_triton(x):
        return conv_reference(x, weight, bias, stride, padding, activation)
    if x.ndim == 3:
        x, weight = flat_rows(x, weight)
        return _forward_op(x, weight, bias, [1, *stride], [0, *padding], activation).squeeze(2)
    return _forward_op(x, weight, bias, stride, padding, activation)


def _make_inputs(
    shape: tuple[int, ...], dtype: torch.dtype, device: str, c_out: int = 3, kernel_size: int = 3,
    stride: int = 1, padding: int = 1, activation: str = "none", bias: bool = True, size: float = 1.0,
    wide: bool = False,
) -> Inputs:  # fmt: skip
    c_in, rows = shape[1], len(shape) - 3
    kernel = [2 if wide else kernel_size] * rows + [kernel_size]
    strides, paddings = ([1] * rows + [stride], [0] * rows + [padding]) if wide else (stride, padding)
    weight = torch.randn((c_out, c_in, *kernel), device=device) / (c_in * math.prod(kernel)) ** 0.5
    b, x = torch.randn(c_out, device=device), torch.randn(shape, device=device) * size
    if x.ndim == 4:
        x = x.clone(memory_format=torch.channels_last)  # as in the models
    leaves = [t.to(dtype).requires_grad_() for t in (x, weight, b)]
    return [*leaves[:2], leaves[2] if bias else None, strides, paddings, activation]


KERNELS["conv"] = Kernel(
    op=conv,
    reference=conv_reference,
    make_inputs={
        "relu 3 by 2 to 16": partial(_make_inputs, c_out=16, stride=2, activation="relu"),
        "relu 3 by 2 to 32": partial(_make_inputs, c_out=32, stride=2, activation="relu"),
        "gelu 7 by 2 to 16": partial(
            _make_inputs, c_out=16, kernel_size=7, stride=2, padding=3, activation="gelu", wide=True
        ),
        "7 to 1": partial(_make_inputs, c_out=1, kernel_size=7, padding=3, wide=True),
        "elu 4 by 4 without bias": partial(_make_inputs, kernel_size=4, stride=4, activation="elu", bias=False),
        "of 1e4": partial(_make_inputs, size=1e4),
    },
    shapes=((1, 1, 4, 4), (2, 1, 9, 7), (2, 17, 5, 6), (0, 3, 5, 5), (3, 2, 25)),
    bench=(
        ("relu 3 by 2 to 16", (64, 1, 28, 28)),
        ("relu 3 by 2 to 32", (64, 16, 14, 14)),
        ("relu 3 by 2 to 16", (65536, 1, 28, 28)),
        ("relu 3 by 2 to 32", (65536, 16, 14, 14)),
        ("7 to 1", (4096, 16, 500)),
    ),
    sample=(2, 4, 3),
    tiny=(2, 3, 2),
)
