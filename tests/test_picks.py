"""Picks out of probabilities, and what they are worth."""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from program import fails, result

from aekit.batches import pick_maps
from aekit.picks import Pick, find_picks, pick_errors, pick_figures
from aekit.records import record_of, select
from aekit.windows import windows_of

RATE = 100.0


def maps(*arrivals: tuple[int, int], points: int = 3000) -> np.ndarray:
    return pick_maps(torch.tensor(arrivals), points).numpy()


def found(probability: np.ndarray, row: int = 0) -> list:
    return find_picks(row, probability, np.zeros_like(probability), RATE)


def test_maps_are_one_from_p_into_the_coda_and_bells_at_the_arrivals() -> None:
    (detection, p, s), nothing = maps((500, 1000), (-1, -1))
    assert detection.sum() == 701  # 0.4 of the time from P to S beyond S
    assert (p.argmax(), s.argmax()) == (500, 1000)
    assert p[510] == pytest.approx(np.exp(-0.5))
    assert not nothing.any()
    only_p = maps((500, -1))[0]
    assert only_p[1].any()
    assert not only_p[0].any()
    assert not only_p[2].any()


def test_what_the_maps_say_is_found_again() -> None:
    picks = found(maps((500, 1000))[0])
    assert [(pick.kind, pick.start, pick.end) for pick in picks] == [
        ("detection", 5.0, 12.0), ("P", 5.0, 5.0), ("S", 10.0, 10.0)
    ]  # fmt: skip
    assert not found(maps((-1, -1))[0])
    edge = found(maps((0, 2999))[0])
    assert [pick.start for pick in edge] == [0.0, 0.0, 29.99]


def test_thresholds_decide() -> None:
    probability = 0.25 * maps((500, 1000))[0]
    assert {pick.kind for pick in found(probability)} == {"P", "S"}
    assert not find_picks(0, probability, probability, RATE, (0.3, 0.3, 0.3))
    assert {pick.kind for pick in find_picks(0, probability, probability, RATE, (0.2, 0.3, 0.3))} == {"detection"}


def test_of_two_near_picks_the_likelier_stays() -> None:
    probability = np.maximum(0.5 * maps((500, 2000))[0], maps((560, 2200))[0])
    assert [pick.start for pick in found(probability) if pick.kind == "P"] == [5.6]
    assert [pick.start for pick in found(probability) if pick.kind == "S"] == [20.0, 22.0]


@given(arrays(np.float32, (3, 50), elements=st.floats(0, 1, width=32)))
def test_picks_lie_in_the_record_above_their_threshold_and_apart(probability: np.ndarray) -> None:
    picks = find_picks(0, probability, probability, 10.0)
    for pick in picks:
        assert 0 <= pick.start <= pick.end <= 4.9
        assert pick.probability >= (0.3 if pick.kind == "detection" else 0.1) - 1e-7
    for kind in ("P", "S"):
        times = [pick.start for pick in picks if pick.kind == kind]
        assert all(b - a >= 1.0 - 1e-9 for a, b in pairwise(times))


def test_figures_count_what_is_right() -> None:
    known = np.array([(500, 1000), (800, -1), (-1, -1)])  # in the second nobody knows how long it lasts
    picks = [
        *found(maps((520, 1100))[0], 0),  # P 0.2 s late, S 1 s late
        *found(maps((800, 1500))[0], 1),  # a pick of S that nobody knows
        *found(maps((100, 200))[0], 2),  # all of it noise
    ]
    figures = pick_figures(picks, known, RATE)
    assert figures["detection_precision"] == pytest.approx(1 / 2)
    assert figures["detection_recall"] == 1
    assert figures["p_precision"] == pytest.approx(2 / 3)
    assert figures["p_f1"] == pytest.approx(0.8)
    assert figures["p_mean_error_seconds"] == pytest.approx(0.1)
    assert figures["s_recall"] == 0
    assert figures["s_mean_error_seconds"] is None
    assert pick_figures([], known, RATE)["p_precision"] is None


def test_errors_are_those_of_the_nearest_picks() -> None:
    known = np.array([(500, 1000), (800, -1), (-1, -1), (700, 900)])
    picks = [Pick(row, kind, start, start, 0.5, 0.1) for row, kind, start in
             [(0, "P", 4.0), (0, "P", 5.25), (0, "S", 12.0), (1, "S", 8.0), (2, "P", 1.0), (3, "P", 6.9)]]  # fmt: skip
    errors = pick_errors(picks, known, RATE)
    assert errors["P"].tolist() == pytest.approx([0.25, -0.1])
    assert errors["S"].tolist() == [2.0]


def test_picks_go_along_with_their_rows_and_windows() -> None:
    record = record_of(np.zeros((2, 1, 100), np.float32))
    record = type(record)(**{**record.__dict__, "picks": np.array([(10, 70), (-1, 40)])})
    assert select(record, np.array([1])).picks.tolist() == [[-1, 40]]
    assert windows_of(record, (1, 50)).picks.tolist() == [[10, -1], [-1, 20], [-1, 40], [-1, -1]]


def quakes(folder: Path) -> Path:
    """Records of noise with two strong bursts, and where those begin."""
    rng = np.random.default_rng(0)
    x = 0.05 * rng.normal(size=(24, 1, 256))
    p, s = rng.integers(40, 80, 24), rng.integers(120, 160, 24)
    for row, (first, second) in enumerate(zip(p, s, strict=True)):
        x[row, 0, first:] += np.sin(np.arange(256 - first)) * np.exp(-np.arange(256 - first) / 20)
        x[row, 0, second:] += 3 * np.sin(0.5 * np.arange(256 - second)) * np.exp(-np.arange(256 - second) / 20)
    np.savez(folder / "quakes.npz", data=x, p_index=p, s_index=s, sampling_rate=20.0)
    return folder / "quakes.npz"


def reported(folder: Path) -> None:
    """What the page of picks says and shows: of short rows, of a long one, and where nothing is found."""
    words = ("--force", "--model", "runs/eqtransformer-quakes-1", "--report", "p.html")
    figures = result(folder, "score", "quakes.npz", *words)
    page = (folder / "p.html").read_text()
    assert figures["report"] == "p.html"
    assert f"24 rows: {figures['detections']} detections" in page
    assert all(word in page for word in ("<th", "mean absolute error", "Errors of picks", ">known<", "probability"))
    assert page.count("<h3>Row ") == 6
    data = np.load(folder / "quakes.npz")["data"]
    np.savez(folder / "long.npz", data=data.reshape(1, 1, -1), sampling_rate=20.0)  # 307 seconds
    figures = result(folder, "score", "long.npz", *words)
    page = (folder / "p.html").read_text()
    starts = [int(start) for start in re.findall(r"<h3>Row 0 · from (\d+) s", page)]
    assert 2 <= len(set(starts)) <= 6
    assert page.count("<h3>Row 0") <= 6
    assert "mean absolute error" not in page
    assert max(starts) <= 307 - 60
    result(folder, "score", "quakes.npz", *words, "--pick-thresholds", "1,1,1")
    page = (folder / "p.html").read_text()
    assert "Nothing was found in 24 rows." in page
    assert page.count("nothing found") == 12  # beside each title, and read aloud
    for refused in (("--map", "m.npy"), ("--threshold", "3"), ("--normal", "1")):
        fails(folder, "score", "quakes.npz", *words, *refused, says="leave --threshold, --normal, --map off")


def test_score_writes_detections_and_picks_where_the_model_finds_them(tmp_path: Path) -> None:
    quakes(tmp_path)
    words = ("--set", "augment=none", "--epochs", "14", "--lr", "0.003", "--batch-size", "8")
    result(tmp_path, "train", "eqtransformer", "--data", "quakes.npz", *words)
    figures = result(tmp_path, "score", "quakes.npz", "--pick-thresholds", "0.3,0.2,0.2")
    lines = (tmp_path / "quakes.picks.csv").read_text().splitlines()
    assert lines[0] == "row,kind,start_seconds,end_seconds,probability,uncertainty"
    kinds = [line.split(",")[1] for line in lines[1:]]
    assert [kinds.count(kind) for kind in ("detection", "P", "S")] == [
        figures[k] for k in ("detections", "p_picks", "s_picks")
    ]
    assert figures["detection_recall"] > 0.8
    assert figures["thresholds"] == [0.3, 0.2, 0.2]
    reported(tmp_path)
    np.savez(tmp_path / "two.npz", data=np.tile(np.load(tmp_path / "quakes.npz")["data"], 3), sampling_rate=20.0)
    longer = result(tmp_path, "score", "two.npz", "--model", "runs/eqtransformer-quakes-1")
    assert longer["detections"] > figures["detections"]


def test_what_is_missing_for_picks_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(8, 256)))
    says = "x.npy: the recipe eqtransformer learns from picks; put arrays p_index and s_index beside the data"
    fails(tmp_path, "train", "eqtransformer", "--data", "x.npy", says=says)


def test_picks_that_cannot_be_are_named(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(4, 64))
    np.savez(tmp_path / "seconds.npz", data=x, p_index=[1.5, 2, 3, 4])
    fails(
        tmp_path, "info", "seconds.npz", says="seconds.npz: p_index holds broken numbers; arrivals are told in points"
    )
    np.savez(tmp_path / "turned.npz", data=x, p_index=[1, 2, 30, 4], s_index=[5, 6, 7, 8])
    fails(tmp_path, "info", "turned.npz", says="turned.npz: row 2: S arrives at 7, P at 30; S comes after P")
    np.savez(tmp_path / "column.npz", data=x, p_index=[[1], [2], [-1], [4]])
    assert result(tmp_path, "info", "column.npz")["picks"] == "3 P, 0 S"


def test_a_detection_lasts() -> None:
    probability = np.zeros((3, 500), np.float32)
    probability[0, 100:110] = probability[0, 300:330] = 1
    assert [pick.start for pick in found(probability)] == [3.0]


def test_arrivals_outside_their_row_are_a_fault(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", data=np.zeros((3, 3, 50)), p_index=[5, 50, -1], s_index=[9, -1, -1])
    fails(tmp_path, "info", "a.npz", says="a.npz: row 1: p_index is 50, the row has 50 points; tell arrivals in points")
    np.savez(tmp_path / "b.npz", data=np.eye(50)[None, :3].repeat(3, 0), p_index=[5, 6], s_index=[9, 9])
    says = "learns from picks; put arrays p_index and s_index beside the data, a value per row"
    fails(tmp_path, "train", "eqtransformer", "--data", "b.npz", says=says)
