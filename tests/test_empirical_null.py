"""The empirical null: p-values are uniform where all is normal, and hardly move where a part is anomalous."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import kstest

from aekit.empirical_null import Null, fit_null
from aekit.thresholds import anomaly_figures, judge_mixed

Floats = NDArray[np.float64]


def stretched(skewness: float) -> Callable[[np.random.Generator, int], Floats]:
    """Scores whose logarithm is normal, stretched on one side: Tukey's g."""
    return lambda rng, n: np.exp(0.5 * np.expm1(skewness * rng.standard_normal(n)) / skewness)


DRAWS: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "normal": lambda rng, n: 10 + rng.standard_normal(n),
    "lognormal": lambda rng, n: rng.lognormal(0, 0.6, n),
    "gamma": lambda rng, n: rng.gamma(3, 1, n),
    "squares": lambda rng, n: rng.chisquare(20, n),
    "stretched": stretched(0.25),
    "shrunk": stretched(-0.2),
    "inverse gamma": lambda rng, n: 1 / rng.gamma(4, 1, n),
}
draws = st.sampled_from(sorted(DRAWS))
seeds = st.integers(0, 10_000)


def mixture(rng: np.random.Generator, draw: str, count: int, share: float) -> tuple[Floats, NDArray[np.bool_]]:
    """Normal scores, and first among them anomalies five to nine of their standard deviations above, in logarithms."""
    scores, anomalous = DRAWS[draw](rng, count), np.arange(count) < round(share * count)
    logs = np.log(scores)
    far = np.exp(np.median(logs) + logs.std() * rng.uniform(5, 9, count))
    return np.where(anomalous, far, scores), anomalous


@given(draws, seeds, st.integers(600, 1500))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_p_values_of_normal_scores_are_uniform(draw: str, seed: int, count: int) -> None:
    scores = DRAWS[draw](np.random.default_rng(seed), count)
    null = fit_null(scores)
    p = null.p_at(scores)
    assert kstest(p, "uniform").statistic < 0.06
    assert (p <= 0.01).mean() < 0.025
    assert null.share > 0.97


@given(draws, seeds, st.floats(0, 0.4))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_far_anomalies_hardly_move_the_null(draw: str, seed: int, share: float) -> None:
    scores, anomalous = mixture(np.random.default_rng(seed), draw, 1000, share)
    null, clean = fit_null(scores), fit_null(scores[~anomalous])
    assert abs(null.location - clean.location) < 0.3 * clean.scale
    assert 0.75 < null.scale / clean.scale < 1.33
    assert null.share == pytest.approx(1 - anomalous.mean(), abs=0.1)
    assert (null.p_at(scores[~anomalous]) <= 0.01).mean() < 0.02


@given(
    st.lists(st.integers(0, 4).map(float), min_size=20, max_size=60)
    | st.lists(st.floats(0, 1e30), min_size=20, max_size=60)
    | st.lists(st.sampled_from([0.0, 1e-30, 1e-300, 1.0, 1e300]), min_size=1, max_size=40)
)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_any_scores_have_p_values_that_fall(scores: list[float]) -> None:
    """Ties, few, equal, zero and huge ones."""
    null = fit_null(scores)
    assert 0 <= null.share <= 1
    assert null.scale > 0
    p = null.p_at(np.sort(scores))
    assert ((p >= 0) & (p <= 1)).all()
    assert (np.diff(p) <= 1e-12).all()
    verdict = judge_mixed(scores)
    assert (verdict.flagged == (np.array(scores) > verdict.threshold)).all()


@pytest.mark.parametrize("count", [20, 1000])
@pytest.mark.parametrize("value", [0.0, 0.7, 1.0, 1e9])
def test_equal_scores_are_all_usual(value: float, count: int) -> None:
    assert not judge_mixed([value] * count).flagged.any()
    assert fit_null([value] * count).p_at([value])[0] >= 0.5
    assert np.flatnonzero(judge_mixed([1.0] * count + [50.0]).flagged).tolist() == [count]


@pytest.mark.parametrize("draw", sorted(DRAWS))
@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_p_values_do_not_depend_on_the_unit(draw: str, factor: float) -> None:
    scores, _ = mixture(np.random.default_rng(0), draw, 300, 0.1)
    p, scaled = fit_null(scores).p_at(scores), fit_null(factor * scores).p_at(factor * scores)
    np.testing.assert_allclose(scaled, p, rtol=0.1, atol=1e-3)
    flagged, others = judge_mixed(scores).flagged, judge_mixed(factor * scores).flagged
    assert (flagged != others).mean() <= 0.01


def test_p_at_is_the_upper_tail_of_the_stretched_normal() -> None:
    """Of a null fitted to all scores; of one fitted to half of them, distances count for two thirds."""
    p = np.array([0.9, 0.5, 0.1, 1e-4])
    scores = np.exp(1 + 2 * np.expm1(-0.3 * ndtri(p)) / 0.3)
    np.testing.assert_allclose(Null(1, 2, 0.3, 1, 1).p_at(scores), p, rtol=1e-9)
    np.testing.assert_allclose(ndtri(Null(1, 2, 0.3, 1, 0.5).p_at(scores)), ndtri(p) / 1.5, rtol=1e-9)


@pytest.mark.parametrize("count", [60, 300, 1000])
def test_a_short_bulk_is_no_piece_of_something_wide(count: int) -> None:
    """Logarithms spread evenly: what lies five deviations off is no usual score."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        scores = np.exp(rng.uniform(-1, 1, count))
        scores[0] = np.exp(5 * 2 / np.sqrt(12))
        assert fit_null(scores).p_at(scores)[0] < 0.02


# verdicts


@pytest.mark.parametrize(("count", "least"), [(500, 0.94), (2000, 0.95)])
def test_auto_flags_hardly_anything_where_all_is_normal(count: int, least: float) -> None:
    """At most 1 %; of few scores with a long tail more in 1 of 10 seeds."""
    shares = [
        judge_mixed(draw(np.random.default_rng([seed, count]), count)).flagged.mean()
        for draw in DRAWS.values()
        for seed in range(10)
    ]
    assert np.mean([share <= 0.01 for share in shares]) >= least
    assert max(shares) < 0.03


@pytest.mark.parametrize("draw", ["lognormal", "gamma", "stretched", "inverse gamma"])
def test_fdr_keeps_its_rate_and_auto_comes_near_the_best_f1(draw: str) -> None:
    rates, ratios = [], []
    for seed in range(4):
        for share in (0.05, 0.25):
            scores, anomalous = mixture(np.random.default_rng([seed, 7]), draw, 500, share)
            strict = anomaly_figures(scores, anomalous, judge_mixed(scores, "fdr=0.05").flagged)
            figures = anomaly_figures(scores, anomalous, judge_mixed(scores).flagged)
            rates += [rate for rate in [strict["false_discovery_rate"]] if rate is not None]
            ratios.append(figures["f1"] / figures["best_f1"])  # type: ignore[operator]
    assert len(rates) >= 4  # of 25 % the bulk may be too small to promise a rate
    assert np.mean(rates) < 0.08
    assert np.mean(ratios) > 0.85
