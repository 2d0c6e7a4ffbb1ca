"""The data of a training run that does not fit in memory: looked through once, then read chunk by chunk."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aekit import ranks
from aekit.batches import Normalisation, Rows, Survey, read_all, read_samples, to_rows
from aekit.errors import UsageError
from aekit.records import Kind, Record, select
from aekit.settings import is_a
from aekit.streaming import Stream, free_memory, look_through
from aekit.workflows.common import Talk

LOOKED_AT = 20_000  # rows that stand for all of them in the report, in PCA and in the mixture
LOOKED_AT_VALUES = 1 << 26


@dataclass
class Streamed:
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
        if not is_a(asked, int) or asked < 0:
            raise UsageError(f"--set buffer={asked}: a number of rows to shuffle at a time; 0 holds all in memory")
        return int(asked)
    values, stored = record.values_per_row * (1 if record.target is None else 2), record.dtype.itemsize
    used = stored if stored == 1 else 4  # bytes of a value that is trained on: those of one byte stay as they are
    limit = min(ranks.merged({ranks.number(): free_memory(where)}).values()) // 2
    needed = len(record) * values * (stored + 2 * used)
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
) -> Streamed:
    """The rows of a record but those held out, which rise, as a stream; `places` (N,) are those of their classes.

    `choose` gives the normalisation, of some samples as stored and the survey of all.
    """
    talk.say(f"{record.source}: rows are read as they are needed, {buffer:,} at a time are shuffled")
    with talk.track("looking through the data", len(record)) as advance:
        whole, digest = look_through(record, kind, advance)
    behind = np.concatenate([held, [len(record)]])
    kept = np.stack([np.concatenate([[0], held + 1]), behind], axis=1)
    kept = kept[kept[:, 0] < kept[:, 1]]
    sizes = np.cumsum(kept[:, 1] - kept[:, 0])
    most = min(LOOKED_AT, max(1, LOOKED_AT_VALUES // record.values_per_row))
    nth = np.sort(np.random.default_rng(0).choice(sizes[-1], min(most, sizes[-1]), replace=False, shuffle=False))
    stretch = np.searchsorted(sizes, nth, side="right")
    looked_at = kept[stretch, 1] - (sizes[stretch] - nth)

    some, val = select(record, looked_at), select(record, held)
    raw = read_all(some)
    normalisation = choose(raw, whole)

    def rows_of(part: Record, samples: NDArray[Any], rows: slice | NDArray[np.int64]) -> Rows:
        goal = None if part.target is None else read_samples(part.target, 0, len(part)).copy()
        return to_rows(samples, normalisation, goal, part.picks, None if places is None else places[rows])

    def make(start: int, stop: int) -> Rows:
        goal = None if record.target is None else read_samples(record.target, start, stop)
        picks = None if record.picks is None else record.picks[start:stop]
        own = None if places is None else places[start:stop]
        return to_rows(read_samples(record, start, stop), normalisation, goal, picks, own)

    held_raw = read_all(val) if len(held) else raw[:0]
    stream = Stream(
        make=make,
        kept=kept,
        row_bytes=record.values_per_row * record.dtype.itemsize,
        block=record.block,
        buffer=buffer,
        digest=digest,
        device=where,
    )
    both = np.concatenate([looked_at, held])
    return Streamed(
        stream,
        rows_of(some, raw, looked_at),
        rows_of(val, held_raw, held),
        np.concatenate([raw, held_raw]),
        None if record.labels is None else record.labels[both],
        normalisation,
    )
