"""WFDB, by wfdb: a header (.hea) and its signals (.dat) are one record in physical units; invalid samples are gaps.

Written are both files, the signals as digital values by the gains and baselines of the input.
"""

import contextlib
import copy
import math
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aekit.errors import AekitError
from aekit.files import whole
from aekit.formats._gaps import fill, find_gaps
from aekit.formats._raw import short
from aekit.formats._registry import Contents, Plan, Put, Stored, Want, library, once, reader, reading, shown, writer
from aekit.records import Array, Recorded

BITS = {"80": 8, "212": 12, "16": 16, "24": 24, "32": 32}  # of a sample, by format: those that are written
READ_ONLY = {"310": 10, "311": 10, "61": 16, "160": 16, "508": 8, "516": 16, "524": 24, "8": 32}
BYTES = {
    "310": 4 / 3,
    "311": 4 / 3,
    "8": 1,
    "508": 1e-4,
    "516": 1e-4,
    "524": 1e-4,
}  # where not bits / 8; FLAC: at least
FAULTS = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError)


class Header(NamedTuple):
    """Record.header of a WFDB record."""

    record: Any  # wfdb's, without its signals
    missing: NDArray[np.bool_]  # (C, T)
    files: tuple[Path, ...]  # that hold the signals


@reader(".hea", needs="wfdb")
def read_wfdb(path: Path, want: Want) -> Contents:
    wfdb = library("wfdb", path)
    name = str(path.with_suffix(""))
    with reading(path, *FAULTS):
        record = wfdb.rdheader(name)
        if isinstance(record, wfdb.MultiRecord):
            first = next((segment for segment in record.seg_name if segment != "~"), "")
            raise AekitError(
                f"{path}: is made of {record.n_seg} segments; name one of them, as {path.with_name(first)}.hea"
            )
        files = _check(path, record)
        record = wfdb.rdrecord(name, physical=False)
    digital: NDArray[np.integer] = record.d_signal.T  # (C, T)
    record.d_signal = None
    lowest = np.array([_lowest(form) for form in record.fmt])
    missing = digital == lowest[:, None]
    gain, baseline = (np.array(field, np.float64)[:, None] for field in (record.adc_gain, record.baseline))
    values = (digital - baseline) / gain
    fill(values, missing)
    stored = Stored((1, *values.shape), values.dtype, once(lambda: values[None]), record.fs)
    recorded = Recorded((), None, find_gaps(missing[None]), int(missing.sum()))
    return Contents({"": stored}, "series", 1, recorded=recorded, header=Header(record, missing, files))


def _lowest(form: str) -> int:
    """The digital value that marks an invalid sample."""
    return -(1 << ({**BITS, **READ_ONLY}[form] - 1))


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
    files = []
    for name in dict.fromkeys(names):
        forms = {form for other, form in zip(names, record.fmt, strict=True) if other == name}
        if len(forms) > 1:
            raise ValueError(f"{name} holds signals of several formats")
        form = forms.pop()
        with reading(path.parent / name):
            size = (path.parent / name).stat().st_size
        values = (record.sig_len or 0) * names.count(name)
        declared = math.ceil(values * BYTES.get(form, {**BITS, **READ_ONLY}[form] / 8))
        declared += record.byte_offset[names.index(name)] or 0
        if size < declared:
            raise short(path.parent / name, f"{path.name} declares {declared} bytes, the file has {size}")
        files.append(path.parent / name)
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
    wfdb = library("wfdb", plan.out)
    with whole(signals, plan.force) as place, tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:

        def put(rows: Array) -> None:
            for row in rows:
                _digital(header, row, name, wfdb).wrsamp(write_dir=folder)

        yield put
        os.replace(Path(folder) / f"{name}.hea", path)
        os.replace(Path(folder) / f"{name}.dat", place)


def _digital(header: Header, row: Array, name: str, wfdb: Any) -> Any:
    """The input's wfdb record with other signals (C, T), all in one file."""
    values: NDArray[np.float64] = row.astype(np.float64, copy=False)
    record = copy.copy(header.record)
    bits = max({**BITS, **READ_ONLY}[form] for form in record.fmt)
    form = next(form for form in BITS if BITS[form] >= bits)
    low, high = -(1 << (BITS[form] - 1)), (1 << (BITS[form] - 1)) - 1
    gain, baseline = (np.array(field, np.float64)[:, None] for field in (record.adc_gain, record.baseline))
    digital = np.clip(np.rint(values * gain + baseline), low + 1, high)
    digital[header.missing | ~np.isfinite(values)] = low
    record.d_signal = digital.astype(np.int64).T
    record.record_name = name
    record.file_name = [f"{name}.dat"] * record.n_sig
    record.fmt = [form] * record.n_sig
    record.byte_offset = record.skew = record.samps_per_frame = None
    record.set_d_features()
    record.set_defaults()
    return record
