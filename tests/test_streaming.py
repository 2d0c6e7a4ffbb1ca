"""Training on rows that memory does not hold: every row once an epoch, whatever buffer, file, processes or fault."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from program import aekit, result
from test_ranks import metrics, torchrun

from aekit import checkpoint, streaming
from aekit.batches import CHUNK_BYTES, Rows, choose_normalisation, survey, surveyed, to_rows
from aekit.corruptions import parse_corruption
from aekit.models import MODELS, build
from aekit.recipes import recipe
from aekit.records import Record, gather, record_of, select
from aekit.streaming import Stream, free_memory, look_through
from aekit.training import TrainSettings, fit
from aekit.windows import windows_of
from aekit.workflows.common import Talk
from aekit.workflows.open_stream import buffer_of
from aekit.workflows.training_data import Parts, open_parts

CPU = torch.device("cpu")
SMALL = TrainSettings(epochs=3, batch_size=7, lr=1e-2)
WORDS = ("train", "denoising", "--data", "x.npy", "--batch-size", "33", "--hidden", "32", "--seed", "1")


def stream_of(record: Record, buffer: int, held: tuple[int, ...] = (), block: int = 1) -> Stream:
    raw = record.to_samples(record.read(0, len(record)))
    normalisation = choose_normalisation(raw, record.kind, "x")
    size = record.values_per_row * record.dtype.itemsize
    own = np.array(held, np.int64)
    return Stream(lambda rows: to_rows(raw[rows], normalisation), len(record), own, size, block, buffer, "", CPU)


def numbered(rows: int) -> Record:
    """Rows of two values, the first of which is their number."""
    return record_of(np.stack([np.arange(rows), np.ones(rows)], axis=1)[:, None].repeat(8, axis=2).astype(np.float32))


def waves(rows: int, points: int = 32) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The later the row the faster the wave, so that neighbours are alike."""
    rng = np.random.default_rng(0)
    t = np.arange(points) / points
    x = np.sin(2 * np.pi * (np.linspace(1, 4, rows)[:, None] * t + rng.random((rows, 1))))
    return (x + rng.normal(0, 0.1, x.shape)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(2, 90),
    batch=st.integers(1, 40),
    buffer=st.integers(1, 120),
    block=st.integers(1, 12),
    held=st.sets(st.integers(0, 89), max_size=20),
    seed=st.integers(0, 5),
)
def test_an_epoch_has_each_row_once_and_those_that_fill_the_last_batch(
    rows: int, batch: int, buffer: int, block: int, held: set[int], seed: int
) -> None:
    held = {row for row in held if row < rows - 1}
    stream = stream_of(numbered(rows), buffer, tuple(sorted(held)), block)
    batch = min(batch, len(stream))
    stream.prepare(batch)
    total = -(-len(stream) // batch)
    scale, offset = stream.rows.scale, stream.rows.offset

    def seen(first: int, last: int) -> list[list[int]]:
        found = []
        for index, _ in stream.batches(seed, batch, first, last):
            x = stream.rows.batch(index).x * scale + offset
            found.append(x[:, 0, 0].round().int().tolist())
        return found

    batches = seen(0, total)
    assert [len(b) for b in batches] == [batch] * total
    counts = np.bincount(np.concatenate(batches), minlength=rows)
    kept = np.delete(np.arange(rows), sorted(held))
    assert (counts[kept] >= 1).all()
    assert counts[kept].sum() == total * batch == counts.sum()
    assert (counts[kept] > 1).sum() <= batch - 1
    assert seen(total // 2, total) == batches[total // 2 :], "as a run that goes on there"


def test_rows_of_a_batch_come_from_all_over_the_file() -> None:
    """Neighbours in the file are as far apart in the epoch as chance has it; a second epoch has another order."""
    stream = stream_of(numbered(4000), 1000)
    stream.prepare(20)
    epochs = []
    for seed in (1, 2):
        rows = []
        for index, _ in stream.batches(seed, 20, 0, 200):
            x = stream.rows.batch(index).x * stream.rows.scale + stream.rows.offset
            rows.append(x[:, 0, 0].round().int().numpy())
        epochs.append(np.stack(rows))
    assert not np.array_equal(*epochs)
    for rows in epochs:
        spread = rows.std(axis=1).mean() / 4000
        assert spread == pytest.approx(12**-0.5, rel=0.1), "of a uniform draw"
        neighbours = np.abs(np.diff(np.sort(rows, axis=1), axis=1)) == 1
        assert neighbours.mean() < 0.03


def fitted(stream: Stream | Rows, resume: dict[str, Any] | None = None, stop: int | None = None) -> Any:
    torch.manual_seed(0)
    model = build("dense", (1, 32), {"hidden": (16,), "dropout": 0.2})
    states, epochs = [], []
    val = to_rows(waves(20)[:, None], choose_normalisation(waves(200)[:, None], "series", "x"))
    noise = parse_corruption(["gaussian:0.1"])

    def pause(state: Any) -> None:
        found = state()
        states.append({**found, "model": {k: v.clone() for k, v in found["model"].items()}})
        states[-1]["optimisers"] = [{k: v.clone() for k, v in each.items()} for each in found["optimisers"]]

    for epoch in fit(model, stream, val, SMALL, noise, resume, pause=pause):
        epochs.append(epoch.metrics)
        if epoch.number == stop:
            break
    return model, states, epochs


def test_a_run_goes_on_in_the_middle_of_an_epoch_to_the_same_bits() -> None:
    whole, states, epochs = fitted(stream_of(record_of(waves(200)), 50))
    assert [state["step"] % 29 for state in states] == [6, 12, 18, 24] * 3, "buffers are alike"
    for state in (states[1], states[6]):
        again, _, later = fitted(stream_of(record_of(waves(200)), 50), resume=state)
        for name, value in whole.state_dict().items():
            assert torch.equal(value, again.state_dict()[name]), name
        assert later[-1]["train_loss"] == epochs[-1]["train_loss"]
        assert later[0]["train_loss"] == epochs[len(epochs) - len(later)]["train_loss"]


def test_the_buffer_does_not_matter_to_what_is_learnt() -> None:
    errors = [fitted(stream_of(record_of(waves(200)), buffer))[2][-1]["val_error"] for buffer in (20, 50, 1000)]
    whole = to_rows(waves(200)[:, None], choose_normalisation(waves(200)[:, None], "series", "x"))
    assert errors == pytest.approx([fitted(whole)[2][-1]["val_error"]] * 3, rel=0.15)


def write_npy(folder: Path, x: Any) -> str:
    np.save(folder / "x.npy", x)
    return "x.npy"


def write_h5(folder: Path, x: Any) -> str:
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("x", data=x, chunks=(64, x.shape[1]), compression="gzip")
    return "x.h5"


def write_zarr(folder: Path, x: Any) -> str:
    zarr.create_array(str(folder / "x.zarr"), data=x, chunks=(50, x.shape[1]))
    return "x.zarr"


@pytest.mark.parametrize("write", [write_npy, write_h5, write_zarr])
def test_every_format_gives_the_same_training(tmp_path: Path, write: Any) -> None:
    """But for the order of the chunks, which are those of the file."""
    data = write(tmp_path, waves(700))
    words = ("train", "dense", "--data", data, "--epochs", "4", "--hidden", "16")
    streamed = result(tmp_path, *words, "--set", "buffer=100", "--out", "streamed")
    held = result(tmp_path, *words, "--out", "held")
    assert streamed["val_error"] == pytest.approx(held["val_error"], rel=0.1)
    assert streamed["pca_val_error"] == pytest.approx(held["pca_val_error"], rel=1e-3)
    assert (tmp_path / "streamed" / "report.html").exists()
    ours, theirs = (checkpoint.load(tmp_path / run / "model.safetensors") for run in ("streamed", "held"))
    assert ours.normalisation.offset == pytest.approx(theirs.normalisation.offset, abs=1e-6)
    assert ours.normalisation.scale == pytest.approx(theirs.normalisation.scale, rel=1e-6)


@pytest.mark.parametrize("piece", [CHUNK_BYTES, 700], ids=["at once", "in pieces"])
def test_labels_targets_and_picks_go_with_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(streaming, "CHUNK_BYTES", piece)
    number = np.arange(300)
    x = waves(300)
    x[:, 0] = number / 100
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("data", data=x, chunks=(60, 32))
        file.create_dataset("clean", data=x + 3)
        file.create_dataset("labels", data=number % 7)
        file.create_dataset("p_index", data=number % 11)
        file.create_dataset("s_index", data=number % 11 + 5)
    options = {"buffer": 64, "labels": "labels", "target": "clean"}
    parts = open_parts(str(tmp_path / "x.h5"), options, 0, recipe("acgan"), MODELS["acgan"], None, None, CPU, Talk())
    assert parts.stream is not None
    parts.stream.prepare(8)
    scale = parts.normalisation.scale[0]
    seen = []
    for index, _ in parts.stream.batches(0, 8, 0, 30):
        batch = parts.stream.rows.batch(index)
        own = ((batch.x[:, 0, 0] * batch.scale.ravel() + batch.offset.ravel()) * 100).round().long()
        seen += own.tolist()
        torch.testing.assert_close(
            (batch.target - batch.x) * scale, torch.full_like(batch.x, 3.0), rtol=1e-4, atol=1e-4
        )
        assert batch.label is not None
        assert batch.picks is not None
        names = np.array(parts.classes)[batch.label]
        assert names.astype(int).tolist() == (own % 7).tolist()
        assert batch.picks[:, 1].argmax(1).tolist() == (own % 11).tolist()
    assert sorted(seen) == np.delete(number, held_of(parts)).tolist()


KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "bytes": (np.random.default_rng(0).integers(0, 255, (130, 6, 6), np.uint8), {}),
    "own scales": (waves(130) * np.logspace(0, 4, 130)[:, None].astype(np.float32), {}),
    "channels": (waves(130).reshape(65, 2, 32), {}),
    "windows": (waves(130, 80), {"window": 32}),
    "windows of one row": (waves(1, 4000), {"window": 32}),
    "normal": (waves(130), {"normal": "1,2", "labels": "kind.npy"}),
    "held in a file": (waves(130), {"val": "other.npy"}),
}


@pytest.mark.parametrize("suffix", ["npy", "h5", "parquet", "folder"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_streamed_is_what_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, suffix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    x, options = KINDS[kind]
    np.save("kind.npy", np.arange(len(x)) % 4)
    np.save("other.npy", waves(20))
    data = f"x.{suffix}"
    if suffix == "npy":
        np.save(data, x)
    elif suffix == "h5":
        with h5py.File(data, "w") as file:
            file.create_dataset("x", data=x, chunks=(min(len(x), 9), *x.shape[1:]), compression="gzip")
    elif suffix == "parquet" and x.ndim == 2 and "window" not in options:
        columns = {f"point {i}": x[:, i] for i in range(x.shape[1])}
        pyarrow.parquet.write_table(pyarrow.table(columns), data, row_group_size=40)
        options = {**options, "labels": None, "normal": None} if kind == "normal" else options
    elif suffix == "folder" and kind != "normal":
        Path(data).mkdir()
        for i, part in enumerate(np.array_split(x, 3) if len(x) > 1 else [x]):
            np.save(Path(data, f"{i}.npy"), part)
    else:
        pytest.skip("the format has no such rows, or no labels beside them")
    options = {name: value for name, value in options.items() if value is not None}

    def opened(buffer: int) -> Parts:
        more = {**options, "buffer": buffer}
        return open_parts(data, more, 0, recipe("dense"), MODELS["dense"], None, None, CPU, Talk())

    held, streamed = opened(0), opened(20)
    stream = streamed.stream
    assert stream is not None
    assert len(stream) == len(held.train)
    stream.prepare(7)
    batches = stream.batches(0, 7, 0, -(-len(stream) // 7))
    rows = torch.cat([stream.rows.batch(index).x for index, _ in batches])
    wanted = held.train.batch(torch.arange(len(held.train))).x
    np.testing.assert_allclose(different(rows), different(wanted), rtol=1e-5, atol=2e-3)
    np.testing.assert_allclose(different(streamed.val.x), different(held.val.x), rtol=1e-5, atol=2e-3)


def different(x: torch.Tensor) -> Any:
    """Rows (N, values) in an order of their own, those that fill a batch up left out."""
    return np.unique(x.flatten(1).double().numpy().round(3), axis=0)


def held_of(parts: Parts) -> list[int]:
    return (parts.train_raw[parts.val_rows, 0, 0] * 100).round().astype(int).tolist()


def test_what_is_wrong_is_told_before_training(tmp_path: Path) -> None:
    x = waves(300)
    x[217, 5] = np.nan
    np.save(tmp_path / "x.npy", x)
    words = ("train", "dense", "--data", "x.npy", "--set", "buffer=50")
    assert "row 217, value 5 is NaN" in aekit(tmp_path, *words, code=1).stderr
    assert not (tmp_path / "runs").exists()
    np.save(tmp_path / "x.npy", waves(300))
    assert "looks at all rows" in aekit(tmp_path, "train", "ensemble", *words[2:], code=2).stderr
    assert "buffer=no" in aekit(tmp_path, *words[:-1], "buffer=no", code=2).stderr


def test_a_run_whose_data_changed_does_not_go_on(tmp_path: Path) -> None:
    x = waves(300)
    np.save(tmp_path / "x.npy", x)
    aekit(tmp_path, "train", "dense", "--data", "x.npy", "--epochs", "2", "--set", "buffer=50", "--out", "run")
    x[100, 3] += 1
    np.save(tmp_path / "x.npy", x)
    assert "is not the data" in aekit(tmp_path, "train", "--resume", "run", code=1).stderr


def test_where_memory_is_short_training_streams_of_its_own() -> None:
    told: list[str] = []
    small = record_of(waves(100))
    large = replace(small, shape=(10**9, 1000))  # 4 TB, none of which is read
    assert buffer_of(small, {}, CPU, Talk(told.append)) == 0
    assert not told
    rows = buffer_of(large, {}, CPU, Talk(told.append))
    assert 0 < rows * 4000 * 2 < free_memory(CPU)
    assert f"rather than {rows:,}" in told[0]
    assert buffer_of(large, {"buffer": 0}, CPU, Talk()) == 0


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("300000000\n")
    (tmp_path / "memory.stat").write_text("anon 100000000\nfile 5\n")
    assert free_memory(CPU) == 200_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(CPU) > 200_000_000


def test_two_processes_read_a_share_each_and_train_as_one_does(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", waves(1100))
    words = (*WORDS, "--epochs", "2", "--set", "buffer=200", "--corrupt", "gaussian:0.3")
    with torchrun(tmp_path, *words, "--out", "two") as two:
        aekit(tmp_path, *words, "--out", "one")
        told = two.communicate(timeout=100)[1]
    assert two.returncode == 0, told
    for a, b in zip(metrics(tmp_path / "two"), metrics(tmp_path / "one"), strict=True):
        for name in ("train_loss", "val_error"):
            assert float(a[name]) == pytest.approx(float(b[name]), rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    kind=st.sampled_from(["image", "series", "table"]),
    seed=st.integers(0, 99),
)
def test_a_survey_of_parts_is_that_of_all(sizes: list[int], kind: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    raw = rng.normal(3, 2, (sum(sizes), 1 if kind == "table" else 2, 5))
    raw[..., 0] = rng.integers(0, 2, raw.shape[:2])
    ends = np.cumsum(sizes)
    found = surveyed([survey(raw[b - n : b], kind, b - n) for n, b in zip(sizes, ends, strict=True)])
    whole = survey(raw, kind)
    assert (found.rows, found.low, found.high) == (whole.rows, whole.low, whole.high)
    np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(found.variance, whole.variance, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(found.flags, whole.flags)


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(st.integers(0, 999), max_size=40), block=st.integers(1, 300))
def test_rows_are_gathered_from_wherever_they_are(rows: list[int], block: int) -> None:
    array = np.arange(1000.0)[:, None].repeat(3, axis=1)
    record = replace(record_of(array), block=block)
    wanted = np.array(rows, np.int64)
    np.testing.assert_array_equal(gather(record, wanted), array[wanted])
    if rows:
        chosen = select(record, wanted)
        np.testing.assert_array_equal(chosen.read(1, len(rows)), array[wanted][1:])


@settings(max_examples=50, deadline=None)
@given(start=st.integers(0, 23), count=st.integers(0, 24))
def test_windows_are_cut_as_they_are_read(start: int, count: int) -> None:
    array = np.random.default_rng(0).normal(size=(6, 50))
    record = windows_of(record_of(array), (1, 13))
    stop = min(start + count, 24)
    whole = np.stack([row[s : s + 13] for row in array for s in (0, 13, 26, 37)])[:, None]
    np.testing.assert_array_equal(record.read(start, max(start, stop)), whole[start : max(start, stop)])
    np.testing.assert_array_equal(record.read(0, 24), whole)


def test_looking_through_tells_one_file_from_another() -> None:
    array = waves(100)
    found, digest = look_through(record_of(array), "series", lambda done: None)
    assert found.rows == 100
    assert found.low == array.min()
    array[70, 3] += 1e-6
    assert look_through(record_of(array), "series", lambda done: None)[1] != digest


@pytest.mark.slow
def test_a_killed_run_goes_on_in_its_epoch(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", waves(40_000))
    words = (*WORDS, "--epochs", "2", "--set", "buffer=2000")
    one = result(tmp_path, *words, "--out", "one")
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.Popen([sys.executable, "-m", "aekit", *words, "--out", "two"], cwd=tmp_path, env=env)
    while not (tmp_path / "two" / "resume.safetensors").exists():
        assert killed.poll() is None
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    assert checkpoint.load_resume(tmp_path / "two" / "resume.safetensors")["step"] % 1122
    two = result(tmp_path, "train", "--resume", "two")
    assert one["val_error"] == two["val_error"]
    assert one["train_loss"] == two["train_loss"]


@pytest.mark.slow
def test_a_fault_in_the_share_of_one_process_is_told_once(tmp_path: Path) -> None:
    x = np.zeros((40_000, 256), np.float32)
    x[35_000, 7] = np.nan
    np.save(tmp_path / "x.npy", x)
    two = torchrun(tmp_path, "train", "dense", "--data", "x.npy", "--set", "buffer=2000")
    told = [line for line in two.communicate(timeout=100)[1].splitlines() if line.startswith("aekit: ")]
    assert two.returncode == 1
    assert len(told) == 1
    assert "row 35000, value 7 is NaN" in told[0]
