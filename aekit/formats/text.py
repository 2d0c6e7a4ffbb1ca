"""Tables and series as text: .csv, .tsv, .txt and .arff, also gzipped.

Separator, header and label column are found out by the rules below. The whole file is read when it is opened, since
its shape is not known before; numbers become float64, missing ones NaN, and nothing else passes for a number.

- A header is a first line of names: no number among them, or each name above a number. pandas' 0,1,2,... counts too.
- Labels are the column that the user names, or one called y, label(s), target, class, is_anomaly or anomaly (y beside
  x is a coordinate). Without a header they are the first or last column where it holds text, or the first where it
  holds few whole numbers beside columns that do not, as in the UCR archive. Columns without names are called 1, 2, 3
  and so on.
- A first column without a name, as pandas and R write it, is an index and no data.
- What the columns below a header are is told in _columns.py. A single column without a header is one series.
"""

import contextlib
import csv
import gzip
import itertools
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO, cast

import numpy as np
from numpy.typing import NDArray

from aekit.errors import AekitError
from aekit.formats._columns import (
    Column,
    Labels,
    Layout,
    contents,
    has_decimal_comma,
    in_memory,
    is_text,
    number_in,
    worded,
)
from aekit.formats._columns import time_at as find_time
from aekit.formats._raw import check_unzipped, most_unzipped
from aekit.formats._registry import LABEL_NAMES, Contents, Want, label_array, listed, reader, reading, shown
from aekit.records import Array

LONGEST_LINE = 1 << 28  # characters; what unzips to one line without an end must not fill the memory
MOST_CLASSES = 100  # of unnamed labels

Lines = Iterator[tuple[int, str]]  # line number and text
Split = Callable[[str], list[str]]


@reader(".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
def read_text(path: Path, want: Want) -> Contents:
    with _lines(path, "#") as lines:
        first = next(lines, None)
        second = next(lines, None)
        if first is None:
            raise AekitError(f"{path}: holds no rows; name a file with data")
        separator = _separator(first[1], second[1] if second else first[1], want.labels_only)
        split = _splitter(separator, '"')
        cells = [cell.strip() for cell in split(first[1])]
        if _is_header(cells, split(second[1]) if second else [], want):
            names, top = cells, [second]
        else:
            names, top = [], [first, second]
        body = itertools.chain([line for line in top if line], lines)
        return _table(path, body, split, names, want, separator)


@reader(".arff", ".arff.gz")
def read_arff(path: Path, want: Want) -> Contents:
    names, types = [], []
    with _lines(path, "%") as lines:
        for number, line in lines:
            if line.lower().startswith("@data"):
                break
            if line.lower().startswith("@attribute"):
                parts = re.match(r"""\S+\s+('[^']*'|"[^"]*"|\S+)\s+(.+)""", line)
                if not parts:
                    raise AekitError(f"{path}: line {number}: is no '@attribute NAME TYPE'; mend the line")
                names.append(parts[1].strip("'\""))
                types.append(parts[2].strip().lower())
        if not names:
            raise AekitError(f"{path}: has no @attribute lines; is this an ARFF file?")
        nominal = names[-1] if types[-1].startswith("{") else None
        return _table(path, lines, _splitter(",", "'"), names, want, ",", nominal)


@contextlib.contextmanager
def _lines(path: Path, comment: str) -> Iterator[Lines]:
    """The lines of a file, numbered from 1, without comments at the top and blank lines at the end."""

    def numbered(f: TextIO) -> Lines:
        blank, started, unzipped = 0, False, 0
        most = most_unzipped(path) if path.suffix.lower() == ".gz" else None
        longest = min(LONGEST_LINE, most or LONGEST_LINE)
        for number in itertools.count(1):
            line = f.readline(longest)
            unzipped += len(line)
            if len(line) == longest:
                raise AekitError(f"{path}: line {number}: has more than {longest} characters; is this a text file?")
            if most is not None and unzipped > most:
                check_unzipped(path, unzipped)
            if not line:
                return
            line = line.rstrip("\n")
            if not line.strip():
                blank += started
            elif started or not line.startswith(comment):
                for before in range(blank, 0, -1):
                    yield number - before, ""
                blank, started = 0, True
                yield number, line

    with reading(path, csv.Error), open_text(path) as f:
        try:
            yield numbered(f)
        except UnicodeDecodeError as error:
            raise AekitError(f"{path}: is no UTF-8 text ({shown(str(error))}); save it as UTF-8 text") from error


def open_text(path: Path) -> TextIO:
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    return cast(TextIO, opened(path, "rt", encoding="utf-8-sig"))


def _separator(first: str, second: str, labels_only: bool) -> str | None:
    """The separator that the first line shows: tab, semicolon or comma, in that order; None for spaces."""
    words = len(first.split())
    spaced = words > 1 and words == len(second.split()) and not labels_only
    return next((sign for sign in ("\t", ";", ",") if sign in first), None if spaced else ",")


def _splitter(separator: str | None, quote: str) -> Split:
    def split(line: str) -> list[str]:
        if quote not in line:
            return line.split(separator)
        return next(csv.reader([line], delimiter=separator or " ", quotechar=quote, skipinitialspace=True))

    return split


def _is_header(first: list[str], second: list[str], want: Want) -> bool:
    texts = [is_text(cell) for cell in first]
    if not any(texts):
        rest = first[1:] if first[0] == "" else first
        return len(rest) > 2 and rest == [str(i) for i in range(len(rest))] and any("." in cell for cell in second)
    if len(first) == 1:
        named = first[0].lower() in LABEL_NAMES or first[0] in (want.labels, want.name)
        return named or (bool(second) and not is_text(second[0]))
    if all(text or cell == "" for text, cell in zip(texts, first, strict=True)):
        return True
    above_numbers = any(text and not is_text(cell) for text, cell in zip(texts, second, strict=False))
    return above_numbers and all(text or cell.isdigit() for text, cell in zip(texts, first, strict=True))


def _table(
    path: Path,
    lines: Lines,
    split: Split,
    names: list[str],
    want: Want,
    separator: str | None,
    label: str | None = None,
) -> Contents:
    """The rows below the header as the data's columns and the label column; `label` names it where the format does."""
    top = next(lines, None)
    if top is None:
        raise AekitError(f"{path}: holds no rows; name a file with data")
    lines = itertools.chain([top], lines)
    cells = split(top[1])
    known = names or [str(i + 1) for i in range(len(cells))]
    index_at = 0 if names and names[0] == "" and len(names) > 1 else None
    chosen = positions(path, want.name, known)
    label_at = label_place(known, cells, want, [*chosen, *([] if index_at is None else [0])], bool(names), label)
    if want.labels_only:
        if label_at is None:
            raise AekitError(f"{path}: has columns {listed(known)}; name the labels: {path}:{shown(known[-1])}")
        rows = _parse(path, lines, split, known, [], {}, label_at)
        return Contents({known[label_at]: in_memory(label_array(rows.labels))}, labels=known[label_at])
    if not want.name:
        chosen = [i for i in range(len(known)) if i not in (index_at, label_at)]
    if not names:
        rows = _parse(path, lines, split, known, chosen, {}, label_at)
        return _without_names(rows, known, cells, label_at, want, separator)
    free = [i for i in range(len(known)) if i != label_at]
    words, lines = _look_ahead(lines, split, len(known), free)
    time_at = find_time(known, words, [i for i in free if not (want.name and i in chosen)])
    aside = [i for i in (index_at, time_at) if i is not None]
    columns = list(dict.fromkeys([*chosen, *aside]))
    as_words: dict[int, dict[str, int]] = {i: {} for i in columns if i in words or i in aside}
    rows = _parse(path, lines, split, known, columns, as_words, label_at)
    found = {
        i: Column(i, known[i], rows.data[:, k], list(as_words[i]) if i in as_words else None)
        for k, i in enumerate(columns)
    }
    return contents(
        path,
        want.name or "",
        [found[i] for i in chosen],
        None if index_at is None or index_at == time_at else found[index_at],
        None if time_at is None else found[time_at],
        None if label_at is None else Labels(label_at, known[label_at], rows.labels),
        separator,
    )


def _look_ahead(lines: Lines, split: Split, width: int, places: list[int]) -> tuple[dict[int, str], Lines]:
    """Which of these columns hold words, and the lines again."""
    seen: list[tuple[int, str]] = []

    def rows() -> Iterator[list[str]]:
        for number, line in lines:
            seen.append((number, line))
            cells = split(line) if line else [""] * width
            if len(cells) != width:
                return  # which the parser tells
            yield cells

    found = worded(rows(), places)
    return found, itertools.chain(seen, lines)


def _without_names(
    rows: "_Rows", known: list[str], cells: list[str], label_at: int | None, want: Want, separator: str | None
) -> Contents:
    data, labels = rows.data, label_array(rows.labels)
    if label_at is None and not want.name and _begins_with_classes(data, cells):
        labels, data, label_at = data[:, 0].astype(np.int64), data[:, 1:].copy(), 0
    by_point = data.shape[1] == 1
    arrays = {want.name or "": in_memory(data.T if by_point else data)}
    label = None if label_at is None else known[label_at]
    if label is not None:
        arrays[label] = in_memory(labels)
    header = Layout(separator, (), None if label_at is None else "", label_at or 0)
    notes = ("its one column is one series: each row is a point of it",) if by_point else ()
    return Contents(arrays, "series", labels=label, header=header, by_point=by_point, notes=notes)


def positions(path: Path, name: str | None, known: list[str]) -> list[int]:
    """Places of the columns that `file.csv:a,b` names."""
    wanted = name.split(",") if name else []
    for column in wanted:
        if column not in known:
            raise AekitError(f"{path}: has no column {shown(column)!r}; it has {listed(known)}")
    return [known.index(column) for column in wanted]


def label_place(
    known: list[str], cells: list[str], want: Want, taken: Sequence[int], named: bool, label: str | None
) -> int | None:
    """Place of the label column, or None; `taken` are the columns that are something else."""
    if want.labels in known:
        return known.index(want.labels)
    if want.labels_only and want.name:
        return known.index(want.name)
    if want.labels_only and len(known) == 1:
        return 0
    lower = [name.lower() for name in known]
    free = [i for i in range(len(known)) if i not in taken]
    if not want.name and len(free) < 2:
        return None
    if named:
        names = [n for n in LABEL_NAMES if n != "y" or "x" not in lower]
        found = [lower.index(name) for name in names if name in lower] + ([known.index(label)] if label else [])
    else:
        found = [i for i in (0, len(cells) - 1) if is_text(cells[i])]
    return next((i for i in found if i in free), None)


def _begins_with_classes(data: Array, cells: list[str]) -> bool:
    """Whether the first column is a class, as in UCR files: few whole numbers beside columns that are not whole."""
    if data.shape[0] < 2 or data.shape[1] < 3:
        return False
    first, rest = data[:, 0], data[:, 1:]
    if not (np.isfinite(first).all() and (first % 1 == 0).all() and (np.abs(first) <= 1000).all()):
        return False
    classes = len(np.unique(first))
    if classes > min(MOST_CLASSES, len(first) // 2):
        return False
    if classes == 1 and not (re.fullmatch(r"\d+", cells[0]) and first[0] != 0):
        return False  # series that all begin at one value, say at 0.0
    with np.errstate(invalid="ignore"):
        return bool((rest % 1 != 0).any(axis=1).mean() > 0.5)


class _Rows(NamedTuple):
    data: NDArray[np.float64]  # (rows, columns)
    labels: list[str]


def _parse(
    path: Path,
    lines: Lines,
    split: Split,
    known: list[str],
    columns: list[int],
    as_words: dict[int, dict[str, int]],
    label_at: int | None,
) -> _Rows:
    """The cells of these columns as numbers; `as_words` gets the words of some, whose numbers are places in it."""
    values, labels = array("d"), []
    count = 0
    everything = columns == list(range(len(known)))
    convert = [_places_in(as_words[i]) if i in as_words else float for i in columns]
    for number, line in lines:
        if not line and len(known) > 1:
            continue
        cells = split(line) if line else [""]
        if len(cells) != len(known):
            raise AekitError(
                f"{path}: line {number}: has {len(cells)} columns, the lines above have {len(known)}; mend the line"
            )
        if label_at is not None:
            label = cells[label_at].strip()
            if label.lower() in ("", "?", "nan"):
                raise AekitError(f"{path}: line {number}: its label is missing; fill it in, or leave the line out")
            labels.append(label)
        picked = cells if everything else [cells[i] for i in columns]
        done = len(values)
        count += 1
        try:
            values.extend(
                [f(cell) for f, cell in zip(convert, picked, strict=True)] if as_words else map(float, picked)
            )
            if "_" in line:
                raise ValueError
        except ValueError:
            del values[done:]
            values.extend(_checked(path, number, cells, known, columns, as_words))
    data = np.frombuffer(values) if values else np.empty(0)
    return _Rows(data.reshape(count, len(columns)), labels)


def _places_in(words: dict[str, int]) -> Callable[[str], float]:
    """A function that gives a word its place among those that came before."""
    return lambda cell: words.setdefault(cell.strip(), len(words))


def _checked(
    path: Path, line: int, cells: list[str], known: list[str], columns: list[int], as_words: dict[int, dict[str, int]]
) -> Iterator[float]:
    for i in columns:
        if i in as_words:
            yield _places_in(as_words[i])(cells[i])
            continue
        try:
            yield number_in(cells[i])
        except ValueError:
            others = "name it as the labels, or name the columns to read after a colon"
            remedy = "write decimals with a point" if has_decimal_comma(cells[i]) else f"mend it, {others}"
            raise AekitError(
                f"{path}: line {line}, column {shown(known[i])}: {shown(cells[i], 40)!r} is not a number; {remedy}"
            ) from None
