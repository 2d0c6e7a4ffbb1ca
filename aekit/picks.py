"""Probabilities at each time point -> detections and picks, and what they are worth where the arrivals are known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = (0.3, 0.1, 0.1)  # of detection, P and S, as published
KINDS = ("detection", "P", "S")
SHORTEST = 0.2  # seconds of a detection
APART = 1.0  # seconds between two picks of a kind; the likelier stays
TOLERANCE = 0.5  # seconds by which a pick that counts as right may be off


@dataclass(frozen=True)
class Pick:
    """A detection from `start` to `end`, or an arrival, whose end is its start; in seconds from the record's first."""

    row: int
    kind: str
    start: float
    end: float
    probability: float  # the highest of it
    uncertainty: float  # standard deviation of that probability over the network's draws


def find_picks(
    row: int,
    probability: NDArray[np.floating],
    spread: NDArray[np.floating],
    rate: float,
    thresholds: Sequence[float] = THRESHOLDS,
) -> list[Pick]:
    """What stands out of probability (3, T) in time order; spread (3, T) is its standard deviation, rate in Hz."""
    from scipy.signal import find_peaks  # takes a second

    found = []
    above = np.concatenate([[False], probability[0] >= thresholds[0], [False]])
    edges = np.flatnonzero(above[1:] != above[:-1])
    for first, last in zip(edges[::2], edges[1::2], strict=True):  # the run is first .. last - 1
        if last - first < SHORTEST * rate:
            continue
        peak = first + int(probability[0, first:last].argmax())
        found.append((KINDS[0], first, last - 1, peak, 0))
    distance = max(1, round(APART * rate))
    for i in (1, 2):
        padded = np.concatenate([[-1.0], probability[i], [-1.0]])  # a peak may lie at an edge
        peaks, _ = find_peaks(padded, height=thresholds[i], distance=distance)
        found += [(KINDS[i], peak - 1, peak - 1, peak - 1, i) for peak in peaks]
    picks = [
        Pick(row, kind, float(first / rate), float(last / rate), float(probability[i, at]), float(spread[i, at]))
        for kind, first, last, at, i in found
    ]
    return sorted(picks, key=lambda pick: (pick.start, KINDS.index(pick.kind)))


def pick_figures(
    picks: Sequence[Pick], known: NDArray[np.int64], rate: float, tolerance: float = TOLERANCE
) -> dict[str, float | None]:
    """Precision, recall and F1 of detections, P and S, and mean and mean absolute error of arrivals in seconds.

    known (rows, 2) are the points of P and S, -1 where there is none. A detection is right where it covers part of the
    time from P to S, and is not judged in rows that have but one of them; a pick is right where it is the nearest to an
    arrival and at most `tolerance` seconds off.
    """
    rows, errors = _by_row(picks), pick_errors(picks, known, rate)
    figures: dict[str, float | None] = {}
    for kind, arrivals in zip(KINDS[1:], known.T, strict=True):
        count = sum(pick.kind == kind for pick in picks)
        off = errors[kind]
        right = off[np.abs(off) <= tolerance]
        figures |= _shares(kind, len(right), count, int((arrivals >= 0).sum()))
        figures[f"{kind.lower()}_mean_error_seconds"] = float(right.mean()) if len(right) else None
        figures[f"{kind.lower()}_mean_absolute_error_seconds"] = float(np.abs(right).mean()) if len(right) else None
    matched = count = wanted = 0
    for row, (p, s) in enumerate(known):
        if (p >= 0) != (s >= 0):
            continue
        here = [pick for pick in rows.get(row, []) if pick.kind == KINDS[0]]
        count += len(here)
        if p >= 0:
            wanted += 1
            matched += any(pick.start <= s / rate and pick.end >= p / rate for pick in here)
    return _shares(KINDS[0], matched, count, wanted) | figures


def pick_errors(picks: Sequence[Pick], known: NDArray[np.int64], rate: float) -> dict[str, NDArray[np.float64]]:
    """Of P and S: how many seconds the pick nearest to each arrival is late, where its row has a pick of that kind."""
    rows = _by_row(picks)
    errors = {}
    for kind, arrivals in zip(KINDS[1:], known.T, strict=True):
        nearest = []
        for row in np.flatnonzero(arrivals >= 0):
            off = [pick.start - arrivals[row] / rate for pick in rows.get(int(row), []) if pick.kind == kind]
            nearest += [min(off, key=abs)] if off else []
        errors[kind] = np.array(nearest, dtype=np.float64)
    return errors


def _by_row(picks: Sequence[Pick]) -> dict[int, list[Pick]]:
    rows: dict[int, list[Pick]] = {}
    for pick in picks:
        rows.setdefault(pick.row, []).append(pick)
    return rows


def _shares(kind: str, right: int, found: int, wanted: int) -> dict[str, float | None]:
    return {
        f"{kind.lower()}_precision": right / found if found else None,
        f"{kind.lower()}_recall": right / wanted if wanted else None,
        f"{kind.lower()}_f1": 2 * right / (found + wanted) if found + wanted else None,
    }
