"""Writes the text formats, row by row; numbers in the fewest digits that read back as the same value."""

import contextlib
import csv
import gzip
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO, cast

import numpy as np

from aekit.formats._columns import Layout
from aekit.formats._registry import Plan, Put, writer
from aekit.records import Array


@contextlib.contextmanager
def text_file(path: Path, ending: str) -> Iterator[TextIO]:
    """A text file to write, gzipped where its ending says so."""
    with contextlib.ExitStack() as stack:
        f = stack.enter_context(path.open("wb"))
        if ending.endswith(".gz"):  # no name and time inside: equal tables give equal files
            f = stack.enter_context(cast(io.BufferedWriter, gzip.GzipFile("", "wb", fileobj=f, mtime=0)))
        yield stack.enter_context(io.TextIOWrapper(cast(BinaryIO, f), encoding="utf-8", newline=""))


def cells(values: Array) -> list[list[object]] | list[object]:
    """An array as lists of what csv writes: whole numbers and float64 as they are, shorter floats as text."""
    shorter = values.dtype.kind == "f" and values.dtype.itemsize < 8
    return cast(list[object], (values.astype(str) if shorter else values).tolist())


Beside = tuple[int, str, Array | tuple[str, ...]]  # a column that is no data: its place, its name, what it holds


@writer(".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".arff", ".arff.gz")
@contextlib.contextmanager
def write_text(path: Path, plan: Plan) -> Iterator[Put]:
    shape = plan.table_shape
    header = plan.like.header
    layout = Layout(",", plan.like.columns if plan.alike else ())
    if isinstance(header, Layout) and plan.alike:
        layout = header
    kind = plan.ending.removesuffix(".gz")
    labels = None if layout.label is None else plan.table_labels
    beside: list[Beside] = [one for one in layout.aside if len(one.cells) == shape[0]]
    if labels is not None:
        beside.append((layout.label_at, layout.label or ("target" if kind == ".arff" else "label"), labels))
    beside.sort(key=lambda column: column[0])
    names = list(layout.names) or ([f"att{i + 1}" for i in range(shape[1])] if kind == ".arff" else [])
    for at, name, _ in beside if names else []:
        names.insert(at, name)
    with text_file(path, plan.ending) as f:
        if kind == ".arff":
            _write_attributes(f, plan, names, beside)
        separator = {".tsv": "\t", ".arff": ",", ".csv": ";" if layout.separator == ";" else ","}
        table = csv.writer(
            f,
            delimiter=separator.get(kind, layout.separator or " "),
            quotechar="'" if kind == ".arff" else '"',
            lineterminator="\n",
        )
        if names and kind != ".arff":
            table.writerow(names)
        written = 0

        def put(rows: Array) -> None:
            nonlocal written
            lines = cast(list[list[object]], cells(rows.reshape(-1, shape[1])))
            stop = written + len(lines)
            for at, _, column in beside:
                texts = column[written:stop]
                for line, text in zip(lines, texts if isinstance(texts, tuple) else texts.tolist(), strict=True):
                    line.insert(at, text)
            table.writerows(lines)
            written = stop

        yield put


def _write_attributes(f: TextIO, plan: Plan, names: list[str], beside: list[Beside]) -> None:
    """The header of an ARFF file; of the columns beside the data the labels are nominal, others strings."""
    types = ["numeric"] * len(names)
    for at, _, column in beside:
        nominal = (
            "{" + ",".join(map(_quoted, map(str, np.unique(column)))) + "}" if isinstance(column, np.ndarray) else ""
        )
        types[at] = nominal or "string"
    f.write(f"@relation {_quoted(plan.out.name.split('.')[0])}\n")
    f.writelines(f"@attribute {_quoted(name)} {kind}\n" for name, kind in zip(names, types, strict=True))
    f.write("@data\n")


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w.+-]+", name) else f"'{name}'"
