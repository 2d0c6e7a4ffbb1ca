"""Sections on what latents tell: near rows, probes and clusters. Arrays in, a Section out, as in sections.py."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from aekit.records import Kind
from aekit.reports.charts import bars, heat_map
from aekit.reports.images import cell_pixels, paint, picture_rows
from aekit.reports.page import Picture, Section, Table, number
from aekit.reports.sections import INPUT, MOST_CLASSES, TAIL
from aekit.reports.style import BLUE, INK
from aekit.reports.traces import MOST_NAMES, Curve, stacked_traces, trace_figure
from aekit.reports.values import Values, bounds, classes, label_name

MOST_LINES = 60  # clusters that a heat map can show
STACKED = 4  # traces under their query

PROBES = {
    "linear": "logistic regression",
    "knn": "5 nearest neighbours",
    "linear_svm": "linear SVM",
    "rbf_svm": "SVM with a Gaussian kernel",
    "random_forest": "random forest",
}
METRICS = {"euclidean": "Euclidean", "cosine": "cosine"}


def neighbours_section(
    figures: Mapping[str, Any],
    queries: Values,
    found: Values,
    distances: Values,
    rows: Values,
    kind: Kind,
    labels: Values | None = None,
    found_labels: Values | None = None,
    sampling_rate: float | None = None,
    columns: Sequence[str] = (),
) -> Section:
    """A few samples (Q, C, ...) of these rows (Q,) beside the samples found (Q, K, C, ...), the nearest first.

    figures tell `k`, the `metric`, the `count` of latents, `among` how many neighbours were looked for, their `source`,
    and where labels (Q,) and found_labels (Q, K) are known the `accuracy` of their vote.
    """
    text = f"{figures['k']:,} nearest of {figures['among']:,} latents of {figures['source']} to each of "
    text += f"{figures['count']:,}, by {METRICS[figures['metric']]} distance."
    if figures.get("accuracy") is not None:
        text += f" Their most frequent label, of several the nearest's, is right for {100 * figures['accuracy']:.1f} %."
    names = [f"row {row:,}" if labels is None else label_name(labels[i]) for i, row in enumerate(rows)]
    if kind == "image":
        limits = bounds(np.concatenate([queries, found.reshape(-1, *queries.shape[1:])]), TAIL)
        most = cell_pixels(found.shape[1] + 1)
        pairs = zip(queries, found, strict=True)
        painted = [[paint(image, limits, most) for image in (query, *near)] for query, near in pairs]
        heads = ["query", *(str(rank + 1) for rank in range(found.shape[1]))]
        note = "" if labels is None else "Left of each query its label."
        return Section("Neighbours", text, [Picture(picture_rows(painted, heads, names), "Nearest first", note)])
    pictures = []
    for i, row in enumerate(rows):
        if kind == "table":
            figure = _over(queries[i], found[i], kind, sampling_rate, columns)
        else:
            near = found[i, :STACKED]
            told = [f"{rank + 1} · {number(float(distances[i, rank]))}" for rank in range(len(near))]
            if found_labels is not None:
                told = [f"{words} · {label_name(label)}" for words, label in zip(told, found_labels[i], strict=False)]
            scale = np.concatenate([queries[i : i + 1], near])
            traces = [("query", queries[i], INK, scale)]
            traces += [(words, trace, BLUE, scale) for words, trace in zip(told, near, strict=True)]
            figure = stacked_traces(traces, kind, sampling_rate)
        pictures.append(Picture(figure, f"Row {row:,}" if labels is None else f"Row {row:,} · {names[i]}"))
    if kind == "table":
        text += " Broad grey line: the row. Blue: its neighbours."
    else:
        text += " Over each trace: rank, distance" + (" and label." if found_labels is not None else ".")
    return Section("Neighbours", text, pictures)


def probe_section(figures: Mapping[str, Any], count: int) -> Section:
    """Accuracies beside PCA's, as in the JSON of `aekit embed --probe`; `count` is of all latents."""
    rows: list[list[object]] = []
    for name, words in PROBES.items():
        found = figures[name]
        shares = (f"{found[f'{of}mean']:.3f} ± {found[f'{of}std']:.3f}" for of in ("", "pca_"))
        rows.append([words, *shares, found["rows"]])
    few = f"{figures['rows']:,}" + (f" of {count:,}" if figures["rows"] < count else "")
    text = (
        f"How well simple classifiers tell the {figures['classes']} classes from {few} latents: mean accuracy and its "
        f"standard deviation over {figures['folds']} folds. PCA is of the same samples, with "
        f"{figures['pca_dimension']} dimensions."
    )
    return Section("Probes", text, tables=[Table(["", "latents", "PCA", "rows"], rows)])


def clusters_section(
    figures: Mapping[str, Any],
    clusters: Values,
    members: Sequence[Values],
    kind: Kind,
    labels: Values | None = None,
    sampling_rate: float | None = None,
    columns: Sequence[str] = (),
) -> Section:
    """Clusters (N,), the largest first, beside labels (N,), and the samples (M, C, ...) nearest to the first centres.

    figures are those of the JSON of `aekit embed --clusters`.
    """
    sizes = np.array(list(figures["cluster_sizes"].values()))
    text = f"{len(sizes):,} clusters of {len(clusters):,} latents by k-means, the largest first."
    if figures["silhouette"] is not None:
        some = figures["silhouette_rows"]
        text += f" Mean silhouette {number(figures['silhouette'])}"
        text += f", of {some:,} latents." if some < len(clusters) else "."
    if "adjusted_rand_index" in figures:
        text += f" Against the labels: adjusted Rand index {number(figures['adjusted_rand_index'])}, normalised mutual "
        text += f"information {number(figures['normalised_mutual_information'])}."
    text += "" if kind == "image" else " Traces: the nearest to each centre, the first of them broad and grey."
    pictures = [_sizes(clusters, sizes, labels), *_members(members, sizes, kind, sampling_rate, columns)]
    return Section("Clusters", text, pictures)


def _sizes(clusters: Values, sizes: Values, labels: Values | None) -> Picture:
    """What is in each cluster: how many, or which classes."""
    lines = min(len(sizes), MOST_LINES)
    note = f" The first {lines} of {len(sizes):,}." if lines < len(sizes) else ""
    if labels is None:
        shown = sizes[:lines].tolist()
        figure = bars([str(c) for c in range(lines)], shown, [BLUE] * lines, [f"{size:,}" for size in shown])
        return Picture(figure, "Latents in each cluster", note.strip())
    groups = classes(labels, len(clusters), MOST_NAMES)
    inside = (clusters < lines) & (groups.index >= 0)
    counts = np.zeros((lines, len(groups.names)))
    np.add.at(counts, (clusters[inside], groups.index[inside]), 1)
    names = [f"{c} ({size:,})" for c, size in enumerate(sizes[:lines])]
    note = f"Share of each cluster's latents in each class; after a cluster how many it has.{note}"
    note += f" The {len(groups.names)} most frequent classes." if groups.others[0] else ""
    figure = heat_map(counts / np.maximum(sizes[:lines, None], 1), names, "class", groups.names)
    return Picture(figure, "Clusters and classes", note)


def _members(
    members: Sequence[Values], sizes: Values, kind: Kind, sampling_rate: float | None, columns: Sequence[str]
) -> list[Picture]:
    """The samples nearest to the centres, of clusters that have any."""
    near = {c: samples for c, samples in enumerate(members) if len(samples)}
    note = "" if len(near) == np.count_nonzero(sizes) else f"Of the first {len(near)} clusters."
    if kind != "image":
        titles = {c: f"Cluster {c} ({sizes[c]:,})" for c in near}
        return [Picture(_over(x[0], x[1:], kind, sampling_rate, columns), titles[c], note) for c, x in near.items()]
    limits = bounds(np.concatenate(list(near.values())), TAIL)
    most = cell_pixels(max(map(len, near.values())))
    names, pictures = [str(c) for c in near], []
    rows = [[paint(image, limits, most) for image in samples] for samples in near.values()]
    for i in range(0, len(rows), MOST_CLASSES):
        figure = picture_rows(rows[i : i + MOST_CLASSES], (), names[i : i + MOST_CLASSES])
        pictures.append(Picture(figure, "Nearest to each centre", note))
    return pictures


def _over(first: Values, others: Values, kind: Kind, sampling_rate: float | None, columns: Sequence[str]) -> Figure:
    """Samples (C, T) over each other, the first one broad and pale."""
    curves = [Curve(first, *INPUT), *(Curve(other, (BLUE, 0.55), "-", 0.9) for other in others)]
    return trace_figure(curves, kind, sampling_rate, columns=columns)
