"""Per-sample error, in one pass: no (B, N) temporary is written, and raw data (uint8, say) is normalised in registers.

The order of summation depends on N alone, never on B or on tuning, because users compare scores with thresholds:
rows are cut in parts of PART values, a second small kernel adds the parts of rows that have several.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aekit.kernels._registry import (
    KERNELS,
    Inputs,
    Kernel,
    jit,
    reference_gradients,
    runs_triton,
    tl,
    triton_op,
    wrap_triton,
)

KINDS = ("mse", "l1", "bce")
TILE = 1024  # values that a program reads at a time; fixed, not tuned
PART = 16 * TILE  # values that one program sums


def sample_error_reference(
    x_hat: Tensor, x: Tensor, weight: Tensor | None = None, kind: str = "mse", scale: float = 1.0, offset: float = 0.0
) -> Tensor:
    """See `sample_error`."""
    wide = torch.promote_types(x_hat.dtype, torch.float32)
    x_hat, x = x_hat.to(wide), x.to(wide)
    if (scale, offset) != (1.0, 0.0):
        x = x * scale + offset
    if kind == "mse":
        errors = F.mse_loss(x_hat, x, reduction="none")  # (B, N)
    elif kind == "l1":
        errors = F.l1_loss(x_hat, x, reduction="none")
    else:
        errors = F.binary_cross_entropy(x_hat, x, reduction="none")
    if weight is None:
        return errors.mean(dim=1)
    weight = weight.to(wide)
    total = weight.sum(dim=1)
    return (weight * errors).sum(dim=1) / total.masked_fill(total == 0, 1)


@jit
def errors_of(x_hat, x, KIND: tl.constexpr):
    """The error of each value; x_hat and x are float32 or float64."""
    if KIND == "mse":
        errors = (x_hat - x) * (x_hat - x)
    elif KIND == "l1":
        errors = tl.abs(x_hat - x)
    else:
        lowest = tl.full((1, 1), -100.0, x_hat.dtype)  # torch's bound; a NaN stays one
        log = tl.maximum(tl.log(x_hat), lowest, propagate_nan=tl.PropagateNan.ALL)
        log_not = tl.maximum(tl.log(1 - x_hat), lowest, propagate_nan=tl.PropagateNan.ALL)
        errors = -(x * log + (1 - x) * log_not)
    return errors


@jit
def _tile(N, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    b = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]  # (ROWS, 1)
    return b, b * N, tl.arange(0, BLOCK)[None, :]


@jit
def _forward(
    x_hat_ptr, x_ptr, weight_ptr, error_ptr, total_ptr, B, groups, scale, offset,
    ALIGN: tl.constexpr, KIND: tl.constexpr, WEIGHTED: tl.constexpr, DIVIDE: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, PART: tl.constexpr,
):  # fmt: skip
    N = groups * ALIGN  # written so that the compiler sees how rows are aligned, and loads 16 bytes at a time
    wide = error_ptr.dtype.element_ty
    b, row, lanes = _tile(N, ROWS, BLOCK)
    part = tl.program_id(1)
    error = tl.zeros((ROWS, BLOCK), wide)
    total = tl.zeros((ROWS, BLOCK), wide)
    for start in range(part * PART, tl.minimum(N, part * PART + PART), BLOCK):
        n = start + lanes
        inside = (b < B) & (n < N)
        x_hat = tl.load(x_hat_ptr + row + n, mask=inside, other=0.5).to(wide)  # bce has a finite logarithm there
        x = tl.load(x_ptr + row + n, mask=inside, other=0.0).to(wide) * scale + offset
        errors = errors_of(x_hat, x, KIND)
        if WEIGHTED:
            weight = tl.load(weight_ptr + row + n, mask=inside, other=0.0).to(wide)
            error += errors * weight
            total += weight
        else:
            error += tl.where(inside, errors, 0.0)  # what is outside has an error, too
    out = b * tl.num_programs(1) + part
    error = tl.sum(error, axis=1, keep_dims=True)
    if WEIGHTED:
        total = tl.sum(total, axis=1, keep_dims=True)
        tl.store(total_ptr + out, total, mask=b < B)
    else:
        total = N
    if DIVIDE:
        error = error / tl.where(total == 0, 1, total)
    tl.store(error_ptr + out, error, mask=b < B)


@jit
def add_parts(
    error_parts_ptr, total_parts_ptr, error_ptr, total_ptr, N, parts, WEIGHTED: tl.constexpr, BLOCK: tl.constexpr
):
    b = tl.program_id(0).to(tl.int64)
    wide = error_ptr.dtype.element_ty
    error = tl.zeros((BLOCK,), wide)
    total = tl.zeros((BLOCK,), wide)
    for start in range(0, parts, BLOCK):
        part = start + tl.arange(0, BLOCK)
        error += tl.load(error_parts_ptr + b * parts + part, mask=part < parts, other=0.0)
        if WEIGHTED:
            total += tl.load(total_parts_ptr + b * parts + part, mask=part < parts, other=0.0)
    if WEIGHTED:
        all_weight = tl.sum(total, axis=0)
        tl.store(total_ptr + b, all_weight)
    else:
        all_weight = N
    tl.store(error_ptr + b, tl.sum(error, axis=0) / tl.where(all_weight == 0, 1, all_weight))


@jit
def _backward(
    grad_ptr, x_hat_ptr, x_ptr, weight_ptr, total_ptr, grad_x_hat_ptr, grad_x_ptr, B, groups, grad_stride,
    scale, offset,
    ALIGN: tl.constexpr, KIND: tl.constexpr, WEIGHTED: tl.constexpr, TO_X: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    N = groups * ALIGN
    wide = grad_ptr.dtype.element_ty
    b, row, lanes = _tile(N, ROWS, BLOCK)
    n = tl.program_id(1) * BLOCK + lanes
    inside = (b < B) & (n < N)
    grad = tl.load(grad_ptr + b * grad_stride, mask=b < B, other=0.0)
    if WEIGHTED:
        total = tl.load(total_ptr + b, mask=b < B, other=1.0)
        grad = grad / tl.where(total == 0, 1, total)
        grad = grad * tl.load(weight_ptr + row + n, mask=inside, other=0.0).to(wide)
    else:
        grad = grad / N
    x_hat = tl.load(x_hat_ptr + row + n, mask=inside, other=0.5).to(wide)
    x = tl.load(x_ptr + row + n, mask=inside, other=0.0).to(wide) * scale + offset
    distance = x_hat - x
    if KIND == "mse":
        slope = 2 * distance
    elif KIND == "l1":
        slope = tl.where(distance > 0, 1.0, tl.where(distance < 0, -1.0, distance))  # a NaN stays one
    else:
        slope = distance / tl.maximum((1 - x_hat) * x_hat, 1e-12)  # torch's bound
    tl.store(grad_x_hat_ptr + row + n, grad * slope, mask=inside)
    if TO_X:
        if KIND == "bce":
            slope = tl.log(x_hat) - tl.log(1 - x_hat)  # torch has no bound here
        tl.store(grad_x_ptr + row + n, -grad * slope * scale, mask=inside)


def _blocks(N: int) -> dict[str, int]:
    align = math.gcd(N, 16)
    block = min(TILE, 1 << (N - 1).bit_length())
    return {"groups": N // align, "ALIGN": align, "ROWS": TILE // block, "BLOCK": block}


def aligned(x: Tensor) -> Tensor:
    """x in one piece from a multiple of 16 bytes on: how values lie decides the order in which a program adds them."""
    x = x.contiguous()
    return x.clone() if x.storage_offset() * x.element_size() % 16 else x


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x_hat, x, weight, ctx.kind, ctx.scale, ctx.offset = inputs
    ctx.save_for_backward(x_hat, x, weight, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    x_hat, x, weight, total = ctx.saved_tensors
    if grad is None:
        return (None,) * 6
    if torch.is_grad_enabled():
        inputs = (x_hat, x, weight, ctx.kind, ctx.scale, ctx.offset)
        return tuple(reference_gradients(sample_error_reference, inputs, [grad]))
    to_x = ctx.needs_input_grad[1]
    grad_x_hat, grad_x = _backward_op(grad, x_hat, x, weight, total, ctx.kind, ctx.scale, ctx.offset, to_x)
    return grad_x_hat, grad_x if to_x else None, None, None, None, None


@triton_op("sample_error", _gradients, _setup)
def _forward_op(
    x_hat: Tensor, x: Tensor, weight: Tensor | None, kind: str, scale: float, offset: float
) -> tuple[Tensor, Tensor]:
    """The error, and the sum of the weights, which is empty without weights."""
    B, N = x_hat.shape
    x_hat, x = aligned(x_hat), aligned(x)
    weighted = weight is not None
    weight = x_hat if weight is None else aligned(weight)
    sizes = _blocks(N)
    parts = -(-N // PART)
    wide = torch.promote_types(x_hat.dtype, torch.float32)
    error_parts = x_hat.new_empty(B * parts, dtype=wide)
    total_parts = x_hat.new_empty(B * parts if weighted else 0, dtype=wide)
    wrap_triton(_forward)[(-(-B // sizes["ROWS"]), parts)](
        x_hat, x, weight, error_parts, total_parts, B, scale=scale, offset=offset, **sizes,
        KIND=kind, WEIGHTED=weighted, DIVIDE=parts == 1, PART=PART,
    )  # fmt: skip
    if parts == 1:
        return error_parts, total_parts
    error, total = error_parts.new_empty(B), total_parts.new_empty(B if weighted else 0)
    wrap_triton(add_parts)[(B,)](error_parts, total_parts, error, total, N, parts, WEIGHTED=weighted, BLOCK=64)
    return error, total


def sample_error_backward(
    grad: Tensor, x_hat: Tensor, x: Tensor, weight: Tensor | None, total: Tensor, kind: str, scale: float,
    offset: float, to_x: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The gradients of x_hat and of x, which is empty unless asked for."""
    B, N = x_hat.shape
    x_hat, x = aligned(x_hat), aligned(x)
    weighted = weight is not None
    weight = x_hat if weight is None else aligned(weight)
    sizes = _blocks(N)
    grad_x_hat = torch.empty_like(x_hat)
    grad_x = x.new_empty(x.shape if to_x else 0)
    wrap_triton(_backward)[(-(-B // sizes["ROWS"]), -(-N // sizes["BLOCK"]))](
        grad, x_hat, x, weight, total, grad_x_hat, grad_x, B, grad_stride=grad.stride(0), scale=scale, offset=offset,
        **sizes, KIND=kind, WEIGHTED=weighted, TO_X=to_x,
    )  # fmt: skip
    return grad_x_hat, grad_x


_backward_op = triton_op("sample_error_backward")(sample_error_backward)


def sample_error(
    x_hat: Tensor, x: Tensor, weight: Tensor | None = None, kind: str = "mse", scale: float = 1.0, offset: float = 0.0
) -> Tensor:
    """Mean error of each sample, (B,) in float32 (float64 for float64), with gradients for x_hat and a floating x.

    x_hat (B, N) floating; x (B, N) of any number type, compared as x * scale + offset; weight (B, N) floating or bool,
    at least 0, makes it sum(weight * error) / sum(weight), which is 0 where all weights are; a NaN counts even where
    its weight is 0. The order of the N values is free if all three share it. kind is mse, l1 or bce; bce takes x_hat
    and the scaled x in 0..1, and its logarithms stop at -100 as torch's do.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}, none of {', '.join(KINDS)}")
    if x_hat.ndim != 2 or x.shape != x_hat.shape or (weight is not None and weight.shape != x_hat.shape):
        raise ValueError(f"x_hat, x and weight must all be (B, N): {x_hat.shape}, {x.shape}, {weight is not None}")
    if weight is not None and weight.requires_grad:
        raise ValueError("weights get no gradient; detach them")
    if runs_triton(x_hat):
        return _forward_op(x_hat, x, weight, kind, scale, offset)[0]
    return sample_error_reference(x_hat, x, weight, kind, scale, offset)


def _make_inputs(
    shape: tuple[int, ...], dtype: torch.dtype, device: str, kind: str = "mse", scale: float = 1.0, offset: float = 0.0,
    weighted: bool = False, raw: bool = False, size: float = 1.0,
) -> Inputs:  # fmt: skip
    def draw() -> Tensor:
        values = torch.randn(shape, device=device) * size
        return (values.sigmoid() if kind == "bce" else values).to(dtype).requires_grad_()

    x = torch.randint(0, 256, shape, dtype=torch.uint8, device=device) if raw else draw()
    weight = (torch.rand(shape, device=device) < 0.5).to(dtype) if weighted else None
    return [draw(), x, weight, kind, scale, offset]


KERNELS["sample_error"] = Kernel(
    op=sample_error,
    reference=sample_error_reference,
    make_inputs={
        "mse": _make_inputs,
        "l1": partial(_make_inputs, kind="l1"),
        "bce": partial(_make_inputs, kind="bce"),
        "mse weighted": partial(_make_inputs, weighted=True, scale=2.0, offset=0.5),
        "bce weighted": partial(_make_inputs, kind="bce", weighted=True),
        "mse uint8": partial(_make_inputs, raw=True, scale=1 / 64, offset=-2.0),
        "bce uint8": partial(_make_inputs, kind="bce", raw=True, scale=1 / 255),
        "mse of 1e4": partial(_make_inputs, size=1e4),
    },
    shapes=((1, 1), (3, 127), (9, 140), (0, 5), (5, 784), (2, PART + 3)),
    bench=(
        ("mse", (256, 784)),
        ("mse", (4096, 9000)),
        ("mse uint8", (65536, 784)),
        ("mse weighted", (4096, 9000)),
        ("mse", (64, 150528)),
        ("l1", (4096, 6000)),
        ("bce", (65536, 784)),
    ),
)
