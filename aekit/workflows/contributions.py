"""Which columns of a table make the score of a row: a word's column of 0 and 1 counts for the column of the word."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aekit import inference, tables
from aekit.records import Record
from aekit.trained import TrainedModel

NAMED = 3  # columns of a row
LEAST = 0.005  # share of a score that is told


@dataclass(frozen=True)
class Columns:
    """The columns of a table as it was read, and which of them each value of the model's samples is of."""

    names: tuple[str, ...]
    place: NDArray[np.int64]  # (N,)


def columns_of(trained: TrainedModel, record: Record) -> Columns | None:
    """Of a table as it was read; None of anything else."""
    if record.kind != "table":
        return None
    values = trained.columns or tuple(f"column {i + 1}" for i in range(trained.sample_shape[-1]))
    owners = tables.owners(record, values)
    names = tuple(dict.fromkeys(owners))
    place = {name: i for i, name in enumerate(names)}
    return Columns(names, np.array([place[name] for name in owners]))


def shares(
    trained: TrainedModel, record: Record, run: inference.Run, rows: NDArray[np.int64], columns: Columns
) -> Iterator[NDArray[np.float32]]:
    """What each column has in the scores of these rows, in rising order: (K, columns), each row 1 in all; in parts."""
    for errors in inference.error_maps(trained, record, run, rows):
        total = np.zeros((len(columns.names), len(errors)), np.float32)
        np.add.at(total, columns.place, errors[:, 0].T)
        yield (total / np.maximum(total.sum(axis=0), 1e-30)).T


def named(
    trained: TrainedModel, record: Record, run: inference.Run, flagged: NDArray[np.bool_], columns: Columns
) -> NDArray[np.object_]:
    """In words the columns that have most in the score of each flagged row; nothing of the other rows."""
    words = np.full(len(flagged), "", object)
    rows = np.flatnonzero(flagged)
    words[rows] = [line for part in shares(trained, record, run, rows, columns) for line in told(part, columns.names)]
    return words


def told(shares: NDArray[np.float32], names: Sequence[str]) -> list[str]:
    """As in "v3 62%; v7 21%", of each row of (K, columns) the columns that have most."""
    order = np.argsort(-shares, axis=1, kind="stable")[:, :NAMED]
    kept = [(row, [i for i in best if row[i] >= LEAST] or best[:1]) for row, best in zip(shares, order, strict=True)]
    return ["; ".join(f"{names[i]} {row[i]:.0%}" for i in best) for row, best in kept]
