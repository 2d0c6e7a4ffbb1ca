"""A row of a signal as panels over one time axis: traces over each other, spectrograms, probabilities of arrivals."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from aekit.picks import KINDS, Pick
from aekit.records import Kind
from aekit.reports.style import BLUE, DASHED, GREY, INK, MUTED, ORANGE, PALETTE, RED, WIDTH, log_ticks, look
from aekit.reports.traces import MOST_LANES, MOST_POINTS, Curve, draw_traces, thin, time_axis
from aekit.reports.values import Values, bounds, minus, spectrogram

SCORE_TAIL = 0.002  # share of the lowest scores that does not set a logarithmic axis
FEWEST = 512  # points of a row whose spectrogram is drawn
SHADES = 48  # of a spectrogram, whose picture stays small
RANGE = (20.0, 60.0)  # least and most decibels between the darkest and the brightest
HERTZ = (("GHz", 1e9), ("MHz", 1e6), ("kHz", 1e3), ("Hz", 1.0))
KIND_HUES = dict(zip(KINDS, (PALETTE["green"][0], BLUE, RED), strict=True))


@look()
def denoised_figure(
    noisy: Values, cleaned: Values, clean: Values | None, kind: Kind, sampling_rate: float | None
) -> Figure:
    """A row (C, T) before and after, what was taken away, and of a long enough series the first channel's spectrograms.

    Noisy and removed share one scale; the panel of cleaned and clean has another. One scale of colours serves all.
    """
    truth = [] if clean is None else [Curve(clean, (ORANGE, 0.6), "-", 2.6)]  # broad and pale: it is seen behind
    near = np.stack([cleaned] if clean is None else [cleaned, clean])
    panels = [
        (
            "noisy and cleaned" + ("" if clean is None else " over clean"),
            [Curve(noisy, GREY, "-", 0.9)],
            noisy[None],
        ),
        ("cleaned" + ("" if clean is None else " over clean"), [], near),
        ("removed", [Curve(minus(noisy, cleaned), GREY, "-", 0.9)], noisy[None]),
    ]
    for _, curves, _ in panels[:2]:
        curves += [*truth, Curve(cleaned, BLUE)]
    parts = [("noisy", noisy), ("cleaned", cleaned), ("clean", clean)]
    drawn = [
        (name, spectrogram(part[0], sampling_rate))
        for name, part in parts
        if part is not None and has_spectrogram(kind, part.shape[-1])
    ]
    high = 0.6 if len(noisy) == 1 else 0.1 + 0.24 * min(len(noisy), MOST_LANES)
    heights = [high + 0.17] * len(panels) + [0.85] * len(drawn)
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.4 + 0.45 * bool(drawn)), layout="constrained")
    grid = figure.subplots(len(heights), sharex=True, height_ratios=heights)
    for axes, (name, curves, scale) in zip(grid, panels, strict=False):
        draw_traces(axes, curves, kind, sampling_rate, lanes_of=scale)
        if len(noisy) == 1:
            low, top = bounds(scale)
            axes.set_ylim(low - 0.06 * (top - low), top + 0.06 * (top - low))
            axes.yaxis.set_major_locator(MaxNLocator(nbins=2))
        axes.set_title(name, loc="left", fontsize=7.5, pad=2, color=MUTED)
    if drawn:
        _draw_spectrograms(figure, grid[len(panels) :], drawn, noisy.shape[-1], sampling_rate)
    for axes in grid[:-1]:
        axes.set_xlabel("")
    if kind == "series":
        grid[-1].xaxis.set_major_locator(MaxNLocator(nbins=6))
    return figure


def has_spectrogram(kind: Kind, points: int) -> bool:
    return kind == "series" and points >= FEWEST


def _draw_spectrograms(
    figure: Figure, grid: Sequence[Axes], drawn: Sequence[tuple[str, Values]], points: int, sampling_rate: float | None
) -> None:
    """Power densities (F, columns) as colours, their scale below."""
    decibels = [10 * np.log10(np.maximum(power, np.finfo(float).tiny)) for _, power in drawn]
    high = max(float(np.quantile(part, 0.998)) for part in decibels)
    low = float(np.clip(np.quantile(decibels[0], 0.05) - 6, high - RANGE[1], high - RANGE[0]))  # under the noise
    t, time_name = time_axis(points, sampling_rate, "series")
    nyquist = (sampling_rate or 1.0) / 2
    unit, hertz = (
        next((u for u in HERTZ if nyquist >= u[1]), HERTZ[-1]) if sampling_rate is not None else ("1/point", 1)
    )
    step = nyquist / hertz / len(decibels[0])
    colours = matplotlib.colormaps["viridis"].resampled(SHADES)
    for axes, (name, _), part in zip(grid, drawn, decibels, strict=True):
        edges = t[0], t[-1], step / 2, nyquist / hertz + step / 2
        picture = axes.imshow(
            part, colours, aspect="auto", origin="lower", interpolation="none", vmin=low, vmax=high, extent=edges
        )
        axes.set(xlabel=time_name, ylabel=unit, ylim=(0, nyquist / hertz))
        axes.set_title(f"{name}, spectrogram", loc="left", fontsize=7.5, pad=2, color=MUTED)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=3))
        axes.grid(False)
    bar = figure.colorbar(picture, ax=figure.axes, orientation="horizontal", aspect=45, fraction=0.02, pad=0.01)
    bar.set_label("power density (dB)", labelpad=1)
    assert bar.solids is not None, "it is of a picture"
    bar.solids.set_edgecolor("face")  # else the page shows through between the shades
    bar.outline.set_visible(False)
    bar.ax.xaxis.set_major_locator(MaxNLocator(nbins=5))


@look()
def points_figure(
    series: Values,
    scores: Values,
    threshold: float,
    flagged: Values,
    truth: Values | None,
    sampling_rate: float | None,
    first: int = 0,
) -> Figure:
    """A series (C, T) that begins at the point `first`, over the score of each point (T,).

    Scores are logarithmic where they span more than a factor of 20. What is flagged is shaded; a bar over the series
    marks what is known to be anomalous.
    """
    channels, points = series.shape
    heights = [0.75 if channels == 1 else 0.25 + 0.35 * min(channels, MOST_LANES), 0.85]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.65), layout="constrained")
    grid = figure.subplots(2, sharex=True, height_ratios=heights)
    draw_traces(grid[0], [Curve(series, INK, "-", 0.9)], "series", sampling_rate, lanes_of=series[None], first=first)
    grid[0].set_xlabel("")
    t, time_name = time_axis(points, sampling_rate, "series", first)
    low, high = bounds(scores[np.isfinite(scores)], SCORE_TAIL)[0], bounds(scores)[1]
    wide = low > 0 and high > 20 * low
    at, y = thin(t, np.maximum(scores, low) if wide else scores)
    grid[1].plot(at, y, color=BLUE, linewidth=1.0)
    grid[1].set(xlabel=time_name, ylabel="score", xlim=(t[0], t[-1]) if points > 1 else None)
    if wide:
        grid[1].set_yscale("log")
        log_ticks(grid[1].yaxis, low, max(high, 300 * low))  # decades alone: the panel is low
    else:
        grid[1].yaxis.set_major_locator(MaxNLocator(nbins=4))
    handles: list[Patch | Line2D] = [Patch(color=RED, alpha=0.4, label="flagged")]
    if math.isfinite(threshold):
        line = grid[1].axhline(threshold, color=ORANGE, linestyle=DASHED, linewidth=1.1, label="threshold")
        handles.append(line)
    for axes in grid:
        axes.grid(False)
        for start, end in stretches(flagged):
            axes.axvspan(t[start], t[end], facecolor=(RED, 0.22), edgecolor=(RED, 0.4), linewidth=0.5)
    if truth is not None:
        bar: dict[str, Any] = {"color": PALETTE["green"][0], "linewidth": 3}
        for start, end in stretches(truth):
            span, place = [t[start], t[end]], grid[0].get_xaxis_transform()  # heights are shares of the panel's
            grid[0].plot(span, [1.03, 1.03], **bar, transform=place, clip_on=False, solid_capstyle="projecting")
        handles.append(Line2D([], [], **bar, label="known anomaly"))
    figure.legend(handles=handles, loc="outside upper left", ncols=3, columnspacing=1.2)
    return figure


def stretches(flags: Values) -> list[tuple[int, int]]:
    """First and last point of each run of flagged ones (T,); those of a long series as fine as a picture can show."""
    each = -(-len(flags) // MOST_POINTS)
    some = np.pad(flags, (0, -len(flags) % each)).reshape(-1, each).any(axis=1)
    edges = np.flatnonzero(np.diff(some.astype(int), prepend=0, append=0)).reshape(-1, 2)
    return [(int(start) * each, min(int(stop) * each, len(flags)) - 1) for start, stop in edges]


class Found(NamedTuple):
    """A stretch of a row from the point `first` on, and what a model found in it."""

    title: str
    samples: Values  # (C, T)
    first: int
    probability: Values  # (3, T), of KINDS
    spread: Values  # (3, T), its standard deviation
    picks: Sequence[Pick]  # that touch the stretch
    known: Sequence[int]  # points of the row in it at which P and S arrive


@look()
def picks_figure(found: Found, sampling_rate: float) -> Figure:
    """Traces, each on its own scale, over the probabilities with bands of a standard deviation; picks are lines."""
    lanes = min(len(found.samples), MOST_LANES)
    heights = [0.3 + 0.45 * lanes, 1.0]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.6), layout="constrained")
    grid = figure.subplots(2, sharex=True, height_ratios=heights)
    draw_traces(grid[0], [Curve(found.samples, MUTED, "-", 0.9)], "series", sampling_rate, first=found.first)
    grid[0].set_xlabel("")
    t, time_name = time_axis(found.samples.shape[-1], sampling_rate, "series", found.first)
    for kind, probability, spread in zip(KINDS, found.probability, found.spread, strict=True):
        at = highest(probability)
        mean, band = probability[at].astype(float), spread[at].astype(float)
        edges = np.clip(mean - band, 0, 1), np.clip(mean + band, 0, 1)
        grid[1].fill_between(t[at], *edges, color=KIND_HUES[kind], alpha=0.25, linewidth=0)
        grid[1].plot(t[at], mean, color=KIND_HUES[kind], linewidth=1.2)
    grid[1].set(ylim=(0, 1.03), xlabel=time_name, ylabel="probability", yticks=(0, 0.5, 1))
    per_second = (t[-1] - t[0]) / max(1, len(t) - 1) * sampling_rate
    for axes in grid:
        axes.grid(False)
        for pick in found.picks:
            start, end = per_second * pick.start, per_second * pick.end
            if pick.kind == KINDS[0]:
                axes.axvspan(start, end, color=KIND_HUES[pick.kind], alpha=0.13, linewidth=0)
            else:
                axes.axvline(start, color=KIND_HUES[pick.kind], linewidth=1.5)
        for arrival in found.known:
            axes.axvline(per_second * arrival / sampling_rate, color=INK, linewidth=0.9, linestyle=DASHED)
        axes.set_xlim(t[0], t[-1])
    handles: list[Patch | Line2D] = [Patch(color=KIND_HUES[KINDS[0]], alpha=0.4, label=KINDS[0])]
    handles += [Line2D([], [], color=KIND_HUES[kind], linewidth=1.5, label=kind) for kind in KINDS[1:]]
    if any(arrival >= 0 for arrival in found.known):
        handles.append(Line2D([], [], color=INK, linewidth=0.9, linestyle="--", label="known"))
    figure.legend(handles=handles, loc="outside upper left", ncols=4, columnspacing=1.2)
    return figure


def highest(y: Values) -> Values:
    """The places of a curve's highest values, one in each of so many stretches as a picture can show."""
    stretch = -(-len(y) // MOST_POINTS)
    padded = np.pad(y, (0, -len(y) % stretch), mode="edge").reshape(-1, stretch)
    return np.asarray(np.minimum(padded.argmax(axis=1) + stretch * np.arange(len(padded)), len(y) - 1))


@look()
def error_histograms(errors: Sequence[tuple[str, Values]], tolerance: float) -> Figure:
    """How far picks lie from the arrivals, in seconds, under each other; dashed lines where they cease to be right."""
    figure = Figure(figsize=(WIDTH, 0.45 + 0.8 * len(errors)), layout="constrained")
    grid = np.ravel(figure.subplots(len(errors), sharex=True))
    bins = 2 * tolerance * np.arange(-20.5, 21) / 20
    for axes, (kind, off) in zip(grid, errors, strict=True):
        counts, _ = np.histogram(off, bins)
        axes.stairs(counts, bins, fill=True, color=KIND_HUES[kind], alpha=0.5)
        for edge in (-tolerance, tolerance):
            axes.axvline(edge, color=MUTED, linewidth=0.9, linestyle=DASHED)
        beyond = len(off) - int(counts.sum())
        title = f"{kind} ({len(off):,}" + (f", {beyond:,} of them farther off)" if beyond else ")")
        axes.set_title(title, loc="left", fontsize=8, pad=2, color=KIND_HUES[kind])
        axes.set(ylim=(0, 1.05 * max(1, counts.max())), xlim=(bins[0], bins[-1]))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    grid[-1].set_xlabel("pick minus arrival (s)")
    return figure
