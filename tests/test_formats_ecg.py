"""WFDB: physical units come out, the digital values go back in; samples marked invalid are gaps."""

import datetime
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from format_files import fault, whole, write
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import wfdb, write_wfdb

from aekit.errors import AekitError
from aekit.formats import create, open_record

BITS = {"16": 16, "212": 12, "24": 24, "32": 32, "80": 8}


def digital(count: int = 300, channels: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-100, 100, (count, channels))


@pytest.mark.parametrize("form", BITS)
@settings(max_examples=10, deadline=None, derandomize=True)
@given(channels=st.integers(1, 3), count=st.integers(1, 60), seed=st.integers(0, 9), data=st.data())
def test_records_survive(
    form: str, channels: int, count: int, seed: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    values = digital(count, channels, seed)
    first = data.draw(st.integers(0, count))
    values[first : first + data.draw(st.integers(0, count - 1)), 0] = -(1 << (BITS[form] - 1))  # invalid
    when = {"base_time": datetime.time(1, 2, 3), "base_date": datetime.date(2001, 2, 3)} if seed % 2 else {}
    path = write_wfdb(folder / "in_1.hea", values, form, **when)
    record = open_record(path)
    assert (record.shape, record.dtype, record.sampling_rate) == ((1, channels, count), np.float64, 250.0)
    write(folder / "out_1.hea", whole(record), record)
    assert (folder / "out_1.hea").read_text() == path.read_text().replace("in_1", "out_1")
    assert (folder / "out_1.dat").read_bytes() == (folder / "in_1.dat").read_bytes()


def test_values_are_in_physical_units_and_gaps_are_filled(tmp_path: Path) -> None:
    values = digital()
    values[10:20] = -(1 << 15)
    values[50, 1] = -(1 << 15)
    record = open_record(write_wfdb(tmp_path / "a.hea", values))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        physical = wfdb.rdrecord(str(tmp_path / "a")).p_signal.T
    known = np.isfinite(physical)
    np.testing.assert_allclose(whole(record)[0][known], physical[known])
    share, first = np.arange(1, 11) / 11, physical[0]
    made = (1 - share) * [*first[8::-1], first[1]] + share * first[30:20:-1]
    np.testing.assert_allclose(whole(record)[0, 0, 10:20], made)
    assert record.recorded is not None
    assert (record.recorded.gaps.tolist(), record.recorded.filled) == ([[0, 10, 20]], 21)


def test_what_lies_beyond_the_format_is_clipped_and_what_is_no_number_is_invalid(tmp_path: Path) -> None:
    record = open_record(write_wfdb(tmp_path / "a.hea", digital(), "212"))
    values = whole(record)
    values[0, 0, :3] = 1e9, -1e9, np.nan
    write(tmp_path / "b.hea", values, record)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = wfdb.rdrecord(str(tmp_path / "b"), physical=False).d_signal
    assert written[:3, 0].tolist() == [2047, -2047, -2048]


def test_signals_of_several_files_and_forms_go_into_one_that_holds_them(tmp_path: Path) -> None:
    write_wfdb(tmp_path / "a.hea", digital(), "212")
    write_wfdb(tmp_path / "b.hea", 50 * digital(seed=1), "16")
    lines = [(tmp_path / f"{name}.hea").read_text().splitlines()[1:3] for name in "ab"]
    (tmp_path / "both.hea").write_text("\n".join(["both 4 250 300", *lines[0], *lines[1], ""]))
    record = open_record(tmp_path / "both.hea")
    write(tmp_path / "copy.hea", whole(record), record)
    np.testing.assert_allclose(whole(open_record(tmp_path / "copy.hea")), whole(record))
    assert {line.split()[1] for line in (tmp_path / "copy.hea").read_text().splitlines()[1:]} == {"16"}


def test_a_header_that_says_little_is_enough(tmp_path: Path) -> None:
    (tmp_path / "m.hea").write_text("m 2 100 4\nm.dat 16+24 200\nm.dat 16+24\n")
    (tmp_path / "m.dat").write_bytes(bytes(24) + bytes(range(16)))
    record = open_record(tmp_path / "m.hea")
    write(tmp_path / "n.hea", whole(record), record)
    assert (tmp_path / "n.dat").read_bytes() == bytes(range(16))


def test_what_is_written_takes_nothing_away(tmp_path: Path) -> None:
    record = open_record(write_wfdb(tmp_path / "a.hea", digital()))
    before = (tmp_path / "a.dat").read_bytes()
    for name, force, says in (
        ("a.b.hea", False, "name it a_b.hea"),
        ("other.hea", False, "other.dat: exists already"),
        ("linked.hea", True, "would take the place of the input's"),
    ):
        (tmp_path / "other.dat").write_bytes(b"precious")
        if not (tmp_path / "linked.dat").exists():
            (tmp_path / "linked.dat").hardlink_to(tmp_path / "a.dat")
        with pytest.raises(AekitError, match=says), create(tmp_path / name, record, record.shape, "f8", force):
            pass
        assert (tmp_path / "other.dat").read_bytes() == b"precious"
        assert (tmp_path / "a.dat").read_bytes() == before
        assert not (tmp_path / name).exists()


def test_faults(tmp_path: Path) -> None:
    path = write_wfdb(tmp_path / "a.hea", digital())
    text = path.read_text()
    for name, changed, says in (
        ("gone", text.replace("a.dat", "gone.dat"), "its signals lie in gone.dat, which is not there; copy it beside"),
        ("long", text.replace(" 300", " 301"), "it declares 1204 bytes of signals, a.dat has 1200"),
        ("huge", text.replace(" 300", f" {10**15}"), "it declares"),
        ("form", text.replace("a.dat 16", "a.dat 17"), "signals of format 17 are not known"),
        ("two", text.replace("a.dat 16", "a.dat 24", 1), "a.dat holds signals of several formats"),
        ("count", text.replace("a 2", "a 3"), "it declares 3 signals and describes 2"),
        ("none", "a 0 250 300\n", "it declares 0 signals"),
        ("frames", text.replace("a.dat 16", "a.dat 16x4", 1), "samples a frame; bring all to one rate"),
        ("many", "a/2 2 250 600\none 300\ntwo 300\n", "is made of 2 segments; name one of them"),
        ("empty", "# nothing\n", "is damaged or of another format"),
        ("words", "Z N E\n" * 5, "is damaged or of another format"),
        ("still", text.replace("a 2 250", "a 2 0"), "sampling rate is 0"),
    ):
        (tmp_path / f"{name}.hea").write_text(changed)
        line = fault(tmp_path / f"{name}.hea")
        assert says in line, line
        assert f"{name}.hea" in line
    shutil.copy(path, tmp_path / "A.HEA")
    assert "there is no such file" in fault(tmp_path / "A.HEA")
