"""WFDB, by wfdb: a header (.hea) and its signals (.dat) are one record in physical units; invalid samples are gaps.

Written are both files, the signals as digital values by the gains and baselines of the input.
"""

import contextlib
import copy
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aekit.errors import AekitError
from aekit.files import whole
from aekit.formats._gaps import fill, find_gaps
from aekit.formats._raw import short
from aekit.formats._registry import (
    FAULTS,
    Contents,
    Plan,
    Put,
    Stored,
    Want,
    library,
    once,
    quiet,
    reader,
    reading,
    shown,
    writer,
)
from aekit.records import Array, Recorded

BITS = {"80": 8, "212": 12, "16": 16, "24": 24, "32": 32}  # of a sample, by format: those that are written
READ_ONLY = {"310": 10, "311": 10, "61": 16, "160": 16, "508": 8, "516": 16, "524": 24, "8": 32}
BYTES = {"310": 4 / 3, "311": 4 / 3, "8": 1, "508": 1e-4, "516": 1e-4, "524": 1e-4}  # at least, where not bits / 8


class Header(NamedTuple):
    """Record.header of a WFDB record."""

    record: Any  # wfdb's, without its signals
    lines: list[str]  # of the header
    missing: NDArray[np.bool_]  # (C, T)
    files: tuple[Path, ...]  # that hold the signals


@reader(".hea", needs="wfdb")
def read_wfdb(path: Path, want: Want) -> Contents:
    wfdb = library("wfdb", path)
    name = str(path.with_suffix(""))
    with reading(path, *FAULTS), quiet():
        record = wfdb.rdheader(name)
        if isinstance(record, wfdb.MultiRecord):
            first = next((segment for segment in record.seg_name if segment != "~"), "")
            raise AekitError(
                f"{path}: is made of {record.n_seg} segments; name one of them, as {path.with_name(first)}.hea"
            )
        files = _check(path, record)
        lines = path.read_text(encoding="latin-1").splitlines()
        if sum(map(_tells, lines)) != 1 + record.n_sig:
            raise ValueError("its lines hold signs that are no text")
        record = wfdb.rdrecord(name, physical=False)
        gain, baseline = _gain_and_baseline(record)
    digital: NDArray[np.integer] = record.d_signal.T  # (C, T)
    record.d_signal = None
    invalid = np.array([-(1 << (_bits(form) - 1)) for form in record.fmt])
    missing = digital == invalid[:, None]
    values = (digital - baseline) / gain
    fill(values, missing)
    stored = Stored((1, *values.shape), values.dtype, once(lambda: values[None]), record.fs)
    recorded = Recorded((), None, find_gaps(missing[None]), int(missing.sum()))
    return Contents({"": stored}, "series", 1, recorded=recorded, header=Header(record, lines, missing, files))


def _tells(line: str) -> bool:
    """Whether a line of a header is that of the record or of a signal."""
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _gain_and_baseline(record: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each signal, (C, 1): its physical value is (digital - baseline) / gain."""
    gain, baseline = (np.array(field, np.float64)[:, None] for field in (record.adc_gain, record.baseline))
    return gain, baseline


def _bits(form: str) -> int:
    return {**BITS, **READ_ONLY}[form]


def _check(path: Path, record: Any) -> tuple[Path, ...]:
    """The files of the signals; raises where they are not all there, or the header does not fit them."""
    names = record.file_name or []
    if not names or record.n_sig != len(names):
        raise ValueError(f"it declares {record.n_sig} signals and describes {len(names)}")
    for form, gain in zip(record.fmt, record.adc_gain, strict=True):
        if form not in BITS and form not in READ_ONLY:
            raise ValueError(f"signals of format {form} are not known")
        if not (math.isfinite(gain) and gain):
            raise ValueError(f"a gain of {gain}")
    if any(count != 1 for count in record.samps_per_frame):
        raise AekitError(
            f"{path}: its signals have {shown(str(record.samps_per_frame), 40)} samples a frame; bring all to one rate"
        )
    files = [path.parent / name for name in dict.fromkeys(names)]
    for file in files:
        mine = [i for i, name in enumerate(names) if path.parent / name == file]
        form, offset = record.fmt[mine[0]], record.byte_offset[mine[0]] or 0
        if any(record.fmt[i] != form for i in mine):
            raise ValueError(f"{file.name} holds signals of several formats")
        if not file.is_file():
            raise AekitError(
                f"{path}: its signals lie in {shown(file.name)}, which is not there; copy it beside the header"
            )
        declared = offset + math.ceil((record.sig_len or 0) * len(mine) * BYTES.get(form, _bits(form) / 8))
        if file.stat().st_size < declared:
            raise short(path, f"it declares {declared} bytes of signals, {file.name} has {file.stat().st_size}")
    return tuple(files)


@writer(".hea")
@contextlib.contextmanager
def write_wfdb(path: Path, plan: Plan) -> Iterator[Put]:
    """The header at `path`, and its signals beside `plan.out`."""
    header = plan.like.header
    if not isinstance(header, Header) or plan.shape != plan.like.shape or plan.dtype != np.float64:
        raise plan.refuse(
            "a WFDB record needs the units and gains of its signals, which only a WFDB input tells", "name a .npy file"
        )
    name = plan.out.stem
    if not re.fullmatch(r"[-\w]+", name, re.ASCII):
        raise plan.refuse(
            "a WFDB record's name has letters, digits, - and _ alone",
            f"name it {re.sub(r'[^-0-9A-Za-z_]', '_', name)}.hea",
        )
    signals = plan.out.with_suffix(".dat")
    if signals.exists() and any(signals.samefile(file) for file in header.files):
        raise plan.refuse(f"its signals would take the place of the input's, {signals}", "name another file with -o")
    form = _written_form(header.record.fmt)
    with whole(signals, plan.force) as place:

        def put(rows: Array) -> None:
            for row in rows:
                digital = _digital(header, row, form)
                path.write_text(_header_text(header, name, form, digital), encoding="latin-1")
                record = copy.copy(header.record)
                record.d_signal, record.byte_offset = digital, None
                record.fmt, record.file_name = [form] * record.n_sig, [place.name] * record.n_sig
                record.wr_dat_files(write_dir=str(place.parent))

        yield put


def _written_form(forms: list[str]) -> str:
    """The shortest format that is written and holds what these hold."""
    bits = max(_bits(form) for form in forms)
    return next(form for form in BITS if BITS[form] >= bits)


def _digital(header: Header, row: Array, form: str) -> NDArray[np.int64]:
    """Values (C, T) as digital ones (T, C)."""
    values: NDArray[np.float64] = row.astype(np.float64, copy=False)
    gain, baseline = _gain_and_baseline(header.record)
    high = (1 << (BITS[form] - 1)) - 1
    digital = np.clip(np.rint(values * gain + baseline), -high, high)
    digital[header.missing | ~np.isfinite(values)] = -high - 1
    return digital.T.astype(np.int64)


def _header_text(header: Header, name: str, form: str, digital: NDArray[np.int64]) -> str:
    """The header as it was, with the new names, format, first values and checksums."""
    lines, signal = [], -1  # the record's own line comes before those of its signals
    for line in header.lines:
        words = line.split(maxsplit=8)
        if _tells(line):
            if signal < 0:
                words[0] = name
            else:
                words[:2] = f"{name}.dat", form
                if len(words) > 5:
                    words[5] = str(digital[0, signal])
                if len(words) > 6:
                    words[6] = str(digital[:, signal].sum() % 65536)
            signal += 1
            line = " ".join(words)
        lines.append(line)
    return "\n".join(lines) + "\n"
