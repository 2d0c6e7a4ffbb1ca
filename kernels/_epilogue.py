"""What `linear`, `conv` and `conv_transpose` do to a sum before it is written, y = activation(total + bias), and its
way back: the gradient of the total, and of the bias in two stages without float atomics, so that reruns repeat bits.

The gradient of an activation comes from its output, which the next layer keeps anyway. Those of gelu and silu have no
such formula, and 16 bits of elu's and selu's output say too little of a slope near 0: there the backward computes the
totals once more.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aekit.kernels._registry import jit, reference_gradients, tl, wrap_triton

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "selu": F.selu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}
TILE = 2048  # values that a program of `_backward` reads at a time
PARTS = 1024  # programs that share the rows: enough for every GPU


def layer_autograd(reference: Callable[..., Tensor], backward: Callable[..., Any]) -> tuple[Any, Any]:
    """What `triton_op` asks of a layer (x, weight, bias, *settings) -> y: its gradients, and what is kept for them.

    `backward` takes (grad, x, weight, bias, y, *settings) and which of the three gradients are wanted.
    """

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, bias, *ctx.settings = inputs
        ctx.save_for_backward(x, weight, bias, output)

    def gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, y = ctx.saved_tensors
        if torch.is_grad_enabled():
            return tuple(reference_gradients(reference, (x, weight, bias, *ctx.settings), [grad]))
        wanted = list(ctx.needs_input_grad[:3])
        found = backward(grad, x, weight, bias, y, *ctx.settings, *wanted)
        kept = (gradient if want else None for gradient, want in zip(found, wanted, strict=True))
        return (*kept, *(None for _ in ctx.settings))

    return gradients, setup


@jit
def _sigmoid(x):
    power = tl.exp(-tl.abs(x))  # at most 1
    return tl.where(x < 0, power, 1.0) / (1 + power)


@jit
def activate(x, ACTIVATION: tl.constexpr):
    """The activation of x, which is float32 or float64; a NaN stays one."""
    if ACTIVATION == "relu":
        x = tl.where(x < 0, 0.0, x)
    elif ACTIVATION == "leaky_relu":
        x = tl.where(x < 0, 0.01 * x, x)
    elif ACTIVATION == "elu":
        x = tl.where(x < 0, tl.exp(tl.minimum(x, 0.0)) - 1, x)
    elif ACTIVATION == "selu":
        x = tl.where(x < 0, 1.7580993408473766 * (tl.exp(tl.minimum(x, 0.0)) - 1), 1.0507009873554805 * x)
    elif ACTIVATION == "gelu":
        x = 0.5 * x * (1 + tl.erf(x * 0.7071067811865476))
    elif ACTIVATION == "silu":
        x = x * _sigmoid(x)
    elif ACTIVATION == "tanh":
        power = tl.exp(-2 * tl.abs(x))
        x = tl.where(x < 0, power - 1, 1 - power) / (1 + power)
    elif ACTIVATION == "sigmoid":
        x = _sigmoid(x)
    else:
        tl.static_assert(ACTIVATION == "none")
    return x


@jit
def activation_gradient(grad, saved, ACTIVATION: tl.constexpr, FROM_TOTAL: tl.constexpr):
    """grad times the activation's slope, where saved is its output, or what it was given."""
    if ACTIVATION == "relu":
        grad = tl.where(saved <= 0, 0.0, grad)
    elif ACTIVATION == "leaky_relu":
        grad = tl.where(saved <= 0, 0.01 * grad, grad)
    elif ACTIVATION == "elu":
        slope = tl.exp(tl.minimum(saved, 0.0)) if FROM_TOTAL else saved + 1
        grad = tl.where(saved <= 0, grad * slope, grad)
    elif ACTIVATION == "selu":
        slope = 1.7580993408473766 * tl.exp(tl.minimum(saved, 0.0)) if FROM_TOTAL else saved + 1.7580993408473766
        grad = grad * tl.where(saved <= 0, slope, 1.0507009873554805)
    elif ACTIVATION == "gelu":
        bell = tl.exp(-0.5 * saved * saved) * 0.3989422804014327
        grad = grad * (0.5 * (1 + tl.erf(saved * 0.7071067811865476)) + saved * bell)
    elif ACTIVATION == "silu":
        slope = _sigmoid(saved)
        grad = grad * slope * (1 + saved * (1 - slope))
    elif ACTIVATION == "tanh":
        grad = grad * (1 - saved * saved)
    elif ACTIVATION == "sigmoid":
        grad = grad * (1 - saved) * saved
    else:
        tl.static_assert(ACTIVATION == "none")
    return grad


@jit
def _backward(
    grad_ptr, saved_ptr, grad_total_ptr, parts_ptr, M, N, PART,
    ACTIVATION: tl.constexpr, FROM_TOTAL: tl.constexpr, BIAS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    wide = parts_ptr.dtype.element_ty
    part = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    total = tl.zeros((ROWS, BLOCK), wide)
    for start in range(0, PART, ROWS):
        m = part * PART + start + tl.arange(0, ROWS)[:, None]
        inside = (m < M) & (n < N)
        grad = tl.load(grad_ptr + m * N + n, mask=inside, other=0.0).to(wide)
        if ACTIVATION != "none":
            saved = tl.load(saved_ptr + m * N + n, mask=inside, other=0.0).to(wide)
            grad = activation_gradient(grad, saved, ACTIVATION, FROM_TOTAL)
            tl.store(grad_total_ptr + m * N + n, grad, mask=inside)
        if BIAS:
            total += grad
    if BIAS:
        tl.store(parts_ptr + part * N + n, tl.sum(total, axis=0, keep_dims=True), mask=n < N)


def from_total(activation: str, dtype: torch.dtype) -> bool:
    """Whether the activation's gradient needs what it was given, not its output."""
    return activation in ("gelu", "silu") or (activation in ("elu", "selu") and dtype.itemsize == 2)


def epilogue_backward(grad: Tensor, saved: Tensor, activation: str, bias: bool) -> tuple[Tensor, Tensor]:
    """The gradients of the total, (M, N) like grad, and of the bias, (N,), which is empty unless asked for.

    grad, saved (M, N) in one piece; saved is the output, or the total where the gradient comes `from_total`.
    """
    M, N = grad.shape
    if activation == "none" and not bias:
        return grad, grad.new_empty(0)
    block = min(64, 1 << (N - 1).bit_length())
    rows = TILE // block
    part = max(4, -(-M // (PARTS * rows))) * rows
    parts = -(-M // part)
    grad_total = grad if activation == "none" else torch.empty_like(grad)
    sums = grad.new_empty((parts if bias else 0, N), dtype=torch.promote_types(grad.dtype, torch.float32))
    wrap_triton(_backward)[(parts, -(-N // block))](
        grad, saved, grad_total, sums, M, N, part,
        ACTIVATION=activation, FROM_TOTAL=from_total(activation, grad.dtype), BIAS=bias, ROWS=rows, BLOCK=block,
    )  # fmt: skip
    return grad_total, sums.sum(dim=0).to(grad.dtype) if bias else grad.new_empty(0)


def check_epilogue(weight: Tensor, bias: Tensor | None, size: int, activation: str) -> None:
    """Raises ValueError for an activation that is not known, and for a bias that is not (size,)."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}, none of {', '.join(ACTIVATIONS)}")
    if bias is not None and (bias.shape != (size,) or bias.dtype != weight.dtype):
        raise ValueError(f"bias must be ({size},) in {weight.dtype}: {tuple(bias.shape)}, {bias.dtype}")


def input_precision(convolution: bool) -> str:
    """How products of float32 are made: TF32 where torch's switch for a layer of this kind allows it, else exactly."""
    switch = torch.backends.cudnn if convolution else torch.backends.cuda.matmul
    return "tf32" if switch.allow_tf32 else "ieee"
