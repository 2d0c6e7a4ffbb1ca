"""What the tests of formats share."""

from pathlib import Path

import numpy as np
import pytest

from aekit.errors import AekitError
from aekit.formats import create, open_record
from aekit.records import Array, Record, record_of


def numbers(shape: tuple[int, ...], dtype: str = "f4", seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def write(path: Path, array: Array, like: Record | None = None, rows: int = 3) -> Path:
    """Writes in several calls."""
    with create(path, like or record_of(array), array.shape, array.dtype, force=True) as writer:
        for start in range(0, len(array), rows):
            writer.write(array[start : start + rows])
    return path


def whole(record: Record) -> Array:
    return np.array(record.read(0, len(record)))


def read_all(path: Path | str, **asked: str) -> None:
    record = open_record(path, **asked)
    record.read(0, 1)
    record.read(0, min(len(record), 100_000 // record.values_per_row + 1))
    record.read(len(record) - 1, len(record))


def fault(path: Path | str, **asked: str) -> str:
    with pytest.raises(AekitError) as caught:
        read_all(path, **asked)
    line = str(caught.value)
    assert "\n" not in line
    assert ": " in line
    assert "; " in line  # what to do
    return line
