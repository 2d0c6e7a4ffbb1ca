"""HDF5: rows of one data set, contiguous, chunked or compressed, are read straight into one buffer."""

import contextlib
import math
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

from aekit.errors import AekitError
from aekit.formats._raw import PIECE, check_deflated, raw_writer
from aekit.formats._registry import (
    RATE_NAMES,
    Contents,
    Plan,
    Put,
    Read,
    Stored,
    Want,
    one_buffer,
    reader,
    reading,
    shown,
    writer,
)
from aekit.formats.arrays import unread
from aekit.records import Array

FAULTS = (ValueError, RuntimeError, KeyError, TypeError, OverflowError)
HEAP = b"GCOL\x01\0\0\0"  # as a heap of strings begins
CHUNK_CACHE = 64 << 20  # bytes; HDF5's own megabyte would unpack a chunk once for every batch inside it


@reader(".h5", ".hdf5")
def read_h5(path: Path, want: Want) -> Contents:
    with reading(path, *FAULTS), h5py.File(path) as file:
        sets = _data_sets(file, want.name)
        return Contents({name: _stored(path, name, data_set) for name, data_set in sets.items()})


def _data_sets(file: h5py.File, name: str | None) -> dict[str, h5py.Dataset]:
    """All data sets; where one is named, beside it only those in small groups near the top: there may be very many."""
    found: dict[str, h5py.Dataset] = {}

    def collect(at: object, item: object) -> None:
        if isinstance(item, h5py.Dataset) and isinstance(at, str):  # bytes where the name is no UTF-8
            found[at] = item

    named = None if name is None else file.get(name)
    if not isinstance(named, h5py.Dataset):
        file.visititems(collect)
        return found
    for group in (named.parent, file, *_items(file)):
        for item in _items(group):
            collect(item.name and item.name.strip("/"), item)
    found[str(name)] = named
    return found


def _items(group: object) -> list[h5py.Dataset | h5py.Group]:
    """What a group of at most a hundred items holds, dangling links left out."""
    if not isinstance(group, h5py.Group) or len(group) > 100:
        return []
    items = [group.get(key) for key in group]
    return [item for item in items if isinstance(item, h5py.Dataset | h5py.Group)]


def _rate(path: Path, data_set: h5py.Dataset) -> object:
    """The sampling rate that an attribute of a data set, of its group or of the file tells."""
    for item in (data_set, data_set.parent, data_set.file):
        for key in item.attrs:
            if key.lower() in RATE_NAMES:
                if item.attrs.get_id(key).dtype.kind == "O":
                    _check_heaps(path, data_set.file, None)
                return item.attrs[key]
    return None


def _stored(path: Path, name: str, data_set: h5py.Dataset) -> Stored:
    shape = data_set.shape
    if shape is None:
        return unread(path, name, ())
    elsewhere = _elsewhere(path, data_set)
    if elsewhere:
        return unread(path, name, shape, f"what lies outside its folder, in {shown(elsewhere, 60)}")
    try:
        dtype = data_set.dtype
    except TypeError:  # a type that NumPy does not know
        return unread(path, name, shape)
    if h5py.check_string_dtype(dtype) is not None or dtype.kind == "U":
        return Stored(shape, np.dtype(np.str_), _text(path, name))
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        return unread(path, name, shape)
    block = data_set.chunks[0] if data_set.chunks else 1
    numbers = _numbers(path, name, shape, dtype.newbyteorder("="))
    return numbers._replace(sampling_rate=_rate(path, data_set), block=block)


def _elsewhere(path: Path, data_set: h5py.Dataset) -> str:
    """The first file of those that hold a data set's values that does not lie in the folder of this one, "" for none.

    HDF5 would read any file that the header names, as plain bytes too.
    """
    names = [str(data_set.file.filename), *(part[0] for part in data_set.external or ())]
    names += [part.file_name for part in data_set.virtual_sources()] if data_set.is_virtual else []
    folder = path.parent.resolve()
    return next((name for name in names if not Path(folder, name).resolve().is_relative_to(folder)), "")


def _check_written(path: Path, name: str, data_set: h5py.Dataset) -> None:
    """Raises AekitError where parts were declared but never written: HDF5 would give zeros for them."""
    if data_set.is_virtual or data_set.external or 0 in data_set.shape:
        return
    if data_set.chunks is None:
        whole = data_set.id.get_storage_size() >= math.prod(data_set.shape) * data_set.dtype.itemsize
    else:
        check_deflated(
            path, math.prod(data_set.chunks) * data_set.dtype.itemsize, max(path.stat().st_size, CHUNK_CACHE)
        )
        chunks = math.prod(-(-n // c) for n, c in zip(data_set.shape, data_set.chunks, strict=True))
        whole = data_set.id.get_num_chunks() == chunks
    if not whole:
        raise AekitError(
            f"{path}: {shown(name)}: shape {data_set.shape} is declared, but parts of it were never written; "
            "write it again with the rows that exist"
        )


def _numbers(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Stored:
    take = one_buffer(shape[1:], dtype)
    opened: list[h5py.Dataset] = []  # kept open after the first read, with its cache of chunks

    def read(start: int, stop: int) -> Array:
        with reading(path, *FAULTS):
            if not opened:
                data_set = h5py.File(path, rdcc_nbytes=CHUNK_CACHE)[name]
                _check_written(path, name, data_set)
                opened.append(data_set)
            rows = take(stop - start)
            if shape == ():
                rows[0] = opened[0][()]
            elif stop > start:
                opened[0].read_direct(rows, np.s_[start:stop], np.s_[: stop - start])
            return rows

    return Stored(shape, dtype, read)


def _check_heaps(path: Path, file: h5py.File, offset: int | None, count: int = 0) -> None:
    """Raises ValueError where a heap of strings of any length is damaged: HDF5 may read on in it for ever.

    `count` strings are told from byte `offset` on, else all heaps of the file are looked at. A heap is a row of parts,
    each with its length (HDF5 file format specification, section III.E).
    """
    if file.id.get_create_plist().get_sizes() != (8, 8):
        raise ValueError("its addresses have not 8 bytes")
    size = path.stat().st_size
    with path.open("rb") as f:
        for start in _heaps(f, None if file.userblock_size else offset, count):
            f.seek(start)
            signature, whole = struct.unpack("<8sQ", f.read(16).ljust(16))
            if signature != HEAP or not 16 <= whole <= size - start:
                raise ValueError("a heap of strings is cut off")
            heap, at = f.read(whole - 16), 0
            while at + 16 <= len(heap):
                index, length = struct.unpack_from("<H6xQ", heap, at)
                step = 16 + -(-length // 8) * 8 if index else length  # what is free counts its own head
                if step < 16 or step > len(heap) - at:
                    raise ValueError("a heap of strings is damaged")
                at += step


def _heaps(f: BinaryIO, offset: int | None, count: int) -> set[int]:
    """Where the heaps of these strings begin."""
    if offset is not None:
        f.seek(offset)
        entries = np.frombuffer(f.read(16 * count), "<u4,<u8,<u4")
        return {int(at) for at in entries["f1"][entries["f0"] > 0]}
    found, at, before = set(), 0, b""
    while piece := f.read(PIECE):
        found |= {at - len(before) + match.start() for match in re.finditer(HEAP, before + piece)}
        at, before = at + len(piece), (before + piece)[-7:]
    return found


def _text(path: Path, name: str) -> Read:
    def read(start: int, stop: int) -> Array:
        with reading(path, *FAULTS), h5py.File(path) as file:
            if h5py.check_string_dtype(file[name].dtype).length is None:
                _check_heaps(path, file, file[name].id.get_offset(), file[name].size)
            return np.atleast_1d(np.array(file[name].asstr()[()], dtype=np.str_))[start:stop]

    return read


@writer(".h5", ".hdf5")
@contextlib.contextmanager
def write_h5(path: Path, plan: Plan) -> Iterator[Put]:
    """HDF5 lays the file out, plain writes fill in the rows: a disk that fills up inside HDF5 crashes the process."""
    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    names, labels = plan.names, plan.labels
    with _numbered_errors(), h5py.File(path, "w") as file:
        data_set = file.create_dataset(names.data, plan.stored_shape, plan.dtype, dcpl=early)
        if plan.alike and plan.like.sampling_rate is not None:
            data_set.attrs["sampling_rate"] = plan.like.sampling_rate
        if labels is not None:
            file.create_dataset(names.labels, data=labels.astype(object) if labels.dtype.kind == "U" else labels)
        for name, points in plan.arrivals.items():
            file.create_dataset(name, data=points)
        offset = data_set.id.get_offset()
    with path.open("r+b") as f:
        f.seek(offset)
        with raw_writer(f, b"", plan.dtype) as put:
            yield put


@contextlib.contextmanager
def _numbered_errors() -> Iterator[None]:
    """Gives HDF5's errors, of a full disk say, the number that they hide in their text."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = re.search(r"errno = (\d+)", str(error))
        if number:
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        raise
