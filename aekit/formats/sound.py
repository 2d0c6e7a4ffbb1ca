"""WAV: one record of all channels, PCM of 8, 16, 24 or 32 bits or floats; 24 bits become int32 of the same values."""

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from aekit.formats._raw import load, raw_writer, short
from aekit.formats._registry import Contents, Plan, Put, Stored, Want, once, reader, reading, writer
from aekit.records import Array

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
DTYPES = {(PCM, 8): "<u1", (PCM, 16): "<i2", (PCM, 24): "<i4", (PCM, 32): "<i4", (FLOAT, 32): "<f4", (FLOAT, 64): "<f8"}


class Sound(NamedTuple):
    """Record.header of a WAV file."""

    bits: int  # of one value


@reader(".wav")
def read_wav(path: Path, want: Want) -> Contents:
    with reading(path, ValueError, struct.error), path.open("rb") as f:
        form, offset, length = _chunks(f, path)
        code, channels, rate, _, frame, bits = struct.unpack("<HHIIHH", form[:16])
        if code == EXTENSIBLE:
            code = int.from_bytes(form[24:26], "little")
        if (code, bits) not in DTYPES or not rate or not channels or frame != channels * bits // 8:
            raise ValueError(f"format {code} of {bits} bits, {channels} channels, {rate} Hz is not known")
        if length % frame:
            raise ValueError(f"{length} bytes of sound are no whole number of frames of {frame} bytes")
    dtype = np.dtype(DTYPES[code, bits])
    count = length // frame

    def load_all() -> Array:
        with reading(path), path.open("rb") as f:
            f.seek(offset)
            if bits == 24:
                triples = load(f, (count * channels, 3), np.dtype("u1"), "C", path)
                values = np.zeros((count * channels, 4), np.uint8)
                values[:, 1:] = triples  # in the upper bytes, so that the shift back carries the sign down
                sound: Array = values.reshape(-1).view("<i4") >> 8
            else:
                sound = load(f, (count * channels,), dtype, "C", path)
        return np.ascontiguousarray(sound.reshape(count, channels).T)[None]

    stored = Stored((1, channels, count), dtype.newbyteorder("="), once(load_all), rate)
    return Contents({"": stored}, "series", 1, header=Sound(bits))


def _chunks(f: BinaryIO, path: Path) -> tuple[bytes, int, int]:
    """The format chunk, and where the sound begins and how many bytes it has."""
    size = path.stat().st_size
    start = f.read(12)
    if start[:4] != b"RIFF" or start[8:] != b"WAVE":
        raise ValueError("it does not begin as WAV files do")
    form, at = b"", 12
    while at + 8 <= size:
        f.seek(at)
        head = f.read(8)
        length = int.from_bytes(head[4:], "little")
        at += 8
        if head[:4] == b"fmt ":
            form = f.read(min(length, 1024))
        elif head[:4] == b"data":
            if at + length > size:
                raise short(path, f"its header declares {length} bytes of sound, {size - at} are there")
            return form, at, length
        at += length + length % 2
    raise short(path, "it has no sound")


@writer(".wav")
@contextlib.contextmanager
def write_wav(path: Path, plan: Plan) -> Iterator[Put]:
    rate = plan.like.sampling_rate
    if plan.shape[0] != 1 or len(plan.shape) > 3:
        raise plan.refuse(f"a WAV file holds one record, not an array of {plan.shape}", "name a .npy file")
    if rate is None or rate != round(rate) or not 0 < rate < 1 << 32:
        raise plan.refuse(f"a WAV file needs a whole sampling rate, the input has {rate}", "name a .npy file")
    last = plan.like.channel_axis == 2 and len(plan.shape) == 3
    channels = 1 if len(plan.shape) == 2 else plan.shape[2 if last else 1]
    of_24 = isinstance(plan.like.header, Sound) and plan.like.header.bits == 24 and plan.dtype == np.int32
    code, bits = next(
        (key for key, dtype in DTYPES.items() if np.dtype(dtype) == plan.dtype and key[1] != (32 if of_24 else 24)),
        (0, 0),
    )
    if not code:
        raise plan.refuse(
            f"a WAV file holds uint8, int16, int32, float32 or float64, not {plan.dtype}", "name a .npy file"
        )
    frame = channels * bits // 8
    length = frame * int(np.prod(plan.shape, dtype=object)) // channels
    if length > 0xFFFFFF00 or channels > 0xFFFF:
        raise plan.refuse("a WAV file holds at most 4 GiB and 65535 channels", "name a .npy file")
    form = struct.pack("<HHIIHH", code, channels, int(rate), min(int(rate) * frame, 0xFFFFFFFF), frame, bits)
    header = struct.pack("<4sI4s4sI", b"RIFF", 36 + length + length % 2, b"WAVE", b"fmt ", len(form)) + form
    with path.open("wb") as f, raw_writer(f, header + struct.pack("<4sI", b"data", length), plan.dtype) as put:

        def put_frames(rows: Array) -> None:
            for row in rows:
                frames = row if last or row.ndim == 1 else row.T
                if of_24:
                    wide = np.ascontiguousarray(np.clip(frames, -(1 << 23), (1 << 23) - 1)).astype("<i4")
                    f.write(wide.reshape(-1).view(np.uint8).reshape(-1, 4)[:, :3].tobytes())
                else:
                    put(frames)

        yield put_frames
        f.write(b"\0" * (length % 2))
