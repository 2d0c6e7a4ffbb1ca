"""What was not recorded: drawn as straight lines for the model, told as gaps, and left out again by the writers."""

import numpy as np
from numpy.typing import NDArray

from aekit.records import Array


def fill(values: Array, missing: NDArray[np.bool_]) -> None:
    """Puts values (..., T) that are missing on the line between their neighbours, level before the first and last."""
    for series, absent in zip(values.reshape(-1, values.shape[-1]), missing.reshape(-1, values.shape[-1]), strict=True):
        known, wanted = np.flatnonzero(~absent), np.flatnonzero(absent)
        if len(known) and len(wanted):
            line = np.interp(wanted, known, series[known].astype(np.float64))
            series[wanted] = np.rint(line) if values.dtype.kind == "i" else line


def find_gaps(missing: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Of missing (rows, C, T): (gaps, 3), the row, the first point and the one behind the last without any channel."""
    none = np.zeros((len(missing), missing.shape[2] + 2), np.int8)
    none[:, 1:-1] = missing.all(axis=1)
    change = np.diff(none, axis=1)
    row, first = np.nonzero(change == 1)
    return np.stack([row, first, np.nonzero(change == -1)[1]], axis=1)
