"""What was not recorded: filled up from both sides for the model, told as gaps, and left out again by the writers."""

import numpy as np
from numpy.typing import NDArray

from aekit.records import Array


def fill(values: Array, missing: NDArray[np.bool_]) -> None:
    """Fills missing values (..., T) with what lies on either side, mirrored, the one passing into the other.

    A model sees the same noise go on: where a straight line begins or ends it would find an onset.
    """
    points = values.shape[-1]
    for series, absent in zip(values.reshape(-1, points), missing.reshape(-1, points), strict=True):
        runs = _runs(absent)
        begins, ends = [0, *(stop for _, stop in runs)], [*(first for first, _ in runs), points]
        for i, (first, stop) in enumerate(runs):
            length = stop - first
            before = _mirrored(series[max(begins[i], first - length - 1) : first], length)
            after = _mirrored(series[stop : min(ends[i + 1], stop + length + 1)][::-1], length)
            if before is None or after is None:
                made = before if before is not None else after[::-1] if after is not None else None
            else:
                share = np.arange(1, length + 1) / (length + 1)
                made = before + share * (after[::-1] - before)
            if made is not None:
                series[first:stop] = np.rint(made) if values.dtype.kind == "i" else made


def _mirrored(run: Array, length: int) -> NDArray[np.float64] | None:
    """So many values behind a run (T,), which is mirrored as often as it takes; None where there is no run."""
    return np.pad(run.astype(np.float64), (0, length), "reflect")[len(run) :] if len(run) else None


def find_gaps(missing: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Of missing (rows, C, T): (gaps, 3), the row, the first point and the one behind the last without any channel."""
    found = [(row, *run) for row, absent in enumerate(missing) for run in _runs(absent.all(axis=0))]
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def _runs(absent: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Where (T,) is true: first and behind the last, of each stretch."""
    edges = np.flatnonzero(np.diff(absent, prepend=False, append=False))
    return [(int(first), int(stop)) for first, stop in edges.reshape(-1, 2)]
