"""The data of a training run: opened, checked, cut into windows, normalised and split."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from aekit import tables
from aekit.batches import Normalisation, Rows, Survey, choose_normalisation, chunks, read_all, to_rows
from aekit.errors import AekitError, UsageError
from aekit.formats import exists
from aekit.inference import Seen
from aekit.recipes import Recipe
from aekit.records import Record, select, times
from aekit.streaming import Stream
from aekit.trained import TrainedModel
from aekit.training import mix
from aekit.windows import channels_alone, tiles, window_starts, windows_of
from aekit.workflows import common
from aekit.workflows.common import Talk
from aekit.workflows.open_stream import buffer_of, open_stream

MOST_ROWS, MOST_VALUES = 100_000, 1 << 24  # of the input, where a model learns from what it is used on
HELD_OUT_ROWS = 3000  # at most, where no --val is given
LONGEST_SERIES = 8192  # longer ones are cut into windows
POINT_WINDOWS = 100  # that a single series, whose rows are points, has room for side by side, unless they get too short
SHORTEST_WINDOW = 32
ENOUGH_WINDOWS = 500  # of such a series: they overlap until there are so many
MOST_PERMUTED = 10_000_000  # rows; of more a few are drawn without an array of all
KEPT_CLASSES = 1000  # in the model file
CROP = {1: 512, 2: 64}  # points along an axis of the pieces that recipes with `points` learn from
SMALLEST_CROP = 16
FEW_CROPS = 1000


@dataclass
class Parts:
    """The data of a run: the rows of its three parts, and what they came from."""

    train: Rows  # of a stream some of them
    stream: Stream | None  # of the rows of training, where memory does not hold them
    val: Rows
    test: Rows | None
    train_raw: NDArray[Any]  # (N, C, ...), as stored, for the report; of a stream some rows
    labels: NDArray[Any] | None  # of train_raw
    val_rows: NDArray[np.int64]  # places of the validation rows in train_raw
    record: Record
    normalisation: Normalisation
    classes: tuple[str, ...] | None  # all labels, those of rows left out too
    normal: tuple[str, ...] | None
    windowed: bool  # samples are windows of longer rows
    missing: str  # what was done where a table has no value
    fingerprint: str  # of the data as it was opened

    @property
    def source(self) -> Rows | Stream:
        """What training draws its batches from."""
        return self.train if self.stream is None else self.stream


def open_parts(
    data: str,
    options: Mapping[str, Any],
    seed: int,
    recipe: Recipe,
    network: type[nn.Module],
    start: TrainedModel | None,
    given: Record | None,
    where: torch.device,
    talk: Talk,
) -> Parts:
    """Training, validation and test rows, cut as the recipe asks for and normalised; all of `given`, if it is.

    They are as the kind of network needs them: each channel a row of its own, or with a class each. Where it goes on
    from the encoder of `start`, they are cut and normalised as that one's were.
    """
    labels, target = options.get("labels"), options.get("target")
    alone, learns = getattr(network, "each_channel", False), getattr(network, "learns_classes", False)
    if learns and "normal" in options:
        raise UsageError("--normal is for anomalies; this recipe learns all classes: leave it off")
    record = common.open_part(data, "train", labels, target) if given is None else given
    assert record is not None, "every data set has a training part"
    if given is None:
        common.tell_gaps(record, talk)
    fingerprint = common.fingerprint(record)
    missing = str(options.get("missing", "error" if start is None else start.missing))
    if missing not in tables.MISSING:
        raise UsageError(f"--missing {missing}: there are {', '.join(tables.MISSING)}")
    if record.target is not None:
        tables.check_numbers(record, "a model of --target")
    if record.target is not None and record.target.sample_shape != record.sample_shape:
        raise AekitError(
            f"{record.target.source}: a row has shape {times(record.target.sample_shape)}, the data's "
            f"{times(record.sample_shape)}; give a clean counterpart of each row"
        )
    normal = None if learns or given is not None else common.parse_normal(options.get("normal"), data, record)
    classes = None if record.labels is None else tuple(sorted(set(map(str, record.labels)))[:KEPT_CLASSES])
    if learns:
        _check_classes(record, classes)
    if given is not None:
        record = _enough(record, min(MOST_ROWS, MOST_VALUES // record.values_per_row), talk)
    if start is None:
        known = normal is not None and record.labels is not None
        keep = np.isin(np.array(list(map(str, record.labels))), normal) if known else None  # type: ignore[arg-type]
        record = common.without_gaps(tables.encoded(record), missing, talk, keep=keep)
    else:
        record = common.as_model_takes(start, record, missing, talk)
    whole = _only_normal(record, normal, talk)
    window = start.sample_shape[-1] if start is not None and start.windowed else None
    if recipe.points is None:
        record = _cut(whole, options.get("window", window), recipe.window, talk)
    else:
        record = _crops(whole, options.get("window"), recipe.points[1], talk)
    rates = record.sampling_rate, None if start is None else start.sampling_rate
    if start is not None and None not in rates and not np.isclose(rates[0] or 0, rates[1] or 0, rtol=1e-3):
        raise AekitError(
            f"{record.source}: sampling rate is {rates[0]:g} Hz, that of {start.source} {rates[1]:g} Hz; "
            "resample the file"
        )
    if alone:
        record = channels_alone(record)
    count, sample_shape = len(record), record.sample_shape
    if count < 2:
        raise AekitError(f"{record.source}: {count} row(s) to train on; at least 2 are needed, better hundreds")
    kind = "series" if recipe.points is not None else record.kind  # noise has no bounds, as pictures have

    def choose(raw: NDArray[Any], of_all: Survey | None = None) -> Normalisation:
        if start is None:
            alike = False if recipe.points is not None else recipe.per_sample or None  # noise is the same in all pieces
            chosen = choose_normalisation(raw, kind, record.source, alike, of_all)
        else:
            chosen, seen = start.normalisation, Seen()
            seen.add(raw)
            common.warn(seen, start, talk)
        talk.say(f"{record.source}: {count} rows of {times(sample_shape)}, {record.kind}; {chosen.describe()}")
        return chosen

    outside = None
    if _is_file(options.get("val")):
        if any(name is not None and exists(str(name)) for name in (labels, target)):
            raise AekitError(f"{options['val']}: with labels or targets in files of their own give --val as a share")
        outside = common.open_part(str(options["val"]), "train", labels, target)
    buffer = buffer_of(record, options, where, talk) if given is None and recipe.points is None else 0
    most = max(buffer, HELD_OUT_ROWS) if buffer else count
    held = np.zeros(0, np.int64)
    if outside is None:
        held = _held_out(len(whole), count, options.get("val"), seed, learns, most)
        if buffer and len(held) == most and options.get("val") is not None:
            talk.say(f"{record.source}: {most:,} rows are held out, as many as are kept in memory")
    places = class_places(record, classes)
    stream = None
    if buffer:
        if hasattr(network, "prepare"):
            raise UsageError(
                f"{record.source}: this recipe looks at all rows between steps, and memory does not hold them; train "
                "on a file of some of them"
            )
        found = open_stream(record, kind, held, places, choose, buffer, where, talk)
        stream, rows, val, normalisation = found.stream, found.some, found.val, found.normalisation
        raw, raw_labels, held = found.raw, found.labels, np.arange(len(rows), len(found.raw))
    else:
        raw, raw_labels = read_all(record), record.labels
        normalisation = choose(raw)
        goal = None if record.target is None else read_all(record.target)
        rows = to_rows(raw, normalisation, goal, record.picks, places)
        val = rows.subset(torch.from_numpy(held))
        rows = rows.subset(torch.from_numpy(np.delete(np.arange(count), held)))
    if outside is not None:
        outside = common.brought(outside, record.columns, normalisation, missing, talk)
        _check_known(outside, classes, learns)
        val = _to_rows(_only_normal(outside, normal, talk), normalisation, sample_shape, classes, alone, talk)
    test = common.open_part(data, "test", labels) if given is None and recipe.points is None else None
    test_rows = None
    if test is not None:
        _check_known(test, classes, learns)
        test_rows = _to_rows(_only_normal(test, normal, talk), normalisation, sample_shape, classes, alone, talk)
    return Parts(
        rows,
        stream,
        val,
        test_rows,
        raw,
        raw_labels,
        held,
        record,
        normalisation,
        classes,
        normal,
        sample_shape != whole.sample_shape,
        missing,
        fingerprint,
    )


def class_places(record: Record, classes: tuple[str, ...] | None) -> NDArray[np.int64] | None:
    """Of each row the place of its label among the classes, -1 for one that is not there; None without labels."""
    if record.labels is None or classes is None:
        return None
    place = {name: k for k, name in enumerate(classes)}
    return np.array([place.get(str(label), -1) for label in record.labels], np.int64)


def _check_classes(record: Record, classes: tuple[str, ...] | None) -> None:
    """Raises AekitError where rows are not of two classes at least."""
    if classes is None:
        raise AekitError(
            f"{record.source}: this recipe learns from labels, and there are none; name them with --labels"
        )
    if not 2 <= len(classes) < KEPT_CLASSES:
        raise AekitError(
            f"{record.source}: this recipe takes 2 to {KEPT_CLASSES - 1} classes, the labels have {len(classes)}; "
            "name other labels with --labels"
        )


def _check_known(record: Record, classes: tuple[str, ...] | None, learns: bool) -> None:
    """Raises AekitError where classes are learnt and a row held out, or of the test part, has none of them."""
    places = class_places(record, classes)
    if not learns or (places is not None and (places >= 0).all()):
        return
    if record.labels is None or places is None:
        raise AekitError(f"{record.source}: rows have no labels; add them as in the training data")
    row = int((places < 0).argmax())
    raise AekitError(
        f"{record.source}: row {row} has the label {record.labels[row]}, which no training row has; remove such rows, "
        "or add some to the training data"
    )


def _to_rows(
    record: Record,
    normalisation: Normalisation,
    sample_shape: tuple[int, ...],
    classes: tuple[str, ...] | None,
    alone: bool,
    talk: Talk,
) -> Rows:
    """Rows of samples (C, ...); longer series are cut into windows of that length."""
    longer = record.kind == "series" and record.sample_shape[-1] > sample_shape[-1]
    if longer and len(sample_shape) == len(record.sample_shape):
        record = _cut(record, sample_shape[-1], sample_shape[-1], talk)
    if alone:
        record = channels_alone(record)
    if record.sample_shape != sample_shape:
        raise AekitError(
            f"{record.source}: a row has shape {times(record.sample_shape)}, the training data "
            f"{times(sample_shape)}; give rows of one shape"
        )
    goal = None if record.target is None else read_all(record.target)
    return to_rows(read_all(record), normalisation, goal, record.picks, class_places(record, classes))


def _only_normal(record: Record, normal: tuple[str, ...] | None, talk: Talk) -> Record:
    if normal is None:
        return record
    if record.labels is None:
        raise AekitError(f"{record.source}: the normal class is {', '.join(normal)}, but there are no labels; add them")
    for _ in chunks(record):  # a NaN is named by its row in the file, before rows are left out
        pass
    keep = np.flatnonzero(np.isin(np.array(list(map(str, record.labels))), normal))
    if not len(keep):
        raise AekitError(f"{record.source}: no row is of the normal class {', '.join(normal)}; check the labels")
    talk.say(f"{record.source}: {len(keep)} of {len(record)} rows are of the normal class {', '.join(normal)}")
    return select(record, keep)


def _enough(record: Record, most: int, talk: Talk) -> Record:
    """About so many rows, one at least, taken all over the file, as a record in memory; all where they are fewer."""
    if len(record) <= max(1, most):
        return record
    samples, labels, _ = common.some_rows(record, max(1, most))
    taken = f"{len(samples):,} of {len(record):,} rows"
    talk.say(f"{record.source}: {taken}, taken all over the file, are enough to learn from")
    array = record.from_samples(samples)
    return replace(
        record, shape=array.shape, read=lambda i, j: array[i:j], labels=labels, target=None, picks=None, recorded=None
    )


def _cut(record: Record, window: object, usual: int, talk: Talk) -> Record:
    """Long series as windows side by side: of the length asked for, or of the usual one where they are over 8,192.

    A single series whose rows are points is always cut, into shorter windows where it is short, which then overlap.
    """
    channels, *size = record.sample_shape
    if record.kind == "image" and isinstance(window, int) and 1 < window <= min(size):
        places = tiles(tuple(size), (window, window), overlap=False)
        if len(record) * len(places) < MOST_ROWS // 10:
            places = tiles(tuple(size), (window, window), overlap=True)
        talk.say(f"{record.source}: pictures of {times(tuple(size))} are cut into pieces of {window}x{window}")
        return windows_of(record, (channels, window, window), places)
    if len(size) != 1 or record.kind == "table":
        if window is not None and window != size[-1]:
            raise AekitError(f"{record.source}: only series are cut into windows; leave --set window off")
        return record
    length = size[0]
    if window is not None and not isinstance(window, int):
        raise UsageError(f"--set window={window}: a number of points")
    fitting = (
        min(usual, max(SHORTEST_WINDOW, length // POINT_WINDOWS), max(2, length // 2)) if record.by_point else usual
    )
    wanted = window if window is not None else (fitting if record.by_point or length > LONGEST_SERIES else length)
    if wanted == length:
        return record
    if not 1 < wanted < length:
        raise AekitError(
            f"{record.source}: a window of {wanted} points does not fit rows of {length}; choose 2 to {length}"
        )
    hop = min(wanted, max(1, (length - wanted) // ENOUGH_WINDOWS)) if record.by_point else wanted
    apart = f", {hop} points apart" if hop != wanted else ""
    rows = f"its {length:,} points are" if record.by_point else f"rows of {length} points are"
    talk.say(f"{record.source}: {rows} cut into windows of {wanted}{apart} (--set window=N for another length)")
    return windows_of(record, (channels, wanted), [(slice(s, s + wanted),) for s in window_starts(length, wanted, hop)])


def _crops(record: Record, window: object, most: int, talk: Talk) -> Record:
    """Noisy rows, at most so many points of them, as pieces where rows are long or large, or where there is one alone.

    Where there are few pieces each lies half over the next.
    """
    if record.kind == "table":
        raise AekitError(
            f"{record.source}: is a table, whose columns are no neighbours; to learn from noisy data alone takes "
            "series or images"
        )
    if window is not None and (not isinstance(window, int) or window < 2):
        raise UsageError(f"--set window={window}: a number of points")
    channels, *size = record.sample_shape
    record = _enough(replace(record, target=None, picks=None), most // math.prod(size), talk)
    usual = CROP[len(size)]
    piece = [usual if along > 1.5 * usual else along for along in size]
    if len(record) == 1:
        piece = [min(along, max(SMALLEST_CROP, total // 4)) for along, total in zip(piece, size, strict=True)]
    if window is not None:
        piece = [min(window, along) for along in size]
    if piece == size:
        return record
    places = tiles(tuple(size), tuple(piece), overlap=False)
    if len(record) * len(places) < FEW_CROPS:
        places = tiles(tuple(size), tuple(piece), overlap=True)
    talk.say(f"{record.source}: learns from pieces of {times(tuple(piece))} (--set window=N for another size)")
    return windows_of(record, (channels, *piece), places)


def _is_file(val: object) -> bool:
    if val is None:
        return False
    try:
        float(str(val))
    except ValueError:
        return True
    return False


def _held_out(whole: int, count: int, val: object, seed: int, by_row: bool, most: int) -> NDArray[np.int64]:
    """Rows that are held out, in order: a fifth, at most 3,000, where no share is asked for, and never over `most`.

    Windows cut from records, `count` from `whole` rows, are held out in one stretch at the end, for neighbours look
    alike; or all those of some rows (`by_row`), so that classes in the order of the file are in both parts.
    """
    if by_row and 1 < whole < count:
        each = count // whole
        rows = _held_out(whole, whole, val, seed, by_row, max(1, most // each))
        return (rows[:, None] * each + np.arange(each)).ravel()
    share = 0.2 if val is None else float(str(val))
    if not 0 < share < 1:
        raise UsageError(f"--val {val}: a share between 0 and 1, or a file")
    held = max(1, round(count * share))
    held = min(held, count - 1, HELD_OUT_ROWS if val is None else held, most)
    if whole != count:
        return np.arange(count - held, count)
    rng = np.random.default_rng(mix(seed, 4))
    if count > MOST_PERMUTED:
        return np.sort(rng.choice(count, held, replace=False, shuffle=False))
    return np.sort(rng.permutation(count)[count - held :])
