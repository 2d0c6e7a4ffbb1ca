"""One function per section of a report: arrays in, a Section out, with words that say what its pictures show.

Of what is given, so much is drawn as a page can hold: the caller brings the samples, and a section picks among them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray

from aekit.empirical_null import Null
from aekit.objectives import PENALTIES
from aekit.picks import KINDS, TOLERANCE, Pick
from aekit.records import Kind
from aekit.reports.charts import (
    bars,
    calibration_figure,
    curve_figure,
    heat_map,
    map_figure,
    null_figure,
    score_histograms,
    small_histograms,
    spectrum_figure,
)
from aekit.reports.images import cell_pixels, paint, paint_difference, picture_rows
from aekit.reports.page import Picture, Section, Table, number
from aekit.reports.signals import Found, denoised_figure, error_histograms, has_spectrogram, picks_figure
from aekit.reports.style import BLUE, DASHED, GREY, HUES, INK, ORANGE, RED, Colour, Style
from aekit.reports.traces import Curve, band_figure, stacked_traces, trace_figure
from aekit.reports.values import Classes, Values, bounds, classes, label_name, minus, moments, snr_db, spectrum, spread

MOST_CLASSES = 10
MOST_SAMPLES = 12
MOST_ROWS = 500  # of a table
SLOW = 0.1  # Hz, below which a step is told instead of a sampling rate
INPUT: tuple[Colour, Style, float] = ((INK, 0.35), "-", 2.6)  # broad and pale: a good reconstruction does not hide it
TAIL = 0.002  # share of the darkest and brightest values that does not set a picture's grey scale


def data_section(
    samples: Values,
    kind: Kind,
    labels: Values | None = None,
    sampling_rate: float | None = None,
    columns: Sequence[str] = (),
    rows: NDArray[np.int64] | None = None,
    count: int | None = None,
) -> Section:
    """What samples (N, C, ...) look like: examples, class counts, means by class, ranges and missing values.

    They may be the rows `rows` (N,) of larger data, of `count` rows; `labels` (count,) are those of all.
    """
    count = len(samples) if count is None else count
    groups = classes(labels, count, MOST_CLASSES)
    if rows is not None:
        groups = replace(groups, index=groups.index[rows])
    pictures = [] if labels is None else [_class_counts(groups, HUES if kind == "series" else [BLUE])]
    if kind == "image":
        pictures += _image_examples(samples, groups)
    elif kind == "series":
        pictures += _series_examples(samples, groups, sampling_rate)
        for k, name in enumerate(groups.names):
            figure = band_figure(*moments(samples[groups.index == k]), HUES[k], kind, sampling_rate)
            title = "Mean of all samples" if labels is None else f"Mean of {name}"
            pictures.append(Picture(figure, title))
    else:
        pictures += _column_pictures(samples[:, 0], groups, columns, labels is not None)
    shape = " × ".join(str(length) for length in samples.shape[1:])
    text = f"{_count(count, 'sample')} of shape {shape}"
    if sampling_rate is not None:
        slow = sampling_rate < SLOW
        text += (
            f", a point every {1 / sampling_rate:g} s" if slow else f", sampled at {EngFormatter('Hz')(sampling_rate)}"
        )
    text += "."
    text += f" Pictures and ranges are of {len(samples):,} of them." if len(samples) < count else ""
    text += " The bands about the means are two standard deviations wide either way." if kind == "series" else ""
    if groups.others[0]:
        text += f" The {len(groups.names)} most frequent of {groups.others[0] + len(groups.names):,} classes are shown."
    ranges = _ranges(samples, kind, columns, f"Of {len(samples):,} rows looked at." if len(samples) < count else "")
    return Section("Data", text, pictures, [ranges])


def _class_counts(groups: Classes, hues: Sequence[str]) -> Picture:
    total = sum(groups.counts) + groups.others[1]
    colours = [hues[k % len(hues)] for k in range(len(groups.names))]
    labels = [f"{count:,} ({_percent(count / total)})" for count in groups.counts]
    note = f"{_count(groups.others[1], 'sample')} in {groups.others[0]:,} other classes." if groups.others[0] else ""
    return Picture(bars(groups.names, groups.counts, colours, labels), "Samples in each class", note)


def _image_examples(samples: Values, groups: Classes) -> list[Picture]:
    limits, most = bounds(samples, TAIL), cell_pixels(7)
    rows = []
    for k in range(len(groups.names)):
        members = np.flatnonzero(groups.index == k)
        mean = moments(samples[members])[0]
        rows.append([paint(image, limits, most) for image in (mean, *samples[members[spread(len(members), 6)]])])
    if groups.names == [""]:
        mean, *painted = (
            paint(image, limits, most) for image in (moments(samples)[0], *samples[spread(len(samples), 34)])
        )
        rows = [[mean, *painted[:6]], *(painted[i : i + 7] for i in range(6, len(painted), 7))]
        return [Picture(picture_rows(rows, ["mean"]), "Mean and samples")]
    return [
        Picture(picture_rows(rows[i : i + 5], ["mean"], groups.names[i : i + 5]), "Mean and samples of each class")
        for i in range(0, len(rows), 5)
    ]


def _series_examples(samples: Values, groups: Classes, sampling_rate: float | None) -> list[Picture]:
    rows = []
    each = 6 if len(groups.names) == 1 else 2 if len(groups.names) <= 4 else 1
    for k, name in enumerate(groups.names):
        members = np.flatnonzero(groups.index == k)
        chosen = members[spread(len(members), each)]
        rows += [(name, samples[i], HUES[k], samples[[i]]) for i in chosen]
    most = 10 if samples.shape[1] == 1 else 5
    return [Picture(stacked_traces(rows[:most], "series", sampling_rate), "Samples", "Each trace on its own scale.")]


def _column_pictures(rows: Values, groups: Classes, columns: Sequence[str], labelled: bool) -> list[Picture]:
    """Of a table (N, columns): how each value is spread, and what tells the classes apart."""
    names = _column_names(rows.shape[1], columns)
    note = "" if len(names) <= 12 else f"The first 12 of {len(names):,} columns."
    pictures = [Picture(small_histograms(rows[:, :12], names[:12]), "Values of each column", note)]
    if labelled:
        mean, std = moments(rows)
        means = np.stack([moments(rows[groups.index == k])[0] for k in range(len(groups.names))])
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = np.where(std > 0, (means - mean) / std, 0)
        figure = heat_map(distance, groups.names, "column", names, signed=True)
        note = "Distance of each class's mean from the mean of all, in standard deviations of the column."
        pictures.append(Picture(figure, "What tells the classes apart", note))
    return pictures


def _column_names(count: int, columns: Sequence[str]) -> list[str]:
    return list(columns) if len(columns) == count else [f"column {i + 1}" for i in range(count)]


def _ranges(samples: Values, kind: Kind, columns: Sequence[str], note: str) -> Table:
    """Range, mean, spread and missing values of each channel, of a table of each column."""
    if kind == "table":
        parts = [samples[:, 0, i] for i in range(min(samples.shape[2], MOST_ROWS))]
        names = _column_names(samples.shape[2], columns)
    else:
        parts = [samples[:, c] for c in range(min(samples.shape[1], MOST_ROWS))]
        names = ["all values"] if samples.shape[1] == 1 else [f"channel {c + 1}" for c in range(samples.shape[1])]
    rows = []
    for name, part in zip(names, parts, strict=False):
        good = part[np.isfinite(part)]
        mean, std = (float(value[0]) for value in moments(good.reshape(-1, 1)))
        low, high = (float(good.min()), float(good.max())) if good.size else (math.nan, math.nan)
        rows.append((name, low, mean, std, high, part.size - good.size))
    header = ("", "lowest", "mean", "standard deviation", "highest", "missing")
    most = "" if len(names) <= MOST_ROWS else f"The first {MOST_ROWS} of {len(names):,}."
    return Table(header, rows, f"{note} {most}".strip())


def training_section(
    metrics: Sequence[Mapping[str, Any]],
    best_epoch: int | None = None,
    pca_error: float | None = None,
    pca_components: int | None = None,
    loss_is: str | None = None,
    error_is: str = "mean squared error",
) -> Section:
    """How the training went, from rows of metrics.csv; the error of PCA with so many components is the line to beat.

    `loss_is` says what the training loss is where it is of another kind than the validation error, which `error_is`.
    """
    epochs, train, val, seconds, speed = (
        np.array([_float(row.get(key)) for row in metrics])
        for key in ("epoch", "train_loss", "val_error", "seconds", "samples_per_second")
    )
    best = np.flatnonzero(epochs == best_epoch)[:1]
    best_error = float(val[best[0]]) if best.size else math.nan
    marked = ("best epoch", float(epochs[best[0]]), best_error) if math.isfinite(best_error) else None
    level = None if pca_error is None else ("PCA", float(pca_error))
    loss, error = ("training loss", epochs, train, GREY), ("validation error", epochs, val, BLUE)
    named = {key: np.array([_float(row.get(key)) for row in metrics]) for key in ("penalty", *PENALTIES)}
    penalties = [(key, epochs, values, hue) for (key, values), hue in zip(named.items(), HUES, strict=False)]
    penalties = [curve for curve in penalties if np.any(np.abs(np.nan_to_num(curve[2])) > 0)]
    penalised = bool(penalties)
    text = _count(len(metrics), "epoch")
    text += f" in {number(float(np.nansum(seconds)))} seconds" if np.isfinite(seconds).any() else ""
    text += f", {number(round(float(np.nanmedian(speed))))} samples a second." if np.isfinite(speed).any() else "."
    rivals = [key for key in dict(metrics[0]) if key.endswith("_loss") and key != "train_loss"] if metrics else []
    if rivals and not np.isfinite(train).any():
        curves = [
            (key.removesuffix("_loss"), epochs, np.array([_float(row.get(key)) for row in metrics]), hue)
            for key, hue in zip(rivals, HUES, strict=False)
        ]
        note = "Networks that compete: neither loss need fall. Look at the samples."
        return Section("Training", text, [Picture(curve_figure(curves, "loss"), "Losses", note)])
    if marked is not None:
        text += f" The best is epoch {best_epoch} with a validation error of {number(best_error)}"
        if pca_error:
            share = best_error / pca_error
            text += f", {_percent(abs(1 - share))} {'below' if share < 1 else 'above'} PCA's {number(pca_error)}"
        text += "; its weights are the model's."
    note = "" if pca_components is None else f"PCA has {_count(pca_components, 'component')}."
    if penalised or loss_is is not None:
        pictures = [
            Picture(curve_figure([error], error_is, level, marked), "Validation error", note),
            Picture(
                curve_figure([loss], "loss"),
                "Training loss",
                (loss_is or "Mean squared error") + (", plus the weighted penalty." if penalised else "."),
            ),
        ]
    else:
        pictures = [Picture(curve_figure([loss, error], "error", level, marked), "Loss by epoch", note)]
    if penalised:
        pictures += [
            Picture(curve_figure([curve], "penalty"), "Penalty" if curve[0] == "penalty" else f"Penalty {curve[0]}")
            for curve in penalties
        ]
    return Section("Training", text, pictures)


def classes_section(
    names: Sequence[str], found: NDArray[np.int64], probability: Values, truth: NDArray[np.int64] | None
) -> Section:
    """Classes found (N,), by their places, with their probabilities (N,); where known, -1 if not, beside the truth."""
    counts = np.bincount(found, minlength=len(names))
    order = np.argsort(-counts, kind="stable")[:MOST_CLASSES]
    labels = [f"{counts[k]:,} ({_percent(counts[k] / max(1, len(found)))})" for k in order]
    pictures = [
        Picture(bars([names[k] for k in order], counts[order].tolist(), [BLUE], labels), "Samples found of each class")
    ]
    known = truth is not None and (truth >= 0)
    if truth is not None and np.any(known):
        table = np.zeros((len(names), len(names)))
        np.add.at(table, (truth[known], found[known]), 1)
        rows = np.flatnonzero(table.sum(axis=1))[: 2 * MOST_CLASSES]
        shares = table[rows] / table[rows].sum(axis=1, keepdims=True)
        note = "Share of each true class, in a row, that was found to be of the class of a column."
        figure = heat_map(shares, [names[k] for k in rows], "class found", list(names))
        pictures.append(Picture(figure, "True and found classes", note))
        right = probability[known][truth[known] == found[known]], probability[known][truth[known] != found[known]]
        groups = [("right", right[0], BLUE), ("wrong", right[1], RED)]
        drawn = [group for group in groups if len(group[1])]
        pictures.append(Picture(score_histograms(drawn, None, "probability"), "Probability of the class found"))
    return Section("Classes", f"{_count(len(found), 'sample')}, {len(names)} classes.", pictures)


def progress_section(
    x: Values,
    stages: Sequence[tuple[int, Values]],
    kind: Kind,
    labels: Values | None = None,
    sampling_rate: float | None = None,
) -> Section:
    """Samples x (K, C, ...), one of each class, as reconstructed at a few epochs: (epoch, x_hat (K, C, ...)) each."""
    count = min(len(x), MOST_CLASSES)
    names = [] if labels is None else [label_name(label) for label in labels[:count]]
    epochs = [f"{epoch}" for epoch, _ in stages]
    pictures = []
    if kind == "image":
        limits, most = bounds(x, TAIL), cell_pixels(len(stages) + 1)
        rows = [[paint(part[i], limits, most) for part in (x, *(x_hat for _, x_hat in stages))] for i in range(count)]
        for i in range(0, count, 5):
            figure = picture_rows(rows[i : i + 5], ["input", *epochs], names[i : i + 5])
            pictures.append(Picture(figure, "Input, and after each epoch"))
        text = "The same samples as the model gave them back after these epochs."
    else:
        for i in range(count):
            shades = np.linspace(1, 0.25, len(stages))[::-1]
            curves = [Curve(x[i], *INPUT)]
            curves += [Curve(x_hat[i], (BLUE, shade)) for (_, x_hat), shade in zip(stages, shades, strict=True)]
            title = names[i] if names else f"Sample {i + 1}"
            pictures.append(Picture(trace_figure(curves, kind, sampling_rate), title))
        text = f"Broad grey line: input. Blue: reconstruction after epoch {', '.join(epochs)}, the later the stronger."
    return Section("Progress", text, pictures)


def reconstruction_section(
    x: Values,
    x_hat: Values,
    kind: Kind,
    scores: Values | None = None,
    labels: Values | None = None,
    x_hat_pca: Values | None = None,
    x_noisy: Values | None = None,
    sampling_rate: float | None = None,
    columns: Sequence[str] = (),
    score_name: str = "score",
    order_text: str = "From the lowest to the highest.",
    x_seen: Values | None = None,
) -> Section:
    """Inputs (K, C, ...) beside what the model makes of them, from the best to the worst where there are scores.

    `order_text` says which samples these are; `x_seen` is what a model saw that predicts the rest, NaN there.
    """
    order = np.arange(len(x)) if scores is None else np.argsort(scores, kind="stable")
    order = order[spread(len(order), MOST_SAMPLES)]
    limits = bounds(x, TAIL)
    masked = None if x_seen is None else np.where(np.isnan(x_seen), sum(limits) / 2, x_seen)
    parts = [("input", x), ("corrupted", x_noisy), ("masked", masked), ("model", x_hat), ("PCA", x_hat_pca)]
    given = [(name, part) for name, part in parts if part is not None]
    most = cell_pixels(len(given) + 1)
    scale = _full_colour(minus(x_hat[order], x[order]))
    pictures = []
    for i in order:
        words = [] if labels is None else [label_name(labels[i])]
        words += [] if scores is None else [f"{score_name} {number(float(scores[i]))}"]
        if kind == "image":
            row = [paint(part[i], limits, most) for _, part in given]
            row.append(paint_difference(minus(x_hat[i], x[i]), most, scale))
            figure = picture_rows([row], [*(name for name, _ in given), "difference"])
        else:
            curves = [Curve(x[i], *INPUT), Curve(x_hat[i], BLUE)]
            curves += [] if x_hat_pca is None else [Curve(x_hat_pca[i], ORANGE, DASHED, 1.0)]
            curves += [] if x_noisy is None else [Curve(x_noisy[i], (GREY, 0.6), "-", 0.6)]
            curves += [] if x_seen is None else [Curve(x_seen[i], INK)]
            figure = trace_figure(curves, kind, sampling_rate, BLUE, columns, x[[i]])
        pictures.append(Picture(figure, " · ".join(words) or f"Sample {i + 1}"))
    if kind == "image":
        text = f"Difference: red where the model is too bright, blue where too dark, full colour at ±{number(scale)}."
    else:
        text = "Broad grey line: input. Blue: the model's reconstruction, with the difference shaded."
        text += "" if x_hat_pca is None else " Dashed: PCA's reconstruction."
        text += "" if x_noisy is None else " Thin grey: the corrupted input."
        text += "" if x_seen is None else " Dark: what the model saw of it."
    if scores is not None:
        text += f" {order_text}"
    return Section("Reconstructions", text, pictures)


def denoising_section(
    noisy: Values, cleaned: Values, kind: Kind, clean: Values | None = None, sampling_rate: float | None = None
) -> Section:
    """Noisy and cleaned samples (K, C, ...), what was taken away, and the power spectra of all."""
    spectra: list[tuple[str, Values, Values, str, Style]] = []
    parts = (("noisy", noisy, GREY, "-"), ("cleaned", cleaned, BLUE, "-"), ("clean", clean, ORANGE, DASHED))
    for name, part, colour, style in parts:
        found = None if part is None else spectrum(part, kind, sampling_rate)
        if found is not None:
            spectra.append((name, *found, colour, style))
    pictures = []
    image = kind == "image"
    scale = _full_colour(minus(noisy, cleaned)) if image else 0.0
    limits, most = bounds(noisy if clean is None else clean, TAIL) if image else (0.0, 1.0), cell_pixels(4)
    for i in spread(len(noisy), MOST_SAMPLES // 2):
        if image:
            given = [("clean", clean), ("noisy", noisy), ("cleaned", cleaned)]
            row = [paint(part[i], limits, most) for _, part in given if part is not None]
            row.append(paint_difference(minus(noisy[i], cleaned[i]), most, scale))
            figure = picture_rows([row], [*(name for name, part in given if part is not None), "removed"])
        else:
            figure = denoised_figure(noisy[i], cleaned[i], None if clean is None else clean[i], kind, sampling_rate)
        title = f"Sample {i + 1}"
        if clean is not None:
            before, after = (snr_db(clean[i], part[i]) for part in (noisy, cleaned))
            title += "" if math.isnan(before + after) else f" · {_decibels(before)} to {_decibels(after)} dB"
        pictures.append(Picture(figure, title))
    if spectra:
        x_name = "cycles per pixel" if image else "cycles per sample" if sampling_rate is None else "frequency (Hz)"
        note = "Mean over the samples" + (" and all directions." if image else ".")
        pictures.append(Picture(spectrum_figure(spectra, x_name, "power density"), "Power spectra", note))
    text = "What was removed should look like noise: a signal seen in it was lost."
    text += " Decibels are of signal over noise, before and after." if clean is not None else ""
    if image:
        text += f" Removed: red where the noisy picture is brighter, full colour at ±{number(scale)}."
    else:
        text += " Grey: noisy. Blue: cleaned." + ("" if clean is None else " Pale orange, behind: clean.")
        text += " Noisy and removed share one scale, the panel between has its own."
    if has_spectrogram(kind, noisy.shape[-1]):
        text += " Spectrograms" + (" are of the first channel and" if noisy.shape[1] > 1 else "") + " share one scale."
    return Section("Denoising", text, pictures)


def _full_colour(difference: Values) -> float:
    return max(1e-30, *(abs(edge) for edge in bounds(difference, TAIL)))


def scores_section(
    calibration: Values,
    scores: Values,
    anomalous: NDArray[np.bool_] | None,
    threshold: float | None,
    rule: str,
    figures: Mapping[str, object],
    pca_figures: Mapping[str, object] | None = None,
    p_values: Values | None = None,
    null: Null | None = None,
    by_point: bool = False,
) -> Section:
    """How scores (N,) lie against those of calibration (M,) and the threshold, and whether p-values keep their promise.

    Without `p_values` the conformal ones are taken. With `null` they come from it, as no row is known to be normal; it
    was fitted to the calibration, or without such to the scores. Samples of unknown kind count as normal in the
    calibration plot; those of a series `by_point` are no independent ones.
    """
    group = "training data, held out" if null is None else "training data, mixed"
    groups = [(group, calibration, GREY)] if len(calibration) else []
    if anomalous is None:
        groups.append(("scored", scores, BLUE))
    else:
        groups += [("normal", scores[~anomalous], BLUE), ("anomalous", scores[anomalous], RED)]
    groups = [group for group in groups if len(group[1])]
    note = "Solid line: median. Dotted: mean. Line through all rows: threshold."
    note += " Some of the training data may be anomalous." if null is not None and len(calibration) else ""
    pictures = [Picture(score_histograms(groups, threshold), "Scores", note)] if groups else []
    if null is not None and len(scores):
        fitted = calibration if len(calibration) else scores
        what = "the training data, held out" if len(calibration) else "what is scored"
        note = f"Shaded: the bulk of {what}, its lowest {_percent(null.bulk)}, which tells the curve of normal scores."
        note += f" {_percent(1 - null.share)} of these are more than it explains." if null.share < 0.9995 else ""
        note += " Both axes are logarithmic."
        pictures.append(
            Picture(null_figure(fitted, null, math.inf if threshold is None else threshold), "Normal scores", note)
        )
    if p_values is None:
        above = len(calibration) - np.searchsorted(np.sort(calibration), scores, side="left")
        p_values = (1 + above) / (1 + len(calibration))
    normal = p_values if anomalous is None else p_values[~anomalous]
    if len(normal) and (len(calibration) or null is not None):
        note = "On the dashed line p-values keep what they promise; in the band only chance differs."
        beside = "Neighbours score alike and points beside an anomaly high: the curve may leave the band on the left."
        note += f" {beside}" if by_point else ""
        note += " Anomalies among the samples lift the left end." if anomalous is None else ""
        of = "all samples" if anomalous is None else "normal samples"
        count = None if null is not None else len(calibration)
        pictures.append(Picture(calibration_figure(normal, count, of), "Calibration", note))
    text = f"Rule {rule}"
    if threshold == math.inf:
        text += f": none of {_count(len(scores), 'sample')} is flagged"
    elif threshold is not None:
        flagged = np.asarray(scores, np.float64) > threshold  # NumPy would round the threshold to float32
        text += f", threshold {number(float(threshold))}: {flagged.sum():,} of {_count(len(scores), 'sample')} above"
        if anomalous is not None:
            hits, alarms = (flagged & anomalous).sum(), (flagged & ~anomalous).sum()
            text += f", {hits:,} of {anomalous.sum():,} anomalous and {alarms:,} of {(~anomalous).sum():,} normal"
    return Section("Scores", text + ".", pictures, _figures_table(figures, pca_figures))


def embedding_section(
    maps: Mapping[str, Values],
    labels: Values | None = None,
    figures: Mapping[str, object] | None = None,
    pca_figures: Mapping[str, object] | None = None,
    clusters: Values | None = None,
    count: int | None = None,
) -> Section:
    """Maps of the latent vectors, name -> (N, 2), by label and by cluster, and figures beside PCA's.

    `count` is how many latents there are where not all are drawn.
    """
    pictures = [Picture(map_figure(points, labels), name) for name, points in maps.items()]
    if clusters is not None:
        pictures += [
            Picture(map_figure(points, clusters, "cluster"), f"{name}, clusters") for name, points in maps.items()
        ]
    points = max((len(points) for points in maps.values()), default=0)
    drawn = (
        f"{points:,} of {_count(count, 'latent vector')}"
        if count and points < count
        else _count(points, "latent vector")
    )
    text = f"{drawn} on a plane. Near points have like latent vectors; axes have no units."
    text += "" if labels is None else " A label stands at the median of its points."
    return Section("Embedding", text, pictures, _figures_table(figures or {}, pca_figures))


def units_section(z: Values, labels: Values | None = None) -> Section:
    """How active each latent unit of z (N, D) is, by class; units in the order of the class that moves them most."""
    groups = classes(labels, len(z), MOST_CLASSES)
    means = np.stack([moments(z[groups.index == k])[0] for k in range(len(groups.names))])
    order = np.lexsort((-means.max(axis=0), means.argmax(axis=0)))
    figure = heat_map(means[:, order], [name or "all" for name in groups.names], "unit")
    note = "Mean value of each unit; units sorted by the class in which they are highest."
    text = f"{_count(z.shape[1], 'unit')}, mean value {number(float(moments(z.reshape(-1, 1))[0][0]))}."
    return Section("Latent units", text, [Picture(figure, "Units by class", note)])


def picks_section(
    count: int,
    picks: Sequence[Pick],
    thresholds: Sequence[float],
    figures: Mapping[str, object],
    errors: Mapping[str, Values] | None = None,
) -> Section:
    """What was found in so many rows, and where the arrivals are known what it is worth.

    figures are `pick_figures`'; errors are seconds by kind, of the picks nearest to the arrivals.
    """
    least = ", ".join(f"{kind} {value:g}" for kind, value in zip(KINDS, thresholds, strict=True))
    found = [sum(pick.kind == kind for pick in picks) for kind in KINDS]
    text = (
        f"{_count(count, 'row')}: {_count(found[0], 'detection')}, {_count(found[1], 'pick')} of P, {found[2]:,} of S."
    )
    text = text if picks else f"Nothing was found in {_count(count, 'row')}."
    text += f" Least probabilities: {least}."
    if errors is None:
        return Section("Picks", text)
    text += f" A pick is right where it is at most {TOLERANCE:g} s off, and a detection where it touches P to S."
    rows = []
    for kind in KINDS:
        names = ("precision", "recall", "f1", "mean_error_seconds", "mean_absolute_error_seconds")
        rows.append([kind, *(figures.get(f"{kind.lower()}_{name}") for name in names)])
    header = ["", "precision", "recall", "F1", "mean error (s)", "mean absolute error (s)"]
    pictures = []
    if any(len(off) for off in errors.values()):
        note = (
            f"Of each arrival the nearest pick of its row. Between the dashed lines, {TOLERANCE:g} s off, it is right."
        )
        pictures.append(Picture(error_histograms(list(errors.items()), TOLERANCE), "Errors of picks", note))
    return Section("Picks", text, pictures, [Table(header, rows)])


def stretches_section(stretches: Sequence[Found], sampling_rate: float) -> Section:
    """Stretches of rows with the probabilities over time and what was found in them."""
    pictures = [Picture(picks_figure(found, sampling_rate), found.title) for found in stretches]
    text = (
        "Each channel on its own scale. Bands about the probabilities: one standard deviation over the network's draws."
    )
    text += " Upright lines: picks of P and S. Shaded: detections. Dashed: arrivals that are known."
    return Section("Examples", text, pictures)


def _figures_table(figures: Mapping[str, object], pca_figures: Mapping[str, object] | None) -> list[Table]:
    if not figures:
        return []
    words = {"auroc": "AUROC", "f1": "F1", "best_f1": "best F1", "snr_gain_db": "SNR gain (dB)"}
    beside = [] if pca_figures is None else ["PCA"]
    rows = [
        [words.get(name, name.replace("_", " ")), figure, *([] if pca_figures is None else [pca_figures.get(name)])]
        for name, figure in figures.items()
    ]
    return [Table(["", "model", *beside], rows)]


def _float(value: object) -> float:
    return math.nan if value is None or value == "" else float(value)  # type: ignore[arg-type]


def _decibels(ratio: float) -> str:
    return "∞" if math.isinf(ratio) else f"{ratio:.1f}".replace("-", "−")


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
