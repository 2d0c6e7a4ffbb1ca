"""Parquet, by pyarrow: a table of numbers and words with the same rules as a CSV's, see _columns.py.

Numbers alone are read as they are asked for, a batch at a time; a table with words, times or one column is read whole
when it is opened, as text is. Whole numbers are float64 unless the file declares that none is missing. Columns of lists
and other nested values are left out, and told.
"""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from aekit.errors import AekitError
from aekit.formats._columns import Column, Labels, Layout, are_named, contents, in_memory, worded
from aekit.formats._columns import time_at as find_time
from aekit.formats._registry import (
    FAULTS,
    Contents,
    Plan,
    Put,
    Stored,
    Want,
    label_array,
    library,
    listed,
    one_buffer,
    reader,
    reading,
    shown,
    writer,
)
from aekit.formats.text import label_place, positions
from aekit.records import Array

BATCH_ROWS = 1 << 14  # that are unpacked at a time
GROUP_ROWS = 1 << 16  # of what is written: equal arrays give equal files, however they come
MOST_ROWS = 1 << 24  # of a table that is read whole


class _Field(NamedTuple):
    """A column as the file declares it."""

    at: int
    name: str
    kind: str  # number, text or other
    dtype: np.dtype[np.generic]  # of a number, as an array holds it


@reader(".parquet", needs="pyarrow")
def read_parquet(path: Path, want: Want) -> Contents:
    with _opened(path) as file:
        rows, fields = file.metadata.num_rows, _fields(file)
        known = [field.name for field in fields]
        twice = next((name for name in known if known.count(name) > 1), None)
        if twice is not None:
            raise AekitError(f"{path}: two columns are called {shown(twice)}; give each a name of its own")
        if not rows or not fields:
            raise AekitError(f"{path}: holds no rows; name a file with data")
        usable = [field.at for field in fields if field.kind != "other"]
        chosen = positions(path, want.name, known) if want.name else usable
        label = label_place(known, [], want, chosen if want.name else [], True, None)
        labels = None if label is None else _labels(path, file, fields[label])
        if want.labels_only:
            if labels is None:
                raise AekitError(f"{path}: has columns {listed(known)}; name the labels: {path}:{shown(known[-1])}")
            return Contents({labels.name: in_memory(label_array(labels.cells))}, labels=labels.name)
        data = [fields[i] for i in chosen if i != label]
        if not data:
            raise AekitError(f"{path}: has no column of numbers or words; it has {listed(known)}")
        nested = next((field for field in data if field.kind == "other"), None)
        if nested is not None:
            raise AekitError(f"{path}: column {shown(nested.name)} holds no numbers or words; name others")
        free = [i for i in usable if i != label and not (want.name and i in chosen)]
        first = _first_cells(file, fields, free)
        time = find_time(known, first, free)
        notes = tuple(
            f"column {shown(field.name)} holds nested values and is left out"
            for field in fields
            if field.kind == "other"
        )
        if time is None and len(data) > 1 and all(field.kind == "number" for field in data):
            found = _streamed(path, file, want.name or "", data, labels)
        else:
            if rows > MOST_ROWS:
                raise AekitError(
                    f"{path}: has {rows:,} rows of words or times, too many to be read whole; name the columns of "
                    f"numbers, as {path}:{shown(data[0].name)},{shown(data[-1].name)}, or cut it into smaller files"
                )
            wanted = sorted({field.at for field in data} | ({time} if time is not None else set()))
            columns = {at: _column(file, fields[at], at == time) for at in wanted}
            of_time = None if time is None else columns[time]
            found = contents(path, want.name or "", [columns[f.at] for f in data], None, of_time, labels, ",")
    return found if not notes else Contents(**{**vars(found), "notes": (*found.notes, *notes)})


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """pyarrow's file."""
    parquet, arrow = library("pyarrow.parquet", path), library("pyarrow", path)
    with reading(path, *FAULTS, arrow.ArrowException), path.open("rb") as f, parquet.ParquetFile(f) as file:
        yield file


def _fields(file: Any) -> list[_Field]:
    types = library("pyarrow.types", Path())
    found = []
    for at, field in enumerate(file.schema_arrow):
        own = field.type
        if types.is_integer(own) or types.is_floating(own):
            kind, dtype = "number", np.dtype(own.to_pandas_dtype())
        elif types.is_boolean(own) or types.is_decimal(own) or types.is_null(own):
            kind, dtype = "number", np.dtype(np.uint8 if types.is_boolean(own) else np.float64)
        else:
            is_text = types.is_string(own) or types.is_large_string(own) or types.is_temporal(own)
            is_text = is_text or (types.is_dictionary(own) and types.is_string(own.value_type))
            kind, dtype = "text" if is_text else "other", np.dtype(np.str_)
        if kind == "number" and dtype.kind != "f" and field.nullable:  # pyarrow ends the process where statistics are
            dtype = np.dtype(np.float64)  # damaged, so that they cannot be asked whether a value is missing
        found.append(_Field(at, field.name, kind, dtype))
    return found


def _cells(file: Any, name: str, rows: int | None = None) -> list[str]:
    """The cells of a column as text, empty where they are missing, all of them or the first ones."""
    arrow = library("pyarrow", Path())
    found: list[str] = []
    for batch in file.iter_batches(rows or BATCH_ROWS, columns=[name]):
        column = batch.column(0)
        if arrow.types.is_timestamp(column.type):
            column = column.cast(arrow.timestamp("us"), safe=False)  # without the zone, which all cells share
        elif arrow.types.is_boolean(column.type):
            column = column.cast(arrow.uint8())
        found += ["" if cell is None else str(cell) for cell in column.to_pylist()]
        if rows is not None:
            return found
    return found


def _labels(path: Path, file: Any, field: _Field) -> Labels:
    cells = _cells(file, field.name)
    if field.kind == "other":
        raise AekitError(f"{path}: column {shown(field.name)} holds nested values, no labels; name another column")
    if "" in cells:
        raise AekitError(
            f"{path}: row {cells.index('')}, column {shown(field.name)}: its label is missing; fill it in, or leave "
            "the row out"
        )
    return Labels(field.at, field.name, cells)


def _first_cells(file: Any, fields: list[_Field], places: list[int]) -> dict[int, str]:
    """Which of these columns hold words, each with its first one; words that are numbers are words here."""
    texts = [i for i in places if fields[i].kind == "text"]
    first = {}
    for i in texts:
        cells = [[cell] for cell in _cells(file, fields[i].name, 100)]
        first[i] = worded(cells, [0]).get(0, next((cell for [cell] in cells if cell), ""))
    return {i: cell for i, cell in first.items() if cell}


def _column(file: Any, field: _Field, as_words: bool) -> Column:
    if field.kind == "number" and not as_words:
        batches = (_numbers(batch.column(0)) for batch in file.iter_batches(BATCH_ROWS, columns=[field.name]))
        return Column(field.at, field.name, np.concatenate([values.astype(np.float64) for values in batches]))
    places: dict[str, int] = {}
    values = [places.setdefault(cell, len(places)) for cell in _cells(file, field.name)]
    return Column(field.at, field.name, np.array(values, np.float64), list(places))


def _numbers(column: Any) -> Array:
    """The values of a column of numbers, NaN where one is missing."""
    arrow = library("pyarrow", Path())
    if arrow.types.is_boolean(column.type):
        column = column.cast(arrow.uint8())
    elif arrow.types.is_decimal(column.type) or arrow.types.is_null(column.type):
        column = column.cast(arrow.float64())
    return cast(Array, column.to_numpy(zero_copy_only=False))


def _streamed(path: Path, file: Any, name: str, data: list[_Field], labels: Labels | None) -> Contents:
    """Numbers in columns that are read as they are asked for, forward without going back where they are next."""
    names = tuple(field.name for field in data)
    dtype = np.result_type(*(field.dtype for field in data))
    counts = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    ends = np.cumsum(counts)
    rows = int(ends[-1])
    take = one_buffer((len(data),), dtype)
    at = -1  # the row that comes next
    left: Array = np.empty((0, len(data)), dtype)
    batches: Iterator[Array] = iter(())

    def follow(start: int) -> Iterator[Array]:
        """Batches (n, columns) from a row on."""
        group = int(np.searchsorted(ends, start, side="right"))
        skip = start - (int(ends[group - 1]) if group else 0)
        with _opened(path) as opened:
            groups = ([i] for i in range(group, len(counts)))  # of all together it would read the whole file
            for batch in itertools.chain.from_iterable(
                opened.iter_batches(BATCH_ROWS, row_groups=one, columns=list(names)) for one in groups
            ):
                kept = batch.slice(min(skip, batch.num_rows))
                skip = max(0, skip - batch.num_rows)
                if kept.num_rows:
                    yield np.stack([_numbers(kept.column(n)).astype(dtype, copy=False) for n in names], axis=1)

    def read(start: int, stop: int) -> Array:
        nonlocal at, left, batches
        if at != start:
            left, batches = left[:0], follow(start)
        out, done, at = take(stop - start), 0, -1
        while done < len(out):
            left = left if len(left) else next(batches, left)
            if not len(left):
                raise AekitError(f"{path}: ends before row {stop}, which its header declares; copy it again")
            some, left = left[: len(out) - done], left[len(out) - done :]
            out[done : done + len(some)] = some
            done += len(some)
        at = stop
        return out

    arrays = {name: Stored((rows, len(data)), dtype, read, block=max(counts))}
    if labels is not None:
        arrays[labels.name] = in_memory(label_array(labels.cells))
    is_table = are_named(names)
    written = sorted([field.at for field in data] + ([labels.at] if labels else []))
    layout = Layout(",", names, labels.name if labels else None, written.index(labels.at) if labels else 0)
    label = labels.name if labels else None
    return Contents(arrays, "table" if is_table else "series", None, label, names if is_table else (), header=layout)


@writer(".parquet")
@contextlib.contextmanager
def write_parquet(path: Path, plan: Plan) -> Iterator[Put]:
    """Columns by name, called 1, 2, 3 and so on where they have none, in groups of as many rows each."""
    shape = plan.table_shape
    arrow, parquet = library("pyarrow", plan.out), library("pyarrow.parquet", plan.out)
    layout = plan.like.header if isinstance(plan.like.header, Layout) and plan.alike else Layout()
    names = list(layout.names or (plan.like.columns if plan.alike else ())) or [str(i + 1) for i in range(shape[1])]
    own = plan.table_labels
    beside: list[tuple[int, str, Any]] = [
        (one.at, one.name, arrow.array(one.cells)) for one in layout.aside if len(one.cells) == shape[0]
    ]
    if own is not None:
        label = "label" if "label" not in names else "y"
        beside.append((layout.label_at if layout.label else len(names), layout.label or label, arrow.array(own)))
    beside.sort(key=lambda column: column[0])
    is_float = plan.dtype.kind == "f"
    fields = [arrow.field(name, arrow.from_numpy_dtype(plan.dtype), nullable=is_float) for name in names]
    for at, name, cells in beside:
        fields.insert(at, arrow.field(name, cells.type))
    schema, kept, written = arrow.schema(fields), [np.empty((0, shape[1]), plan.dtype)], 0
    with path.open("wb") as f, parquet.ParquetWriter(f, schema) as file:

        def flush(count: int) -> None:
            nonlocal kept, written
            rows = np.concatenate(kept)
            group, kept = rows[:count], [rows[count:]]
            columns = [arrow.array(np.ascontiguousarray(column)) for column in group.T]
            for at, _, cells in beside:
                columns.insert(at, cells.slice(written, len(group)))
            file.write_table(arrow.Table.from_arrays(columns, schema=schema), GROUP_ROWS)
            written += len(group)

        def put(rows: Array) -> None:
            kept.append(rows.reshape(-1, shape[1]).copy())
            while sum(map(len, kept)) >= GROUP_ROWS:
                flush(GROUP_ROWS)

        yield put
        if sum(map(len, kept)):
            flush(GROUP_ROWS)
