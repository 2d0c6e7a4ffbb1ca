"""idx, the format of MNIST: a magic number, big-endian sizes and values; also gzipped."""

import contextlib
import gzip
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from aekit.formats._raw import check_deflated, check_end, check_size, load, raw_array, raw_writer, short
from aekit.formats._registry import Contents, Plan, Put, Stored, Want, once, open_bytes, reader, reading, writer
from aekit.records import Array

DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # by the third byte


@reader(".idx", ".idx.gz")
def read_idx(path: Path, want: Want) -> Contents:
    with reading(path, ValueError), open_bytes(path) as f:
        magic = f.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in DTYPES or not 1 <= magic[3] <= 4:
            raise ValueError("it does not begin as idx files do")
        sizes = f.read(4 * magic[3])
        if len(sizes) < 4 * magic[3]:
            raise short(path, "its header is cut off")
    shape = struct.unpack(f">{magic[3]}I", sizes)
    dtype = np.dtype(DTYPES[magic[2]])
    offset = 4 + len(sizes)
    if path.suffix.lower() == ".gz":
        stored = _zipped(path, offset, shape, dtype)
    else:
        check_size(path, offset, shape, dtype)
        stored = raw_array(path, offset, shape, dtype)
    return Contents({"": stored}, kind="image" if len(shape) == 3 else None)


def _zipped(path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Stored:
    check_deflated(path, offset + int(np.prod(shape, dtype=object)) * dtype.itemsize, path.stat().st_size)

    def load_all() -> Array:
        with reading(path), open_bytes(path) as f:
            f.read(offset)
            array = load(f, shape, dtype, "C", path)
            check_end(f, path)
            return array

    return Stored(shape, dtype.newbyteorder("="), once(load_all))


@writer(".idx", ".idx.gz")
@contextlib.contextmanager
def write_idx(path: Path, plan: Plan) -> Iterator[Put]:
    dtype = plan.dtype.newbyteorder(">")
    codes = {np.dtype(stored): code for code, stored in DTYPES.items()}
    if dtype not in codes or len(plan.shape) > 4 or max(plan.shape) >= 1 << 32:
        raise plan.refuse(
            f"idx holds uint8, int8, int16, int32 or floats along at most 4 axes, not {plan.dtype} of {plan.shape}",
            "name a .npy file",
        )
    sizes = plan.stored_shape
    header = bytes([0, 0, codes[dtype], len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes)
    with contextlib.ExitStack() as stack:
        f = cast(BinaryIO, stack.enter_context(path.open("wb")))
        if plan.ending.endswith(".gz"):  # no name and time inside: equal arrays give equal files
            f = cast(BinaryIO, stack.enter_context(gzip.GzipFile("", "wb", fileobj=f, mtime=0)))
        yield stack.enter_context(raw_writer(f, header, dtype))
