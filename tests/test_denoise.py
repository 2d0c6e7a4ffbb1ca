"""The denoise verb's gain: of what was written, against clean data that is checked."""

from pathlib import Path

import numpy as np
import pytest
from program import fails, result

from aekit import checkpoint
from aekit.batches import Normalisation
from aekit.models import build
from aekit.trained import TrainedModel


@pytest.fixture
def model(tmp_path: Path) -> tuple[str, str]:
    """The words that name a model for series of 16 points, with random weights; it lies outside the folder."""
    path = tmp_path / "model.safetensors"
    settings = {"hidden": [4], "latent": 8, "output": "none"}
    normalisation = Normalisation("standard", (0.0,), (3.0,), -9, 9)
    network = build("dense", (1, 16), settings)
    checkpoint.save(
        TrainedModel(network, "dense", "dense", settings, (1, 16), "series", None, normalisation, "mse"), path
    )
    (tmp_path / "work").mkdir()
    return "--model", str(path)


@pytest.mark.parametrize("points", [16, 50])
def test_the_gain_is_that_of_the_rounded_file(points: int, model: tuple[str, str], tmp_path: Path) -> None:
    rng, folder = np.random.default_rng(0), tmp_path / "work"
    noisy, clean = (rng.normal(scale=3, size=(9, points)).round().astype(np.int16) for _ in range(2))
    np.save(folder / "noisy.npy", noisy)
    np.save(folder / "clean.npy", clean)
    figures = result(folder, "denoise", "noisy.npy", "--clean", "clean.npy", *model, "--report", "r.html")
    cleaned = np.load(folder / "noisy.denoised.npy")
    assert cleaned.dtype == np.int16
    before, after = (np.square(rows - clean.astype(float)).sum(axis=1) for rows in (noisy, cleaned))
    assert figures["snr_gain_db"] == pytest.approx(float((10 * np.log10(before / after)).mean()), abs=1e-3)
    correlation = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(cleaned, clean, strict=True)])
    assert figures["correlation"] == pytest.approx(float(correlation), abs=1e-3)
    explained = 1 - (cleaned.astype(float) - clean).var(axis=1) / clean.var(axis=1)
    assert figures["explained_variance"] == pytest.approx(float(explained.mean()), abs=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_both_outputs_add_up_to_the_input(dtype: type, model: tuple[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "work"
    noisy = np.random.default_rng(0).integers(0, 200, (5, 16)).astype(dtype)
    np.save(folder / "noisy.npy", noisy)
    figures = result(folder, "denoise", "noisy.npy", "--noise-out", "noise.npy", *model)
    assert figures["noise_out"] == "noise.npy"
    cleaned, noise = np.load(folder / "noisy.denoised.npy"), np.load(folder / "noise.npy")
    assert noise.dtype.kind == "f"
    assert noise.min() < 0
    np.testing.assert_allclose(cleaned + noise, noisy, rtol=1e-6, atol=1e-4)


def test_two_outputs_of_one_name_are_refused(model: tuple[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "work"
    np.save(folder / "noisy.npy", np.zeros((3, 16)) + np.arange(16))
    fails(folder, "denoise", "noisy.npy", "-o", "a.npy", "--noise-out", "a.npy", *model, says="named for two outputs")


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_clean_data_with_gaps_is_refused(value: float, word: str, model: tuple[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "work"
    rows = np.random.default_rng(0).normal(size=(9, 16))
    np.save(folder / "noisy.npy", rows)
    rows[5, 3] = value
    np.save(folder / "clean.npy", rows)
    says = f"clean.npy: row 5, value 3 is {word}"
    fails(folder, "denoise", "noisy.npy", "--clean", "clean.npy", *model, "--report", "r.html", says=says)
