"""The two products that `conv` and `conv_transpose` are made of; each one's gradient of x is the other's forward.

Both gather: a program makes a block of positions times a block of channels, and reads what each tap of it needs. A
transposed convolution goes by output phase: the outputs at stride * m + phase see every stride-th tap only, so that no
product with a stuffed zero is made. Channels lie last in memory; (B, C, T) is taken as (B, C, 1, T).
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from aekit.kernels._epilogue import activate, check_epilogue, epilogue_backward, input_precision
from aekit.kernels._registry import jit, tl, wrap_triton

PROGRAMS = 528  # four for each processor of an H200: into so many a weight's gradient is cut, at most


@jit
def _places(start, count: tl.constexpr, MH, MW):
    """Sample, row and column of `count` positions of (B, MH, MW) from `start` on; divisions of vectors in int32."""
    local = (start % (MH * MW)).to(tl.int32) + tl.arange(0, count)
    b = start // (MH * MW) + local // (MH * MW)
    return b, local % (MH * MW) // MW, local % MW


@jit
def convolved(
    x_ptr, weight_ptr, bias_ptr, b, oh, ow, real, phase, o, H, W, HO, WO, w_in, w_out, w_h, w_w, WIDE: tl.constexpr,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    PH: tl.constexpr, PW: tl.constexpr, TRANSPOSED: tl.constexpr, BIAS: tl.constexpr, ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """Outputs, of one phase if transposed, for the positions that are real: (BLOCK_P, BLOCK_O); rows, columns, mask."""
    i_blocks: tl.constexpr = (C_IN + BLOCK_I - 1) // BLOCK_I
    i = tl.arange(0, BLOCK_I)
    if TRANSPOSED:  # output stride * m + phase takes tap rest + stride * j from input m + lead - j
        phase_h, phase_w = phase // SW, phase % SW
        lead_h, rest_h = (phase_h + PH) // SH, (phase_h + PH) % SH
        lead_w, rest_w = (phase_w + PW) // SW, (phase_w + PW) % SW
        taps_h, taps_w = (KH - rest_h + SH - 1) // SH, (KW - rest_w + SW - 1) // SW
        h, w = oh + lead_h, ow + lead_w
        oh, ow = oh * SH + phase_h, ow * SW + phase_w
    else:
        taps_h, taps_w = KH, KW
        h, w = oh * SH - PH, ow * SW - PW
    inside = real & (oh < HO) & (ow < WO)
    corner = ((b * H + h) * W + w) * C_IN
    total = tl.zeros((BLOCK_P, BLOCK_I if C_OUT == 1 else BLOCK_O), WIDE)
    for step in range(taps_h * taps_w * i_blocks):
        tap, c = step // i_blocks, step % i_blocks * BLOCK_I + i
        j_h, j_w = tap // taps_w, tap % taps_w
        if TRANSPOSED:
            at_h, at_w, k_h, k_w = h - j_h, w - j_w, rest_h + SH * j_h, rest_w + SW * j_w
            place = corner - (j_h * W + j_w) * C_IN
        else:
            at_h, at_w, k_h, k_w = h + j_h, w + j_w, j_h, j_w
            place = corner + (j_h * W + j_w) * C_IN
        seen = inside & (at_h >= 0) & (at_h < H) & (at_w >= 0) & (at_w < W)
        weight_at = weight_ptr + k_h * w_h + k_w * w_w
        if C_OUT == 1:
            x = tl.load(x_ptr + place[:, None] + c[None, :], mask=seen[:, None] & (c < C_IN)[None, :], other=0.0)
            weight = tl.load(weight_at + c * w_in, mask=c < C_IN, other=0.0)
            total += x.to(WIDE) * weight[None, :].to(WIDE)
        elif C_IN == 1:
            x = tl.load(x_ptr + place, mask=seen, other=0.0)
            weight = tl.load(weight_at + o * w_out, mask=o < C_OUT, other=0.0)
            total += x[:, None].to(WIDE) * weight[None, :].to(WIDE)
        else:
            x = tl.load(x_ptr + place[:, None] + c[None, :], mask=seen[:, None] & (c < C_IN)[None, :], other=0.0)
            in_weight = (c < C_IN)[:, None] & (o < C_OUT)[None, :]
            weight = tl.load(weight_at + c[:, None] * w_in + o[None, :] * w_out, mask=in_weight, other=0.0)
            total = tl.dot(x, weight, total, input_precision=PRECISION, out_dtype=WIDE)
    if C_OUT == 1:
        total = tl.sum(total, axis=1, keep_dims=True)
    if BIAS:
        total += tl.load(bias_ptr + o, mask=o < C_OUT, other=0.0).to(WIDE)[None, :]
    return activate(total, ACTIVATION), oh, ow, inside[:, None] & (o < C_OUT)[None, :]


@jit
def _convolve(
    x_ptr, weight_ptr, bias_ptr, y_ptr, B, H, W, HO, WO, MH, MW, w_in, w_out, w_h, w_w,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    PH: tl.constexpr, PW: tl.constexpr, TRANSPOSED: tl.constexpr, BIAS: tl.constexpr, ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    o_blocks: tl.constexpr = (C_OUT + BLOCK_O - 1) // BLOCK_O
    wide = tl.float64 if y_ptr.dtype.element_ty == tl.float64 else tl.float32
    phases: tl.constexpr = SH * SW if TRANSPOSED else 1  # neighbours in the grid: they read and fill the same lines
    block = tl.program_id(0) // phases
    b, m_h, m_w = _places((block // o_blocks).to(tl.int64) * BLOCK_P, BLOCK_P, MH, MW)
    o = block % o_blocks * BLOCK_O + tl.arange(0, BLOCK_O)
    y, oh, ow, inside = convolved(
        x_ptr, weight_ptr, bias_ptr, b, m_h, m_w, b < B, tl.program_id(0) % phases, o, H, W, HO, WO, w_in, w_out,
        w_h, w_w, wide, C_IN, C_OUT, KH, KW, SH, SW, PH, PW, TRANSPOSED, BIAS, ACTIVATION, PRECISION, BLOCK_P, BLOCK_I,
        BLOCK_O,
    )  # fmt: skip
    y_at = ((b * HO + oh) * WO + ow)[:, None] * C_OUT + o[None, :]
    tl.store(y_ptr + y_at, y, mask=inside)


@jit
def _weight_parts(
    small_ptr, large_ptr, parts_ptr, P, PART, H, W, MH, MW,
    C_SMALL: tl.constexpr, C_LARGE: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr,
    SW: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    columns: tl.constexpr = KH * KW * C_LARGE  # one for each tap and channel of the large map
    n_blocks: tl.constexpr = (columns + BLOCK_N - 1) // BLOCK_N
    wide = parts_ptr.dtype.element_ty
    part = tl.program_id(1).to(tl.int64)
    s = tl.program_id(0) // n_blocks * BLOCK_S + tl.arange(0, BLOCK_S)
    n = tl.program_id(0) % n_blocks * BLOCK_N + tl.arange(0, BLOCK_N)
    k_h, k_w = n // C_LARGE // KW, n // C_LARGE % KW
    column = (k_h * W + k_w).to(tl.int64) * C_LARGE + n % C_LARGE
    total = tl.zeros((BLOCK_S, BLOCK_N), wide)
    for start in range(0, tl.minimum(P - part * PART, PART).to(tl.int32), BLOCK_P):
        first = part * PART + start
        b, m_h, m_w = _places(first, BLOCK_P, MH, MW)
        h, w = m_h * SH - PH, m_w * SW - PW
        p = first + tl.arange(0, BLOCK_P)
        small_at = small_ptr + p[:, None] * C_SMALL + s[None, :]
        small = tl.load(small_at, mask=(p < P)[:, None] & (s < C_SMALL)[None, :], other=0.0)
        at_h, at_w = h[:, None] + k_h[None, :], w[:, None] + k_w[None, :]
        seen = (at_h >= 0) & (at_h < H) & (at_w >= 0) & (at_w < W) & (p < P)[:, None] & (n < columns)[None, :]
        corner = ((b * H + h) * W + w) * C_LARGE
        large = tl.load(large_ptr + corner[:, None] + column[None, :], mask=seen, other=0.0)
        total = tl.dot(tl.trans(small), large, total, input_precision=PRECISION, out_dtype=wide)
    at = (part * C_SMALL + s)[:, None] * columns + n[None, :]
    tl.store(parts_ptr + at, total, mask=(s < C_SMALL)[:, None] & (n < columns)[None, :])


def _power(size: int, lowest: int, highest: int) -> int:
    """The power of two that holds `size`, within bounds."""
    return min(highest, max(lowest, 1 << (size - 1).bit_length()))


def channels_last(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H, W, C) in one piece, a view where x is channels last or has one channel."""
    rows = x.permute(0, 2, 3, 1)
    # clone, not contiguous, which refuses a fake CUDA tensor on a machine without CUDA
    return rows if rows.is_contiguous() else rows.clone(memory_format=torch.contiguous_format)


def geometry(
    rows: Tensor, weight: Tensor, bias: Tensor | None, size: Sequence[int], stride: Sequence[int],
    padding: Sequence[int], activation: str, transposed: bool,
) -> dict[str, Any]:  # fmt: skip
    """What a kernel that calls `convolved` is told besides its tensors; rows are x, channels last."""
    (_, H, W, c_in), c_out = rows.shape, len(weight)
    if c_out == 1:
        sizes = {"BLOCK_I": _power(c_in, 1, 64), "BLOCK_O": 1}
        sizes["BLOCK_P"] = 2048 // max(8, sizes["BLOCK_I"])
    elif c_in == 1:
        sizes = {"BLOCK_I": 1, "BLOCK_O": _power(c_out, 1, 64)}
        sizes["BLOCK_P"] = 2048 // max(8, sizes["BLOCK_O"])
    else:
        sizes = {"BLOCK_I": _power(c_in, 16, 32 if rows.element_size() == 2 else 16), "BLOCK_O": _power(c_out, 16, 64)}
        sizes["BLOCK_P"] = 64
    m_h, m_w = (-(-n // s) for n, s in zip(size, stride if transposed else (1, 1), strict=True))
    return {
        "H": H, "W": W, "HO": size[0], "WO": size[1], "MH": m_h, "MW": m_w, "w_in": weight.stride(1),
        "w_out": weight.stride(0), "w_h": weight.stride(2), "w_w": weight.stride(3), "C_IN": c_in, "C_OUT": c_out,
        "KH": weight.shape[2], "KW": weight.shape[3], "SH": stride[0], "SW": stride[1], "PH": padding[0],
        "PW": padding[1], "BIAS": bias is not None, "ACTIVATION": activation,
        "PRECISION": input_precision(convolution=True), **sizes,
    }  # fmt: skip


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    activation: str = "none", transposed: bool = False, dtype: torch.dtype | None = None,
) -> Tensor:  # fmt: skip
    """(B, C_in, H, W) -> (B, C_out, *size), channels last, in the dtype of x or in the one that is given.

    weight is (C_out, C_in, KH, KW), whatever its strides.
    """
    rows, (B, c_out) = channels_last(x), (len(x), len(weight))
    y = x.new_empty((B, *size, c_out), dtype=dtype)
    told = geometry(rows, weight, bias, size, stride, padding, activation, transposed)
    blocks = -(-B * told["MH"] * told["MW"] // told["BLOCK_P"]) * -(-c_out // told["BLOCK_O"])
    phases = stride[0] * stride[1] if transposed else 1
    wrap_triton(_convolve)[(blocks * phases,)](
        rows, weight, x if bias is None else bias, y, B, TRANSPOSED=transposed, **told
    )
    return y.permute(0, 3, 1, 2)


def weight_gradient(
    small: Tensor, large: Tensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """(C_small, C_large, *kernel_size): products of a map with what a strided kernel sees of a larger one, summed."""
    small, large = channels_last(small), channels_last(large)
    (B, m_h, m_w, c_small), (_, H, W, c_large) = small.shape, large.shape
    positions = B * m_h * m_w
    columns = kernel_size[0] * kernel_size[1] * c_large
    sizes = {"BLOCK_S": _power(c_small, 16, 64), "BLOCK_N": _power(columns, 16, 64), "BLOCK_P": 32}
    blocks = -(-c_small // sizes["BLOCK_S"]) * -(-columns // sizes["BLOCK_N"])
    step = 8 * sizes["BLOCK_P"]
    part = -(-max(positions, 1) // (max(1, PROGRAMS // blocks) * step)) * step
    parts = max(1, -(-positions // part))
    wide = torch.promote_types(small.dtype, torch.float32)
    sums = small.new_empty((parts, c_small, *kernel_size, c_large), dtype=wide)
    wrap_triton(_weight_parts)[(blocks, parts)](
        small, large, sums, positions, part, H, W, m_h, m_w, C_SMALL=c_small, C_LARGE=c_large,
        KH=kernel_size[0], KW=kernel_size[1], SH=stride[0], SW=stride[1], PH=padding[0], PW=padding[1],
        PRECISION=input_precision(convolution=True), **sizes,
    )  # fmt: skip
    return sums.sum(dim=0).to(small.dtype).permute(0, 3, 1, 2)


def total_gradient(grad: Tensor, saved: Tensor, activation: str, bias: bool) -> tuple[Tensor, Tensor]:
    """`epilogue_backward` of maps (B, C, H, W)."""
    grad, saved = channels_last(grad), channels_last(saved)
    rows, grad_bias = epilogue_backward(grad.flatten(0, 2), saved.flatten(0, 2), activation, bias)
    return rows.view(grad.shape).permute(0, 3, 1, 2), grad_bias


def pair(value: int | Sequence[int], dims: int) -> list[int]:
    """A number for each of `dims` dimensions."""
    return [value] * dims if isinstance(value, int) else list(value)


def check(
    x: Tensor, weight: Tensor, bias: Tensor | None, channels: tuple[int, int], stride: list[int], padding: list[int],
    activation: str,
) -> None:  # fmt: skip
    """Raises ValueError for arguments that do not go together; channels are the weight's, in and out."""
    dims = weight.ndim - 2
    if dims not in (1, 2) or x.ndim != weight.ndim or x.shape[1] != channels[0] or x.dtype != weight.dtype:
        raise ValueError(
            f"x must be (B, {channels[0]}, ...) of {dims} dimensions in {weight.dtype}: {tuple(x.shape)}, {x.dtype}"
        )
    if len(stride) != dims or len(padding) != dims or min(stride) < 1 or min(padding) < 0:
        raise ValueError(f"stride and padding must be one or {dims} numbers: {stride}, {padding}")
    check_epilogue(weight, bias, channels[1], activation)


def flat_rows(*maps: Any) -> tuple[Any, ...]:
    """(B, C, T) as (B, C, 1, T); (B, C, H, W) as it is."""
    return tuple(x.unsqueeze(2) if x.ndim == 3 else x for x in maps)
