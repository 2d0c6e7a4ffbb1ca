"""Places in object stores, as in s3://bucket/key: inputs are fetched whole, once, and outputs are put there whole.

Readers and writers know files alone. What is fetched lies under a folder of this process, at s3:/bucket/key, until the
process ends. pathlib makes one slash of two: so a Path of s3:/bucket/key is such a place too, and `told` gives messages
the address that the user knows.
"""

import atexit
import contextlib
import errno
import functools
import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from pathlib import Path, PurePosixPath
from typing import Any

from aekit.errors import AekitError

NEEDS = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "https": "aiohttp",
    "file": "fsspec",
    "memory": "fsspec",
}  # what may be named -> the package that reads it; others of fsspec run commands, or read what was not named
SPARE = 1 << 26  # bytes that are left free on the disk
MEGA = 10**6  # bytes
_COLLAPSED = re.compile(rf"\b({'|'.join(NEEDS)}):/(?!/)")

Say = Callable[[str], None]
Track = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@contextlib.contextmanager
def _silent(description: str, total: int) -> Iterator[Callable[[int], None]]:
    yield lambda done: None


_talk: ContextVar[tuple[Say, Track]] = ContextVar("_talk", default=(lambda line: None, _silent))


def talk_by(say: Say, track: Track) -> None:
    """Who is told, from now on, what is fetched, and how far it is."""
    _talk.set((say, track))


def is_remote(place: str | Path) -> bool:
    """Whether it names a place by a scheme, text with ://, a Path with one slash of it."""
    if isinstance(place, str):
        return "://" in place
    first = place.parts[0] if len(place.parts) > 1 else ""
    return len(first) > 1 and first.endswith(":") and not os.path.exists(first)


def told(text: str) -> str:
    """Text with the addresses of places in it, where it had what stands for them."""
    text = text.replace(f"{_folder()}/", "") if _folder.cache_info().currsize else text
    return _COLLAPSED.sub(lambda match: f"{match[1]}:///" if match[1] == "file" else f"{match[1]}://", text)


def without_query(address: str) -> str:
    """What may be kept in files and told: the query of an https address can be a key."""
    return address.partition("?")[0] if address.startswith("https:") else address


def local(path: Path) -> Path:
    """The path of file:///folder/name; any other as it is."""
    return Path("/", *path.parts[1:]) if is_remote(path) and path.parts[0] == "file:" else path


def fetched(place: str) -> str:
    """The local name of a file, folder or pattern with *, which is fetched at its first use; a local one as it is.

    Raises AekitError for what may not be named, is not there, or does not fit the disk.
    """
    if not is_remote(place):
        return place
    scheme, rest = _parts(place)
    if scheme == "file":
        return f"/{rest}"
    copy = _folder() / f"{scheme}:" / (rest.partition("?")[0] if scheme == "https" else rest)
    if place not in _fetched:
        _fetch(place, scheme, copy)
        _fetched.add(place)
    return str(copy)


_fetched: set[str] = set()


def check_free(path: Path, force: bool) -> None:
    """Raises AekitError where an output cannot be put there: it exists (and not `force`), or it would be a folder."""
    scheme, _ = _parts(_address(path))
    if scheme == "https":
        raise AekitError(f"{told(str(path))}: https is read, not written; name a place of s3, gs or az, or a file")
    if path.suffix in ("", ".zarr"):
        raise AekitError(
            f"{told(str(path))}: folders are not put whole into an object store; name a file with an ending"
        )
    if exists(path) and not force:
        raise AekitError(f"{told(str(path))}: exists already; name another, or overwrite it with --force")


def exists(path: Path) -> bool:
    """Whether there is something at a place."""
    with _asking(_address(path)):
        store, key = _store(_address(path))
        return bool(store.exists(key))


def temporary(path: Path) -> Path:
    """Where the file is written that `put` is to bring to this place."""
    return Path(tempfile.mkdtemp(dir=_folder())) / path.name


def put(file: Path, path: Path) -> None:
    """Brings a file to its place, whole or not at all; where that fails it is kept, and the AekitError says where."""
    say, _ = _talk.get()
    say(f"{told(str(path))}: putting {_megabytes(file.stat().st_size)}")
    try:
        with _asking(_address(path)):
            store, key = _store(_address(path))
            store.put_file(str(file), key)
    except AekitError as error:
        kept = Path(tempfile.mkdtemp(prefix="kept-")) / file.name
        shutil.move(file, kept)
        raise AekitError(f"{error}; the output is kept as {kept}") from error


# --- fsspec -----------------------------------------------------------------------------------------------------------


@functools.cache
def _folder() -> Path:
    """Of what is fetched by this process, and removed at its end."""
    folder = Path(tempfile.mkdtemp(prefix="aekit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _address(path: Path) -> str:
    first, *rest = path.parts
    return f"{first}//{'/'.join(rest)}"


def _parts(address: str) -> tuple[str, str]:
    """The scheme and what follows; raises AekitError for one that is not to be used."""
    scheme, _, rest = address.partition("://")
    shown = without_query(address)
    if "::" in address:
        raise AekitError(f"{shown}: addresses within addresses (::) are not followed; fetch the file yourself")
    if scheme == "http":
        raise AekitError(f"{shown}: http can be read and changed on its way; name it by https, or fetch it yourself")
    if scheme not in NEEDS:
        raise AekitError(f"{shown}: {scheme}:// is not known; name a file, or a place of s3, gs, az, abfs or https")
    if scheme == "https" and "@" in rest.partition("/")[0]:
        raise AekitError(f"{rest.partition('@')[2]}: leave name and password out of the address; fetch it yourself")
    if not rest.strip("/") or ".." in rest.split("/"):
        raise AekitError(f"{shown}: is no address of a file; name one, without .. in it")
    return scheme, rest.lstrip("/")


def _store(address: str) -> tuple[Any, str]:
    """fsspec's store and the key in it; raises AekitError without the package that it needs."""
    scheme, _ = _parts(address)
    needs = NEEDS[scheme]
    if importlib.util.find_spec("fsspec") is None or importlib.util.find_spec(needs) is None:
        what = '"aekit[remote]"' if needs in ("aiohttp", "fsspec") else needs
        raise AekitError(f"{without_query(address)}: needs the package {needs}; run: pip install {what}")
    import fsspec

    words = _https() if scheme == "https" else {}
    store, key = fsspec.core.url_to_fs(address, **words)
    return store, str(key)


def _https() -> dict[str, Any]:
    """Plain bytes, as many as are declared, and no way from https to http; certificates are checked by default."""
    import aiohttp

    async def check(session: object, context: object, step: Any) -> None:
        to = step.response.headers.get("Location", "")
        if "://" in to and not to.lower().startswith("https://"):
            raise AekitError(f"{without_query(str(step.url))}: leads away from https; name where it leads to")

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(check)
    client = {"trace_configs": [trace], "trust_env": True}  # proxies
    return {"client_kwargs": client, "headers": {"Accept-Encoding": "identity"}, "skip_instance_cache": True}


def _fetch(address: str, scheme: str, copy: Path) -> None:
    """A file, the files of a folder, or those that fit a pattern, to `copy`."""
    say, track = _talk.get()
    shown = without_query(address)
    with _asking(shown):
        store, key = _store(address)
        base = key.partition("*")[0].rpartition("/")[0] if "*" in key else key
        files = _found(store, key, scheme)
        root = Path(*copy.parts[: next((i for i, part in enumerate(copy.parts) if "*" in part), None)])
        places = {name: root / name[len(base) :].strip("/") for name in files}
        if not files:
            raise AekitError(f"{shown}: there are no files; check the name")
        strange = [name for name in files if ".." in PurePosixPath(name[len(base) :]).parts]
        if strange:
            raise AekitError(f"{shown}: holds {strange[0]!r}, which leads out of its folder; fetch the files yourself")
        total = sum(size or 0 for size in files.values())
        free = shutil.disk_usage(_folder()).free
        if total + SPARE > free:
            raise AekitError(_full(shown, f"{_megabytes(total)} do not fit into {_megabytes(free)}"))
        what = "" if len(files) == 1 else f"{len(files):,} files, "
        say(f"{shown}: fetching {what}{_megabytes(total)}" if total else f"{shown}: fetching")
        done = 0
        with track("fetching, MB", total // MEGA) as bar:
            for name, size in files.items():
                _fetch_file(store, name, size, places[name], lambda value: bar((done + value) // MEGA))  # noqa: B023
                done += size or 0


def _found(store: Any, key: str, scheme: str) -> dict[str, int | None]:
    """Names of files and their sizes in bytes, where they are told."""
    if "*" in key and scheme != "https":
        found = store.glob(key, detail=True)
    else:
        info = store.info(key)
        found = store.find(key, detail=True) if info["type"] == "directory" else {key: info}
    return {name: info["size"] for name, info in sorted(found.items()) if info["type"] == "file" and name[-1] != "/"}


def _fetch_file(store: Any, name: str, size: int | None, place: Path, on_bytes: Callable[[int], None]) -> None:
    """Under another name first: what is at its place is whole."""
    from fsspec.callbacks import Callback

    def check(_: int, value: int, **more: object) -> None:
        if size is not None and value > size:
            raise AekitError(f"{told(str(place))}: is longer than was told; try again")
        on_bytes(value)

    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.part")
    try:
        store.get_file(name, str(part), callback=Callback(hooks={"": check}))
        if size is not None and part.stat().st_size != size:
            came = part.stat().st_size
            raise AekitError(f"{told(str(place))}: was cut off, {came:,} of {size:,} bytes came; try again")
        os.replace(part, place)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def _asking(address: str) -> Iterator[None]:
    """Raises one AekitError line for what a store says."""
    shown = without_query(address)
    try:
        yield
    except AekitError:
        raise
    except Exception as error:  # each store has faults of its own, without a common base
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, AekitError):
            raise cause from error
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            raise AekitError(_full(shown, "the disk is full")) from error
        if isinstance(cause, FileNotFoundError) or getattr(cause, "status", None) == 404:
            raise AekitError(f"{shown}: there is no such place; check the address") from error
        why = (str(cause).strip().splitlines() or [""])[0][:200] or type(cause).__name__
        why = re.sub(r"\?[^\s'\"]*", "", why)  # the query, see without_query
        raise AekitError(f"{shown}: cannot be reached ({why}); check address, rights and network") from error


def _full(address: str, why: str) -> str:
    return f"{address}: {why} of {_folder().parent}; free some room, or name another folder by TMPDIR"


def _megabytes(size: int) -> str:
    return f"{size / MEGA:,.1f} MB"
