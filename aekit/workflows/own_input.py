"""score without a model: a robust ensemble learns from the very rows that are to be scored."""

import math
import shutil
from typing import Any

from aekit.errors import AekitError
from aekit.records import Record, times
from aekit.trained import TrainedModel
from aekit.workflows import common
from aekit.workflows.common import Options, Talk
from aekit.workflows.train import train

RECIPE = "ensemble"
FEWEST = 10  # rows, or points of a series, below which nothing can be told
SCARCE = 1000  # rows, of which more networks learn for a shorter time
LARGEST = 32  # side of a picture that is looked at as a whole
TILE = 16  # side of the pieces of larger ones


def learn(data: str, record: Record, labels: str | None, options: Options, talk: Talk) -> TrainedModel:
    """A model of the record's rows, some of which may be anomalous, kept as a run; raises AekitError for too few.

    The record was opened with `labels`, which are not learnt from but shown.
    """
    count = record.sample_shape[-1] if record.by_point else len(record)
    if count < FEWEST:
        what = "points" if record.by_point else "row" if count == 1 else "rows"
        raise AekitError(
            f"{data}: {count} {what} cannot tell by themselves what is normal; give at least {FEWEST}, or name a model "
            "with --model"
        )
    choices, why = _choose(record)
    begun = (
        "a fresh model is asked for"
        if options.fresh
        else f"no run under {common.RUNS}/ is of this data (--model names another)"
    )
    talk.say(f"{data}: {begun}; {RECIPE} learns from the {count:,} {'points' if record.by_point else 'rows'}: {why}")
    run = common.next_run(RECIPE, data)
    had_runs = common.RUNS.exists()
    told = {"labels": labels, "missing": options.missing}
    choices |= {"seed": options.seed, **{name: word for name, word in told.items() if word is not None}}
    try:
        train(RECIPE, data, choices, str(run), device=options.device, kernels=options.kernels, talk=talk, record=record)
    except AekitError:
        shutil.rmtree(run, ignore_errors=True)
        if not had_runs and common.RUNS.exists():
            common.RUNS.rmdir()
        raise
    return common.load_model(str(run))


def _choose(record: Record) -> tuple[dict[str, Any], str]:
    """Options of the recipe for this kind of data, and why."""
    channels, *size = record.sample_shape
    if record.by_point:
        return {}, "windows of one long series, a score for each point"
    if record.kind == "image" and max(size) > LARGEST and min(size) >= TILE:
        return {
            "window": TILE
        }, f"pictures of {times(tuple(size))} in pieces of {TILE}x{TILE}, each scored by its worst"
    scarce: dict[str, Any] = {"restarts": 3, "steps": 300} if len(record) < SCARCE else {}
    if record.kind == "table":
        return scarce, f"a table of {math.prod(size)} columns"
    return scarce, f"{'pictures' if record.kind == 'image' else 'series'} of {times((channels, *size))}, as a whole"
