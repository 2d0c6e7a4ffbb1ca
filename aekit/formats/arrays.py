"""NumPy's .npy and .npz, and .safetensors.

Headers are read here, not by NumPy, which would evaluate or unpickle what it finds there. Nothing in these files can
run code, and no size that a header declares is believed before the file's own size agrees.
"""

import contextlib
import io
import json
import math
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn, cast

import numpy as np

from aekit.errors import AekitError
from aekit.formats._raw import check_deflated, check_end, check_size, load, raw_array, raw_writer, short
from aekit.formats._registry import (
    Contents,
    Plan,
    Put,
    Stored,
    Want,
    once,
    reader,
    reading,
    shown,
    writer,
)
from aekit.records import Array

# --- .npy

NUMBERS = frozenset(["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])


class NpyHeader(NamedTuple):
    """The header of an .npy file or member; the data begin `offset` bytes after its start."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]  # object for what is never read
    order: str  # C or F

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _npy_header(f: BinaryIO, path: Path) -> NpyHeader:
    start = f.read(8)
    if not start.startswith(b"\x93NUMPY"):
        raise ValueError("it does not begin as .npy files do")
    width = 2 if start[6:7] == b"\x01" else 4
    length = int.from_bytes(f.read(width), "little")
    if length > 1 << 20:
        raise ValueError(f"its header claims {length} bytes for itself")
    text = f.read(length).decode("latin-1")
    if len(text) < length:
        raise short(path, "its header is cut off")
    descr = re.search(r"""['"]descr['"]\s*:\s*(?:\[|['"]([<>|=]?)([a-zA-Z])(\d*))""", text)
    order = re.search(r"""['"]fortran_order['"]\s*:\s*(True|False)""", text)
    shape = re.search(r"""['"]shape['"]\s*:\s*\(([\dL,\s]*)\)""", text)
    axes = [axis.strip() for axis in shape[1].split(",")] if shape else [""]
    axes = axes if axes[-1] else axes[:-1]  # (6,) has one, () has none
    if not (descr and order and shape) or not all(re.fullmatch(r"\d{1,20}L?", axis) for axis in axes):
        raise ValueError(f"its header is {shown(text, 60)}")
    sizes = tuple(int(axis.rstrip("L")) for axis in axes)
    dtype = _dtype(descr[1] or "", descr[2] or "", descr[3] or "")
    return NpyHeader(8 + width + length, sizes, dtype, "F" if order[1] == "True" and len(sizes) > 1 else "C")


def _dtype(order: str, kind: str, size: str) -> np.dtype[np.generic]:
    """The dtype of an .npy header; object for what is never read: pickled objects, records, complex numbers, dates."""
    if kind + size in NUMBERS:
        return np.dtype(order + kind + size)
    if kind in "US" and size and 0 < int(size) < 1 << 16:
        return np.dtype(order.replace("|", "") + kind + size)
    return np.dtype(object)


def unread(path: Path, name: str, shape: tuple[int, ...], what: str = "") -> Stored:
    """An array that is named in messages but never read; `what` it holds, if it is known."""
    what = (
        what
        or "objects, rows of mixed lengths, complex numbers, dates or records, and pickled objects are never loaded"
    )

    def read(start: int, stop: int) -> NoReturn:
        place = f"{path}: {shown(name)}" if name else f"{path}"
        raise AekitError(f"{place}: holds {what}; save it as one array of real numbers")

    return Stored(shape, np.dtype(object), read)


@reader(".npy")
def read_npy(path: Path, want: Want) -> Contents:
    with reading(path, ValueError), path.open("rb") as f:
        header = _npy_header(f, path)
        if header.dtype.hasobject:
            return Contents({"": unread(path, "", header.shape)})
        check_size(path, header.offset, header.shape, header.dtype)
    return Contents({"": _npy_array(path, header, header.offset)})


def _npy_array(path: Path, header: NpyHeader, offset: int) -> Stored:
    if header.order == "C":
        return raw_array(path, offset, header.shape, header.dtype)

    def load_fortran() -> Array:
        with path.open("rb", buffering=0) as f:
            f.seek(offset)
            return load(f, header.shape, header.dtype, "F", path)

    return Stored(header.shape, header.dtype.newbyteorder("="), once(load_fortran))


def npy_header(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> bytes:
    f = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(f, described)
    return f.getvalue()


@writer(".npy")
@contextlib.contextmanager
def write_npy(path: Path, plan: Plan) -> Iterator[Put]:
    with path.open("wb") as f, raw_writer(f, npy_header(plan.stored_shape, plan.dtype), plan.dtype) as put:
        yield put


# --- .npz

ZIP_FAULTS = (ValueError, RuntimeError, NotImplementedError, struct.error, OverflowError, KeyError)


@reader(".npz")
def read_npz(path: Path, want: Want) -> Contents:
    arrays = {}
    with reading(path, *ZIP_FAULTS), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.filename.endswith(".npy"):
                name = info.filename.removesuffix(".npy")
                arrays[name] = _member(path, archive, info, name)
    if not arrays:
        raise AekitError(f"{path}: holds no arrays; write it with numpy.savez")
    return Contents(arrays)


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Stored:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
        raise ValueError("zipped by a method that NumPy does not write")
    with archive.open(info) as f:
        header = _npy_header(cast(BinaryIO, f), path)
    if header.dtype.hasobject:
        return unread(path, name, header.shape)
    if header.offset + header.nbytes != info.file_size:
        raise ValueError(f"{shown(name)}: shape {header.shape} does not fit its {info.file_size} bytes")
    if info.compress_type == zipfile.ZIP_STORED:
        return _npy_array(path, header, _member_start(path, info) + header.offset)
    check_deflated(path, info.file_size, min(info.compress_size, path.stat().st_size))

    def load_member() -> Array:
        with reading(path, *ZIP_FAULTS), zipfile.ZipFile(path) as archive, archive.open(info) as member:
            f = cast(BinaryIO, member)
            f.read(header.offset)
            array = load(f, header.shape, header.dtype, header.order, path)
            check_end(f, path)  # here zipfile compares the checksum
            return array

    return Stored(header.shape, header.dtype.newbyteorder("="), once(load_member))


def _member_start(path: Path, info: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin: after its local header, whose extra field has a length of its own."""
    with path.open("rb") as f:
        f.seek(info.header_offset)
        local = f.read(30)
        name_length, extra_length = struct.unpack("<HH", local[26:30])
        start: int = info.header_offset + 30 + name_length + extra_length
        if start + info.file_size > path.stat().st_size:
            raise short(path, f"{shown(info.filename)} is cut off")
    return start


@writer(".npz")
@contextlib.contextmanager
def write_npz(path: Path, plan: Plan) -> Iterator[Put]:
    names = plan.names
    with zipfile.ZipFile(path, "w") as archive:
        if plan.labels is not None:
            _write_member(archive, names.labels, np.asarray(plan.labels))
        if plan.alike and plan.like.sampling_rate is not None:
            _write_member(archive, "sampling_rate", np.array(plan.like.sampling_rate))
        for name, points in plan.arrivals.items():
            _write_member(archive, name, points)
        with archive.open(zipfile.ZipInfo(f"{names.data}.npy"), "w", force_zip64=True) as f:
            header = npy_header(plan.stored_shape, plan.dtype)
            with raw_writer(cast(BinaryIO, f), header, plan.dtype) as put:
                yield put


def _write_member(archive: zipfile.ZipFile, name: str, array: Array) -> None:
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as f:
        np.lib.format.write_array(cast(BinaryIO, f), array, allow_pickle=False)


SAFETENSORS = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    **{
        f"{name}{8 * size}": f"<{kind}{size}"
        for name, kind in (("U", "u"), ("I", "i"), ("F", "f"))
        for size in (2, 4, 8)
    },
}


@reader(".safetensors")
def read_safetensors(path: Path, want: Want) -> Contents:
    size = path.stat().st_size
    with reading(path, ValueError, TypeError, KeyError, AttributeError, RecursionError), path.open("rb") as f:
        length = int.from_bytes(f.read(8), "little")
        if length > min(size - 8, 100_000_000):
            raise short(path, f"it declares {length} bytes of header, the file has {size}")
        entries = json.loads(f.read(length).decode())
        metadata = entries.pop("__metadata__", None) or {}
        rate = metadata.get("sampling_rate")
        return Contents({name: _tensor(path, name, entry, 8 + length, size, rate) for name, entry in entries.items()})


def _tensor(path: Path, name: str, entry: dict[str, object], start: int, size: int, rate: object) -> Stored:
    code, shape = str(entry["dtype"]), tuple(cast(list[int], entry["shape"]))
    begin, end = cast(list[int], entry["data_offsets"])
    if not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
        raise ValueError(f"{shown(name)}: a negative size")
    if start + end > size:
        raise short(path, f"its header declares {start + end} bytes, the file has {size}")
    if code not in SAFETENSORS:
        return unread(path, name, shape, f"values of type {shown(code, 20)}, which NumPy lacks")
    dtype = np.dtype(SAFETENSORS[code])
    if math.prod(shape) * dtype.itemsize != end - begin:
        raise ValueError(f"{shown(name)}: shape {shape} does not fit its {end - begin} bytes")
    return raw_array(path, start + begin, shape, dtype)._replace(sampling_rate=rate)


@writer(".safetensors")
@contextlib.contextmanager
def write_safetensors(path: Path, plan: Plan) -> Iterator[Put]:
    names, labels = plan.names, plan.labels
    codes = {np.dtype(dtype): code for code, dtype in SAFETENSORS.items()}
    entries: dict[str, object] = {}
    if plan.alike and plan.like.sampling_rate is not None:
        entries["__metadata__"] = {"sampling_rate": str(plan.like.sampling_rate)}
    written = {names.data: (plan.dtype, plan.stored_shape)}
    if labels is not None and labels.dtype in codes:  # text has no place in the format
        written[names.labels] = (labels.dtype, labels.shape)
    end = 0
    for name, (dtype, shape) in written.items():
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        entries[name] = {"dtype": codes[dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)  # aligns the data
    with path.open("wb") as f, raw_writer(f, len(text).to_bytes(8, "little") + text, plan.dtype) as put:
        yield put
        if names.labels in written and labels is not None:
            f.write(np.ascontiguousarray(labels).tobytes())
