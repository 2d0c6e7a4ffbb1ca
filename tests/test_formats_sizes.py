"""No size that a header declares is believed before the file agrees: nothing large is allocated for a small file."""

import gzip
import io
import json
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from format_files import fault
from PIL import Image

HUGE = 1 << 40


def npy_of(shape: str) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': True, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(64)


def npz_of(member: bytes, declared: int) -> bytes:
    f = io.BytesIO()
    with zipfile.ZipFile(f, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", member)
    packed = bytearray(f.getvalue())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = packed.index(signature) + offset
        packed[at : at + 4] = struct.pack("<I", declared)
    return bytes(packed)


def png_of(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


def wav_of(declared: int) -> bytes:
    form = struct.pack("<HHIIHH", 1, 1, 100, 200, 2, 16)
    return b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + form + b"data" + struct.pack("<I", declared) + bytes(64)


def safetensors_of(header: object) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


def tif_of(height: int) -> bytes:
    """A TIFF of 4 x 4 pixels that declares another height."""
    f = io.BytesIO()
    Image.new("L", (4, 4)).save(f, "TIFF")
    content = f.getvalue()
    at = next(at for code in (3, 4) if (at := content.find(struct.pack("<HHI", 257, code, 1))) > 0)
    return content[: at + 2] + struct.pack("<HII", 4, 1, height) + content[at + 12 :]


LYING = {
    "a.npy": npy_of(f"({HUGE}, 1000)"),
    "b.npy": npy_of(f"({'9' * 20}, {'9' * 20})"),
    "c.npy": npy_of("(16,)") + b"more",
    "a.npz": npz_of(npy_of(f"({1 << 29},)"), 128 + (1 << 31)),
    "b.npz": npz_of(npy_of("(3, 3)"), 192),
    "a.idx": b"\0\0\x08\x03" + b"\xff" * 12 + bytes(64),
    "a.idx.gz": gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12 + bytes(64)),
    "b.idx.gz": gzip.compress(b"\0\0\x08\x02\0\0\0\x08\0\0\0\x08" + bytes(63)),
    "c.idx.gz": gzip.compress(b"\0\0\x08\x02\0\0\0\x08\0\0\0\x08" + bytes(65)),
    "a.safetensors": struct.pack("<Q", 1 << 31) + b"{}",
    "b.safetensors": safetensors_of({"x": {"dtype": "F32", "shape": [HUGE], "data_offsets": [0, 4 * HUGE]}}),
    "d.safetensors": struct.pack("<Q", 2) + b"[]",
    "e.safetensors": safetensors_of({"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}) + bytes(4),
    "c.safetensors": struct.pack("<Q", 20000) + b"[" * 20000,
    "a.png": png_of(100_000, 100_000),
    "a.tif": tif_of(40_000_000),
    "a.wav": wav_of(0xFFFFFFFE),
    "b.wav": wav_of(63),
    "a.pgm": b"P5 30000 30000 255\n" + bytes(64),
}


@pytest.mark.parametrize("name", LYING)
def test_sizes_are_not_believed(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(LYING[name])
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        fault(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000  # bytes, NumPy's untouched ones included
    finally:
        tracemalloc.stop()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB, Pillow's included
