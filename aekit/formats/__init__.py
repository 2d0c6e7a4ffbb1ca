"""Files in and out: a path becomes a Record, rows become a file of the format that its ending names.

A format is one function under `@reader(".ending")`, and one under `@writer(".ending")`, in a module imported below.
"""

import contextlib
import csv
import functools
import glob
import importlib.util
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from aekit.errors import AekitError
from aekit.files import together, whole
from aekit.formats import arrays, ecg, fits, hdf5, idx, images, mseed, parquet, sac, sound, text, zarr  # noqa: F401  they register themselves
from aekit.formats._choose import choose_data, contents_of, record_at, with_labels, with_picks, with_target
from aekit.formats._choose import split_name as split_name
from aekit.formats._columns import times_of as times_of
from aekit.formats._join import is_alike as is_alike
from aekit.formats._join import joined as joined
from aekit.formats._join import usual as usual
from aekit.formats._registry import (
    EXTRAS,
    FOLDER,
    IDX,
    NEEDS,
    READERS,
    VALUES_AT_ONCE,
    WRITERS,
    Contents,
    Plan,
    Put,
    Want,
    ending_of,
    shown,
)
from aekit.formats.images import Picture
from aekit.formats.images import names_of as names_of
from aekit.formats.text_writers import cells, text_file
from aekit.records import Array, Record
from aekit.remote import is_remote, without_query

ROWS_AT_ONCE = 1 << 15
OPEN_AT_ONCE = 16  # of the files whose rows are joined
TEXT = (".txt", ".csv", ".tsv")
ENDINGS = tuple(ending for ending in READERS if ending != FOLDER)


class Files(NamedTuple):
    """The data files of a folder or a pattern, by name, and what of it is left out, in words."""

    folder: Path  # that all of them lie in
    files: list[Path]
    left_out: str
    name: str | None = None  # of the array in each that is meant
    is_deep: bool = True  # whether files of folders inside are meant too

    def address(self, file: Path) -> str:
        """Of one of them, or of the array in it."""
        return str(file) if self.name is None else f"{file}:{self.name}"


def files_in(data: str | Path) -> Files:
    """The data files of a folder and of those in it, or those that fit a pattern, as in 'folder/*.h5:name'.

    None where it is no folder, or one of images. Text and pictures beside files of other formats in a folder are taken
    for notes, and a run's own files are no data. Raises AekitError for a pattern that no file fits.
    """
    place, name = split_name(str(data))
    if _is_pattern(place):
        return _fitting(place, name)
    return Files(place, *_inside(place), name)


def _is_pattern(place: Path) -> bool:
    return glob.has_magic(str(place)) and not os.path.exists(place)


def _fitting(pattern: Path, name: str | None) -> Files:
    found = [Path(place) for place in glob.glob(str(pattern), recursive=True)]
    data = sorted(place for place in found if ending_of(place.name) in READERS)
    if not data:
        raise AekitError(f"{pattern}: no data file fits this pattern; check the name and the folder")
    others = sum(place.is_file() for place in found) - sum(place.is_file() for place in data)
    left_out = f"{others} file(s) of other endings left out" if others else ""
    return Files(folder_of(pattern), data, left_out, name, "**" in pattern.parts)


def folder_of(pattern: Path) -> Path:
    """The folder before the first wildcard."""
    at = next(i for i, part in enumerate(pattern.parts) if glob.has_magic(part))
    return Path(*pattern.parts[:at])


def _inside(folder: Path) -> tuple[list[Path], str]:
    notes: list[Path] = []
    data: list[Path] = []
    pictures = 0  # there may be a million
    for place, folders, names in os.walk(folder):
        data += [Path(place, name) for name in folders if ending_of(name) in READERS]  # folders that are a file
        folders[:] = [name for name in folders if not name.startswith(".") and ending_of(name) not in READERS]
        is_run = "config.json" in names
        for name in names:
            ending = ending_of(name)
            if name.startswith(".") or ending not in READERS or (is_run and ending == ".safetensors"):
                continue
            if ending in images.ENDINGS:
                pictures += 1
            else:
                (notes if ending.removesuffix(".gz") in TEXT else data).append(Path(place, name))
    if not data:
        return [] if pictures else sorted(notes), ""
    counts = [f"{count} {kind} file(s)" for kind, count in (("text", len(notes)), ("picture", pictures)) if count]
    return sorted(data), f"{' and '.join(counts)} left out" if counts else ""


def missing_extras() -> dict[str, list[str]]:
    """The extras whose library is not installed -> the endings that it reads."""
    missing: dict[str, list[str]] = {}
    for ending, name in NEEDS.items():
        if importlib.util.find_spec(name) is None:
            missing.setdefault(EXTRAS[name], []).append(ending)
    return missing


def open_record(path: str | Path, labels: str | None = None, target: str | None = None) -> Record:
    """The rows of a file or of an image folder; `file.h5:group/name` names one array, `file.csv:a,b` columns.

    Those of the files of another folder, or that fit a pattern, are joined, see _join.py.
    Without a name the data is the only numeric array, else the one called x, X, data, signals, traces or images.
    `labels` and `target` name an array or column of the file, or another file with as many rows. An array of one axis
    is one row. Raises AekitError for whatever hinders that; NaN and infinity pass.
    """
    file, name = split_name(str(path))
    if _is_pattern(file) or (os.path.isdir(file) and ending_of(file.name) not in READERS):
        found = files_in(path)
        if found.files:
            return _open_joined(str(path), found, labels, target)
    contents = contents_of(file, Want(name, labels))
    data = choose_data(contents, file, name, [n for n in (labels, target) if n])
    record = record_at(without_query(str(path)), file, data, contents)
    record = with_picks(with_labels(record, contents, file, data, labels), contents, file, data)
    return with_target(record, contents, file, target)


def _open_joined(source: str, found: Files, labels: str | None, target: str | None) -> Record:
    """The rows of many files; labels and target are in each of them, or a file for all of them."""
    for_all = {name for name in (labels, target) if name is not None and exists(name)}
    inside = [None if name in for_all else name for name in (labels, target)]

    @functools.lru_cache(OPEN_AT_ONCE)
    def opened(address: str) -> Record:
        return open_record(address, *inside)

    def closed(address: str) -> Record:
        """What the file tells; it is opened again for its rows, as a process may hold about a thousand open."""
        record = open_record(address, *inside)
        target = record.target and replace(record.target, read=lambda a, b: opened(address).target.read(a, b))  # type: ignore[union-attr]
        return replace(record, read=lambda a, b: opened(address).read(a, b), target=target, header=None)

    record = joined(source, [closed(found.address(file)) for file in found.files])
    record = replace(record, notes=(*record.notes, *([found.left_out] if found.left_out else [])))
    nothing = Contents({})
    if labels in for_all:
        record = with_labels(record, nothing, found.folder, "", labels)
    return with_target(record, nothing, found.folder, target) if target in for_all else record


def exists(place: str) -> bool:
    """Whether it is a file or folder, here or, by its address, in an object store."""
    return is_remote(place) or os.path.exists(place)


class Writer:
    """Appends rows to a file that `create` has opened."""

    def __init__(self, plan: Plan, put: Put):
        self._plan = plan
        self._put = put
        self.written = 0

    def write(self, rows: Array) -> Array:
        """Appends rows (n, *item) of real numbers; returns them as the file's type, see `cast`."""
        assert rows.shape[1:] == self._plan.shape[1:], f"rows of {rows.shape[1:]}, expected {self._plan.shape[1:]}"
        stored = cast(rows, self._plan.dtype, str(self._plan.out), self.written)
        self._put(stored)
        self.written += len(rows)
        return stored


def cast(rows: Array, dtype: np.dtype[np.generic], place: str, first: int = 0) -> Array:
    """Rows (n, *item) as another type: rounded and clipped to it where it is whole.

    Raises AekitError for NaN and infinity where the type is whole, and for values beyond a shorter float; it begins
    with `place` and counts rows from `first`.
    """
    if rows.dtype == dtype:
        return rows
    if dtype.kind == "f":
        try:
            with np.errstate(over="raise"):
                return rows.astype(dtype)
        except FloatingPointError:
            raise AekitError(
                f"{place}: values from row {first + 1} on are too large for {dtype}; store the data as float64"
            ) from None
    lowest, highest = _range(dtype)
    if rows.dtype.kind != "f":
        own_lowest, own_highest = _range(rows.dtype)
        return np.clip(rows, max(lowest, own_lowest), min(highest, own_highest)).astype(dtype)
    finite = np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
    if not finite.all():
        row = first + int(finite.argmin()) + 1
        raise AekitError(f"{place}: row {row} holds NaN or infinity, which {dtype} cannot; store the data as floats")
    wide: NDArray[np.floating] = rows.astype(np.promote_types(rows.dtype, np.float32), copy=False)
    top = np.array(highest, wide.dtype)
    if int(top) > highest:  # 2**63 - 1, say, is no float64
        top = np.nextafter(top, np.array(0, wide.dtype))
    whole_numbers = np.empty(wide.shape, dtype)
    flat, given = whole_numbers.reshape(-1), wide.reshape(-1)
    for start in range(0, len(flat), VALUES_AT_ONCE):
        rounded = np.rint(given[start : start + VALUES_AT_ONCE])
        flat[start : start + VALUES_AT_ONCE] = np.clip(rounded, np.array(lowest, wide.dtype), top, out=rounded)
    return whole_numbers


def _range(dtype: np.dtype[np.generic]) -> tuple[int, int]:
    info: np.iinfo[Any] = np.iinfo(dtype.name)
    return int(info.min), int(info.max)


@contextlib.contextmanager
def create(
    out: str | Path, like: Record, shape: tuple[int, ...], dtype: DTypeLike, force: bool = False
) -> Iterator[Writer]:
    """A Writer of (rows, *item) values to `out`, in the format of its ending, whole or absent.

    What `like` brought along (column names, labels, names of arrays, sampling rate, names of images) is written
    back where the format has a place for it and the shape is that of `like`. Raises AekitError where the format
    cannot hold shape or dtype.
    """
    out = Path(out)
    plan = Plan(out, ending_for(out, like), like, tuple(shape), np.dtype(dtype), force)
    assert plan.dtype.kind in "iuf"
    with together(), whole(out, force) as temporary, WRITERS[plan.ending](temporary, plan) as put:
        writer = Writer(plan, put)
        yield writer
        assert writer.written == shape[0], f"{writer.written} rows of {shape[0]} were written to {out}"


def ending_for(out: Path, like: Record) -> str:
    """The registered ending of an output; raises AekitError where there is none."""
    ending = ending_of(out.name)
    if ending in WRITERS:
        return ending
    of_folder = isinstance(like.header, Picture) and like.header.names
    if of_folder or (ending == "" and like.kind == "image"):
        return FOLDER
    known = ", ".join(known for known in WRITERS if known != FOLDER)
    raise AekitError(f"{out}: the ending {shown(ending)!r} is not known; name one of {known}")


def default_out(path: str, verb_suffix: str, ending: str | None = None) -> Path:
    """Where a verb writes to without -o, in the current folder: `traces.denoised.npy`, `ecg.scores.csv`.

    The ending is that of the input, unzipped, unless another is given; a folder of images gives a folder. WFDB knows no
    points in the names of records: `100_denoised.hea`.
    """
    name = name_of(path)
    own = ending_of(name)
    stem = name
    if own in READERS:
        plain = name[:-3] if own.endswith(".gz") else name
        stem = IDX.sub("", plain) if own.startswith(".idx") else Path(plain).stem
    new = ending if ending is not None else own.removesuffix(".gz") if own in READERS else ""
    return Path(f"{stem}{'_' if new == '.hea' else '.'}{verb_suffix}{new}")


def name_of(path: str) -> str:
    """The last part of a file's name, or of the folder's that a pattern begins with."""
    file, _ = split_name(path)
    file = folder_of(file) if _is_pattern(file) else file
    return file.name or file.resolve().name


def write_columns(path: str | Path, columns: Mapping[str, Array], force: bool = False) -> None:
    """Writes columns of equal length (rows,) as a table, .csv or .tsv, also .gz."""
    write_tables(path, [columns], force)


def write_tables(path: str | Path, tables: Iterable[Mapping[str, Array]], force: bool = False) -> None:
    """Writes tables of the same columns one below the other, each as it comes."""
    path = Path(path)
    ending = ending_of(path.name)
    if ending.removesuffix(".gz") not in (".csv", ".tsv"):
        raise AekitError(f"{path}: tables are written as .csv or .tsv; name such a file with -o")
    with whole(path, force) as temporary, text_file(temporary, ending) as f:
        for i, columns in enumerate(tables):
            write_csv(f, columns, "\t" if ending.startswith(".tsv") else ",", with_header=i == 0)


def write_csv(stream: TextIO, columns: Mapping[str, Array], separator: str = ",", with_header: bool = True) -> None:
    """Writes columns of equal length (rows,) as CSV to a text stream."""
    table = csv.writer(stream, delimiter=separator, lineterminator="\n")
    if with_header:
        table.writerow(columns)
    series = [np.asarray(values) for values in columns.values()]
    rows = len(series[0]) if series else 0
    assert all(len(values) == rows for values in series), "columns of one length"
    for start in range(0, rows, ROWS_AT_ONCE):  # as Python objects a row takes a hundred times its bytes
        table.writerows(zip(*(cells(values[start : start + ROWS_AT_ONCE]) for values in series), strict=True))
