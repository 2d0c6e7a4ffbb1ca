"""The denoise verb's gain: of what was written, against clean data that is checked."""

from pathlib import Path

import numpy as np
import pytest
from program import aekit, fails, result
from scipy.signal import welch

from aekit import checkpoint
from aekit.batches import Normalisation
from aekit.models import build
from aekit.records import record_of
from aekit.trained import TrainedModel
from aekit.workflows import gain
from aekit.workflows.gain import Gain


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


def pulses(*places: int, height: float = -5.0, points: int = 200) -> np.ndarray:
    """Rows (len(places), 2, points) with a pulse in their second channel, and a lower one in the first."""
    rows = np.zeros((len(places), 2, points))
    rows[:, 0, 7] = 1.0
    rows[np.arange(len(places)), 1, places] = height
    return rows


def test_a_pulse_is_found_in_its_channel_within_two_percent_of_length_and_height() -> None:
    truth = pulses(50, 50, 50, 50)
    cleaned = np.concatenate([pulses(54, height=4.95), pulses(55), pulses(46, height=-4.89), pulses(150, height=5.1)])
    cleaned[:, 0, 20] = 9.0  # in a channel where the truth is low
    truth = np.concatenate([truth, np.zeros_like(truth[:1])])  # no pulse: such a row does not count
    cleaned = np.concatenate([cleaned, cleaned[:1]])
    sums = Gain(record_of(truth))
    sums.add(truth + 0.1, cleaned, truth)
    figures = sums.figures()
    assert figures["peak_located"] == 0.5  # 4 points off, either way
    assert figures["peak_amplitude"] == 0.75
    silent = Gain(record_of(truth[:1]))
    silent.add(truth[:1], 0 * cleaned[:1], pulses(0))
    assert silent.figures()["peak_located"] == 0  # zeros have no peak, at their first point neither
    images = Gain(record_of(np.zeros((2, 9, 9))))
    images.add(np.ones((2, 9, 9)), np.ones((2, 9, 9)), np.full((2, 9, 9), 2.0))
    assert not {"peak_located", "peak_amplitude", "spectra"} & set(images.figures())


def test_spectra_are_mean_densities_in_octaves_up_to_nyquist() -> None:
    rng = np.random.default_rng(0)
    noisy, cleaned, truth = rng.normal(size=(3, 4, 2, 1024))
    sums = Gain(record_of(truth, sampling_rate=100.0))
    for rows in (slice(3), slice(3, 4)):
        sums.add(noisy[rows], cleaned[rows], truth[rows])
    spectra = sums.figures()["spectra"]
    assert spectra["hertz"][-1] == pytest.approx(25 * np.sqrt(2), rel=1e-3)
    assert len(spectra["hertz"]) == len(spectra["noisy_db"]) == 9
    for name, x in (("noisy_db", noisy), ("cleaned_db", cleaned), ("clean_db", truth)):
        density = welch(x, 100.0, nperseg=1024)[1].mean(axis=(0, 1))
        octaves = [10 * np.log10(density[2**j : 2 ** (j + 1)].mean()) for j in range(9)]
        assert spectra[name] == pytest.approx(octaves, abs=0.006)


def test_a_sine_lies_in_its_octave_and_silence_has_no_decibels() -> None:
    t = np.arange(20_000)
    truth = np.sin(2 * np.pi * 0.05 * t)[None].astype(np.float32)
    sums = Gain(record_of(truth))
    sums.add(truth, np.zeros_like(truth), truth)
    spectra = sums.figures()["spectra"]
    centres = spectra["cycles_per_point"]
    assert len(centres) == 12
    highest = centres[int(np.argmax(spectra["clean_db"]))]
    assert highest / np.sqrt(2) <= 0.05 < highest * np.sqrt(2)
    assert spectra["cleaned_db"] == [None] * 12


def test_figures_do_not_depend_on_how_rows_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    truth = (1000 + 100 * rng.normal(size=(3, 5000, 2))).astype(np.int16)
    noisy, cleaned = (truth + (size * rng.normal(size=truth.shape)).astype(np.int16) for size in (50, 9))
    truth[0, 100, 0], cleaned[0, 4600, 0] = 5000, 6000
    record = record_of(truth, sampling_rate=100.0)
    assert record.channel_axis == 2
    whole, blocks, pieces = (Gain(record) for _ in range(3))
    whole.add(noisy, cleaned, truth)
    for part in (slice(0, 1), slice(1, 3)):
        pieces.add(noisy[part], cleaned[part], truth[part])
    monkeypatch.setattr(gain, "BLOCK", 64)
    blocks.segment, blocks.power = 64, np.zeros((3, 32))
    blocks.add(noisy, cleaned, truth)
    expected = {name: value for name, value in whole.figures().items() if name != "spectra"}
    for sums in (blocks, pieces):
        assert {name: value for name, value in sums.figures().items() if name != "spectra"} == expected
    few, many = (sums.figures()["spectra"]["noisy_db"] for sums in (blocks, whole))
    assert few[1:] == pytest.approx(many[-4:], abs=0.3)


def test_lines_leave_out_what_json_tells_as_a_table(model: tuple[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "work"
    rows = np.random.default_rng(0).normal(size=(9, 16))
    np.save(folder / "noisy.npy", rows)
    np.save(folder / "clean.npy", 0.5 * rows)
    words = ("denoise", "noisy.npy", "--clean", "clean.npy", *model, "--force")
    assert "noisy_db" in result(folder, *words)["spectra"]
    lines = aekit(folder, *words, "--report", "r.html").stderr
    assert "peak located" in lines
    assert "noisy_db" not in lines
    assert "noisy_db" not in (folder / "r.html").read_text()


def test_a_constant_truth_has_no_likeness(model: tuple[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "work"
    rows = np.random.default_rng(0).normal(size=(4, 16))
    np.save(folder / "noisy.npy", rows)
    np.save(folder / "clean.npy", np.full_like(rows, 2.0))
    figures = result(folder, "denoise", "noisy.npy", "--clean", "clean.npy", *model)
    assert "correlation" not in figures
    assert "snr_gain_db" in figures
