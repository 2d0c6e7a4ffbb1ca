"""Arrays that lie in a file as plain bytes: rows are read at their offset into one buffer.

Not by memory maps: their pages count as the process's own, so memory would grow with the file.
"""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from aekit.errors import AekitError
from aekit.formats._registry import Put, Stored, one_buffer
from aekit.records import Array

PIECE = 1 << 22  # bytes
ALWAYS_UNZIPPED, MOST_TIMES = 1 << 26, 100  # bytes, and times the size of a zipped file


def raw_array(path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Stored:
    """Rows of a C-ordered array that begins at byte `offset`; the caller has checked that the file is long enough."""
    item = shape[1:]
    take = one_buffer(item, dtype)
    native = dtype.newbyteorder("=")
    row_bytes = math.prod(item) * dtype.itemsize

    def read(start: int, stop: int) -> Array:
        rows = take(stop - start)
        with path.open("rb", buffering=0) as f:
            f.seek(offset + start * row_bytes)
            fill(f, rows, path)
        return rows if dtype.isnative else rows.byteswap(inplace=True).view(native)

    return Stored(shape, native, read)


def load(f: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[np.generic], order: str, path: Path) -> Array:
    """A whole array in order C or F from where the file stands; raises AekitError where the file ends before."""
    values = np.empty(math.prod(shape), dtype)
    fill(f, values, path)
    native = values if dtype.isnative else values.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return native.reshape(shape, order="F" if order == "F" else "C")


def fill(f: BinaryIO, array: Array, path: Path) -> None:
    """Fills a contiguous array from a file; raises AekitError where the file ends before."""
    view = array.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(view):
        count = f.readinto(view[done : done + PIECE])  # type: ignore[attr-defined]
        if not count:
            raise short(path, f"its header declares {len(view)} bytes here, the file holds {done}")
        done += count


def short(path: Path, detail: str) -> AekitError:
    return AekitError(f"{path}: ends too early: {detail}; copy it again")


def check_end(f: BinaryIO, path: Path) -> None:
    if f.read(1):
        raise AekitError(f"{path}: goes on after the array that its header declares; write it again as one array")


def check_size(path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    """Raises AekitError where the file does not end with the declared array; before anything is allocated."""
    declared = offset + math.prod(shape) * dtype.itemsize
    size = path.stat().st_size
    if size < declared:
        raise short(path, f"its header declares shape {shape} of {dtype.name}, {declared} bytes, the file has {size}")
    if size > declared:
        raise AekitError(
            f"{path}: has {size} bytes, its header declares shape {shape} of {dtype.name}, {declared} bytes; "
            "write it again as one array"
        )


def check_deflated(path: Path, size: int, packed: int) -> None:
    """Raises AekitError where `packed` bytes cannot unzip to `size`: deflate packs at most 1032 to 1."""
    if size > 1032 * packed + 1024:
        raise AekitError(f"{path}: its header declares {size} bytes, which {packed} cannot unzip to; copy it again")


def most_unzipped(path: Path) -> int:
    """Bytes that a zipped file may become where it declares no size: nobody zips more into so little."""
    return max(ALWAYS_UNZIPPED, MOST_TIMES * path.stat().st_size)


def check_unzipped(path: Path, size: int) -> None:
    if size > most_unzipped(path):
        raise AekitError(f"{path}: unzips to more than {MOST_TIMES} times its size; if it should, unzip it first")


@contextlib.contextmanager
def raw_writer(f: BinaryIO, header: bytes, dtype: np.dtype[np.generic]) -> Iterator[Put]:
    """Writes a header, then rows as plain bytes."""
    f.write(header)
    yield lambda rows: _put(f, rows.astype(dtype, copy=False))


def _put(f: BinaryIO, rows: Array) -> None:
    f.write(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
