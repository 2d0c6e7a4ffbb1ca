"""Errors: how far a reconstruction is from its target, per sample. What is minimised is mean(error + beta * penalty).

Each error is a mean over the values of a sample, and a model's own penalty is told per value too, so that a setting
carries over from one sample size to another.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

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


def objective(output: Output, batch: Batch, error: ErrorFunction, beta: float) -> dict[str, Tensor]:
    """The scalar to minimise under "loss", and the mean penalty under "penalty"."""
    target = batch.target if output.target is None else output.target
    errors = error(output.x_hat, target, output.weight)
    penalty = output.penalty.mean()
    return {"loss": errors.mean() + beta * penalty, "penalty": penalty.detach()}


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
