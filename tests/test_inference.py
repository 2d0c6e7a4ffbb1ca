"""Models on records: windows of long rows and their overlap, error maps, and chunks that change nothing."""

import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from program import aekit, waves
from torch import Tensor, nn

from aekit import batches, inference
from aekit.baseline import fit_pca
from aekit.batches import Normalisation
from aekit.errors import AekitError
from aekit.models import build
from aekit.objectives import zeros
from aekit.records import Array, Output, Record, record_of
from aekit.trained import TrainedModel

RUN = inference.Run(torch.device("cpu"), "fp32", 5)
AS_IT_IS = Normalisation("standard", (0.0,), (1.0,), -5, 5)


class Ramp(nn.Module):
    """Gives back each sample times a ramp from `low` to 1 along its last axis; a ramp of ones is the identity."""

    def __init__(self, low: float = 1.0, weight: Tensor | None = None):
        super().__init__()
        self.low, self.weight = low, weight

    def forward(self, x: Tensor) -> Output:
        x_hat = x * torch.linspace(self.low, 1, x.shape[-1])
        return Output(x_hat, None, zeros(x), weight=self.weight)


def trained(network: nn.Module, sample_shape: tuple[int, ...], **more: Any) -> TrainedModel:
    """A network as if it had been trained on series or images as they are."""
    kind = "series" if len(sample_shape) == 2 else "image"
    found = TrainedModel(network.eval(), "r", "m", {}, sample_shape, kind, None, AS_IT_IS, "mse")
    return replace(found, **more)


def conv(sample_shape: tuple[int, ...]) -> TrainedModel:
    """A convolutional model with random weights, and PCA beside it."""
    network = build("conv", sample_shape, {"hidden": (4,), "bottleneck": None, "latent": 3, "output": "none"})
    return trained(network, sample_shape, pca=fit_pca(torch.randn(20, *sample_shape), 2))


def normal(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def unwatched(done: int) -> None:
    """Nobody watches the progress."""


def denoise(model: TrainedModel, record: Record) -> Array:
    parts = inference.denoise(model, record, RUN, inference.Seen(), unwatched)
    return np.concatenate([part.copy() for part in parts])


def score(model: TrainedModel, record: Record) -> tuple[inference.Scores, Array]:
    """Scores, with PCA's, and the error map."""
    maps: list[Array] = []
    found = inference.score(model, record, RUN, unwatched, with_pca=True, on_map=lambda part: maps.append(part.copy()))
    return found, np.concatenate(maps)


def embed(model: TrainedModel, record: Record) -> Array:
    return np.concatenate(list(inference.embed(model, record, RUN, inference.Seen(), unwatched)))


# --- long rows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.uint16])
def test_the_identity_gives_long_rows_back(dtype: type) -> None:
    rows = (1000 * np.abs(normal(3, 2, 50))).astype(dtype)
    cleaned = denoise(trained(Ramp(), (2, 9)), record_of(rows))
    assert cleaned.dtype == (np.float64 if dtype == np.float64 else np.float32)
    np.testing.assert_allclose(cleaned, rows, rtol=1e-6, atol=1e-3)


class Louder(nn.Module):
    """Gives back each sample as many times louder as the mean of its points tells: windows contradict each other."""

    def forward(self, x: Tensor) -> Output:
        return Output(x * (1 + x.mean(dim=-1, keepdim=True)), None, zeros(x))


def test_no_seam_shows_where_windows_contradict_each_other() -> None:
    rng, window, t = np.random.default_rng(0), 100, np.arange(3000)
    row = (2 + np.sin(t / 170) + 0.01 * rng.normal(size=3000)).astype(np.float32)[None]
    steps = np.abs(np.diff(denoise(trained(Louder(), (1, window)), record_of(row))[0]))
    assert steps.max() < 2 * np.abs(np.diff(row[0])).max() * 4  # the gain is at most 4
    side_by_side = [part * (1 + part.mean()) for part in np.split(row[0], 30)]
    jumps = np.abs(np.diff(np.concatenate(side_by_side)))
    assert jumps.max() > 3 * steps.max()  # what the overlap prevents


def test_signals_shorter_than_a_sample_and_at_another_rate_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ramp, "any_length", True, raising=False)
    rows = np.sin(np.arange(70) / 9)[None].repeat(3, 0)
    model = trained(Ramp(), (1, 100), sampling_rate=100.0)
    np.testing.assert_allclose(denoise(model, record_of(rows, sampling_rate=100.0)), rows, rtol=1e-6)
    slower = denoise(model, record_of(rows, sampling_rate=40.0))
    assert slower.shape == rows.shape
    np.testing.assert_allclose(slower[:, 5:-5], rows[:, 5:-5], atol=0.02)
    with pytest.raises(AekitError, match="resample the file"):
        inference.score(model, record_of(np.zeros((3, 100)), sampling_rate=40.0), RUN, unwatched)
    with pytest.raises(AekitError, match="too far from it"):
        denoise(model, record_of(rows, sampling_rate=180e6))
    with pytest.raises(AekitError, match="takes 1x100"):
        denoise(model, replace(record_of(rows), kind="table"))  # whose columns have a meaning each
    monkeypatch.setattr(Ramp, "any_length", False)
    with pytest.raises(AekitError, match="takes 1x100"):
        denoise(model, record_of(rows, sampling_rate=100.0))


class Bells(nn.Module):
    """Finds picks: the probability of each kind is the first channel."""

    any_length = finds_picks = True

    def draws(self, x: Tensor, count: int) -> Tensor:
        return x[:, :1].clamp(0, 1).expand(-1, 3, -1).expand(count, -1, -1, -1)


@pytest.mark.parametrize(("rate", "points"), [(100.0, 700), (40.0, 280), (250.0, 1750), (100.0, 150)])
def test_probabilities_lie_at_the_points_of_the_file_whatever_its_rate(rate: float, points: int) -> None:
    seconds = np.arange(points) / rate
    bell = np.exp(-0.5 * ((seconds - 0.9) / 0.1) ** 2).astype(np.float32)
    record = record_of(np.stack([bell] * 3)[None], sampling_rate=rate)
    model = trained(Bells(), (3, 200), sampling_rate=100.0)
    ((row, mean, spread),) = inference.probabilities(model, record, RUN, 0, inference.Seen())
    assert row == 0
    assert mean.shape == spread.shape == (3, points)
    np.testing.assert_allclose(mean[1], bell, atol=0.02)
    assert float(spread.max()) < 1e-6


def test_short_rows_take_no_more_memory_for_being_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ramp, "any_length", True, raising=False)
    monkeypatch.setattr(batches, "CHUNK_BYTES", 1 << 20)
    rows = normal(5000, 20)
    model = trained(Ramp(), (1, 2000), sampling_rate=100.0)
    tracemalloc.start()
    for _ in inference.denoise(model, record_of(rows, sampling_rate=100.0), RUN, inference.Seen(), unwatched):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 << 20  # all rows filled are 40 MB


def test_pictures_larger_than_the_model_are_tiled() -> None:
    rows = normal(2, 3, 11, 14)
    np.testing.assert_allclose(denoise(trained(Ramp(), (3, 4, 6)), record_of(rows)), rows, rtol=1e-5, atol=1e-6)


def test_where_windows_overlap_their_weighted_mean_is_taken() -> None:
    rows = normal(2, 11)
    ramp, weight = np.linspace(0.5, 1, 4), np.sin(np.pi * np.array([1, 3, 5, 7]) / 8) ** 2
    expected = np.zeros((2, 11))
    for row in range(2):
        for t in range(11):
            inside = [start for start in (0, 2, 4, 6, 7) if start <= t < start + 4]  # half over each other, to the end
            given = sum(weight[t - start] * ramp[t - start] * rows[row, t] for start in inside)
            expected[row, t] = given / sum(weight[t - start] for start in inside)
    np.testing.assert_allclose(denoise(trained(Ramp(0.5), (1, 4)), record_of(rows)), expected, rtol=1e-5)


def test_long_rows_have_a_score_and_a_latent_for_each_window() -> None:
    rows, model = normal(3, 50), conv((1, 16))
    starts = [0, 16, 32, 34]
    windows = record_of(np.stack([row[start : start + 16] for row in rows for start in starts]))
    found, error = score(model, record_of(rows))
    expected, errors = score(model, windows)
    assert found.row.tolist() == np.repeat(np.arange(3), 4).tolist()
    assert found.start == [(start,) for start in starts] * 3
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-5)
    np.testing.assert_allclose(found.pca, expected.pca, rtol=1e-5)
    np.testing.assert_allclose(error[1, 16:32], errors[5], rtol=1e-4, atol=1e-6)
    assert inference.latent_shape(model, record_of(rows)) == (12, 3)
    np.testing.assert_allclose(embed(model, record_of(rows)), embed(model, windows), rtol=1e-4, atol=1e-6)


def test_a_long_row_takes_little_memory_beside_its_own() -> None:
    record, model, run = record_of(normal(1, 1 << 21)), trained(Ramp(), (1, 1024)), replace(RUN, batch_size=64)

    def peak(verb: Any) -> float:
        """Bytes, in multiples of the row's."""
        tracemalloc.start()
        verb()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most / (4 << 21)

    seen = inference.Seen()
    assert (
        peak(lambda: list(inference.denoise(model, record, run, seen, unwatched))) < 2.5
    )  # the result and its weights
    assert peak(lambda: inference.score(model, record, run, unwatched)) < 0.5


# --- error maps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("error", ["mse", "l1", "bce"])
def test_the_mean_of_a_rows_error_map_is_its_score(error: str, weighted: bool) -> None:
    weight = torch.tensor([0.0, 1.0, 2.0, 0.5] * 4) if weighted else None
    model = trained(Ramp(0.2, weight), (1, 16), error=error)
    found, errors = score(model, record_of(np.abs(np.tanh(normal(12, 16)))))
    assert found.score.min() > 0
    np.testing.assert_allclose(errors.mean(axis=1), found.score, rtol=1e-5)
    assert bool((errors[:, 0] == 0).all()) == weighted


# --- chunks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(23, 16), (23, 2, 70), (7, 20, 18, 3)], ids=str)
def test_chunks_change_nothing(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = normal(*shape)
    record = record_of(rows)
    window = {2: (1, 16), 3: (2, 16), 4: (3, 8, 8)}[len(shape)]
    model = conv(window)
    whole = (*score(model, record), embed(model, record), denoise(model, record))
    monkeypatch.setattr(batches, "CHUNK_BYTES", 3 * rows[0].nbytes)
    parts = (*score(model, record), embed(model, record), denoise(model, record))
    assert whole[0].start == parts[0].start
    assert whole[0].row.tolist() == parts[0].row.tolist()
    np.testing.assert_allclose(parts[0].score, whole[0].score, rtol=1e-5)
    np.testing.assert_allclose(parts[0].pca, whole[0].pca, rtol=1e-5)
    for part, all_at_once in zip(parts[1:], whole[1:], strict=True):
        np.testing.assert_allclose(part, all_at_once, rtol=1e-4, atol=1e-6)
    assert parts[1].shape == parts[3].shape == rows.shape


def test_values_that_cannot_be_scored_are_named_by_their_row(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = normal(12, 32)
    rows[7] = 3e38
    monkeypatch.setattr(batches, "CHUNK_BYTES", 3 * rows[0].nbytes)
    with pytest.raises(AekitError, match="row 7 holds values too far"):
        score(trained(Ramp(0.0), (1, 16)), record_of(rows))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
@pytest.mark.parametrize("verb", ["score", "embed", "denoise"])
def test_peak_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path, verb: str) -> None:
    code = (
        "from aekit.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    np.save(tmp_path / "small.npy", waves(4096, 512))
    aekit(
        tmp_path,
        "train",
        "stacked",
        "--data",
        "small.npy",
        "-o",
        "run",
        "--steps",
        "5",
        "--hidden",
        "32",
        "--latent",
        "8",
    )
    np.save(tmp_path / "big.npy", np.tile(waves(4096, 512), (64, 1)))  # 512 MiB
    peaks = []
    for name in ("small", "big"):
        words = [verb, f"{name}.npy", "--model", "run", "--force", "--quiet"]
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        peaks.append(float(done.stdout) / 2**10)  # not ru_maxrss, which starts from the peak of this process
    assert peaks[1] - peaks[0] < 150, peaks  # MiB; 64 of them are buffers, 20 a row's number, score, p-value and text


# --- on a GPU ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 12, 60)])
def test_a_gpu_gives_what_a_cpu_gives(shape: tuple[int, ...]) -> None:
    """Enough batches that all but the first three are replayed, and a last one that is not full."""
    model, record = conv((1, 16, 16) if shape[1] == 16 else (1, 12, 12)), record_of(normal(203, *shape[1:]))
    on_cpu = [score(model, record)[0].score, denoise(model, record), embed(model, record)]
    model.network.cuda()
    run = inference.Run(torch.device("cuda"), "fp32", 5)
    seen = inference.Seen()
    on_gpu = [
        inference.score(model, record, run, unwatched).score,
        np.concatenate([part.copy() for part in inference.denoise(model, record, run, seen, unwatched)]),
        np.concatenate(list(inference.embed(model, record, run, seen, unwatched))),
    ]
    assert not seen.not_recorded
    for got, expected in zip(on_gpu, on_cpu, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_a_model_of_single_channels_takes_any_number_of_them() -> None:
    """Each window of each channel goes through alone, normalised by itself."""
    network = build("deepdenoiser", (1, 60), {"hidden": (4, 8), "output": "none"})
    model = trained(network, (1, 60), normalisation=Normalisation("sample", (0.0,), (1.0,), -5, 5))
    rows = normal(3, 4, 100) * np.array([1, 10, 100, 1000], np.float32)[:, None]
    together = denoise(model, record_of(rows))
    for channel in range(4):
        alone = denoise(model, record_of(rows[:, channel]))
        np.testing.assert_allclose(together[:, channel], alone, rtol=1e-4, atol=1e-4 * 10**channel)
