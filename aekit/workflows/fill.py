"""denoise --mask: unknown values of a file filled in, all others as they are, bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aekit import filling, formats, inference
from aekit.batches import check_finite, read_all
from aekit.errors import AekitError
from aekit.files import together, whole
from aekit.records import Array, Record, times
from aekit.trained import TrainedModel
from aekit.workflows import common
from aekit.workflows.common import Clock, Options, Talk

NAN = "nan"  # the mask that says: where the file holds NaN
SHOWN = 12  # rows in the report

Unknown = Callable[[int, Array], NDArray[np.bool_]]


def fill(
    data: str,
    mask: str,
    out: str | None = None,
    clean: str | None = None,
    options: Options | None = None,
    talk: Talk | None = None,
) -> dict[str, Any]:
    """Writes the rows of `data` to `out` (<name>.filled.<ending> by default), filled in where `mask` is not zero.

    The mask has the shape of the data or of one row, or is "nan": where the data is NaN. With the clean data also the
    squared error of the filled values alone, beside those of their row's mean and of PCA.
    """
    options, talk, clock = options or Options(), talk or Talk(), Clock()
    if formats.files_in(data).files:
        raise AekitError(f"{data}: is a folder of files; --mask is of one file, so name one of them")
    record = common.open_input(data)
    path = Path(out) if out is not None else common.default_out(data, "filled", None, ".npy")
    common.check_outputs(options, data, path)
    unknown = _unknown(mask, record)
    truth = record.target if clean is None else formats.open_record(clean)
    if truth is not None and truth.shape != record.shape:
        raise AekitError(
            f"{truth.source}: the clean data has shape {times(truth.shape)}, the data {times(record.shape)}; give one "
            "clean row for each"
        )
    trained, run = common.find_model(data, record, "fill", options, talk)
    errors = _Errors(trained, record)
    shown: list[tuple[Array, Array, NDArray[np.bool_]]] = []
    seen, count = inference.Seen(), 0
    with together():
        created = formats.create(path, record, record.shape, record.dtype, options.force)
        with created as writer, talk.track("rows", len(record)) as bar:
            for part in filling.fill(trained, record, unknown, run, options.seed, seen, bar, truth is not None):
                stored = part.stored.copy()
                made = formats.cast(part.filled, record.dtype, record.source, part.start)
                stored[part.unknown] = made[part.unknown]
                writer.write(stored)
                count += int(part.unknown.sum())
                if truth is not None:
                    clean_rows = np.array(truth.read(part.start, part.start + len(stored)))
                    check_finite(np.where(part.unknown, clean_rows, 0), part.start, truth)
                    errors.add(part, stored, clean_rows)
                if sum(len(rows) for rows, *_ in shown) < SHOWN and options.report is not None:
                    shown.append((part.stored[:SHOWN], stored[:SHOWN], part.unknown[:SHOWN]))
        common.warn(seen, trained, talk)
        figures: dict[str, Any] = {"count": len(record), "out": str(path), "model": trained.source, "filled": count}
        figures |= errors.figures()
        if options.report is not None:
            figures["report"] = options.report
            _report(trained, record, truth, shown, figures, options)
    if not count:
        talk.say(f"warning: {mask}: no value is marked as unknown, so the output is the input")
    return {**figures, "seconds": clock.seconds}


def _unknown(mask: str, record: Record) -> Unknown:
    """Which values of rows from a start on are unknown; raises AekitError for a mask of another shape."""
    if mask == NAN:
        return lambda start, rows: np.isnan(rows) if rows.dtype.kind == "f" else np.zeros(rows.shape, np.bool_)
    given = formats.open_record(mask)
    item = record.shape[1:]
    if given.shape == record.shape and len(record) > 1:

        def of_rows(start: int, rows: Array) -> NDArray[np.bool_]:
            found = given.read(start, start + len(rows))
            check_finite(found, start, given)
            return np.asarray(found != 0)

        return of_rows
    if given.shape not in (item, (1, *item)):
        raise AekitError(
            f"{given.source}: the mask has shape {times(given.shape)}, the data {times(record.shape)}; give a mask of "
            f"that shape, or one of {times(item)} for all rows"
        )
    one = np.array(read_all(given)).reshape(item) != 0 if given.channel_axis is None else given.read(0, 1)[0] != 0
    return lambda start, rows: np.broadcast_to(one, rows.shape)


class _Errors:
    """Squared errors of filled values, in the units of training errors."""

    def __init__(self, trained: TrainedModel, record: Record):
        self.trained, self.record = trained, record
        self.sums = {"filled_error": 0.0, "mean_filled_error": 0.0, "pca_filled_error": 0.0}
        self.count = 0

    def add(self, part: filling.Filled, stored: Array, clean: Array) -> None:
        samples = torch.from_numpy(np.ascontiguousarray(self.record.to_samples(clean)).astype(np.float64))
        _, scale = self.trained.normalisation.constants(samples)
        unknown = self.record.to_samples(part.unknown)
        known = np.where(unknown, np.nan, self.record.to_samples(part.stored).astype(np.float64))
        all_unknown = np.isnan(known).all(axis=tuple(range(2, known.ndim)), keepdims=True)
        mean = np.nanmean(np.where(all_unknown, 0, known), axis=tuple(range(2, known.ndim)), keepdims=True)
        ways = {"filled_error": stored, "pca_filled_error": part.pca}
        found = {name: self.record.to_samples(rows) for name, rows in ways.items() if rows is not None}
        found["mean_filled_error"] = np.broadcast_to(mean, known.shape)
        for name, rows in found.items():
            self.sums[name] += float(np.square((rows - samples.numpy()) / scale.numpy())[unknown].sum())
        self.count += int(unknown.sum())
        if part.pca is None:
            self.sums.pop("pca_filled_error", None)

    def figures(self) -> dict[str, float]:
        return {name: total / self.count for name, total in self.sums.items()} if self.count else {}


def _report(
    trained: TrainedModel,
    record: Record,
    truth: Record | None,
    shown: list[tuple[Array, Array, NDArray[np.bool_]]],
    figures: dict[str, Any],
    options: Options,
) -> None:
    from aekit import reports  # matplotlib takes a second

    given, filled, unknown = (record.to_samples(np.concatenate(parts)[:SHOWN]) for parts in zip(*shown, strict=True))
    clean = None if truth is None else truth.to_samples(np.array(truth.read(0, len(filled))))
    section = reports.filling_section(given, filled, unknown != 0, record.kind, clean, record.sampling_rate)
    facts = {"recipe": trained.recipe, **figures}
    with whole(Path(str(options.report)), options.force) as temporary:
        temporary.write_text(reports.page(f"{record.source}, filled in", facts, [section]))
