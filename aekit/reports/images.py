"""Arrays of pixels as pictures in rows, or as a grid of whole, magnified pixels."""

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from aekit.records import Kind
from aekit.reports.style import BLUE, INK, MUTED, WIDTH, look, shown
from aekit.reports.traces import MOST_LANES, Curve, draw_traces
from aekit.reports.values import Values, bounds


def paint(image: Values, limits: tuple[float, float], most: int) -> Values:
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
    samples: Values,
    kind: Kind,
    columns: int | None = None,
    titles: Sequence[object] | None = None,
    sampling_rate: float | None = None,
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
    figure = Figure(figsize=size, dpi=150, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06))
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for i, axes in enumerate(grid.flat):
        if i >= len(samples):
            axes.axis("off")
            continue
        draw_traces(axes, [Curve(samples[i], BLUE)], kind, sampling_rate, lanes_of=samples)
        if names is not None:
            axes.set_title(names[i], loc="left", fontsize=8)
        if i + columns < len(samples):
            axes.set_xlabel("")
    return figure


def _pixel_grid(samples: Values, columns: int, names: list[str] | None) -> Figure:
    rows = math.ceil(len(samples) / columns)
    limits = bounds(samples, 0.002)
    painted = [paint(sample, limits, max(1, 4000 // columns)) for sample in samples]
    height, width = painted[0].shape[:2]
    times = max(1, min(12, 1200 // (columns * width), 1200 // height))
    gap, head = 4, 18 if names else 0
    wide, high = width * times, height * times
    size = (columns * (wide + gap) + gap, rows * (high + gap + head) + gap)
    sheet = np.zeros((size[1], size[0], 4), np.uint8)  # clear
    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100)
    for i, pixels in enumerate(painted):
        top = gap + (i // columns) * (high + gap + head) + head
        left = gap + (i % columns) * (wide + gap)
        sheet[top : top + high, left : left + wide] = pixels.repeat(times, 0).repeat(times, 1)
        if names:
            name = shown(names[i], max(3, wide // 7))
            figure.text((left + wide / 2) / size[0], 1 - (top - 4) / size[1], name, ha="center", va="bottom")
    figure.figimage(sheet)
    return figure
