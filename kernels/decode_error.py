"""The error of each sample's reconstruction, which is never written: the last transposed convolution, its activation
and the error in one pass.

A program makes all phases of some positions of one sample, so that x and the target come from memory once, and writes
one number. As in `sample_error`, the order of summation depends on the shape of a sample alone: its positions are cut
in parts of PART, and `add_parts` adds those of samples that have several. The backward makes the reconstruction again.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from aekit.kernels._convolution import channels_last, convolved, flat_rows, geometry, pair
from aekit.kernels._epilogue import activate
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
from aekit.kernels.conv_transpose import (
    Numbers,
    check_transposed,
    conv_transpose_backward,
    conv_transpose_forward,
    conv_transpose_reference,
    output_size,
)
from aekit.kernels.conv_transpose import make_inputs as make_layer
from aekit.kernels.sample_error import (
    KINDS,
    add_parts,
    aligned,
    errors_of,
    sample_error_backward,
    sample_error_reference,
)

PART = 1024  # positions of each phase that one program sums; fixed, not tuned


def decode_error_reference(
    x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, stride: Numbers = 1, padding: Numbers = 0,
    output_padding: Numbers = 0, activation: str = "none", kind: str = "mse", scale: float = 1.0, offset: float = 0.0,
) -> Tensor:  # fmt: skip
    """See `decode_error`."""
    x_hat = conv_transpose_reference(x, weight, bias, stride, padding, output_padding, activation)
    return sample_error_reference(x_hat.flatten(1), target.flatten(1), None, kind, scale, offset)


@jit
def _few_taps(
    x_ptr, weight_ptr, m_h, m_w, real, H, W, w_in, w_h, w_w, PHASE: tl.constexpr, WIDE: tl.constexpr,
    C_IN: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    PH: tl.constexpr, PW: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """Sums of one phase to one channel, (BLOCK_P, 1); written out, for then the phases share what they load of x."""
    c = tl.arange(0, BLOCK_I)
    total = tl.zeros((BLOCK_P, BLOCK_I), WIDE)
    for k in tl.static_range(KH * KW):
        # output stride * m + phase takes tap k from input m + (phase + padding - k) / stride
        if (PHASE // SW + PH - k // KW) % SH == 0 and (PHASE % SW + PW - k % KW) % SW == 0:
            h = m_h + (PHASE // SW + PH - k // KW) // SH
            w = m_w + (PHASE % SW + PW - k % KW) // SW
            seen = real & (h >= 0) & (h < H) & (w >= 0) & (w < W)
            place = (h * W + w) * C_IN
            x = tl.load(x_ptr + place[:, None] + c[None, :], mask=seen[:, None] & (c < C_IN)[None, :], other=0.0)
            weight = tl.load(weight_ptr + k // KW * w_h + k % KW * w_w + c * w_in, mask=c < C_IN, other=0.0)
            total += x.to(WIDE) * weight[None, :].to(WIDE)
    return tl.sum(total, axis=1, keep_dims=True)


@jit
def _row_errors(target_ptr, x_hat, o, oh, ow, inside, HO, WO, scale, offset, KIND: tl.constexpr):
    """The error of each position, summed over channels o; target_ptr is where the sample begins."""
    target_at = target_ptr + (o[None, :] * HO + oh[:, None]) * WO + ow[:, None]
    target = tl.load(target_at, mask=inside, other=0.0).to(x_hat.dtype) * scale + offset
    return tl.sum(tl.where(inside, errors_of(x_hat, target, KIND), 0.0), axis=1)  # what is outside has an error, too


@jit
def _forward(
    x_ptr, weight_ptr, bias_ptr, target_ptr, error_ptr, H, W, HO, WO, MH, MW, w_in, w_out, w_h, w_w,
    divisor, scale, offset,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    PH: tl.constexpr, PW: tl.constexpr, BIAS: tl.constexpr, ACTIVATION: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr, KIND: tl.constexpr, PART: tl.constexpr,
):  # fmt: skip
    o_blocks: tl.constexpr = (C_OUT + BLOCK_O - 1) // BLOCK_O
    wide = error_ptr.dtype.element_ty
    b, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    target_ptr += b * C_OUT * HO * WO
    error = tl.zeros((BLOCK_P,), wide)
    for start in range(part * PART, tl.minimum(MH * MW, part * PART + PART), BLOCK_P):
        m = start + tl.arange(0, BLOCK_P)
        m_h, m_w, real = m // MW, m % MW, m < MH * MW
        if C_OUT == 1 and C_IN <= BLOCK_I and KH * KW <= 16 and SH * SW <= 16:
            for phase in tl.static_range(SH * SW):
                x_hat = _few_taps(
                    x_ptr + b * H * W * C_IN, weight_ptr, m_h, m_w, real, H, W, w_in, w_h, w_w, phase, wide,
                    C_IN, KH, KW, SH, SW, PH, PW, BLOCK_P, BLOCK_I,
                )  # fmt: skip
                if BIAS:
                    x_hat += tl.load(bias_ptr).to(wide)
                x_hat = activate(x_hat, ACTIVATION)
                oh, ow = m_h * SH + phase // SW, m_w * SW + phase % SW
                inside = (real & (oh < HO) & (ow < WO))[:, None]
                error += _row_errors(target_ptr, x_hat, tl.arange(0, 1), oh, ow, inside, HO, WO, scale, offset, KIND)
        else:
            for step in range(SH * SW * o_blocks):
                o = step % o_blocks * BLOCK_O + tl.arange(0, BLOCK_O)
                x_hat, oh, ow, inside = convolved(
                    x_ptr, weight_ptr, bias_ptr, b, m_h, m_w, real, step // o_blocks, o, H, W, HO, WO, w_in, w_out,
                    w_h, w_w, wide, C_IN, C_OUT, KH, KW, SH, SW, PH, PW, True, BIAS, ACTIVATION, PRECISION, BLOCK_P,
                    BLOCK_I, BLOCK_O,
                )  # fmt: skip
                error += _row_errors(target_ptr, x_hat, o, oh, ow, inside, HO, WO, scale, offset, KIND)
    tl.store(error_ptr + b * tl.num_programs(1) + part, tl.sum(error) / divisor)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, target, *ctx.settings = inputs
    ctx.save_for_backward(x, weight, bias, target)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        return tuple(reference_gradients(decode_error_reference, (*ctx.saved_tensors, *ctx.settings), [grad]))
    wanted = list(ctx.needs_input_grad[:3])
    found = _backward_op(grad, *ctx.saved_tensors, *ctx.settings, *wanted)
    kept = (gradient if want else None for gradient, want in zip(found, wanted, strict=True))
    return (*kept, None, *(None for _ in ctx.settings))


@triton_op("decode_error", _gradients, _setup)
def _forward_op(
    x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, stride: Sequence[int], padding: Sequence[int],
    output_padding: Sequence[int], activation: str, kind: str, scale: float, offset: float,
) -> Tensor:  # fmt: skip
    rows, target = aligned(channels_last(x)), aligned(target)
    size = output_size(x, weight, stride, padding, output_padding)
    told = geometry(rows, weight.transpose(0, 1), bias, size, stride, padding, activation, transposed=True)
    told["BLOCK_O"] = min(told["BLOCK_O"], 32)  # the addresses of the targets of 64 spill
    B, N, parts = len(target), target.shape[1:].numel(), -(-told["MH"] * told["MW"] // PART)
    errors = x.new_empty(B * parts, dtype=torch.promote_types(x.dtype, torch.float32))
    wrap_triton(_forward)[(B, parts)](
        rows, weight, x if bias is None else bias, target, errors, divisor=N if parts == 1 else 1, scale=scale,
        offset=offset, KIND=kind, PART=PART, **told,
    )  # fmt: skip
    if parts == 1:
        return errors
    error = errors.new_empty(B)
    wrap_triton(add_parts)[(B,)](errors, errors, error, error, N, parts, WEIGHTED=False, BLOCK=64)
    return error


@triton_op("decode_error_backward")
def _backward_op(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, stride: Sequence[int],
    padding: Sequence[int], output_padding: Sequence[int], activation: str, kind: str, scale: float, offset: float,
    to_x: bool, to_weight: bool, to_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of x, weight and bias, each empty unless asked for; the reconstruction is as wide as the error."""
    layer = stride, padding, output_padding, activation
    x_hat = conv_transpose_forward(x, weight, bias, *layer, dtype=grad.dtype)
    rows = channels_last(x_hat)
    grad_rows, _ = sample_error_backward(
        grad, rows.flatten(1), channels_last(target).flatten(1), None, grad, kind, scale, offset, to_x=False
    )
    grad_x_hat = grad_rows.view(rows.shape).permute(0, 3, 1, 2)
    return conv_transpose_backward(grad_x_hat, x, weight, bias, x_hat, *layer, to_x, to_weight, to_bias)


def decode_error(
    x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, stride: Numbers = 1, padding: Numbers = 0,
    output_padding: Numbers = 0, activation: str = "none", kind: str = "mse", scale: float = 1.0, offset: float = 0.0,
) -> Tensor:  # fmt: skip
    """Mean error of each sample's conv_transpose(x, ...) against target: (B,) in float32 (float64 for float64).

    target is (B, C_out, HO, WO), or (B, C_out, TO), of any number type, compared as target * scale + offset, and gets
    no gradient; the other arguments are those of `conv_transpose` and of `sample_error`.
    """
    stride, padding, extra = check_transposed(x, weight, bias, stride, padding, output_padding, activation)
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}, none of {', '.join(KINDS)}")
    expected = (len(x), weight.shape[1], *output_size(x, weight, stride, padding, extra))
    if target.shape != expected:
        raise ValueError(f"target must be {expected}: {tuple(target.shape)}")
    if target.requires_grad:
        raise ValueError("the target gets no gradient; detach it")
    if not runs_triton(x):
        return decode_error_reference(x, weight, bias, target, stride, padding, extra, activation, kind, scale, offset)
    if x.ndim == 3:
        x, weight, target = flat_rows(x, weight, target)
        stride, padding, extra = [1, *stride], [0, *padding], [0, *extra]
    return _forward_op(x, weight, bias, target, stride, padding, extra, activation, kind, scale, offset)


def _make_inputs(
    shape: tuple[int, ...], dtype: torch.dtype, device: str, kind: str = "mse", scale: float = 1.0,
    offset: float = 0.0, raw: bool = False, **layer: Any,
) -> Inputs:  # fmt: skip
    x, weight, bias, *settings = make_layer(shape, dtype, device, **layer)
    size = output_size(x, weight, *(pair(setting, x.ndim - 2) for setting in settings[:3]))
    target = torch.empty(shape[0], weight.shape[1], *size, device=device)
    target = torch.randint_like(target, 256, dtype=torch.uint8) if raw else torch.rand_like(target).to(dtype)
    return [x, weight, bias, target, *settings, kind, scale, offset]


KERNELS["decode_error"] = Kernel(
    op=decode_error,
    reference=decode_error_reference,
    make_inputs={
        "sigmoid uint8 3 by 2 to 1": partial(
            _make_inputs, raw=True, scale=1 / 255, c_out=1, extra=1, activation="sigmoid"
        ),
        "2 by 2 to 1": partial(_make_inputs, c_out=1, kernel_size=2, padding=0),
        "bce sigmoid uint8 5 by 2 without bias": partial(
            _make_inputs, kind="bce", raw=True, scale=1 / 255, kernel_size=5, activation="sigmoid", bias=False
        ),
        "l1 silu 2 by 4 to 20": partial(
            _make_inputs, kind="l1", c_out=20, kernel_size=2, stride=4, padding=0, extra=3, activation="silu"
        ),
        "tanh uint8 3": partial(_make_inputs, raw=True, scale=1 / 64, offset=-2.0, stride=1, activation="tanh"),
        "of 1e4": partial(_make_inputs, size=1e4),
    },
    shapes=((1, 1, 3, 3), (2, 1, 5, 4), (2, 17, 3, 4), (2, 2, PART + 3), (0, 3, 3, 3), (3, 2, 13)),
    bench=(
        ("sigmoid uint8 3 by 2 to 1", (64, 16, 14, 14)),
        ("sigmoid uint8 3 by 2 to 1", (65536, 16, 14, 14)),
        ("2 by 2 to 1", (4096, 16, 250)),
    ),
    sample=(2, 3, 2),
    tiny=(2, 2),
)
