"""Times as text -> seconds, and whether they come at even steps."""

import re
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

FEWEST = 3  # times that tell a step
EVEN_SHARE = 0.95  # of the steps
EVEN = 0.1  # of the step, within which another one is the same: months are, and clocks that are read late
ISO = re.compile(r"\d{4}[-/]\d\d([-/]\d\d)?([T ]\d\d(:\d\d)?.*)?")
COMPACT = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])")  # 20240131
DATE = re.compile(r"(\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?|\d{1,2}[-/.]\d{1,2}[-/.](\d\d){1,2})([T ,].*)?")
ZONE = re.compile(r":\d\d([.]\d+)?\s?(Z|[+-]\d\d(:?\d\d)?)$")
UNITS = ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3))  # numbers above so many are no seconds since 1970


def is_date(cell: str) -> bool:
    """Whether a cell begins with a date, in whatever order of day, month and year."""
    return DATE.fullmatch(cell) is not None


def is_iso(cell: str) -> bool:
    """Whether a cell is a date as `seconds` reads it."""
    return ISO.fullmatch(cell) is not None


def seconds(cells: Sequence[str]) -> NDArray[np.float64] | None:
    """Times (T,) in seconds from cells that are numbers or dates, year first; None where one is neither.

    Numbers are seconds, or where they are as large as the time since 1970 in finer units, these.
    """
    try:
        if all(COMPACT.fullmatch(cell) for cell in cells):
            cells = [f"{cell[:4]}-{cell[4:6]}-{cell[6:]}" for cell in cells]
        if not is_iso(cells[0]):
            found = np.array([float(cell) for cell in cells])
            largest = np.abs(found).max()
            found = found * next((unit for least, unit in UNITS if largest > least), 1.0)
        elif ZONE.search(cells[0]):
            found = np.array([datetime.fromisoformat(cell.replace("/", "-")).timestamp() for cell in cells])
        else:
            dates = np.array([cell.replace("/", "-") for cell in cells], "M8[us]")
            found = np.where(np.isnat(dates), np.nan, dates.astype(np.int64) / 1e6)
    except ValueError:
        return None
    return found if np.isfinite(found).all() else None


def even_step(times: NDArray[np.float64]) -> tuple[float, int] | None:
    """The step of times (T,) in seconds, and how many steps are of another length; None where times are not even.

    Even are those that never go back and whose steps are the same within a tenth, but for one in twenty.
    """
    steps = np.diff(times)
    if len(times) < FEWEST or (steps < 0).any():
        return None
    step = float(np.median(steps))
    same = np.abs(steps - step) <= EVEN * step
    return (step, int((~same).sum())) if step > 0 and same.mean() >= EVEN_SHARE else None
