"""aekit train."""

import json
from typing import Annotated, Any

import typer

from aekit.cli import _options as shared


def train(
    recipe: Annotated[str | None, typer.Argument(help="What to train; aekit recipes lists them.")] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="A file, a folder, a 'pattern*' or an address of files, or a named data set."),
    ] = None,
    out: Annotated[str | None, typer.Option("--out", "-o", help="Run folder; else runs/RECIPE-DATA-N.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Times through the data.")] = None,
    steps: Annotated[int | None, typer.Option(help="Batches to train on, in place of epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples per step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="Share of the weights taken off a step, times the rate.")
    ] = None,
    latent: Annotated[int | None, typer.Option(help="Size of the latent vector.")] = None,
    size: Annotated[str | None, typer.Option(help="Of mae: tiny, small or base.")] = None,
    hidden: Annotated[str | None, typer.Option(help="Widths of the layers before the latent, as in 512,128.")] = None,
    activation: Annotated[
        str | None, typer.Option(help="relu, leaky_relu, elu, selu, gelu, silu, tanh, sigmoid; none makes it linear.")
    ] = None,
    dropout: Annotated[float | None, typer.Option(help="Share of hidden values dropped in training.")] = None,
    error: Annotated[str | None, typer.Option(help="Error to minimise: mse, l1 or bce.")] = None,
    beta: Annotated[float | None, typer.Option(help="Weight of the model's own penalty, a VAE's KL.")] = None,
    beta_warmup: Annotated[
        float | None, typer.Option(help="Share of the run in which beta rises from 0, evenly.")
    ] = None,
    penalty: Annotated[
        list[str] | None,
        typer.Option(
            help="l1, kl or contractive:WEIGHT, on the latent; kl:WEIGHT@RHO asks for a mean activation of RHO "
            "(0.05); none for none."
        ),
    ] = None,
    corrupt: Annotated[
        list[str] | None,
        typer.Option(
            help="gaussian, speckle, dropout, uniform, cosine or gaps:AMOUNT, or records:FILE[:NAME][@LOW..HIGH], "
            "noise mixed in at dB; given twice, one is drawn per sample; a:0.1+b:0.2 applies both; none for none."
        ),
    ] = None,
    target: Annotated[str | None, typer.Option(help="File or array with the clean counterpart of each row.")] = None,
    labels: shared.Labels = None,
    normal: shared.Normal = None,
    val: Annotated[
        str | None, typer.Option(help="Share held out of training, or a file; else a fifth, at most 3,000.")
    ] = None,
    missing: shared.Missing = None,
    patience: Annotated[int | None, typer.Option(help="Stop after so many epochs without a better one.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="Start from the weights of this model.")] = None,
    resume: Annotated[str | None, typer.Option(help="Run folder to continue where it stopped.")] = None,
    config: Annotated[str | None, typer.Option(help="config.json of a run to repeat; flags beat it.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print shapes, parameters and memory; train nothing.")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE, another setting: of the model, or window, buffer, augment."),
    ] = None,
    device: shared.Device = "auto",
    kernels: shared.Kernels = "auto",
    precision: Annotated[str | None, typer.Option(help="fp32, tf32 or bf16.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of all that is drawn.")] = None,
    as_json: shared.Json = False,
    force: shared.Force = False,
    quiet: shared.Quiet = False,
) -> None:
    """Train a model and leave a run folder with the model, its figures and a report."""
    shared.check_where(device, kernels)
    shared.check_choice("--missing", missing, ("error", "mean"))
    given: dict[str, Any] = {
        "epochs": epochs,
        "steps": steps,
        "batch_size": batch_size,
        "lr": lr,
        "weight_decay": weight_decay,
        "latent": latent,
        "size": size,
        "hidden": None if hidden is None else parse_value(hidden, listed=True),
        "activation": activation,
        "dropout": dropout,
        "error": error,
        "beta": beta,
        "beta_warmup": beta_warmup,
        "penalty": tuple(penalty) if penalty else None,
        "corrupt": None if not corrupt else [] if corrupt == ["none"] else corrupt,
        "target": target,
        "labels": labels,
        "normal": normal,
        "val": val,
        "missing": missing,
        "patience": patience,
        "start": start,
        "precision": precision,
        "seed": seed,
    }
    given = {key: value for key, value in given.items() if value is not None}
    for pair in set_ or []:
        key, equals, text = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--set")
        given[key.replace("-", "_")] = parse_value(text)
    from aekit import inference, ranks, workflows

    with ranks.joined(inference.pick_device(device)):
        figures = workflows.train(
            recipe,
            data,
            given,
            out=out,
            config=config,
            resume=resume,
            dry_run=dry_run,
            device=device,
            kernels=kernels,
            force=force,
            talk=shared.talk(quiet),
        )
        is_first = ranks.number() == 0
    if is_first and (as_json or not dry_run):
        shared.report(figures, as_json, quiet)


def parse_value(text: str, listed: bool = False) -> Any:
    """A number, true, false, none, a word, or several of them between commas."""
    if listed or "," in text:
        return [parse_value(part.strip()) for part in text.split(",") if part.strip()]
    try:
        return json.loads(text)
    except ValueError:
        return None if text.lower() == "none" else text
