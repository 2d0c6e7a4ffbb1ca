"""aekit generate."""

from typing import Annotated

import typer

from aekit.cli import _options as shared


def generate(
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            help="By its ending: a picture of all (png), arrays or text (npy, npz, h5, csv), sound (wav); "
            "without an ending a folder of pictures.",
        ),
    ] = "samples.png",
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="How many; else 64.")] = None,
    label: Annotated[
        str | None, typer.Option(help="Of this class, or as many of each of several, as in 3 or 3,8.")
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            help="Draw from the prior of the model, or the mixture fitted to its latents; else what there is."
        ),
    ] = None,
    between: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="I J", help="Walk from row I to row J of --data; without it between samples of one draw."),
    ] = None,
    path: Annotated[str | None, typer.Option(help="That way: straight (the default) or spherical.")] = None,
    along: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="K",
            help="Walk along one direction from -3 to 3 standard deviations; in direction 0 samples differ most.",
        ),
    ] = None,
    about: Annotated[int | None, typer.Option(metavar="ROW", help="That way leads through this row of --data.")] = None,
    steps: Annotated[int | None, typer.Option(min=2, help="Samples on a way, both ends included; else 10.")] = None,
    latents: Annotated[str | None, typer.Option("--from", help="Decode the latents of this file, a row each.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Where the rows are; without a way, what to compare the samples with.")
    ] = None,
    model: shared.Model = None,
    device: shared.Device = "auto",
    kernels: shared.Kernels = "auto",
    precision: shared.Precision = None,
    seed: shared.Seed = 0,
    report: shared.Report = None,
    as_json: shared.Json = False,
    force: shared.Force = False,
    quiet: shared.Quiet = False,
) -> None:
    """Make new samples: from a prior, of one class, from latents, between two samples or along a direction."""
    shared.check_choice("--prior", prior, ("model", "mixture"))
    shared.check_choice("--path", path, ("straight", "spherical"))
    from aekit import workflows

    words = workflows.Words(count, label, prior, between, along, about, steps, path, latents, data)  # type: ignore[arg-type]
    options = shared.options(model, device, kernels, precision, None, seed, force, report)
    shared.report(workflows.generate(out, words, options, shared.talk(quiet)), as_json, quiet)
