"""The data of a training run that does not fit in memory: looked through once, then read chunk by chunk."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aekit import ranks
from aekit.batches import Normalisation, Rows, Survey, to_rows
from aekit.errors import UsageError
from aekit.records import Kind, Record, gather
from aekit.settings import is_a
from aekit.streaming import Stream, free_memory, look_through
from aekit.workflows.common import Talk

LOOKED_AT = 20_000  # rows that stand for all of them in the report, in PCA and in the mixture
LOOKED_AT_VALUES = 1 << 26


@dataclass
class Opened:
    """A stream, and what is kept in memory beside it: rows held out, and some of those that are trained on."""

    stream: Stream
    some: Rows
    val: Rows
    raw: NDArray[Any]  # (N, C, ...), as stored, of `some` and then of `val`
    labels: NDArray[Any] | None  # of raw
    normalisation: Normalisation


def buffer_of(record: Record, options: Mapping[str, Any], where: torch.device, talk: Talk) -> int:
    """Rows of the buffer that training goes through, 0 where all rows are held: as asked for, or as memory allows."""
    asked = options.get("buffer")
    if asked is not None:
        if not is_a(asked, float) or asked < 0 or asked != int(asked):
            raise UsageError(f"--set buffer={asked}: a number of rows to shuffle at a time; 0 holds all in memory")
        return int(asked)
    values, stored = record.values_per_row * (1 if record.target is None else 2), record.dtype.itemsize
    used = stored if stored == 1 else 4  # bytes of a value that is trained on: those of one byte stay as they are
    limit = min(ranks.merged({ranks.number(): free_memory(where)}).values()) // 2
    needed = len(record) * values * (stored + 2 * used + (0 if stored == 1 else 8))  # 8 while the scale is found
    if needed <= limit:
        return 0
    rows = max(1, ranks.count() * limit // (4 * values * used))
    talk.say(
        f"{record.source}: all rows would take {needed / 2**30:,.1f} GiB, and {2 * limit / 2**30:,.1f} GiB are free "
        f"(--set buffer=0 holds them all, buffer=ROWS so many rather than {rows:,})"
    )
    return rows


def open_stream(
    record: Record,
    kind: Kind,
    held: NDArray[np.int64],
    places: NDArray[np.int64] | None,
    choose: Callable[[NDArray[Any], Survey], Normalisation],
    buffer: int,
    where: torch.device,
    talk: Talk,
) -> Opened:
    """The rows of a record but those held out, which rise, as a stream; `places` (N,) are those of their classes.

    `choose` gives the normalisation, of some samples as stored and the survey of all.
    """
    talk.say(f"{record.source}: rows are read as they are needed, {buffer:,} at a time are shuffled")
    with talk.track("looking through the data", len(record)) as advance:
        whole, digest = look_through(record, kind, advance)
    most = min(LOOKED_AT, len(record) - len(held), max(1, LOOKED_AT_VALUES // record.values_per_row))
    nth = np.sort(np.random.default_rng(0).choice(len(record) - len(held), most, replace=False, shuffle=False))
    looked_at = nth + np.searchsorted(held - np.arange(len(held)), nth, side="right")
    raw = record.to_samples(gather(record, np.concatenate([looked_at, held])))
    normalisation = choose(raw[: len(nth)], whole)

    def make(rows: NDArray[np.int64]) -> Rows:
        goal = None if record.target is None else record.target.to_samples(gather(record.target, rows))
        picks = None if record.picks is None else record.picks[rows]
        own = None if places is None else places[rows]
        return to_rows(record.to_samples(gather(record, rows)), normalisation, goal, picks, own)

    stream = Stream(
        make=make,
        count=len(record),
        held=held,
        row_bytes=record.values_per_row * record.dtype.itemsize,
        block=record.block,
        buffer=buffer,
        digest=digest,
        device=where,
    )
    labels = None if record.labels is None else record.labels[np.concatenate([looked_at, held])]
    return Opened(stream, make(looked_at), make(held), raw, labels, normalisation)
