"""score without a model: a robust ensemble learns from the very rows that are to be scored."""

import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from aekit.errors import AekitError
from aekit.records import Record, times
from aekit.trained import TrainedModel
from aekit.workflows import common
from aekit.workflows.common import Options, Talk
from aekit.workflows.train import train

RECIPE = "ensemble"
FEWEST = 10  # rows, or points of a series, below which nothing can be told
MOST_POINTS = 1_000_000  # of a single series, which is scored point by point up to there, in windows beyond
SCARCE = 1000  # rows, of which more networks learn for a shorter time
LARGEST = 32  # side of a picture that is looked at as a whole
TILE = 16  # side of the pieces of larger ones
WINDOW = 64  # points, of series so few that their windows are what is compared


def learn(data: str, record: Record, labels: str | None, options: Options, talk: Talk) -> TrainedModel:
    """A model of the record's rows, some of which may be anomalous, kept as a run; raises AekitError for too few.

    The record was opened with `labels`, which are not learnt from but shown.
    """
    record = as_points(record, 1)
    of_windows = record.kind == "series" and not record.by_point and len(record) < FEWEST
    windows = len(record) * math.ceil(record.sample_shape[-1] / WINDOW) if of_windows else 0
    counts = {"points": record.sample_shape[-1] if record.by_point else 0, "windows": windows, "rows": len(record)}
    what = "points" if record.by_point else "windows" if windows >= FEWEST else "rows"
    count = counts[what]
    if count < FEWEST:
        what = "row" if (what, count) == ("rows", 1) else what
        raise AekitError(
            f"{data}: {count} {what} cannot tell by themselves what is normal; give at least {FEWEST}, or name a model "
            "with --model"
        )
    choices, why = choose(record, what == "windows")
    begun = (
        "a fresh model is asked for"
        if options.fresh
        else f"no run under {common.RUNS}/ is of this data (--model names another)"
    )
    talk.say(f"{data}: {begun}; {RECIPE} learns from the {count:,} {what}: {why}")
    told = {"labels": labels, "missing": options.missing}
    choices |= {name: word for name, word in told.items() if word is not None}
    with own_run(RECIPE, data) as run:
        return train_on(record, RECIPE, data, choices, run, options, talk)


def as_points(record: Record, window: int) -> Record:
    """A single series, longer than the window, as one whose rows are points; any other record as it is."""
    points = record.sample_shape[-1]
    if record.kind != "series" or len(record) > 1 or not window < points <= MOST_POINTS or points < FEWEST:
        return record
    return replace(record, by_point=True)


@contextmanager
def own_run(recipe: str, data: str) -> Iterator[Path]:
    """The folder of a run to come, which is removed again where AekitError ends the block."""
    run = common.next_run(recipe, data)
    had_runs = common.RUNS.exists()
    try:
        yield run
    except AekitError:
        shutil.rmtree(run, ignore_errors=True)
        if not had_runs and common.RUNS.exists():
            common.RUNS.rmdir()
        raise


def train_on(
    record: Record, recipe: str, data: str, choices: Mapping[str, Any], run: Path, options: Options, talk: Talk
) -> TrainedModel:
    """A model of the recipe that learns from the record, the verb's own input, kept in the folder `run`."""
    train(
        recipe,
        data,
        {**choices, "seed": options.seed},
        str(run),
        device=options.device,
        kernels=options.kernels,
        talk=talk,
        record=record,
    )
    return common.load_model(str(run))


def choose(record: Record, of_windows: bool = False) -> tuple[dict[str, Any], str]:
    """Options of the recipe for this kind of data, and why."""
    channels, *size = record.sample_shape
    if record.by_point:
        return {}, "windows of one long series, a score for each point"
    if of_windows:
        return {"window": WINDOW}, f"long series, a score for each window of {WINDOW} points"
    if record.kind == "image" and max(size) > LARGEST and min(size) >= TILE:
        return {
            "window": TILE
        }, f"pictures of {times(tuple(size))} in pieces of {TILE}x{TILE}, each scored by its worst"
    scarce: dict[str, Any] = {"restarts": 3, "steps": 300} if len(record) < SCARCE else {}
    if record.kind == "table":
        return scarce, f"a table of {math.prod(size)} columns"
    return scarce, f"{'pictures' if record.kind == 'image' else 'series'} of {times((channels, *size))}, as a whole"
