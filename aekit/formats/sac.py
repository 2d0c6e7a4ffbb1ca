"""SAC, by obspy: one trace of a file. Its header is kept as it is stored; A and T0 are the arrivals of P and S."""

import contextlib
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aekit.formats._raw import load, raw_writer
from aekit.formats._registry import (
    FAULTS,
    PICK_NAMES,
    Contents,
    Plan,
    Put,
    Stored,
    Want,
    library,
    once,
    reader,
    reading,
    writer,
)
from aekit.records import Array, Recorded

HEADER_BYTES = 632


class Header(NamedTuple):
    """Record.header of a SAC file, as stored."""

    floats: Array
    integers: Array
    texts: Array


@reader(".sac", needs="obspy")
def read_sac(path: Path, want: Want) -> Contents:
    arrayio, names, util = (library(f"obspy.io.sac.{name}", path) for name in ("arrayio", "header", "util"))
    with reading(path, *FAULTS, util.SacError), path.open("rb") as f:
        header = Header(*arrayio.read_sac(f, headonly=True, checksize=True)[:3])
        number = {
            **dict(zip(names.FLOATHDRS, header.floats, strict=True)),
            **dict(zip(names.INTHDRS, header.integers, strict=True)),
        }
        if number["leven"] != 1 or number["iftype"] not in (names.ENUM_VALS["itime"], int(names.INULL)):
            raise ValueError("it holds no series of evenly spaced points")
        text = dict(zip(names.STRHDRS, header.texts, strict=True))
        codes = [_text(text[name]) for name in ("knetwk", "kstnm", "khole", "kcmpnm")]
        start = _start(number)
        delta, begin = _short(number["delta"]), _short(number["b"])
        points = int(number["npts"])
        picks = [_point(number[name], begin, delta, points) for name in ("a", "t0")]
    shape = 1, 1, points

    def load_all() -> Array:
        with reading(path), path.open("rb") as f:
            f.seek(HEADER_BYTES)
            return load(f, shape, header.floats.dtype, "C", path)

    arrays = {"": Stored(shape, np.dtype(np.float32), once(load_all), 1 / delta if delta > 0 else delta)}
    for name, point in zip(PICK_NAMES, picks, strict=True):
        if point >= 0:  # else nobody knows whether it arrives here
            arrays[name] = Stored((1,), np.dtype(np.int64), once(partial(np.full, 1, point)))
    station = (".".join(codes)[:-1],) if any(codes) else ()
    starts = None if start is None else np.array([start])
    recorded = Recorded(station, starts, np.zeros((0, 3), np.int64), 0)
    return Contents(arrays, "series", 1, recorded=recorded, header=header)


def _text(stored: bytes) -> str:
    """A header's text, empty where it is not set."""
    text = stored.split(b"\0")[0].decode("ascii", "replace").strip()
    return "" if text.startswith("-12345") else text


def _short(value: np.floating) -> float:
    """A float32 as the number that was meant: 0.01, not 0.009999999776."""
    return float(str(value))


def _start(number: dict[str, Any]) -> np.datetime64 | None:
    """The time of the first point: b seconds after the reference; None where the header tells no reference."""
    year, day, *clock = (int(number[name]) for name in ("nzyear", "nzjday", "nzhour", "nzmin", "nzsec", "nzmsec"))
    if not (1 <= year <= 9999 and 1 <= day <= 366 and min(clock) >= 0):
        return None
    hour, minute, second, millisecond = clock
    seconds = ((day - 1) * 24 + hour) * 3600 + minute * 60 + second + millisecond / 1000 + _short(number["b"])
    return np.datetime64(f"{year:04}-01-01", "us") + np.timedelta64(round(seconds * 1e6), "us")


def _point(seconds: np.floating, begin: float, delta: float, points: int) -> int:
    """The point of a marker, -1 where it is not set or lies outside the trace."""
    point = (_short(seconds) - begin) / delta if seconds != -12345 and delta > 0 else math.nan
    return round(point) if -0.5 <= point < points - 0.5 else -1


@writer(".sac")
@contextlib.contextmanager
def write_sac(path: Path, plan: Plan) -> Iterator[Put]:
    """The header as it was read, but for the lowest, highest and mean value."""
    header = plan.like.header
    if not isinstance(header, Header) or plan.shape != plan.like.shape or plan.dtype != np.float32:
        raise plan.refuse(
            "a SAC file holds one trace of float32 with its header, which only a SAC input tells", "name a .npy file"
        )
    floats = header.floats.copy()
    with path.open("wb") as f, raw_writer(f, bytes(HEADER_BYTES), header.floats.dtype) as put:

        def put_all(rows: Array) -> None:
            for row in rows:
                with np.errstate(invalid="ignore"):  # of infinite values
                    floats[[1, 2, 56]] = row.min(), row.max(), row.mean(dtype=np.float64)
                put(row)

        yield put_all
        f.seek(0)
        f.write(floats.tobytes() + header.integers.tobytes() + header.texts.tobytes())
