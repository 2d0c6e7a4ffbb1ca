"""A verb on one of N contiguous parts of the rows, so that many machines share a file and a killed job goes on.

A part lies in the folder OUT.parts, as 2-of-8.npy or .npz, with its manifest, 2-of-8.json, which is written last: a
part without one counts as absent. The manifest tells of which input, model and settings the part was made, so that
`aekit merge` takes no part for another. Of the rows of its first and last batch a part also computes those of the
neighbours: the last bits of a result depend on the size of the batch, and the parts together are the bytes that the
verb writes without parts.
"""

import contextlib
import hashlib
import json
import re
import shlex
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

import aekit
from aekit import remote
from aekit.errors import AekitError, UsageError
from aekit.inference import Run, grain
from aekit.records import Array, Record, rows_of
from aekit.settings import check_types, is_a
from aekit.trained import TrainedModel
from aekit.workflows import common
from aekit.workflows.common import Options, Talk

FORMAT = 1  # of the manifest
ENDINGS = {"denoise": ".npy", "score": ".npz", "embed": ".npy"}  # of parts, whatever the output's
AXES = {"denoise": (2, 3, 4), "score": (1,), "embed": (2,)}  # of outputs
SETTINGS = {
    "precision": str | None,
    "batch_size": int | None,
    "missing": str | None,
    "labels": str | None,
    "rule": str | None,
}
HASHED = 1 << 20  # bytes at a time
_NAME = re.compile(r"(\d{1,9})-of-(\d{1,9})\.json")


class Shard(NamedTuple):
    number: int  # from 1
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def rows(self, count: int) -> tuple[int, int]:
        """The first of so many rows that is the shard's, and the one behind its last; no shard has two rows more."""
        return count * (self.number - 1) // self.of, count * self.number // self.of


def parse_shard(text: str) -> Shard:
    """`2/8` as the second of eight; raises UsageError for anything else."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    shard = Shard(int(match[1]), int(match[2])) if match else Shard(0, 0)
    if not 1 <= shard.number <= shard.of:
        raise UsageError(f"--shard: {text!r} is no I/N with I from 1 to N, as in 2/8")
    return shard


def asked(text: str, options: Options, others: Mapping[str, object]) -> Shard:
    """The shard that is asked for; raises UsageError beside flags that take all rows."""
    shard = parse_shard(text)
    flags = {**others, "--report": options.report, "--fresh": options.fresh}
    for flag, value in flags.items():
        if value is not None and value is not False:
            raise UsageError(f"--shard: goes without {flag}, which takes all rows at once")
    return shard


def check_places(shard: Shard, record: Record, data: str, out: Path, options: Options) -> None:
    """Raises AekitError where the rows cannot be cut so, or the parts not be written beside `out`."""
    if len(record) == 1:
        raise AekitError(f"{record.source}: is a single row, which is not cut into parts; leave --shard off")
    if len(record) < shard.of:
        raise AekitError(f"{record.source}: has {len(record)} rows, too few for {shard.of} parts; ask for fewer")
    check_local(out)
    common.check_outputs(replace(options, force=True), data, out)


def check_local(out: Path) -> None:
    """Raises AekitError for an output whose parts would lie in an object store."""
    if remote.is_remote(out):
        raise AekitError(f"{out}: parts lie in a folder that all machines see; name a place in one with -o")


class Span(NamedTuple):
    """The rows of a shard and what lies around them in their batches."""

    record: Record  # those rows
    before: int  # rows of it that come before the shard's
    rows: int  # of the shard
    start: int  # the first of them in the whole

    def own(self, chunks: Iterable[Array], each: int = 1) -> Iterator[Array]:
        """Of what was made of all rows, `each` in turn of one row, a chunk at a time, what is of the shard's."""
        at, first, last = 0, self.before * each, (self.before + self.rows) * each
        for chunk in chunks:
            mine = chunk[max(0, first - at) : max(0, last - at)]
            at += len(chunk)
            if len(mine):
                yield mine


def span_of(shard: Shard, trained: TrainedModel, record: Record, run: Run, as_signal: bool = False) -> Span:
    unit = grain(trained, record, run, as_signal)
    start, stop = shard.rows(len(record))
    first, last = start // unit * unit, min(len(record), -(-stop // unit) * unit)
    return Span(rows_of(record, first, last), start - first, stop - start, start)


# --- parts and manifests ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """What all shards of one job share, and so all of their manifests; paths and names are for people."""

    verb: str
    of: int
    input: str
    fingerprint: str  # of the input
    model: str  # its file
    model_sha256: str
    settings: dict[str, Any]  # what changes the result, as JSON has it
    shape: tuple[int, ...]  # of the whole output
    dtype: str
    rows: int  # of the input
    aekit: str = aekit.__version__
    format: int = FORMAT

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of the parts of the output, in their order."""
        each = self.shape[0] // self.rows
        ends = [Shard(number, self.of).rows(self.rows) for number in range(1, self.of + 1)]
        return [((stop - start) * each, *self.shape[1:]) for start, stop in ends]

    @cached_property
    def key(self) -> str:
        """The same for all parts of one whole; files may lie at different places on different machines."""
        settings = {name: value for name, value in self.settings.items() if name != "rule"}  # which the merge applies
        return json.dumps({**asdict(self), "input": "", "model": "", "settings": settings}, sort_keys=True)


@dataclass(frozen=True)
class Manifest:
    job: Job
    start: int
    stop: int
    sha256: str  # of the part
    made_on: str = ""  # device and threads, on which the last bits depend


def job_of(
    verb: str,
    shard: Shard,
    data: str,
    record: Record,
    trained: TrainedModel,
    run: Run,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    options: Options,
    **more: str | None,
) -> Job:
    """`record` is the input as it was read; `more` are settings of the verb alone."""
    settings = {"precision": run.precision, "batch_size": options.batch_size, "missing": options.missing, **more}
    name, fingerprint = np.dtype(dtype).name, common.fingerprint(record)
    model_sha256 = checksum(Path(trained.source))
    return Job(verb, shard.of, data, fingerprint, trained.source, model_sha256, settings, shape, name, len(record))


def folder_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.parts")


def part_of(out: Path, verb: str, shard: Shard) -> Path:
    return folder_of(out) / f"{shard.number}-of-{shard.of}{ENDINGS[verb]}"


def manifest_of(part: Path) -> Path:
    return part.with_suffix(".json")


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while piece := f.read(HASHED):
            digest.update(piece)
    return digest.hexdigest()


def write_part(
    job: Job, shard: Shard, out: Path, run: Run, compute: Callable[[Path], None], options: Options, talk: Talk
) -> dict[str, Any]:
    """The part that `compute` writes, whole or absent, and its manifest; a part that is there already stays.

    Raises AekitError where another part has its name, unless it may be overwritten.
    """
    part = part_of(out, job.verb, shard)
    of = begun(out)
    if of not in (None, shard.of):
        raise AekitError(f"{folder_of(out)}: holds parts of {of}; ask for --shard {shard.number}/{of}, or remove them")
    start, stop = shard.rows(job.rows)
    figures = {"shard": str(shard), "start": start, "stop": stop, "rows": job.rows, "model": job.model}
    is_there = manifest_of(part).exists() and not options.force and _is_there(job, part, (start, stop))
    if is_there:
        talk.say(f"{part}: already there")
    else:
        with _made(part.parent, shard):
            compute(part)
            made_on = common.device_name(run.device.type)
            value = {"job": asdict(job), "start": start, "stop": stop, "sha256": checksum(part), "made_on": made_on}
            common.write_json(manifest_of(part), value)
    return {"count": stop - start, "out": str(part), **figures, "state": "already there" if is_there else "written"}


def _is_there(job: Job, part: Path, rows: tuple[int, int]) -> bool:
    """Whether this very part is there; raises AekitError where it is another, or damaged."""
    found = read_manifest(manifest_of(part))
    if not part.exists():
        return False
    if found is None or checksum(part) != found.sha256:
        raise AekitError(f"{part}: is damaged; replace it with --force")
    if job.key != found.job.key or (found.start, found.stop) != rows:
        raise AekitError(
            f"{part}: is of {differences(job, found.job)} than now; name another output with -o, or replace it with "
            "--force"
        )
    return True


def sweep(out: Path) -> None:
    """Removes what processes that were killed left of the parts that they were writing, and a folder without parts."""
    for left in folder_of(out).glob(".*-of-*"):
        left.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder_of(out).rmdir()


@contextlib.contextmanager
def _made(folder: Path, shard: Shard) -> Iterator[None]:
    """A folder, which goes again where nothing came to lie in it and no other shard is at work."""
    folder.mkdir(exist_ok=True)
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{shard.number}-of-{shard.of}."):
            yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


def differences(one: Job, other: Job) -> str:
    """In words, in what two jobs differ that are not the same."""
    words = {
        "verb": "another verb",
        "fingerprint": "another input",
        "rows": "another input",
        "model_sha256": "another model",
        "settings": "other settings",
        "aekit": "another version of aekit",
    }
    found = [said for name, said in words.items() if getattr(one, name) != getattr(other, name)]
    return ", ".join(dict.fromkeys(found)) or "other rows"


def read_manifest(path: Path) -> Manifest | None:
    """None where it is damaged; raises AekitError where a newer aekit wrote it."""
    try:
        value = json.loads(path.read_text())
        check_types(Job, value["job"])
        check_types(Manifest, {name: told for name, told in value.items() if name != "job"})
        job = Job(**{**value["job"], "shape": tuple(value["job"]["shape"])})
        found = Manifest(**{**value, "job": job})
        fit = [
            all(is_a(job.settings.get(name), hint) for name, hint in SETTINGS.items()),
            min(job.format, job.rows, *job.shape, found.start, found.stop) >= 0,
            0 < job.of <= job.rows,
            len(job.shape) in AXES[job.verb] and job.shape[0] % job.rows == 0,
            not np.dtype(job.dtype).hasobject,
        ]
        if not all(fit):
            return None
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError):
        return None
    if job.format > FORMAT:
        raise AekitError(f"{path}: format {job.format} is newer than the {FORMAT} that this aekit reads; update aekit")
    return found


# --- all parts of a job -----------------------------------------------------------------------------------------------


def _named(out: Path) -> list[Shard]:
    """Those of which a part or a manifest lies beside `out`."""
    folder = folder_of(out)
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    return [Shard(int(match[1]), int(match[2])) for match in map(_NAME.fullmatch, sorted(names)) if match]


def begun(out: Path) -> int | None:
    """How many parts those beside `out` are of; None where there are none. Raises AekitError where they are of two."""
    counts = sorted({shard.of for shard in _named(out)})
    if len(counts) > 1:
        told = " and ".join(map(str, counts))
        raise AekitError(f"{folder_of(out)}: holds parts of {told}, so rows are there twice; remove those of one job")
    return counts[0] if counts else None


def whole_job(out: Path, talk: Talk) -> tuple[Job, list[Path]]:
    """What the parts beside `out` are of, and the parts in the order of their rows.

    Raises AekitError, which names the shards to run again, unless every row is there exactly once and each part is
    the one that its manifest tells of.
    """
    folder, named = folder_of(out), _named(out)
    of = begun(out)
    if of is None:
        if out.is_dir():
            raise AekitError(
                f"{out}: is a folder of whole outputs, or of parts itself; there is nothing to merge in it"
            )
        raise AekitError(f"{out}: there are no parts in {folder}; run a verb with -o {out} --shard 1/N first")
    found = {shard: read_manifest(folder / f"{shard.number}-of-{shard.of}.json") for shard in named}
    sound = [manifest for manifest in found.values() if manifest is not None and manifest.job.of == of]
    jobs = Counter(manifest.job.key for manifest in sound)
    if not jobs:
        raise AekitError(f"{folder}: its manifests are damaged; run the shards again with --force")
    most = jobs.most_common(1)[0][0]
    job = next(manifest.job for manifest in sound if manifest.job.key == most)
    shards = [Shard(number, job.of) for number in range(1, job.of + 1)]
    missing, damaged = [], []
    strange: dict[Shard, str] = {}
    for shard in shards:
        part, manifest = part_of(out, job.verb, shard), found.get(shard)
        if shard not in found or not part.exists():
            missing.append(shard)
        elif manifest is None:
            damaged.append(shard)
        elif manifest.job.key != most or (manifest.start, manifest.stop) != shard.rows(job.rows):
            strange[shard] = differences(manifest.job, job)
        elif checksum(part) != manifest.sha256:
            damaged.append(shard)
    _check_none(out, job, missing, damaged, strange)
    rules = sorted({str(manifest.job.settings.get("rule")) for manifest in sound})
    if len(rules) > 1:
        talk.say(f"warning: parts ask for the rules {' and '.join(rules)}; aekit merge --threshold RULE names one")
    made_on = sorted({manifest.made_on for manifest in sound})
    if len(made_on) > 1:
        told = " and ".join(where or "an unknown device" for where in made_on)
        talk.say(f"warning: parts were made on {told}: their last bits may differ from those of one machine")
    return job, [part_of(out, job.verb, shard) for shard in shards]


def _check_none(out: Path, job: Job, missing: list[Shard], damaged: list[Shard], strange: Mapping[Shard, str]) -> None:
    faults = {
        "missing": missing,
        "damaged": damaged,
        f"of {', '.join(dict.fromkeys(strange.values()))} than the others": list(strange),
    }
    told = [
        f"{_listed(shards)} {'is' if len(shards) == 1 else 'are'} {what}" for what, shards in faults.items() if shards
    ]
    if told:
        force = " --force" if damaged or strange else ""
        first, *others = (*missing, *damaged, *strange)
        words = ["aekit", job.verb, job.input, "--model", job.model, "-o", str(out), "--shard", str(first)]
        again = " ".join(map(shlex.quote, words))
        raise AekitError(
            f"{out}: {', '.join(told)}; run again, with the flags of the others: {again}{force}"
            f"{' and so on' if others else ''}"
        )


def _listed(shards: list[Shard]) -> str:
    """Shards 1 to 3, 7 of 8."""
    numbers = [shard.number for shard in shards]
    cuts = np.flatnonzero(np.diff(numbers) > 1) + 1
    runs = [(int(run[0]), int(run[-1])) for run in np.split(np.array(numbers), cuts)]
    told = [f"{first}" if first == last else f"{first} to {last}" for first, last in runs]
    return f"{'shard' if len(shards) == 1 else 'shards'} {', '.join(told)} of {shards[0].of}"
