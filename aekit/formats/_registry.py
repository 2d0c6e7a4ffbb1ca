"""What readers give and writers are told, the two registries, and how a library's exception becomes one line.

A format is one function under `@reader(".ending")`, which looks at a file's header and names its arrays, and one under
`@writer(".ending")`. Which array is the data, the labels or the sampling rate is decided once for all formats, in
`aekit.formats`.
"""

import contextlib
import gzip
import importlib
import math
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

import numpy as np

from aekit.errors import AekitError
from aekit.records import Array, Kind, Record, Recorded

LABEL_NAMES = ("y", "label", "labels", "target", "class", "is_anomaly", "anomaly")
RATE_NAMES = ("sampling_rate", "fs", "sample_rate")
PICK_NAMES = ("p_index", "s_index")  # points at which P and S arrive, one per row

Read = Callable[[int, int], Array]
Put = Callable[[Array], None]


class Stored(NamedTuple):
    """One array of a file as its header declares it; `read(start, stop)` gives rows of it, of a scalar the one row."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]  # in native byte order; object where the array cannot be read
    read: Read
    sampling_rate: object = None  # as the format tells it, be it text
    header: object = None  # becomes Record.header if this array is the data
    block: int = 1  # rows that the file packs together


@dataclass(frozen=True)
class Contents:
    """What a reader found: arrays by name, "" in a format that has no names; the rest where the format tells it."""

    arrays: dict[str, Stored]
    kind: Kind | None = None  # guessed from the shape where None, as is the channel axis
    channel_axis: int | None = None
    labels: str | None = None  # the array that holds the labels
    columns: tuple[str, ...] = ()
    recorded: Recorded | None = None
    header: object = None  # becomes Record.header
    categories: tuple[tuple[str, ...], ...] = ()
    by_point: bool = False  # the labels too
    notes: tuple[str, ...] = ()


class Want(NamedTuple):
    """What is asked of a file; a format whose arrays have names may ignore all of it."""

    name: str | None = None  # what follows the colon in `file.h5:name`
    labels: str | None = None  # what the user calls the labels, which may be another file
    labels_only: bool = False  # the file is read for its labels, so its other columns may hold anything


class Names(NamedTuple):
    """Record.header of formats that hold arrays: what data and labels are called, whether the data had one axis."""

    data: str = ""
    labels: str = "labels"
    flat: bool = False


class Plan(NamedTuple):
    """What a writer is told."""

    out: Path  # for messages; the writer writes to the path beside it
    ending: str
    like: Record
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    force: bool  # for a writer that writes a second file beside `out`

    @property
    def alike(self) -> bool:
        """Whether rows mean what those of `like` do, so that its columns and sampling rate hold for them."""
        return self.shape[1:] == self.like.shape[1:]

    @property
    def labels(self) -> Array | None:
        """The labels of `like` where there is one for each row."""
        return self.like.labels if len(self.like) == self.shape[0] else None

    @property
    def by_point(self) -> bool:
        """Whether the rows of a table are the points of one series."""
        return self.like.by_point and self.shape == self.like.shape

    @property
    def table_shape(self) -> tuple[int, int]:
        """Rows and columns of a table; raises AekitError where the array is none."""
        shape = self.shape if not self.by_point else (self.shape[1], *(self.shape[2:] or (1,)))
        if len(shape) != 2:
            raise self.refuse(f"a table holds rows of values, not an array of {self.shape}", "name a .npy file")
        return shape

    @property
    def table_labels(self) -> Array | None:
        """The labels of a table's rows."""
        return self.like.point_labels if self.by_point else self.labels

    @property
    def arrivals(self) -> dict[str, Array]:
        """The points at which P and S arrive, by their names, where rows mean what those of `like` do."""
        picks = self.like.picks
        if picks is None or not self.alike or len(picks) != self.shape[0]:
            return {}
        return dict(zip(PICK_NAMES, picks.T, strict=True))

    @property
    def names(self) -> Names:
        """Names of the arrays to write, "x" and "labels" where the input had none."""
        names = self.like.header if isinstance(self.like.header, Names) else Names()
        return names._replace(data=names.data or "x", labels=names.labels if names.labels != names.data else "y")

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape in formats that hold arrays: one axis where the input had one."""
        flat = self.names.flat and self.shape == self.like.shape
        return self.shape[1:] if flat else self.shape

    def refuse(self, what: str, remedy: str) -> AekitError:
        return AekitError(f"{self.out}: {what}; {remedy}")


Reader = Callable[[Path, Want], Contents]
OpenWriter = Callable[[Path, Plan], AbstractContextManager[Put]]
READERS: dict[str, Reader] = {}
WRITERS: dict[str, OpenWriter] = {}
NEEDS: dict[str, str] = {}  # ending -> the library that reads it, where not every install has it
EXTRAS = {
    "obspy": "seismic",
    "wfdb": "ecg",
    "astropy": "astro",
    "pyarrow": "parquet",
    "zarr": "zarr",
}  # such a library -> the extra that brings it
FAULTS = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ArithmeticError,
)  # of damage, say these libraries
FOLDER = "/"  # the key of folders
VALUES_AT_ONCE = 1 << 20  # where wider copies of rows are made

Function = TypeVar("Function", bound=Callable[..., object])


def reader(*endings: str, needs: str | None = None) -> Callable[[Function], Function]:
    """Registers a function (path, want) -> Contents for these endings, and the library of EXTRAS that it needs."""

    def register(function: Function) -> Function:
        NEEDS.update(dict.fromkeys(endings, needs) if needs else {})
        READERS.update(dict.fromkeys(endings, cast(Reader, function)))
        return function

    return register


def writer(*endings: str) -> Callable[[Function], Function]:
    """Registers a context manager (path, plan) -> put for these endings; put(rows) appends rows of plan.dtype."""

    def register(function: Function) -> Function:
        WRITERS.update(dict.fromkeys(endings, cast(OpenWriter, function)))
        return function

    return register


IDX = re.compile(r"[.-]idx\d?(-ubyte)?$")  # train-images-idx3-ubyte


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps back the warnings by which libraries tell their own developers what will change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def library(name: str, path: Path) -> Any:
    """A module of a library that not every install has, imported at its first use; raises AekitError without it."""
    top = name.partition(".")[0]
    try:
        with quiet():
            return importlib.import_module(name)
    except ImportError as error:
        raise AekitError(
            f'{path}: {top} reads such files and is missing; pip install "aekit[{EXTRAS[top]}]"'
        ) from error


def ending_of(name: str) -> str:
    """The ending by which a file's format is known, in lower case, with its .gz."""
    zipped = ".gz" if name.lower().endswith(".gz") else ""
    plain = name.lower().removesuffix(".gz")
    return (".idx" if IDX.search(plain) else Path(plain).suffix) + zipped


STARTS = {  # how files of other formats begin
    b"\x93NUMPY": ".npy",
    b"PK\x03\x04": ".npz",
    b"\x89HDF\r\n": ".h5",
    b"\x1f\x8b": ".gz",
    b"RIFF": ".wav",
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
}


@contextlib.contextmanager
def reading(path: Path, *also: type[Exception]) -> Iterator[None]:
    """Raises one AekitError line for what goes wrong inside: missing, unreadable or damaged files.

    `also` names the exceptions by which the format's library tells of damage.
    """
    damage: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error, zipfile.BadZipFile, *also)
    try:
        yield
    except AekitError:
        raise
    except FileNotFoundError as error:
        raise AekitError(f"{path}: there is no such file; check the name and the folder") from error
    except IsADirectoryError as error:
        raise AekitError(f"{path}: is a folder, a file is expected; name a file inside it") from error
    except MemoryError as error:
        raise AekitError(f"{path}: does not fit in memory; cut it into smaller files") from error
    except damage as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise AekitError(f"{path}: cannot be read ({error.strerror}); check the file and its rights") from error
        detail = shown(str(error)) or type(error).__name__
        raise AekitError(f"{path}: is damaged or of another format ({detail}); {_remedy(path)}") from error


def _remedy(path: Path) -> str:
    try:
        with path.open("rb") as f:
            start = f.read(8)
    except OSError:
        start = b""
    for magic, ending in STARTS.items():
        if start.startswith(magic) and ending != path.suffix.lower():
            return f"it begins like a {ending} file: if it is one, rename it, else copy it again"
    return "copy it again, or rename it to what it is"


def shown(text: str, width: int = 120) -> str:
    """Text from a file or a library as part of one line of a message."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= width else line[: width - 3] + "..."


def listed(names: Iterable[str]) -> str:
    """Names from a file for a message, the first dozen of them."""
    all_names = [shown(name, 40) for name in names]
    return ", ".join(all_names[:12]) + (f" and {len(all_names) - 12} more" if len(all_names) > 12 else "")


def rate_in_hz(path: Path, value: object) -> float:
    """A sampling rate that a file tells, be it text or an array of one; raises AekitError where it is none."""
    try:
        rate = float(np.asarray(value).reshape(-1)[0])
    except (ValueError, TypeError, IndexError):
        rate = math.nan
    if not 0 < rate < math.inf:
        raise AekitError(f"{path}: its sampling rate is {shown(str(value), 30)}, no number of Hz; write it as a number")
    return rate


def label_array(texts: list[str]) -> Array:
    """Class names as an array (rows,): int64 where all are whole numbers, float64 where all are numbers, else text."""
    try:
        numbers = np.array([float(text) for text in texts])
    except ValueError:
        return np.array(texts)
    if any("_" in text for text in texts) or not (np.abs(numbers) < 2**53).all():
        return np.array(texts)
    return numbers.astype(np.int64) if (numbers % 1 == 0).all() else numbers


def once(load: Callable[[], Array]) -> Read:
    """Reads rows of an array that is loaded whole at the first read."""
    loaded: list[Array] = []

    def read(start: int, stop: int) -> Array:
        if not loaded:
            loaded.append(np.atleast_1d(load()))  # a scalar is one row
        return loaded[0][start:stop]

    return read


def one_buffer(item: tuple[int, ...], dtype: np.dtype[np.generic]) -> Callable[[int], Array]:
    """A function that gives (count, *item) values in one buffer, which grows to the largest count asked for."""
    buffer = np.empty((0, *item), dtype)

    def take(count: int) -> Array:
        nonlocal buffer
        if len(buffer) < count:
            buffer = np.empty((count, *item), dtype)
        return buffer[:count]

    return take


def open_bytes(path: Path) -> BinaryIO:
    """A file's bytes, unzipped where its name ends in .gz."""
    return cast(BinaryIO, gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb", buffering=0)
