"""Sections on where scores are high: in which columns of a table, at which points of a series."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aekit.reports.charts import heat_map
from aekit.reports.page import Picture, Section
from aekit.reports.signals import points_figure
from aekit.reports.traces import MOST_LANES, MOST_NAMES
from aekit.reports.values import Values


def contributions_section(rows: NDArray[np.int64], shares: Values, columns: Sequence[str]) -> Section:
    """What each column has in the scores of these rows: shares (K, columns), 1 in all of a row."""
    drawn = np.sort(np.argsort(-shares.max(axis=0), kind="stable")[:MOST_NAMES])
    names = [columns[i] for i in drawn]
    note = (
        "" if len(drawn) == len(columns) else f"The {len(drawn)} of {len(columns):,} columns with the largest shares."
    )
    figure = heat_map(100.0 * shares[:, drawn], [f"row {row:,}" for row in rows], "column", names)
    text = "What each column has in the score of the most anomalous rows; the highest score is on top."
    return Section("Columns", text, [Picture(figure, "Share of each column in the score (percent)", note)])


def points_section(
    series: Values,
    scores: Values,
    threshold: float,
    flagged: NDArray[np.bool_],
    ranges: int,
    enlarged: Sequence[tuple[str, str, slice]],
    truth: NDArray[np.bool_] | None = None,
    sampling_rate: float | None = None,
) -> Section:
    """A series (C, T) with the score of each point (T,) and the anomalous ranges, of which some are enlarged.

    Each of these has a title, a note and the points to draw.
    """
    count = f"{ranges:,} range{'' if ranges == 1 else 's'}"
    text = f"{series.shape[1]:,} points, {flagged.sum():,} of them flagged, in {count}."
    text += f" The ranges with the {len(enlarged)} highest scores are enlarged." if 0 < len(enlarged) < ranges else ""
    text += f" The first {MOST_LANES} of {len(series)} channels are drawn." if len(series) > MOST_LANES else ""
    parts = [("Whole", "", slice(0, series.shape[1])), *enlarged]
    pictures = []
    for title, note, part in parts:
        known = None if truth is None else truth[part]
        figure = points_figure(
            series[:, part], scores[part], threshold, flagged[part], known, sampling_rate, part.start
        )
        pictures.append(Picture(figure, title, note))
    return Section("Series", text, pictures)
