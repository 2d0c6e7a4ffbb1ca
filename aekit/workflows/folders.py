"""A folder of many files: a verb on each of them, by one model, and one output each at the same place of a folder."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from aekit.errors import AekitError
from aekit.formats import FolderFiles
from aekit.workflows.common import Clock, Options, Talk

One = Callable[[Path, list[Path], Options, Talk], dict[str, Any]]  # a file and the places of its outputs -> figures
SUMMED = ("count", "flagged", "detections", "p_picks", "s_picks")


def over_folder(
    one: One, folder: Path, inside: FolderFiles, outs: list[Path], ending: str, options: Options, talk: Talk
) -> dict[str, Any]:
    """Runs `one` on each file; its outputs lie under each of `outs` in the same folders, named as it is + `ending`.

    The model that the first file gets is taken for all. A file that fails is told and the others go on; raises
    AekitError at the end where there was such a file.
    """
    clock = Clock()
    if options.report is not None:
        raise AekitError(f"{folder}: is a folder of files; a report is of one file, so leave --report off or name one")
    if inside.left_out:
        talk.say(f"{folder}: {inside.left_out}")
    names = [Path(f"{file.relative_to(folder)}{ending}") for file in inside.files]
    _check_places(folder, names, outs, options.force)
    said: set[str] = set()
    figures: dict[str, Any] = {"files": 0}
    failed: list[str] = []
    with talk.track("files", len(names)) as bar:
        for number, (file, name) in enumerate(zip(inside.files, names, strict=True), start=1):

            def say_once(line: str, file: Path = file) -> None:
                if line not in said:
                    talk.say(line if line.startswith(str(file)) else f"{file}: {line}")
                said.add(line)

            places = [out / name for out in outs]
            for place in places:
                place.parent.mkdir(parents=True, exist_ok=True)
            try:
                found = one(file, places, options, Talk(say=say_once))
            except AekitError as error:
                failed.append(str(error))
                talk.say(f"failed: {error}")
            else:
                options = replace(options, model=found["model"])
                figures["files"] += 1
                figures |= {name: figures.get(name, 0) + found[name] for name in SUMMED if name in found}
                figures |= {"out": str(outs[0]), "model": found["model"]}
            bar(number)
    if failed:
        others = f"the other {figures['files']} are written under {outs[0]}" if figures["files"] else "none is written"
        raise AekitError(f"{folder}: {len(failed)} of {len(names)} files failed, {others}; the first: {failed[0]}")
    return {**figures, "seconds": clock.seconds}


def _check_places(folder: Path, names: list[Path], outs: list[Path], force: bool) -> None:
    """Raises AekitError, before any work is done, where an output cannot be written, or would be read the next time."""
    taken = [folder.resolve()]
    for out in outs:
        root = out.resolve()
        if any(other in (root, *root.parents) for other in taken):
            raise AekitError(f"{out}: lies in the folder that is read, or in another output; name one outside it")
        for place in (out, *out.parents):
            if place.exists() and not place.is_dir():
                raise AekitError(f"{out}: {place} is a file; name a folder for the outputs of a folder")
        if not out.parent.is_dir():
            raise AekitError(f"{out}: the folder {out.parent} does not exist; make it first")
        taken.append(root)
        for name in names:
            if (out / name).exists() and not force:
                raise AekitError(f"{out / name}: exists already; name another folder, or overwrite it with --force")
