"""A linear layer with its bias and activation in one pass: the totals are never written.

Forward and both gradients are one product, out[m, n] = sum over k of a[m, k] * b[k, n], read by strides. Where k runs
over the batch, its sum is cut in parts that are added in a second stage: without atomics, reruns are bit-identical.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aekit.kernels._epilogue import (
    ACTIVATIONS,
    activate,
    check_epilogue,
    epilogue_backward,
    from_total,
    input_precision,
    layer_autograd,
)
from aekit.kernels._registry import (
    KERNELS,
    Inputs,
    Kernel,
    jit,
    runs_triton,
    tl,
    triton_op,
    wrap_triton,
)

PROGRAMS = 264  # two for each processor of an H200: into so many a sum over the batch is cut, at most


def linear_reference(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    """See `linear`."""
    return ACTIVATIONS[activation](F.linear(x, weight, bias))


@jit
def _product(
    a_ptr, b_ptr, bias_ptr, out_ptr, M, N, K, PART, a_m, a_k, b_k, b_n,
    BIAS: tl.constexpr, ACTIVATION: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    n_blocks = tl.cdiv(N, BLOCK_N)
    part = tl.program_id(1).to(tl.int64)
    m = (tl.program_id(0) // n_blocks).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    n = (tl.program_id(0) % n_blocks).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    first = part * PART
    count = tl.minimum(K - first, PART).to(tl.int32)
    k = tl.arange(0, BLOCK_K)
    a_at = a_ptr + m * a_m + (first + k)[None, :] * a_k
    b_at = b_ptr + (first + k)[:, None] * b_k + n * b_n
    wide = tl.float64 if out_ptr.dtype.element_ty == tl.float64 else tl.float32
    total = tl.zeros((BLOCK_M, BLOCK_N), wide)
    for start in range(0, count, BLOCK_K):
        left = count - start
        a = tl.load(a_at, mask=(m < M) & (k < left)[None, :], other=0.0)
        b = tl.load(b_at, mask=(k < left)[:, None] & (n < N), other=0.0)
        total = tl.dot(a, b, total, input_precision=PRECISION, out_dtype=wide)
        a_at += BLOCK_K * a_k
        b_at += BLOCK_K * b_k
    if BIAS:
        total += tl.load(bias_ptr + n, mask=n < N, other=0.0).to(wide)
    tl.store(out_ptr + (part * M + m) * N + n, activate(total, ACTIVATION), mask=(m < M) & (n < N))


def _blocks(dtype: torch.dtype) -> dict[str, Any]:
    """Sizes of a program's part; the sum over k does not depend on the batch."""
    precision = input_precision(convolution=False)
    return {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 16 if dtype.itemsize > 2 else 32, "PRECISION": precision}


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    (B, n_in), n_out = x.shape, len(weight)
    y = x.new_empty((B, n_out))
    sizes = _blocks(x.dtype)
    wrap_triton(_product)[(-(-B // sizes["BLOCK_M"]) * -(-n_out // sizes["BLOCK_N"]), 1)](
        x, weight, x if bias is None else bias, y, B, n_out, n_in, n_in,
        a_m=x.stride(0), a_k=x.stride(1), b_k=weight.stride(1), b_n=weight.stride(0),
        BIAS=bias is not None, ACTIVATION=activation, **sizes,
    )  # fmt: skip
    return y


def _grad_x(grad: Tensor, weight: Tensor) -> Tensor:
    (B, n_out), n_in = grad.shape, weight.shape[1]
    grad_x = grad.new_empty((B, n_in))
    sizes = _blocks(grad.dtype)
    wrap_triton(_product)[(-(-B // sizes["BLOCK_M"]) * -(-n_in // sizes["BLOCK_N"]), 1)](
        grad, weight, grad, grad_x, B, n_in, n_out, n_out,
        a_m=n_out, a_k=1, b_k=weight.stride(0), b_n=weight.stride(1),
        BIAS=False, ACTIVATION="none", **sizes,
    )  # fmt: skip
    return grad_x


def _grad_weight(grad: Tensor, x: Tensor) -> Tensor:
    (B, n_out), n_in = grad.shape, x.shape[1]
    sizes = _blocks(grad.dtype)
    blocks = -(-n_out // sizes["BLOCK_M"]) * -(-n_in // sizes["BLOCK_N"])
    step = 4 * sizes["BLOCK_K"]
    part = -(-max(B, 1) // (max(1, PROGRAMS // blocks) * step)) * step
    parts = max(1, -(-B // part))
    sums = grad.new_empty((parts, n_out, n_in), dtype=torch.promote_types(grad.dtype, torch.float32))
    wrap_triton(_product)[(blocks, parts)](
        grad, x, grad, sums, n_out, n_in, B, part, a_m=1, a_k=n_out, b_k=x.stride(0), b_n=x.stride(1),
        BIAS=False, ACTIVATION="none", **sizes,
    )  # fmt: skip
    return sums.sum(dim=0).to(grad.dtype)


@triton_op("linear_backward")
def _backward_op(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, y: Tensor, activation: str,
    to_x: bool, to_weight: bool, to_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of x, weight and bias, each empty unless asked for."""
    saved = _forward(x, weight, bias, "none") if from_total(activation, x.dtype) else y
    grad, grad_bias = epilogue_backward(grad.contiguous(), saved, activation, to_bias)
    grad_x = _grad_x(grad, weight) if to_x else x.new_empty(0)
    return grad_x, _grad_weight(grad, x) if to_weight else x.new_empty(0), grad_bias


@triton_op("linear", *layer_autograd(linear_reference, _backward_op))
def _forward_op(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    return _forward(x, weight, bias, activation)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    """activation(x weight^T + bias), (B, N_out) in the dtype of x; sums are float32 (float64 for float64).

    x (B, N_in), weight (N_out, N_in), bias (N_out,), all of one floating type; activation is a name in ACTIVATIONS.
    """
    if x.ndim != 2 or weight.ndim != 2 or x.shape[1] != weight.shape[1] or x.dtype != weight.dtype:
        raise ValueError(f"x must be (B, {weight.shape[-1]}) in {weight.dtype}: {tuple(x.shape)}, {x.dtype}")
    check_epilogue(weight, bias, len(weight), activation)
    op = _forward_op if runs_triton(x) else linear_reference
    return op(x, weight, bias, activation)


def _make_inputs(
    shape: tuple[int, ...], dtype: torch.dtype, device: str, n_out: int = 5, activation: str = "none",
    bias: bool = True, size: float = 1.0,
) -> Inputs:  # fmt: skip
    B, n_in = shape
    x, weight, b = (torch.randn(s, device=device) for s in ((B, n_in), (n_out, n_in), (n_out,)))
    weight /= n_in**0.5
    leaves = [(x * size).to(dtype).requires_grad_(), weight.to(dtype).requires_grad_()]
    return [*leaves, b.to(dtype).requires_grad_() if bias else None, activation]


KERNELS["linear"] = Kernel(
    op=linear,
    reference=linear_reference,
    make_inputs={
        "tanh": partial(_make_inputs, activation="tanh"),
        "to 1 without bias": partial(_make_inputs, n_out=1, bias=False),
        "relu to 67": partial(_make_inputs, n_out=67, activation="relu"),
        "of 1e4": partial(_make_inputs, size=1e4),
        "gelu to 128": partial(_make_inputs, n_out=128, activation="gelu"),
        "sigmoid to 128": partial(_make_inputs, n_out=128, activation="sigmoid"),
    },
    shapes=((1, 1), (67, 33), (0, 5), (3, 130)),
    bench=(
        ("sigmoid to 128", (256, 784)),
        ("gelu to 128", (256, 784)),
        ("sigmoid to 128", (65536, 784)),
        ("gelu to 128", (65536, 784)),
    ),
)
