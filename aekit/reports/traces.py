"""Signals and rows of tables as lines: over each other, under each other, with bands; the channels in lanes."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aekit.records import Kind
from aekit.reports.style import GREY, MUTED, WIDTH, Colour, Style, look, shown
from aekit.reports.values import Values, bounds

MOST_POINTS = 600  # of a line; a longer trace is drawn by its extremes
MOST_NAMES = 20  # of columns that are written under an axis
MOST_LANES = 6  # channels of a trace that are drawn
TIME_UNITS = (  # each with how many a second has, and the seconds from which on it is taken
    *(("d", 1 / 86400, 3 * 86400.0), ("h", 1 / 3600, 3 * 3600.0)),
    *(("s", 1.0, 1.0), ("ms", 1e3, 1e-3), ("µs", 1e6, 1e-6), ("ns", 1e9, 0.0)),
)


class Curve(NamedTuple):
    trace: Values  # (C, T)
    colour: Colour
    style: Style = "-"
    width: float = 1.1


def time_axis(points: int, sampling_rate: float | None, kind: Kind, first: int = 0) -> tuple[Values, str]:
    """Where the values of a trace lie that begins at the point `first`, and what the axis is called."""
    if kind == "table":
        return np.arange(1, points + 1), "column"
    at = np.arange(first, first + points)
    if sampling_rate is None:
        return at, "time point"
    seconds = points / sampling_rate
    unit, per_second = next((name, per) for name, per, least in TIME_UNITS if seconds >= least)
    return at * per_second / sampling_rate, f"time ({unit})"


def draw_traces(
    axes: Axes,
    curves: Sequence[Curve],
    kind: Kind,
    sampling_rate: float | None = None,
    lanes_of: Values | None = None,
    shade: str | None = None,
    columns: Sequence[str] = (),
    first: int = 0,
) -> None:
    """Draw traces over each other, their channels in lanes; they begin at the point `first`.

    `lanes_of` (N, C, T) says how high a lane is, else the curves do; `shade` fills the space between the first two.
    """
    channels, points = curves[0].trace.shape
    t, name = time_axis(points, sampling_rate, kind, first)
    if lanes_of is None:
        lanes_of = np.stack([curve.trace for curve in curves])
    lanes = range(min(channels, MOST_LANES))
    few = kind == "table" and points <= 40
    dense = 0.55 if points > MOST_POINTS else 1.0
    for c in lanes:
        low, high = bounds(lanes_of[:, c])
        drawn = []
        for trace, colour, style, width in curves:
            at, y = thin(t, trace[c])
            y = np.where(np.isfinite(y), y, np.nan).astype(float)
            if channels > 1:
                y = (y - low) / (high - low) - 1.15 * c
            drawn.append(y)
            marker = "o" if few or points == 1 else ""
            axes.plot(at, y, linestyle=style, color=colour, linewidth=dense * width, marker=marker, markersize=3)
        if shade is not None:
            axes.fill_between(at, drawn[0], drawn[1], color=shade, alpha=0.25, linewidth=0)
    axes.set_xlabel(name)
    if points > 1:
        axes.set_xlim(t[0], t[-1])
    if few:
        axes.set_xlim(0.5, points + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    if len(columns) == points <= MOST_NAMES:
        name_columns(axes, columns)
    if channels > 1:
        axes.set_yticks([0.5 - 1.15 * c for c in lanes], [str(c + 1) for c in lanes])
        axes.set_ylabel("channel")
    else:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))


def name_columns(axes: Axes, columns: Sequence[str]) -> None:
    names = [shown(name, 14) for name in columns]
    axes.set_xticks(range(1, len(columns) + 1), names, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_xlabel("")


def thin(t: Values, y: Values) -> tuple[Values, Values]:
    """A line by the extremes of its stretches where it has more points than a picture can show."""
    stretch = math.ceil(2 * len(y) / MOST_POINTS)
    if len(y) <= MOST_POINTS:
        return t, y
    blocks = len(y) // stretch
    cut = y[: blocks * stretch].reshape(blocks, stretch)
    ends = np.stack([cut.min(axis=1), cut.max(axis=1)], axis=1).ravel()
    starts = t[: blocks * stretch].reshape(blocks, stretch)
    return np.stack([starts[:, 0], starts[:, stretch // 2]], axis=1).ravel(), ends


def trace_height(channels: int) -> float:
    """Inches that a figure of one trace needs."""
    return 1.45 if channels == 1 else 0.6 + 0.5 * min(channels, MOST_LANES)


@look()
def trace_figure(
    curves: Sequence[Curve],
    kind: Kind,
    sampling_rate: float | None = None,
    shade: str | None = None,
    columns: Sequence[str] = (),
    lanes_of: Values | None = None,
) -> Figure:
    """One panel of `draw_traces`."""
    high = trace_height(len(curves[0].trace)) + (0.5 if 0 < len(columns) <= MOST_NAMES else 0)
    figure = Figure(figsize=(WIDTH, high), layout="constrained")
    draw_traces(figure.subplots(), curves, kind, sampling_rate, lanes_of, shade, columns)
    return figure


@look()
def stacked_traces(
    rows: Sequence[tuple[str, Values, str, Values]], kind: Kind, sampling_rate: float | None = None
) -> Figure:
    """Traces under each other on one time axis: (name, trace (C, T), colour, the traces whose range is the axis)."""
    channels = rows[0][1].shape[0]
    named = any(name for name, *_ in rows)
    each = (0.5 if channels == 1 else 0.25 + 0.25 * min(channels, MOST_LANES)) + (0.16 if named else 0.05)
    high = len(rows) * each + 0.35
    figure = Figure(figsize=(WIDTH, high), layout="constrained")
    for (name, trace, colour, scale), axes in zip(rows, np.ravel(figure.subplots(len(rows), sharex=True)), strict=True):
        draw_traces(axes, [Curve(trace, colour)], kind, sampling_rate, lanes_of=scale)
        low, high = bounds(scale)
        if channels == 1:
            axes.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
            axes.yaxis.set_major_locator(MaxNLocator(nbins=2))
        if named:
            axes.set_title(shown(name), loc="left", fontsize=7.5, pad=2, color=MUTED if colour == GREY else colour)
        if axes is not figure.axes[len(rows) - 1]:
            axes.set_xlabel("")
    return figure


@look()
def band_figure(mean: Values, std: Values, colour: str, kind: Kind, sampling_rate: float | None = None) -> Figure:
    """A mean (C, T) with a band of two standard deviations, the channels in lanes."""
    figure = Figure(figsize=(WIDTH, trace_height(len(mean))), layout="constrained")
    axes = figure.subplots()
    edges = [Curve(mean + sign * 2 * std, colour, "-", 0) for sign in (-1, 1)]
    draw_traces(axes, [*edges, Curve(mean, colour, "-", 1.4)], kind, sampling_rate, shade=colour)
    return figure
