"""miniSEED, by obspy. A row is a station: its channels, Z N E, over one span of time.

The traces of a station begin and end where they will, and have gaps. The model is given all of the span, filled up from
both sides where nothing was recorded; `Record.header` keeps which values are which trace, so that the writer puts out
the traces that were read, each with its codes, start, rate and encoding, and nothing else.
"""

import contextlib
import io
import math
import re
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aekit.errors import AekitError
from aekit.formats._gaps import fill, find_gaps
from aekit.formats._raw import short
from aekit.formats._registry import (
    FAULTS,
    VALUES_AT_ONCE,
    Contents,
    Plan,
    Put,
    Stored,
    Want,
    library,
    listed,
    once,
    quiet,
    rate_in_hz,
    reader,
    reading,
    shown,
    writer,
)
from aekit.records import Array, Recorded

ORDER = "ZNE12"  # channels by their last letter; others follow by the alphabet
MOST_MADE_UP = 1 << 25  # values that gaps may add to a file, unless that is less than three for each recorded one
RATE_TOLERANCE = 1e-6  # a day at 100 Hz is off by nine points
SPAN_TOLERANCE = 1.0  # seconds, or one point, by which stations may differ in length and still be rows of one array
RECORD = re.compile(rb"[0-9 \0]{6}[DRQM][ \0][ -~\0]{12}")  # as each record of a miniSEED file begins
LOST = r"(?i).*(skip|integrity|not be read|exceeds)"  # what libmseed says where data are damaged
INTEGERS = ("STEIM2", "STEIM1", "INT32", "INT16")  # encodings of int32 that can be written
FLOATS = {np.dtype(np.float32): "FLOAT32", np.dtype(np.float64): "FLOAT64"}

Trace = Any  # obspy's


class Piece(NamedTuple):
    """One trace of a row."""

    channel: int
    first: int  # point of the row
    stats: Any  # obspy's header of the trace


class Traces(NamedTuple):
    """Record.header of a miniSEED file."""

    rows: tuple[tuple[Piece, ...], ...]


@reader(".mseed", ".miniseed", needs="obspy")
def read_mseed(path: Path, want: Want) -> Contents:
    """A row per station where all have as many channels, one rate and one length; else the user names one."""
    stations: dict[str, list[Trace]] = {}
    for trace in sorted(_traces(path), key=lambda t: (t.id[:-1], *_place(t.stats.channel), t.stats.starttime)):
        stations.setdefault(trace.id[:-1], []).append(trace)
    if want.name is not None:
        stations = _named(path, stations, want.name)
    _check_alike(path, stations)
    rows = tuple(_pieces(traces) for traces in stations.values())
    values, missing = _assembled(path, list(stations.values()), rows)
    fill(values, missing)
    starts = np.array([min(trace.stats.starttime.ns for trace in traces) // 1000 for traces in stations.values()])
    recorded = Recorded(tuple(stations), starts.astype("M8[us]"), find_gaps(missing), int(missing.sum()))
    stored = Stored(values.shape, values.dtype, once(lambda: values), rows[0][0].stats.sampling_rate)
    return Contents({want.name or "": stored}, "series", 1, recorded=recorded, header=Traces(rows))


def _traces(path: Path) -> list[Trace]:
    """All traces of a file that hold anything."""
    obspy = library("obspy", path)
    mseed = library("obspy.io.mseed", path)
    with reading(path, *FAULTS, struct.error, mseed.ObsPyMSEEDError, mseed.InternalMSEEDWarning), quiet():
        content = path.read_bytes()
        _check_records(content, path)
        warnings.filterwarnings("error", LOST, mseed.InternalMSEEDWarning)
        return [trace for trace in obspy.read(io.BytesIO(content), format="MSEED") if trace.stats.npts]


def _check_records(content: bytes, path: Path) -> None:
    """Raises where a file is not made of whole records: obspy passes over what it cannot read."""
    at = 0
    while at < len(content):
        if not RECORD.match(content, at):
            raise ValueError(f"no miniSEED record begins at byte {at}")
        if len(content) < at + 48:
            raise short(path, f"the record at byte {at} has {len(content) - at} bytes")
        size = _record_size(content, at)
        if not 128 <= size <= 1 << 20:
            raise ValueError(f"the record at byte {at} tells no length in a blockette 1000")
        if len(content) < at + size:
            raise short(path, f"the record at byte {at} has {len(content) - at} of its {size} bytes")
        at += size


def _record_size(content: bytes, at: int) -> int:
    """The length that blockette 1000 tells, 0 where there is none; blockettes are a chain in the record's header."""
    order = ">" if 1900 <= int.from_bytes(content[at + 20 : at + 22], "big") <= 2100 else "<"
    (following,) = struct.unpack_from(order + "H", content, at + 46)
    here = 0
    while here < following and at + following + 8 <= len(content):
        here = following
        kind, following = struct.unpack_from(order + "HH", content, at + here)
        if kind == 1000:
            return int(1 << min(content[at + here + 6], 30))
    return 0


def _place(channel: str) -> tuple[int, str]:
    """By which the channels of a station are sorted."""
    letter = channel[-1:]
    return (ORDER.index(letter) if letter and letter in ORDER else len(ORDER)), channel


def _named(path: Path, stations: dict[str, list[Trace]], name: str) -> dict[str, list[Trace]]:
    """What a name stands for: a network, a station, a location, a station's channels of one kind, or one channel."""
    found = {
        station: [t for t in traces if name in (station, t.id) or t.id.startswith(f"{name}.")]
        for station, traces in stations.items()
    }
    found = {station: traces for station, traces in found.items() if traces}
    if not found:
        raise AekitError(f"{path}: has no station {shown(name)!r}; it has {listed(stations)}")
    return found


def _check_alike(path: Path, stations: dict[str, list[Trace]]) -> None:
    """Raises AekitError where the traces are no rows of one array."""
    if not stations:
        raise AekitError(f"{path}: holds no data; name a file with data")
    forms = [_form(traces) for traces in stations.values()]
    lengths = [form.seconds for form in forms]
    same = all(form.kind == forms[0].kind for form in forms)
    if len(forms) > 1 and not (same and max(lengths) - min(lengths) <= max(SPAN_TOLERANCE, forms[0].delta)):
        said = (
            f"{name} {form.kind[0]}x{form.seconds:.6g} s {form.kind[1]}"
            for name, form in zip(stations, forms, strict=True)
        )
        first = shown(next(iter(stations)))
        raise AekitError(f"{path}: its stations differ: {listed(said)}; name one, as {path}:{first}")
    for name, traces in stations.items():
        if traces[0].data.dtype.kind not in "if":
            raise AekitError(f"{path}: {shown(name)}: holds text, no numbers; name another station after a colon")
        rates = [trace.stats.sampling_rate for trace in traces]
        rate_in_hz(path, min(rates))
        if max(rates) - min(rates) > RATE_TOLERANCE * max(rates) or len({t.data.dtype for t in traces}) > 1:
            own = dict.fromkeys(f"{t.id} {t.stats.sampling_rate:g} Hz {t.data.dtype}" for t in traces)
            raise AekitError(
                f"{path}: {shown(name)}: its channels differ: {listed(own)}; name one, as {path}:{shown(traces[0].id)}"
            )


class _Form(NamedTuple):
    kind: tuple[int, str, str]  # channels, rate, type
    seconds: float
    delta: float  # seconds from one point to the next


def _form(traces: list[Trace]) -> _Form:
    start, end = min(t.stats.starttime for t in traces), max(t.stats.endtime for t in traces)
    first = traces[0]
    kind = len({t.stats.channel for t in traces}), f"{first.stats.sampling_rate:.6g} Hz", str(first.data.dtype)
    return _Form(kind, end - start, first.stats.delta)


def _pieces(traces: list[Trace]) -> tuple[Piece, ...]:
    """Where each trace of a station lies in its row: at the point nearest to its start that is free."""
    start, rate = min(trace.stats.starttime.ns for trace in traces), traces[0].stats.sampling_rate
    channels = list(dict.fromkeys(trace.stats.channel for trace in traces))
    pieces: list[Piece] = []
    for trace in traces:
        stats = trace.stats
        first = round((stats.starttime.ns - start) * rate / 1e9)
        before = pieces[-1] if pieces and pieces[-1].stats.channel == stats.channel else None
        if before is not None and stats.starttime > before.stats.endtime:  # by less than half a point, may be
            first = max(first, before.first + before.stats.npts)
        pieces.append(Piece(channels.index(stats.channel), first, stats))
    return tuple(pieces)


def _assembled(
    path: Path, stations: list[list[Trace]], rows: tuple[tuple[Piece, ...], ...]
) -> tuple[Array, NDArray[np.bool_]]:
    """The values (rows, C, T), and where there are none; raises AekitError where traces contradict each other."""
    pieces = [piece for row in rows for piece in row]
    points = max(piece.first + piece.stats.npts for piece in pieces)
    shape = len(rows), max(piece.channel for piece in pieces) + 1, points
    there = sum(piece.stats.npts for piece in pieces)
    if math.prod(shape) > max(MOST_MADE_UP, 4 * there):
        raise AekitError(
            f"{path}: {there} values are spread over {points * pieces[0].stats.delta:.6g} s, nearly all of it gaps; "
            "cut the file into shorter ones, as obspy's Stream.slice does"
        )
    values = np.zeros(shape, stations[0][0].data.dtype)
    missing = np.ones(shape, np.bool_)
    for row, (laid, traces) in enumerate(zip(rows, stations, strict=True)):
        for piece, trace in zip(laid, traces, strict=True):
            part = row, piece.channel, slice(piece.first, piece.first + piece.stats.npts)
            again = ~missing[part]
            if not np.array_equal(values[part][again], trace.data[again], equal_nan=trace.data.dtype.kind == "f"):
                raise AekitError(
                    f"{path}: {trace.id}: two traces tell different values of the time from {trace.stats.starttime}; "
                    "leave one out, or name another channel or station after a colon"
                )
            values[part] = trace.data
            missing[part] = False
    return values, missing


@writer(".mseed", ".miniseed")
@contextlib.contextmanager
def write_mseed(path: Path, plan: Plan) -> Iterator[Put]:
    """The traces that were read: the header tells them, so only what came out of a miniSEED file can be written."""
    header = plan.like.header
    if not isinstance(header, Traces) or plan.shape != plan.like.shape:
        raise plan.refuse(
            "a miniSEED file needs the codes and start of each trace, which only a miniSEED input tells",
            "name a .npy file",
        )
    if plan.dtype != np.int32 and plan.dtype not in FLOATS:
        raise plan.refuse(f"a miniSEED file holds int32, float32 or float64, not {plan.dtype}", "name a .npy file")
    obspy = library("obspy", plan.out)
    left = iter(header.rows)
    with path.open("wb") as f:

        def put(rows: Array) -> None:
            for row in rows:
                for piece in next(left):
                    part = row[piece.channel, piece.first : piece.first + piece.stats.npts]
                    f.write(_packed(obspy.Trace(np.ascontiguousarray(part), piece.stats)))

        yield put


def _packed(trace: Trace) -> bytes:
    """The records of one trace, in its encoding where that can hold the values."""
    encoding = trace.stats.mseed.encoding
    if trace.data.dtype in FLOATS:
        encoding = FLOATS[trace.data.dtype]
    elif not _holds(encoding, trace.data):
        encoding = next(other for other in INTEGERS if _holds(other, trace.data))
    trace.data = trace.data.astype(np.int16) if encoding == "INT16" else trace.data
    length = max(256, trace.stats.mseed.record_length)  # obspy writes none of 128
    buffer = io.BytesIO()  # in memory: obspy would not tell of a full disk
    trace.write(buffer, format="MSEED", encoding=encoding, reclen=length)
    return buffer.getvalue()


def _holds(encoding: str, values: Array) -> bool:
    """Whether an encoding of whole numbers can hold int32 values: those of Steim hold differences."""
    if encoding not in INTEGERS or encoding == "INT32":
        return encoding == "INT32"
    bits = {"INT16": 15, "STEIM2": 29, "STEIM1": 31}[encoding]
    for start in range(0, len(values), VALUES_AT_ONCE):
        wide = values[max(start - 1, 0) : start + VALUES_AT_ONCE].astype(np.int64)
        if encoding != "INT16":
            wide = np.diff(wide, prepend=wide[:1] if start else 0)
        if wide.min(initial=0) < -(1 << bits) or wide.max(initial=0) >= 1 << bits:
            return False
    return True
