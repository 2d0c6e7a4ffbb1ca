"""Images and folders of them survive; outputs are rounded, clipped, whole or absent, and named by rule."""

import errno
import gzip
import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import recordings
from format_files import numbers, whole, write
from PIL import Image

from aekit.errors import AekitError
from aekit.formats import ENDINGS, create, default_out, open_record, write_columns, write_csv
from aekit.records import Array, record_of


def picture(mode: str, size: tuple[int, int] = (6, 4), seed: int = 0) -> Image.Image:
    width, height = size
    shape = {"L": (height, width), "I;16": (height, width), "RGB": (height, width, 3)}[mode]
    return Image.fromarray(numbers(shape, "u2" if mode == "I;16" else "u1", seed))


@pytest.mark.parametrize("mode", ["L", "I;16", "RGB"])
@pytest.mark.parametrize("ending", [".png", ".tif", ".pgm", ".bmp", ".webp"])
def test_images_survive(mode: str, ending: str, tmp_path: Path) -> None:
    array = np.array(picture(mode))[None]
    try:
        record = open_record(write(tmp_path / f"a{ending}", array))
    except AekitError:
        assert (mode, ending) in {("I;16", ".bmp"), ("I;16", ".webp"), ("L", ".webp")}
        return
    assert (record.kind, record.channel_axis, record.dtype) == ("image", 3 if mode == "RGB" else None, array.dtype)
    np.testing.assert_array_equal(whole(record), array)


def test_palettes_opaque_alpha_and_single_bits_come_without_loss(tmp_path: Path) -> None:
    rgb = picture("RGB")
    opaque = rgb.copy()
    opaque.putalpha(255)
    opaque.save(tmp_path / "o.png")
    np.testing.assert_array_equal(whole(open_record(tmp_path / "o.png"))[0], np.array(rgb))
    palette = rgb.quantize(4)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(whole(open_record(tmp_path / "p.png"))[0], np.array(palette.convert("RGB")))
    bits = picture("L").convert("1")
    bits.save(tmp_path / "b.png")
    record = open_record(tmp_path / "b.png")
    np.testing.assert_array_equal(whole(record)[0], np.array(bits).astype(np.uint8))
    write(tmp_path / "b2.png", whole(record), record)
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "b2.png")), np.array(bits))


def test_a_folder_per_class_and_back(tmp_path: Path) -> None:
    for i, name in enumerate(["cat/2.png", "cat/10.png", "dog/1.png", "dog/.hidden.png", "dog/notes.txt"]):
        (tmp_path / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        picture("RGB", seed=i).save(tmp_path / "pets" / name) if name[-3:] == "png" else (
            tmp_path / "pets" / name
        ).touch()
    record = open_record(tmp_path / "pets")
    assert (record.shape, record.labels.tolist()) == ((3, 4, 6, 3), ["cat", "cat", "dog"])
    np.testing.assert_array_equal(record.read(1, 3)[0], np.array(picture("RGB", seed=0)))  # sorted: 10 before 2
    array = whole(record)
    again = open_record(write(tmp_path / "pets.denoised", array, record))
    assert (again.header.names, again.labels.tolist()) == (record.header.names, record.labels.tolist())
    np.testing.assert_array_equal(whole(again), array)
    assert open_record(write(tmp_path / "flat", array, record_of(array))).header.names == ("0.png", "1.png", "2.png")


def test_pages_of_a_tiff_are_rows(tmp_path: Path) -> None:
    array = numbers((5, 4, 6), "f4")
    record = open_record(write(tmp_path / "pages.tif", array))
    assert (record.shape, record.dtype) == ((5, 4, 6), np.float32)
    np.testing.assert_array_equal(record.read(2, 4), array[2:4])


# --- writing


def test_floats_are_rounded_and_clipped_to_whole_dtypes(tmp_path: Path) -> None:
    like = record_of(np.zeros((1, 5), np.uint8))
    for dtype, expected in {"u1": [0, 0, 2, 255, 255], "i2": [-300, 0, 2, 300, 32767]}.items():
        with create(tmp_path / "c.npy", like, (1, 5), dtype, force=True) as writer:
            writer.write(np.array([[-300.0, 0.5, 1.5, 300.0, 1e9]]))
        assert np.load(tmp_path / "c.npy").tolist() == [expected]
    with create(tmp_path / "c.npy", like, (1, 5), "i8", force=True) as writer:
        writer.write(np.full((1, 5), 1e30, np.float32))
    assert np.load(tmp_path / "c.npy").min() > 2**62
    with create(tmp_path / "c.npy", like, (1, 5), "u1", force=True) as writer:
        writer.write(np.array([[-5, 0, 7, 300, 70000]]))
    assert np.load(tmp_path / "c.npy").tolist() == [[0, 0, 7, 255, 255]]


@pytest.mark.parametrize("rows", [[[np.nan, 1.0]], [[np.inf, 1.0]]])
def test_what_a_dtype_cannot_hold_is_a_fault_and_leaves_nothing(rows: list[list[float]], tmp_path: Path) -> None:
    like = record_of(np.zeros((1, 2), np.uint8))
    with (
        pytest.raises(AekitError, match=r"o\.npy: row 1 holds NaN or infinity"),
        create(tmp_path / "o.npy", like, (1, 2), "u1") as writer,
    ):
        writer.write(np.array(rows))
    with (
        pytest.raises(AekitError, match="too large for float32"),
        create(tmp_path / "o.npy", like, (1, 2), "f4") as writer,
    ):
        writer.write(np.array([[1e300, 1.0]]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["", *(e for e in ENDINGS if e not in (".jpg", ".jpeg", *recordings.ENDINGS))])
def test_an_output_is_whole_or_absent(ending: str, tmp_path: Path) -> None:
    array = (
        numbers((1, 8, 8, 3), "u1")
        if ending in ("", ".png", ".tif", ".tiff", ".bmp", ".webp", ".pgm", ".ppm")
        else numbers((1, 8))
    )
    like = replace(record_of(array), sampling_rate=10.0)
    with pytest.raises(AssertionError), create(tmp_path / f"o{ending}", like, array.shape, array.dtype) as writer:
        writer.write(array[:0])
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / f"o{ending}", array, like)
    assert [p.name for p in tmp_path.iterdir()] == [f"o{ending}"]
    with (
        pytest.raises(AekitError, match="exists already"),
        create(tmp_path / f"o{ending}", like, array.shape, array.dtype),
    ):
        pass


@pytest.mark.parametrize("ending", recordings.ENDINGS)
def test_what_needs_an_input_of_its_format_is_whole_or_absent(ending: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    record = open_record(recordings.write_recording(tmp_path / "in" / f"a{ending}"))
    out, beside = tmp_path / "out" / f"o{ending}", [f"o{ending}"] if ending != ".hea" else ["o.dat", "o.hea"]
    with pytest.raises(AssertionError), create(out, record, record.shape, record.dtype) as writer:
        writer.write(whole(record)[:0])
    assert list(out.parent.iterdir()) == []
    write(out, whole(record), record)
    assert sorted(p.name for p in out.parent.iterdir()) == beside
    with pytest.raises(AekitError, match="exists already"), create(out, record, record.shape, record.dtype):
        pass
    for like, dtype in ((record_of(whole(record)), record.dtype), (record, np.int8)):
        with pytest.raises(AekitError, match=r"name a \.npy file"), create(out, like, record.shape, dtype, force=True):
            pass


def write_past_a_limit(out: Path, array: Array) -> None:
    """Writes where no file may grow beyond 100 kB, which the system refuses as it does on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with create(out, record_of(array), array.shape, array.dtype) as writer:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            writer.write(array)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("ending", [".h5", ".npy", ".npz", ".safetensors", ".csv", ".tsv.gz", ".idx.gz"])
def test_an_output_that_the_disk_refuses_leaves_nothing(ending: str, tmp_path: Path) -> None:
    with pytest.raises((OSError, AekitError), match=os.strerror(errno.EFBIG)):
        write_past_a_limit(tmp_path / f"o{ending}", numbers((50, 1000), "f8"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "match"),
    [
        ("o.idx", (2, 3), "u8", "idx holds"),
        ("o.wav", (2, 3), "f4", "one record"),
        ("o.wav", (1, 3), "f4", "sampling rate"),
        ("o.csv", (2, 3, 4), "f4", "rows of values"),
        ("o.png", (2, 3, 4), "u1", "one picture, not 2"),
        ("o.png", (1, 3, 4), "f4", "PNG images in grey hold uint8 or uint16, not float32"),
        ("o.png", (1, 3, 4, 2), "u1", "grey or RGB"),
        ("o.xyz", (2, 3), "f4", r"'.xyz' is not known; name one of \.npy"),
        ("o", (2, 3), "f4", "the ending '' is not known"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(
    name: str, shape: tuple[int, ...], dtype: str, match: str, tmp_path: Path
) -> None:
    array = np.zeros(shape, dtype)
    with pytest.raises(AekitError, match=match):
        write(tmp_path / name, array)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("in/traces.npy", "denoised"), "traces.denoised.npy"),
        (("ecg.csv.gz", "scores", ".csv"), "ecg.scores.csv"),
        (("ECG.tsv.gz", "denoised"), "ECG.denoised.tsv"),
        (("f.h5:group/x", "latents", ".npy"), "f.latents.npy"),
        (("t10k-images-idx3-ubyte.gz", "denoised"), "t10k-images.denoised.idx"),
        (("v1.2/a.b.npy", "denoised"), "a.b.denoised.npy"),
        (("photos/", "denoised"), "photos.denoised"),
        (("day.mseed:CH.AAA", "denoised"), "day.denoised.mseed"),
        (("mit/100.hea", "denoised"), "100_denoised.hea"),  # WFDB knows no points in names
        (("mit/100.hea", "scores", ".csv"), "100.scores.csv"),
    ],
)
def test_default_out(arguments: tuple[str, ...], expected: str) -> None:
    assert default_out(*arguments) == Path(expected)


def test_columns_as_csv(tmp_path: Path) -> None:
    columns = {"row": np.arange(2), "score": np.array([0.1, np.nan], np.float32), "verdict": np.array(["a,b", "c"])}
    stream = io.StringIO()
    write_csv(stream, columns)
    assert stream.getvalue() == 'row,score,verdict\n0,0.1,"a,b"\n1,nan,c\n'
    write_columns(tmp_path / "s.csv", columns)
    assert (tmp_path / "s.csv").read_text() == stream.getvalue()
    write_columns(tmp_path / "s.tsv.gz", columns)
    assert gzip.decompress((tmp_path / "s.tsv.gz").read_bytes()).startswith(b"row\tscore\tverdict\n0\t0.1\t")
    with pytest.raises(AekitError, match=r"s\.csv: exists already"):
        write_columns(tmp_path / "s.csv", columns)
    with pytest.raises(AekitError, match=r"s\.npy: tables are written as \.csv or \.tsv"):
        write_columns(tmp_path / "s.npy", columns)


@pytest.mark.parametrize("ending", [".npz", ".h5"])
def test_known_arrivals_go_along(ending: str, tmp_path: Path) -> None:
    picks = np.array([(3, 7), (2, -1)])
    like = replace(record_of(np.zeros((2, 3, 20), np.float32), sampling_rate=100.0), picks=picks)
    with create(tmp_path / f"a{ending}", like, like.shape, np.float32) as writer:
        writer.write(np.ones(like.shape, np.float32))
    found = open_record(tmp_path / f"a{ending}")
    assert (found.shape, found.sampling_rate) == (like.shape, 100.0)
    np.testing.assert_array_equal(found.picks, picks)
    with create(tmp_path / f"b{ending}", like, (2, 5), np.float32) as writer:  # rows of another meaning
        writer.write(np.ones((2, 5), np.float32))
    assert open_record(tmp_path / f"b{ending}").picks is None
