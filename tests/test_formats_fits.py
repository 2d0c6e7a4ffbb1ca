"""FITS: images, cubes and spectra by extension, values as their cards scale them, headers kept when written back."""

import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from format_files import fault, numbers, whole, write
from hypothesis import given, settings
from hypothesis import strategies as st

from aekit.errors import AekitError
from aekit.formats import create, default_out, open_record
from aekit.records import record_of

DTYPES = ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")


def save(path: Path, *hdus: object) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits.HDUList(list(hdus)).writeto(path, overwrite=True)
    return path


def image(array: np.ndarray, name: str | None = None, **cards: object) -> fits.ImageHDU:
    hdu = fits.ImageHDU(array, name=name)
    hdu.header.update(cards)
    return hdu


def table(name: str = "EVENTS") -> fits.BinTableHDU:
    return fits.BinTableHDU.from_columns([fits.Column("energy", "E", array=np.zeros(3))], name=name)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    dtype=st.sampled_from(DTYPES),
    shape=st.sampled_from([(1, 9), (1, 5, 7), (4, 5, 7), (3, 1, 4), (1, 40, 6)]),
    ending=st.sampled_from([".fits", ".fit", ".fits.gz"]),
)
def test_arrays_survive_and_astropy_agrees(dtype, shape, ending, tmp_path_factory):
    array = numbers(shape, dtype)
    path = write(tmp_path_factory.getbasetemp() / f"a{ending}", array)
    record = open_record(path)
    assert (record.shape, record.dtype) == (shape, np.dtype(dtype))
    np.testing.assert_array_equal(whole(record), array)
    np.testing.assert_array_equal(record.read(len(array) - 1, len(array)), array[-1:])
    with fits.open(path) as hdus:
        hdus.verify("exception")
        np.testing.assert_array_equal(hdus[0].data, array[0] if shape[0] == 1 else array)
        assert hdus[0].data.dtype.newbyteorder("=") == np.dtype(dtype)


def test_an_image_is_a_row_a_cube_its_planes_and_a_spectrum_a_series(tmp_path: Path) -> None:
    for shape, rows, kind in (
        ((20, 30), (1, 20, 30), "image"),
        ((5, 20, 30), (5, 20, 30), "image"),
        ((1, 5, 20, 30), (5, 20, 30), "image"),
        ((1, 1, 20, 30), (1, 20, 30), "image"),
        ((6, 3, 20, 30), (6, 3, 20, 30), "image"),
        ((50,), (1, 50), "series"),
    ):
        array = numbers(shape)
        record = open_record(save(tmp_path / "a.fits", fits.PrimaryHDU(array)))
        assert (record.shape, record.kind) == (rows, kind)
        np.testing.assert_array_equal(whole(record), array.reshape(rows))
        again = write(tmp_path / "b.fits", whole(record), record)
        assert fits.getdata(again).shape == shape


def test_values_are_scaled_and_blank_ones_are_nan(tmp_path: Path) -> None:
    stored = np.arange(24, dtype="i2").reshape(2, 3, 4)
    hdu = fits.PrimaryHDU(stored)
    hdu.header["BLANK"] = 5
    path = save(tmp_path / "a.fits", hdu)
    with path.open("r+b") as f:  # astropy would scale the values while it writes these
        header = f.read(2880)
        end = header.index(b"END     ")
        f.seek(end)
        f.write(b"BSCALE  =                  0.5".ljust(80) + b"BZERO   =                 10.0".ljust(80) + b"END")
    record = open_record(path)
    assert record.dtype == np.float32
    expected = stored * 0.5 + 10
    expected[0, 1, 1] = np.nan
    np.testing.assert_array_equal(whole(record), expected)
    again = write(tmp_path / "b.fits", np.nan_to_num(whole(record)), record)
    assert not {"BSCALE", "BZERO", "BLANK"} & set(fits.getheader(again))
    np.testing.assert_array_equal(whole(open_record(again)), np.nan_to_num(expected))


def test_an_extension_is_named_or_numbered(tmp_path: Path) -> None:
    arrays = [numbers((4, 5), seed=i) for i in range(5)]
    path = save(
        tmp_path / "a.fits",
        fits.PrimaryHDU(),
        image(arrays[0], "SCI"),
        image(arrays[1], "ERR"),
        table(),
        image(arrays[2], "SCI", EXTVER=2),
        image(arrays[3]),
        fits.CompImageHDU(arrays[4], name="PACKED", quantize_level=0, compression_type="GZIP_2"),
    )
    for name, i in {"SCI": 0, "sci": 0, "1": 0, "ERR": 1, "SCI,2": 2, "4": 2, "5": 3, "PACKED": 4}.items():
        np.testing.assert_array_equal(whole(open_record(f"{path}:{name}"))[0], arrays[i])
    assert "holds several arrays: SCI (1, 4, 5), ERR (1, 4, 5)" in fault(path)
    assert f"name one, as {path}:SCI" in fault(path)
    assert "has no array 'WHT'; it has SCI (1, 4, 5)" in fault(f"{path}:WHT")
    assert "EVENTS: holds a table" in fault(f"{path}:EVENTS")


def test_labels_and_clean_data_may_be_extensions(tmp_path: Path) -> None:
    clean, cube = numbers((6, 4, 5)), numbers((6, 4, 5), seed=1)
    labels = image(np.arange(6, dtype="i4") % 2, "LABELS")
    path = save(tmp_path / "a.fits", fits.PrimaryHDU(), image(cube, "NOISY"), image(clean, "CLEAN"), labels)
    record = open_record(f"{path}:NOISY", target="CLEAN")
    assert record.labels.tolist() == [0, 1, 0, 1, 0, 1]
    np.testing.assert_array_equal(whole(record.target), clean)


@pytest.mark.parametrize("extension", [False, True])
def test_headers_are_kept(extension: bool, tmp_path: Path) -> None:
    array = numbers((5, 7), "u2")
    cards = {"OBJECT": "M 51", "CRVAL1": 202.47, "CTYPE1": "RA---TAN", "HIERARCH ESO TEL ALT": 61.5}
    first = fits.PrimaryHDU(None if extension else array)
    first.header["TELESCOP"] = "2.5 m"
    first.header["COMMENT"] = "seen by night"
    hdus = [first, image(array, "SCI"), table()] if extension else [first, table()]
    hdus[-2].header.update(cards)
    path = save(tmp_path / "a.fits", *hdus)
    record = open_record(path)
    array[2, 3] = 7
    again = write(tmp_path / "b.fits", array[None], record)
    with fits.open(path) as old, fits.open(again) as new:
        new.verify("exception")
        assert len(new) == (2 if extension else 1)
        for before, after in zip(old, new, strict=False):
            kept = {*before.header} - {"EXTEND"}
            assert kept == {*after.header} - {"EXTEND"}
            assert all(str(after.header[name]) == str(before.header[name]) for name in kept)
        np.testing.assert_array_equal(new[-1].data, array)
    smaller = write(tmp_path / "c.fits", array[None, 1:], record)  # whose places in the sky are others
    assert "CRVAL1" not in fits.getheader(smaller)


def test_a_large_file_is_read_in_parts(tmp_path: Path) -> None:
    array = numbers((40, 30, 20), "i2")
    record = open_record(save(tmp_path / "a.fits", fits.PrimaryHDU(array)))
    np.testing.assert_array_equal(np.concatenate([record.read(i, i + 8).copy() for i in range(0, 40, 8)]), array)
    assert record.read(3, 3).shape == (0, 30, 20)


def test_faults_are_told_in_one_line(tmp_path: Path) -> None:
    assert "holds no array of numbers; it has none" in fault(save(tmp_path / "e.fits", fits.PrimaryHDU()))
    assert "EVENTS: holds a table; save it" in fault(save(tmp_path / "t.fits", fits.PrimaryHDU(), table()))
    both = save(tmp_path / "tt.fits", fits.PrimaryHDU(), table(), table("GTI"))
    assert "holds no array of numbers; it has EVENTS (3,), GTI (3,)" in fault(both)
    path = save(tmp_path / "a.fits", fits.PrimaryHDU(), image(numbers((40, 30)), "SCI"))
    content = path.read_bytes()
    for cut in (2880 + 2880 + 100, len(content) - 1):
        (tmp_path / "short.fits").write_bytes(content[:cut])
        assert f"short.fits: ends too early: SCI declares values up to byte 11520, the file has {cut}" in fault(
            tmp_path / "short.fits"
        )
    (tmp_path / "head.fits").write_bytes(content[: 2880 + 100])
    assert "head.fits: is damaged" in fault(tmp_path / "head.fits")
    (tmp_path / "a.fits.gz").write_bytes(gzip.compress(content)[:-1])
    assert "a.fits.gz: is damaged" in fault(tmp_path / "a.fits.gz")
    (tmp_path / "z.fits").write_bytes(gzip.compress(content))
    assert "it begins like a .gz file: if it is one, rename it" in fault(tmp_path / "z.fits")


def test_what_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    for shape, dtype in (((3, 8), "f4"), ((2, 4, 5, 3), "u1"), ((1, 4, 5), "f2")):
        array = np.zeros(shape, dtype)
        with (
            pytest.raises(AekitError, match=r"o\.fits: a FITS file holds .*; name a \.npy file"),
            create(tmp_path / "o.fits", record_of(array), shape, dtype),
        ):
            pass
    assert list(tmp_path.iterdir()) == []
    assert default_out("sky/m51.fits.gz:SCI", "denoised") == Path("m51.denoised.fits")
