"""The options of a training run: sorted into those of training, model and data, completed and checked."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from aekit import recipes
from aekit.errors import AekitError, UsageError
from aekit.models import MODELS, settings_of
from aekit.objectives import ERRORS, parse_penalties
from aekit.settings import is_a, words
from aekit.training import PRECISIONS, TrainSettings, is_judged, steps_in_epoch
from aekit.workflows.common import Talk
from aekit.workflows.training_data import Parts

PASSES, LEAST_STEPS = 20, 800  # over the rows of a run that goes by points
OBJECTIVE = {"error", "beta", "beta_warmup", "penalty"}  # what a network with phases of its own has no use for
TRAINING_OPTIONS = tuple(f.name for f in fields(TrainSettings))
DATA_OPTIONS = ("labels", "target", "normal", "val", "missing", "window", "buffer", "corrupt", "augment", "start")


def resolve(
    name: str, options: Mapping[str, Any]
) -> tuple[TrainSettings, dict[str, Any], Sequence[str], dict[str, Any]]:
    """Training settings, model settings, corruption and data options; a flag beats the recipe, which beats defaults."""
    chosen = recipes.recipe(name)
    of_size = chosen.sizes.get(str(options.get("size")), {})
    training = {**chosen.training, **of_size, **{k: v for k, v in options.items() if k in TRAINING_OPTIONS}}
    training = {k: tuple(v) if isinstance(v, list) else v for k, v in training.items()}
    data_options = {
        k: v if k in ("window", "buffer") else str(v)
        for k, v in options.items()
        if k in DATA_OPTIONS and k != "corrupt"
    }
    model = {k: v for k, v in options.items() if k not in TRAINING_OPTIONS and k not in DATA_OPTIONS}
    model = {k: tuple(v) if isinstance(v, list) else v for k, v in model.items()}
    known = settings_of(chosen.model)
    for key in model:
        if key not in known:
            raise UsageError(
                f"the recipe {name} has no setting {key!r}; it knows {', '.join(known)} "
                f"for training {', '.join(TRAINING_OPTIONS)} and of the data {', '.join(DATA_OPTIONS)}"
            )
    if hasattr(MODELS[chosen.model], "phases") and OBJECTIVE & set(options):
        raise UsageError(f"the recipe {name} has a loss of its own: leave --error, --beta and --penalty off")
    if not is_judged(MODELS[chosen.model]) and {"corrupt", "patience"} & set(options):
        raise UsageError(
            f"the recipe {name} has no error to corrupt for or to wait on: leave --corrupt, --patience off"
        )
    if training.get("penalty") == ("none",):
        training["penalty"] = ()
    settings = TrainSettings(**training)
    _check_training(settings)
    _check_penalties(name, settings, {**known, **chosen.settings, **model})
    corruption = options.get("corrupt", chosen.corruption)
    if not is_a(corruption, tuple[str, ...]):
        raise UsageError(f"corrupt={corruption}: a list of words such as gaussian:0.2 is needed")
    return settings, {**chosen.settings, **model}, tuple(corruption), data_options


def with_augment(corruption: Sequence[str], augment: str) -> list[str]:
    """Each corruption, or none, after what makes other clean samples."""
    first = "" if augment in ("None", "none") else augment
    chains = ["+".join(part for part in (first, text) if part) for text in corruption or [""]]
    return [chain for chain in chains if chain]


def enough_epochs(settings: TrainSettings, chosen: recipes.Recipe, rows: int, talk: Talk) -> TrainSettings:
    """More epochs than the recipe's where rows are so few that they would make too few steps."""
    needed = math.ceil(chosen.least_steps / steps_in_epoch(rows, settings.batch_size))
    if needed <= settings.epochs:
        return settings
    talk.say(
        f"{rows} rows make short epochs: {needed} of them instead of {settings.epochs} (--epochs for another number)"
    )
    return replace(settings, epochs=needed)


def by_points(
    settings: TrainSettings, points: tuple[int, int], parts: Parts, options: Mapping[str, Any], talk: Talk
) -> TrainSettings:
    """Batches of so many points; and steps by the points of all rows, where neither steps nor epochs are asked for."""
    each = math.prod(parts.train.x.shape[2:])
    if "batch_size" not in options:
        settings = replace(settings, batch_size=min(len(parts.train), max(2, points[0] // each)))
    if settings.steps is None and "epochs" not in options:
        wanted = min(points[1], PASSES * each * len(parts.train))
        settings = replace(settings, steps=max(LEAST_STEPS, math.ceil(wanted / (each * settings.batch_size))))
        talk.say(f"{settings.steps} steps of {settings.batch_size} rows (--steps for another number)")
    return settings


def _check_training(settings: TrainSettings) -> None:
    """Raises UsageError for a value that is out of bounds or of another type."""
    for name, hint in get_type_hints(TrainSettings).items():
        if not is_a(getattr(settings, name), hint):
            raise UsageError(f"{name}={getattr(settings, name)}: {words(hint)} is needed")
    wrong = None
    if settings.error not in ERRORS:
        wrong = f"--error {settings.error}: there are {', '.join(ERRORS)}"
    elif settings.precision not in PRECISIONS:
        wrong = f"--precision {settings.precision}: there are {', '.join(PRECISIONS)}"
    elif settings.epochs < 1 or (settings.steps is not None and settings.steps < 1) or settings.batch_size < 1:
        wrong = "--epochs, --steps and --batch-size are at least 1"
    elif max(settings.epochs, settings.steps or 0, settings.batch_size, settings.seed) >= 1 << 32:
        wrong = "--epochs, --steps, --batch-size and --seed are below 4294967296"
    elif not 0 < settings.lr < math.inf or settings.weight_decay < 0 or settings.beta < 0:
        wrong = "--lr is above 0, --weight-decay and --beta are not below"
    elif settings.patience is not None and settings.patience < 1:
        wrong = "--patience is at least 1"
    elif not 0 <= settings.beta_warmup < 1:
        wrong = f"--beta-warmup {settings.beta_warmup:g}: a share of the run, at least 0 and below 1"
    elif not all(0 <= share < 1 for share in (settings.warmup, *settings.betas)):
        wrong = "warmup and betas are shares, at least 0 and below 1"
    elif (settings.clip is not None and not settings.clip > 0) or settings.seed < 0:
        wrong = "clip is above 0, --seed is not below"
    if wrong is not None:
        raise UsageError(wrong)


def _check_penalties(name: str, settings: TrainSettings, chosen: Mapping[str, Any]) -> None:
    """Raises UsageError for penalties that are not understood, or that the model cannot have."""
    penalties = parse_penalties(settings.penalty)
    last = chosen.get("latent_activation") or chosen.get("activation")
    if any(penalty.name == "kl" for penalty in penalties) and ("latent_activation" not in chosen or last != "sigmoid"):
        raise UsageError(
            f"--penalty kl: needs latents in 0..1, as the recipe sparse has them; the recipe {name} has not"
            + ("; add --set latent_activation=sigmoid" if "latent_activation" in chosen else "")
        )


def read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
    except OSError as error:
        raise AekitError(f"{path}: {error.strerror}; name the config.json of a run") from error
    except (ValueError, RecursionError) as error:
        raise AekitError(f"{path}: not JSON ({error}); name the config.json of a run") from error
    wanted = {"recipe": str, "data": str, "options": dict}
    if not isinstance(config, dict) or not all(isinstance(config.get(name), kind) for name, kind in wanted.items()):
        raise AekitError(f"{path}: not the config of a run: it lacks recipe, data or options")
    return config
