"""The rows of many files as those of one, in their order; nothing is in memory but what is read."""

from collections import Counter

import numpy as np

from aekit.errors import AekitError
from aekit.formats._registry import one_buffer, shown
from aekit.records import Array, Record, Recorded, times

ALIKE = {
    "kind": "rows of the kind",
    "dtype": "the type",
    "channel_axis": "channels on axis",
    "sampling_rate": "the sampling rate",
    "columns": "the columns",
    "categories": "the words",
}  # what all files have in common -> in words
BESIDE = ("labels", "picks", "target")  # what all of them have, or none


def joined(source: str, records: list[Record]) -> Record:
    """The rows of records that are alike, with what each of them tells beside its values.

    Raises AekitError, which names two files, where rows differ in shape, type or columns, or only some have labels.
    """
    first = usual(records)
    for record in records:
        if difference := _difference(first, record):
            raise AekitError(difference)
    ends = np.cumsum([len(record) for record in records])
    buffer = one_buffer(first.shape[1:], first.dtype)

    def read(start: int, stop: int) -> Array:
        stop = min(stop, int(ends[-1]))
        rows = buffer(stop - start)
        at = start
        while at < stop:
            i = int(np.searchsorted(ends, at, side="right"))
            before = int(ends[i]) - len(records[i])
            upto = min(stop, int(ends[i]))
            rows[at - start : upto - start] = records[i].read(at - before, upto - before)
            at = upto
        return rows

    notes = list(dict.fromkeys(note for record in records for note in record.notes))
    each = "" if len(ends) == 1 else f"{len(ends):,} files by name, {records[0].source} to {records[-1].source}"
    return Record(
        source,
        (int(ends[-1]), *first.shape[1:]),
        first.dtype,
        read,
        first.kind,
        first.channel_axis,
        labels=None if first.labels is None else np.concatenate([r.labels for r in records if r.labels is not None]),
        sampling_rate=first.sampling_rate,
        columns=first.columns,
        categories=first.categories,
        target=None
        if first.target is None
        else joined(f"{source}: target", [r.target for r in records if r.target is not None]),
        picks=None if first.picks is None else np.concatenate([r.picks for r in records if r.picks is not None]),
        recorded=_recorded(records),
        notes=tuple(note for note in (each, *notes) if note),
        block=first.block,
    )


def usual(records: list[Record]) -> Record:
    """The first of the commonest sort: those of other sorts are told apart from it."""
    sorts = [(record.shape[1:], *(getattr(record, name) for name in ALIKE), *_beside(record)) for record in records]
    return records[sorts.index(Counter(sorts).most_common(1)[0][0])]


def _beside(record: Record) -> list[bool]:
    return [getattr(record, name) is not None for name in BESIDE]


def is_alike(first: Record, other: Record) -> bool:
    """Whether their rows can be joined."""
    return not _difference(first, other)


def _difference(first: Record, other: Record) -> str:
    """What keeps two records apart, and what to do, in words; empty where nothing does."""
    remedy = "the files of one data set are alike: name those that are, as in 'folder/2024-*.npy'"
    if first.shape[1:] != other.shape[1:]:
        one, two = times(first.shape[1:]), times(other.shape[1:])
        return f"{other.source}: has rows of {two}, {first.source} of {one}; {remedy}"
    for name, words in ALIKE.items():
        one, two = getattr(first, name), getattr(other, name)
        if one != two:
            return f"{other.source}: has {words} {shown(str(two))}, {first.source} {shown(str(one))}; {remedy}"
    for name in BESIDE:
        having = [record for record in (first, other) if getattr(record, name) is not None]
        if len(having) == 1:
            without = other if having[0] is first else first
            return f"{without.source}: has no {name}, {having[0].source} has; give all files {name}, or none"
    return ""


def _recorded(records: list[Record]) -> Recorded | None:
    """Where and when, if every file tells it."""
    found = [record.recorded for record in records]
    told = [each for each in found if each is not None]
    if len(told) < len(found):
        return None
    before = np.cumsum([0, *(len(record) for record in records)])
    starts = [each.starts for each in told if each.starts is not None]
    gaps = [each.gaps + np.array([first, 0, 0]) for each, first in zip(told, before, strict=False)]
    return Recorded(
        tuple(name for each in told for name in each.stations) if all(each.stations for each in told) else (),
        np.concatenate(starts) if len(starts) == len(told) else None,
        np.concatenate(gaps),
        sum(each.filled for each in told),
    )
