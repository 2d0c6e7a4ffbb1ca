"""Muon, Jordan et al. 2024 (kellerjordan.github.io/posts/muon): momentum whose update is orthogonalised, for matrices.

A convolution's weight (C_out, C_in, k, k) counts as the matrix (C_out, C_in k k). Updates are scaled to the size of
AdamW's (Liu et al. 2025, arXiv:2502.16982, eq. 4), so that one learning rate serves both. The Newton-Schulz iteration
runs on the Gram matrix of the short side: the same polynomial for a fraction of the products, since autoencoders'
matrices are wide. Matrices of one shape go through it together.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic polynomial, as published
ITERATIONS = 5
MOMENTUM = 0.95
RMS = 0.2  # of an update, as AdamW's


class Muon(torch.optim.Optimizer):
    """For weights of two dimensions and more; biases belong to another optimiser. A learning rate that changes while
    steps are replayed as a CUDA graph must be a tensor."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float | Tensor, weight_decay: float = 0.0):
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Moves each parameter that has a gradient."""
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update = self._momentum(parameter)
                    short = update if update.shape[0] <= update.shape[1] else update.T
                    shapes.setdefault((short.shape[0], short.shape[1]), []).append((parameter, short))
            for (rows, columns), members in shapes.items():
                size = RMS * columns**0.5 * group["lr"]
                updates = orthogonalise(torch.stack([short for _, short in members]))
                for (parameter, _), done in zip(members, updates, strict=True):
                    matrix = done if parameter.shape[0] == rows else done.T
                    if group["weight_decay"]:
                        parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(matrix.reshape(parameter.shape) * size)

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        """The Nesterov update as a matrix."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"]
        momentum.lerp_(parameter.grad, 1 - MOMENTUM)
        return parameter.grad.lerp(momentum, MOMENTUM).flatten(1)


def orthogonalise(x: Tensor) -> Tensor:
    """Matrices (B, M, N), M <= N, with their singular values brought near one: U V^T of x = U S V^T, roughly."""
    a, b, c = COEFFICIENTS
    x = x / (x.flatten(1).norm(dim=1).view(-1, 1, 1) + 1e-7)
    gram = x @ x.mT
    total = torch.eye(x.shape[1], dtype=x.dtype, device=x.device).expand_as(gram)
    for i in range(ITERATIONS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)  # and a on the diagonal, added in each product below
        total = torch.baddbmm(total, factor, total, beta=a)
        if i < ITERATIONS - 1:
            left = torch.baddbmm(gram, factor, gram, beta=a)
            gram = torch.baddbmm(left, left, factor, beta=a)
    return total @ x
