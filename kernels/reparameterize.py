"""The reparameterisation trick with its KL, Kingma & Welling 2014 (arXiv:1312.6114), section 2.4 and appendix B.

The noise is a function of (seed, sample, latent) by Philox 4x32-10 (Salmon et al. 2011), the same on every device to
rounding: it is made in registers, never stored, made again in backward, and repeats in a replayed graph.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

import math
from functools import partial
from typing import Any

import torch
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

TILE = 1024  # latents that a program handles at a time; fixed, so that the KL is summed in one order
LOW = 0xFFFFFFFF


def philox(even: Tensor, odd: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
    """Philox 4x32-10: counter words (0, 2) and (1, 3), each (2, ...), and the int64 seed (1,) -> random words in int64.

    Products wrap modulo 2**64, and their high and low halves are both kept in one int64 until the next mask.
    """
    row = torch.arange(2, device=seed.device).view(2, 1, 1)
    rounds = torch.arange(10, device=seed.device).view(10, 1, 1, 1)
    factor = 0xD2511F53 + row * (0xCD9E8D57 - 0xD2511F53)
    keys = (seed >> 32 * row) + rounds * (0x9E3779B9 + row * (0xBB67AE85 - 0x9E3779B9))
    for key in keys.unbind():
        product = (even * factor).flip(0)
        even = ((product >> 32) ^ odd ^ key) & LOW
        odd = product
    return even, odd & LOW


def standard_normal(B: int, D: int, seed: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, D) normals: latents 4j..4j+3 of sample b come from the draw with counter (j, b, 0, 0), by Box and Muller."""
    first = torch.arange(1, -1, -1, device=seed.device).view(2, 1, 1)  # the counter's second half is zero
    j, b = torch.arange(-(-D // 4), device=seed.device), torch.arange(B, device=seed.device).view(B, 1)
    even, odd = philox(first * j, first * b, seed)  # (2, B, J) each
    radius = ((even.to(dtype) + 0.5) * 2**-32).log_().mul_(-2).sqrt_()
    angle = odd.to(dtype) * (math.tau * 2**-32)
    pairs = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)  # (2, B, J, 2)
    return pairs.permute(1, 2, 0, 3).flatten(1)[:, :D]


def gaussian_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)) of each sample, (B, D) -> (B,), in nats."""
    return 0.5 * (mu.square() + logvar.exp() - logvar - 1).sum(dim=1)


def reparameterize_reference(mu: Tensor, logvar: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
    """See `reparameterize`."""
    wide = torch.promote_types(mu.dtype, torch.float32)
    B, D = mu.shape
    eps = standard_normal(B, D, seed, wide)
    mean, logvar = mu.to(wide), logvar.to(wide)
    return (mean + (0.5 * logvar).exp() * eps).to(mu.dtype), gaussian_kl(mean, logvar)


@jit
def _philox(c0, c1, seed):
    """`philox` of the counter (c0, c1, 0, 0); Triton's own takes the halves of each product apart, which is slower."""
    c2, c3 = c0 * 0, c0 * 0
    k0, k1 = seed, seed >> 32
    for _ in tl.static_range(10):
        product0, product2 = c0.to(tl.uint64) * 0xD2511F53, c2.to(tl.uint64) * 0xCD9E8D57
        c0 = (product2 >> 32).to(tl.uint32) ^ c1 ^ k0.to(tl.uint32)
        c2 = (product0 >> 32).to(tl.uint32) ^ c3 ^ k1.to(tl.uint32)
        c1, c3 = product2.to(tl.uint32), product0.to(tl.uint32)
        k0 += 0x9E3779B9
        k1 += 0xBB67AE85
    return c0, c1, c2, c3


@jit
def _box_muller(for_radius, for_angle):
    """Two normals of two random words. The angle's octant is cut off in integers, so that a short polynomial is enough:
    exact sin and cos would cost more than the memory traffic, the GPU's approximate ones lose 4 bits."""
    radius = tl.sqrt(-2.0 * tl.log((for_radius.to(tl.float32) + 0.5) * 2.3283064365386963e-10))
    quarter = (for_angle + 0x20000000) >> 30
    angle = (for_angle - (quarter << 30)).to(tl.int32, bitcast=True).to(tl.float32) * 1.4629180792671596e-09
    square = angle * angle  # of -pi/4..pi/4; the polynomials are minimax
    sin = ((-1.9515295891e-4 * square + 8.3321608736e-3) * square - 1.6666654611e-1) * square * angle + angle
    cos = (2.443315711809948e-5 * square - 1.388731625493765e-3) * square + 4.166664568298827e-2
    cos = (cos * square - 0.5) * square + 1.0
    swap = (quarter & 1) == 1
    cos, sin = tl.where(swap, sin, cos), tl.where(swap, cos, sin)
    cos = tl.where((quarter == 1) | (quarter == 2), -cos, cos)
    return radius * cos, radius * tl.where(quarter >= 2, -sin, sin)


@jit
def _standard_normal(seed, b, start, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    j = start // 4 + tl.arange(0, BLOCK // 4)[None, :] + tl.zeros((ROWS, 1), tl.int32)
    even0, odd0, even1, odd1 = _philox(j.to(tl.uint32), (b + j * 0).to(tl.uint32), seed.to(tl.uint64))
    eps0, eps1 = _box_muller(even0, odd0)
    eps2, eps3 = _box_muller(even1, odd1)
    return tl.join(tl.join(eps0, eps2), tl.join(eps1, eps3)).reshape(ROWS, BLOCK)


@jit
def _forward(
    mu_ptr, logvar_ptr, seed_ptr, z_ptr, kl_ptr, B, D, mu_stride, logvar_stride,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    wide = kl_ptr.dtype.element_ty
    b = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    seed = tl.load(seed_ptr)
    kl = tl.zeros((ROWS, BLOCK), wide)
    for start in range(0, D, BLOCK):
        d = start + tl.arange(0, BLOCK)[None, :]
        inside = (b < B) & (d < D)
        mu = tl.load(mu_ptr + b * mu_stride + d, mask=inside, other=0.0).to(wide)
        logvar = tl.load(logvar_ptr + b * logvar_stride + d, mask=inside, other=0.0).to(wide)
        sigma = tl.exp(0.5 * logvar)
        eps = _standard_normal(seed, b, start, ROWS, BLOCK).to(wide)
        tl.store(z_ptr + b * D + d, mu + sigma * eps, mask=inside)
        kl += mu * mu + sigma * sigma - logvar - 1  # 0 outside
    tl.store(kl_ptr + b, 0.5 * tl.sum(kl, axis=1, keep_dims=True), mask=b < B)


@jit
def _backward(
    grad_z_ptr, grad_kl_ptr, mu_ptr, logvar_ptr, seed_ptr, grad_mu_ptr, grad_logvar_ptr, B, D,
    grad_kl_stride, mu_stride, logvar_stride, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    wide = grad_kl_ptr.dtype.element_ty
    b = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    start = tl.program_id(1) * BLOCK
    d = start + tl.arange(0, BLOCK)[None, :]
    inside = (b < B) & (d < D)
    grad_z = tl.load(grad_z_ptr + b * D + d, mask=inside, other=0.0).to(wide)
    grad_kl = tl.load(grad_kl_ptr + b * grad_kl_stride, mask=b < B, other=0.0)
    mu = tl.load(mu_ptr + b * mu_stride + d, mask=inside, other=0.0).to(wide)
    logvar = tl.load(logvar_ptr + b * logvar_stride + d, mask=inside, other=0.0).to(wide)
    sigma = tl.exp(0.5 * logvar)
    eps = _standard_normal(tl.load(seed_ptr), b, start, ROWS, BLOCK).to(wide)
    tl.store(grad_mu_ptr + b * D + d, grad_z + grad_kl * mu, mask=inside)
    tl.store(grad_logvar_ptr + b * D + d, 0.5 * (grad_z * sigma * eps + grad_kl * (sigma * sigma - 1)), mask=inside)


def _blocks(D: int) -> dict[str, int]:
    block = min(TILE, max(4, 1 << (D - 1).bit_length()))
    return {"ROWS": TILE // block, "BLOCK": block}


def _rows(x: Tensor) -> Tensor:
    """x itself where its rows are whole, as in a half of `chunk(2, dim=1)`: no copy."""
    return x if x.stride(1) == 1 else x.contiguous()


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, grad_z: Tensor, grad_kl: Tensor) -> tuple[Tensor | None, ...]:
    inputs = ctx.saved_tensors
    if torch.is_grad_enabled():
        return tuple(reference_gradients(reparameterize_reference, inputs, [grad_z, grad_kl]))
    return *_backward_op(grad_z, grad_kl, *inputs), None


@triton_op("reparameterize", _gradients, _setup)
def _forward_op(mu: Tensor, logvar: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
    B, D = mu.shape
    mu, logvar = _rows(mu), _rows(logvar)
    sizes = _blocks(D)
    z = mu.new_empty((B, D))
    kl = mu.new_empty(B, dtype=torch.promote_types(mu.dtype, torch.float32))
    wrap_triton(_forward)[(-(-B // sizes["ROWS"]),)](
        mu, logvar, seed, z, kl, B, D, mu_stride=mu.stride(0), logvar_stride=logvar.stride(0), **sizes
    )
    return z, kl


@triton_op("reparameterize_backward")
def _backward_op(
    grad_z: Tensor, grad_kl: Tensor, mu: Tensor, logvar: Tensor, seed: Tensor
) -> tuple[Tensor, Tensor]:  # fmt: skip
    B, D = mu.shape
    grad_z, mu, logvar = grad_z.contiguous(), _rows(mu), _rows(logvar)
    sizes = _blocks(D)
    grad_mu, grad_logvar = mu.new_empty((B, D)), mu.new_empty((B, D))
    wrap_triton(_backward)[(-(-B // sizes["ROWS"]), -(-D // sizes["BLOCK"]))](
        grad_z, grad_kl, mu, logvar, seed, grad_mu, grad_logvar, B, D, grad_kl_stride=grad_kl.stride(0),
        mu_stride=mu.stride(0), logvar_stride=logvar.stride(0), **sizes,
    )  # fmt: skip
    return grad_mu, grad_logvar


def reparameterize(mu: Tensor, logvar: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
    """z = mu + exp(logvar / 2) * eps, (B, D) like mu, and its `gaussian_kl`, (B,) in float32 (float64 for float64).

    mu, logvar (B, D) of one floating type; seed int64 (1,) on their device. Equal seeds give equal eps, whatever the
    device, the batch's size and the samples beside; ranks that hold different samples need different seeds.
    """
    if mu.ndim != 2 or logvar.shape != mu.shape or logvar.dtype != mu.dtype:
        raise ValueError(f"mu and logvar must both be (B, D): {mu.shape}, {mu.dtype}, {logvar.shape}, {logvar.dtype}")
    if seed.shape != (1,) or seed.dtype != torch.int64:
        raise ValueError(f"seed must be int64 (1,): {seed.shape}, {seed.dtype}")
    if runs_triton(mu):
        return _forward_op(mu, logvar, seed)
    return reparameterize_reference(mu, logvar, seed)


def _make_inputs(shape: tuple[int, ...], dtype: torch.dtype, device: str, size: float = 1.0) -> Inputs:
    mu, logvar = (torch.randn(shape, device=device) for _ in range(2))
    seed = torch.tensor([0x0123456789ABCDEF], device=device)
    return [(mu * size).to(dtype).requires_grad_(), logvar.to(dtype).requires_grad_(), seed]


KERNELS["reparameterize"] = Kernel(
    op=reparameterize,
    reference=reparameterize_reference,
    make_inputs={"": _make_inputs, "of 1e4": partial(_make_inputs, size=1e4)},
    shapes=((1, 1), (3, 2), (7, 50), (0, 5), (33, 64), (2, TILE + 5)),
    bench=(("", (64, 50)), ("", (4096, 32)), ("", (131072, 128)), ("", (524288, 50))),
)
