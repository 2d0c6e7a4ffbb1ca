"""What was not recorded: drawn as straight lines for the model, told as gaps, and left out again by the writers."""

import numpy as np
from numpy.typing import NDArray

from aekit.records import Array


def fill(values: Array, missing: NDArray[np.bool_]) -> None:
    """Puts values (..., T) that are missing on the line between their neighbours, level before the first and last."""
    points = values.shape[-1]
    for series, absent in zip(values.reshape(-1, points), missing.reshape(-1, points), strict=True):
        for first, stop in _runs(absent):
            ends = [float(series[i]) for i in (first - 1, stop) if 0 <= i < points]
            if ends:
                line = np.linspace(ends[0], ends[-1], stop - first + 2)[1:-1]
                series[first:stop] = np.rint(line, out=line) if values.dtype.kind == "i" else line


def find_gaps(missing: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Of missing (rows, C, T): (gaps, 3), the row, the first point and the one behind the last without any channel."""
    found = [(row, *run) for row, absent in enumerate(missing) for run in _runs(absent.all(axis=0))]
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def _runs(absent: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Where (T,) is true: first and behind the last, of each stretch."""
    edges = np.flatnonzero(np.diff(absent, prepend=False, append=False))
    return [(int(first), int(stop)) for first, stop in edges.reshape(-1, 2)]
