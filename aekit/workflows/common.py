"""What the verbs share: opening data, finding the model that fits, talking to whoever asked."""

import contextlib
import hashlib
import json
import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aekit import checkpoint, kernels, remote, tables
from aekit.batches import Normalisation
from aekit.datasets import DATASETS, Part, find_dataset, open_dataset
from aekit.errors import AekitError
from aekit.files import check_free, whole
from aekit.formats import default_out as default_name
from aekit.formats import name_of, open_record, split_name
from aekit.inference import Run, Seen, check_fits, default_run, takes_signals
from aekit.layers import for_use
from aekit.records import Record, times
from aekit.trained import TrainedModel
from aekit.training import classifies, finds_picks, reconstructs
from aekit.windows import ratio

RUNS = Path("runs")
MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
ENCODES = ("score", "embed")  # verbs that give back no columns, so that words can be what they are made of
TOLD_WORDS = 5
FINGERPRINT_BYTES = 1 << 22  # of each chunk
VERB_RECIPES = {"denoise": "denoising", "fill": "conv", "score": "conv", "embed": "conv", "generate": "vae"}


@contextlib.contextmanager
def _silent(description: str, total: int) -> Iterator[Callable[[int], None]]:
    yield lambda done: None


@dataclass(frozen=True)
class Talk:
    """How a verb tells what it does: a line at a time, and a bar per long loop; silent by default."""

    say: Callable[[str], None] = lambda line: None
    track: Callable[[str, int], AbstractContextManager[Callable[[int], None]]] = _silent


@dataclass(frozen=True)
class Options:
    """Where and how the verbs that use a model run, and what they may overwrite."""

    model: str | None = None
    device: str = "auto"
    kernels: str = "auto"
    precision: str | None = None
    batch_size: int | None = None
    seed: int = 0
    force: bool = False
    report: str | None = None
    fresh: bool = False  # train on the input itself, whatever lies under runs/
    missing: str | None = None  # where a table has no value: a name in tables.MISSING, else as the model was trained


# --- data ------------------------------------------------------------------------------------------------------------


def is_dataset(data: str) -> bool:
    return data.partition(":")[0] in DATASETS and not os.path.exists(data)


def open_part(data: str, part: Part, labels: str | None = None, target: str | None = None) -> Record | None:
    """A named data set's part, None where it has no such part; a file is all training data."""
    if is_dataset(data):
        if labels is not None or target is not None:
            raise AekitError(
                f"{data}: a named data set brings its own labels and targets; leave --labels and --target off"
            )
        return open_dataset(data, part)
    if part == "test":
        return None
    if not os.path.exists(data) and data.isidentifier():
        find_dataset(data)  # raises: neither file nor data set
    return open_record(data, labels=labels, target=target)


def open_input(data: str, labels: str | None = None) -> Record:
    """What a verb other than train reads: a file, or a named data set's test part. Raises AekitError without a row."""
    record = open_part(data, "test", labels) or open_part(data, "train", labels)
    assert record is not None, "every data set has a training part"
    return record


def tell_gaps(record: Record, talk: Talk) -> None:
    """What the reader found out, left out or filled up."""
    for note in record.notes:
        talk.say(f"{record.source}: {note}")
    if record.recorded is not None and record.recorded.filled:
        values = len(record) * record.values_per_row
        talk.say(
            f"{record.source}: {record.recorded.filled:,} of {values:,} values were not recorded; what lies beside "
            "stands in for them, mirrored, and an output of the same format leaves them out"
        )


def gap_share(
    record: Record, row: NDArray[np.int64], first: NDArray[np.int64], points: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Of stretches of so many points from `first` on in these rows: the share in which no channel was recorded."""
    inside = np.zeros(len(row))
    for in_row, start, stop in [] if record.recorded is None else record.recorded.gaps:
        shared = np.minimum(first + points, stop) - np.maximum(first, start)
        inside += np.where(row == in_row, np.maximum(shared, 0), 0)
    share: NDArray[np.float32] = (inside / points).astype(np.float32)
    return share


def where_and_when(record: Record, row: NDArray[np.int64], seconds: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Columns for so many seconds into these rows: the station, and the time in UTC; of what the file tells of them."""
    columns: dict[str, NDArray[Any]] = {}
    if record.recorded is not None and record.recorded.stations:
        columns["station"] = np.array(record.recorded.stations)[row]
    if record.recorded is not None and record.recorded.starts is not None:
        times = record.recorded.starts[row] + np.rint(seconds * 1e6).astype("m8[us]")
        columns["time"] = np.datetime_as_string(times, timezone="UTC")
    return columns


def fingerprint(record: Record) -> str:
    """Of what a record is and of chunks all over it: tells one file from another without reading all of it."""
    kept = (record.shape, str(record.dtype), record.columns, record.categories, record.sampling_rate)
    digest = hashlib.sha256(repr(kept).encode())
    rows = max(1, min(256, FINGERPRINT_BYTES // max(1, record.values_per_row * record.dtype.itemsize)))
    last = max(0, len(record) - rows)
    for start in sorted({last * i // 15 for i in range(16)}):
        digest.update(np.ascontiguousarray(record.read(start, min(start + rows, len(record)))).data)
    return digest.hexdigest()[:16]


def labels_of(record: Record) -> NDArray[Any] | None:
    """Of each row, or of each point of a record whose rows are points."""
    return record.point_labels if record.by_point else record.labels


def parse_normal(normal: str | None, data: str, record: Record) -> tuple[str, ...] | None:
    """The classes that count as normal: as asked for, else the data set's; AekitError for one that no row has."""
    if normal is None:
        return (DATASETS[data.partition(":")[0]].normal or None) if is_dataset(data) else None
    wanted = tuple(name.strip() for name in normal.split(","))
    labels = labels_of(record)
    if labels is None:
        raise AekitError(f"{record.source}: --normal needs labels, and there are none; name them with --labels")
    known = sorted(set(map(str, labels)))
    for name in wanted:
        if name not in known:
            raise AekitError(f"{record.source}: no row has the label {name!r}; labels are {', '.join(known[:20])}")
    return wanted


def anomalous_rows(record: Record, normal: tuple[str, ...] | None) -> NDArray[np.bool_] | None:
    """Which rows count as anomalies: those of other classes than the normal ones; without such, label 1 of 0 and 1."""
    labels = labels_of(record)
    if labels is None:
        return None
    names = np.array(list(map(str, labels)))
    if normal is not None:
        return ~np.isin(names, normal)
    return names == "1" if set(names) <= {"0", "1"} else None


# --- models ----------------------------------------------------------------------------------------------------------


def model_file(path: str) -> Path:
    """The model file of a path that names one or a run folder, of which no more is fetched from an object store."""
    if remote.is_remote(path):
        return Path(remote.fetched(path if path.endswith(".safetensors") else f"{path.rstrip('/')}/{MODEL_FILE}"))
    place = Path(path)
    return place / MODEL_FILE if place.is_dir() else place


def load_model(path: str) -> TrainedModel:
    """Raises AekitError also for a run that has no model yet."""
    file = model_file(path)
    if not file.exists() and (file.parent / CONFIG_FILE).exists():
        raise AekitError(f"{path}: this run has no model yet; go on with: aekit train --resume {file.parent}")
    return checkpoint.load(file)


def newest_runs() -> list[Path]:
    """Model files under runs/, newest first."""
    found = RUNS.glob(f"*/{MODEL_FILE}") if RUNS.is_dir() else []
    return sorted(found, key=lambda p: p.stat().st_mtime_ns, reverse=True)


def find_model(
    data: str,
    record: Record,
    verb: str,
    options: Options,
    talk: Talk,
    learn: Callable[[], TrainedModel] | None = None,
) -> tuple[TrainedModel, Run]:
    """The model asked for, else the newest run under runs/ that fits the record and serves the verb, ready to run.

    Where none fits, or a fresh one is asked for, `learn` trains one on the input itself.

    A run fits by itself where it was trained on such rows, or on windows of such; any other must be asked for. Raises
    AekitError where none fits; it names the two commands that help.
    """
    tell_gaps(record, talk)
    if verb not in ENCODES:
        tables.check_numbers(record, "denoise --mask" if verb == "fill" else verb)
    if options.model is not None:
        trained = load_model(options.model)
        check_serves(trained, verb)
        check_fits(trained, _columns_for(trained, record, verb), _as_signal(trained, verb))
        _tell_windows(trained, _columns_for(trained, record, verb), talk)
        return _ready(trained, options)
    for path in [] if options.fresh else newest_runs():
        found = _load_if_fits(path, record, verb)
        if found is not None:
            rows = f"{record.source}: {len(record):,} rows of {times(record.sample_shape)}"
            talk.say(f"{rows}; model: {_run_of(found)}, the newest run that fits")
            _tell_windows(found, _columns_for(found, record, verb), talk)
            return _ready(found, options)
    if learn is not None:
        return _ready(learn(), options)
    typed = shlex.quote(data)
    raise AekitError(
        f"{data}: no model under {RUNS}/ fits rows of shape {times(tables.encoded(record).sample_shape)}; run "
        f"`aekit train {suggest(record, verb)} --data {typed}`, then `aekit {_command(verb)} {typed}` again, "
        "or name a model with --model"
    )


def _columns_for(trained: TrainedModel, record: Record, verb: str) -> Record:
    return tables.encoded(record, trained.columns) if verb in ENCODES else record


def as_model_takes(trained: TrainedModel, record: Record, missing: str | None, talk: Talk) -> Record:
    """A table as the model takes it: with its columns, and the means of its training data where values are missing.

    The latter where it is asked for; a model that was trained so does it by itself, and says so.
    """
    return brought(record, trained.columns, trained.normalisation, missing or trained.missing, talk)


def brought(record: Record, columns: tuple[str, ...], normalisation: Normalisation, missing: str, talk: Talk) -> Record:
    """A table with the columns of the training data, and its means in the gaps if they are wanted; others unchanged."""
    for name, (words, rows) in tables.unknown_words(record, columns).items():
        shown = ", ".join(words[:TOLD_WORDS]) + (", ..." if len(words) > TOLD_WORDS else "")
        talk.say(f"{record.source}: column {name}: the model does not know {shown}, in {rows:,} rows")
    return without_gaps(tables.encoded(record, columns), missing, talk, np.array(normalisation.offset))


def without_gaps(
    record: Record,
    missing: str,
    talk: Talk,
    means: NDArray[np.float64] | None = None,
    keep: NDArray[np.bool_] | None = None,
) -> Record:
    """A table whose missing values are these means, else the means of the rows of `keep`.

    Raises AekitError where a value is missing and nobody said what to do.
    """
    if record.kind != "table":
        if missing != "error":
            raise AekitError(
                f"{record.source}: --missing is for tables; aekit denoise --mask nan fills in {record.kind}"
            )
        return record
    gaps = tables.find_gaps(record)
    if gaps is None:
        return record
    if missing == "error":
        name = record.columns[gaps.column] if record.columns else gaps.column
        raise AekitError(
            f"{record.source}: row {gaps.row}, column {name} has no value, the first of {gaps.values:,} values in "
            f"{gaps.rows:,} of {len(record):,} rows; --missing mean puts the column's mean there, or leave them out"
        )
    talk.say(
        f"{record.source}: {gaps.values:,} values in {gaps.rows:,} of {len(record):,} rows are missing: the mean of "
        "their column in the training data stands in for them (--missing mean)"
    )
    return tables.filled(record, tables.column_means(record, keep) if means is None else means)


def _load_if_fits(path: Path, record: Record, verb: str) -> TrainedModel | None:
    try:
        trained = checkpoint.load(path)
        check_serves(trained, verb)
        given, record = record, _columns_for(trained, record, verb)
        check_fits(trained, record, _as_signal(trained, verb))
    except AekitError:
        return None
    if trained.own_input:
        return trained if trained.fingerprint == fingerprint(given) and _finished(trained, verb) else None
    # rows of another length hold, or fill, samples of the model too, but what they mean is known only where it was
    # trained on such windows, or where both tell their sampling rate, which is then the same
    told = record.sampling_rate is not None and trained.sampling_rate is not None
    long_enough = record.sample_shape[1:] >= trained.sample_shape[1:]
    alike = trained.kind == record.kind and ratio(trained.sampling_rate, record.sampling_rate) == 1
    alike = alike and (
        trained.sample_shape[1:] == record.sample_shape[1:] or (trained.windowed and long_enough) or told
    )
    return trained if alike and _finished(trained, verb) else None


def _as_signal(trained: TrainedModel, verb: str) -> bool:
    """Whether the verb gives back signals, as long as those that it is given."""
    return verb in ("denoise", "fill") or finds_picks(trained.network)


def _command(verb: str) -> str:
    """What is typed for it: to fill in is a part of denoise."""
    return "denoise" if verb == "fill" else verb


def _tell_windows(trained: TrainedModel, record: Record, talk: Talk) -> None:
    rate = ratio(trained.sampling_rate, record.sampling_rate)
    if rate != 1:
        lost = f", so what lies above {trained.sampling_rate / 2:g} Hz counts as noise" if rate < 1 else ""  # type: ignore[operator]
        talk.say(
            f"{record.source}: resampled for the model from {record.sampling_rate:g} Hz to "
            f"{trained.sampling_rate:g} Hz, and what it gives is brought back{lost}"
        )
    elif trained.sampling_rate is None and record.sampling_rate is not None and takes_signals(trained):
        talk.say(f"the model does not know its sampling rate: {record.sampling_rate:g} Hz are taken for it")
    points, wanted = round(record.sample_shape[-1] * rate), trained.sample_shape[-1]
    if points < wanted:
        talk.say(f"rows of {points} points are shorter than the model's samples of {wanted}: mirrored to fill one")
    elif record.sample_shape[1:] == trained.sample_shape[1:] and record.sample_shape != trained.sample_shape:
        talk.say(f"the {record.sample_shape[0]} channels of a row are taken one by one")
    elif record.sample_shape != trained.sample_shape:
        have, want = (times(shape[1:]) for shape in (record.sample_shape, trained.sample_shape))
        talk.say(f"rows of {have} are cut into windows of {want}, the model's samples")


def _run_of(trained: TrainedModel) -> str:
    return f"{Path(trained.source).parent} ({trained.recipe} trained on {trained.data})"


def _finished(trained: TrainedModel, verb: str) -> bool:
    """Whether training came to its end, after which the model has what the verb needs beside the weights."""
    if not trained.figures:
        return False
    if verb == "score":
        return trained.calibration is not None or finds_picks(trained.network) or classifies(trained.network)
    return verb != "generate" or trained.mixture is not None or hasattr(trained.network, "prior")


def check_serves(trained: TrainedModel, verb: str) -> None:
    """Raises AekitError where the model does not serve the verb."""
    verbs = trained.network.verbs
    if verb == "fill" and (hasattr(trained.network, "fill") or reconstructs(trained.network)):
        return
    if verb not in verbs:  # type: ignore[operator]
        more = ", and denoise --mask" if hasattr(trained.network, "fill") else ""
        served = ", ".join(verbs) + more  # type: ignore[arg-type]
        raise AekitError(f"{trained.source}: the model {trained.model} does not {verb}; it serves {served}")


def suggest(record: Record, verb: str) -> str:
    """The recipe to train for this kind of data."""
    if record.picks is not None and verb == "score":
        return "eqtransformer"
    if record.target is not None and record.kind == "series":
        return "trace"
    if record.kind == "image":
        return VERB_RECIPES[verb]
    if verb == "generate":
        return "vae"
    if record.kind == "series":
        return "unet" if verb == "denoise" else "conv1d"
    return "denoising" if verb == "denoise" else "stacked"


def _ready(trained: TrainedModel, options: Options) -> tuple[TrainedModel, Run]:
    use_kernels(options.kernels)
    run = default_run(trained, options.device, options.precision, options.batch_size)
    trained.network = for_use(trained.network).to(run.device)
    return trained, run


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def use_kernels(choice: str) -> None:
    """Triton or torch for this process; raises AekitError where Triton cannot run."""
    try:
        kernels.use(choice)
    except ValueError as error:
        raise AekitError(f"--{error}") from error


def load_ready(verb: str, options: Options, talk: Talk) -> tuple[TrainedModel, Run]:
    """A model without data to fit: the one asked for, else the newest run that serves the verb."""
    if options.model is not None:
        trained = load_model(options.model)
        check_serves(trained, verb)
        return _ready(trained, options)
    for found in newest_runs():
        try:
            trained = checkpoint.load(found)
            check_serves(trained, verb)
        except AekitError:
            continue
        if trained.own_input or not _finished(trained, verb):
            continue
        talk.say(f"model: {_run_of(trained)}, the newest run that can {verb}")
        return _ready(trained, options)
    raise AekitError(f"no model under {RUNS}/ can {verb}; run `aekit train {VERB_RECIPES[verb]} --data DATA` first")


# --- figures ---------------------------------------------------------------------------------------------------------


def some_rows(record: Record, count: int, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any] | None, NDArray[np.int64]]:
    """About `count` samples (K, C, ...), their labels and their rows, read in a few seeded blocks: for pictures."""
    blocks = min(16, max(1, len(record) // max(1, count // 16)))
    size = min(-(-count // blocks), len(record) // blocks)
    starts = np.sort(np.random.default_rng(seed).choice(len(record) // size, blocks, replace=False)) * size
    parts = [record.to_samples(record.read(int(s), int(s) + size)).copy() for s in starts]
    rows = np.concatenate([np.arange(s, s + size) for s in starts])
    return np.concatenate(parts), None if record.labels is None else record.labels[rows], rows


def next_run(recipe: str, data: str) -> Path:
    """runs/<recipe>-<data>-<n>, the next free n."""
    name = data.replace(":", "-") if is_dataset(data) else name_of(data).partition(".")[0]
    for n in range(1, 1_000_000):
        path = RUNS / f"{recipe}-{name}-{n}"
        if not path.exists():
            return path
    raise AekitError(f"{RUNS}: too many runs; remove some")


def write_json(path: Path, value: Any) -> None:
    with whole(path, force=True) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")


def default_out(data: str, suffix: str, ending: str | None, dataset_ending: str = ".npy") -> Path:
    """<name>.<suffix><ending> in the current folder; a named data set has no ending of its own."""
    if is_dataset(data):
        return Path(f"{data.replace(':', '-')}.{suffix}{ending or dataset_ending}")
    return default_name(data, suffix, ending)


def check_outputs(options: Options, data: str, *outputs: Path | None) -> None:
    """Raises AekitError, before any work is done, where one of the outputs or the report cannot be written.

    No output takes the place of the input or of another output, with --force neither.
    """
    report = None if options.report is None else Path(options.report)
    given = [output for output in (*outputs, report) if output is not None]
    places = [output.resolve() for output in given]
    source, _ = split_name(data)
    for output, place in zip(given, places, strict=True):
        if places.count(place) > 1:
            raise AekitError(f"{output}: is named for two outputs; give each a name of its own")
        check_free(output, options.force)
        is_same = output.exists() and source.exists() and output.samefile(source)
        if is_same or remote.told(str(output)) == remote.told(str(source)):
            raise AekitError(f"{output}: is the input itself; name another file with -o")


def warn(seen: Seen, trained: TrainedModel, talk: Talk) -> None:
    for line in seen.warnings(trained):
        talk.say(f"warning: {line}")


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    @property
    def seconds(self) -> float:
        return round(time.perf_counter() - self.start, 3)
