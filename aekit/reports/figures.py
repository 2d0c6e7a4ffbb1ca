"""Arrays in, matplotlib figures out: pictures in rows, traces in lanes, bars, bands, histograms and maps.

Only matplotlib's objects, never pyplot. Whatever is drawn is finite: gaps (NaN) stay gaps, constants get an axis.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from aekit.records import Kind
from aekit.reports.style import BLUE, CARD, GREY, HUES, INK, LINE, MUTED, ORANGE, WIDTH, Values, log_ticks, look, shown

Colour = str | tuple[str, float]  # with its opacity
Style = str | tuple[int, tuple[float, float]]
DASHED: Style = (0, (4, 2))
DOTTED: Style = (0, (1, 1.2))

MOST_POINTS = 600  # of a line; a longer trace is drawn by its extremes
MOST_LANES = 6  # channels of a trace that are drawn


@dataclass(frozen=True)
class Classes:
    """Labels as groups to draw: at most so many names, and for each row the place of its name, -1 for all others."""

    names: list[str]
    index: NDArray[np.int64]  # (N,)
    counts: list[int]  # of each name
    others: tuple[int, int]  # how many more names, how many rows


def classes(labels: Values | None, count: int, most: int) -> Classes:
    """The most frequent labels in their natural order; without labels one group without a name."""
    if labels is None:
        return Classes([""], np.zeros(count, np.int64), [count], (0, 0))
    labels = labels if labels.dtype.kind in "iufb" else labels.astype(str)
    values, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    kept = np.sort(np.argsort(-counts, kind="stable")[:most])
    place = np.full(len(values), -1)
    place[kept] = np.arange(len(kept))
    names = [f"{value:g}" if values.dtype.kind == "f" else str(value) for value in values[kept]]
    missing = len(values) - len(kept)
    return Classes(names, place[inverse], counts[kept].tolist(), (missing, int(counts.sum() - counts[kept].sum())))


# pictures ------------------------------------------------------------------------------------------------------------


def bounds(values: Values, tail: float = 0.0) -> tuple[float, float]:
    """Lowest and highest finite value, without a share `tail` at either end; apart even for a constant."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(edge) for edge in np.quantile(finite, (tail, 1 - tail)))
    if low == high:
        low, high = float(finite.min()), float(finite.max())
    return (low, high) if low < high else (low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1))


def paint(image: Values, limits: tuple[float, float], most: int = 10**6) -> Values:
    """An image (C, H, W) as pixels (H, W, 4): three channels in colour, else their mean in grey; gaps are clear."""
    image = shrink(image.astype(float), most)
    image = image if len(image) == 3 else image.mean(axis=0, keepdims=True)
    scaled = np.clip((image - limits[0]) / (limits[1] - limits[0]), 0, 1)
    return _pixels(np.broadcast_to(np.moveaxis(scaled, 0, 2), (*image.shape[1:], 3)))


def paint_difference(difference: Values, most: int, scale: float) -> Values:
    """A difference (C, H, W), mean of its channels, as pixels from blue (-scale) over white to red (scale)."""
    mean = shrink(difference.astype(float), most).mean(axis=0)
    colours = matplotlib.colormaps["RdBu_r"](np.nan_to_num(0.5 + 0.5 * np.clip(mean / scale, -1, 1)))
    colours[~np.isfinite(mean)] = np.nan
    return _pixels(colours[..., :3])


def _pixels(rgb: Values) -> Values:
    good = np.isfinite(rgb).all(axis=2, keepdims=True)
    return np.concatenate([np.where(good, 255 * rgb + 0.5, 0), 255 * good], axis=2).astype(np.uint8)


def shrink(image: Values, most: int) -> Values:
    """Means over square blocks, so that neither side of (C, H, W) has more than about `most` pixels."""
    factor = math.ceil(max(image.shape[1:]) / most)
    if factor == 1:
        return image
    channels, height, width = image.shape
    height, width = max(1, height // factor), max(1, width // factor)
    rows, columns = min(factor, image.shape[1]), min(factor, image.shape[2])
    blocks = image[:, : height * rows, : width * columns].reshape(channels, height, rows, width, columns)
    return np.asarray(blocks.mean(axis=(2, 4)))


def cell_pixels(columns: int) -> int:
    """How many pixels of a picture are worth keeping where `columns` of them share a figure's width."""
    return int(2 * 96 * WIDTH / columns)


@look()
def picture_rows(
    rows: Sequence[Sequence[Values | None]], heads: Sequence[str] = (), names: Sequence[str] = ()
) -> Figure:
    """Pictures (H, W, 4) in rows and columns, with `heads` over the columns and `names` left of the rows."""
    columns = max(len(row) for row in rows)
    left = 0.08 + 0.062 * max((len(shown(name, 12)) for name in names), default=-1.3)
    top = 0.2 if heads else 0.0
    gap = 0.05
    first = next(picture for row in rows for picture in row if picture is not None)
    wide = min((WIDTH - left + gap) / columns - gap, 1.0)
    high = wide * min(max(first.shape[0] / first.shape[1], 0.25), 4)
    height = top + len(rows) * (high + gap) - gap
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, height), autoscale_on=False)
    axes.axis("off")
    for j, head in enumerate(heads):
        axes.text(left + j * (wide + gap) + wide / 2, height, head, ha="center", va="top", color=MUTED)
    for i, row in enumerate(rows):
        y = height - top - i * (high + gap) - high
        if names:
            axes.text(left - 0.08, y + high / 2, shown(names[i], 12), ha="right", va="center", color=INK)
        for j, picture in enumerate(row):
            x = left + j * (wide + gap)
            if picture is not None:
                axes.imshow(picture, extent=(x, x + wide, y, y + high), interpolation="none", aspect="auto")
    return figure


@look()
def sample_grid(
    samples: Values, kind: Kind, columns: int | None = None, titles: Sequence[object] | None = None
) -> Figure:
    """Samples (N, C, ...) in a grid: images in whole, magnified pixels without axes, series and tables as traces.

    `columns=N` gives one row, the picture of a path between two samples.
    """
    names = None if titles is None else [shown(title) for title in titles]
    if kind == "image":
        return _pixel_grid(samples, columns or math.ceil(math.sqrt(len(samples))), names)
    columns = columns or (1 if len(samples) <= 4 else 2)
    rows = math.ceil(len(samples) / columns)
    lanes = min(samples.shape[1], MOST_LANES)
    size = (columns * min(WIDTH, max(1.1, 14 / columns)), rows * (0.55 + 0.3 * lanes) + 0.2)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for i, axes in enumerate(grid.flat):
        if i >= len(samples):
            axes.axis("off")
            continue
        draw_traces(axes, [Curve(samples[i], BLUE)], kind, lanes_of=samples)
        if names is not None:
            axes.set_title(names[i], loc="left", fontsize=8)
        if i + columns < len(samples):
            axes.set_xlabel("")
    return figure


def _pixel_grid(samples: Values, columns: int, names: list[str] | None) -> Figure:
    rows = math.ceil(len(samples) / columns)
    height, width = samples.shape[2:]
    times = max(1, min(12, 1200 // (columns * width), 1200 // height))
    gap, head = 4, 18 if names else 0
    wide, high = width * times, height * times
    size = (columns * (wide + gap) + gap, rows * (high + gap + head) + gap)
    sheet = np.zeros((size[1], size[0], 4), np.uint8)  # clear
    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100)
    limits = bounds(samples, 0.002)
    for i, sample in enumerate(samples):
        top = gap + (i // columns) * (high + gap + head) + head
        left = gap + (i % columns) * (wide + gap)
        sheet[top : top + high, left : left + wide] = paint(sample, limits).repeat(times, 0).repeat(times, 1)
        if names:
            name = shown(names[i], max(3, wide // 7))
            figure.text((left + wide / 2) / size[0], 1 - (top - 4) / size[1], name, ha="center", va="bottom")
    figure.figimage(sheet)
    return figure


# traces --------------------------------------------------------------------------------------------------------------


class Curve(NamedTuple):
    trace: Values  # (C, T)
    colour: Colour
    style: Style = "-"
    width: float = 1.1


def time_axis(points: int, sampling_rate: float | None, kind: Kind) -> tuple[Values, str]:
    """Where the values of a trace lie, and what the axis is called."""
    if kind == "table":
        return np.arange(1, points + 1), "column"
    if sampling_rate is None:
        return np.arange(points), "time point"
    return np.arange(points) / sampling_rate, "time (s)"


def draw_traces(
    axes: Axes,
    curves: Sequence[Curve],
    kind: Kind,
    sampling_rate: float | None = None,
    lanes_of: Values | None = None,
    shade: str | None = None,
    columns: Sequence[str] = (),
) -> None:
    """Draw traces over each other, their channels in lanes.

    `lanes_of` (N, C, T) says how high a lane is, else the curves do; `shade` fills the space between the first two.
    """
    channels, points = curves[0].trace.shape
    t, name = time_axis(points, sampling_rate, kind)
    if lanes_of is None:
        lanes_of = np.stack([curve.trace for curve in curves])
    lanes = range(min(channels, MOST_LANES))
    few = kind == "table" and points <= 40
    for c in lanes:
        low, high = bounds(lanes_of[:, c])
        drawn = []
        for trace, colour, style, width in curves:
            y = np.where(np.isfinite(trace[c]), trace[c], np.nan).astype(float)
            if channels > 1:
                y = (y - low) / (high - low) - 1.15 * c
            at, y = thin(t, y)
            drawn.append(y)
            marker = "o" if few or points == 1 else ""
            axes.plot(at, y, linestyle=style, color=colour, linewidth=width, marker=marker, markersize=3)
        if shade is not None:
            axes.fill_between(at, drawn[0], drawn[1], color=shade, alpha=0.25, linewidth=0)
    axes.set_xlabel(name)
    if points > 1:
        axes.set_xlim(t[0], t[-1])
    if few:
        axes.set_xlim(0.5, points + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    if len(columns) == points <= 12 and kind == "table":
        axes.set_xlabel("")
        axes.set_xticks(t, [shown(column, 14) for column in columns], rotation=40, ha="right", rotation_mode="anchor")
    if channels > 1:
        axes.set_yticks([0.5 - 1.15 * c for c in lanes], [str(c + 1) for c in lanes])
        axes.set_ylabel("channel")
    else:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))


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
    high = trace_height(len(curves[0].trace)) + (0.4 if kind == "table" and 0 < len(columns) <= 12 else 0)
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
        axes.legend(loc="lower left")
    axes.set(xlabel=x_name, ylabel=y_name)
    return figure


# summaries -----------------------------------------------------------------------------------------------------------


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
    figure = Figure(figsize=(WIDTH, 0.85 * rows), layout="constrained")
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
    names = len(columns) == values.shape[1] <= 20
    figure = Figure(figsize=(WIDTH, 0.9 + 0.2 * len(rows) + (0.5 if names else 0)), layout="constrained")
    axes = figure.subplots()
    cmap = "RdBu_r" if signed else "Blues"
    edges = 0.5, values.shape[1] + 0.5, len(rows) - 0.5, -0.5
    picture = axes.imshow(values, cmap, aspect="auto", interpolation="none", vmin=low, vmax=high, extent=edges)
    axes.set_yticks(range(len(rows)), [shown(row, 14) for row in rows], color=INK)
    axes.set_xlabel(x_name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    if names:
        axes.set_xticks(range(1, len(columns) + 1), [shown(name, 14) for name in columns], rotation=60, ha="right")
        axes.set_xlabel("")
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
def score_histograms(groups: Sequence[tuple[str, Values, str]], threshold: float | None) -> Figure:
    """Histograms (name, scores, colour) under each other on one axis, each with median and mean, and the threshold."""
    every = np.concatenate([scores[np.isfinite(scores)] for _, scores, _ in groups])
    if threshold is not None and math.isfinite(threshold):
        every = np.append(every, threshold)
    low, high = bounds(every)
    wide = low > 0 and high > 20 * low
    edges = np.geomspace(low, high, 49) if wide else np.linspace(low, high, 49)
    figure = Figure(figsize=(WIDTH, 0.5 + 0.72 * len(groups)), layout="constrained")
    grid = np.ravel(figure.subplots(len(groups), sharex=True))
    for axes, (name, scores, colour) in zip(grid, groups, strict=True):
        finite = scores[np.isfinite(scores)]
        counts, _ = np.histogram(finite, edges)
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
    axes.set(xlabel="score", xlim=(edges[0], edges[-1]))
    if wide:
        axes.set_xscale("log")
        log_ticks(axes.xaxis, low, high)
    return figure


@look()
def calibration_figure(p_values: Values, calibration_count: int) -> Figure:
    """Share of samples at or below each p-value, on logarithmic axes, with the range that chance allows."""
    p = np.sort(p_values[np.isfinite(p_values) & (p_values > 0)])
    measured = np.arange(1, len(p) + 1) / max(1, len(p))
    low = 0.7 * min([1 / (len(p) + 1), *p[:1]])
    promised = np.geomspace(low, 1, 60)
    spread = 1.96 * np.sqrt(promised * (1 - promised) * (1 / max(1, len(p)) + 1 / (calibration_count + 2)))
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    axes = figure.subplots()
    lowest = np.maximum(promised - spread, low / 10)
    axes.fill_between(promised, lowest, promised + spread, color=GREY, alpha=0.25, linewidth=0)
    axes.plot(promised, promised, color=MUTED, linewidth=1, linestyle=DASHED)
    axes.plot([*p, 1], [*measured, 1], color=BLUE, linewidth=1.5, drawstyle="steps-post")
    axes.set(xscale="log", yscale="log", xlim=(low, 1), ylim=(low, 1.15))
    axes.set(xlabel="promised share above the threshold", ylabel="measured share of normal samples")
    log_ticks(axes.xaxis, low, 1)
    log_ticks(axes.yaxis, low, 1)
    return figure


# maps ----------------------------------------------------------------------------------------------------------------


def _draw_map(axes: Axes, points: Values, labels: Values | None) -> tuple[list[Line2D], Any]:
    """Scatter (N, 2) by label; gives the legend's handles, or for many numeric labels what a colour bar needs."""
    order = np.random.default_rng(0).permutation(len(points))  # else the last class hides the others
    size = float(np.clip(6000 / max(1, len(points)), 3, 24))
    dots: dict[str, Any] = {"s": size, "linewidths": 0, "alpha": 0.75, "rasterized": len(points) > 400}
    x, y = points[order].T
    groups = classes(labels, len(points), most=len(HUES))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(LINE)
    axes.grid(False)
    if labels is not None and groups.others[0] and labels.dtype.kind in "iuf":
        return [], axes.scatter(x, y, c=labels[order].astype(float), cmap="viridis", **dots)
    colours = np.array([*HUES, GREY])  # -1 is the last
    axes.scatter(x, y, c=colours[groups.index[order]].tolist(), **dots)
    if labels is None:
        return [], None
    handles = []
    for k, name in enumerate(groups.names):
        members = points[groups.index == k]
        members = members[np.isfinite(members).all(axis=1)]
        handles.append(Line2D([], [], linestyle="", marker="o", markersize=5, color=HUES[k], label=shown(name)))
        if len(members) and len(name) <= 12:
            box = {"facecolor": CARD, "alpha": 0.8, "edgecolor": "none", "boxstyle": "round,pad=0.15"}
            across, up = np.median(members, axis=0)
            axes.text(across, up, shown(name), ha="center", va="center", weight="bold", color=HUES[k], bbox=box)
    if groups.others[0]:
        label = f"{groups.others[0]:,} others"
        handles.append(Line2D([], [], linestyle="", marker="o", markersize=5, color=GREY, label=label))
    return handles, None


@look()
def latent_picture(maps: Mapping[str, Values], labels: Values | None = None) -> Figure:
    """Maps of the latent vectors, name -> (N, 2), side by side and coloured by label: what `aekit embed` writes."""
    figure = Figure(figsize=(4.6 * len(maps) + (1.2 if labels is not None else 0), 4.6), dpi=160, layout="constrained")
    for axes, (name, points) in zip(np.ravel(figure.subplots(1, len(maps))), maps.items(), strict=True):
        handles, colours = _draw_map(axes, points, labels)
        axes.set_title(shown(name, 40), loc="left", fontsize=10, weight="bold")
    _legend(figure, handles, colours, "right")
    return figure


@look()
def map_figure(points: Values, labels: Values | None) -> Figure:
    """One map of the latent vectors (N, 2), as wide as the page's columns."""
    figure = Figure(figsize=(WIDTH, WIDTH), layout="constrained")
    handles, colours = _draw_map(figure.subplots(), points, labels)
    _legend(figure, handles, colours, "below")
    return figure


def _legend(figure: Figure, handles: list[Line2D], colours: Any, side: str) -> None:
    if colours is not None:
        lie: Literal["horizontal", "vertical"] = "horizontal" if side == "below" else "vertical"
        bar = figure.colorbar(colours, ax=figure.axes, orientation=lie, aspect=40, pad=0.02, label="label")
        bar.outline.set_visible(False)
    elif handles and side == "right":
        figure.legend(handles=handles, loc="outside right upper", fontsize=9)
    elif handles:
        longest = max(len(str(handle.get_label())) for handle in handles)
        rows = math.ceil(len(handles) / max(1, 46 // (longest + 3)))
        columns = math.ceil(len(handles) / rows)
        figure.legend(handles=handles, loc="outside lower left", ncols=columns, handletextpad=0.1, columnspacing=1)
