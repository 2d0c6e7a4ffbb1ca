"""A folder of many files: a verb on each of them, by one model, and one output each at the same place of a folder."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Any

from aekit.errors import AekitError
from aekit.files import is_there, make_folder
from aekit.formats import Files, is_alike, joined, open_record, usual
from aekit.records import Record, rows_of
from aekit.remote import is_remote
from aekit.workflows.common import Clock, Options, Talk
from aekit.workflows.shards import Shard

One = Callable[[Path, list[Path], Options, Talk], dict[str, Any]]  # a file and the places of its outputs -> figures
ModelFor = Callable[[Record], str]  # the rows of all files -> a model's place
FILES = 100  # of a folder, at most, that one model is trained on
SUMMED = ("count", "flagged", "detections", "p_picks", "s_picks")


def over_folder(
    one: One,
    model_for: ModelFor,
    data: str,
    inside: Files,
    outs: list[Path],
    ending: str,
    options: Options,
    talk: Talk,
    shard: Shard | None = None,
) -> dict[str, Any]:
    """Runs `one` on each file; its outputs lie under each of `outs` in the same folders, named as it is + `ending`.

    Where no model is named, the one that `model_for` finds for the rows of all files is taken for each. With a shard
    only its share of the files is taken, and an output that is there already stays, so that a killed job goes on. A
    file that fails is told and the others go on; raises AekitError at the end where there was such a file.
    """
    clock = Clock()
    if options.report is not None:
        raise AekitError(f"{data}: is a folder of files; a report is of one file, so leave --report off or name one")
    if inside.left_out:
        talk.say(f"{data}: {inside.left_out}")
    files = inside.files if shard is None else inside.files[slice(*shard.rows(len(inside.files)))]
    names = [Path(f"{file.relative_to(inside.folder)}{ending}") for file in files]
    _check_places(inside, names, outs, options.force or shard is not None)
    if options.model is None:
        record = _usual(data, inside)
        options = options if record is None else replace(options, model=model_for(record), fresh=False)
    said: set[str] = set()
    figures: dict[str, Any] = {"files": 0, **({} if shard is None else {"shard": str(shard)})}
    if shard is not None and not options.force:
        todo = [not all(is_there(out / name) for out in outs) for name in names]
        if not all(todo):
            talk.say(
                f"{outs[0]}: {todo.count(False)} of {len(names)} files are already there and stay, whatever model made "
                "them (--force makes them anew)"
            )
        figures |= {"already_there": todo.count(False), "out": str(outs[0])}
        files, names = list(compress(files, todo)), list(compress(names, todo))
    failed: list[str] = []
    with talk.track("files", len(names)) as bar:
        for number, (file, name) in enumerate(zip(files, names, strict=True), start=1):

            def say_once(line: str, file: Path = file) -> None:
                if line not in said:
                    talk.say(line if line.startswith(str(file)) else f"{file}: {line}")
                said.add(line)

            places = [out / name for out in outs]
            for place in places:
                make_folder(place.parent)
            try:
                found = one(file, places, options, Talk(say=say_once))
            except AekitError as error:
                failed.append(str(error))
                talk.say(f"failed: {error}")
            else:
                figures["files"] += 1
                figures |= {name: figures.get(name, 0) + found[name] for name in SUMMED if name in found}
                figures |= {"out": str(outs[0]), "model": found["model"]}
            bar(number)
    if failed:
        others = f"the other {figures['files']} are written under {outs[0]}" if figures["files"] else "none is written"
        raise AekitError(f"{data}: {len(failed)} of {len(names)} files failed, {others}; the first: {failed[0]}")
    return {**figures, "seconds": clock.seconds}


def _check_places(inside: Files, names: list[Path], outs: list[Path], force: bool) -> None:
    """Raises AekitError, before any work is done, where an output cannot be written, or would be read the next time.

    A pattern without ** does not look into folders: outputs may lie beside its files, in a folder of their own.
    """
    folder = inside.folder.resolve()
    taken: list[Path] = []
    for out in outs:
        for name in names:
            if not force and is_there(out / name):
                raise AekitError(f"{out / name}: exists already; name another folder, or overwrite it with --force")
        if is_remote(out):
            continue
        root = out.resolve()
        is_read = root == folder or (inside.is_deep and folder in root.parents)
        if is_read or any(other in (root, *root.parents) for other in taken):
            raise AekitError(f"{out}: lies in the folder that is read, or in another output; name one outside it")
        for place in (out, *out.parents):
            if place.exists() and not place.is_dir():
                raise AekitError(f"{out}: {place} is a file; name a folder for the outputs of a folder")
        if not out.parent.is_dir():
            raise AekitError(f"{out}: the folder {out.parent} does not exist; make it first")
        taken.append(root)


def _usual(data: str, inside: Files) -> Record | None:
    """The rows of the files that are alike, as one record, without labels; None where no file can be read."""
    records: list[Record] = []
    for file in inside.files[:FILES]:
        with contextlib.suppress(AekitError):  # it is told when its turn comes
            records.append(open_record(inside.address(file)))
    if len(records) < 2:
        return records[0] if records else None
    bare = [rows_of(record, 0, len(record)) for record in records]
    first = usual(bare)
    return joined(data, [record for record in bare if is_alike(first, record)])
