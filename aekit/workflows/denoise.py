"""denoise: a file in, a file of the same format, shape, type and units out, without the noise."""

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aekit import formats, inference
from aekit.batches import check_finite
from aekit.errors import AekitError
from aekit.files import together, whole
from aekit.records import Array, Record, times
from aekit.trained import TrainedModel
from aekit.workflows import common
from aekit.workflows.common import Clock, Options, Talk
from aekit.workflows.folders import over_folder

SHOWN = 6  # rows in the report
NOTHING_DB = 0.5  # a signal-to-noise ratio that says that nothing was recovered


def denoise(
    data: str,
    out: str | None = None,
    clean: str | None = None,
    noise_out: str | None = None,
    options: Options | None = None,
    talk: Talk | None = None,
) -> dict[str, Any]:
    """Writes the denoised rows of `data` to `out` (<name>.denoised.<ending> by default); returns the figures.

    A folder of files gives a folder of files, each denoised by itself.
    `noise_out` takes what was taken away, as floats: the input is the sum of both outputs. Where the clean data is
    known (`clean`, or a data set's own), also signal-to-noise ratios, correlation and explained variance.
    """
    options, talk, clock = options or Options(), talk or Talk(), Clock()
    files = formats.files_in(Path(data)) if Path(data).is_dir() else []
    if files:
        return _denoise_folder(Path(data), files, out, clean, noise_out, options, talk)
    record = common.open_input(data)
    path = Path(out) if out is not None else common.default_out(data, "denoised", None, ".npy")
    noise = None if noise_out is None else Path(noise_out)
    common.check_outputs(options, data, path, noise)
    truth = _truth(clean, record)
    trained, run = common.find_model(data, record, "denoise", options, talk)
    with together():
        figures = _denoise(trained, run, record, truth, path, noise, options, talk)
    if figures.get("snr_after_db", math.inf) < NOTHING_DB:
        talk.say(
            "warning: the cleaned rows are hardly closer to the clean ones than zeros would be (0 dB): train longer"
        )
    return {**figures, "seconds": clock.seconds}


def _denoise_folder(
    folder: Path,
    files: list[Path],
    out: str | None,
    clean: str | None,
    noise_out: str | None,
    options: Options,
    talk: Talk,
) -> dict[str, Any]:
    if clean is not None:
        raise AekitError(f"{folder}: is a folder of files; --clean is told for one file, so leave it off or name one")
    place = Path(out) if out is not None else Path(f"{folder.resolve().name}.denoised")
    rest = None if noise_out is None else Path(noise_out)
    if rest is not None:
        for file in files:
            (rest / file.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)

    def one(file: Path, cleaned: Path, options: Options, talk: Talk) -> dict[str, Any]:
        noise = None if rest is None else str(rest / file.relative_to(folder))
        return denoise(str(file), str(cleaned), None, noise, options, talk)

    figures = over_folder(one, folder, files, place, None, options, talk)
    return figures if rest is None else {**figures, "noise_out": str(rest)}


def _denoise(
    trained: TrainedModel,
    run: inference.Run,
    record: Record,
    truth: Record | None,
    path: Path,
    noise: Path | None,
    options: Options,
    talk: Talk,
) -> dict[str, Any]:
    wide = np.result_type(record.dtype, np.float32)
    seen, gain = inference.Seen(), _Gain()
    done = 0
    with (
        formats.create(path, record, record.shape, record.dtype, options.force) as writer,
        nullcontext() if noise is None else formats.create(noise, record, record.shape, wide, options.force) as rest,
        talk.track("rows", len(record)) as bar,
    ):
        for cleaned in inference.denoise(trained, record, run, seen, bar):
            stored, stop = writer.write(cleaned), done + len(cleaned)
            if rest is not None:
                rest.write(np.subtract(record.read(done, stop), stored, dtype=wide))
            if truth is not None:
                clean_rows = truth.read(done, stop)
                check_finite(clean_rows, done, truth)
                gain.add(record.read(done, stop), stored, clean_rows)
            done = stop
    common.warn(seen, trained, talk)
    figures: dict[str, Any] = {"count": done, "out": str(path), "model": trained.source, **gain.figures()}
    if noise is not None:
        figures["noise_out"] = str(noise)
    if options.report is not None:
        figures["report"] = _report(trained, record, truth, run, options, figures)
    return figures


def _truth(clean: str | None, record: Record) -> Record | None:
    truth = record.target if clean is None else formats.open_record(clean)
    if truth is not None and truth.shape != record.shape:
        raise AekitError(
            f"{truth.source}: the clean data has shape {times(truth.shape)}, the noisy data "
            f"{times(record.shape)}; give one clean row for each noisy one"
        )
    return truth


class _Gain:
    """Sums for figures: per row, averaged over the rows that hold a signal; ratios of powers are in dB."""

    def __init__(self) -> None:
        self.ratios: list[NDArray[np.float64]] = []  # (rows, 2), before and after
        self.likeness: list[NDArray[np.float64]] = []  # (rows, 2), correlation with the truth, and explained variance
        self.noisy = self.cleaned = self.values = self.peak = 0.0

    def add(self, noisy: Array, cleaned: Array, truth: Array) -> None:
        flat = [a.reshape(len(a), -1).astype(np.float64) for a in (noisy, cleaned, truth)]
        before, after = ((flat[i] - flat[2]) ** 2 for i in (0, 1))
        self.noisy += float(before.sum())
        self.cleaned += float(after.sum())
        self.values += flat[2].size
        self.peak = max(self.peak, float(flat[2].max() - min(0.0, flat[2].min())))
        holds = (flat[2].any(axis=1)) & before.any(axis=1) & after.any(axis=1)
        power = (flat[2][holds] ** 2).sum(axis=1)
        self.ratios.append(10 * np.log10(power[:, None] / np.stack([e[holds].sum(axis=1) for e in (before, after)], 1)))
        self.likeness.append(_likeness(flat[1][holds], flat[2][holds]))

    def figures(self) -> dict[str, float]:
        """Signal-to-noise ratio and its gain over rows with a signal, peak ratio over all; zeros would give 0 dB."""
        if not self.ratios or not self.cleaned or not self.noisy or not self.peak:
            return {}
        ratios = np.concatenate(self.ratios)
        figures = {}
        if len(ratios):
            before, after = ratios.mean(axis=0)
            figures = {"snr_gain_db": after - before, "snr_before_db": before, "snr_after_db": after}
            correlation, explained = np.concatenate(self.likeness).mean(axis=0)
            figures |= {"correlation": correlation, "explained_variance": explained}
        for name, error in (("psnr_before_db", self.noisy), ("psnr_after_db", self.cleaned)):
            figures[name] = 10 * np.log10(self.peak**2 * self.values / error)
        return {name: round(float(value), 3) for name, value in figures.items()}


def _likeness(cleaned: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each row (rows, N): the correlation of both, 0 where one is constant, and 1 - var(difference) / var(truth)."""
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (cleaned, truth))
    power = np.maximum((b * b).sum(axis=1), np.finfo(np.float64).tiny)
    sizes = np.sqrt((a * a).sum(axis=1) * power)
    correlation = np.divide((a * b).sum(axis=1), sizes, out=np.zeros(len(a)), where=sizes > 0)
    return np.stack([correlation, 1 - ((a - b) ** 2).sum(axis=1) / power], axis=1)


def _report(
    trained: TrainedModel,
    record: Record,
    truth: Record | None,
    run: inference.Run,
    options: Options,
    figures: dict[str, Any],
) -> str:
    from aekit import reports  # matplotlib takes a second

    count = min(SHOWN, len(record))
    stored = np.array(record.read(0, count))
    small = common.in_memory(record, stored)
    parts = inference.denoise(trained, small, run, inference.Seen(), lambda done: None)
    cleaned = formats.cast(np.concatenate(list(parts)), record.dtype, record.source)
    section = reports.denoising_section(
        record.to_samples(stored),
        record.to_samples(cleaned),
        record.kind,
        None if truth is None else truth.to_samples(np.array(truth.read(0, count))),
        record.sampling_rate,
    )
    path = Path(str(options.report))
    with whole(path, options.force) as temporary:
        temporary.write_text(
            reports.page(f"{record.source}, denoised", {"recipe": trained.recipe, **figures}, [section])
        )
    return str(path)
