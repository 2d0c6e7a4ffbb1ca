"""Zarr, a folder of packed chunks, by zarr: arrays by name, read a chunk at a time; written as version 3.

What unpacks chunks comes from the file, and one codec would run what is pickled in them: those below alone are used. A
chunk that is not there holds the fill value, which the format allows; an array without any chunk is a fault, and so is
much that is read at once of an array whose chunks could not hold it.
"""

import contextlib
import json
import math
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from aekit.errors import AekitError
from aekit.formats._registry import (
    FAULTS,
    RATE_NAMES,
    Contents,
    Plan,
    Put,
    Stored,
    Want,
    library,
    quiet,
    reader,
    reading,
    shown,
    writer,
)
from aekit.formats.arrays import unread
from aekit.records import Array

CODECS = {
    *("blosc", "bytes", "bz2", "crc32", "crc32c", "delta", "fixedscaleoffset", "gzip", "lz4", "lzma", "packbits"),
    *("quantize", "sharding", "shuffle", "transpose", "vlenutf8", "zlib", "zstd"),
}
LARGEST_CHUNK = 1 << 30  # bytes that are unpacked together
MOST_VALUES = 1 << 60
KEPT = 1 << 26  # bytes of the chunks side by side that were read last, which the next rows may need
INDEXED = 16  # bytes of a shard that tell where one of its chunks lies
CHUNK_BYTES = 1 << 22  # of what is written, about
METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")


@reader(".zarr", needs="zarr")
def read_zarr(path: Path, want: Want) -> Contents:
    """The arrays of a folder's groups, at any depth; a folder that is an array itself has one without a name."""
    zarr = library("zarr", path)
    if path.is_dir() and not any((path / name).exists() for name in METADATA):
        raise AekitError(f"{path}: is a folder without an array or a group of zarr; copy it again, with hidden files")
    with _faults(path):
        root = zarr.open(str(path), mode="r")
        places = {place.relative_to(path).as_posix(): place for place in _arrays(path)}
        names = {name if name != "." else "": place for name, place in places.items()}
        opened = {name: zarr.open_array(str(place), mode="r") for name, place in names.items()}
        notes = tuple(note for name, array in opened.items() if (note := _left_out(path, name, array)))
        return Contents({name: _stored(path, name, array, root) for name, array in opened.items()}, notes=notes)


def _left_out(path: Path, name: str, array: Any) -> str:
    """What to tell of an array some of whose chunks are not there: never written, or lost on the way."""
    files = _chunk_files(path, name)
    total = math.prod(-(-size // each) for size, each in zip(array.shape, array.shards or array.chunks, strict=True))
    if not files or len(files) >= total:
        return ""
    left = f"{total - len(files):,} of its {total:,} chunks are not there"
    return f"{shown(name)}: {left}; their values are read as {array.fill_value}"


def _chunk_files(path: Path, name: str) -> list[Path]:
    return [file for file in (path / name).rglob("*") if file.is_file() and file.name not in METADATA]


def _arrays(path: Path) -> Iterator[Path]:
    """The folders of arrays, not by zarr: it opens them at once, and what is wrong with the others reaches the user."""
    for place, folders, names in os.walk(path):
        folders.sort()
        is_array = "zarr.json" in names and json.loads(Path(place, "zarr.json").read_text())["node_type"] == "array"
        if is_array or ".zarray" in names:
            folders.clear()
            yield Path(place)


@contextlib.contextmanager
def _faults(path: Path) -> Iterator[None]:
    with reading(path, *FAULTS, RuntimeError, AssertionError, SystemError), quiet():
        yield


def _stored(path: Path, name: str, array: Any, root: Any) -> Stored:
    shape, dtype = tuple(array.shape), np.dtype(array.dtype)
    strange = _codecs(array) - CODECS
    if strange:
        return unread(path, name, shape, f"chunks packed by {shown(', '.join(sorted(strange)), 60)}")
    if math.prod(shape) > MOST_VALUES:
        return unread(path, name, shape, "more values than anything can hold")
    if math.prod(array.chunks) * dtype.itemsize > LARGEST_CHUNK:
        return unread(
            path,
            name,
            shape,
            f"chunks of {math.prod(array.chunks) * dtype.itemsize:,} bytes each, too large to be unpacked",
        )
    if dtype.kind in "UT":
        return Stored(shape, np.dtype(np.str_), lambda start, stop: _text(path, name, array, start, stop))
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        return unread(path, name, shape)
    rate = next((told[key] for told in (array.attrs, root.attrs) for key in told if key.lower() in RATE_NAMES), None)
    return _numbers(path, name, array, shape, dtype.newbyteorder("="))._replace(sampling_rate=rate)


def _codecs(array: Any) -> set[str]:
    """The names of all that packs an array's chunks, in small letters, without what libraries put around them."""
    metadata, names = array.metadata, set()
    waiting = [*getattr(metadata, "codecs", ()), getattr(metadata, "compressor", None)]
    waiting += getattr(metadata, "filters", None) or ()
    while waiting:
        codec = waiting.pop()
        if codec is not None:
            waiting += [*getattr(codec, "codecs", ()), *getattr(codec, "index_codecs", ())]  # of the chunks in a shard
            own = getattr(codec, "codec_id", None) or type(codec).__name__
            names.add(own.lower().replace("-", "").removesuffix("codec"))
    return names


def _check_held(path: Path, name: str, array: Any, count: int) -> None:
    """Raises AekitError where so many values are asked for at once, and all chunks that are there cannot hold them."""
    each = array.dtype.itemsize
    if count * each <= KEPT:
        return
    sizes = [file.stat().st_size for file in _chunk_files(path, name)]
    chunks = len(sizes) if array.shards is None else sum(sizes) // INDEXED
    held = chunks * math.prod(array.chunks)
    if count > held:
        raise AekitError(
            f"{path}: {shown(name)}: shape {array.shape} is declared, of which {count * each:,} bytes are read at "
            f"once, but its chunks hold at most {held * each:,}; write it again with all its chunks"
        )


def _text(path: Path, name: str, array: Any, start: int, stop: int) -> Array:
    with _faults(path):
        _check_held(path, name, array, math.prod(array.shape))
        return np.atleast_1d(np.array(np.asarray(array[...]).tolist(), np.str_))[start:stop]


def _numbers(path: Path, name: str, array: Any, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Stored:
    folder = path / name
    rows = array.chunks[0] if shape else 1
    is_kept = rows * math.prod(shape[1:]) * dtype.itemsize <= KEPT
    kept: dict[int, Array] = {}  # by its place, the last of the chunks side by side

    def of(place: int) -> Array:
        if place not in kept:
            values = np.asarray(array[place * rows : (place + 1) * rows])
            kept.clear()
            kept[place] = values
        return kept[place]

    @cache
    def is_written() -> bool:
        return any(entry.name not in METADATA for entry in folder.iterdir())

    def read(start: int, stop: int) -> Array:
        with _faults(path):
            if not is_written():
                raise AekitError(
                    f"{path}: {shown(name)}: shape {shape} is declared, but nothing of it was ever written; "
                    "write it again"
                )
            _check_held(path, name, array, (stop - start) * math.prod(shape[1:]))
            if shape == ():
                return np.atleast_1d(np.asarray(array[...], dtype))
            if start == stop or not is_kept:
                return np.asarray(array[start:stop], dtype)
            parts = [
                of(place)[max(0, start - place * rows) : stop - place * rows]
                for place in range(start // rows, -(-stop // rows))
            ]
            return np.concatenate(parts).astype(dtype, copy=False)

    return Stored(shape, dtype, read, block=rows)


@writer(".zarr")
@contextlib.contextmanager
def write_zarr(path: Path, plan: Plan) -> Iterator[Put]:
    """Chunks of whole rows, each written once: equal arrays give equal files, however they come."""
    zarr, names, labels = library("zarr", plan.out), plan.names, plan.labels
    shape = plan.stored_shape
    if 0 in shape:
        raise plan.refuse(f"an array of {shape} has no values", "give rows of values")
    step = max(1, CHUNK_BYTES // (math.prod(shape[1:]) * plan.dtype.itemsize))
    chunks, always = (min(step, shape[0]), *shape[1:]), {"write_empty_chunks": True}
    with quiet():
        root = zarr.open_group(str(path), mode="w", zarr_format=3)
        array = root.create_array(names.data, shape=shape, chunks=chunks, dtype=plan.dtype, config=always)
        if plan.alike and plan.like.sampling_rate is not None:
            array.attrs["sampling_rate"] = plan.like.sampling_rate
        beside = plan.arrivals | ({} if labels is None else {names.labels: labels})
        for name, values in beside.items():
            kind = str if values.dtype.kind == "U" else values.dtype
            own = root.create_array(name, shape=values.shape, chunks=values.shape, dtype=kind, config=always)
            own[...] = values
    waiting: list[Array] = []
    written = 0

    def flush(count: int) -> None:
        nonlocal written
        rows = np.concatenate(waiting)
        waiting[:] = [rows[count:]] if len(rows) > count else []
        with quiet():
            array[written : written + count] = rows[:count]
        written += min(count, len(rows))

    def put(rows: Array) -> None:
        waiting.append((rows[0] if len(shape) < rows.ndim else rows).copy())
        ready = sum(map(len, waiting))
        if ready >= step:
            flush(ready // step * step)

    yield put
    if waiting:
        flush(sum(map(len, waiting)))
