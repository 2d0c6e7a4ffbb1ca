"""What denoising gained where the clean data is known: figures out of sums, for rows of any number and length."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aekit.records import Array, Record

BLOCK = 1 << 18  # values that are looked at together
SEGMENT = 1 << 13  # most points of a spectrum: 12 octaves
FEWEST = 8  # points of a row that has a spectrum
NEAR = 0.02  # of the row's length and of the peak's height, in which a pulse counts as found: the published bounds

Floats = NDArray[np.float64]


class Gain:
    """Sums for figures: per row, averaged over the rows that hold a signal; ratios of powers are in dB."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.series = record.kind == "series"
        points = record.sample_shape[-1]
        self.segment = min(SEGMENT, 1 << (points.bit_length() - 1)) if self.series and points >= FEWEST else 0
        self.ratios: list[Floats] = []  # (rows, 2), before and after
        self.likeness: list[Floats] = []  # (rows, 2), correlation with the truth, and explained variance
        self.found: list[NDArray[np.bool_]] = []  # (rows, 2), whether the peak's place and its height are right
        self.noisy = self.cleaned = self.values = self.highest = self.lowest = 0.0
        self.power = np.zeros((3, self.segment // 2))  # of noisy, cleaned and clean
        self.segments = 0

    def add(self, noisy: Array, cleaned: Array, truth: Array) -> None:
        """Rows as stored (B, *item)."""
        parts = [self._samples(rows) for rows in (noisy, cleaned, truth)]
        count, channels, points = parts[0].shape
        rows = _Rows(count, channels, points)
        wide = min(points, max(1, self.segment, BLOCK // channels))
        high = max(1, BLOCK // (channels * wide))
        for first in range(0, points, wide):
            for top in range(0, count, high):
                some = slice(top, top + high)
                block = [part[some, :, first : first + wide].astype(np.float64) for part in parts]
                rows.add(some, first, block[0], block[1], block[2])
                self._add_spectra(block)
                self.highest = max(self.highest, float(block[2].max()))
                self.lowest = min(self.lowest, float(block[2].min()))
        self._close(rows)

    def _samples(self, rows: Array) -> Array:
        return self.record.to_samples(rows) if self.series else rows.reshape(len(rows), 1, -1)

    def _add_spectra(self, block: list[Floats]) -> None:
        if not self.segment or block[0].shape[-1] < self.segment:
            return
        for i, part in enumerate(block):
            power, count = _power(part, self.segment)
            self.power[i] += power
        self.segments += count

    def _close(self, rows: "_Rows") -> None:
        self.noisy += float(rows.error[:, 0].sum())
        self.cleaned += float(rows.error[:, 1].sum())
        values = rows.points * rows.height.shape[2]
        self.values += values * len(rows.error)
        power = rows.product[:, 1, 1] + values * rows.mean[:, 1] ** 2  # of the truth
        signal = power > 0
        holds = signal & (rows.error > 0).all(axis=1)
        self.ratios.append(10 * np.log10(power[holds, None] / rows.error[holds]))
        self.likeness.append(_likeness(rows.product[holds & (rows.product[:, 1, 1] > 0)]))
        if self.series:
            self.found.append(_found(rows.height[signal], rows.place[signal], rows.points))

    def figures(self) -> dict[str, Any]:
        """Signal-to-noise ratio and its gain over rows with a signal, peak ratio over all; zeros would give 0 dB.

        Of series also the shares of rows with a signal whose highest point is where the truth's is, and as high, and
        mean spectra.
        """
        if not self.values:
            return {}
        figures: dict[str, Any] = {}
        peak = self.highest - self.lowest
        if self.cleaned and self.noisy and peak:
            ratios = np.concatenate(self.ratios)
            if len(ratios):
                before, after = ratios.mean(axis=0)
                figures = {"snr_gain_db": after - before, "snr_before_db": before, "snr_after_db": after}
            likeness = np.concatenate(self.likeness)
            if len(likeness):
                correlation, explained = likeness.mean(axis=0)
                figures |= {"correlation": correlation, "explained_variance": explained}
            for name, error in (("psnr_before_db", self.noisy), ("psnr_after_db", self.cleaned)):
                figures[name] = 10 * np.log10(peak**2 * self.values / error)
        found = np.concatenate([np.zeros((0, 2), np.bool_), *self.found])
        if len(found):
            figures["peak_located"], figures["peak_amplitude"] = found.mean(axis=0)
        figures = {name: round(float(value), 3) for name, value in figures.items()}
        return figures | ({"spectra": self._spectra()} if self.segments else {})

    def _spectra(self) -> dict[str, list[float | None]]:
        """Mean power density in octaves up to the Nyquist frequency, in dB of the data's unit squared per Hz."""
        rate = self.record.sampling_rate
        first = 2 ** np.arange(self.segment.bit_length() - 2)  # the octaves' first bins, and how many bins they have
        density = np.add.reduceat(self.power, first, axis=1) / first
        density *= 2 / ((rate or 1.0) * (_window(self.segment) ** 2).sum() * self.segments)
        unit = "cycles_per_point" if rate is None else "hertz"
        centres = np.sqrt(2) * first * (rate or 1.0) / self.segment
        spectra: dict[str, list[float | None]] = {unit: [float(f"{centre:.4g}") for centre in centres]}
        for name, octaves in zip(("noisy_db", "cleaned_db", "clean_db"), density, strict=True):
            spectra[name] = [round(10 * float(np.log10(power)), 2) if power > 0 else None for power in octaves]
        return spectra


class _Rows:
    """Sums over the points of some rows: one value or matrix a row."""

    def __init__(self, count: int, channels: int, points: int) -> None:
        self.points = points
        self.error = np.zeros((count, 2))  # sums of squares, noisy and cleaned
        self.mean = np.zeros((count, 2))  # of cleaned and truth
        self.product = np.zeros((count, 2, 2))  # sums of products of their deviations from the means
        self.height = np.zeros((count, 2, channels))  # highest absolute value of each channel
        self.place = np.full((count, 2, channels), -np.inf)  # its point; nowhere in zeros

    def add(self, some: slice, first: int, noisy: Floats, cleaned: Floats, truth: Floats) -> None:
        """The points from `first` on of some of the rows, each (rows, C, points)."""
        self.error[some] += np.stack([((x - truth) ** 2).sum(axis=(1, 2)) for x in (noisy, cleaned)], axis=1)
        both = np.stack([cleaned, truth], axis=1)  # (rows, 2, C, points)
        heights = np.abs(both)
        place = heights.argmax(axis=3)
        height = np.take_along_axis(heights, place[..., None], axis=3)[..., 0]
        higher = height > self.height[some]
        self.place[some] = np.where(higher, first + place, self.place[some])
        self.height[some] = np.where(higher, height, self.height[some])
        flat = both.reshape(len(both), 2, -1)
        mean = flat.mean(axis=2)
        flat -= mean[:, :, None]
        before, now = first * truth.shape[1], truth[0].size
        shift = mean - self.mean[some]
        weight = before * now / (before + now)
        self.product[some] += flat @ flat.transpose(0, 2, 1) + weight * shift[:, :, None] * shift[:, None]
        self.mean[some] += shift * now / (before + now)


def _likeness(product: Floats) -> Floats:
    """Of each row whose truth is not constant: the correlation with it, 0 where the cleaned row is constant, and
    1 - var(difference) / var(truth)."""
    a, ab, b = product[:, 0, 0], product[:, 0, 1], product[:, 1, 1]
    sizes = np.sqrt(a * b)
    correlation = np.divide(ab, sizes, out=np.zeros(len(a)), where=sizes > 0)
    return np.stack([correlation, 1 - (a - 2 * ab + b) / b], axis=1)


def _found(height: Floats, place: Floats, points: int) -> NDArray[np.bool_]:
    """Whether the cleaned row's highest absolute value lies where the truth's is, and is as high, in its channel."""
    channel = height[:, 1].argmax(axis=1)[:, None, None]
    (cleaned, truth), (at, right) = (np.take_along_axis(x, channel, axis=2)[..., 0].T for x in (height, place))
    return np.stack([np.abs(at - right) <= max(1, points * NEAR), np.abs(cleaned - truth) <= NEAR * truth], axis=1)


def _window(points: int) -> Floats:
    return np.sin(np.pi * np.arange(points) / points) ** 2  # Hann's


def _power(x: Floats, segment: int) -> tuple[Floats, int]:
    """Welch's sum over segments that overlap by at least half: power (segment / 2,) of x (..., T), and their number."""
    spare = x.shape[-1] - segment
    starts = np.linspace(0, spare, 1 + -(-2 * spare // segment)).astype(np.int64)
    cut = np.lib.stride_tricks.sliding_window_view(x, segment, axis=-1)[..., starts, :]
    cut -= cut.mean(axis=-1, keepdims=True)
    cut *= _window(segment)
    bins = np.fft.rfft(cut)[..., :-1].reshape(-1, segment // 2)
    return np.asarray((bins.real**2 + bins.imag**2).sum(axis=0)), len(bins)
