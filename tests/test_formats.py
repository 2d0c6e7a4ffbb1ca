"""Every format gives back what was written into it; which array is data and which labels is found out alike in all."""

import os
import tracemalloc
import wave
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from format_files import numbers, whole, write
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from aekit.formats import open_record
from aekit.records import record_of

NUMBERS = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
FLOATS = ["f4", "f8"]
HOLDS = {  # dtypes and numbers of axes by ending
    ".npy": (NUMBERS, (2, 3, 4)),
    ".npz": (NUMBERS, (2, 3, 4)),
    ".h5": (NUMBERS, (2, 3, 4)),
    ".safetensors": (NUMBERS, (2, 3, 4)),
    ".idx": (["u1", "i1", "i2", "i4", *FLOATS], (2, 3, 4)),
    ".idx.gz": (["u1", "i2", "f4"], (2, 3)),
    ".csv": (["u1", "i4", *FLOATS], (2,)),
    ".tsv.gz": (["i4", *FLOATS], (2,)),
    ".txt": (FLOATS, (2,)),
    ".arff": (["i4", *FLOATS], (2,)),
}
real_data = pytest.mark.skipif("AEKIT_DATA" not in os.environ, reason="AEKIT_DATA names no folder of real data")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


@pytest.mark.parametrize("ending", HOLDS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_what_is_written_is_read(ending: str, folder: Path, data: st.DataObject) -> None:
    dtypes, axes = HOLDS[ending]
    shape = tuple(data.draw(st.integers(1, 7)) for _ in range(data.draw(st.sampled_from(axes))))
    array = numbers(shape, data.draw(st.sampled_from(dtypes)), seed=data.draw(st.integers(0, 9)))
    record = open_record(write(folder / f"a{ending}", array))
    if len(axes) == 1 and shape[1] == 1:  # a column of text is one series
        array, shape = array.T, (1, shape[0])
    assert record.shape == shape
    assert record.dtype == (array.dtype if len(axes) > 1 else np.float64)
    np.testing.assert_array_equal(whole(record).astype(array.dtype), array)
    start = data.draw(st.integers(0, shape[0]))
    stop = data.draw(st.integers(start, shape[0] + 2))
    np.testing.assert_array_equal(record.read(start, stop).astype(array.dtype), array[start:stop])


@pytest.mark.parametrize("bits", [8, 16, 24, 32, -32, -64])
@settings(max_examples=15, deadline=None, derandomize=True)
@given(channels=st.integers(1, 4), count=st.integers(1, 50), seed=st.integers(0, 9))
def test_sound_survives(bits: int, folder: Path, channels: int, count: int, seed: int) -> None:
    dtype = {8: "u1", 16: "i2", 24: "i4", 32: "i4", -32: "f4", -64: "f8"}[bits]
    array = numbers((1, channels, count), dtype, seed)
    if bits == 24:
        array = array.view("i4") >> 8
    path = folder / "a.wav"
    if bits > 0:  # as Python's own writer lays it out
        frames = array[0].T.astype(array.dtype.newbyteorder("<"))
        raw = np.ascontiguousarray(frames).view("u1").reshape(-1, frames.itemsize)[:, : bits // 8].tobytes()
        with wave.open(str(path), "wb") as f:
            f.setparams((channels, bits // 8, 100, 0, "NONE", ""))
            f.writeframes(raw)
    else:
        write(path, array, replace(record_of(array), sampling_rate=100.0, channel_axis=1))
    record = open_record(path)
    np.testing.assert_array_equal(whole(record), array)
    assert (record.kind, record.channel_axis, record.sampling_rate) == ("series", 1, 100.0)
    again = open_record(write(folder / "b.wav", array, record))
    np.testing.assert_array_equal(whole(again), array)
    if bits > 0:
        with wave.open(str(folder / "b.wav")) as f:
            assert (f.getsampwidth(), f.getnframes(), f.readframes(count)) == (bits // 8, count, raw)


def test_special_floats_pass(folder: Path) -> None:
    array = np.array([[np.nan, np.inf, -np.inf, 1e-300], [0.1, -0.0, 1 / 3, 5e-324]])
    for ending in (".npy", ".csv", ".h5", ".arff", ".idx"):
        np.testing.assert_array_equal(whole(open_record(write(folder / f"s{ending}", array))), array)


@pytest.mark.parametrize("ending", [".npy", ".npz", ".h5", ".safetensors", ".idx"])
def test_one_axis_is_one_row_and_written_back_as_one_axis(ending: str, folder: Path) -> None:
    array = numbers((50,))
    np.save(folder / "long.npy", array)
    record = open_record(folder / "long.npy")
    assert (record.shape, record.kind) == ((1, 50), "series")
    again = open_record(write(folder / f"long{ending}", whole(record), record))
    assert again.shape == (1, 50)
    assert again.header.flat
    np.testing.assert_array_equal(whole(again)[0], array)


@pytest.mark.parametrize("dtype", [">f4", ">i2", "<f8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_byte_orders_memory_orders_and_bools_of_npy(dtype: str, order: str, folder: Path) -> None:
    array = np.asarray(numbers((6, 3, 5)) > 0 if dtype == "?" else numbers((6, 3, 5)) * 50, dtype, order=order)
    np.save(folder / "o.npy", array)
    np.savez(folder / "o.npz", x=array)
    np.savez_compressed(folder / "oc.npz", x=array)
    for path in ("o.npy", "o.npz", "oc.npz"):
        record = open_record(folder / path)
        assert record.dtype == record.read(0, 1).dtype == (np.uint8 if dtype == "?" else array.dtype.newbyteorder("="))
        assert record.dtype.isnative
        np.testing.assert_array_equal(record.read(2, 5), array[2:5])


@pytest.mark.parametrize("layout", [{}, {"chunks": (4, 3)}, {"chunks": (3, 10), "compression": "gzip"}])
def test_layouts_of_hdf5(layout: dict[str, object], folder: Path) -> None:
    array = numbers((20, 10), "i2")
    with h5py.File(folder / "l.h5", "w") as f:
        f.create_dataset("deep/er/x", data=array.astype(">i2"), **layout)
        f["deep/er/y"] = ["a", "b"] * 10
        f["deep/er/x"].attrs["sampling_rate"] = 50
    record = open_record(f"{folder}/l.h5:deep/er/x")
    assert (record.shape, record.dtype, record.sampling_rate) == ((20, 10), np.dtype("i2"), 50.0)
    np.testing.assert_array_equal(record.read(5, 18), array[5:18])
    assert record.labels.tolist() == ["a", "b"] * 10
    back = write(folder / "back.h5", whole(record), record)
    again = open_record(back)
    assert (again.header.data, again.sampling_rate, again.labels.tolist()) == ("deep/er/x", 50.0, ["a", "b"] * 10)


def test_files_of_other_writers_and_for_other_readers(folder: Path) -> None:
    array = numbers((5, 4))
    save_file({"x": array, "y": np.arange(5)}, folder / "o.safetensors", metadata={"sampling_rate": "20"})
    record = open_record(folder / "o.safetensors")
    assert (record.sampling_rate, record.labels.tolist()) == (20.0, [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(whole(record), array)
    np.testing.assert_array_equal(load_file(write(folder / "p.safetensors", array, record))["x"], array)
    with np.load(write(folder / "p.npz", array, record)) as arrays:
        np.testing.assert_array_equal(arrays["x"], array)
        assert (arrays["y"].tolist(), arrays["sampling_rate"]) == ([0, 1, 2, 3, 4], 20.0)
    np.testing.assert_array_equal(np.load(write(folder / "p.npy", array)), array)


@pytest.mark.parametrize("ending", [".npy", ".h5", ".idx", ".safetensors"])
def test_reading_takes_one_buffer(ending: str, folder: Path) -> None:
    array = numbers((2000, 1000))
    record = open_record(write(folder / f"big{ending}", array, rows=500))
    first = record.read(0, 100)
    tracemalloc.start()
    for start in range(0, 2000, 100):
        rows = record.read(start, start + 100)
        assert np.shares_memory(rows, first)
        np.testing.assert_array_equal(rows[0], array[start])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


# --- which array is what


def test_the_data_is_the_only_array_or_goes_by_its_name(folder: Path) -> None:
    x, other = numbers((4, 6)), numbers((3, 6))
    np.savez(folder / "only.npz", waves=x, y=np.arange(4), fs=5.0, names=np.array(list("abcd")))
    record = open_record(folder / "only.npz")
    assert (record.shape, record.labels.tolist(), record.sampling_rate) == ((4, 6), [0, 1, 2, 3], 5.0)
    np.savez(folder / "named.npz", other=other, traces=x)
    assert open_record(folder / "named.npz").shape == (4, 6)
    assert open_record(f"{folder}/named.npz:other").shape == (3, 6)
    np.savez(folder / "y.npz", y=x)  # the only array is data, whatever it is called
    assert open_record(folder / "y.npz").labels is None


def test_labels_and_target_are_arrays_or_files(folder: Path) -> None:
    x, clean = numbers((4, 6)), numbers((4, 6), seed=1)
    np.savez(folder / "pair.npz", noisy=x, clean=clean, kind=np.array(["a", "b", "a", "b"]), y=np.zeros(4))
    record = open_record(folder / "pair.npz", labels="kind", target="clean")
    assert record.labels.tolist() == ["a", "b", "a", "b"]
    np.testing.assert_array_equal(whole(record.target), clean)
    np.save(folder / "x.npy", x)
    np.save(folder / "l.npy", np.array([[1.0], [2.0], [1.0], [2.0]]))
    (folder / "l.txt").write_text("big quake\nnoise\nnoise\nnoise\n")
    (folder / "l.csv").write_text("file,label\na.png,cat\nb.png,dog\nc.png,cat\nd.png,cat\n")
    data = f"{folder}/x.npy"
    assert open_record(data, f"{folder}/l.npy").labels.tolist() == [1, 2, 1, 2]
    assert open_record(data, f"{folder}/l.txt").labels.tolist() == ["big quake", "noise", "noise", "noise"]
    assert open_record(data, f"{folder}/l.csv").labels.tolist() == ["cat", "dog", "cat", "cat"]
    assert open_record(data, f"{folder}/l.csv:file").labels[0] == "a.png"
    assert open_record(data, f"{folder}/pair.npz:kind").labels.tolist() == ["a", "b", "a", "b"]
    np.testing.assert_array_equal(whole(open_record(data, target=f"{folder}/pair.npz:clean").target), clean)


# --- real files


@real_data
def test_ecg5000_with_its_labels() -> None:
    record = open_record(Path(os.environ["AEKIT_DATA"]) / "ecg5000" / "ECG5000_TEST.tsv.gz")
    assert (record.shape, record.kind) == ((4500, 140), "series")
    assert np.bincount(record.labels).tolist() == [0, 2627, 1590, 86, 175, 22]
    assert record.read(0, 1)[0, 0] == 3.6908442


@real_data
def test_mnist_with_its_labels() -> None:
    mnist = Path(os.environ["AEKIT_DATA"]) / "mnist"
    record = open_record(mnist / "t10k-images-idx3-ubyte.gz", str(mnist / "t10k-labels-idx1-ubyte.gz"))
    assert (record.shape, record.kind, record.dtype) == ((10000, 28, 28), "image", np.uint8)
    assert np.bincount(record.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@real_data
def test_seismograms_with_their_rate() -> None:
    seismic = Path(os.environ["AEKIT_DATA"]) / "seismic"
    record = open_record(seismic / "earthquakes_3c_picks.npz")
    assert (record.shape, record.channel_axis, record.sampling_rate) == ((115, 3, 6000), 1, 100.0)
    record = open_record(f"{seismic}/seisbench_sample/waveforms.hdf5:data/bucket0")
    assert (record.shape, record.sampling_rate) == ((60, 3, 1200), 20.0)
