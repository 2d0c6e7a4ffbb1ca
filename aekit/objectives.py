"""Errors and penalties, per sample. What is minimised is mean(error + beta * own penalty + weights * other penalties).

Each error is a mean over the values of a sample, a model's own penalty is told per value too, and the penalties here
are means over the values of the latent, so that a setting carries over from one sample size to another.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aekit.errors import UsageError
from aekit.kernels import sample_error
from aekit.records import Batch, Output

ErrorFunction = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def mse(x_hat: Tensor, x: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared error of each sample: (B, ...) twice -> (B,)."""
    return _per_sample(x_hat, x, weight, "mse")


def l1(x_hat: Tensor, x: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean absolute error of each sample: (B, ...) twice -> (B,)."""
    return _per_sample(x_hat, x, weight, "l1")


def bce(x_hat: Tensor, x: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean binary cross-entropy of each sample, both in 0..1: (B, ...) twice -> (B,)."""
    return _per_sample(x_hat, x, weight, "bce")


def _per_sample(x_hat: Tensor, x: Tensor, weight: Tensor | None, kind: str) -> Tensor:
    """Weights broadcast to a sample; the error is then the weighted mean."""
    flat = None if weight is None else weight.expand_as(x_hat).flatten(1)
    return sample_error(x_hat.flatten(1), x.flatten(1), flat, kind=kind)


ERRORS: dict[str, ErrorFunction] = {"mse": mse, "l1": l1, "bce": bce}


def error_map(error: ErrorFunction, x_hat: Tensor, x: Tensor, weight: Tensor | None = None) -> Tensor:
    """The error of each value, (B, ...); its mean over a sample is `error` of that sample, weights included."""
    each = error(x_hat.reshape(-1, 1), x.reshape(-1, 1), None).view(x.shape)  # every value as a sample of its own
    if weight is None:
        return each
    weight = weight.expand_as(each).to(each.dtype)
    mean = weight.mean(dim=tuple(range(1, each.dim())), keepdim=True)
    return each * weight / mean.masked_fill(mean == 0, 1)


# --- penalties -------------------------------------------------------------------------------------------------------

RHO = 0.05  # the mean activation that the KL penalty asks for, where nothing else is
EXACT = 16  # latent values up to which the contractive penalty is exact


def l1_sparsity(z: Tensor, x: Tensor, rho: float) -> Tensor:
    """Mean absolute latent of each sample: z (B, D) -> (B,)."""
    return z.abs().mean(dim=1)


def kl_sparsity(z: Tensor, x: Tensor, rho: float) -> Tensor:
    """Divergence of rho from each unit's mean over the batch, mean over units: z (B, D) in 0..1 -> (B,), all equal.

    KL(rho || r) = rho ln(rho / r) + (1 - rho) ln((1 - rho) / (1 - r)), Ng 2011, Sparse autoencoder, section 3.
    """
    r = z.mean(dim=0).clamp(1e-6, 1 - 1e-6)
    unit = rho * (rho / r).log() + (1 - rho) * ((1 - rho) / (1 - r)).log()
    return unit.mean().expand(len(z))


def contractive(z: Tensor, x: Tensor, rho: float) -> Tensor:
    """Squared Frobenius norm of the encoder's Jacobian dz/dx, times N / D: (B, D) made of x (B, ...) -> (B,).

    Rifai et al. 2011, ICML, equation 7. The factor makes it the mean over units of the mean square of N dz/dx, a slope
    that does not change where a picture is given in more pixels. Up to EXACT units it is exact; else the estimate of
    one random vector of signs (Hutchinson 1990, doi:10.1080/03610919008812866), right in the mean. The graph is kept,
    so that it can be minimised.
    """
    D = z.shape[1]
    if D <= EXACT:
        directions = list(torch.eye(D, device=z.device, dtype=z.dtype).unsqueeze(1))
    else:
        directions = [torch.randint(0, 2, z.shape, device=z.device).to(z.dtype) * 2 - 1]
    norm: Tensor = zeros(x)
    for direction in directions:
        (slope,) = torch.autograd.grad((z * direction).sum(), x, create_graph=True)
        norm = norm + slope.float().flatten(1).square().sum(dim=1)
    return norm * (x[0].numel() / D)


PENALTIES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "l1": l1_sparsity,
    "kl": kl_sparsity,
    "contractive": contractive,
}


@dataclass(frozen=True)
class Penalty:
    """One of PENALTIES and its weight."""

    name: str
    weight: float
    rho: float = RHO

    def __call__(self, output: Output, x: Tensor) -> Tensor:
        """Its mean over the batch, a scalar; the latent is a function of x, which keeps its gradient."""
        assert output.z is not None, "the workflow checks that there is a latent"
        return PENALTIES[self.name](output.z.float(), x, self.rho).mean()


def parse_penalties(texts: Sequence[str]) -> tuple[Penalty, ...]:
    """NAME:WEIGHT each, of kl NAME:WEIGHT@RHO too; raises UsageError where a word is not understood."""
    found: list[Penalty] = []
    for text in texts:
        name, _, amount = text.partition(":")
        weight, at, rho = amount.partition("@")
        if name not in PENALTIES:
            raise UsageError(f"--penalty {text}: there are {', '.join(PENALTIES)}, as in l1:0.01")
        try:
            penalty = Penalty(name, float(weight), float(rho) if at else RHO)
        except ValueError:
            raise UsageError(f"--penalty {text}: a weight is needed, as in {name}:0.01") from None
        if not 0 <= penalty.weight < math.inf or not 0 < penalty.rho < 1 or (at and name != "kl"):
            raise UsageError(
                f"--penalty {text}: the weight is at least 0, and kl alone takes a mean activation between 0 and 1, as "
                "in kl:0.01@0.05"
            )
        if name in (other.name for other in found):
            raise UsageError(f"--penalty {text}: {name} is given twice")
        found.append(penalty)
    return tuple(found)


def objective(
    model: Callable[[Tensor], Output],
    batch: Batch,
    error: ErrorFunction,
    beta: float | Tensor = 1.0,
    penalties: Sequence[Penalty] = (),
) -> dict[str, Tensor]:
    """The scalar to minimise under "loss", the model's own mean penalty under "penalty", others by their names."""
    x = batch.x.detach().requires_grad_() if penalties else batch.x  # the contractive penalty differentiates by it
    output = model(x)
    target = batch.target if output.target is None else output.target
    own = output.penalty.mean()
    others = {penalty: penalty(output, x) for penalty in penalties}
    loss = error(output.x_hat, target, output.weight).mean() + beta * own
    for penalty, value in others.items():
        loss = loss + penalty.weight * value
    return {"loss": loss, "penalty": own.detach(), **{p.name: value.detach() for p, value in others.items()}}


def zeros(x: Tensor) -> Tensor:
    """No penalty: (B,) zeros."""
    return torch.zeros(len(x), device=x.device)


@dataclass
class Phase:
    """One part of a training step: its loss (a dict with "loss", further keys are logged) moves these parameters."""

    name: str
    parameters: list[nn.Parameter]
    loss: Callable[[Batch], dict[str, Tensor]]
    every: int = 1  # it runs in each `every`-th step
    pace: float = 1.0  # its learning rate over the run's
    after: Callable[[], object] = lambda: None  # run when they have moved
    after_every: int = 1  # in each `after_every`-th step of the run
