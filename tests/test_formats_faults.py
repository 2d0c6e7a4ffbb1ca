"""Whatever is wrong with a file is one AekitError line: the file, the place, the remedy. Nothing is ever unpickled."""

import errno
import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from format_files import fault, read_all
from good_files import PICTURES, PIXELS, X, samples
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from aekit.errors import AekitError
from aekit.formats import ENDINGS, open_record, text
from aekit.formats._registry import READERS, ending_of


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return samples(tmp_path_factory.mktemp("good"))


@settings(max_examples=800, deadline=None, derandomize=True)
@given(data=st.data())
def test_damage_is_told_in_one_line_or_harmless(
    good: list[Path], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(good))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(content) - 1) | st.integers(0, min(300, len(content) - 1)))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    cut = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    damaged = tmp_path_factory.getbasetemp() / f"damaged-{path.name}"
    damaged.write_bytes(content[:cut])
    if path.suffix == ".hea":
        shutil.copy(path.with_suffix(".dat"), damaged.with_name("good.dat"))
    lines = []
    try:
        read_all(damaged)
    except AekitError as error:
        lines = [str(error)]
    assert all(damaged.name in line and "\n" not in line for line in lines)


def test_every_truncated_file_is_a_fault(good: list[Path], tmp_path: Path) -> None:
    for path in good:
        content = path.read_bytes()
        if path.suffix in (".csv", ".tsv", ".txt", ".arff", ".hea"):
            continue  # what is left is a shorter table; the next test is theirs
        last = 40 if path.suffix in (".png", ".jpg", ".jpeg") else 1  # they end with bytes that hold no pixels
        for cut in {1, len(content) // 3, len(content) // 2, len(content) - last}:
            short = tmp_path / f"short-{path.name}"
            short.write_bytes(content[:cut])
            assert short.name in fault(short), (path.name, cut)


def test_a_table_that_breaks_off_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("a,b\n1,2\n\n3\n")
    assert "r.csv: line 4: has 1 columns, the lines above have 2" in fault(tmp_path / "r.csv")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("1.5,2\n3,x y\n", "line 2, column 2: 'x y' is not a number"),
        ("a,b\n1.5,2\n3,1_000\n", "line 3, column b: '1_000' is not a number; mend it, name it as the labels"),
        ("1.5;2\n3,25;4\n", "line 2, column 1: '3,25' is not a number; write decimals with a point"),
        ("a,b\n", "holds no rows"),
        ("# nothing\n\n", "holds no rows"),
        ("a,label\n1,x\n2,\n", "line 3: its label is missing"),
        ("@attribute a numeric\n@data\n1\n", "not a number"),
    ],
)
def test_faults_of_tables_name_line_and_column(content: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(content)
    assert match in fault(tmp_path / "t.csv")


def test_text_in_another_encoding_or_without_line_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "l.csv").write_bytes("größe,b\n1,2\n".encode("latin-1"))
    assert "is no UTF-8 text" in fault(tmp_path / "l.csv")
    monkeypatch.setattr(text, "LONGEST_LINE", 1000)
    with gzip.open(tmp_path / "bomb.csv.gz", "wb") as f:
        f.write(b"1" * 100_000)
    assert "line 1: has more than 1000 characters" in fault(tmp_path / "bomb.csv.gz")


def test_missing_empty_unknown_and_odd_paths(tmp_path: Path) -> None:
    assert "there is no such file" in fault(tmp_path / "none.npy")
    assert "there is no such file" in fault(f"{tmp_path}/none.h5:x")
    for ending in ENDINGS:
        (tmp_path / f"empty{ending}").touch()
        assert "is empty" in fault(tmp_path / f"empty{ending}")
        (tmp_path / f"folder{ending}").mkdir()
        assert "is a folder" in fault(tmp_path / f"folder{ending}")
    (tmp_path / "a.xyz").write_text("1")
    assert "the ending '.xyz' is not known; convert it to one of .npy, .npz" in fault(tmp_path / "a.xyz")
    (tmp_path / "nothing").mkdir()
    assert "holds neither data files nor images" in fault(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe.npy")
    assert "is no regular file" in fault(tmp_path / "pipe.npy")


def test_files_under_a_wrong_name(good: list[Path], tmp_path: Path) -> None:
    contents = {path.name: path.read_bytes() for path in good}
    for name in ("good.png", "good.npy", "good.h5", "table.csv", "good.csv.gz", "good.wav"):
        own = "image" if name == "good.png" else READERS[ending_of(name)]
        for ending in ENDINGS:
            if own is not READERS[ending] and not (own == "image" and ending in PICTURES):
                (tmp_path / f"wrong{ending}").write_bytes(contents[name])
                fault(tmp_path / f"wrong{ending}")
    (tmp_path / "w.npy").write_bytes(contents["good.png"])
    assert "it begins like a .png file: if it is one, rename it" in fault(tmp_path / "w.npy")


def test_system_errors_while_opening_and_while_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", X)
    record = open_record(tmp_path / "a.npy")

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "cannot be read (Permission denied)" in fault(tmp_path / "a.npy")
    with pytest.raises(AekitError, match=r"a\.npy: cannot be read \(Permission denied\)"):
        record.read(0, 1)


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    record = open_record(tmp_path / "a.npy")
    os.truncate(tmp_path / "a.npy", 500)
    with pytest.raises(AekitError, match=r"a\.npy: ends too early"):
        record.read(0, 6)


class Trap:
    """Unpickling it is a failure."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return pytest.fail, ("unpickled",)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    trap = np.array([Trap(), None], dtype=object)
    np.save(tmp_path / "o.npy", trap, allow_pickle=True)
    assert "pickled objects are never loaded" in fault(tmp_path / "o.npy")
    np.savez(tmp_path / "o.npz", x=trap, y=trap)
    assert "pickled objects are never loaded" in fault(tmp_path / "o.npz:x")
    np.savez(tmp_path / "p.npz", x=X[:2], kind=trap)
    assert "pickled objects are never loaded" in fault(tmp_path / "p.npz", labels="kind")
    assert "pickled objects are never loaded" in fault(tmp_path / "p.npz", target="kind")


@pytest.mark.parametrize(
    "array", [X.astype(complex), np.array(["a", "b"]), np.zeros(3, "M8[s]"), np.zeros(3, "f4,i4"), np.zeros(3, "g")]
)
def test_arrays_that_are_no_numbers(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    assert "as one array of real numbers" in fault(tmp_path / "a.npy") or "holds text, no numbers" in fault(
        tmp_path / "a.npy"
    )


def test_mixed_lengths_in_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as f:
        ragged = f.create_dataset("x", 2, h5py.vlen_dtype("f4"))
        ragged[0], ragged[1] = X[0], X[1, :5]
    assert "rows of mixed lengths" in fault(tmp_path / "v.h5")


def test_hdf5_that_was_never_written_whole(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "p.h5", "w") as f:
        f.create_dataset("x", (100, 10), "f4", chunks=(10, 10))[:20] = 1
        f.create_dataset("data", (100, 10), "f4")
        f["traces"] = X
    for name in ("x", "data"):
        line = fault(f"{tmp_path}/p.h5:{name}")
        assert f"{name}: shape (100, 10) is declared, but parts of it were never written" in line
    read_all(f"{tmp_path}/p.h5:traces")


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (2, 3, 0), (2, 2, 2, 2, 2)])
def test_shapes_that_are_no_rows(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape))
    np.savez(tmp_path / "a.npz", x=np.zeros(shape))
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["x"] = np.zeros(shape)
    for name in ("a.npy", "a.npz", "a.h5"):
        assert f"has the shape {shape}" in fault(tmp_path / name)


def test_several_arrays_and_names_that_are_not_there(tmp_path: Path) -> None:
    arrays = {"east": X, "north": X, "y": np.zeros(6)}
    np.savez(tmp_path / "m.npz", **arrays)
    with h5py.File(tmp_path / "m.h5", "w") as f:
        for name, array in arrays.items():
            f[f"day/{name}"] = array
    for name, place in (("m.npz", ""), ("m.h5", "day/")):
        line = fault(tmp_path / name)
        assert f"holds several arrays: {place}east (6, 40), {place}north (6, 40), {place}y (6,)" in line
        assert f"name one, as {tmp_path}/{name}:{place}east" in line
        assert f"has no array 'west'; it has {place}east (6, 40)" in fault(f"{tmp_path}/{name}:west")
    np.save(tmp_path / "a.npy", X)
    assert "leave out ':x'" in fault(f"{tmp_path}/a.npy:x")
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    assert "has no column 'c'; it has a, b" in fault(f"{tmp_path}/t.csv:a,c")


def test_labels_and_targets_that_do_not_fit(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X, y=np.arange(5), z=np.array([0, 1, 2, 3, np.nan, 5]))
    assert "a.npz: y: has 5 labels, the data has 6 rows" in fault(tmp_path / "a.npz")
    assert "a.npz: z: row 5 has no label" in fault(f"{tmp_path}/a.npz:x", labels="z")
    assert "has no array or column 'w', nor is there such a file; it has x, y, z" in fault(
        f"{tmp_path}/a.npz:x", labels="w"
    )
    np.save(tmp_path / "b.npy", X)
    np.save(tmp_path / "c.npy", X[:5])
    assert "b.npy: has the shape (6, 40), labels are one per row" in fault(
        tmp_path / "b.npy", labels=f"{tmp_path}/b.npy"
    )
    assert "c.npy: has 5 rows" in fault(tmp_path / "b.npy", target=f"{tmp_path}/c.npy")
    assert "nor is there such a file" in fault(tmp_path / "b.npy", target="none.npy")
    (tmp_path / "l.csv").write_text("a,b\n1,2\n")
    assert "l.csv: has columns a, b; name the labels" in fault(tmp_path / "b.npy", labels=f"{tmp_path}/l.csv")


def test_sampling_rates_that_are_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X, fs=np.nan)
    assert "its sampling rate is [nan], no number of Hz" in fault(tmp_path / "a.npz")
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["x"] = X
        f["x"].attrs["fs"] = "a lot"
    assert "its sampling rate is a lot" in fault(tmp_path / "a.h5")


def test_pictures_that_would_lose_something(tmp_path: Path) -> None:
    clear = Image.fromarray(PIXELS)
    clear.putalpha(Image.fromarray(PIXELS[..., 0]))
    clear.save(tmp_path / "a.png")
    assert "is transparent in places" in fault(tmp_path / "a.png")
    Image.fromarray(PIXELS).convert("CMYK").save(tmp_path / "c.tif")
    assert "has the colour mode CMYK" in fault(tmp_path / "c.tif")
    (tmp_path / "s.pgm").write_bytes(b"P5 4 4 100\n" + bytes(16))  # Pillow would scale it to 255
    assert "finer values than Pillow keeps" in fault(tmp_path / "s.pgm")
    (tmp_path / "s.ppm").write_bytes(b"P6 2 2 65535\n" + bytes(24))
    assert "finer values than Pillow keeps" in fault(tmp_path / "s.ppm")


def test_a_folder_of_unlike_pictures_names_two(tmp_path: Path) -> None:
    for folder, other in (("size", PIXELS[:5]), ("mode", PIXELS[..., 0])):
        (tmp_path / folder).mkdir()
        Image.fromarray(PIXELS).save(tmp_path / folder / "1.png")
        Image.fromarray(other).save(tmp_path / folder / "2.png")
        line = fault(tmp_path / folder)
        assert f"{folder}/2.png: is " in line
        assert f"{folder}/1.png is 20 x 24 RGB of uint8" in line
    (tmp_path / "size" / "class").mkdir()
    assert "holds images beside folders" in fault(tmp_path / "size")
