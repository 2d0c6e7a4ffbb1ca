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
    whole = {row for row, arrivals in enumerate(known) if (arrivals >= 0).all() or (arrivals < 0).all()}
    figures: dict[str, float | None] = {}
    for i, kind in enumerate(KINDS):
        mine = [pick for pick in picks if pick.kind == kind and (kind != "detection" or pick.row in whole)]
        matched, errors, wanted = 0, [], 0
        for row, (p, s) in enumerate(known):
            here = [pick for pick in mine if pick.row == row]
            if kind == "detection":
                if p >= 0 and s >= 0:
                    wanted += 1
                    matched += any(pick.start <= s / rate and pick.end >= p / rate for pick in here)
                continue
            arrival = (p, s)[i - 1]
            if arrival < 0:
                continue
            wanted += 1
            off = [pick.start - arrival / rate for pick in here]
            nearest = min(off, key=abs, default=np.inf)
            if abs(nearest) <= tolerance:
                matched += 1
                errors.append(nearest)
        precision = matched / len(mine) if mine else None
        recall = matched / wanted if wanted else None
        name = kind.lower()
        figures[f"{name}_precision"], figures[f"{name}_recall"] = precision, recall
        figures[f"{name}_f1"] = 2 * matched / (len(mine) + wanted) if len(mine) + wanted else None
        if kind != "detection":
            figures[f"{name}_mean_error_seconds"] = float(np.mean(errors)) if errors else None
            figures[f"{name}_mean_absolute_error_seconds"] = float(np.mean(np.abs(errors))) if errors else None
    return figures
