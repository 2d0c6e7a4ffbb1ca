"""Which array of a file is the data, the labels, the paired data and the sampling rate: the same in all formats."""

from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from aekit import remote
from aekit.errors import AekitError
from aekit.formats._registry import (
    FOLDER,
    LABEL_NAMES,
    PICK_NAMES,
    RATE_NAMES,
    READERS,
    Contents,
    Names,
    Stored,
    Want,
    ending_of,
    listed,
    rate_in_hz,
    reading,
    shown,
)
from aekit.records import Array, Record, guess_layout

DATA_NAMES = ("x", "X", "data", "signals", "traces", "images")


def split_name(path: str) -> tuple[Path, str | None]:
    """`file.h5:group/name` as file and name; the name is None where the path is a file as it stands.

    What lies in an object store is fetched, and the file is the copy of it.
    """
    if remote.is_remote(path):
        return _split_address(path)
    with reading(Path(path)):
        if ":" not in path or Path(path).exists():
            return Path(path), None
        cuts = [i for i, sign in enumerate(path) if sign == ":"]
        at = next((i for i in cuts if Path(path[:i]).is_file()), cuts[-1])
    if ending_of(path[:at]) not in READERS:
        return Path(path), None
    return Path(path[:at]), path[at + 1 :].strip("/")


def _split_address(address: str) -> tuple[Path, str | None]:
    scheme, _, rest = address.partition("://")
    host, slash, key = rest.partition("/")  # whose port stands behind a colon too
    cuts = [i for i, sign in enumerate(key) if sign == ":" and ending_of(key[:i]) in READERS]
    file, name = (key[: cuts[0]], key[cuts[0] + 1 :].strip("/")) if cuts else (key, None)
    place = f"{scheme}://{host}{slash}{file}"
    ending = ending_of(remote.without_query(place).rpartition("/")[2])
    if ending and ending not in READERS:
        raise _unknown(remote.without_query(place), ending)  # before it is fetched
    return Path(remote.fetched(place)), name


def _unknown(file: object, ending: str) -> AekitError:
    known = ", ".join(known for known in READERS if known != FOLDER)
    return AekitError(f"{file}: the ending {ending!r} is not known; convert it to one of {known}")


def contents_of(file: Path, want: Want) -> Contents:
    """What the reader for the file's ending finds in it."""
    with reading(file):
        if not file.exists():
            raise FileNotFoundError
        ending = ending_of(file.name)
        if file.is_dir():
            ending = ending if ending in READERS else FOLDER
        elif not file.is_file():
            raise AekitError(f"{file}: is no regular file; write the data to a file first")
        elif file.stat().st_size == 0:
            raise AekitError(f"{file}: is empty; copy it again")
        if ending not in READERS:
            raise _unknown(file, ending)
        return READERS[ending](file, want)


def record_at(source: str, file: Path, name: str, contents: Contents) -> Record:
    """One array of a file as a Record without labels; raises AekitError where it cannot be data."""
    stored = contents.arrays[name]
    place = f"{file}: {shown(name)}" if name else f"{file}"
    if stored.dtype.kind == "O":
        stored.read(0, 0)  # which tells why it is not read
    if stored.dtype.kind not in "biuf":
        raise AekitError(f"{place}: holds text, no numbers; name an array of numbers")
    if 0 in stored.shape or stored.shape == ():
        raise AekitError(f"{place}: has the shape {stored.shape}, no rows of values; name an array with data")
    if len(stored.shape) > 4:
        raise AekitError(
            f"{place}: has the shape {stored.shape}; reshape it to (rows, time), (rows, channels, time) or images"
        )
    shape = stored.shape if len(stored.shape) > 1 else (1, *stored.shape)
    kind, axis = (contents.kind, contents.channel_axis) if contents.kind else guess_layout(shape)

    def read(start: int, stop: int) -> Array:
        stop = min(stop, shape[0])
        assert 0 <= start <= stop, f"rows {start} to {stop} of {shape[0]}"
        with reading(file):
            rows = stored.read(start, stop) if shape == stored.shape else stored.read(0, shape[1])[None][start:stop]
        return rows.view(np.uint8) if rows.dtype == np.bool_ else rows

    dtype = np.dtype(np.uint8) if stored.dtype == np.bool_ else stored.dtype
    header = stored.header or contents.header or Names(name, flat=shape != stored.shape)
    rate = _rate(contents, file, name)
    return Record(
        source,
        shape,
        dtype,
        read,
        kind,
        axis,
        sampling_rate=rate,
        columns=contents.columns,
        categories=contents.categories,
        recorded=contents.recorded,
        by_point=contents.by_point,
        notes=contents.notes,
        header=header,
        block=stored.block if shape == stored.shape else 1,
    )


def choose_data(contents: Contents, file: Path, name: str | None, taken: list[str]) -> str:
    """The name of the array that is the data; `taken` are those that the user gave another role."""
    arrays = contents.arrays
    if name is not None:
        if name in arrays:
            return name
        if "" in arrays:
            raise AekitError(f"{file}: its format gives arrays no names; leave out ':{shown(name)}'")
        raise AekitError(f"{file}: has no array {shown(name)!r}; it has {_described(arrays)}")
    usable = [
        n
        for n, stored in arrays.items()
        if stored.dtype.kind in "biuf"
        and stored.shape != ()
        and n not in taken
        and _last(n).lower() not in (*RATE_NAMES, *PICK_NAMES)
    ]
    free = [n for n in usable if _last(n).lower() not in LABEL_NAMES and n != contents.labels] or usable
    if len(free) == 1:
        return free[0]
    for wanted in DATA_NAMES:
        matches = [n for n in free if _last(n) == wanted]
        if len(matches) == 1:
            return matches[0]
    if free:
        raise AekitError(f"{file}: holds several arrays: {_described(arrays)}; name one, as {file}:{shown(free[0])}")
    if len(arrays) == 1:
        return next(iter(arrays))
    raise AekitError(f"{file}: holds no array of numbers; it has {_described(arrays) or 'none'}; name another file")


def _described(arrays: dict[str, Stored]) -> str:
    return listed(f"{name} {stored.shape}" for name, stored in arrays.items())


def _last(name: str) -> str:
    return PurePosixPath(name).name


def _near(contents: Contents, data: str, wanted: str) -> str | None:
    """The array called so, in either case, beside the data or else at the top of the file."""
    for folder in (PurePosixPath(data).parent, PurePosixPath(".")):
        for name in contents.arrays:
            if name != data and _last(name).lower() == wanted and PurePosixPath(name).parent == folder:
                return name
    return None


def _rate(contents: Contents, file: Path, data: str) -> float | None:
    """The sampling rate that the format tells, or a scalar beside the data, else the only such scalar of the file."""
    told = contents.arrays[data].sampling_rate
    if told is not None:
        return rate_in_hz(file, told)
    scalars = [n for n, s in contents.arrays.items() if s.shape in ((), (1,)) and _last(n).lower() in RATE_NAMES]
    near = [n for n in (_near(contents, data, wanted) for wanted in RATE_NAMES) if n in scalars]
    name = next(iter(near), scalars[0] if len(scalars) == 1 else None)
    if name is None or name == data:
        return None
    with reading(file):
        return rate_in_hz(file, contents.arrays[name].read(0, 1))


def with_labels(record: Record, contents: Contents, file: Path, data: str, asked: str | None) -> Record:
    """The record with its labels: those that the user names, an array or a file, else those that the file tells."""
    rows = record.shape[1] if record.by_point else len(record)
    if asked is not None and asked not in contents.arrays:
        return _labelled(record, _labels_in(file, contents, asked, rows))
    name = asked or _labels_told(record, contents, data)
    if name is None:
        return record
    values = _label_values(f"{file}: {shown(name)}", file, contents.arrays[name], rows)
    header = record.header._replace(labels=name) if isinstance(record.header, Names) else record.header
    return replace(_labelled(record, values), header=header)


def _labelled(record: Record, values: Array) -> Record:
    return replace(record, point_labels=values) if record.by_point else replace(record, labels=values)


def _labels_told(record: Record, contents: Contents, data: str) -> str | None:
    """The array that the format or its name declares to be the labels."""
    if contents.labels is not None:
        return contents.labels if contents.labels != data else None
    for wanted in LABEL_NAMES:
        name = _near(contents, data, wanted)
        if name is not None:
            stored = contents.arrays[name]
            of_one_record = len(contents.arrays[data].shape) == 1 and stored.shape != (1,)
            if _is_list(stored) and stored.dtype.kind != "O" and not of_one_record:
                return name
    return None


def _is_list(stored: Stored) -> bool:
    return len(stored.shape) == 1 or (len(stored.shape) == 2 and stored.shape[1] == 1)


def _labels_in(file: Path, contents: Contents, asked: str, rows: int) -> Array:
    """The labels that lie in another file."""
    other, name = split_name(asked)
    _check_exists(file, contents, asked, other)
    found = contents_of(other, Want(name, labels_only=True))
    if name is None and found.labels is None and len(found.arrays) > 1:
        name = next((n for wanted in LABEL_NAMES for n in found.arrays if _last(n).lower() == wanted), None)
    name = (
        name
        or found.labels
        or (next(iter(found.arrays)) if len(found.arrays) == 1 else choose_data(found, other, name, []))
    )
    if name not in found.arrays:
        raise AekitError(f"{other}: has no array {shown(name)!r}; it has {_described(found.arrays)}")
    return _label_values(f"{other}: {shown(name)}" if name else f"{other}", other, found.arrays[name], rows)


def _label_values(place: str, file: Path, stored: Stored, rows: int) -> Array:
    if stored.dtype.kind == "O":
        stored.read(0, 0)  # which tells why it is not read
    if not _is_list(stored):
        raise AekitError(f"{place}: has the shape {stored.shape}, labels are one per row; name another array")
    if stored.shape[0] != rows:
        raise AekitError(f"{place}: has {stored.shape[0]} labels, the data has {rows} rows; give one label per row")
    with reading(file, UnicodeDecodeError):
        values: Array = np.array(stored.read(0, rows)).reshape(-1)
        if values.dtype.kind == "S":
            return np.char.decode(values.astype(np.bytes_), "utf-8")
    if values.dtype.kind != "f":
        return values.astype(np.uint8) if values.dtype.kind == "b" else values
    if np.isnan(values).any():
        raise AekitError(
            f"{place}: row {int(np.isnan(values).argmax()) + 1} has no label; fill it in, or leave the row out"
        )
    whole = bool((np.abs(values) < 2**53).all() and (values % 1 == 0).all())
    return values.astype(np.int64) if whole else values


def with_picks(record: Record, contents: Contents, file: Path, data: str) -> Record:
    """The record with the arrivals of P and S, where arrays beside the data are called so."""
    names = [_near(contents, data, wanted) for wanted in PICK_NAMES]
    if not any(names) or record.kind != "series":
        return record
    points = record.sample_shape[-1]
    columns = []
    for name in names:
        if name is None:
            columns.append(np.full(len(record), -1))
            continue
        stored = contents.arrays[name]
        if not _is_list(stored) or stored.shape[0] != len(record) or stored.dtype.kind not in "iuf":
            return record  # of another array of the file
        with reading(file):
            values = np.array(stored.read(0, len(record)), dtype=np.float64).reshape(-1)
        if (values % 1 != 0).any():
            raise AekitError(f"{file}: {name} holds broken numbers; arrivals are told in points of their row")
        beyond = np.flatnonzero(values >= points)
        if len(beyond):
            raise AekitError(
                f"{file}: row {beyond[0]}: {name} is {values[beyond[0]]:g}, the row has {points} points; tell "
                "arrivals in points from the row's first, -1 where there is none"
            )
        columns.append(np.where(values >= 0, values, -1))
    p, s = columns
    wrong = np.flatnonzero((p >= 0) & (s >= 0) & (s <= p))
    if len(wrong):
        raise AekitError(f"{file}: row {wrong[0]}: S arrives at {s[wrong[0]]:g}, P at {p[wrong[0]]:g}; S comes after P")
    return replace(record, picks=np.stack(columns, axis=1).astype(np.int64))


def with_target(record: Record, contents: Contents, file: Path, asked: str | None) -> Record:
    """The record with its paired data, an array of the file or another file."""
    if asked is None:
        return record
    if asked in contents.arrays:
        target = record_at(f"{file}:{asked}", file, asked, contents)
    else:
        other, name = split_name(asked)
        _check_exists(file, contents, asked, other)
        found = contents_of(other, Want(name))
        target = record_at(remote.without_query(asked), other, choose_data(found, other, name, []), found)
    if len(target) != len(record):
        raise AekitError(
            f"{target.source}: has {len(target)} rows, {record.source} has {len(record)}; pair them row by row"
        )
    return replace(record, target=target)


def _check_exists(file: Path, contents: Contents, asked: str, other: Path) -> None:
    with reading(other):
        if not other.exists():
            has = listed([n for n in contents.arrays if n] or contents.columns) or "one array without a name"
            raise AekitError(f"{file}: has no array or column {shown(asked)!r}, nor is there such a file; it has {has}")
