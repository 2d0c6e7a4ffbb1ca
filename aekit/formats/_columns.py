"""What the columns of a table with names are: numbers, words, times, an index, labels, or of no use.

- A column holds words where none of its first 20 cells that are not missing is a number; its values are the places of
  its words in sorted order. Dates and words that hardly ever come again (names, ids) are left out.
- Rows are the points of one series where a column tells even times, or where there is one column of data alone.

What is left out, and times, are kept as text, so that the file is written back with them.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aekit.errors import AekitError
from aekit.formats import _clock
from aekit.formats._registry import Contents, Stored, label_array, once, shown
from aekit.records import Array

MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?"))
TIME_NAMES = ("time", "timestamp", "date", "datetime")
FIRST_CELLS = 20  # that tell whether a column holds words
FEW_WORDS = 50  # so many are never taken for names or ids
MOST_WORDS = 1000  # each becomes a column of the model


class Aside(NamedTuple):
    """A column that is no data, as it is written back."""

    at: int  # its place among the columns that are written
    name: str
    cells: tuple[str, ...]


class Layout(NamedTuple):
    """Record.header of a text file: how its rows are written."""

    separator: str | None = None  # None: spaces
    names: tuple[str, ...] = ()  # of the data's columns
    label: str | None = None  # name of the label column, "" where it has none
    label_at: int = 0  # its place among the columns that are written
    aside: tuple[Aside, ...] = ()  # in the order of their places


def times_of(header: object) -> tuple[str, ...] | None:
    """The times of the points, as they stand in a file that was read as one series; None where it tells none."""
    aside = header.aside if isinstance(header, Layout) else ()
    named = [column for column in aside if column.name]  # an index without a name counts rows
    return next((column.cells for column in named if _clock.seconds(column.cells) is not None), None)


@dataclass(frozen=True, eq=False)
class Column:
    at: int  # its place in the file
    name: str
    values: NDArray[np.float64]  # (rows,), of a column of words their places in `words`
    words: list[str] | None = None  # in the order in which they came

    @property
    def cells(self) -> tuple[str, ...]:
        """Of a column of words, as they stand in the file."""
        words = self.words or []
        return tuple(words[int(place)] for place in self.values)


class Labels(NamedTuple):
    at: int
    name: str
    cells: list[str]


def number_in(cell: str) -> float:
    """The number in a cell, NaN where it is missing; raises ValueError."""
    cell = cell.strip()
    if cell.lower() in MISSING:
        return np.nan
    if "_" in cell:  # which Python allows inside of numbers
        raise ValueError(cell)
    return float(cell)


def is_text(cell: str) -> bool:
    try:
        number_in(cell)
    except ValueError:
        return True
    return False


def has_decimal_comma(cell: str) -> bool:
    return re.fullmatch(r"\s*-?\d+,\d+\s*", cell) is not None


def worded(rows: Iterable[Sequence[str]], places: Iterable[int]) -> dict[int, str]:
    """Which of these columns hold words, each with its first one; reads on until all of them have told."""
    first: dict[int, str] = {}
    told = dict.fromkeys(places, 0)
    for cells in rows:
        for i in list(told):
            cell = cells[i].strip()
            if cell.lower() in MISSING:
                continue
            if not is_text(cell) or has_decimal_comma(cell):
                del told[i]
                first.pop(i, None)
                continue
            first.setdefault(i, cell)
            told[i] += 1
            if told[i] == FIRST_CELLS:
                del told[i]
        if not told:
            break
    return first


def time_at(names: Sequence[str], words: dict[int, str], places: Iterable[int]) -> int | None:
    """Which of these columns may tell the times of the rows: one called so, else one of dates."""
    free = list(places)
    called = [i for i in free if names[i].strip().lower() in TIME_NAMES and words.get(i, "0")[0].isdigit()]
    dates = [i for i in free if i in words and _clock.is_iso(words[i])]
    return next(iter(called + dates), None)


def contents(
    path: Path,
    name: str,
    data: list[Column],
    index: Column | None,
    time: Column | None,
    labels: Labels | None,
    separator: str | None,
) -> Contents:
    """A table of numbers and words called `name`, or one series where its rows are points in time.

    Columns of index and times are given as words; the one of times is among the data too where it was asked for.
    """
    rest, rate, notes = _timed(data, time)
    left = {column.at: why for column in rest if column.words is not None and (why := _useless(column))}
    kept = [column for column in rest if column.at not in left]
    alone = len(kept) == 1 and kept[0].words is None and not left
    by_point = rate is not None or alone
    if by_point:
        left |= {column.at: "words" for column in kept if column.words is not None}
        kept = [column for column in kept if column.words is None]
    if not kept:
        raise AekitError(f"{path}: has no column of numbers, nor of words that come again; name a file with data")
    notes += [f"column {shown(c.name)} holds {left[c.at]} and is left out" for c in rest if c.at in left]
    if alone and rate is None:
        notes.append(f"column {shown(kept[0].name)} is one series: each row is a point of it")

    timed = [time] if time is not None and time.at not in {column.at for column in kept} else []
    aside = [*([] if index is None else [index]), *timed, *(column for column in rest if column.at in left)]
    written = sorted({column.at for column in (*kept, *aside)} | ({labels.at} if labels else set()))
    header = Layout(
        separator,
        tuple(column.name for column in kept),
        labels.name if labels else None,
        written.index(labels.at) if labels else 0,
        tuple(
            Aside(written.index(at), name, cells) for at, name, cells in sorted((c.at, c.name, c.cells) for c in aside)
        ),
    )
    sorted_words = [tuple(sorted(set(map(_known, column.words or ())))) for column in kept]
    values = np.stack([_places(column, words) for column, words in zip(kept, sorted_words, strict=True)], axis=1)
    for words, places, column in zip(sorted_words, values.T, kept, strict=True):
        if "" in words:
            empty = np.count_nonzero(places == words.index(""))
            notes.append(
                f"column {shown(column.name)} has no word in {empty:,} of {len(values):,} rows, taken as a word"
            )
    is_table = (not by_point and are_named(header.names)) or any(sorted_words)
    channels = by_point and len(kept) > 1
    if by_point:
        values = values[None] if channels else values.T
    arrays = {name: in_memory(values, rate)}
    if labels:
        arrays[labels.name] = in_memory(label_array(labels.cells))
    return Contents(
        arrays,
        "table" if is_table else "series",
        2 if channels else None,
        labels.name if labels else None,
        header.names if is_table or channels else (),
        header=header,
        categories=tuple(sorted_words) if any(sorted_words) else (),
        by_point=by_point,
        notes=tuple(notes),
    )


def are_named(columns: Iterable[str]) -> bool:
    """Whether columns have names of their own, no mere numbers, and so are a table and no points of series."""
    return any(not re.fullmatch(r"(att)?\d+", name) for name in columns)


def in_memory(values: Array, sampling_rate: float | None = None) -> Stored:
    return Stored(values.shape, values.dtype, once(lambda: values), sampling_rate)


def _timed(data: list[Column], time: Column | None) -> tuple[list[Column], float | None, list[str]]:
    """The data without the times, the sampling rate where they are even, and what the user should know of them."""
    if time is None:
        return data, None, []
    rest = [column for column in data if column is not time]
    name = shown(time.name) or "1"
    times = _clock.seconds(time.cells)
    even = None if times is None else _clock.even_step(times)
    if even is not None:
        step, odd = even
        gaps = f", but for {odd:,}" if odd else ""
        return (
            rest,
            float(f"{1 / step:.9g}"),
            [f"its rows are one series: column {name} tells steps of {step:g} s{gaps}"],
        )
    goes_back = times is not None and bool((np.diff(times) < 0).any())
    if goes_back and time in data and not is_text(time.cells[0]):  # a number like any other
        numbers = replace(time, values=np.array([float(cell) for cell in time.cells]), words=None)
        return [numbers if column is time else column for column in data], None, []
    why = "times that go back" if goes_back else "uneven times"
    why = "no times as 2024-01-31 12:00:00" if times is None else why
    return rest, None, [f"column {name} holds {why} and is left out"]


def _useless(column: Column) -> str:
    """Why a column of words is of no use to a model, "" where it is of use."""
    words, rows = [word for word in column.words or () if _known(word)], len(column.values)
    if all(map(_clock.is_date, words[:FIRST_CELLS])):
        return "dates"
    if len(words) > MOST_WORDS or (len(words) > FEW_WORDS and 2 * len(words) > rows):
        return f"{len(words):,} different words in {rows:,} rows"
    return ""


def _known(word: str) -> str:
    """The word, "" for each way to write that it is missing."""
    return "" if word.strip().lower() in MISSING else word


def _places(column: Column, words: tuple[str, ...]) -> NDArray[np.float64]:
    """The values of a column; of words their places among these."""
    if column.words is None:
        return column.values
    place = {word: float(k) for k, word in enumerate(words)}
    return np.array([place[_known(word)] for word in column.words])[column.values.astype(np.int64)]
