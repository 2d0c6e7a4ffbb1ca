"""bench/peers.py: its data is seeded and has the anomalies that it says, and its own figures are right."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parent.parent / "bench"))  # scripts, no package

import anomalies
import peers


def test_mixed_has_all_normal_rows_and_the_share_of_others() -> None:
    x, normal = np.arange(1000), np.arange(1000) < 800
    rows, anomalous = anomalies.mixed(x, normal, 0.05, seed=3)
    assert sorted(rows[~anomalous]) == list(range(800))
    assert (anomalous == (rows >= 800)).all()
    assert anomalous.sum() == len(set(rows[anomalous])) == 42  # of 842, 5 %
    assert anomalous[: len(rows) // 2].sum() > 10  # shuffled
    again, fewer = (anomalies.mixed(x, normal, 0.05, 3, most)[0] for most in (None, 100))
    assert (again == rows).all()
    assert len(fewer) == 105


@pytest.mark.parametrize("kind", anomalies.TABLES)
def test_tables_are_seeded(kind: str) -> None:
    x, anomalous = anomalies.table(kind, 1, rows=400, share=0.05)
    assert (x.dtype, len(x), anomalous.sum()) == (np.float32, 400, 20)
    assert np.isfinite(x).all()
    assert (anomalies.table(kind, 1, rows=400, share=0.05)[0] == x).all()
    assert (anomalies.table(kind, 2, rows=400, share=0.05)[0] != x).mean() > 0.9
    clean, none = anomalies.table(kind, 1, rows=400, share=0)
    assert (len(clean), none.any()) == (400, False)


def test_anomalies_of_tables_lie_off_the_normal_rows() -> None:
    x, anomalous = anomalies.table("manifold", 0)
    distance = [np.sort(np.square(x[~anomalous] - one).sum(1))[1] for one in x]
    assert np.median(np.array(distance)[anomalous]) > 5 * np.median(np.array(distance)[~anomalous])


@pytest.mark.parametrize("channels", [1, 3])
def test_series_are_seasons_but_for_two_percent(channels: int) -> None:
    x, anomalous = anomalies.series(0, channels=channels)
    assert x.shape == (20_000, channels)
    assert 0.015 < anomalous.mean() < 0.025
    t = 2 * np.pi * np.arange(len(x))[:, None] / list(anomalies.SEASONS)
    waves = np.concatenate([np.sin(t), np.cos(t)], axis=1)
    normal = ~anomalous
    rest = x - waves @ np.linalg.lstsq(waves[normal], x[normal], rcond=None)[0]
    assert rest[normal].std() == pytest.approx(anomalies.NOISE, rel=0.02)
    assert abs(rest[normal]).max() < 6 * anomalies.NOISE
    assert abs(rest[anomalous]).max(axis=1).mean() > 4 * anomalies.NOISE
    assert (anomalies.series(0, channels=channels)[0] == x).all()


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
def test_an_oracle_takes_the_largest_set_that_keeps_the_rate(rows: list[tuple[int, bool]]) -> None:
    scores, anomalous = np.array([s for s, _ in rows], float), np.array([a for _, a in [*rows[:-1], (0, True)]])
    best = 0.0
    for threshold in scores:
        taken = scores >= threshold
        if (~anomalous[taken]).mean() <= 0.4:
            best = max(best, (anomalous & taken).sum() / anomalous.sum())
    assert peers.oracle_recall(scores, anomalous, 0.4) == pytest.approx(best)


@pytest.mark.parametrize("points", [64, 65, 200])
def test_a_point_has_the_mean_score_of_its_windows(points: int) -> None:
    starts = peers.window_starts(points)
    assert (starts[0], starts[-1]) == (0, points - peers.WINDOW)
    assert (np.diff(starts) <= peers.HOP).all()
    scores = np.random.default_rng(0).random(len(starts))
    expected = [scores[(starts <= t) & (t < starts + peers.WINDOW)].mean() for t in range(points)]
    np.testing.assert_allclose(peers.over_points(scores, starts, points), expected)


def test_the_summary_is_of_cases_that_all_methods_have() -> None:
    rows: list[dict[str, Any]] = []

    def add(data: str, model: str, **figures: float) -> None:
        rows.extend({"data": data, "model": model, "figure": f, "value": str(v)} for f, v in figures.items())

    strict = {"flagged": (0.1, 0.0, 0.2), "rate": (0.04, 0, 0.08), "recall": (0.5, 0, 0.7), "oracle": (0.8, 0.6, 0.8)}
    for i, (data, auroc) in enumerate({"digits-0, mixed": 0.9, "digits-1, mixed": 0.7, "x, held out": 0.6}.items()):
        told = {peers.STRICT[key]: values[i] for key, values in strict.items()}
        add(data, "aekit", **{"AUROC": auroc, "F1": 0.4, "best F1": 0.5, "seconds": 2, **told})
    for data, auroc in {"digits-0, mixed": 0.95, "digits-1, mixed": 0.6}.items():
        add(data, "PCA", **{"AUROC": auroc, "best F1": 0.5, "seconds": 1})
    found = {(r["data"], r["model"], r["figure"]): (float(str(r["value"])), r["note"]) for r in peers.summary(rows)}
    assert found["all", "aekit", "AUROC"] == (0.8, "2 cases")
    assert found["all", "PCA", "AUROC"][0] == pytest.approx(0.775)
    assert found["all, mixed", "aekit", "AUROC above PCA"][0] == pytest.approx(0.025)
    worst = "digits-0, mixed: 0.9000, PCA 0.9500"
    assert found["all", "aekit", "AUROC below the best peer of a case, at worst"] == (pytest.approx(0.05), worst)
    assert found["all", "aekit", "AUROC below the best peer of a data set, at worst"][0] == pytest.approx(-0.025)
    assert found["all", "aekit", "cases more than 0.02 below the best peer"] == (1, "of 2")
    assert found["all", "aekit", "F1 over the best F1"] == (pytest.approx(0.8), "3 cases")
    assert found["all", "aekit", peers.STRICT["rate"]] == (pytest.approx(0.06), "2 cases where it flags")
    assert found["all", "aekit", "share of cases without a flag at fdr=0.05"][0] == pytest.approx(1 / 3, abs=1e-5)
    assert found["all, held out", "aekit", peers.STRICT["oracle"]][0] == pytest.approx(0.8)
    assert ("all, held out", "PCA", "AUROC") not in found
