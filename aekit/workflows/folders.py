"""A folder of many files: a verb on each of them, by one model, and one output each at the same place of a folder."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aekit.errors import AekitError
from aekit.formats import FolderFiles, open_record
from aekit.records import Array, Record
from aekit.workflows.common import Clock, Options, Talk

One = Callable[[Path, list[Path], Options, Talk], dict[str, Any]]  # a file and the places of its outputs -> figures
ModelFor = Callable[[Record], str]  # the rows of all files -> a model's place
FILES = 100  # of a folder, at most, that one model is trained on
SUMMED = ("count", "flagged", "detections", "p_picks", "s_picks")


def over_folder(
    one: One,
    model_for: ModelFor,
    folder: Path,
    inside: FolderFiles,
    outs: list[Path],
    ending: str,
    options: Options,
    talk: Talk,
) -> dict[str, Any]:
    """Runs `one` on each file; its outputs lie under each of `outs` in the same folders, named as it is + `ending`.

    Where no model is named, the one that `model_for` finds for the rows of all files is taken for each. A file that
    fails is told and the others go on; raises AekitError at the end where there was such a file.
    """
    clock = Clock()
    if options.report is not None:
        raise AekitError(f"{folder}: is a folder of files; a report is of one file, so leave --report off or name one")
    if inside.left_out:
        talk.say(f"{folder}: {inside.left_out}")
    names = [Path(f"{file.relative_to(folder)}{ending}") for file in inside.files]
    _check_places(folder, names, outs, options.force)
    if options.model is None:
        record = _joined(folder, inside.files)
        options = options if record is None else replace(options, model=model_for(record), fresh=False)
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


def _joined(folder: Path, files: list[Path]) -> Record | None:
    """The rows of files of one shape as one record, in memory only as they are read; None where none can be read."""
    records: list[Record] = []
    for file in files:
        try:
            record = open_record(str(file))
        except AekitError:
            continue  # it is told when its turn comes
        if not records or (record.sample_shape, record.dtype) == (records[0].sample_shape, records[0].dtype):
            records.append(record)
        if len(records) == FILES:
            break
    if len(records) < 2:
        return records[0] if records else None
    ends = np.cumsum([len(record) for record in records])

    def read(start: int, stop: int) -> Array:
        parts = []
        for record, end in zip(records, ends, strict=True):
            first = int(end) - len(record)
            if first < stop and start < end:
                rows = record.read(max(start - first, 0), min(stop, int(end)) - first)
                parts.append(record.to_samples(np.array(rows)))
        return np.concatenate(parts)

    first = records[0]
    shape = (int(ends[-1]), *first.sample_shape)
    return Record(str(folder), shape, first.dtype, read, first.kind, 1, sampling_rate=first.sampling_rate)
