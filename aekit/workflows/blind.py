"""denoise without a model: learns from the noisy rows alone, and says so where their noise does not allow it."""

from typing import Any

import numpy as np
import torch

from aekit import whiteness
from aekit.batches import as_tensor
from aekit.errors import AekitError
from aekit.inference import Run
from aekit.records import Record
from aekit.trained import TrainedModel
from aekit.whiteness import Evidence
from aekit.windows import cut, fits, tiles
from aekit.workflows import common
from aekit.workflows.common import Options, Talk
from aekit.workflows.own_input import own_run, train_on

RECIPE = "blind-spot"
JUDGED = 1 << 19  # values of a record, about


def find_model(
    data: str, record: Record, options: Options, talk: Talk, may_learn: bool = True
) -> tuple[TrainedModel, Run, dict[str, Any]]:
    """The model to denoise the record with, learnt from it where no run fits, and what it found of the noise.

    Raises AekitError where it learns from noisy rows alone and their noise is not independent from point to point; a
    run that was learnt here is then removed.
    """
    can_learn = may_learn and (record.kind != "table" or options.fresh)
    with own_run(RECIPE, data) as folder:

        def learn() -> TrainedModel:
            why = (
                "a new one is asked for"
                if options.fresh
                else f"no run under {common.RUNS}/ fits (--model names one learnt from other data)"
            )
            talk.say(f"{data}: {why}: learns from the noisy rows alone, each point from the others")
            return train_on(record, RECIPE, data, {}, folder, options, talk)

        trained, run = common.find_model(data, record, "denoise", options, talk, learn if can_learn else None)
        can_judge = hasattr(trained.network, "foresight") and fits(record.sample_shape, trained.sample_shape)
        return trained, run, _judge(trained, run, record, talk) if can_judge else {}


def _judge(trained: TrainedModel, run: Run, record: Record, talk: Talk) -> dict[str, Any]:
    """The noise of a part of the record, in the file's units; AekitError where it is not white."""
    found = _evidence(trained, run, record)
    unit = torch.tensor(trained.normalisation.scale)  # one, or one for each channel
    sigma = float((trained.network.sigma.detach().cpu().flatten() * unit).mean())  # type: ignore[operator]
    if not found.is_white:
        raise AekitError(
            f"{record.source}: its noise is not independent from point to point: the nearest points foretell a point "
            f"to {100 * found.near:.0f} % of the data's standard deviation, those farther off to {100 * found.far:.0f} "
            f"% (correlation {found.correlation:.2f}), so they share noise, which noisy data alone cannot tell from "
            "signal; train on clean data with --corrupt, on pairs with --target, or with records of the noise "
            "(--corrupt records:FILE)"
        )
    talk.say(f"{record.source}: noise of standard deviation {sigma:.4g}, independent from point to point")
    return {
        "noise_std": sigma,
        "left_by_near": round(found.near, 4),
        "left_by_far": round(found.far, 4),
        "noise_correlation": round(found.correlation, 4),
    }


@torch.inference_mode()
def _evidence(trained: TrainedModel, run: Run, record: Record) -> Evidence:
    """Of some rows all over the record, cut as the model takes them."""
    rows = max(1, JUDGED // record.values_per_row)
    samples, _, _ = common.some_rows(record, min(rows, len(record)))
    places = tiles(record.sample_shape[1:], trained.sample_shape[1:], overlap=False)
    pieces = np.concatenate([cut(sample, places) for sample in samples])
    pieces = pieces[:: max(1, len(pieces) * pieces[0].size // JUDGED)]
    x, _, _ = trained.normalisation.apply(as_tensor(pieces).to(run.device))
    parts = [trained.network.foresight(part) for part in x.split(run.batch_size)]  # type: ignore[operator, no-untyped-call]
    return whiteness.evidence(x, whiteness.joined(parts), trained.network.sigma)  # type: ignore[arg-type]
