"""Whether noise is independent from point to point, judged by how well a blind-spot network foretells noisy points.

Where the clean data is plain (the sky of a picture, the rest between two beats) what lies near a point tells no more
about it than what lies far: both leave the noise. Noise that neighbours share is foretold from near and not from far,
and it shows in what is taken away: foretold from its neighbours, the rest of a point's noise goes against theirs, or,
where there is much of it, with theirs. Fine texture too is foretold from near alone, but leaves white noise. Smooth
data of which no spot is plain looks like noise that neighbours share, and cannot be told from it.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from aekit.models.blindspot import Foresight, Guess, posterior, surest_error

SUREST = 0.1  # the share of points that a view is judged by
RATIO = 1.2  # of what is left from afar to what is left from near, above which noise may be shared
PLAIN = 0.3  # the share of points where what is taken away is looked at: elsewhere it may hold signal
CORRELATED = 0.08  # of what is taken away, in size, likewise
AGAINST, WITH = 0.06, 0.3  # standard deviation of what is foretold from near alone, by the correlation's sign, likewise


class Evidence(NamedTuple):
    """Standard deviations over that of the noisy data, and what is taken away beside itself."""

    near: float  # of what the nearest points leave unexplained
    far: float  # of what points farther off leave: the largest of the axes
    correlation: float  # of what is taken away with itself 1 or 2 points on: the largest in size

    @property
    def is_white(self) -> bool:
        """Not so where the nearest points tell much that farther ones do not, and what is taken away shows it."""
        excess = max(self.far**2 - self.near**2, 0.0) ** 0.5
        least = AGAINST if self.correlation < 0 else WITH
        return self.far <= RATIO * self.near or excess <= least or abs(self.correlation) <= CORRELATED


def evidence(x: Tensor, seen: Foresight, sigma: Tensor) -> Evidence:
    """Of noisy points x (B, C, ...) and what a network foretells of them; sigma is the noise as it was learnt."""
    deviation = float(x.double().std()) or 1.0  # constant data has no noise
    near = surest_error(x, Guess(seen.near.mu, seen.near.variance + sigma.square()), SUREST)
    far = max(surest_error(x, guess, SUREST) for guess in seen.far)
    taken = (x - posterior(x, seen.near, sigma)).double()
    plain = seen.near.variance.flatten()
    plain = (seen.near.variance <= plain.kthvalue(max(1, round(PLAIN * plain.numel()))).values).double()
    lags = [(axis, lag) for axis in range(2, x.dim()) for lag in (1, 2) if x.shape[axis] > lag]
    found = [_correlation(taken * plain, plain, axis, lag) for axis, lag in lags]
    return Evidence(near / deviation, far / deviation, max(found, key=abs, default=0.0))


def _correlation(x: Tensor, plain: Tensor, axis: int, lag: int) -> float:
    """Of x (B, C, ...), of mean 0, with itself some points on, where both are plain; x is 0 elsewhere."""
    a, b = (x.narrow(axis, start, x.shape[axis] - lag) for start in (0, lag))
    in_a, in_b = (plain.narrow(axis, start, x.shape[axis] - lag) for start in (0, lag))
    size = ((a * in_b).square().sum() * (b * in_a).square().sum()).sqrt()
    return float((a * b).sum() / size) if size > 0 else 0.0


def joined(parts: list[Foresight]) -> Foresight:
    """Of several batches, one after the other."""

    def one(guesses: Iterable[Guess]) -> Guess:
        return Guess(*map(torch.cat, zip(*guesses, strict=True)))

    return Foresight(one(part.near for part in parts), list(map(one, zip(*(part.far for part in parts), strict=True))))
