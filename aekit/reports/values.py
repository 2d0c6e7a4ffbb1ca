"""What a report computes before it draws: groups, ranges, moments, spectra. Gaps (NaN, infinity) are left out."""

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aekit.records import Kind

Values = NDArray[Any]

COLUMNS = 240  # of a spectrogram
SEGMENTS = 2048  # of a spectrum or spectrogram that are looked at together


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
    labels = labels.astype(str) if labels.dtype.kind == "O" else labels  # else what cannot be compared is not sorted
    values, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    kept = np.argsort(-counts, kind="stable")[:most].tolist()
    kept.sort(key=lambda place: place if values.dtype.kind in "iufb" else _natural(label_name(values[place])))
    place = np.full(len(values), -1)
    place[kept] = np.arange(len(kept))
    missing = len(values) - len(kept), int(counts.sum() - counts[kept].sum())
    return Classes([label_name(value) for value in values[kept]], place[inverse], counts[kept].tolist(), missing)


def label_name(label: object) -> str:
    """A label as text: 1.0 of a text file is 1, bytes are UTF-8."""
    if isinstance(label, bytes):
        return label.decode("utf-8", "replace")
    if isinstance(label, float | np.floating):
        return "(no label)" if np.isnan(label) else f"{label:g}"
    return str(label)


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Sorts site 2 before site 10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def bounds(values: Values, tail: float = 0.0) -> tuple[float, float]:
    """Lowest and highest finite value, without a share `tail` at either end; apart even for a constant."""
    if tail:
        values = values[:: 1 + values.size // 4_000_000]  # a quantile needs no more
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    if tail:
        inner_low, inner_high = (float(edge) for edge in np.quantile(finite, (tail, 1 - tail)))
        low, high = (inner_low, inner_high) if inner_low < inner_high else (low, high)
    size = max(abs(low), abs(high))
    return (low, high) if high - low > 1e-12 * size else (low - 0.5 * (size or 1), high + 0.5 * (size or 1))


def moments(values: Values) -> tuple[Values, Values]:
    """Mean and standard deviation over rows (N, ...) of what is finite, NaN where nothing is; a block at a time."""
    rows = 1 + 2_000_000 // max(1, math.prod(values.shape[1:]))
    blocks = [values[i : i + rows] for i in range(0, len(values), rows)]
    count, total, square = np.zeros(values.shape[1:], np.int64), np.zeros(values.shape[1:]), np.zeros(values.shape[1:])
    for block in blocks:
        good = np.isfinite(block)
        count += good.sum(axis=0)
        total += np.where(good, block, 0).sum(axis=0, dtype=float)
    mean = total / np.maximum(count, 1)
    for block in blocks:
        square += np.square(np.where(np.isfinite(block), block, mean) - mean).sum(axis=0)
    std = np.sqrt(square / np.maximum(count, 1))
    return np.where(count, mean, np.nan), np.where(count, std, np.nan)


def minus(a: Values, b: Values) -> Values:
    """a - b in float64: unsigned integers must not wrap round, and gaps stay gaps without a word."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.subtract(a, b, dtype=np.float64))


def spread(count: int, most: int) -> NDArray[np.int64]:
    """At most so many places out of `count`, evenly spread from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def spectrum(samples: Values, kind: Kind, sampling_rate: float | None) -> tuple[Values, Values] | None:
    """Frequency and power density, mean over samples (K, C, ...); None where there is too little to take one of."""
    if kind != "image":
        return _series_spectrum(samples, sampling_rate or 1.0)
    filled = np.where(np.isfinite(samples), samples, 0)
    height, width = samples.shape[-2:]
    if min(height, width) < 8:
        return None
    centred = filled - filled.mean(axis=(-2, -1), keepdims=True)
    power = np.square(np.abs(np.fft.fft2(centred))).reshape(-1, height, width).mean(axis=0) / (height * width)
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    rings = np.rint(radius * min(height, width)).astype(int).ravel()
    total, count = np.bincount(rings, power.ravel()), np.bincount(rings)
    inside = np.arange(1, min(height, width) // 2 + 1)
    return inside / min(height, width), total[inside] / count[inside]


def _series_spectrum(samples: Values, rate: float) -> tuple[Values, Values] | None:
    """Welch's, of samples (K, C, T) of any length."""
    points = samples.shape[-1]
    if points < 8:
        return None
    segment = min(points, 512)
    hop, total, count = segment // 2, np.zeros(segment // 2), 0
    for channel in (channel for sample in samples for channel in sample):
        cuts = np.lib.stride_tricks.sliding_window_view(channel, segment)[::hop]
        total += sum(_densities(cuts[i : i + SEGMENTS], rate).sum(axis=0) for i in range(0, len(cuts), SEGMENTS))
        count += len(cuts)
    return np.arange(1, segment // 2 + 1) * rate / segment, total / count


def spectrogram(trace: Values, sampling_rate: float | None) -> Values:
    """Power density (F, columns) of a trace (T,) over frequencies up to Nyquist's, zero left out, and over time.

    Of a long trace each column is the mean of many segments, which overlap by half.
    """
    points = len(trace)
    segment = int(np.clip(2 ** round(math.log2(2 * math.sqrt(points))), 16, 256))
    columns = min(COLUMNS, points - segment + 1)
    each = -(-2 * points // (segment * columns))
    starts = np.linspace(0, points - segment, columns * each).astype(np.int64).reshape(columns, each)
    cuts, step = np.lib.stride_tricks.sliding_window_view(trace, segment), max(1, SEGMENTS // each)
    parts = [_densities(cuts[starts[i : i + step]], sampling_rate or 1.0).mean(axis=1) for i in range(0, columns, step)]
    return np.concatenate(parts).T


def _densities(cuts: Values, rate: float) -> Values:
    """Power densities (..., F) of segments (..., points) without their means, by Hann's window; zero is left out."""
    points = cuts.shape[-1]
    cuts = np.where(np.isfinite(cuts), cuts, 0).astype(float)
    window = np.hanning(points + 1)[:-1]
    bins = np.fft.rfft((cuts - cuts.mean(axis=-1, keepdims=True)) * window)[..., 1:]
    densities = (bins.real**2 + bins.imag**2) * 2 / (rate * np.square(window).sum())
    if points % 2 == 0:
        densities[..., -1] /= 2  # Nyquist's frequency is there but once
    return np.asarray(densities)


def snr_db(clean: Values, x: Values) -> float:
    """Signal over noise in decibels, of (C, ...): infinite without noise, NaN without signal."""
    channels = list(zip(clean, x, strict=True))  # of a long row one by one
    signal = sum(float(np.nansum(np.square(a.astype(float)))) for a, _ in channels)
    noise = sum(float(np.nansum(np.square(minus(b, a)))) for a, b in channels)
    if signal == 0:
        return math.nan
    return 10 * math.log10(signal / noise) if noise > 0 else math.inf
