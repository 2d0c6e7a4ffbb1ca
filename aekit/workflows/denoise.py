"""denoise: a file in, a file of the same format, shape, type and units out, without the noise."""

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from aekit import formats, inference
from aekit.batches import check_finite
from aekit.errors import AekitError
from aekit.files import together, whole
from aekit.records import Array, Record, times
from aekit.trained import TrainedModel
from aekit.workflows import blind, common, shards
from aekit.workflows.common import Clock, Options, Talk
from aekit.workflows.folders import over_folder
from aekit.workflows.gain import Gain
from aekit.workflows.shards import Shard

SHOWN = 6  # rows in the report
MOST_VALUES = 1 << 24  # of these rows, unless a single one holds more
NOTHING_DB = 0.5  # a signal-to-noise ratio that says that nothing was recovered


def denoise(
    data: str,
    out: str | None = None,
    clean: str | None = None,
    noise_out: str | None = None,
    options: Options | None = None,
    talk: Talk | None = None,
    shard: str | None = None,
) -> dict[str, Any]:
    """Writes the denoised rows of `data` to `out` (<name>.denoised.<ending> by default); returns the figures.

    A folder of files gives a folder of files, each denoised by itself.
    `noise_out` takes what was taken away, as floats: the input is the sum of both outputs. Where the clean data is
    known (`clean`, or a data set's own), also signal-to-noise ratios, correlation and explained variance. With `shard`,
    as in 2/8, writes that part of the rows beside `out`, for `merge`.
    """
    options, talk, clock = options or Options(), talk or Talk(), Clock()
    others = {"--clean": clean, "--noise-out": noise_out}
    part = None if shard is None else shards.asked(shard, options, others)
    inside = formats.files_in(data)
    if inside.files:
        return _denoise_folder(data, inside, out, clean, noise_out, options, talk, part)
    if part is not None:
        return {**_denoise_shard(data, out, part, options, talk), "seconds": clock.seconds}
    record = common.open_input(data)
    path = Path(out) if out is not None else common.default_out(data, "denoised", None, ".npy")
    noise = None if noise_out is None else Path(noise_out)
    common.check_outputs(options, data, path, noise)
    truth = _truth(clean, record)
    trained, run, told = blind.find_model(data, record, options, talk)
    with together():
        figures = _denoise(trained, run, record, truth, path, noise, told, options, talk)
    if figures.get("snr_after_db", math.inf) < NOTHING_DB:
        talk.say(
            "warning: the cleaned rows are hardly closer to the clean ones than zeros would be (0 dB): train longer"
        )
    return {**figures, "seconds": clock.seconds}


def _denoise_shard(data: str, out: str | None, shard: Shard, options: Options, talk: Talk) -> dict[str, Any]:
    record = common.open_input(data)
    path = Path(out) if out is not None else common.default_out(data, "denoised", None, ".npy")
    shards.check_places(shard, record, data, path, options)
    formats.ending_for(path, record)
    trained, run, _ = blind.find_model(data, record, options, talk, may_learn=False)
    span = shards.span_of(shard, trained, record, run, as_signal=True)
    job = shards.job_of("denoise", shard, data, record, trained, run, record.shape, record.dtype, options)

    def compute(part: Path) -> None:
        seen, shape = inference.Seen(), (span.rows, *record.shape[1:])
        with (
            formats.create(part, span.record, shape, record.dtype, force=True) as writer,
            talk.track("rows", len(span.record)) as bar,
        ):
            for cleaned in span.own(inference.denoise(trained, span.record, run, seen, bar)):
                writer.write(cleaned)
        common.warn(seen, trained, talk)

    return shards.write_part(job, shard, path, run, compute, options, talk)


def _denoise_folder(
    data: str,
    inside: formats.Files,
    out: str | None,
    clean: str | None,
    noise_out: str | None,
    options: Options,
    talk: Talk,
    shard: Shard | None,
) -> dict[str, Any]:
    if options.model is not None:
        common.check_serves(common.load_model(options.model), "denoise")
    if clean is not None:
        raise AekitError(f"{data}: is a folder of files; --clean is told for one file, so leave it off or name one")
    outs = [Path(out) if out is not None else Path(f"{formats.name_of(data)}.denoised")]
    outs += [] if noise_out is None else [Path(noise_out)]

    def one(file: Path, places: list[Path], options: Options, talk: Talk) -> dict[str, Any]:
        noise = str(places[1]) if noise_out is not None else None
        return denoise(inside.address(file), str(places[0]), None, noise, options, talk)

    def model_for(record: Record) -> str:
        return blind.find_model(data, record, options, talk, may_learn=shard is None)[0].source

    figures = over_folder(one, model_for, data, inside, outs, "", options, talk, shard)
    return figures if noise_out is None else {**figures, "noise_out": noise_out}


def _denoise(
    trained: TrainedModel,
    run: inference.Run,
    record: Record,
    truth: Record | None,
    path: Path,
    noise: Path | None,
    told: dict[str, Any],
    options: Options,
    talk: Talk,
) -> dict[str, Any]:
    wide = np.result_type(record.dtype, np.float32)
    seen, gain = inference.Seen(), Gain(record)
    most = min(SHOWN, max(1, MOST_VALUES // record.values_per_row)) if options.report is not None else 0
    shown: list[Array] = []
    done = 0
    with (
        formats.create(path, record, record.shape, record.dtype, options.force) as writer,
        nullcontext() if noise is None else formats.create(noise, record, record.shape, wide, options.force) as rest,
        talk.track("rows", len(record)) as bar,
    ):
        for cleaned in inference.denoise(trained, record, run, seen, bar):
            stored, stop = writer.write(cleaned), done + len(cleaned)
            if done < most:
                shown.append(stored[: most - done].copy())
            if rest is not None:
                rest.write(np.subtract(record.read(done, stop), stored, dtype=wide))
            if truth is not None:
                clean_rows = truth.read(done, stop)
                check_finite(clean_rows, done, truth)
                gain.add(record.read(done, stop), stored, clean_rows)
            done = stop
    common.warn(seen, trained, talk)
    figures: dict[str, Any] = {"count": done, "out": str(path), "model": trained.source, **told, **gain.figures()}
    if noise is not None:
        figures["noise_out"] = str(noise)
    if options.report is not None:
        figures["report"] = _report(trained, record, truth, np.concatenate(shown), options, figures)
    return figures


def _truth(clean: str | None, record: Record) -> Record | None:
    truth = record.target if clean is None else formats.open_record(clean)
    if truth is not None and truth.shape != record.shape:
        raise AekitError(
            f"{truth.source}: the clean data has shape {times(truth.shape)}, the noisy data "
            f"{times(record.shape)}; give one clean row for each noisy one"
        )
    return truth


def _report(
    trained: TrainedModel,
    record: Record,
    truth: Record | None,
    cleaned: Array,
    options: Options,
    figures: dict[str, Any],
) -> str:
    """Of the first rows, as they were written."""
    from aekit import reports  # matplotlib takes a second

    section = reports.denoising_section(
        record.to_samples(np.array(record.read(0, len(cleaned)))),
        record.to_samples(cleaned),
        record.kind,
        None if truth is None else truth.to_samples(np.array(truth.read(0, len(cleaned)))),
        record.sampling_rate,
    )
    path = Path(str(options.report))
    facts = {"recipe": trained.recipe, **{name: value for name, value in figures.items() if name != "spectra"}}
    with whole(path, options.force) as temporary:
        temporary.write_text(reports.page(f"{record.source}, denoised", facts, [section]))
    return str(path)
