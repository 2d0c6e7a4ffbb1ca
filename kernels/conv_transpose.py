"""A transposed convolution over 1 or 2 dimensions with its bias and activation, the way back of `conv`.

By output phase, as `_convolution` tells; the gradient of x is a plain convolution of the output's.
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


def conv_transpose_reference(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Numbers = 1, padding: Numbers = 0,
    output_padding: Numbers = 0, activation: str = "none",
) -> Tensor:  # fmt: skip
    """See `conv_transpose`."""
    convolution: Any = F.conv_transpose1d if x.ndim == 3 else F.conv_transpose2d
    return ACTIVATIONS[activation](convolution(x, weight, bias, stride, padding, output_padding))


def output_size(
    x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], output_padding: Sequence[int]
) -> list[int]:
    """HO and WO, or TO."""
    geometry = zip(x.shape[2:], weight.shape[2:], stride, padding, output_padding, strict=True)
    return [(n - 1) * s - 2 * p + k + extra for n, k, s, p, extra in geometry]


def conv_transpose_forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int],
    output_padding: Sequence[int], activation: str, dtype: torch.dtype | None = None,
) -> Tensor:  # fmt: skip
    """`conv_transpose` of (B, C, H, W), in the dtype of x or in the one that is given."""
    size = output_size(x, weight, stride, padding, output_padding)
    return convolve(x, weight.transpose(0, 1), bias, size, stride, padding, activation, transposed=True, dtype=dtype)


def conv_transpose_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, y: Tensor, stride: Sequence[int],
    padding: Sequence[int], output_padding: Sequence[int], activation: str,
    to_x: bool, to_weight: bool, to_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of x, weight and bias, each empty unless asked for; grad and y may be wider than x."""
    saved = y
    if from_total(activation, y.dtype):
        saved = conv_transpose_forward(x, weight, bias, stride, padding, output_padding, "none", y.dtype)
    grad, grad_bias = (part.to(x.dtype) for part in total_gradient(grad, saved, activation, to_bias))
    grad_x = grad_weight = x.new_empty(0)
    if to_x:
        grad_x = convolve(grad, weight, None, x.shape[2:], stride, padding)
    if to_weight:
        grad_weight = weight_gradient(x, grad, weight.shape[2:], stride, padding)
    return grad_x, grad_weight, grad_bias


_backward_op = triton_op("conv_transpose_backward")(conv_transpose_backward)


@triton_op("conv_transpose", *layer_autograd(conv_transpose_reference, _backward_op))
def _forward_op(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int],
    output_padding: Sequence[int], activation: str,
) -> Tensor:  # fmt: skip
    return conv_transpose_forward(x, weight, bias, stride, padding, output_padding, activation)


def check_transposed(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Numbers, padding: Numbers, output_padding: Numbers,
    activation: str,
) -> tuple[list[int], list[int], list[int]]:  # fmt: skip
    """stride, padding and output_padding, each a number for each dimension; raises ValueError as `check` does."""
    stride, padding, extra = (pair(value, x.ndim - 2) for value in (stride, padding, output_padding))
    check(x, weight, bias, (weight.shape[0], weight.shape[1]), stride, padding, activation)
    if len(extra) != len(stride) or any(not 0 <= e < s for e, s in zip(extra, stride, strict=True)):
        raise ValueError(f"output_padding must be less than stride: {extra}, {stride}")
    if min(output_size(x, weight, stride, padding, extra)) < 1:
        raise ValueError(f"padding of {padding} leaves nothing of {list(x.shape[2:])}")
    return stride, padding, extra


def conv_transpose(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Numbers = 1, padding: Numbers = 0,
    output_padding: Numbers = 0, activation: str = "none",
) -> Tensor:  # fmt: skip
    """activation(transposed convolution + bias): (B, C_out, HO, WO) for x (B, C, H, W), (B, C_out, TO) for (B, C, T).

    weight (C, C_out, ...) and bias (C_out,) of the same floating type as x, sums in float32 (float64 for float64);
    stride, padding and output_padding, which is less than stride, are one number, or one for each dimension; activation
    is a name in ACTIVATIONS. Takes any layout, and is quickest where channels lie last, as they do in what it returns.
    """
    stride, padding, extra = check_transposed(x, weight, bias, stride, padding, output_padding, activation)
    if not runs_triton(x):
        return conv_transpose_reference(x, weight, bias, stride, padding, extra, activation)
    if x.ndim == 3:
        x, weight = flat_rows(x, weight)
        return _forward_op(x, weight, bias, [1, *stride], [0, *padding], [0, *extra], activation).squeeze(2)
    return _forward_op(x, weight, bias, stride, padding, extra, activation)


def make_inputs(
    shape: tuple[int, ...], dtype: torch.dtype, device: str, c_out: int = 3, kernel_size: int = 3, stride: int = 2,
    padding: int = 1, extra: int = 0, activation: str = "none", bias: bool = True, size: float = 1.0,
) -> Inputs:  # fmt: skip
    c_in, kernel = shape[1], [kernel_size] * (len(shape) - 2)
    weight = torch.randn((c_in, c_out, *kernel), device=device) / (c_in * math.prod(kernel)) ** 0.5
    b, x = torch.randn(c_out, device=device), torch.randn(shape, device=device) * size
    if x.ndim == 4:
        x = x.clone(memory_format=torch.channels_last)  # as in the models
    leaves = [t.to(dtype).requires_grad_() for t in (x, weight, b)]
    return [*leaves[:2], leaves[2] if bias else None, stride, padding, extra, activation]


KERNELS["conv_transpose"] = Kernel(
    op=conv_transpose,
    reference=conv_transpose_reference,
    make_inputs={
        "relu 3 by 2 to 16": partial(make_inputs, c_out=16, extra=1, activation="relu"),
        "3 by 2 to 1": partial(make_inputs, c_out=1, extra=1),
        "silu 3": partial(make_inputs, stride=1, activation="silu"),
        "tanh 2 by 4 without bias": partial(
            make_inputs, kernel_size=2, stride=4, padding=0, extra=3, activation="tanh", bias=False
        ),
        "of 1e4": partial(make_inputs, size=1e4),
    },
    shapes=((1, 1, 3, 3), (2, 1, 5, 4), (2, 17, 3, 4), (0, 3, 3, 3), (3, 2, 13)),
    bench=(
        ("relu 3 by 2 to 16", (64, 32, 7, 7)),
        ("3 by 2 to 1", (64, 16, 14, 14)),
        ("relu 3 by 2 to 16", (65536, 32, 7, 7)),
        ("3 by 2 to 1", (65536, 16, 14, 14)),
    ),
    sample=(2, 3, 2),
    tiny=(2, 2, 2),
)
