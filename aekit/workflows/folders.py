"""A folder of many files: a verb on each of them, by one model, and one output each at the same place of a folder."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from aekit.errors import AekitError
from aekit.files import check_free
from aekit.workflows.common import Clock, Options, Talk

One = Callable[[Path, Path, Options, Talk], dict[str, Any]]  # input, place of its output without the ending, ...
SUMMED = ("count", "flagged", "detections", "p_picks", "s_picks")


def over_folder(
    one: One, folder: Path, files: list[Path], out: Path, ending: str | None, options: Options, talk: Talk
) -> dict[str, Any]:
    """Runs `one` on each of the files under `folder`; outputs lie under `out` in the same folders, by the same names.

    `ending` is that of the outputs, None for the input's own. The model that the first file gets is taken for all. A
    file that cannot be read is told, and the others go on; raises AekitError at the end where there was such a file.
    """
    clock = Clock()
    if options.report is not None:
        raise AekitError(f"{folder}: is a folder of files; a report is of one file, so leave --report off or name one")
    check_free(out, force=True, as_folder=True)
    if out.exists() and (not out.is_dir() or out.resolve() == folder.resolve()):
        raise AekitError(f"{out}: the outputs of a folder go to another folder; name one with -o")
    places = [_place(out / file.relative_to(folder), ending) for file in files]
    for place in places:
        if places.count(place) > 1:
            raise AekitError(f"{place}: would be the output of two files; give them names that differ")
        if place.exists() and not options.force:
            raise AekitError(f"{place}: exists already; name another folder, or overwrite it with --force")
    said: set[str] = set()

    def say_once(line: str) -> None:
        if line not in said:
            talk.say(line)
        said.add(line)

    figures: dict[str, Any] = {"files": 0}
    failed: list[str] = []
    with talk.track("files", len(files)) as bar:
        for number, (file, place) in enumerate(zip(files, places, strict=True), start=1):
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                found = one(file, place, options, replace(Talk(), say=say_once))
            except AekitError as error:
                failed.append(str(error))
                talk.say(f"failed: {error}")
            else:
                options = replace(options, model=found["model"])
                figures["files"] += 1
                figures |= {name: figures.get(name, 0) + found[name] for name in SUMMED if name in found}
                figures |= {"out": str(out), "model": found["model"]}
            bar(number)
    if failed:
        others = f"the other {figures['files']} are written under {out}" if figures["files"] else "none is written"
        raise AekitError(f"{folder}: {len(failed)} of {len(files)} files failed, {others}; the first: {failed[0]}")
    return {**figures, "seconds": clock.seconds}


def _place(path: Path, ending: str | None) -> Path:
    """WFDB's signals lie beside the header, under the same name."""
    return path if ending is None else path.with_name(path.name + ending)
