"""miniSEED and SAC: what is read is written again, gaps and headers too; stations are rows; faults are told."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import recordings
from format_files import fault, whole, write
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import START, obspy, three_channels_with_a_gap, trace, write_mseed, write_sac

from aekit.errors import AekitError
from aekit.formats import open_record

KEPT = ("network", "station", "location", "channel", "starttime", "sampling_rate", "npts")
EXAMPLES = sorted((Path(obspy.__file__).parent / "io" / "mseed" / "tests" / "data").rglob("*.mseed"))
HEADER = {  # of SAC, some of each kind
    **{"a": 10.0, "t0": 25.5, "t5": 30.25, "ka": "P", "kt0": "S", "evla": 46.5, "evlo": 8.25, "evdp": 10.0, "mag": 4.5},
    **{"stla": 46.0, "stlo": 7.5, "stel": 1200.0, "cmpaz": 0.0, "cmpinc": 0.0, "user3": 3.5, "kuser0": "mine"},
    **{"kevnm": "a quake", "nevid": 17, "o": -2.0, "ko": "origin", "lovrok": 0, "idep": 7, "kinst": "STS-2"},
}


def traces_of(path: Path) -> list["obspy.Trace"]:
    with open(path, "rb") as f:
        return sorted(obspy.read(f), key=lambda t: (t.id, t.stats.starttime))


def assert_same_traces(path: Path, other: Path) -> None:
    """Codes, times, rates, values with their type, and the way in which they are stored."""
    ours, theirs = traces_of(path), traces_of(other)
    assert [t.id for t in ours] == [t.id for t in theirs]
    for one, two in zip(ours, theirs, strict=True):
        assert [one.stats[key] for key in KEPT] == [two.stats[key] for key in KEPT]
        for key in ("dataquality", "encoding", "byteorder", "record_length"):
            assert one.stats.mseed[key] == two.stats.mseed[key], key
        assert one.data.dtype == two.data.dtype
        np.testing.assert_array_equal(one.data, two.data)


def copied(path: Path, folder: Path) -> Path:
    """What the writer makes of the file when nothing is changed."""
    record = open_record(path)
    return write(folder / f"copy{path.suffix}", whole(record), record)


# --- stations, channels and gaps --------------------------------------------------------------------------------------


def test_a_station_is_a_row_of_its_channels_and_gaps_are_filled_from_both_sides(tmp_path: Path) -> None:
    record = open_record(write_mseed(tmp_path / "g.mseed", *three_channels_with_a_gap()))
    assert (record.shape, record.dtype, record.sampling_rate) == ((1, 3, 1700), np.int32, 20.0)
    assert (record.kind, record.channel_axis) == ("series", 1)
    vertical, north, east = whole(record)[0]
    before, after = (t.data for t in traces_of(tmp_path / "g.mseed") if t.stats.channel == "HHN")
    np.testing.assert_array_equal(north[:900], before)
    np.testing.assert_array_equal(north[1050:], after)
    share = np.arange(1, 151) / 151
    made = (1 - share) * before[-2:-152:-1] + share * after[150:0:-1]
    np.testing.assert_array_equal(north[900:1050], np.rint(made))
    np.testing.assert_array_equal(vertical[:900], traces_of(tmp_path / "g.mseed")[4].data)
    np.testing.assert_array_equal(east[1000:], traces_of(tmp_path / "g.mseed")[1].data)
    assert record.recorded is not None
    assert record.recorded.stations == ("CH.AAA..HH",)
    assert str(record.recorded.starts[0]) == START.removesuffix("Z")
    assert record.recorded.gaps.tolist() == [[0, 900, 1000]]  # where no channel has data
    assert record.recorded.filled == 100 + 100 + 150
    assert_same_traces(copied(tmp_path / "g.mseed", tmp_path), tmp_path / "g.mseed")


@pytest.mark.parametrize(
    ("codes", "order"), [("ENZ", "ZNE"), ("12Z", "Z12"), ("E1ZN2", "ZNE12"), ("WVU", "UVW"), ("Z", "Z"), ("321", "123")]
)
def test_channels_come_as_z_n_e(codes: str, order: str, tmp_path: Path) -> None:
    traces = [trace(f"CH.AAA.00.BH{letter}", 50) for letter in codes]
    rows = whole(open_record(write_mseed(tmp_path / "c.mseed", *traces)))
    for channel, letter in zip(rows[0], order, strict=True):
        np.testing.assert_array_equal(channel, traces[codes.index(letter)].data)
    assert_same_traces(copied(tmp_path / "c.mseed", tmp_path), tmp_path / "c.mseed")


def test_stations_of_one_form_are_rows_and_each_can_be_named(tmp_path: Path) -> None:
    traces = [trace(f"CH.{name}", 500 + i) for i, name in enumerate(("BBB..HHZ", "BBB..HHE", "AAA..HHZ", "AAA..HHE"))]
    path = write_mseed(tmp_path / "two.mseed", *traces)
    record = open_record(path)
    assert record.shape == (2, 2, 503)  # a station may end a second earlier; what is missing is made up
    assert record.recorded is not None
    assert record.recorded.stations == ("CH.AAA..HH", "CH.BBB..HH")
    assert record.recorded.filled == 3 + 2 + 1
    assert_same_traces(copied(path, tmp_path), path)
    for name in ("CH.BBB", "CH.BBB.", "CH.BBB..HH"):
        named = open_record(f"{path}:{name}")
        assert (named.shape, named.recorded and named.recorded.stations) == ((1, 2, 501), ("CH.BBB..HH",))
    channel = open_record(f"{path}:CH.BBB..HHE")
    np.testing.assert_array_equal(whole(channel)[0, 0], traces[1].data)
    write(tmp_path / "e.mseed", whole(channel), channel)
    assert [t.id for t in traces_of(tmp_path / "e.mseed")] == ["CH.BBB..HHE"]
    assert open_record(f"{path}:CH").shape == (2, 2, 503)


@pytest.mark.parametrize(
    ("traces", "says"),
    [
        (
            [trace("CH.A..HHZ", 500), trace("CH.B..HHZ", 300)],
            "stations differ: CH.A..HH 1x24.95 s 20 Hz, CH.B..HH 1x14",
        ),
        ([trace("CH.A..HHZ", 500), trace("CH.B..HHZ", 1000, rate=40.0)], "stations differ"),
        ([trace("CH.A..HHZ", 500), trace("CH.A..LHZ", 25, rate=1.0)], "name one, as {}:CH.A..HH"),
        ([trace("CH.A..HHZ", 500), trace("CH.B..HHZ", 500), trace("CH.B..HHN", 500)], "stations differ"),
        ([trace("CH.A..HHZ", 500), trace("CH.B..HHZ", 500, dtype="f4")], "stations differ"),
        (
            [trace("CH.A..HHZ", 500), trace("CH.A..HHN", 1000, rate=40.0)],
            "CH.A..HH: its channels differ: CH.A..HHZ 20 Hz int32, CH.A..HHN 40 Hz int32; name one, as {}:CH.A..HHZ",
        ),
        ([trace("CH.A..HHZ", 500), trace("CH.A..HHN", 500, dtype="f8")], "channels differ"),
        (
            [trace("CH.A..HHZ", 500), trace("CH.A..HHZ", 300, 10.0)],
            "CH.A..HHZ: two traces tell different values of the time from 2024-03-01T12:00:10.123456Z; leave one out",
        ),
        (
            [trace("CH.A..HHZ", 500), trace("CH.A..HHZ", 300, 1e7)],
            "800 values are spread over 1e+07 s, nearly all of it",
        ),
    ],
)
def test_what_is_no_array_is_told_and_named(traces: list["obspy.Trace"], says: str, tmp_path: Path) -> None:
    path = write_mseed(tmp_path / "d.mseed", *traces)
    assert says.format(path) in fault(path)
    open_record(f"{path}:{traces[0].id}") if traces[0].id != traces[1].id else None


def test_names_that_are_not_there_and_text(tmp_path: Path) -> None:
    path = write_mseed(tmp_path / "n.mseed", trace("CH.A..HHZ", 50), trace("CH.B..HHZ", 50))
    assert "has no station 'CH.C'; it has CH.A..HH, CH.B..HH" in fault(f"{path}:CH.C")
    log = trace("CH.A..LOG", 3)
    log.data = np.frombuffer(b"all is well", "S1")
    path = write_mseed(tmp_path / "l.mseed", trace("CH.A..HHZ", 11), log)
    assert "stations differ" in fault(path)
    assert "holds text, no numbers" in fault(f"{path}:CH.A..LOG")
    assert open_record(f"{path}:CH.A..HHZ").shape == (1, 1, 11)


def test_overlaps_that_agree_are_kept_as_they_are(tmp_path: Path) -> None:
    first = trace("CH.A..HHZ", 500)
    second = first.copy()
    second.data, second.stats.starttime = first.data[400:].copy(), first.stats.starttime + 20
    third = trace("CH.A..HHZ", 100, 30)
    path = write_mseed(tmp_path / "o.mseed", first, third, second)
    assert open_record(path).shape == (1, 1, 700)
    assert_same_traces(copied(path, tmp_path), path)


def test_a_clock_that_is_set_back_by_less_than_a_point_is_no_overlap(tmp_path: Path) -> None:
    traces = [trace("CH.A..HHZ", 100), trace("CH.A..HHZ", 60, 5 - 0.04), trace("CH.A..HHZ", 50, 8 - 0.07)]
    path = write_mseed(tmp_path / "t.mseed", *traces)
    assert len(traces_of(path)) == 3
    record = open_record(path)
    np.testing.assert_array_equal(whole(record)[0, 0], np.concatenate([t.data for t in traces]))
    assert_same_traces(copied(path, tmp_path), path)


# --- round trips ------------------------------------------------------------------------------------------------------

CODE = st.text("ABCXYZ019", min_size=1, max_size=2)
STORED = [("i4", "STEIM2"), ("i4", "STEIM1"), ("i4", "INT32"), ("i2", "INT16"), ("f4", "FLOAT32"), ("f8", "FLOAT64")]


@st.composite
def streams(draw: st.DrawFn) -> tuple[list["obspy.Trace"], dict[str, object]]:
    """Up to three stations of one form; each channel is there in blocks, off the grid by less than half a point."""
    dtype, encoding = draw(st.sampled_from(STORED))
    rate = draw(st.sampled_from([1.0, 20.0, 100.0, 0.1, 31.25, 12.34]))
    channels = draw(st.sampled_from(["Z", "NZE", "12Z"]))
    blocks, points = draw(st.integers(1, 6)), draw(st.integers(2, 40))
    traces = []
    for code in draw(st.lists(st.tuples(CODE, CODE, CODE), min_size=1, max_size=3, unique=True)):
        for letter in channels:
            there = [True, *(draw(st.booleans()) for _ in range(blocks)), True]
            edges = [i for i in range(len(there) + 1) if there[i - 1 : i] != there[i : i + 1]]
            for first, last in zip(edges[::2], edges[1::2], strict=True):
                piece = trace(".".join([*code, f"HH{letter}"]), (last - first) * points, rate=rate, dtype=dtype)
                shift = draw(st.integers(-4, 4)) / 10 if first else 0
                piece.stats.starttime += round((first * points + shift) / rate, 6)
                traces.append(piece)
    order = draw(st.sampled_from(["<", ">"]))
    return traces, {"encoding": encoding, "reclen": draw(st.sampled_from([256, 512, 4096])), "byteorder": order}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(drawn=streams(), data=st.data())
def test_what_is_read_is_written(
    drawn: tuple[list["obspy.Trace"], dict[str, object]],
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    traces, form = drawn
    folder = tmp_path_factory.getbasetemp()
    path = write_mseed(folder / "in.mseed", *data.draw(st.permutations(traces)), **form)
    assert_same_traces(copied(path, folder), path)
    record = open_record(path)
    assert record.recorded is not None
    assert record.recorded.filled == whole(record).size - sum(len(t.data) for t in traces)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_files_that_obspy_brings_are_told_or_survive(path: Path, tmp_path: Path) -> None:
    try:
        record = open_record(path)
    except AekitError:
        return
    write(tmp_path / "copy.mseed", whole(record), record)
    again = open_record(tmp_path / "copy.mseed")
    assert (again.shape, again.dtype, again.sampling_rate) == (record.shape, record.dtype, record.sampling_rate)
    np.testing.assert_array_equal(whole(again), whole(record))
    assert again.recorded is not None
    assert record.recorded is not None
    assert again.recorded.stations == record.recorded.stations
    np.testing.assert_array_equal(again.recorded.starts, record.recorded.starts)


def test_values_that_an_encoding_cannot_hold_are_written_in_another(tmp_path: Path) -> None:
    for dtype, encoding, wide in (("i4", "STEIM2", "INT32"), ("i4", "STEIM1", "INT32"), ("i2", "INT16", "STEIM2")):
        path = write_mseed(tmp_path / f"{encoding}.mseed", trace("CH.A..HHZ", 50, dtype=dtype), encoding=encoding)
        record = open_record(path)
        values = np.tile(np.array([40_000, -40_000] if wide == "STEIM2" else [2**31 - 1, -(2**31)], np.int32), 25)
        (written,) = traces_of(write(tmp_path / "w.mseed", values.reshape(record.shape), record))
        assert written.stats.mseed.encoding == wide
        np.testing.assert_array_equal(written.data, values)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_what_was_taken_away_is_written_as_floats(dtype: str, tmp_path: Path) -> None:
    record = open_record(write_mseed(tmp_path / "g.mseed", *three_channels_with_a_gap()))
    write(tmp_path / "n.mseed", np.full(record.shape, 0.25, dtype), record)
    assert {t.data.dtype for t in traces_of(tmp_path / "n.mseed")} == {np.dtype(dtype)}
    assert sum(t.stats.npts for t in traces_of(tmp_path / "n.mseed")) == 3 * 900 + 700 + 650 + 700


# --- SAC --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_sac_keeps_its_header(byteorder: str, tmp_path: Path) -> None:
    path = write_sac(tmp_path / "a.sac", byteorder=byteorder, **HEADER)
    record = open_record(path)
    assert (record.shape, record.dtype, record.sampling_rate) == ((1, 1, 1500), np.float32, 20.0)
    assert record.picks is not None
    stored = obspy.read(str(path))[0]
    np.testing.assert_array_equal(whole(record)[0, 0], stored.data)
    begin = stored.stats.sac.b
    assert record.picks.tolist() == [[round((10 - begin) * 20), round((25.5 - begin) * 20)]]
    assert record.recorded is not None
    assert record.recorded.stations == ("CH.AAA.00.HH",)
    assert abs(obspy.UTCDateTime(str(record.recorded.starts[0])) - stored.stats.starttime) <= 1e-6
    copy = copied(path, tmp_path)
    same = np.frombuffer(copy.read_bytes(), "u4") == np.frombuffer(path.read_bytes(), "u4")
    assert np.flatnonzero(~same).tolist() in ([], [56])  # the mean may be rounded another way
    changed = obspy.read(str(write(tmp_path / "b.sac", whole(record) * 2, record)))[0]
    assert changed.stats.sac.depmax == changed.data.max() == 2 * stored.data.max()
    assert {k: v for k, v in changed.stats.sac.items() if k[:3] != "dep"} == {
        k: v for k, v in stored.stats.sac.items() if k[:3] != "dep"
    }


def test_markers_that_are_not_set_or_lie_outside_are_no_picks(tmp_path: Path) -> None:
    assert open_record(write_sac(tmp_path / "n.sac")).picks is None  # nobody knows
    record = open_record(write_sac(tmp_path / "p.sac", t0=5.0))
    assert record.picks is not None
    assert record.picks[0, 0] == -1
    assert open_record(write_sac(tmp_path / "o.sac", a=-7.0, t0=1e6)).picks is None or whole(record).size


def test_sac_faults(tmp_path: Path) -> None:
    content = write_sac(tmp_path / "a.sac", 300).read_bytes()
    for name, changed in {
        "short": content[:-4],
        "long": content + b"1234",
        "head": content[:600],
        "uneven": content[: 4 * 105] + b"\0\0\0\0" + content[4 * 106 :],
        "text": b"0.01 0.02\n" * 200,
    }.items():
        (tmp_path / f"{name}.sac").write_bytes(changed)
        assert "is damaged or of another format" in fault(tmp_path / f"{name}.sac")
    (tmp_path / "still.sac").write_bytes(b"\0\0\0\0" + content[4:])
    assert "its sampling rate is 0.0" in fault(tmp_path / "still.sac")


# --- faults -----------------------------------------------------------------------------------------------------------


def test_mseed_faults(tmp_path: Path) -> None:
    content = recordings.write_recording(tmp_path / "a.mseed").read_bytes()
    at = content.index(b"\x03\xe8") + 6  # where blockette 1000 tells the length of the record
    for name, (changed, says) in {
        "cut": (content[:-100], "ends too early: the record at byte 2048 has 412 of its 512 bytes"),
        "head": (content[:530], "no miniSEED record begins at byte 512"),
        "tail": (content + b"1", "no miniSEED record begins at byte 2560"),
        "middle": (content[:512] + bytes(512) + content[1024:], "no miniSEED record begins at byte 512"),
        "values": (content[:600] + bytes(100) + content[700:], "is damaged or of another format"),
        "length": (content[:at] + b"\x1e" + content[at + 1 :], "tells no length"),
        "seed": (b"000001V 010" + bytes(501), "no miniSEED record begins at byte 0"),
        "text": (b"Z N E\n" * 100, "no miniSEED record begins at byte 0"),
    }.items():
        (tmp_path / f"{name}.mseed").write_bytes(changed)
        assert says in fault(tmp_path / f"{name}.mseed")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data())
def test_damage_is_told_in_one_line_or_harmless(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What can be read of a damaged file can be written."""
    folder = tmp_path_factory.getbasetemp()
    path = recordings.write_recording(folder / f"f{data.draw(st.sampled_from(recordings.ENDINGS))}")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1) | st.integers(0, min(60, len(content) - 1)))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b"9", b" "])
        )
    path.write_bytes(content)
    lines = []
    try:
        record = open_record(path)
        write(folder / f"o{path.suffix}", whole(record), record)
    except AekitError as error:
        lines = [str(error)]
    assert all(folder.name in line and "\n" not in line for line in lines)


def test_an_infinite_value_passes_as_in_other_formats(tmp_path: Path) -> None:
    one = trace("CH.A..HHZ", 50, dtype="f4")
    one.data[3], one.data[4] = np.nan, np.inf
    record = open_record(write_mseed(tmp_path / "n.mseed", one))
    np.testing.assert_array_equal(whole(record)[0, 0], one.data)


def test_declared_spans_are_not_believed(tmp_path: Path) -> None:
    """Two short traces years apart: nothing of the size of the span is made."""
    resource = pytest.importorskip("resource")
    path = write_mseed(tmp_path / "y.mseed", *(trace("CH.A..HHZ", 50, first, 100.0) for first in (0, 3e8)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "cut the file into shorter ones" in fault(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


# --- the library ------------------------------------------------------------------------------------------------------


def test_obspy_and_wfdb_are_imported_where_they_are_needed_alone() -> None:
    code = "import sys, aekit.formats; assert not {'obspy', 'wfdb', 'pandas'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("ending", recordings.ENDINGS)
def test_without_its_library_a_format_says_what_to_install(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recordings.write_recording(tmp_path / f"a{ending}")
    name, extra = ("wfdb", "ecg") if ending == ".hea" else ("obspy", "seismic")
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        monkeypatch.setitem(sys.modules, module, None)
    line = fault(path)
    assert line == f'{path}: {name} reads such files and is missing; pip install "aekit[{extra}]"'
