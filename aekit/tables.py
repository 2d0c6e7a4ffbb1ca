"""Tables of numbers and words as a model takes them: a column of 0 and 1 for each word, no value missing.

Words become columns called "colour=red" (one-hot). A trained model's columns are those of its training data: a word
that it does not know is none of its words, so all columns of that word are 0. A value that is missing (NaN) is a fault
unless the user asks for the column's mean in the training data; a model trained so does it by itself ever after.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aekit.batches import CHUNK_BYTES
from aekit.errors import AekitError
from aekit.records import Array, Record

MISSING = ("error", "mean")  # what is done where a value is missing


class Gaps(NamedTuple):
    """Values that are missing: how many in how many rows, and where the first of them lies."""

    values: int
    rows: int
    row: int
    column: int


def encoded(record: Record, columns: Sequence[str] = ()) -> Record:
    """A table with columns "name=word" of 0 and 1 in place of each column of words; any other record as it is.

    With `columns`, those of a trained model, it is brought to these, in their order. Where one of them is of a column
    that the table does not have, or the other way round, it keeps its own, of which check_fits tells. Raises AekitError
    where columns beside words have one name.
    """
    if record.kind != "table" or not (record.categories or columns):
        return record
    own = _own(record)
    twice = next((name for name in record.columns if record.columns.count(name) > 1), None)
    if twice is not None and record.categories:
        raise AekitError(f"{record.source}: two columns are called {twice}; give each a name of its own")
    owners = [_owner(record, name) for name in columns]
    if twice is not None or set(owners) != set(record.columns):
        return _with_columns(record, own) if record.categories else record
    place = {name: i for i, name in enumerate(record.columns)}
    taken = {name: own.get(name, (place[str(of)], -1)) for name, of in zip(columns, owners, strict=True)}
    return record if tuple(taken) == record.columns else _with_columns(record, taken)


def _own(record: Record) -> dict[str, tuple[int, int | None]]:
    """Its columns by name, each with its place in the record and, where it stands for a word, the word's place."""
    found: dict[str, tuple[int, int | None]] = {}
    for i, (name, words) in enumerate(zip(record.columns, _words(record), strict=True)):
        found |= {f"{name}={word}": (i, k) for k, word in enumerate(words)} if words else {name: (i, None)}
    return found


def _words(record: Record) -> tuple[tuple[str, ...], ...]:
    return record.categories or ((),) * len(record.columns)


def _owner(record: Record, column: str) -> str | None:
    """The column of the record that a model's column is made of."""
    of_words = [n for n, words in zip(record.columns, _words(record), strict=True) if words]
    if column in record.columns and column not in of_words:
        return column
    return max((name for name in of_words if column.startswith(f"{name}=")), key=len, default=None)


def _with_columns(record: Record, columns: dict[str, tuple[int, int | None]]) -> Record:
    at = np.array([place for place, _ in columns.values()])
    word = np.array([np.nan if k is None else k for _, k in columns.values()])
    is_word = ~np.isnan(word)

    def read(start: int, stop: int) -> Array:
        rows: Array = record.read(start, stop)[:, at]
        rows[:, is_word] = rows[:, is_word] == word[is_word]
        return rows

    shape = (len(record), len(columns))
    return replace(record, shape=shape, read=read, columns=tuple(columns), categories=(), header=None)


def owners(record: Record, columns: Sequence[str]) -> tuple[str, ...]:
    """Of each column of a model the column of the table, as it was read, that it is made of."""
    return tuple(_owner(record, name) or name for name in columns)


def unknown_words(record: Record, columns: Sequence[str]) -> dict[str, tuple[list[str], int]]:
    """Of each column of words those that are no columns of a model, and in how many rows they are."""
    found = {}
    for i, (name, words) in enumerate(zip(record.columns, record.categories, strict=False)):
        strange = [k for k, word in enumerate(words) if f"{name}={word}" not in columns]
        if strange:
            rows = sum(int(np.isin(rows[:, i], strange).sum()) for _, rows in _parts(record))
            found[name] = ([words[k] for k in strange], rows)
    return found


def check_numbers(record: Record, verb: str) -> None:
    """Raises AekitError where a column holds words, which the verb cannot give back."""
    for name, words in zip(record.columns, record.categories, strict=False):
        if words:
            raise AekitError(
                f"{record.source}: column {name} holds words, which {verb} cannot give back; name the columns of "
                "numbers after a colon, as in table.csv:a,b"
            )


# --- missing values ---------------------------------------------------------------------------------------------------


def find_gaps(record: Record) -> Gaps | None:
    """The values that are missing in a table."""
    values = rows_with = 0
    first: tuple[int, int] | None = None
    for start, rows in _parts(record):
        missing = np.isnan(rows)
        values += int(missing.sum())
        rows_with += int(missing.any(axis=1).sum())
        if first is None and missing.any():
            row, column = (int(i) for i in np.argwhere(missing)[0])
            first = start + row, column
    return None if first is None else Gaps(values, rows_with, *first)


def column_means(record: Record, keep: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """The mean of the values that each column has, over the rows of `keep`; raises AekitError where it has none."""
    total, count = np.zeros(len(record.columns)), np.zeros(len(record.columns), np.int64)
    for start, rows in _parts(record):
        kept = rows if keep is None else rows[keep[start : start + len(rows)]]
        total += np.nansum(kept, axis=0, dtype=np.float64)
        count += (~np.isnan(kept)).sum(axis=0)
    if not count.all():
        name = record.columns[int(count.argmin())]
        raise AekitError(
            f"{record.source}: column {name} has no value in any row; name the other columns after a colon"
        )
    means: NDArray[np.float64] = total / count
    return means


def filled(record: Record, values: NDArray[np.float64]) -> Record:
    """The record with `values` (columns,) where one is missing."""

    def read(start: int, stop: int) -> Array:
        rows = record.read(start, stop)
        return np.where(np.isnan(rows), values.astype(rows.dtype), rows)

    return replace(record, read=read)


def _parts(record: Record) -> Iterator[tuple[int, NDArray[np.floating]]]:
    """(first row, rows as floats) through the whole table."""
    step = max(1, CHUNK_BYTES // max(1, record.values_per_row * record.dtype.itemsize))
    for start in range(0, len(record), step):
        rows = record.read(start, min(start + step, len(record)))
        yield start, rows.astype(np.promote_types(rows.dtype, np.float32), copy=False)
