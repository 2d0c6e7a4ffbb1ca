"""Rows of a record <-> samples of a model: windows of long rows, rows too short, rows at another sampling rate.

Windows overlap by half and are put back together by weights that vanish at their edges, so that no seam shows.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from aekit.batches import read_samples
from aekit.records import Array, Record

FINEST = 1000  # the largest denominator of a ratio of sampling rates
Place = tuple[slice, ...]  # of a window in a sample: channels, and along T, or H and W
Spot = tuple[int | slice, ...]  # of a window in a chunk: row and place
Floats = NDArray[np.floating[Any]]


def window_starts(length: int, window: int, hop: int) -> list[int]:
    """Starts that cover 0..length; the last window ends at the end."""
    starts = list(range(0, max(length - window, 0) + 1, hop))
    if starts[-1] + window < length:
        starts.append(length - window)
    return starts


def tiles(size: tuple[int, ...], window: tuple[int, ...], overlap: bool) -> list[tuple[slice, ...]]:
    """Places of windows over a record's or picture's size (T,) or (H, W); with `overlap` each half over the next."""
    axes = [window_starts(s, w, max(1, w // 2) if overlap else w) for s, w in zip(size, window, strict=True)]
    return [tuple(slice(s, s + w) for s, w in zip(starts, window, strict=True)) for starts in product(*axes)]


def overlap_weight(window: tuple[int, ...]) -> NDArray[np.float32]:
    """Weights of a window's values in the overlap, positive everywhere: a squared sine along each axis."""
    weight = np.ones(window, dtype=np.float32)
    for axis, w in enumerate(window):
        curve = np.sin(np.pi * (np.arange(w) + 0.5) / w) ** 2
        weight *= curve.reshape([-1 if a == axis else 1 for a in range(len(window))]).astype(np.float32)
    return weight


def cut(sample: Array, places: list[tuple[slice, ...]]) -> Array:
    """One long sample (C, ...) -> windows (K, C, ...)."""
    return np.stack([sample[(slice(None), *place)] for place in places])


def fits(sample_shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether samples of one shape can be cut into windows of the wanted one: same channels, no side shorter."""
    return (
        len(sample_shape) == len(wanted)
        and sample_shape[0] == wanted[0]
        and all(have >= want for have, want in zip(sample_shape[1:], wanted[1:], strict=True))
    )


def channels_alone(record: Record) -> Record:
    """A record whose rows are the channels of the record's, one after the other."""
    channels, *size = record.sample_shape

    def read(start: int, stop: int) -> Array:
        first = start // channels
        samples = read_samples(record, first, -(-stop // channels))
        return samples.reshape(-1, 1, *size)[start - first * channels : stop - first * channels]

    def repeated(values: Array | None) -> Any:
        return None if values is None else np.repeat(values, channels, axis=0)

    target = None if record.target is None else channels_alone(record.target)
    return replace(
        record,
        shape=(len(record) * channels, 1, *size),
        read=read,
        channel_axis=1,
        block=record.block * channels,
        labels=repeated(record.labels),
        target=target,
        picks=repeated(record.picks),
        recorded=None,
        by_point=False,
        point_labels=None,
    )


def windows_of(record: Record, window: tuple[int, ...], places: list[Place] | None = None) -> Record:
    """A record of long rows as a record of windows (C, ...), at these places of each, else side by side."""
    if record.sample_shape == window:
        return record
    places = places or tiles(record.sample_shape[1:], window[1:], overlap=False)
    each = len(places)
    last: dict[int, Array] = {}  # the row that windows were last cut from alone, for the next ones

    def samples_of(first: int, stop: int) -> Array:
        if stop > first + 1:
            return read_samples(record, first, stop)
        if first not in last:
            last.clear()
            last[first] = read_samples(record, first, stop).copy()
        return last[first]

    def read(start: int, stop: int) -> Array:
        first = start // each
        windows = np.empty((stop - start, *window), record.dtype)
        if start == stop:
            return windows
        for row, sample in enumerate(samples_of(first, -(-stop // each)), first):
            begin, end = max(start, row * each), min(stop, (row + 1) * each)
            windows[begin - start : end - start] = cut(sample, places[begin - row * each : end - row * each])
        return windows

    labels = None if record.labels is None else np.repeat(record.labels, len(places))
    target = None if record.target is None else windows_of(record.target, window, places)
    picks = None
    if record.picks is not None:
        starts = np.array([place[0].start for place in places])[:, None]
        moved = record.picks[:, None] - starts  # (rows, windows, 2)
        picks = np.where((record.picks[:, None] >= 0) & (moved >= 0) & (moved < window[1]), moved, -1).reshape(-1, 2)
    return replace(
        record,
        shape=(len(record) * each, *window),
        read=read,
        channel_axis=1,
        block=record.block * each,
        labels=labels,
        target=target,
        picks=picks,
        recorded=None,
        by_point=False,
        point_labels=None,
    )


# --- rows as a model sees them ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Windows:
    """Where a model's samples lie in rows (B, C, ...) of a record, and how what it makes of them lies on the rows."""

    places: list[Place]
    size: tuple[int, ...]  # of a row that windows are cut from, (T,) or (H, W)
    points: int  # along its last axis, without what fills a short row
    rate: Fraction  # the model's sampling rate over the record's

    @classmethod
    def over(
        cls, sample_shape: tuple[int, ...], window: tuple[int, ...], each_channel: bool, overlap: bool, rate: Fraction
    ) -> "Windows":
        """Windows (C, ...) over rows of `sample_shape`, of each channel alone if asked for."""
        channels, *size = sample_shape
        if rate != 1:
            size[-1] = -(-size[-1] * rate.numerator // rate.denominator)  # as scipy rounds it, up
        points = size[-1]
        size[-1] = max(points, window[-1])
        parts = [slice(i, i + 1) for i in range(channels)] if each_channel else [slice(None)]
        places = [(part, *place) for part in parts for place in tiles(tuple(size), window[1:], overlap)]
        return cls(places, tuple(size), points, rate)

    def row_bytes(self, channels: int) -> int:
        """Of a row that windows are cut from, in float32."""
        return 4 * channels * math.prod(self.size)

    def samples(self, rows: Array) -> Array:
        """Rows as the windows are cut from them: at the model's rate, short ones mirrored at their end."""
        if self.rate != 1:
            rows = _resampled(rows, self.rate)
        missing = self.size[-1] - self.points
        return np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, missing)], "reflect") if missing else rows

    def rows(self, samples: Array, points: int) -> Array:
        """The way back, to rows of so many points."""
        samples = samples[..., : self.points]
        return samples if self.rate == 1 else _resampled(samples, 1 / self.rate)[..., :points]

    def curves(self, samples: Floats, points: int) -> Floats:
        """The way back for curves without a spectrum, probabilities say: on straight lines, as no filter rings."""
        samples = samples[..., : self.points]
        if self.rate == 1:
            return samples
        at = np.minimum(np.arange(points) * float(self.rate), self.points - 1)
        first = np.minimum(at.astype(np.int64), max(self.points - 2, 0))
        low, high = samples[..., first], samples[..., np.minimum(first + 1, self.points - 1)]
        return np.asarray(low + (high - low) * (at - first).astype(samples.dtype))

    def overlaid(
        self, found: Iterable[tuple[list[Spot], list[Floats]]], shape: tuple[int, ...], dtype: DTypeLike = np.float32
    ) -> list[Floats]:
        """What was found in windows, laid over each other: arrays (rows, C, *size) of a floating type."""
        weight = overlap_weight(tuple(along.stop - along.start for along in self.places[0][1:]))
        total = np.zeros(self.size, np.float32)
        for channels, *place in self.places:
            if channels == self.places[0][0]:
                total[tuple(place)] += weight
        laid: list[Floats] = []
        for spots, parts in found:
            laid = laid or [np.zeros(shape, dtype) for _ in parts]
            for whole, part in zip(laid, parts, strict=True):
                for spot, values in zip(spots, part, strict=True):
                    whole[spot] += values * weight
        for whole in laid:
            whole /= total
        return laid


def ratio(wanted: float | None, given: float | None) -> Fraction:
    """Of two sampling rates in Hz, 1 where one is not told or both are nearly the same."""
    if wanted is None or given is None or np.isclose(wanted, given, rtol=1e-3):
        return Fraction(1)
    if wanted < given:
        return 1 / ratio(given, wanted)
    return Fraction(wanted / given).limit_denominator(FINEST)


def float_for(rows: Array) -> np.dtype[np.floating]:
    """float64 for what float32 cannot hold; int32 of 24 bits, as recorders have, may be off by one count in float32."""
    if rows.dtype.kind in "iu" and rows.dtype.itemsize == 4 and max(-int(rows.min()), int(rows.max())) < 1 << 24:
        return np.dtype(np.float32)
    return np.result_type(rows.dtype, np.float32)


def _resampled(rows: Array, rate: Fraction) -> Array:
    """Rows (..., T) at `rate` times their sampling rate, without aliases; float32, or float64 where they are wide."""
    from scipy.signal import resample_poly  # takes a second

    wide = rows.astype(float_for(rows), copy=False)
    mean = wide.mean(axis=-1, keepdims=True)  # the filter's phases differ a little in what they make of an offset
    found: Array = resample_poly(wide - mean, rate.numerator, rate.denominator, axis=-1, padtype="line") + mean
    return found
