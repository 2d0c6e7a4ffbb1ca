"""train: data in, a run folder out.

A run folder is written as training goes: config.json first, then after each epoch metrics.csv, resume.safetensors and,
where the epoch is the best so far, model.safetensors. Calibration, baseline and report follow at the end.
"""

import csv
import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from aekit import checkpoint, ranks, recipes, remote
from aekit.corruptions import Corruption, Records, parse_corruption
from aekit.errors import AekitError, RankError, UsageError
from aekit.files import check_free, whole
from aekit.inference import pick_device
from aekit.layers import channels_last, count_parameters
from aekit.models import DERIVED, MODELS, build
from aekit.objectives import parse_penalties
from aekit.records import Record, times
from aekit.trained import TrainedModel
from aekit.training import (
    Epoch,
    State,
    TrainSettings,
    classifies,
    finds_picks,
    fit,
    is_judged,
    mix,
    steps_in_epoch,
)
from aekit.workflows import common, train_options
from aekit.workflows.common import CONFIG_FILE, MODEL_FILE, Clock, Talk
from aekit.workflows.finish import finish
from aekit.workflows.training_data import Parts, open_parts
from aekit.workflows.training_report import Stages, sample_sheet, show_layers, training_page

RESUME_FILE = "resume.safetensors"
METRICS_FILE = "metrics.csv"
REPORT_FILE = "report.html"
FILES = (MODEL_FILE, RESUME_FILE, METRICS_FILE, REPORT_FILE)
SHUFFLED_BATCHES = 8  # at least, in the buffer of a stream
SAMPLES_FOLDER = "samples"  # what networks that compete generate from the same latents
LINES = 25  # told of a run, however many epochs
SECONDS_BETWEEN_FILES = 1.0  # of a run whose epochs are shorter
SHEETS = 100  # of samples, likewise
COLUMNS = ("epoch", "train_loss", "val_error", "best", "penalty", "seconds", "samples_per_second")


def train(
    recipe: str | None = None,
    data: str | None = None,
    options: Mapping[str, Any] | None = None,
    out: str | None = None,
    config: str | None = None,
    resume: str | None = None,
    dry_run: bool = False,
    device: str = "auto",
    kernels: str = "auto",
    force: bool = False,
    talk: Talk | None = None,
    record: Record | None = None,
    report: bool = True,
) -> dict[str, Any]:
    """Trains `recipe` on `data` and returns the figures; `options` are those of the command line, by their names.

    Training settings (fields of TrainSettings), settings of the model (`latent`, `hidden`, ...) and of the data
    (`labels`, `target`, `normal`, `val`, `missing`, `window`, `buffer`, `corrupt`, `augment`, `start`) lie side by side
    in `options`. A config file or a run to resume gives what is not given here. With `record`, the rows of `data` that
    a verb is to be used on, all classes of it are learnt, and the model fits these rows alone. The report takes seconds
    and may be left out.
    """
    is_first = ranks.number() == 0  # of the processes of torchrun, that which writes and tells
    talk = talk if talk is not None and is_first else Talk()
    clock = Clock()
    options = options or {}
    if resume is not None:
        if recipe or data or options or out or config:
            raise UsageError("--resume continues a run as it was configured: give it alone")
        if remote.is_remote(resume):
            raise AekitError(f"{resume}: a run that goes on lies on this machine; copy its folder here")
        config = str(Path(resume) / CONFIG_FILE)
    if config is not None:
        place = Path(remote.fetched(config))
        given = train_options.read_config(place / CONFIG_FILE if place.is_dir() else place)
        recipe, data = recipe or given["recipe"], data or given["data"]
        if "epochs" in options:
            given["options"].pop("steps", None)  # which would beat them
        if data != given["data"]:
            given["options"].pop("buffer", None)  # which suited the other data
        options = {**given["options"], **options}
        if given.get("own_input") and record is None:
            record = common.open_input(data, options.get("labels"))
            common.tell_gaps(record, talk)
    if recipe is None or data is None:
        raise UsageError("train needs a recipe and --data, as in: aekit train conv --data mnist")
    chosen = recipes.recipe(recipe)
    settings, model_settings, corruption_texts, data_options = train_options.resolve(recipe, options)
    augment = str(data_options.get("augment", chosen.augment))
    chain = train_options.with_augment(corruption_texts, augment)
    parse_corruption(chain)  # raises where a word is not understood, before data is read
    where = pick_device(device)
    common.use_kernels(kernels)

    goes_on = resume is not None and (Path(resume) / RESUME_FILE).exists()  # else it stopped in its first epoch
    start = _start(chosen.model, data_options, Path(resume) if resume is not None and goes_on else None)
    encoder = start if classifies(MODELS[chosen.model]) else None
    if encoder is not None:
        model_settings |= _encoder(encoder)
    if resume is not None:
        data_options.setdefault("buffer", 0)  # as it began, whatever memory is free now
    parts = open_parts(data, data_options, settings.seed, chosen, MODELS[chosen.model], encoder, record, where, talk)
    data_options["buffer"] = 0 if parts.stream is None else parts.stream.buffer
    count = len(parts.source)
    least = SHUFFLED_BATCHES * settings.batch_size
    if parts.stream is not None and parts.stream.buffer < min(least, count):
        talk.say(f"warning: a buffer of {parts.stream.buffer:,} rows shuffles little; take buffer={least} or more")
    if chosen.points is not None:
        settings = train_options.by_points(settings, chosen.points, parts, options, talk)
    elif "epochs" not in options and settings.steps is None:
        settings = train_options.enough_epochs(settings, chosen, count, talk if record is None else Talk())
    sample_shape = tuple(parts.train_raw.shape[1:])
    if chosen.needs_noise and not corruption_texts and parts.record.target is None:
        raise UsageError(
            f"the recipe {recipe} learns from noise: add some with --corrupt gaussian:0.3 or --corrupt records:FILE, "
            "or give clean counterparts with --target FILE"
        )
    judged = [rows for rows in (parts.train, parts.val, parts.test) if rows is not None]
    if finds_picks(MODELS[chosen.model]) and any(rows.picks is None for rows in judged):
        raise AekitError(
            f"{data}: the recipe {recipe} learns from picks; put arrays p_index and s_index beside the data, a "
            "value per row: the point at which P or S arrives, -1 where there is none"
        )
    if getattr(MODELS[chosen.model], "learns_classes", False):
        model_settings["classes"] = len(parts.classes or ())
    corruption = parse_corruption(chain, sample_shape, parts.record.sampling_rate)
    output = "none" if model_settings.get("activation") == "none" else parts.normalisation.output
    model_settings["output"] = output
    if "rows" in signature(MODELS[chosen.model].__init__).parameters:
        model_settings["rows"] = count
    torch.manual_seed(mix(settings.seed, 3))
    network = channels_last(build(chosen.model, sample_shape, model_settings)).to(where)
    normalised = any(isinstance(module, _BatchNorm) for module in network.modules())
    if normalised and min(settings.batch_size, count) < 2:
        raise UsageError(f"the recipe {recipe} normalises over a batch: it needs two rows, and --batch-size at least 2")
    if settings.error == "bce" and output != "sigmoid":
        raise UsageError(
            f"--error bce: needs values in 0..1, as images have; {data} is {parts.record.kind}; take mse or l1"
        )
    trained = TrainedModel(
        network=network,
        recipe=recipe,
        model=chosen.model,
        settings=model_settings,
        sample_shape=sample_shape,
        kind=parts.record.kind,
        sampling_rate=parts.record.sampling_rate,
        normalisation=parts.normalisation,
        error=settings.error,
        corruption=tuple(chain),
        classes=parts.classes,
        normal=parts.normal,
        columns=parts.record.columns,
        missing=parts.missing,
        windowed=parts.windowed,
        precision=settings.precision,
        data=remote.without_query(data),
        fingerprint=parts.fingerprint,
        own_input=record is not None or getattr(network, "own_input", False),
    )
    if dry_run:
        return show_layers(trained, settings, parts, talk)
    if start is not None and not goes_on:
        _start_from(network, start, sample_shape)

    _check_ranks(recipe, network, replace(settings, batch_size=min(settings.batch_size, count)), normalised, talk)
    if hasattr(network, "prepare"):
        network.prepare(parts.train.to(where))  # type: ignore[operator]
    run = Path(resume) if resume is not None else _new_run(recipe, data, out, force)
    keep = {
        "rows": _digest(parts, corruption),
        "device": where.type,
        "kernels": kernels,
        "threads": torch.get_num_threads(),
        "ranks": ranks.count(),
    }
    state, history = None, []
    if goes_on:
        state = checkpoint.load_resume(run / RESUME_FILE)
        _check_resumable(state, keep, trained.data, run, talk)
        history = state["history"]
    elif resume is None and is_first:
        told = {**model_settings, **asdict(settings), **data_options, "corrupt": list(corruption_texts)}
        told["augment"] = augment
        for name in set(DERIVED) & set(told):
            del told[name]
        if hasattr(network, "phases"):
            told = {name: value for name, value in told.items() if name not in train_options.OBJECTIVE}
        if not is_judged(network):
            del told["corrupt"], told["patience"]
        is_own = record is not None  # a run that goes on opens its data again as the verb did
        common.write_json(run / CONFIG_FILE, {"recipe": recipe, "data": data, "own_input": is_own, "options": told})
    parameters = count_parameters(network)
    if augment not in ("", "None", "none"):
        talk.say(f"other clean samples by {augment} (--set augment=none for none)")
    talk.say(f"{recipe} on {data}: {count} rows, {len(parts.val)} held out, {parameters:,} parameters -> {run}")

    stages = Stages(trained, parts, where, {} if state is None else state["pictures"])
    start_up = clock.seconds
    try:
        history = _loop(trained, parts, settings, corruption, run, keep, state, history, where, stages, talk)
        if record is None:
            talk.say(
                "calibration, baseline and report (* marks epochs whose weights were kept, the last one is the model's)"
            )
        if is_first:
            network.load_state_dict(checkpoint.load(run / MODEL_FILE).network.state_dict())
        ranks.start_alike(network)
        figures = finish(trained, parts, settings, corruption, history, where)
    except KeyboardInterrupt:
        talk.say(f"stopped; go on with: aekit train --resume {run}")
        raise
    except RankError as error:
        raise RankError(f"{error}; go on with: aekit train --resume {run}") from error
    if not is_first:
        return {"run": str(run), "recipe": recipe}
    figures = {"run": str(run), "recipe": recipe, "parameters": parameters, **figures}
    trained.figures = {k: v for k, v in figures.items() if k != "run"}
    checkpoint.save(trained, run / MODEL_FILE)
    if report:
        with whole(run / REPORT_FILE, force=True) as temporary:
            temporary.write_text(training_page(trained, settings, parts, history, stages.pictures, figures, corruption))
    if (run / SAMPLES_FOLDER).exists():
        figures["samples"] = str(run / SAMPLES_FOLDER)
    own, pca = figures["val_error"], figures.get("pca_val_error")
    if own is not None and pca is not None and own > pca and not trained.own_input:
        talk.say(f"error {own:.4g}, PCA's is {pca:.4g}: the model needs more --epochs, or another --lr or recipe")
    figures["start_up_seconds"] = start_up
    figures["seconds"] = clock.seconds
    return figures


# --- the run ---------------------------------------------------------------------------------------------------------


def _check_ranks(recipe: str, network: torch.nn.Module, settings: TrainSettings, normalised: bool, talk: Talk) -> None:
    """Raises UsageError where so many processes cannot train this; tells what differs from one process."""
    if ranks.count() == 1:
        return
    if hasattr(network, "prepare"):
        raise UsageError(f"the recipe {recipe} looks at all rows between steps: train it by one process")
    batch, least = settings.batch_size, 2 * ranks.count() if normalised else ranks.count()
    if batch < least:
        raise UsageError(
            f"batches of {batch} rows are too small for {ranks.count()} processes; take a --batch-size of at least "
            f"{least}, or fewer processes"
        )
    of_means = any(penalty.name == "kl" for penalty in parse_penalties(settings.penalty))
    apart = (["batch normalisation"] if normalised else []) + (["the KL penalty"] if of_means else [])
    told = f"; {' and '.join(apart)} {'is' if len(apart) == 1 else 'are'} over the share of each" if apart else ""
    talk.say(f"{ranks.count()} processes share batches of {batch} rows{told}")


def _new_run(recipe: str, data: str, out: str | None, force: bool) -> Path:
    """The folder, made by the first process; the others learn its place."""
    made: Path | AekitError | None = None
    if ranks.number() == 0:
        try:
            made = _made(recipe, data, out, force)
        except AekitError as error:
            made = error
    made = ranks.of_first(made)
    if isinstance(made, AekitError):
        raise made
    assert made is not None
    return made


def _made(recipe: str, data: str, out: str | None, force: bool) -> Path:
    run = Path(out) if out is not None else common.next_run(recipe, data)
    if remote.is_remote(run):
        raise AekitError(f"{run}: a run is a folder of this machine; copy it to the object store when it is done")
    if run.parent == common.RUNS:
        common.RUNS.mkdir(exist_ok=True)
    force = force or (run.is_dir() and not any(run.iterdir()))  # an empty folder is as good as none
    check_free(run, force, as_folder=True)
    if run.is_dir() and any(run.iterdir()) and not (run / CONFIG_FILE).exists():
        raise AekitError(f"{run}: a folder that holds other things is not trained into; name another place with --out")
    try:
        run.mkdir(exist_ok=out is not None)
        for file in (*(run / name for name in FILES), *(run / SAMPLES_FOLDER).glob("epoch-*.png")):
            file.unlink(missing_ok=True)
    except OSError as error:
        raise AekitError(f"{run}: cannot be made ({error.strerror}); name another place with --out") from error
    return run


def _digest(parts: Parts, corruption: Corruption) -> str:
    """Of every value that training and validation read."""
    digest = hashlib.blake2b(digest_size=16)
    if parts.stream is not None:
        digest.update(f"{parts.stream.digest} {parts.stream.buffer}".encode())
    tensors = [tensor for rows in (parts.train, parts.val) for tensor in (rows.x, rows.target, rows.picks, rows.labels)]
    read = [tensor for tensor in tensors if tensor is not None]
    read += [step.noise for chain in corruption for step in chain if isinstance(step, Records)]
    for tensor in read:
        digest.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _check_resumable(state: Mapping[str, Any], keep: Mapping[str, Any], data: str, run: Path, talk: Talk) -> None:
    """Bit-identical weights need the same data and the same order of summation, so the same number of processes."""
    if state["rows"] != keep["rows"]:
        raise AekitError(f"{run}: {data} is not the data this run was trained on; start a new run")
    had = state.get("ranks", 1)
    if had != keep["ranks"]:
        talk.say(
            f"begun by {had} process{'es' if had > 1 else ''}: goes on, though not bit for bit as it would have there"
        )
        keep = {**keep, "threads": state["threads"]}
    for name, say in (
        ("device", "say --device {}"),
        ("kernels", "say --kernels {}"),
        ("threads", "set OMP_NUM_THREADS={} so that it continues bit for bit"),
    ):
        if state[name] != keep[name]:
            was = state[name]
            raise AekitError(f"{run}: its {name}: {was}, now: {keep[name]}; {say.format(was)}")


def _start(model: str, options: Mapping[str, Any], run: Path | None) -> TrainedModel | None:
    """The model to start from, for a classifier that goes on that of its run; None where nothing of it is needed."""
    if run is not None:
        return common.load_model(str(run / MODEL_FILE)) if classifies(MODELS[model]) else None
    if "start" in options:
        return common.load_model(str(options["start"]))
    if classifies(MODELS[model]):
        raise UsageError(f"the recipe {model} goes on from a trained model: name its run with --from")
    return None


def _encoder(start: TrainedModel) -> dict[str, Any]:
    """The settings by which a classifier builds the encoder of the model it starts from."""
    common.check_serves(start, "embed")
    if classifies(start.network):
        return {name: start.settings[name] for name in ("encoder", "encoder_settings")}
    return {"encoder": start.model, "encoder_settings": start.settings}


def _start_from(network: torch.nn.Module, start: TrainedModel, sample_shape: tuple[int, ...]) -> None:
    """Takes over the weights; where the network fine-tunes an encoder, those of the encoder."""
    weights = start.network.state_dict()
    if classifies(network):
        if classifies(start.network):
            weights = {name.removeprefix("body."): value for name, value in weights.items()}
        network = network.body  # type: ignore[assignment]
        weights = {name: weights[name] for name in network.state_dict()}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise AekitError(
            f"{start.source}: its weights ({start.model}, samples of {times(start.sample_shape)}) do not fit a model "
            f"for samples of {times(sample_shape)}; train with the same recipe and settings"
        ) from error


def _loop(
    trained: TrainedModel,
    parts: Parts,
    settings: TrainSettings,
    corruption: Corruption,
    run: Path,
    keep: dict[str, Any],
    state: dict[str, Any] | None,
    history: list[dict[str, float]],
    where: torch.device,
    stages: Stages,
    talk: Talk,
) -> list[dict[str, float]]:
    """Trains, writing the run folder after each epoch; returns a row of metrics per epoch."""
    per_epoch = steps_in_epoch(len(parts.source), settings.batch_size)
    epochs = settings.epochs if settings.steps is None else math.ceil(settings.steps / per_epoch)
    train = parts.train.to(where) if parts.stream is None else parts.stream
    val = parts.val.to(where)
    kept, is_due, is_first = -math.inf, True, ranks.number() == 0

    def keep_state(now: State) -> None:
        nonlocal kept
        more = {**keep, "history": history, "pictures": stages.pictures}
        checkpoint.save_resume({**now(), **more}, run / RESUME_FILE)
        _write_metrics(run / METRICS_FILE, history)
        kept = time.monotonic()

    def pause(now: State) -> None:
        if is_first and time.monotonic() - kept >= SECONDS_BETWEEN_FILES:
            keep_state(now)

    with talk.track("training", settings.steps or epochs * per_epoch) as advance:
        for epoch in fit(trained.network, train, val, settings, corruption, state, advance, pause):
            history = [*history, {"epoch": epoch.number, **epoch.metrics}]
            for note in epoch.notes:
                talk.say(note)
            if not all(map(math.isfinite, epoch.metrics.values())):
                raise AekitError(f"{run}: the loss is no longer a number in epoch {epoch.number}; try a smaller --lr")
            if not is_first:
                continue
            stages.add(epoch.number, epochs)
            is_sheet = epoch.number in (1, epochs) or epoch.number % math.ceil(epochs / SHEETS) == 0
            if is_sheet and not is_judged(trained.network):
                _write_sheet(trained, run / SAMPLES_FOLDER / f"epoch-{epoch.number:04}.png")
            is_due = time.monotonic() - kept >= SECONDS_BETWEEN_FILES
            if epoch.is_best and (is_due or not hasattr(trained.network, "keeps_last")):
                checkpoint.save(trained, run / MODEL_FILE)
            if is_due:
                keep_state(epoch.state)
            is_told = epoch.number in (1, epochs) or epoch.number % math.ceil(epochs / LINES) == 0
            if is_told and not trained.own_input:  # a verb that trains has its bar
                talk.say(_line(epoch, epochs))
        if not is_due and is_first:
            if hasattr(trained.network, "keeps_last"):
                checkpoint.save(trained, run / MODEL_FILE)
            keep_state(epoch.state)
    return history


def _write_sheet(trained: TrainedModel, path: Path) -> None:
    from aekit import reports  # matplotlib takes a second

    path.parent.mkdir(exist_ok=True)
    with whole(path, force=True) as temporary:
        reports.save_figure(sample_sheet(trained), temporary)


def _line(epoch: Epoch, epochs: int) -> str:
    metrics = epoch.metrics
    val = f"  val error {metrics['val_error']:.6f}" if "val_error" in metrics else ""
    best = " *" if epoch.is_best else ""
    rate = f"{metrics['samples_per_second']:,.0f} samples/s"
    losses = [(key.removesuffix("_loss"), value) for key, value in metrics.items() if key.endswith("_loss")]
    loss = "".join(f"  {'loss' if name == 'train' else name} {value:.6f}" for name, value in losses)
    return f"epoch {epoch.number}/{epochs}{loss}{val}  {rate}{best}"


def _write_metrics(path: Path, history: list[dict[str, float]]) -> None:
    extra = dict.fromkeys(key for row in history for key in row if key not in COLUMNS)
    with whole(path, force=True) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *extra])
        writer.writeheader()
        writer.writerows(history)
