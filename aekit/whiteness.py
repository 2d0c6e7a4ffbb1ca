"""Whether noise is independent from point to point, judged by how well a blind-spot network foretells noisy points.

Where the clean data is plain (the sky of a picture, the rest between two beats) what lies near a point tells no more
about it than what lies far: both leave the noise. Noise that neighbours share is foretold from near and not from far.
Each view is judged where it is surest of itself, in a tenth of the points; so data that is rough everywhere (fine
texture without a plain spot) cannot be told from noise that neighbours share, and counts as such.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from aekit.models.blindspot import Foresight

SUREST = 0.1  # the share of points that a view is judged by
RATIO = 1.2  # of what is left from afar to what is left from near, above which the noise is not white
EXCESS = 0.06  # standard deviation of what is foretold from near alone, over that of the data, likewise


class Evidence(NamedTuple):
    """Standard deviations over that of the noisy data."""

    near: float  # of what the nearest points leave unexplained
    far: float  # of what points farther off leave: the largest of the axes

    @property
    def is_white(self) -> bool:
        """Not so where the nearest points tell much that farther ones do not."""
        excess = max(self.far**2 - self.near**2, 0.0) ** 0.5
        return self.far <= RATIO * self.near or excess <= EXCESS


def evidence(x: Tensor, seen: Foresight, sigma: Tensor) -> Evidence:
    """Of noisy points x (B, C, ...) and what a network foretells of them; sigma is the noise as it was learnt."""
    deviation = float(x.double().std())
    near = _left(x, seen.near.mu, seen.near.variance + sigma.square())
    far = max(_left(x, *guess) for guess in seen.far)
    return Evidence(near / deviation, far / deviation)


def _left(x: Tensor, mu: Tensor, variance: Tensor) -> float:
    """Root mean square of x - mu where the variance told is smallest; it chooses the points without seeing them."""
    few = max(1, round(SUREST * x.numel()))
    surest = variance.expand_as(x).flatten().topk(few, largest=False).indices
    return float((x - mu).flatten()[surest].double().square().mean().sqrt())


def joined(parts: list[Foresight]) -> Foresight:
    """Of several batches, one after the other."""
    near = type(parts[0].near)(*(torch.cat(each) for each in zip(*(part.near for part in parts), strict=True)))
    far = [
        type(near)(*(torch.cat(each) for each in zip(*guesses, strict=True)))
        for guesses in zip(*(part.far for part in parts), strict=True)
    ]
    return Foresight(near, far)
