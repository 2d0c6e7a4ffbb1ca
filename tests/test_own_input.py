"""score without a model: learns from the very rows, keeps the run for that file alone, and leaves all or nothing."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from program import aekit, contents, fails, result, table, waves
from scipy.io.wavfile import write as write_wav
from scipy.ndimage import uniform_filter1d
from scipy.stats import spearmanr

from aekit import checkpoint
from aekit.recipes import RECIPES
from aekit.records import record_of
from aekit.workflows import own_input, training_data
from aekit.workflows.common import Talk

RULES = ("fdr=0.05", "fpr=0.01", "quantile=0.95", "mad=3.5", "mean+2std", "2.5")
FAR = [3, 50, 111]  # rows, or records, that are anomalous


@pytest.fixture(autouse=True, scope="module")
def _short() -> Iterator[None]:
    """Training of a second, of one restart."""
    with pytest.MonkeyPatch.context() as patch:
        quick = replace(RECIPES["ensemble"], settings={"hidden": (32,)}, least_steps=100)
        patch.setitem(RECIPES, "ensemble", quick)
        patch.setattr(own_input, "SCARCE", 0)
        yield


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table that was scored, and its run."""
    folder = tmp_path_factory.mktemp("scored")
    write_table(folder / "table.csv", columns())
    done = aekit(folder, "score", "table.csv", "--json")
    assert (
        "is of this data (--model names another); ensemble learns from the 200 rows: a table of 5 columns"
        in done.stderr
    )
    assert "no row is known to be normal" in done.stderr
    return folder


def columns(rows: int = 200, seed: int = 0) -> np.ndarray:
    """Five columns of which two would do, and FAR rows off their plane."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2)) @ np.random.default_rng(9).normal(size=(2, 5)) + 0.1 * rng.normal(size=(rows, 5))
    for row in FAR:
        x[row % rows] += 6 * rng.normal(size=5)
    return x


def write_table(path: Path, x: np.ndarray, header: str = "a,b,c,d,e") -> None:
    lines = [header, *(",".join(f"{value:.6g}" for value in row) for row in x)]
    path.write_text("\n".join(lines) + "\n")


def scores_in(path: Path) -> np.ndarray:
    return np.array([row["score"] for row in table(path)], np.float32)


def highest(path: Path, count: int = len(FAR)) -> list[int]:
    return sorted(np.argsort(scores_in(path))[-count:].tolist())


# --- a file, and its run ----------------------------------------------------------------------------------------------


def test_a_table_is_scored_in_an_empty_folder_and_its_run_serves_it_again(scored: Path) -> None:
    run = scored / "runs" / "ensemble-table-1"
    files = {"config.json", "metrics.csv", "model.safetensors", "report.html", "resume.safetensors"}
    assert {file.name for file in run.iterdir()} == files
    rows = table(scored / "table.scores.csv")
    assert [row["row"] for row in rows] == [str(i) for i in range(200)]
    assert [i for i in FAR if rows[i]["anomaly"] == "1"] == FAR
    assert sum(row["anomaly"] == "1" for row in rows) < 12

    figures = result(scored, "score", "table.csv", "-o", "again.csv")
    assert figures["model"] == "runs/ensemble-table-1/model.safetensors"
    assert figures["count"] == 200
    assert figures["rank_agreement"] > 0.5
    first = (scored / "table.scores.csv").read_bytes()
    assert (scored / "again.csv").read_bytes() == first
    assert result(scored, "embed", "table.csv")["count"] == 200

    fresh = aekit(scored, "score", "table.csv", "--fresh", "-o", "fresh.csv")
    assert "a fresh model is asked for" in fresh.stderr
    assert (scored / "runs" / "ensemble-table-2").is_dir()
    assert (scored / "fresh.csv").read_bytes() == first  # the seed is the same


def test_a_run_serves_another_file_only_where_it_is_asked_for(scored: Path, tmp_path: Path) -> None:
    run = shutil.copytree(scored / "runs", tmp_path / "runs") / "ensemble-table-1"
    write_table(tmp_path / "other.csv", columns(seed=1))
    fails(tmp_path, "embed", "other.csv", says="no model under runs/ fits")
    fails(tmp_path, "generate", says="no model under runs/ can generate")
    fails(tmp_path, "generate", "--model", str(run), says="does not generate")
    asked = result(tmp_path, "score", "other.csv", "--model", str(run), "-o", "asked.csv")
    assert asked["model"] == f"{run}/model.safetensors"
    assert highest(tmp_path / "asked.csv") == FAR
    assert asked["flagged"] < 12
    assert not list(tmp_path.glob("runs/ensemble-other-*"))
    own = result(tmp_path, "score", "other.csv", "--seed", "1")
    assert own["model"] == "runs/ensemble-other-1/model.safetensors"
    assert json.loads((tmp_path / "runs/ensemble-other-1/config.json").read_text())["options"]["seed"] == 1
    assert spearmanr(scores_in(tmp_path / "other.scores.csv"), scores_in(tmp_path / "asked.csv")).statistic > 0.6


def test_the_threshold_moves_after_training(scored: Path, tmp_path: Path) -> None:
    before, scores = contents(scored), scores_in(scored / "table.scores.csv")
    out = tmp_path / "moved.csv"
    for rule in RULES:
        words = ("score", "table.csv", "--model", "runs/ensemble-table-1", "--threshold", rule, "-o", str(out))
        figures = result(scored, *words, "--force")
        np.testing.assert_array_equal(scores_in(out), scores)
        assert figures["rule"] == rule
        flagged = np.array([row["anomaly"] == "1" for row in table(out)])
        assert figures["flagged"] == flagged.sum()
        assert 0 < flagged.sum() < 40
        np.testing.assert_array_equal(flagged, scores.astype(np.float64) > figures["threshold"])
    assert contents(scored) == before


def test_words_and_missing_values(tmp_path: Path) -> None:
    x = columns()
    colours = ["green" if i in FAR else "red" if i % 2 else "blue" for i in range(200)]
    lines = ["a,b,c,d,e,colour"]
    lines += [",".join([*(f"{v:.6g}" for v in row), colour]) for row, colour in zip(x, colours, strict=True)]
    lines[8] = "," + lines[8].partition(",")[2]  # row 7
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    fails(tmp_path, "score", "t.csv", says="row 7, column a has no value")
    done = aekit(tmp_path, "score", "t.csv", "--missing", "mean")
    assert "1 values in 1 of 200 rows are missing" in done.stderr
    assert highest(tmp_path / "t.scores.csv") == FAR
    by_itself = result(tmp_path, "score", "t.csv", "-o", "again.csv")  # trained so, it fills in without being told
    assert by_itself["model"] == "runs/ensemble-t-1/model.safetensors"
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "t.scores.csv").read_bytes()


# --- kinds of data ----------------------------------------------------------------------------------------------------


def test_series_are_scored_as_a_whole(tmp_path: Path) -> None:
    x = waves(200, 48)
    x[FAR] = np.random.default_rng(1).normal(size=(3, 48))
    np.save(tmp_path / "traces.npy", x)
    figures = result(tmp_path, "score", "traces.npy", "--map", "map.npy", "--report", "r.html")
    assert figures["count"] == 200
    assert highest(tmp_path / "traces.scores.csv") == FAR
    errors = np.load(tmp_path / "map.npy")
    assert errors.shape == x.shape
    np.testing.assert_allclose(errors.mean(axis=1), scores_in(tmp_path / "traces.scores.csv"), rtol=1e-4)
    assert "</html>" in (tmp_path / "r.html").read_text()


def test_large_pictures_are_scored_by_their_worst_piece(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :40]
    pictures = np.stack([100 + 50 * np.sin(x / 4 + phase) for phase in rng.uniform(0, 6, 60)])
    pictures += rng.normal(0, 3, pictures.shape) + 0 * y
    pictures[5, 26:34, 3:11] = rng.uniform(0, 255, (8, 8))
    np.save(tmp_path / "p.npy", pictures.astype(np.uint8))
    done = aekit(tmp_path, "score", "p.npy", "--map", "map.npy", "--json")
    assert "in pieces of 16x16, each scored by its worst" in done.stderr
    rows = table(tmp_path / "p.scores.csv")
    assert len(rows) == 60
    assert highest(tmp_path / "p.scores.csv", 1) == [5]
    top, left = int(rows[5]["top"]), int(rows[5]["left"])
    assert top < 34 < top + 16 + 8
    assert left < 11
    assert np.load(tmp_path / "map.npy").shape == (60, 40, 40)
    assert result(tmp_path, "score", "p.npy", "-o", "again.csv")["model"] == "runs/ensemble-p-1/model.safetensors"
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "p.scores.csv").read_bytes()


def test_a_series_by_point_gets_a_score_per_point_and_ranges(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = 3000
    value = np.sin(np.arange(points) / 5) + 0.05 * rng.normal(size=points)
    value[2000:2020] += 0.8 * rng.normal(size=20)
    times = [f"2024-01-{1 + i // 1440:02} {i // 60 % 24:02}:{i % 60:02}:00" for i in range(points)]
    lines = ["time,value", *(f"{time},{v:.5f}" for time, v in zip(times, value, strict=True))]
    (tmp_path / "ecg.csv").write_text("\n".join(lines) + "\n")
    figures = result(tmp_path, "score", "ecg.csv", "--map", "map.csv")
    assert figures["count"] == points
    rows = table(tmp_path / "ecg.scores.csv")
    assert [row["time"] for row in rows] == times
    assert [int(row["row"]) for row in rows] == list(range(points))
    assert 1990 < int(np.argmax(scores_in(tmp_path / "ecg.scores.csv"))) < 2030
    flagged = np.array([row["anomaly"] == "1" for row in rows])
    assert flagged[2000:2020].all()
    assert flagged.mean() < 0.05

    ranges = table(tmp_path / "ecg.ranges.csv")
    assert figures["ranges_out"] == "ecg.ranges.csv"
    assert [(int(each["start"]), int(each["end"]), pytest.approx(float(each["score"]))) for each in ranges] == [
        tuple(each.values()) for each in figures["ranges"]
    ]
    assert [(each["start_time"], each["end_time"]) for each in ranges] == [
        (times[int(each["start"])], times[int(each["end"])]) for each in ranges
    ]
    inside = np.zeros(points, bool)
    for each in ranges:
        start, end = int(each["start"]), int(each["end"])
        assert flagged[start]
        assert flagged[end]
        assert not inside[start : end + 1].any()
        inside[start : end + 1] = True
    assert not flagged[~inside].any()
    lowest, near = plainly_by_point(tmp_path / "runs/ensemble-ecg-1", value.round(5))
    np.testing.assert_allclose(scores_in(tmp_path / "ecg.scores.csv"), np.sqrt(lowest * near), rtol=1e-3)
    assert len(table(tmp_path / "map.csv")) == points


@torch.inference_mode()
def plainly_by_point(run: Path, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each point the lowest score of the windows over it, and its own mean error in them, smoothed."""
    trained = checkpoint.load(run / "model.safetensors")
    window = trained.sample_shape[-1]
    hop, last = window // 8, len(value) - window
    scores: list[list[float]] = [[] for _ in value]
    errors: list[list[float]] = [[] for _ in value]
    for start in sorted({*range(0, last + 1, hop), last}):
        x, _, _ = trained.normalisation.apply(torch.from_numpy(value[None, None, start : start + window]))
        score, error = trained.network.score(x)  # type: ignore[operator]
        for point in range(window):
            scores[start + point].append(float(score))
            errors[start + point].append(float(error[0, 0, point]))
    near = uniform_filter1d(np.array([np.mean(of_point) for of_point in errors]), hop)
    return np.array([min(of_point) for of_point in scores]), near


def test_scores_of_a_folder_of_pictures_name_the_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(12):
        file = tmp_path / "pictures" / f"{i % 2}" / f"{i:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(file)
    result(tmp_path, "score", "pictures")
    rows = table(tmp_path / "pictures.scores.csv")
    assert [row["file"] for row in rows] == sorted(f"{i % 2}/{i:02}.png" for i in range(12))
    assert [row["label"] for row in rows] == ["0"] * 6 + ["1"] * 6


def long_series(points: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    x = np.sin(np.arange(points) / 5) + 0.05 * rng.normal(size=points)
    x[1500:1540] += 0.8 * rng.normal(size=40)
    return x.astype(np.float32)


def test_a_single_long_series_of_any_format_is_scored_by_point(tmp_path: Path) -> None:
    x = long_series(3000)
    write_wav(tmp_path / "s.wav", 100, x)
    figures = result(tmp_path, "score", "s.wav", "--map", "map.npy", "--report", "r.html")
    assert figures["count"] == 3000
    assert "calibration_rows" not in figures
    assert 1490 < int(np.argmax(scores_in(tmp_path / "s.scores.csv"))) < 1550
    assert any(each["start"] <= 1520 <= each["end"] for each in figures["ranges"])
    assert np.load(tmp_path / "map.npy").shape[-1] == 3000
    again = result(tmp_path, "score", "s.wav", "-o", "again.csv")
    assert again["model"] == figures["model"]
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "s.scores.csv").read_bytes()


def test_a_few_long_series_are_scored_by_window(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.stack([long_series(3000)[::-1].copy(), *[np.sin(np.arange(3000) / 5)] * 2]))
    done = aekit(tmp_path, "score", "s.npy")
    assert "learns from the 141 windows" in done.stderr
    rows = table(tmp_path / "s.scores.csv")
    assert len(rows) == 141
    worst = rows[int(np.argmax([float(row["score"]) for row in rows]))]
    assert worst["row"] == "0"
    assert 1380 < int(worst["start"]) < 1510
    one = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (1, own_input.MOST_POINTS + 1), (0, 0))
    assert not own_input.as_points(record_of(one), 1).by_point
    assert own_input.as_points(record_of(one[:, 1:]), 1).by_point
    assert not own_input.as_points(record_of(one[:, :64]), 64).by_point


def test_ten_points_are_enough(tmp_path: Path) -> None:
    lines = ["time,value", *(f"2024-01-01 00:{i:02}:00,{i % 3 + i / 100}" for i in range(10))]
    (tmp_path / "s.csv").write_text("\n".join(lines) + "\n")
    assert result(tmp_path, "score", "s.csv")["count"] == 10
    assert np.isfinite(scores_in(tmp_path / "s.scores.csv")).all()


def test_ten_rows_are_enough_and_nine_are_not(tmp_path: Path) -> None:
    write_table(tmp_path / "nine.csv", columns()[:9])
    fails(tmp_path, "score", "nine.csv", says="9 rows cannot tell by themselves what is normal; give at least 10")
    write_table(tmp_path / "one.csv", columns()[:1])
    fails(tmp_path, "score", "one.csv", says="1 row cannot tell")
    lines = ["time,value", *(f"2024-01-01 00:0{i}:00,{i % 3}" for i in range(9))]
    (tmp_path / "s.csv").write_text("\n".join(lines) + "\n")
    fails(tmp_path, "score", "s.csv", says="9 points cannot tell")
    write_table(tmp_path / "ten.csv", columns()[:10])
    done = aekit(tmp_path, "score", "ten.csv", "--json")
    assert '"count": 10' in done.stdout
    assert "fewer than 20 samples" in done.stderr


# --- refused before training ------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a table and a series by point."""
    write_table(tmp_path / "t.csv", columns())
    lines = ["time,value", *(f"2024-01-01 {i // 60:02}:{i % 60:02}:00,{i % 7}" for i in range(300))]
    (tmp_path / "s.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("t.csv",), "t.scores.csv: exists already"),
        (("t.csv", "-o", "x.csv", "--map", "map.npy"), "map.npy: exists already"),
        (("t.csv", "-o", "x.csv", "--report", "r.html"), "r.html: exists already"),
        (("s.csv",), "s.ranges.csv: exists already"),
        (("t.csv", "-o", "gone/x.csv"), "the folder gone does not exist"),
        (("t.csv", "-o", "x.npy"), "scores are a table"),
        (("t.csv", "-o", "t.csv", "--force"), "is the input itself"),
        (("t.csv", "-o", "x.csv", "--normal", "a"), "--normal needs labels"),
    ],
)
def test_what_cannot_be_written_is_refused_before_training(place: Path, words: tuple[str, ...], says: str) -> None:
    for name in ("t.scores.csv", "map.npy", "r.html", "s.ranges.csv"):
        (place / name).write_text("precious")
    fails(place, "score", *words, says=says)
    assert not (place / "runs").exists()


def test_data_that_cannot_be_learnt_leaves_no_run(place: Path) -> None:
    write_table(place / "flat.csv", np.ones((50, 3)), "a,b,c")
    fails(place, "score", "flat.csv", says="constant data")
    x = waves()
    x[70, 3] = np.nan
    np.save(place / "nan.npy", x)
    fails(place, "score", "nan.npy", says="row 70, value 3 is NaN")
    assert not (place / "runs").exists()


# --- stopped ----------------------------------------------------------------------------------------------------------


@contextmanager
def interrupted_when(path: Path) -> Iterator[None]:
    """Ctrl-C as soon as the file is there."""
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            if path.exists():
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # of a job in the background it is ignored
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        signal.signal(signal.SIGINT, handler)


def stop(folder: Path, run: Path, *words: str) -> None:
    """score stopped after its first epoch; it has left the run alone."""
    before = set(folder.iterdir())
    with interrupted_when(folder / run / "resume.safetensors"):
        done = aekit(folder, "score", *words, code=130)
    assert f"aekit train --resume {run}" in done.stderr
    assert set(folder.iterdir()) - before == {folder / "runs"}
    assert not checkpoint.load(folder / run / "model.safetensors").figures


def test_after_ctrl_c_a_run_goes_on_to_the_same_scores(tmp_path: Path) -> None:
    """Of a named data set, whose test part it learns from."""
    never, stopped, run = tmp_path / "never", tmp_path / "stopped", Path("runs/ensemble-digits-1")
    for folder in (never, stopped):
        folder.mkdir()
    figures = result(never, "score", "digits")
    stop(stopped, run, "digits")
    aekit(stopped, "train", "--resume", str(run))
    resumed = result(stopped, "score", "digits")
    assert resumed == {**figures, "seconds": resumed["seconds"]}
    assert (stopped / "digits.scores.csv").read_bytes() == (never / "digits.scores.csv").read_bytes()


def test_a_run_with_labels_goes_on_and_serves_its_file(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", columns())
    np.save(tmp_path / "labels.npy", np.isin(np.arange(200), FAR).astype(np.int64))
    words, run = ("t.csv", "--labels", "labels.npy"), Path("runs/ensemble-t-1")
    stop(tmp_path, run, *words)
    aekit(tmp_path, "train", "--resume", str(run))
    figures = result(tmp_path, "score", *words)
    assert figures["model"] == f"{run}/model.safetensors"
    assert figures["auroc"] > 0.95


# --- more rows than are learnt from -----------------------------------------------------------------------------------


def test_of_many_rows_some_are_learnt_and_all_are_scored_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_data, "MOST_ROWS", 128)
    x = columns(500)
    write_table(tmp_path / "t.csv", x)
    done = aekit(tmp_path, "score", "t.csv", "--json")
    assert "128 of 500 rows, taken all over the file, are enough to learn from" in done.stderr
    assert [int(row["row"]) for row in table(tmp_path / "t.scores.csv")] == list(range(500))
    assert highest(tmp_path / "t.scores.csv") == FAR
    order = np.random.default_rng(0).permutation(500)
    write_table(tmp_path / "other.csv", x[order])
    aekit(tmp_path, "score", "other.csv", "--model", "runs/ensemble-t-1", "--batch-size", "1")  # one by one
    one_by_one = scores_in(tmp_path / "other.scores.csv")
    np.testing.assert_allclose(scores_in(tmp_path / "t.scores.csv")[order], one_by_one, rtol=1e-4)


def test_rows_to_learn_from_are_taken_all_over_the_record() -> None:
    told: list[str] = []
    record = training_data._enough(record_of(waves(200), labels=np.arange(200)), 48, Talk(told.append))
    assert len(record) == 48
    assert "48 of 200 rows" in told[0]
    assert record.labels is not None
    assert record.labels.max() > 150
    np.testing.assert_array_equal(np.array(record.read(0, 48)), waves(200)[record.labels])
    few = record_of(waves(40))
    assert training_data._enough(few, 48, Talk(told.append)) is few
    assert len(told) == 1
