"""The distribution of the scores of normal samples, told from scores among which some are of anomalies.

Efron 2004 (doi:10.1198/016214504000000089): normal samples are most of all and score low, so that the bulk of the
scores, up to where anomalies may begin, tells the whole of their distribution. Up to where is not known: of bulks that
grow smaller the largest is taken that a distribution of the family fits, by the distance of Anderson & Darling 1952,
which sees what is wrong at the ends. The family is Tukey's g (Hoaglin 1985, in Exploring Data Tables, Trends, and
Shapes, ch. 11): a normal variable stretched on one side, with location, scale and skewness, here of the logarithm of a
score, as scores are errors; it is fitted by maximum likelihood to what lies in the bulk, truncated as it is.

A small bulk says little about the tail beyond it, so distances from its centre then count for less.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

Floats = NDArray[np.float64]

BULKS = (0.99, 0.98, 0.97, 0.96, 0.95, 0.93, 0.91, 0.89, 0.86, 0.83, 0.8, 0.76, 0.72, 0.68, 0.64, 0.6, 0.56, 0.52, 0.48)
LOWEST = 0.02  # share of the scores below the bulk, which nothing depends on
DISTANCE = 1.0  # that chance makes, where location, scale and skewness were fitted
DISTANCE_OF_MANY = 0.0005  # for each score: of many scores none fits a family to the last
MOST_SKEWED, USUAL_SKEWNESS, SKEWNESS_SPREAD = 0.5, 0.1, 0.15  # bounds, and the prior, of skewness
LEAST_MASS = 0.3  # of a distribution within its bulk
DOUBT = 1.0  # for each share of the scores beyond the bulk, distances from its centre are divided by 1 + so much
MOST_FITTED = 2000  # scores


@dataclass(frozen=True)
class Null:
    """`share` is that of normal samples, `bulk` the share of the scores that it was fitted to."""

    location: float
    scale: float
    skewness: float
    share: float
    bulk: float

    def p_at(self, scores: ArrayLike) -> Floats:
        """The probability that a normal sample scores as high, (N,)."""
        doubt = 1 + DOUBT * (1 - self.bulk)
        p: Floats = special.ndtr(-_standard(_log(scores), *self._parameters) / doubt)
        return p

    def below(self, scores: ArrayLike) -> Floats:
        """The share of normal samples that score lower, as fitted, (N,)."""
        share: Floats = special.ndtr(_standard(_log(scores), *self._parameters))
        return share

    @property
    def _parameters(self) -> tuple[float, float, float]:
        return self.location, self.scale, self.skewness


def fit_null(scores: ArrayLike) -> Null:
    """From the scores of all samples (N,), not below 0, at least a few dozen of them."""
    ordered = np.sort(_log(scores))
    low = ordered[int(LOWEST * len(ordered))]
    best, closest = None, np.inf
    for bulk in BULKS:
        high = float(np.quantile(ordered, bulk))
        inside = ordered[(ordered >= low) & (ordered <= high)]
        if len(inside) < 3 or inside[0] == inside[-1]:
            continue
        location, scale, skewness = _fit(inside, low, high, len(inside) / len(ordered))
        below, above = special.ndtr(_standard(np.array([low, high]), location, scale, skewness))
        expected = (special.ndtr(_standard(inside, location, scale, skewness)) - below) / (above - below)
        relative = _distance(expected) / max(DISTANCE, DISTANCE_OF_MANY * len(inside))
        if relative < closest:
            share = min(1.0, len(inside) / (above - below) / len(ordered))
            best, closest = Null(location, scale, skewness, share, bulk), relative
        if relative <= 1:
            break
    if best is None:  # equal scores
        return Null(float(ordered[len(ordered) // 2]), max(1e-12, 1e-6 * abs(float(ordered[-1]))), 0.0, 1.0, 1.0)
    return best


def _distance(expected: Floats) -> float:
    """Anderson and Darling's A squared of the values, in order, of a distribution function, (N,)."""
    inside = np.clip(expected, 1e-9, 1 - 1e-9)
    odd = 2 * np.arange(1, len(inside) + 1) - 1
    return float(-len(inside) - (odd * (np.log(inside) + np.log1p(-inside[::-1]))).mean())


def _log(scores: ArrayLike) -> Floats:
    logs: Floats = np.log(np.maximum(np.asarray(scores, np.float64), 1e-30))
    return logs


def _fit(inside: Floats, low: float, high: float, share: float) -> tuple[float, float, float]:
    """Location, scale and skewness of the likeliest distribution, truncated to low..high, of these ordered scores.

    They are a share of all scores. What the distribution has beyond them is at most the rest, or it would take a short
    bulk for a piece of something wide, and the highest score for a usual one.
    """
    some = inside[:: max(1, len(inside) // MOST_FITTED)]

    def loss(parameters: Floats) -> float:
        location, log_scale, skewness = parameters
        scale = np.exp(log_scale)
        if abs(skewness) > MOST_SKEWED:
            return np.inf
        below, above = special.ndtr(_standard(np.array([low, high]), location, scale, skewness))
        if above - below < LEAST_MASS:
            return np.inf
        stretch = np.maximum(1 + skewness * (some - location) / scale, 1e-12)
        z = _standard(some, location, scale, skewness)
        log_density = -(z**2) / 2 - log_scale - np.log(stretch)
        prior = ((skewness - USUAL_SKEWNESS) / SKEWNESS_SPREAD) ** 2 / 2
        mass = above - below
        taken = min(mass, share)
        outside = (1 / share - 1) * np.log(max(1 - taken, 1e-12))
        return float(np.log(mass / taken) - outside - log_density.mean() + prior / len(inside))

    start = [float(np.median(inside)), float(np.log(inside.std())), USUAL_SKEWNESS]
    options = {"maxiter": 250, "xatol": 2e-3, "fatol": 1e-6}
    location, log_scale, skewness = optimize.minimize(loss, start, method="Nelder-Mead", options=options).x
    return float(location), float(np.exp(log_scale)), float(skewness)


def _standard(scores: Floats, location: float, scale: float, skewness: float) -> Floats:
    """The normal variable of which the scores are stretched, -40 or 40 where the distribution has ended."""
    distance = (scores - location) / scale
    if abs(skewness) < 1e-6:
        return distance
    stretch = 1 + skewness * distance
    end = -40.0 if skewness > 0 else 40.0
    z: Floats = np.where(stretch > 0, np.log(np.maximum(stretch, 1e-300)) / skewness, end)
    return z
