"""Summaries as charts: bars, histograms, curves, spectra, calibration, heat maps and maps of latent vectors."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from aekit.empirical_null import LOWEST, Null
from aekit.reports.style import (
    BLUE,
    CARD,
    DASHED,
    DOTTED,
    GREY,
    HUES,
    INK,
    LINE,
    MUTED,
    ORANGE,
    RED,
    WIDTH,
    Style,
    log_ticks,
    look,
    shown,
)
from aekit.reports.traces import MOST_NAMES, name_columns
from aekit.reports.values import Values, bounds, classes

MOST_CLUSTERS = 20  # that are told apart
MOST_STEPS = 400  # of a curve of shares


@look()
def bars(names: Sequence[str], values: Sequence[float], colours: Sequence[str], labels: Sequence[str]) -> Figure:
    """Horizontal bars with their names left and their values right."""
    figure = Figure(figsize=(WIDTH, 0.15 + 0.21 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(names)), values, color=colours, height=0.66)
    axes.set_yticks(range(len(names)), [shown(name, 18) for name in names], color=INK)
    axes.set(ylim=(len(names) - 0.4, -0.6), xlim=(0, 1.22 * (max(values) or 1)), xticks=[])
    axes.spines["bottom"].set_visible(False)
    axes.grid(False)
    for i, (value, label) in enumerate(zip(values, labels, strict=True)):
        axes.annotate(label, (value, i), (3, 0), textcoords="offset points", va="center", color=MUTED)
    return figure


@look()
def small_histograms(samples: Values, names: Sequence[str]) -> Figure:
    """One small histogram for each column of (N, columns), three in a row."""
    rows = math.ceil(len(names) / 3)
    figure = Figure(figsize=(WIDTH, 0.95 * rows), layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.06))
    grid = figure.subplots(rows, 3, squeeze=False).ravel()
    for axes in grid[len(names) :]:
        axes.axis("off")
    for axes, name, values in zip(grid, names, samples.T, strict=False):
        low, high = bounds(values)
        counts, edges = np.histogram(values[np.isfinite(values)].astype(float), bins=24, range=(low, high))
        axes.stairs(counts, edges, fill=True, color=BLUE)
        axes.set_title(shown(name, 15), loc="left", fontsize=7.5, pad=2)
        axes.set(yticks=[], xticks=[low, high], xlim=(low, high), ylim=(0, None if counts.any() else 1))
        axes.set_xticklabels([f"{low:.3g}", f"{high:.3g}"], fontsize=6.5)
        axes.get_xticklabels()[0].set_ha("left")
        axes.get_xticklabels()[1].set_ha("right")
        axes.spines["left"].set_visible(False)
        axes.grid(False)
    return figure


@look()
def heat_map(
    values: Values, rows: Sequence[str], x_name: str, columns: Sequence[str] = (), signed: bool = False
) -> Figure:
    """A matrix as colours with a scale under it; signed values run from blue over white to red."""
    low, high = bounds(values)
    if signed:
        low, high = -max(-low, high), max(-low, high)
    names = len(columns) == values.shape[1] <= MOST_NAMES
    figure = Figure(figsize=(WIDTH, 0.9 + 0.2 * len(rows) + (0.5 if names else 0)), layout="constrained")
    axes = figure.subplots()
    cmap = "RdBu_r" if signed else "Blues"
    edges = 0.5, values.shape[1] + 0.5, len(rows) - 0.5, -0.5
    picture = axes.imshow(values, cmap, aspect="auto", interpolation="none", vmin=low, vmax=high, extent=edges)
    axes.set_yticks(range(len(rows)), [shown(row, 14) for row in rows], color=INK)
    axes.set_xlabel(x_name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    if names:
        name_columns(axes, columns)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(picture, orientation="horizontal", aspect=40, fraction=0.06)
    bar.outline.set_visible(False)
    bar.ax.xaxis.set_major_locator(MaxNLocator(nbins=5))
    return figure


@look()
def curve_figure(
    curves: Sequence[tuple[str, Values, Values, str]],
    y_name: str,
    level: tuple[str, float] | None = None,
    marked: tuple[str, float, float] | None = None,
) -> Figure:
    """Curves (name, epochs, values, colour), logarithmic where they span more than a factor of 20.

    `level` is a horizontal line, `marked` a point, each with its name.
    """
    figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
    axes = figure.subplots()
    for name, x, y, colour in curves:
        y = np.where(np.isfinite(y), y, np.nan)
        axes.plot(x, y, color=colour, label=name, marker="o" if np.isfinite(y).sum() < 12 else "", markersize=3)
    handles: list[Any] = list(axes.lines)
    if level is not None:
        handles.append(axes.axhline(level[1], color=ORANGE, linestyle=DASHED, label=level[0]))
    if marked is not None:
        spot = axes.plot(*marked[1:], "o", color=INK, markersize=6, fillstyle="none", label=marked[0], clip_on=False)
        handles += spot
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0 and values.max() > 20 * values.min():
        axes.set_yscale("log")
        log_ticks(axes.yaxis, values.min(), values.max())
    axes.set(xlabel="epoch", ylabel=y_name)
    axes.margins(x=0.02, y=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    figure.legend(handles=handles, loc="outside upper left", ncols=2, columnspacing=1.2)
    return figure


@look()
def score_histograms(
    groups: Sequence[tuple[str, Values, str]], threshold: float | None, x_name: str = "score"
) -> Figure:
    """Histograms (name, scores, colour) under each other on one axis, each with median and mean, and the threshold.

    The axis is logarithmic where the scores span more than a factor of 20; its first bar then holds all below it.
    """
    every = np.concatenate([scores[np.isfinite(scores)].astype(float) for _, scores, _ in groups])
    if threshold is not None and math.isfinite(threshold):
        every = np.append(every, threshold)
    low, high = bounds(every)
    least = float(np.quantile(every, 0.002)) if every.size else 0.0
    wide = least > 0 and high > 20 * least
    edges = np.geomspace(least, high, 49) if wide else np.linspace(low, high, 49)
    figure = Figure(figsize=(WIDTH, 0.5 + 0.72 * len(groups)), layout="constrained")
    grid = np.ravel(figure.subplots(len(groups), sharex=True))
    for axes, (name, scores, colour) in zip(grid, groups, strict=True):
        finite = scores[np.isfinite(scores)]
        counts, _ = np.histogram(np.maximum(finite, edges[0]), edges)
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.4)
        if finite.size:
            axes.axvline(float(np.median(finite)), color=colour, linewidth=1.4)
            axes.axvline(float(finite.mean()), color=colour, linewidth=1.4, linestyle=DOTTED)
        if threshold is not None and math.isfinite(threshold):
            axes.axvline(threshold, color=INK, linewidth=1.1)
        axes.set_title(f"{shown(name)} ({len(scores):,})", loc="left", fontsize=8, pad=2, color=colour)
        axes.set(yticks=[], ylim=(0, 1.05 * max(1, counts.max())))
        axes.spines["left"].set_visible(False)
        axes.grid(False)
    axes.set(xlabel=x_name, xlim=(edges[0], edges[-1]))
    if wide:
        axes.set_xscale("log")
        log_ticks(axes.xaxis, least, high)
    return figure


@look()
def null_figure(scores: Values, null: Null, threshold: float) -> Figure:
    """How often each score is, on logarithmic axes, under the curve of normal samples as it was fitted to the bulk.

    The bulk is shaded; bars above the threshold are red. The first bar holds all scores below it.
    """
    logs = np.log(np.maximum(scores.astype(float), 1e-30))
    low, high = float(np.quantile(logs, 0.002)), bounds(logs)[1]
    edges = np.exp(np.linspace(low if low < high else high - 1, high, 61))
    inside = np.maximum(scores.astype(float), edges[0])
    figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
    axes = figure.subplots()
    start, end = np.maximum(np.quantile(scores, [LOWEST, null.bulk]), edges[0])
    axes.axvspan(start, end, color=GREY, alpha=0.18, linewidth=0, label="bulk")
    for name, group, colour in (
        ("judged normal", inside[inside <= threshold], BLUE),
        ("flagged", inside[inside > threshold], RED),
    ):
        if len(group):
            counts = np.histogram(group, edges)[0]
            axes.stairs(counts, edges, baseline=0.5, fill=True, color=colour, alpha=0.5, label=name)
    expected = len(scores) * null.share * np.diff(null.below(edges))
    expected[expected < 0.5] = np.nan
    axes.plot(np.sqrt(edges[1:] * edges[:-1]), expected, color=INK, linewidth=1.3, label="fit")
    if math.isfinite(threshold):
        axes.axvline(threshold, color=INK, linewidth=1.1)
    axes.set(xscale="log", yscale="log", xlim=(edges[0], edges[-1]), xlabel="score", ylabel="samples")
    axes.set_ylim(0.5, 2 * max(1, np.histogram(inside, edges)[0].max()))
    log_ticks(axes.xaxis, edges[0], edges[-1])
    if edges[-1] < 5 * edges[0]:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    log_ticks(axes.yaxis, 1, axes.get_ylim()[1])
    figure.legend(loc="outside upper left", ncols=4, columnspacing=1.0)
    return figure


@look()
def calibration_figure(p_values: Values, calibration_count: int | None, of: str) -> Figure:
    """Share of samples at or below each p-value, on logarithmic axes, with the range that chance allows.

    `of` says which samples these are. Chance is that of drawing them and so many calibration rows; without such it is
    that of the samples alone.
    """
    p = np.sort(p_values[np.isfinite(p_values)])
    measured = np.arange(1, len(p) + 1) / max(1, len(p))
    low = 0.5 / (len(p) + 1)
    p = np.maximum(p, low)  # smaller ones stand at the left edge
    promised = np.geomspace(low, 1, 60)
    of_calibration = 0.0 if calibration_count is None else 1 / (calibration_count + 2)
    spread = 1.96 * np.sqrt(promised * (1 - promised) * (1 / max(1, len(p)) + of_calibration))
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    axes = figure.subplots()
    lowest = np.maximum(promised - spread, low / 10)
    axes.fill_between(promised, lowest, promised + spread, color=GREY, alpha=0.25, linewidth=0)
    axes.plot(promised, promised, color=MUTED, linewidth=1, linestyle=DASHED)
    drawn = np.unique(np.geomspace(1, max(1, len(p)), MOST_STEPS).astype(int))[: len(p)] - 1
    axes.plot([*p[drawn], 1], [*measured[drawn], 1], color=BLUE, linewidth=1.5, drawstyle="steps-post")
    axes.set(xscale="log", yscale="log", xlim=(low, 1), ylim=(low, 1.15))
    axes.set(xlabel="promised share of false alarms", ylabel=f"measured share of {of}")
    log_ticks(axes.xaxis, low, 1)
    log_ticks(axes.yaxis, low, 1)
    return figure


@look()
def spectrum_figure(spectra: Sequence[tuple[str, Values, Values, str, Style]], x_name: str, y_name: str) -> Figure:
    """Power over frequency on logarithmic axes: (name, frequency, power, colour, line style) each."""
    figure = Figure(figsize=(WIDTH, 2.5), layout="constrained")
    axes = figure.subplots()
    for name, frequency, power, colour, style in spectra:
        good = (frequency > 0) & (power > 0) & np.isfinite(power)
        if good.any():
            axes.plot(frequency[good], power[good], linestyle=style, color=colour, linewidth=1.3, label=name)
    if axes.lines:
        axes.set(xscale="log", yscale="log")
        for axis, part in ((axes.xaxis, 0), (axes.yaxis, 1)):
            values = np.concatenate([np.asarray(line.get_data()[part], float) for line in axes.lines])
            log_ticks(axis, values.min(), values.max())
        figure.legend(handles=axes.lines, loc="outside upper left", ncols=3, columnspacing=1.2)
    axes.set(xlabel=x_name, ylabel=y_name)
    return figure


def _draw_map(axes: Axes, points: Values, labels: Values | None, most: int) -> tuple[list[Line2D], Any]:
    """Scatter (N, 2) by label; gives the legend's handles, or for many numeric labels what a colour bar needs.

    Of the most frequent labels, `most` at most, each has a hue; past the last they begin anew, and names tell apart.
    """
    order = np.random.default_rng(0).permutation(len(points))  # else the last class hides the others
    size = float(np.clip(6000 / max(1, len(points)), 3, 24))
    dots: dict[str, Any] = {"s": size, "linewidths": 0, "alpha": 0.75, "rasterized": len(points) > 1500}
    x, y = points[order].T
    groups = classes(labels, len(points), most)
    axes.set(xticks=[], yticks=[])
    axes.margins(0.04)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(LINE)
    axes.grid(False)
    if labels is not None and groups.others[0] and labels.dtype.kind in "iuf":
        return [], axes.scatter(x, y, c=labels[order].astype(float), cmap="viridis", **dots)
    hues = [HUES[k % len(HUES)] for k in range(len(groups.names))]
    colours = np.array([*hues, GREY])  # -1 is the last
    axes.scatter(x, y, c=colours[groups.index[order]].tolist(), **dots)
    if labels is None:
        return [], None
    handles = []  # a space before each label: matplotlib leaves out those that begin with an underscore
    for k, name in enumerate(groups.names):
        members = points[groups.index == k]
        members = members[np.isfinite(members).all(axis=1)]
        handles.append(Line2D([], [], linestyle="", marker="o", markersize=5, color=hues[k], label=f" {shown(name)}"))
        if len(members) and len(name) <= 12:
            box = {"facecolor": CARD, "alpha": 0.8, "edgecolor": "none", "boxstyle": "round,pad=0.15"}
            across, up = np.median(members, axis=0)
            axes.text(across, up, shown(name), ha="center", va="center", weight="bold", color=hues[k], bbox=box)
    if groups.others[0]:
        label = f" {groups.others[0]:,} others"
        handles.append(Line2D([], [], linestyle="", marker="o", markersize=5, color=GREY, label=label))
    return handles, None


@look()
def latent_picture(maps: Mapping[str, Values], labels: Values | None = None, clusters: Values | None = None) -> Figure:
    """Maps of the latent vectors, name -> (N, 2), side by side and coloured by label: what `aekit embed` writes.

    With clusters (N,) there is a second row of the same maps, coloured by these.
    """
    rows = [("", "label", labels, len(HUES))]
    rows += [] if clusters is None else [(", clusters", "cluster", clusters, MOST_CLUSTERS)]
    coloured = labels is not None or clusters is not None
    size = (4.6 * len(maps) + (0.8 if coloured else 0), 4.6 * len(rows))
    figure = Figure(figsize=size, dpi=160, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    for part, (suffix, what, groups, most) in zip(
        np.ravel(figure.subfigures(len(rows), squeeze=False)), rows, strict=True
    ):
        for axes, (name, points) in zip(np.ravel(part.subplots(1, len(maps))), maps.items(), strict=True):
            handles, colours = _draw_map(axes, points, groups, most)
            axes.set_title(shown(name, 40) + suffix, loc="left", fontsize=10, weight="bold")
        _legend(part, handles, colours, "right", what)
    return figure


@look()
def map_figure(points: Values, labels: Values | None, what: str = "label") -> Figure:
    """One map of the latent vectors (N, 2), as wide as the page's columns, by label or by cluster."""
    figure = Figure(figsize=(WIDTH, WIDTH), layout="constrained")
    handles, colours = _draw_map(figure.subplots(), points, labels, MOST_CLUSTERS if what == "cluster" else len(HUES))
    _legend(figure, handles, colours, "below", what)
    return figure


def _legend(figure: Figure | SubFigure, handles: list[Line2D], colours: Any, side: str, what: str) -> None:
    if colours is not None:
        lie: Literal["horizontal", "vertical"] = "horizontal" if side == "below" else "vertical"
        bar = figure.colorbar(colours, ax=figure.axes, orientation=lie, aspect=40, pad=0.02, label=what)
        bar.outline.set_visible(False)
    elif handles and side == "right":
        figure.legend(handles=handles, loc="outside right upper", fontsize=9)
    elif handles:
        longest = max(len(str(handle.get_label())) for handle in handles)
        rows = math.ceil(len(handles) / max(1, 46 // (longest + 3)))
        columns = math.ceil(len(handles) / rows)
        figure.legend(handles=handles, loc="outside lower left", ncols=columns, handletextpad=0, columnspacing=1)
