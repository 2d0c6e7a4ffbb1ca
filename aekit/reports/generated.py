"""Sections of a report on generated samples: what they look like, what lies nearest to them, which classes they have.

Also what was filled in where values were unknown.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aekit.records import Kind
from aekit.reports.charts import bars, score_histograms
from aekit.reports.images import cell_pixels, paint, picture_rows
from aekit.reports.page import Picture, Section, Table, number
from aekit.reports.sections import INPUT, TAIL
from aekit.reports.style import BLUE, GREY, HUES, ORANGE, RED, shown
from aekit.reports.traces import Curve, stacked_traces, trace_figure
from aekit.reports.values import Values, bounds, spread

ACROSS = 8  # images in a row
MOST_ROWS = 8
MOST_TRACES = 20
MOST_PAIRS = 12
MOST_FILLED = 12

MEANING = {  # of a figure, and the one beside it of real rows
    "memorised": ("samples nearer to a real row than 99 % of real rows to another", 0.01),
    "nearest_ratio": ("median distance to the nearest real row, over that of real rows", 1.0),
    "precision": ("samples inside the manifold of real rows", "precision_floor"),
    "recall": ("real rows inside the manifold of the samples", "recall_floor"),
    "precision_rows": ("samples, and as many real rows, in precision and recall", "precision_floor_rows"),
    "kid": ("kernel inception distance; 0 is alike", "kid_floor"),
    "kid_std": ("its standard deviation over subsets", "kid_floor_std"),
    "kid_rows": ("rows in a subset", "kid_floor_rows"),
    "classes_covered": ("with at least a tenth of their share among real rows", "classes"),
    "largest_share": ("of one class", "real_largest_share"),
    "mean_confidence": ("of the classifier in the class that it sees", "real_confidence"),
    "label_accuracy": ("samples that the classifier takes for what they were drawn as", "feature_accuracy"),
}


def samples_section(
    samples: Values, kind: Kind, names: Sequence[str] | None = None, sampling_rate: float | None = None
) -> Section:
    """The first of the samples (N, C, ...), by name where they have one."""
    if kind == "image":
        limits, most = bounds(samples, TAIL), cell_pixels(ACROSS)
        painted = [paint(sample, limits, most) for sample in samples[: ACROSS * MOST_ROWS]]
        rows = [painted[i : i + ACROSS] for i in range(0, len(painted), ACROSS)]
        pictures = [Picture(picture_rows(rows), "Samples")]
    else:
        chosen = samples[:MOST_TRACES]
        named = [""] * len(chosen) if names is None else list(names)
        traces = [
            (shown(name) if name else "", sample, BLUE, chosen) for name, sample in zip(named, chosen, strict=False)
        ]
        pictures = [
            Picture(stacked_traces(traces[i : i + 10], kind, sampling_rate), "Samples")
            for i in range(0, len(traces), 10)
        ]
    return Section("Samples", "In the order in which they were drawn.", pictures)


def drawn_section(
    stages: Sequence[tuple[int, Values]],
    kind: Kind,
    sampling_rate: float | None = None,
    columns: Sequence[str] = (),
) -> Section:
    """What was generated from the same latents after a few epochs: (epoch, samples (K, C, ...)) each."""
    text = "What the model generates from the same latents after each of these epochs."
    if kind == "image":
        limits, most = bounds(stages[-1][1], TAIL), cell_pixels(len(stages[-1][1]) + 1)
        rows = [[paint(image, limits, most) for image in samples] for _, samples in stages]
        return Section("Samples", text, [Picture(picture_rows(rows, names=[f"{epoch}" for epoch, _ in stages]))])
    pictures = []
    for epoch, samples in stages:
        curves = [Curve(sample, HUES[i % len(HUES)]) for i, sample in enumerate(samples[:3])]
        figure = trace_figure(curves, kind, sampling_rate, columns=columns)
        pictures.append(Picture(figure, f"After epoch {epoch}", "Three of them."))
    return Section("Samples", text, pictures)


def nearest_section(
    samples: Values,
    nearest: Values,
    places: NDArray[np.int64],
    distance: Values,
    usual: Values,
    kind: Kind,
    sampling_rate: float | None = None,
) -> Section:
    """Samples (K, C, ...) beside the real rows nearest to them, whose places are told, from the nearest on.

    `distance` (N,) is that of all samples, `usual` (P,) that of real rows to the nearest other.
    """
    groups = [("samples", distance, BLUE), ("real rows", usual, GREY)]
    note = "To the nearest real row, of real rows to the nearest other. Solid line: median. Dotted: mean."
    pictures = [Picture(score_histograms(groups, None, "distance in normalised units"), "Distances", note)]
    order = spread(len(samples), MOST_PAIRS)
    if kind == "image":
        limits, most, across = bounds(nearest, TAIL), cell_pixels(7), 6
        for i in range(0, len(order), across):
            rows = [[paint(part[k], limits, most) for k in order[i : i + across]] for part in (samples, nearest)]
            note = f"Rows {', '.join(f'{places[k]:,}' for k in order[i : i + across])}."
            title = "The nearest" if i == 0 else "The farthest" if i + across >= len(order) else "Between them"
            pictures.append(Picture(picture_rows(rows, (), ["sample", "real"]), title, note))
    else:
        for k in order:
            curves = [Curve(nearest[k], *INPUT), Curve(samples[k], BLUE)]
            pictures.append(Picture(trace_figure(curves, kind, sampling_rate), f"Beside row {places[k]:,}"))
    text = "Samples beside the real rows nearest to them, from the nearest to the farthest."
    text += "" if kind == "image" else " Broad grey line: the real row."
    return Section("Nearest real rows", f"{text} A model that copies has samples on top of them.", pictures)


def coverage_section(
    names: Sequence[str], shares: Values, real_shares: Values, figures: Mapping[str, object]
) -> Section:
    """Shares of the classes (K,) among samples and real rows, and the figures with what they mean."""
    labels = [f"{100 * a:.1f} %, real {100 * b:.1f} %" for a, b in zip(shares, real_shares, strict=True)]
    few = [RED if share < 0.1 * real else BLUE for share, real in zip(shares, real_shares, strict=True)]
    figure = bars(list(names), shares.tolist(), few, labels)
    pictures = [Picture(figure, "Share of each class", "As a small classifier sees them. Red or none: not covered.")]
    rows = []
    for name, (meaning, beside) in MEANING.items():
        if name in figures:
            real = figures.get(beside) if isinstance(beside, str) else beside
            rows.append([name.replace("_", " "), meaning, figures[name], real])
    text = (
        "Precision, recall and kernel inception distance are of the last hidden layer of a small classifier, trained "
        "on real rows: they compare models on the same data and seed, and have no meaning beyond."
    )
    table = Table(["figure", "meaning", "samples", "real rows"], rows)
    return Section("Beside real rows", text, pictures, [table])


def filling_section(
    given: Values,
    filled: Values,
    unknown: NDArray[np.bool_],
    kind: Kind,
    clean: Values | None = None,
    sampling_rate: float | None = None,
) -> Section:
    """Samples (K, C, ...) as they were given, without what was unknown, and as they were filled."""
    known = np.where(unknown, np.nan, given)
    pictures = []
    parts = [("known", known), ("filled", filled), ("clean", clean)]
    there = [(name, part) for name, part in parts if part is not None]
    limits, most = bounds(filled, TAIL), cell_pixels(4)
    for i in spread(len(filled), MOST_FILLED):
        if kind == "image":
            figure = picture_rows([[paint(part[i], limits, most) for _, part in there]], [name for name, _ in there])
        else:
            curves = [] if clean is None else [Curve(clean[i], (ORANGE, 0.6), "-", 2.6)]
            curves += [Curve(filled[i], BLUE), Curve(known[i], (GREY, 1.0), "-", 1.4)]
            figure = trace_figure(curves, kind, sampling_rate)
        pictures.append(Picture(figure, f"Sample {i + 1}"))
    text = f"{number(int(unknown.sum()))} of {number(unknown.size)} values of these samples were unknown."
    if kind != "image":
        text += " Grey: known. Blue: filled." + ("" if clean is None else " Pale orange, behind: clean.")
    return Section("Filled in", text, pictures)
