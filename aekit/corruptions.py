"""What happens to normalised samples before the model sees them: x -> x_noisy, of the same shape.

An amount is in normalised units: of the 0..1 range for images, of the training data's standard deviation else.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from aekit.errors import UsageError

Corruption = tuple[tuple[tuple[str, float], ...], ...]  # alternatives, each a chain of (name, amount)


def gaussian(x: Tensor, amount: float, generator: Generator) -> Tensor:
    """x + amount * N(0, 1)."""
    return x + amount * _normal(x, generator)


def speckle(x: Tensor, amount: float, generator: Generator) -> Tensor:
    """x + amount * x * N(0, 1): noise in proportion to the signal."""
    return x + amount * x * _normal(x, generator)


def dropout(x: Tensor, amount: float, generator: Generator) -> Tensor:
    """Values are set to zero with probability `amount`; the others stay as they are."""
    return x * (_uniform(x.shape, x, generator) >= amount)


def uniform(x: Tensor, amount: float, generator: Generator) -> Tensor:
    """x + U(-amount, amount)."""
    return x + amount * (2 * _uniform(x.shape, x, generator) - 1)


def cosine(x: Tensor, amount: float, generator: Generator) -> Tensor:
    """x + amount * cos(2 pi f t + phase) along the last axis; 1 to T/4 periods and the phase are drawn per sample."""
    per_sample = (len(x), *[1] * (x.dim() - 1))
    periods = 1 + _uniform(per_sample, x, generator) * max(x.shape[-1] / 4 - 1, 0)
    phase = _uniform(per_sample, x, generator)
    t = torch.arange(x.shape[-1], device=x.device, dtype=x.dtype) / x.shape[-1]
    return x + amount * torch.cos(2 * math.pi * (periods * t + phase))


def gaps(x: Tensor, amount: float, generator: Generator) -> Tensor:
    """The share `amount` of the last axis is set to zero in all channels, one stretch at a place drawn per sample.

    What would run over the end goes on at the start, so that every point is hidden equally often.
    """
    points = x.shape[-1]
    start = (_uniform((len(x), *[1] * (x.dim() - 1)), x, generator) * points).floor()
    t = torch.arange(points, device=x.device)
    return x * ((t - start) % points >= round(amount * points))


CORRUPTIONS: dict[str, Callable[[Tensor, float, Generator], Tensor]] = {
    "gaussian": gaussian,
    "speckle": speckle,
    "dropout": dropout,
    "uniform": uniform,
    "cosine": cosine,
    "gaps": gaps,
}
SHARES = ("dropout", "gaps")  # whose amount is a share


def parse_corruption(texts: Sequence[str]) -> Corruption:
    """["gaussian:0.2", "speckle:0.2+gaps:0.1"]: one of the two for each sample, the second a chain of both.

    Raises UsageError for an unknown name or an amount that is not a number in range.
    """
    return tuple(tuple(_parse_one(part) for part in text.split("+")) for text in texts)


def _parse_one(text: str) -> tuple[str, float]:
    name, _, amount = text.partition(":")
    if name not in CORRUPTIONS:
        raise UsageError(f"--corrupt {text}: no corruption is called {name!r}; known are {', '.join(CORRUPTIONS)}")
    try:
        value = float(amount)
    except ValueError:
        value = math.nan
    if not 0 <= value <= (1 if name in SHARES else math.inf) or math.isinf(value):
        wanted = "a share from 0 to 1" if name in SHARES else "a number from 0"
        raise UsageError(f"--corrupt {text}: the amount is {wanted}, as in {name}:0.2")
    return name, value


def corrupt(x: Tensor, corruption: Corruption, generator: Generator) -> Tensor:
    """x (B, ...) with one of the alternatives, drawn per sample; x itself where there are none."""
    if not corruption:
        return x
    results = [_chain(x, chain, generator) for chain in corruption]
    if len(results) == 1:
        return results[0]
    drawn = (_uniform((len(x),), x, generator) * len(results)).long()
    drawn = drawn.view(-1, *[1] * (x.dim() - 1))
    noisy = results[0]
    for i, result in enumerate(results[1:], start=1):
        noisy = torch.where(drawn == i, result, noisy)
    return noisy


def _chain(x: Tensor, chain: tuple[tuple[str, float], ...], generator: Generator) -> Tensor:
    for name, amount in chain:
        x = CORRUPTIONS[name](x, amount, generator)
    return x


def _normal(x: Tensor, generator: Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def _uniform(shape: Sequence[int], x: Tensor, generator: Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=x.device, dtype=x.dtype)
