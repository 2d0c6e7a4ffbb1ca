"""Zarr: any rows of chunks of any size, in both versions of the format, whole or absent, and nothing unpickled."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from format_files import fault, numbers, whole, write
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from program import QUICK, aekit, contents, fails, result, waves

from aekit.formats import default_out, files_in, open_record
from aekit.records import record_of

DTYPES = ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8")


def save(path: Path, arrays: dict[str, NDArray[Any]], version: int = 3, chunks: Any = "auto", **how: Any) -> Path:
    root = zarr.open_group(path, mode="w", zarr_format=version)  # type: ignore[arg-type]
    for name, values in arrays.items():
        kind: Any = str if values.dtype.kind == "U" else values.dtype
        root.create_array(name, shape=values.shape, dtype=kind, chunks=chunks, **how)[...] = values
    return path


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    dtype=st.sampled_from(DTYPES),
    shape=st.sampled_from([(1, 9), (7, 5), (20, 3), (4, 5, 7), (5, 6, 6, 3)]),
    chunk=st.integers(1, 8),
    version=st.sampled_from([2, 3]),
    spans=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=5),
)
def test_any_rows_of_any_chunks_are_those_that_were_written(
    dtype: str,
    shape: tuple[int, ...],
    chunk: int,
    version: int,
    spans: list[tuple[int, int]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    array, base = numbers(shape, dtype), tmp_path_factory.getbasetemp()
    record = open_record(save(base / "a.zarr", {"x": array}, version, tuple(min(chunk, n) for n in shape)))
    assert (record.shape, record.dtype) == (shape, np.dtype(dtype))
    for one, other in spans:
        start, stop = sorted((min(one, shape[0]), min(other, shape[0])))
        np.testing.assert_array_equal(record.read(start, stop), array[start:stop])
    np.testing.assert_array_equal(whole(record), array)
    np.testing.assert_array_equal(zarr.open_group(write(base / "b.zarr", array), mode="r")["x"][...], array)


def test_what_lies_beside_the_data_goes_along(tmp_path: Path) -> None:
    for labels in (np.array([3, 1, 3, 2]), np.array(["a", "b", "a", "é"])):
        record = record_of(numbers((4, 90)), labels=labels, sampling_rate=40.0)
        again = open_record(write(tmp_path / "a.zarr", whole(record), record))
        np.testing.assert_array_equal(again.labels, labels)
        assert again.sampling_rate == 40
        twice = open_record(write(tmp_path / "b.zarr", whole(again), again))
        np.testing.assert_array_equal(twice.labels, labels)
        np.testing.assert_array_equal(whole(twice), whole(record))


def test_arrays_are_named_and_one_alone_needs_no_name(tmp_path: Path) -> None:
    path = save(tmp_path / "a.zarr", {"deep/one": numbers((4, 9)), "two": numbers((5, 8))})
    assert open_record(f"{path}:deep/one").shape == (4, 9)
    assert "name one, as" in fault(path)
    root = zarr.create_array(tmp_path / "root.zarr", shape=(4, 9), dtype="f4", attributes={"fs": 50})
    root[...] = 1
    assert open_record(tmp_path / "root.zarr").sampling_rate == 50
    series = open_record(save(tmp_path / "line.zarr", {"x": numbers((300,))}))
    assert series.shape == (1, 300)
    assert zarr.open_group(write(tmp_path / "back.zarr", whole(series), series), mode="r")["x"].shape == (300,)


def test_shards_and_codecs_of_both_versions_are_read(tmp_path: Path) -> None:
    array = numbers((16, 6))
    sharded = save(tmp_path / "a.zarr", {"x": array}, chunks=(2, 6), shards=(8, 6))
    np.testing.assert_array_equal(whole(open_record(sharded)), array)
    for codec in (zarr.codecs.BloscCodec(), zarr.codecs.GzipCodec(), None):
        path = save(tmp_path / "b.zarr", {"x": array}, compressors=codec)
        np.testing.assert_array_equal(whole(open_record(path)), array)


def test_equal_arrays_give_equal_files_however_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aekit.formats.zarr.CHUNK_BYTES", 8 * 4 * 9)  # 8 rows
    array = numbers((30, 9))
    stores = [write(tmp_path / f"{rows}.zarr", array, rows=rows) for rows in (1, 7, 8, 30)]
    files = [{path.relative_to(store): data for path, data in contents(store).items()} for store in stores]
    assert all(one == files[0] for one in files)
    assert len(list((stores[0] / "x" / "c").iterdir())) == 4


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    """A chunk that would write a file when it is unpickled, and metadata that say it is packed so."""
    path, trap = save(tmp_path / "a.zarr", {"x": numbers((4, 9))}, 2), tmp_path / "trap"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (trap,))

    for role in ("compressor", "filters"):
        metadata = json.loads((path / "x" / ".zarray").read_text())
        pickled = {"id": "pickle", "protocol": 5}
        metadata |= {"compressor": None, "filters": None} | {role: pickled if role == "compressor" else [pickled]}
        (path / "x" / ".zarray").write_text(json.dumps(metadata))
        for chunk in path.glob("x/[0-9]*"):
            chunk.write_bytes(pickle.dumps(Trap()))
        assert "pickle" in fault(path)
    assert not trap.exists()


def test_codecs_that_are_not_known_to_be_safe_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.zarr", {"x": numbers((8, 9))}, chunks=(2, 9), shards=(4, 9))
    monkeypatch.setattr("aekit.formats.zarr.CODECS", {"bytes", "crc32c", "sharding"})
    assert "chunks packed by zstd" in fault(path)


def test_faults_are_told_in_a_line(tmp_path: Path) -> None:
    path = save(tmp_path / "a.zarr", {"x": numbers((4, 9))})
    chunk = next(p for p in (path / "x" / "c").rglob("*") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-5])
    fault(path)
    shutil.rmtree(path / "x" / "c")
    assert "nothing of it was ever written" in fault(path)
    (path / "x" / "zarr.json").write_text("{")
    fault(path)
    (tmp_path / "empty.zarr").mkdir()
    fault(tmp_path / "empty.zarr")
    assert "holds no array" in fault(save(tmp_path / "none.zarr", {}))
    large = save(tmp_path / "large.zarr", {"x": numbers((4, 9))})
    metadata = json.loads((large / "x" / "zarr.json").read_text())
    metadata["shape"] = metadata["chunk_grid"]["configuration"]["chunk_shape"] = [10_000_000, 9_000]
    (large / "x" / "zarr.json").write_text(json.dumps(metadata))
    assert "bytes each" in fault(large)


def declare(path: Path, name: str, shape: list[int]) -> None:
    """Says in the metadata that an array has another shape."""
    metadata = json.loads((path / name / "zarr.json").read_text())
    (path / name / "zarr.json").write_text(json.dumps(metadata | {"shape": shape}))


def test_no_more_is_taken_than_the_chunks_that_are_there_can_hold(tmp_path: Path) -> None:
    """A billion labels of numbers or of text, and rows of petabytes, of which a few chunks are there."""
    for i, labels in enumerate((np.arange(4), np.array(["a", "b", "a", "b"]))):
        path = save(tmp_path / f"{i}.zarr", {"x": numbers((4, 9)), "labels": labels})
        declare(path, "x", [10**9, 9])
        declare(path, "labels", [10**9])
        assert "labels: shape (1000000000,) is declared" in fault(path)
    for name, how in (("wide", {}), ("shards", {"shards": (4, 9)})):
        path = save(tmp_path / f"{name}.zarr", {"x": numbers((4, 9))}, chunks=(2, 9), **how)
        declare(path, "x", [4, 9 * 10**14])
        assert "is declared" in fault(path)


def test_rows_of_which_chunks_are_not_there_are_the_fill_value(tmp_path: Path) -> None:
    path = save(tmp_path / "a.zarr", {"x": np.ones((4, 9), np.float32)}, chunks=(2, 9))
    declare(path, "x", [10**9, 9])
    record = open_record(path)
    np.testing.assert_array_equal(record.read(2, 6), np.repeat([[1], [1], [0], [0]], 9, axis=1))
    np.testing.assert_array_equal(record.read(10**9 - 1, 10**9), np.zeros((1, 9)))


def test_a_store_is_replaced_with_force_and_other_folders_never(tmp_path: Path) -> None:
    np.save(tmp_path / "traces.npy", waves(40))
    aekit(tmp_path, "train", "conv1d", "--data", "traces.npy", *QUICK, "--quiet")
    words = ("denoise", "traces.npy", "-o", "clean.zarr", "--quiet")
    aekit(tmp_path, *words)
    fails(tmp_path, *words, says="exists already")
    first = contents(tmp_path / "clean.zarr")
    aekit(tmp_path, *words, "--force")
    assert contents(tmp_path / "clean.zarr") == first
    (tmp_path / "other.zarr").mkdir()
    (tmp_path / "other.zarr" / "notes.txt").write_text("mine")
    fails(tmp_path, "denoise", "traces.npy", "-o", "other.zarr", "--force", says="holds other things")


def test_verbs_take_zarr(tmp_path: Path) -> None:
    save(tmp_path / "t.zarr", {"x": waves(60), "label": np.arange(60) % 2})
    aekit(tmp_path, "train", "conv1d", "--data", "t.zarr", *QUICK, "--quiet")
    assert "auroc" in result(tmp_path, "score", "t.zarr", "--quiet")
    aekit(tmp_path, "embed", "t.zarr", "-o", "z.zarr", "--maps", "none", "--quiet")
    np.testing.assert_array_equal(open_record(tmp_path / "z.zarr").labels, np.arange(60) % 2)
    aekit(tmp_path, "denoise", "t.zarr", "--quiet")
    assert open_record(tmp_path / default_out("t.zarr", "denoised")).shape == (60, 64)
    for number in (1, 2):
        aekit(tmp_path, "denoise", "t.zarr", "-o", "parts.zarr", "--shard", f"{number}/2", "--quiet")
    aekit(tmp_path, "merge", "parts.zarr", "--quiet")
    alone = {
        path.relative_to(tmp_path / "t.denoised.zarr"): d for path, d in contents(tmp_path / "t.denoised.zarr").items()
    }
    merged = {path.relative_to(tmp_path / "parts.zarr"): d for path, d in contents(tmp_path / "parts.zarr").items()}
    assert merged == alone


def test_a_folder_of_stores_is_one_of_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / "all" / f"{name}.zarr", {"x": numbers((4, 9))})
    assert [path.name for path in files_in(tmp_path / "all").files] == ["a.zarr", "b.zarr"]
    assert files_in(tmp_path / "all" / "a.zarr").files == []


def test_chunks_that_are_not_there_are_told(tmp_path: Path) -> None:
    x = np.ones((40, 6), np.float32)
    zarr.create_array(str(tmp_path / "x.zarr"), data=x, chunks=(10, 6))
    assert not open_record(tmp_path / "x.zarr").notes
    (tmp_path / "x.zarr" / "c" / "2" / "0").unlink()
    record = open_record(tmp_path / "x.zarr")
    assert "1 of its 4 chunks are not there; their values are read as 0.0" in record.notes[0]
    assert record.read(20, 30).sum() == 0
