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

from aekit.formats._registry import Plan, Put, writer
from aekit.formats.text import Layout
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


@writer(".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".arff", ".arff.gz")
@contextlib.contextmanager
def write_text(path: Path, plan: Plan) -> Iterator[Put]:
    if len(plan.shape) != 2:
        raise plan.refuse(f"text holds rows of values, not an array of {plan.shape}", "name a .npy file")
    header = plan.like.header
    layout = header if isinstance(header, Layout) and plan.alike else Layout(",")
    kind = plan.ending.removesuffix(".gz")
    labels = None if layout.label is None else plan.labels
    row_names = layout.row_names if len(layout.row_names) == plan.shape[0] else ()
    names = list(layout.names)
    if names and labels is not None:
        names.insert(layout.label_at, layout.label or "label")
    with text_file(path, plan.ending) as f:
        if kind == ".arff":
            _write_attributes(f, plan, names, labels, layout.label_at)
        separator = {".tsv": "\t", ".arff": ",", ".csv": ";" if layout.separator == ";" else ","}
        table = csv.writer(
            f,
            delimiter=separator.get(kind, layout.separator or " "),
            quotechar="'" if kind == ".arff" else '"',
            lineterminator="\n",
        )
        if names and kind != ".arff":
            table.writerow(["", *names] if row_names else names)
        written = 0

        def put(rows: Array) -> None:
            nonlocal written
            lines = cast(list[list[object]], cells(rows))
            if labels is not None:
                for line, label in zip(lines, labels[written : written + len(lines)].tolist(), strict=True):
                    line.insert(layout.label_at, label)
            if row_names:
                lines = [[name, *line] for name, line in zip(row_names[written:], lines, strict=False)]
            table.writerows(lines)
            written += len(lines)

        yield put


def _write_attributes(f: TextIO, plan: Plan, names: list[str], labels: Array | None, label_at: int) -> None:
    if not names:
        names = [f"att{i + 1}" for i in range(plan.shape[1])]
        if labels is not None:
            names.insert(label_at, "target")
    types = ["numeric"] * len(names)
    if labels is not None:
        types[label_at] = "{" + ",".join(_quoted(str(label)) for label in np.unique(labels)) + "}"
    f.write(f"@relation {_quoted(plan.out.name.split('.')[0])}\n")
    f.writelines(f"@attribute {_quoted(name)} {kind}\n" for name, kind in zip(names, types, strict=True))
    f.write("@data\n")


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w.+-]+", name) else f"'{name}'"
