"""Outputs that are whole or absent: written under a temporary name beside their place, renamed at the end.

Those of object stores are written to a folder of this machine, and put at their place in the renaming's stead.
"""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from aekit import remote
from aekit.errors import AekitError

STORES = (".zarr",)  # folders that are a file to whoever uses them

_waiting: ContextVar[list[tuple[Path, Path]] | None] = ContextVar("_waiting", default=None)  # of `together`


def check_free(path: Path, force: bool, as_folder: bool = False) -> None:
    """Raises AekitError where `path` cannot be written: it exists (and not `force`), or its folder is missing.

    A file never takes a folder's place: unless one is to be written (`as_folder`), a folder at `path` is refused.
    """
    path = remote.local(path)
    if remote.is_remote(path):
        remote.check_free(path, force)
        return
    if path.is_dir() and path.suffix and path.suffix not in STORES and not as_folder:
        raise AekitError(f"{path}: is a folder; name a file with -o")
    if path.exists() and not force:
        raise AekitError(f"{path}: exists already; name another, or overwrite it with --force")
    folder = path.parent
    if not folder.is_dir():
        raise AekitError(f"{path}: the folder {folder} does not exist; make it first")
    if not os.access(folder, os.W_OK):
        raise AekitError(f"{path}: the folder {folder} is not writable; name another place with -o")


@contextlib.contextmanager
def whole(path: Path, force: bool = False) -> Iterator[Path]:
    """Gives a temporary path in the same folder, for a file or a folder; it becomes `path` when the block ends well.

    After an exception, Ctrl-C included, nothing is left. Raises AekitError for what the user can mend: a path that
    exists, a folder that is missing or not writable, a full disk.
    """
    path = remote.local(path)
    check_free(path, force)
    name = f".{path.name}.{secrets.token_hex(4)}{path.suffix}"
    temporary = remote.temporary(path) if remote.is_remote(path) else path.with_name(name)
    waiting = _waiting.get()
    done = False
    try:
        with _told(path):
            yield temporary
            _check_replaceable(temporary, path)
            if waiting is None:
                _place(temporary, path)
            else:
                waiting.append((temporary, path))
        done = True
    finally:
        if waiting is None or not done:
            _remove(temporary)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """What the `whole` blocks inside write takes its place when this block ends well: all of it or nothing.

    Inside another such block it is that one's end which counts.
    """
    if _waiting.get() is not None:
        yield
        return
    waiting: list[tuple[Path, Path]] = []
    token = _waiting.set(waiting)
    try:
        yield
        for temporary, path in waiting:
            with _told(path):
                _place(temporary, path)
    finally:
        _waiting.reset(token)
        for temporary, _ in waiting:
            _remove(temporary)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turns what the system says of writing `path` into what the user can do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            other = "another folder by TMPDIR" if remote.is_remote(path) else "another place with -o"
            raise AekitError(f"{path}: the disk is full; free some room, or name {other}") from error
        why = error.strerror or type(error).__name__
        raise AekitError(f"{path}: cannot be written ({why}); name another place with -o") from error


def is_there(path: Path) -> bool:
    """Whether an output of this name exists."""
    path = remote.local(path)
    return remote.exists(path) if remote.is_remote(path) else path.exists()


def make_folder(path: Path) -> None:
    """And those above it; object stores have none."""
    path = remote.local(path)
    if not remote.is_remote(path):
        path.mkdir(parents=True, exist_ok=True)


def _check_replaceable(temporary: Path, path: Path) -> None:
    """A folder gives way (with `force`) to another of the same kinds of files alone."""
    if path.is_dir() and not (path.suffix in STORES and (path / "zarr.json").exists() and temporary.is_dir()):
        ours = {p.suffix for p in temporary.iterdir()} if temporary.is_dir() else set()
        if any(p.is_dir() or p.suffix not in ours for p in path.iterdir()) or not temporary.is_dir():
            raise AekitError(f"{path}: a folder that holds other things is not overwritten; name another with -o")


def _place(temporary: Path, path: Path) -> None:
    if remote.is_remote(path):
        remote.put(temporary, path)
        return
    if path.is_dir():
        shutil.rmtree(path)
    if temporary.is_file():
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # safetensors leaves its files to their owner alone
    os.replace(temporary, path)


def _remove(temporary: Path) -> None:
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        temporary.unlink(missing_ok=True)
