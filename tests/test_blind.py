"""denoise without a model: learns from the file itself, keeps the run for that file alone, and refuses shared noise."""

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from program import aekit, contents, fails, result
from scipy.signal import lfilter

from aekit import checkpoint
from aekit.datasets import open_dataset
from aekit.recipes import RECIPES

train_options = importlib.import_module("aekit.workflows.train_options")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training of seconds: of a small network, in 150 steps."""
    small = replace(RECIPES["blind-spot"], settings={"width": 8, "hidden": 16}, points=(1024, 150_000))
    monkeypatch.setitem(RECIPES, "blind-spot", small)
    monkeypatch.setattr(train_options, "LEAST_STEPS", 150)


def waves(rows: int = 200, points: int = 64, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.sin(2 * np.pi * (2 * np.arange(points) / points + rng.random((rows, 1)))).astype(np.float32)


def noise(shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_a_file_is_denoised_in_an_empty_folder_and_its_run_serves_it_alone(tmp_path: Path) -> None:
    clean = waves()
    np.save(tmp_path / "clean.npy", clean)
    np.save(tmp_path / "traces.npy", clean + 0.5 * noise(clean.shape))
    done = aekit(tmp_path, "denoise", "traces.npy", "-o", "clean-1.npy")
    assert "learns from the noisy rows alone" in done.stderr
    assert "independent from point to point" in done.stderr
    cleaned = np.load(tmp_path / "clean-1.npy")
    assert cleaned.dtype == np.float32
    assert np.square(cleaned - clean).mean() < 0.4 * 0.25
    run = tmp_path / "runs" / "blind-spot-traces-1"
    assert {file.name for file in run.iterdir()} >= {"config.json", "metrics.csv", "model.safetensors", "report.html"}
    trained = checkpoint.load(run / "model.safetensors")
    assert trained.own_input

    words = ("denoise", "traces.npy", "-o", "clean-2.npy", "--clean", "clean.npy", "--report", "r.html")
    figures = result(tmp_path, *words)
    assert figures["model"] == "runs/blind-spot-traces-1/model.safetensors"
    assert figures["noise_std"] == pytest.approx(0.5, rel=0.3)  # after so few steps
    assert figures["left_by_far"] < 1.2 * figures["left_by_near"]
    assert abs(figures["noise_correlation"]) < 0.2
    assert figures["snr_gain_db"] > 4
    np.testing.assert_array_equal(np.load(tmp_path / "clean-2.npy"), cleaned)

    np.save(tmp_path / "other.npy", clean + 0.5 * noise(clean.shape, seed=2))
    assert "runs/blind-spot-other-1" in result(tmp_path, "denoise", "other.npy")["model"]
    assert "runs/blind-spot-other-2" in result(tmp_path, "denoise", "other.npy", "--fresh", "--force")["model"]


def test_noise_that_neighbours_share_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    shared = lfilter([1], [1, -0.9], noise((200, 64)), axis=1) * np.sqrt(1 - 0.81)
    np.save(tmp_path / "traces.npy", (waves() + 0.5 * shared).astype(np.float32))
    fails(tmp_path, "denoise", "traces.npy", "-o", "out.npy", "--report", "r.html", says="not independent from point")
    (tmp_path / "runs").mkdir()
    before = contents(tmp_path)
    assert "--corrupt" in aekit(tmp_path, "denoise", "traces.npy", code=1).stderr
    assert contents(tmp_path) == before


def test_digits_gain_from_themselves(tmp_path: Path) -> None:
    record = open_dataset("digits", "train")
    assert record is not None
    clean = np.array(record.read(0, 1000)) / 16
    np.save(tmp_path / "noisy.npy", clean + 0.25 * noise(clean.shape))
    np.save(tmp_path / "clean.npy", clean)
    figures = result(tmp_path, "denoise", "noisy.npy", "--clean", "clean.npy")
    assert figures["snr_gain_db"] > 1
    assert figures["noise_std"] == pytest.approx(0.25, rel=0.3)


def test_stripes_are_no_white_noise(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stripes = np.zeros((60, 24, 24)) + rng.normal(size=(60, 24, 1))
    squares = np.zeros((60, 24, 24))
    squares[:, 8:16, 8:16] = 5
    np.save(tmp_path / "x.npy", (squares + stripes).astype(np.float32))
    fails(tmp_path, "denoise", "x.npy", says="not independent from point")


def test_one_record_alone_and_whole_numbers_keep_their_type(tmp_path: Path) -> None:
    clean = 1000 * np.sin(np.arange(4000) / 20)[None]
    np.save(tmp_path / "x.npy", (clean + 300 * noise(clean.shape)).round().astype(np.int16))
    np.save(tmp_path / "clean.npy", clean.round().astype(np.int16))
    figures = result(tmp_path, "denoise", "x.npy", "--clean", "clean.npy")
    assert np.load(tmp_path / "x.denoised.npy").dtype == np.int16
    assert figures["snr_gain_db"] > 1
    assert "blind-spot-x-1" in result(tmp_path, "denoise", "x.npy", "--force")["model"]


def test_a_folder_learns_one_model_from_all_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    for i in range(3):
        np.save(tmp_path / "archive" / f"{i}.npy", waves(60, seed=i) + 0.5 * noise((60, 64), seed=9 + i))
    figures = result(tmp_path, "denoise", "archive")
    assert figures["files"] == 3
    assert [run.name for run in (tmp_path / "runs").iterdir()] == ["blind-spot-archive-1"]
    assert result(tmp_path, "denoise", "archive", "--force")["model"] == figures["model"]


def test_tables_and_fresh_with_a_mask_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["a,b,c", *(",".join(map(str, row)) for row in rng.normal(size=(30, 3)))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    fails(tmp_path, "denoise", "t.csv", says="no model under runs/ fits")
    fails(tmp_path, "denoise", "t.csv", "--fresh", says="columns are no neighbours")
    np.save(tmp_path / "x.npy", waves())
    assert "--fresh" in aekit(tmp_path, "denoise", "x.npy", "--fresh", "--mask", "nan", code=2).stderr
