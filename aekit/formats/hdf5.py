"""HDF5: rows of one data set, contiguous, chunked or compressed, are read straight into one buffer."""

import contextlib
import errno
import math
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from aekit.errors import AekitError
from aekit.formats._registry import (
    RATE_NAMES,
    Contents,
    Plan,
    Put,
    Read,
    Stored,
    Want,
    one_buffer,
    rate_in_hz,
    reader,
    reading,
    shown,
    writer,
)
from aekit.formats.arrays import unread
from aekit.records import Array

FAULTS = (ValueError, RuntimeError, KeyError, TypeError, OverflowError)
CHUNK_CACHE = 64 << 20  # bytes; HDF5's own megabyte would unpack a chunk once for every batch inside it


@reader(".h5", ".hdf5")
def read_h5(path: Path, want: Want) -> Contents:
    with reading(path, *FAULTS), h5py.File(path) as file:
        sets = _data_sets(file, want.name)
        arrays = {name: _stored(path, name, data_set) for name, data_set in sets.items()}
        rate = _rate(path, [sets[want.name]] if want.name in sets else list(sets.values()), file)
        return Contents(arrays, sampling_rate=rate)


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


def _rate(path: Path, data_sets: list[h5py.Dataset], file: h5py.File) -> float | None:
    """The sampling rate that an attribute of a data set, of its group or of the file tells."""
    for item in (*data_sets, *(data_set.parent for data_set in data_sets), file):
        for key in item.attrs:
            if key.lower() in RATE_NAMES:
                return rate_in_hz(path, item.attrs[key])
    return None


def _stored(path: Path, name: str, data_set: h5py.Dataset) -> Stored:
    shape = data_set.shape
    if shape is None:
        return unread(path, name, ())
    try:
        dtype = data_set.dtype
    except TypeError:  # a type that NumPy does not know
        return unread(path, name, shape)
    if h5py.check_string_dtype(dtype) is not None or dtype.kind == "U":
        return Stored(shape, np.dtype(np.str_), _text(path, name))
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        return unread(path, name, shape)
    _check_written(path, name, data_set)
    return _numbers(path, name, shape, dtype.newbyteorder("="))


def _check_written(path: Path, name: str, data_set: h5py.Dataset) -> None:
    """Raises AekitError where parts were declared but never written: HDF5 would give zeros for them."""
    if data_set.is_virtual or data_set.external or 0 in data_set.shape:
        return
    if data_set.chunks is None:
        whole = data_set.id.get_storage_size() >= math.prod(data_set.shape) * data_set.dtype.itemsize
    else:
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
                opened.append(h5py.File(path, rdcc_nbytes=CHUNK_CACHE)[name])
            rows = take(stop - start)
            if shape == ():
                rows[0] = opened[0][()]
            elif stop > start:
                opened[0].read_direct(rows, np.s_[start:stop], np.s_[: stop - start])
            return rows

    return Stored(shape, dtype, read)


def _text(path: Path, name: str) -> Read:
    def read(start: int, stop: int) -> Array:
        with reading(path, *FAULTS), h5py.File(path) as file:
            return np.atleast_1d(np.array(file[name].asstr()[()], dtype=np.str_))[start:stop]

    return read


@writer(".h5", ".hdf5")
@contextlib.contextmanager
def write_h5(path: Path, plan: Plan) -> Iterator[Put]:
    names, flat = plan.names, plan.stored_shape != plan.shape
    written = 0

    def put(rows: Array) -> None:
        nonlocal written
        with _full_disk():
            if flat:
                data_set[:] = rows[0]
            else:
                data_set[written : written + len(rows)] = rows
        written += len(rows)

    with _full_disk(), h5py.File(path, "w") as file:
        data_set = file.create_dataset(names.data, plan.stored_shape, plan.dtype)
        if plan.alike and plan.like.sampling_rate is not None:
            data_set.attrs["sampling_rate"] = plan.like.sampling_rate
        if plan.labels is not None:
            is_text = plan.labels.dtype.kind == "U"
            file.create_dataset(names.labels, data=plan.labels.astype(object) if is_text else plan.labels)
        yield put


@contextlib.contextmanager
def _full_disk() -> Iterator[None]:
    """Gives HDF5's error of a full disk the number that it lacks."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if "No space left" in str(error):
            raise OSError(errno.ENOSPC, "the disk is full") from error
        raise
