"""What flows through aekit: a Record comes out of a file, a Batch goes into a model, an Output comes out of it.

The three are plain data and import nothing of aekit's, so that readers, models and verbs can share them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.generic]
Kind = Literal["image", "series", "table"]

MOST_CHANNELS = 16  # a shorter axis than this beside one at least four times as long is channels, not height


class Recorded(NamedTuple):
    """Where and when the rows of a series were recorded, and where nothing was and the reader filled it up."""

    stations: tuple[str, ...]  # of each row; empty where the format has none
    starts: NDArray[np.datetime64] | None  # (rows,), UTC, of each row's first point
    gaps: NDArray[np.int64]  # (gaps, 3): row, first point, the point behind the last, where no channel has data
    filled: int  # values that were not recorded, over all rows and channels


@dataclass(frozen=True)
class Record:
    """Rows of one array with their source, sampling rate and labels; nothing is read until `read` is called.

    `shape` is (rows, *item) as stored. `read(start, stop)` gives those rows as stored, `dtype` included; what it
    returns may be a view of one buffer that the next call overwrites, so a file of any size needs one buffer.
    `channel_axis` is the axis of `shape` that holds channels, or None; `header` is what a writer of the same format
    needs to write it back (a CSV's column line, an HDF5 data set's name), private to formats.py.
    """

    source: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    read: Callable[[int, int], Array]
    kind: Kind
    channel_axis: int | None = None
    labels: Array | None = None  # (rows,)
    sampling_rate: float | None = None  # Hz
    columns: tuple[str, ...] = ()  # a table's names, one per value; of a series by point one per channel
    categories: tuple[
        tuple[str, ...], ...
    ] = ()  # the words of each column, whose values are their places; () of numbers
    target: "Record | None" = None  # paired data: the clean counterpart of each row
    picks: NDArray[np.int64] | None = None  # (rows, 2), the points at which P and S arrive; -1 where there is none
    recorded: Recorded | None = None
    by_point: bool = False  # its one row is a single series, whose points are judged each by itself
    point_labels: Array | None = None  # (T,), the labels of such a row
    notes: tuple[str, ...] = ()  # what the reader found out or left out, for the user
    header: object = None
    first: int = 0  # the place in its file of its first row
    block: int = 1  # rows, counted from the first, that lie together in the file and are best read together

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(C, T) of a series or table row, (C, H, W) of an image."""
        item = self.shape[1:]
        if self.channel_axis is None:
            return (1, *item)
        axis = self.channel_axis - 1
        return (item[axis], *item[:axis], *item[axis + 1 :])

    @property
    def values_per_row(self) -> int:
        return math.prod(self.shape[1:])

    def to_samples(self, rows: Array) -> Array:
        """Stored rows (B, *item) as samples (B, C, ...), a view."""
        return rows[:, None] if self.channel_axis is None else np.moveaxis(rows, self.channel_axis, 1)

    def from_samples(self, samples: Array) -> Array:
        """Samples (B, C, ...) in the layout of the file, (B, *item), a view."""
        return samples[:, 0] if self.channel_axis is None else np.moveaxis(samples, 1, self.channel_axis)


def times(shape: tuple[int, ...]) -> str:
    """(1, 28, 28) as 1x28x28, for messages."""
    return "x".join(map(str, shape))


def record_of(
    array: Array, source: str = "array", labels: Array | None = None, sampling_rate: float | None = None
) -> Record:
    """An array in memory, (rows, *item), as a Record whose kind and channel axis are guessed from its shape."""
    kind, channel_axis = guess_layout(array.shape)
    return Record(
        source,
        array.shape,
        array.dtype,
        lambda start, stop: array[start:stop],
        kind,
        channel_axis,
        labels=labels,
        sampling_rate=sampling_rate,
    )


def guess_layout(shape: tuple[int, ...]) -> tuple[Kind, int | None]:
    """Kind and channel axis of an array (rows, *item).

    (rows, T) is a series; (rows, A, B) is a series of few channels where one axis is short and the other at least four
    times as long, else a grey image; (rows, A, B, C) is an image whose channels, 1 to 4, lie last or first.
    """
    if len(shape) <= 2:
        return "series", None
    if len(shape) == 3:
        first, last = shape[1:]
        if first <= MOST_CHANNELS and last >= 4 * first:
            return "series", 1
        if last <= MOST_CHANNELS and first >= 4 * last:
            return "series", 2
        return "image", None
    if len(shape) == 4 and shape[3] <= 4:
        return "image", 3
    return "image", 1


PIECE = 1 << 25  # bytes that are read at a time
NEAR = 1 << 16  # bytes between rows that cost no more to read than to pass over


def gather(record: Record, rows: NDArray[np.int64]) -> Array:
    """The named rows as stored (n, *item), in that order; those near each other are read at once."""
    found = np.empty((len(rows), *record.shape[1:]), record.dtype)
    row_bytes = max(1, record.values_per_row * record.dtype.itemsize)
    near, piece = max(record.block, NEAR // row_bytes), max(1, PIECE // row_bytes)
    order = np.argsort(rows, kind="stable")
    rising = rows[order]
    ends = np.flatnonzero((np.diff(rising) > 1) & (np.diff(rising // near) > 0)) + 1
    for places in np.split(order, ends):
        wanted = rows[places]
        for start in range(int(wanted[0]), int(wanted[-1]) + 1, piece) if len(wanted) else ():
            part = slice(*np.searchsorted(wanted, (start, start + piece)))
            read = record.read(start, min(start + piece, int(wanted[-1]) + 1))
            found[places[part]] = read[wanted[part] - start]
    return found


def select(record: Record, rows: NDArray[np.int64]) -> Record:
    """The named rows of a record, in that order, read as they are asked for."""
    labels = None if record.labels is None else record.labels[rows]
    target = None if record.target is None else select(record.target, rows)
    picks = None if record.picks is None else record.picks[rows]
    return replace(
        record,
        shape=(len(rows), *record.shape[1:]),
        read=lambda start, stop: gather(record, rows[start:stop]),
        labels=labels,
        target=target,
        picks=picks,
        recorded=None,
        by_point=False,
        point_labels=None,
        first=0,
        block=1,
    )


def rows_of(record: Record, start: int, stop: int) -> Record:
    """The values of these rows of a record, read as they are asked for, without what the file tells beside them."""
    return replace(
        record,
        shape=(stop - start, *record.shape[1:]),
        read=lambda first, last: record.read(start + first, start + last),
        labels=None,
        target=None,
        picks=None,
        recorded=None,
        first=record.first + start,
    )


class Batch(NamedTuple):
    """B normalised samples: what the model sees, what it is to give back, and how to return to the file's units."""

    x: Tensor  # (B, C, ...), after corruption
    target: Tensor  # (B, C, ...); x before corruption unless the data is paired
    offset: Tensor  # broadcasts against x: value in the file = x * scale + offset
    scale: Tensor
    picks: Tensor | None = None  # (B, 3, T), probability of detection, P and S at each time point, where they are known
    label: Tensor | None = None  # (B,), int64, the class by its place among the classes, where they are known
    row: Tensor | None = None  # (B,), int64, places among the rows of training

    def part(self, rows: slice) -> "Batch":
        """Some of at least two samples."""
        size = len(self.x)
        x, *rest = (t if t is None or len(t) != size else t[rows] for t in self)
        assert x is not None
        return Batch(x, x if self.target is self.x else rest[0], *rest[1:])  # type: ignore[arg-type]


class Output(NamedTuple):
    """What every model returns; a model that brings its own target or weights (masks, patches) says so here."""

    x_hat: Tensor  # (B, C, ...)
    z: Tensor | None  # (B, D)
    penalty: Tensor  # (B,), the model's own regulariser per sample; zeros for a plain autoencoder
    target: Tensor | None = None  # replaces the batch's target
    weight: Tensor | None = None  # (B, C, ...), weights of the error
