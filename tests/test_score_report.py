"""What scores are made of: columns of a table in the CSV and the report, ranges of a series, the fitted null."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from program import QUICK, aekit, result, table

from aekit import checkpoint, reports
from aekit.empirical_null import fit_null
from aekit.recipes import RECIPES
from aekit.reports.charts import MOST_STEPS, calibration_figure, null_figure
from aekit.reports.signals import points_figure, stretches
from aekit.reports.style import INK
from aekit.reports.traces import MOST_POINTS
from aekit.workflows import contributions

RNG = np.random.default_rng(0)
ODD = np.arange(0, 200, 25)  # rows of the table whose third value is far off
NAMES = [*(f"v{i}" for i in range(1, 7)), "colour"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table and a series with planted anomalies, scored without a model, a few steps of training each."""
    folder = tmp_path_factory.mktemp("lab")
    x = RNG.normal(size=(200, 2)) @ RNG.normal(size=(2, 6)) + 0.2 * RNG.normal(size=(200, 6))
    x[ODD, 2] += 12
    truth = np.isin(np.arange(200), ODD).astype(int)
    words = RNG.choice(["red", "blue", "green"], 200)
    lines = [",".join([*map(str, row), word, str(odd)]) for row, word, odd in zip(x, words, truth, strict=True)]
    (folder / "t.csv").write_text("\n".join([",".join([*NAMES, "anomaly"]), *lines]) + "\n")
    series = np.sin(np.arange(3000) / 8) + 0.1 * RNG.normal(size=3000)
    truth = np.zeros(3000, int)
    for start in (500, 1500, 2200, 2800):
        series[start : start + 40] += 2 * RNG.normal(size=40)
        truth[start : start + 40] = 1
    times = np.datetime_as_string(np.datetime64("2024-01-01", "s") + 60 * np.arange(3000))
    lines = [f"{time},{value:.4f},{odd}" for time, value, odd in zip(times, series, truth, strict=True)]
    (folder / "s.csv").write_text("\n".join(["time,a,anomaly", *lines]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "ensemble", replace(RECIPES["ensemble"], least_steps=100))
        aekit(folder, "score", "t.csv", "--map", "map.npy", "--report", "t.html")
        aekit(folder, "score", "s.csv", "--report", "s.html")
    return folder


def test_the_columns_that_make_a_score_are_named_for_flagged_rows_alone(lab: Path) -> None:
    rows = table(lab / "t.scores.csv")
    flagged = [int(row["row"]) for row in rows if row["anomaly"] == "1"]
    assert set(ODD) <= set(flagged)
    assert not any(rows[row]["columns"].startswith("v3 ") for row in set(flagged) - set(ODD))
    assert all(rows[row]["columns"].startswith("v3 ") for row in ODD)
    assert {row["columns"] for row in rows if row["anomaly"] == "0"} == {""}
    errors = np.load(lab / "map.npy")
    assert errors.shape == (200, 9)  # a column for each of three words
    whole = np.column_stack([errors[:, :6], errors[:, 6:].sum(axis=1)])
    shares = whole / whole.sum(axis=1, keepdims=True)
    for row in flagged:
        best = np.argsort(-shares[row])[:3]
        assert rows[row]["columns"] == "; ".join(f"{NAMES[i]} {shares[row, i]:.0%}" for i in best)


def test_columns_are_named_whatever_the_model_and_the_batch(lab: Path) -> None:
    aekit(lab, "train", "stacked", "--data", "t.csv", *QUICK, "--out", "stacked")
    found = []
    for i, size in enumerate(("1", "7", "500")):
        words = ("--model", "stacked", "--batch-size", size, "--threshold", "quantile=0.5", "-o", f"{i}.csv")
        figures = result(lab, "score", "t.csv", *words)
        found.append([row["columns"] for row in table(lab / f"{i}.csv")])
        assert sum(bool(words) for words in found[-1]) == figures["flagged"] > 50
    assert found[0] == found[1] == found[2]
    assert "colour" in " ".join(found[0])
    assert "=" not in " ".join(found[0])


def test_what_is_no_table_has_no_such_column(lab: Path) -> None:
    assert "columns" not in table(lab / "s.scores.csv")[0]


def test_columns_are_told_in_the_order_of_their_shares_and_never_none() -> None:
    shares = np.array([[0.2, 0.5, 0.0, 0.3], [1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]], np.float32)
    assert contributions.told(shares, "abcd") == ["b 50%; d 30%; a 20%", "a 100%", "a 25%; b 25%; c 25%"]
    assert contributions.told(np.full((1, 1000), 0.001, np.float32), [f"c{i}" for i in range(1000)]) == ["c0 0%"]


def test_the_report_of_a_table_shows_columns_the_fitted_null_and_calibration(lab: Path) -> None:
    text = (lab / "t.html").read_text()
    for title in ("Columns", "Share of each column in the score (percent)", "Normal scores", "Calibration"):
        assert f">{title}<" in text, title
    assert "measured share of normal samples" in text
    assert "training data, held out" not in text  # no row is known to be normal


def test_the_report_of_another_file_names_the_training_data_as_mixed(lab: Path) -> None:
    lines = (lab / "t.csv").read_text().splitlines()
    (lab / "other.csv").write_text("\n".join(lines[:120]) + "\n")
    model = next((lab / "runs").glob("ensemble-t-1"))
    aekit(lab, "score", "other.csv", "--model", str(model), "--report", "other.html")
    text = (lab / "other.html").read_text()
    assert "training data, mixed" in text
    assert "held out, its lowest" in text


def test_the_report_of_a_series_shows_it_whole_and_its_highest_ranges(lab: Path) -> None:
    text = (lab / "s.html").read_text()
    ranges = table(lab / "s.ranges.csv")
    assert len(ranges) >= 4
    highest = sorted(ranges, key=lambda each: -float(each["score"]))[:3]
    for each in highest:
        assert f"Points {int(each['start']):,} to {int(each['end']):,} · score" in text
    assert text.count("<h3>Points ") == 3
    assert ">Whole<" in text
    assert "known anomaly" in text
    start = np.datetime64("2024-01-01", "s") + 60 * int(highest[0]["start"])
    assert f"{start} to " in text


def test_long_series_are_thinned_and_no_flagged_point_is_lost() -> None:
    points = 300_000
    series, scores = RNG.normal(size=(2, points)), RNG.gamma(3, 1, points)
    scores[123_456] = 1e4
    figure = points_figure(series, scores, 1e3, scores > 1e3, scores > 1e3, None)
    traces, below = figure.axes
    lines = [*traces.lines[:2], *below.lines[:1]]
    assert all(len(line.get_xdata()) <= MOST_POINTS + 2 for line in lines)
    assert np.max(below.lines[0].get_ydata()) == 1e4
    assert [len(axes.patches) for axes in figure.axes] == [1, 1]
    whole = ("Whole", "", slice(0, points))
    section = reports.points_section(series, scores, 1e3, scores > 1e3, 1, [("a", "", whole[2])])
    assert len(reports.page("t", {}, [section])) < 300_000


@settings(max_examples=60, deadline=None, derandomize=True)
@given(npst.arrays(bool, st.integers(1, 3000)))
def test_stretches_cover_what_is_flagged(flags: np.ndarray) -> None:
    found = stretches(flags)
    covered = np.zeros(len(flags), bool)
    for start, end in found:
        covered[start : end + 1] = True
    assert not (flags & ~covered).any()
    assert all(flags[start : end + 1].any() for start, end in found)
    assert len(found) <= MOST_POINTS // 2 + 1
    if len(flags) <= MOST_POINTS:
        np.testing.assert_array_equal(covered, flags)


def test_the_curve_of_normal_scores_is_the_fitted_one() -> None:
    scores = np.concatenate([np.exp(RNG.normal(size=900)), np.full(100, 200.0)])
    null = fit_null(scores)
    np.testing.assert_allclose(null.below(np.exp([-1.0, 0, 1])), [0.159, 0.5, 0.841], atol=0.04)
    axes = null_figure(scores, null, 50.0).axes[0]
    (curve,) = [line for line in axes.lines if line.get_label() == "fit"]
    assert curve.get_color() == INK
    assert np.nansum(curve.get_ydata()) == pytest.approx(900, rel=0.05)


def test_calibration_is_that_of_normal_samples_and_thinned() -> None:
    p = RNG.random(50_000)
    curve = calibration_figure(p, None, "normal samples").axes[0].lines[-1]
    x, y = (np.asarray(values) for values in curve.get_data())
    assert len(x) <= MOST_STEPS + 1
    for promised, measured in zip(x[1:-1], y[1:-1], strict=True):
        assert measured == pytest.approx((p <= promised).mean())
    anomalous = p < 0.5
    null = fit_null(np.exp(p))
    section = reports.scores_section(p[:0], np.exp(p), anomalous, 2.0, "auto", {}, None, p, null)
    drawn = {picture.title: picture.figure for picture in section.pictures}["Calibration"].axes[0].lines[-1]
    assert np.min(drawn.get_xdata()) >= 0.5


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 2.0**100, width=32), min_size=1, max_size=20), st.booleans())
def test_any_scores_are_drawn_with_their_null(scores: list[float], mixed: bool) -> None:
    values = np.array(scores, np.float32)
    null = fit_null(values)
    section = reports.scores_section(
        values[: 5 * mixed], values, None, float(np.median(values)), "auto", {}, None, null.p_at(values), null, True
    )
    text = reports.page("t", {}, [section])
    assert "nan" not in text
    assert "Normal scores" in text


def test_networks_that_do_not_rank_alike_are_told(lab: Path) -> None:
    file = next((lab / "runs").glob("ensemble-t-1")) / "model.safetensors"
    trained = checkpoint.load(file)
    for agreement, told in ((0.79, True), (0.81, False)):
        trained.figures["rank_agreement"] = agreement
        checkpoint.save(trained, file)
        done = aekit(lab, "score", "t.csv", "--force")
        assert ("rank agreement 0.79: the two halves of the networks" in done.stderr) == told


def test_info_names_what_needs_no_model(lab: Path, tmp_path: Path) -> None:
    assert result(lab, "info", "t.csv")["next"] == "aekit score t.csv"
    assert result(lab, "info", "s.csv")["next"] == "aekit score s.csv; aekit denoise s.csv"
    np.save(tmp_path / "x.npy", RNG.normal(size=(20, 1, 12, 12)))
    assert result(tmp_path, "info", "x.npy")["next"] == "aekit score x.npy; aekit denoise x.npy"
    (tmp_path / "gaps.csv").write_text("a,b\n1,2\n,3\n2,4\n")
    assert result(tmp_path, "info", "gaps.csv")["next"] == "aekit score gaps.csv --missing mean"
    assert result(lab, "info", "digits")["next"] == "aekit train conv --data digits"
