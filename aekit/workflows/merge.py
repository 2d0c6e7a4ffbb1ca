"""merge: the parts of a job, see shards.py, become the file that the verb writes without --shard."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aekit import formats, thresholds
from aekit.batches import chunk_rows
from aekit.errors import AekitError, UsageError
from aekit.files import check_free, together
from aekit.records import Array, Record, guess_layout
from aekit.thresholds import Verdict
from aekit.workflows import common, contributions, judging, shards
from aekit.workflows.common import Clock, Options, Talk
from aekit.workflows.embed import labels_file, latents_like, write_labels
from aekit.workflows.shards import Job


def merge(
    out: str, rule: str | None = None, options: Options | None = None, talk: Talk | None = None
) -> dict[str, Any]:
    """Writes `out` from the parts beside it, which stay; `rule` judges scores by another than was asked of the shards.

    Raises AekitError, which names the shards to run again, unless every row is there once and every part is sound.
    """
    options, talk, clock = options or Options(), talk or Talk(), Clock()
    path = Path(out)
    if rule is not None:
        thresholds.parse_rule(rule)
    job, parts = shards.whole_job(path, talk)
    if rule is not None and job.verb != "score":
        raise UsageError(f"--threshold: {out} is what {job.verb} gives, which no rule judges; leave the flag off")
    check_free(path, options.force)
    record = _input(job, talk)
    with together():
        if job.verb == "score":
            figures = _merge_scores(job, parts, record, path, rule or job.settings.get("rule", "auto"), options, talk)
        elif job.verb == "embed":
            figures = _merge_latents(job, parts, record, path, options)
        else:
            figures = _merge_rows(job, parts, record, path, options)
    talk.say(f"{shards.folder_of(path)}: the parts stay; remove the folder when you do not need them any more")
    return {**figures, "parts": len(parts), "seconds": clock.seconds}


def _input(job: Job, talk: Talk) -> Record | None:
    """What the parts were made of, for what it tells beside its values; None where it is not there any more."""
    try:
        record = common.open_input(job.input, job.settings.get("labels"))
        why = "" if common.fingerprint(record) == job.fingerprint else f"{job.input} is another than it was"
    except AekitError as error:
        why = str(error)
    if not why:
        return record
    talk.say(f"warning: the input is not at hand ({why}): names, labels and sampling rate of its file are left out")
    return None


def _merge_rows(job: Job, parts: list[Path], record: Record | None, path: Path, options: Options) -> dict[str, Any]:
    kind, axis = guess_layout(job.shape)
    like = record or Record(job.input, job.shape, np.dtype(job.dtype), _nothing, kind, axis)
    with formats.create(path, like, job.shape, job.dtype, options.force) as writer:
        for rows in _rows(job, parts):
            writer.write(rows)
    return {"count": job.shape[0], "out": str(path), "model": job.model}


def _merge_latents(job: Job, parts: list[Path], record: Record | None, path: Path, options: Options) -> dict[str, Any]:
    rows, width = job.shape
    labels = None if record is None or record.labels is None else np.repeat(record.labels, rows // job.rows)
    beside = labels_file(path)
    like = latents_like(job.input, rows, width, labels if beside is None else None)
    with formats.create(path, like, job.shape, job.dtype, options.force) as writer:
        for z in _rows(job, parts):
            writer.write(z)
    figures = {"count": rows, "out": str(path), "latent": width, "model": job.model}
    if beside is None or labels is None:
        return figures
    write_labels(beside, labels, options.force)
    return {**figures, "labels": str(beside)}


def _merge_scores(
    job: Job, parts: list[Path], record: Record | None, path: Path, rule: str, options: Options, talk: Talk
) -> dict[str, Any]:
    measured = judging.load(parts, with_columns=False)
    if measured.score.shape != job.shape:
        raise AekitError(f"{path}: its parts hold {len(measured.score)} scores of {job.shape[0]}; run them again")
    verdict, figures, _ = judging.judge(measured, rule, {"model": job.model, "out": str(path)}, talk)
    named = None if record is None or record.kind != "table" else _named(job, record, verdict.flagged, options, talk)
    formats.write_tables(path, _tables(parts, verdict, named), options.force)
    return figures


def _tables(parts: list[Path], verdict: Verdict, named: Array | None) -> Iterator[dict[str, Array]]:
    """Of each part in turn the rows of the table: beside the scores they would take several times their memory."""
    stop = 0
    for part in parts:
        measured = judging.load([part])
        own = slice(stop, stop := stop + len(measured.score))
        judged = replace(verdict, p_values=verdict.p_values[own], flagged=verdict.flagged[own])
        yield judging.table(measured, judged, None if named is None else named[own])


def _named(job: Job, record: Record, flagged: NDArray[np.bool_], options: Options, talk: Talk) -> Array | None:
    """The columns of a table that have most in the score of each flagged row; None where the model is not there."""
    if not _is_model(job):
        talk.say(f"warning: the model is not at hand ({job.model}): `columns`, what makes the scores, is left out")
        return None
    precision, batch_size, missing = (job.settings.get(name) for name in ("precision", "batch_size", "missing"))
    as_then = replace(options, model=job.model, precision=precision, batch_size=batch_size)
    trained, run = common.find_model(job.input, record, "score", as_then, Talk())
    of_table = contributions.columns_of(trained, record)
    assert of_table is not None, "it is a table"
    record = common.as_model_takes(trained, record, missing, Talk())
    return contributions.named(trained, record, run, flagged, of_table)


def _is_model(job: Job) -> bool:
    """Whether the model is there, and the same as it was."""
    try:
        file = common.model_file(job.model)
    except AekitError:
        return False
    return file.exists() and shards.checksum(file) == job.model_sha256


def _rows(job: Job, parts: list[Path]) -> Iterator[Array]:
    """The rows of all parts in turn, a chunk at a time."""
    for part, shape in zip(parts, job.shapes, strict=True):
        record = formats.open_record(part)
        if record.shape != shape or record.dtype != np.dtype(job.dtype):
            raise AekitError(f"{part}: is no part of {job.shape} {job.dtype}; run its shard again with --force")
        step = chunk_rows(record)
        for start in range(0, len(record), step):
            yield record.read(start, min(start + step, len(record)))


def _nothing(start: int, stop: int) -> Array:
    raise AssertionError("what is written is like it, but not read from it")
