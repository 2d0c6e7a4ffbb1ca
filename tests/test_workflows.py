"""What the verbs decide by themselves: which model, which rows are anomalous, what a resumed run must find again."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from program import QUICK, aekit, fails, result, table, waves

from aekit import checkpoint, kernels, workflows
from aekit.trained import TrainedModel


def train(folder: Path, run: str, data: str, *words: str, recipe: str = "stacked") -> TrainedModel:
    aekit(folder, "train", recipe, "--data", data, "-o", f"runs/{run}", *QUICK, *words)
    return checkpoint.load(folder / "runs" / run / "model.safetensors")


def age(folder: Path, run: str, seconds: int) -> None:
    """Makes a run that many seconds old."""
    path = folder / "runs" / run / "model.safetensors"
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


# --- which model ------------------------------------------------------------------------------------------------------


def test_the_newest_run_that_fits_is_taken(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", waves())
    np.save(tmp_path / "short.npy", waves(points=32))
    windows = ("--set", "window=32")
    runs = {"short": ("short.npy",), "newer": ("x.npy",), "older": ("x.npy",), "windows": ("x.npy", *windows)}
    for i, (run, words) in enumerate(runs.items()):
        train(tmp_path, run, *words)
        age(tmp_path, run, 100 * i)
    for run in ("newer", "older", "windows"):  # rows are cut for a model of windows, not for one of shorter rows
        assert f"runs/{run}" in aekit(tmp_path, "score", "x.npy", "--force").stderr
        shutil.rmtree(tmp_path / "runs" / run)
    assert len(table(tmp_path / "x.scores.csv")) == 240  # two windows a row
    fails(tmp_path, "embed", "x.npy", says="no model under runs/ fits")
    done = aekit(tmp_path, "score", "x.npy", "--force", "--model", "runs/short")
    assert "rows of 64 are cut into windows of 32" in done.stderr


def test_a_run_that_did_not_end_is_passed_over_by_score(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", waves())
    train(tmp_path, "whole", "x.npy")
    age(tmp_path, "whole", 100)
    unfinished = train(tmp_path, "broken", "x.npy")
    unfinished.calibration = None
    checkpoint.save(unfinished, tmp_path / "runs" / "broken" / "model.safetensors")
    assert "runs/whole" in aekit(tmp_path, "score", "x.npy").stderr
    assert "runs/broken" in aekit(tmp_path, "denoise", "x.npy").stderr
    fails(tmp_path, "score", "x.npy", "-o", "o.csv", "--model", "runs/broken", says="its training did not end")


def test_the_commands_that_are_named_can_be_typed(tmp_path: Path) -> None:
    fails(tmp_path, "embed", "digits", says="`aekit train conv --data digits`, then `aekit embed digits` again")


def test_columns_of_a_table_are_told_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    for name, values in (("abc", x), ("cba", x[:, ::-1]), ("abd", x)):
        np.savetxt(tmp_path / f"{name}.csv", values, delimiter=",", header=",".join(name), comments="")
    np.save(tmp_path / "series.npy", rng.normal(size=(60, 3)))
    assert train(tmp_path, "abc", "abc.csv").columns == ("a", "b", "c")
    aekit(tmp_path, "score", "abc.csv")
    aekit(tmp_path, "score", "cba.csv")  # in the model's order
    assert (tmp_path / "abc.scores.csv").read_text() == (tmp_path / "cba.scores.csv").read_text()
    fails(tmp_path, "denoise", "cba.csv", "--model", "runs/abc", says="its columns are c, b, a, the model")
    fails(tmp_path, "score", "abd.csv", "--model", "runs/abc", says="its columns are a, b, d, the model")
    fails(tmp_path, "embed", "abd.csv", says="no model under runs/ fits")
    fails(tmp_path, "embed", "series.npy", says="no model under runs/ fits")


def test_a_run_without_a_model_says_how_to_get_one(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    fails(tmp_path, "score", "digits", "--model", "run", says="go on with: aekit train --resume run")


def test_an_output_never_takes_the_place_of_its_input(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", waves())
    train(tmp_path, "run", "x.npy")
    fails(tmp_path, "denoise", "x.npy", "-o", "x.npy", "--force", says="is the input itself")


# --- which rows are anomalous -----------------------------------------------------------------------------------------


def test_labels_0_and_1_mean_normal_and_anomalous_whatever_the_model_learnt(tmp_path: Path) -> None:
    noise = 3 * np.random.default_rng(2).normal(size=(40, 64))
    x = np.concatenate([waves(), noise])
    np.savez(tmp_path / "classes.npz", x=x, y=np.repeat([1, 2], [120, 40]))  # 1 is normal, as in ECG5000
    np.savez(tmp_path / "flags.npz", x=x, y=np.repeat([0, 1], [120, 40]))  # 1 is anomalous
    trained = train(tmp_path, "run", "classes.npz", "--normal", "1", recipe="conv1d")
    assert (trained.classes, trained.normal) == (("1", "2"), ("1",))
    for name, said in (("classes", "anomalies by label: all but 1"), ("flags", "anomalies by label: 1 ")):
        done = aekit(tmp_path, "score", f"{name}.npz", "--json")
        assert said in done.stderr
        assert json.loads(done.stdout)["auroc"] > 0.95
    assert result(tmp_path, "score", "flags.npz", "--normal", "1", "--force")["auroc"] < 0.05


def test_training_data_in_order_of_its_classes_is_known_whole(tmp_path: Path) -> None:
    """The mixture and PCA are fitted to rows from all over the file."""
    levels = np.repeat(np.arange(6), 4000)
    x = (levels[:, None] + 0.01 * np.random.default_rng(0).normal(size=(24_000, 8))).astype(np.float32)
    np.save(tmp_path / "sorted.npy", x)
    train(tmp_path, "run", "sorted.npy", "--activation", "none", "--latent", "2", "--hidden", "4", "--lr", "0.01")
    aekit(tmp_path, "generate", "-n", "300", "-o", "new.npy")
    assert set(np.load(tmp_path / "new.npy").mean(axis=1).round().clip(0, 5)) == set(range(6))


# --- data of a run ----------------------------------------------------------------------------------------------------


def test_a_file_of_validation_rows_is_held_out(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", waves())
    np.save(tmp_path / "val.npy", waves(30, seed=1))
    train(tmp_path, "run", "x.npy", "--val", "val.npy")
    assert result(tmp_path, "score", "x.npy")["calibration_rows"] == 30
    np.save(tmp_path / "wide.npy", np.ones((5, 2, 64)))
    fails(tmp_path, "train", "stacked", "--data", "x.npy", "--val", "wide.npy", says="a row has shape 2x64")
    np.save(tmp_path / "pictures.npy", np.random.default_rng(0).random((20, 8, 8)))
    np.save(tmp_path / "larger.npy", np.random.default_rng(0).random((20, 9, 9)))
    fails(tmp_path, "train", "conv", "--data", "pictures.npy", "--val", "larger.npy", says="1x9x9, the training data")


def test_targets_teach_what_the_input_does_not_show(tmp_path: Path) -> None:
    x = waves(400)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "clean.npy", -x)
    aekit(tmp_path, "train", "stacked", "--data", "x.npy", "--target", "clean.npy", "--epochs", "30")
    result(tmp_path, "denoise", "x.npy", "-o", "out.npy")
    assert np.corrcoef(np.load(tmp_path / "out.npy").ravel(), -x.ravel())[0, 1] > 0.9


def test_resume_refuses_what_would_give_other_weights(tmp_path: Path) -> None:
    x = waves(2000, 16)
    np.save(tmp_path / "x.npy", x)
    train(tmp_path, "run", "x.npy")
    fails(tmp_path, "train", "--resume", "runs/run", "--kernels", "torch", says="now: torch; say --kernels auto")
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        fails(tmp_path, "train", "--resume", "runs/run", says=f"set OMP_NUM_THREADS={threads}")
    finally:
        torch.set_num_threads(threads)
    x[1000, 3] += 1
    np.save(tmp_path / "x.npy", x)
    fails(tmp_path, "train", "--resume", "runs/run", says="not the data this run was trained on")


@pytest.mark.parametrize("name", ["report.html", "thesis.txt"])
def test_a_folder_that_is_no_run_is_not_trained_into(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "x.npy", waves())
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / name).write_text("precious")
    fails(tmp_path, "train", "stacked", "--data", "x.npy", "-o", "thesis", "--force", says="holds other things")


def test_the_report_may_be_left_out(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", waves())
    run = tmp_path / "run"
    workflows.train("stacked", str(tmp_path / "x.npy"), {"steps": 2}, str(run), report=False)
    assert {path.name for path in run.iterdir()} == {
        "model.safetensors",
        "resume.safetensors",
        "config.json",
        "metrics.csv",
    }


def test_outputs_that_cannot_all_be_placed_are_not_placed_at_all(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", waves())
    train(tmp_path, "run", "x.npy")
    (tmp_path / "o.npy").write_text("old")
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "thesis.txt").write_text("precious")
    fails(tmp_path, "denoise", "x.npy", "-o", "o.npy", "--report", "page", "--force", says="holds other things")


@pytest.fixture
def own_kernels() -> Iterator[None]:
    """Leaves the choice of kernels as it was."""
    yield
    kernels.use("auto")


@pytest.mark.usefixtures("own_kernels")
def test_kernels_of_triton_and_torch_give_the_same_scores(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", waves(40))
    train(tmp_path, "run", "x.npy")
    scores = {}
    for choice in ("torch", "triton") if kernels.why_no_triton() == "" else ("torch", "auto"):
        aekit(tmp_path, "score", "x.npy", "--kernels", choice, "--force")
        scores[choice] = [float(row["score"]) for row in table(tmp_path / "x.scores.csv")]
    first, second = scores.values()
    np.testing.assert_allclose(first, second, rtol=1e-5)


def test_a_run_stopped_before_its_first_epoch_starts_from_the_same_model_again(tmp_path: Path) -> None:
    words = ("--data", "digits", "--epochs", "2", "--hidden", "16")
    aekit(tmp_path, "train", "dense", *words, "--out", "first")
    whole = result(tmp_path, "train", "dense", *words, "--from", "first", "--out", "whole")
    (tmp_path / "stopped").mkdir()
    shutil.copy(tmp_path / "whole" / "config.json", tmp_path / "stopped")
    again = result(tmp_path, "train", "--resume", "stopped")
    assert again["val_error"] == whole["val_error"]
