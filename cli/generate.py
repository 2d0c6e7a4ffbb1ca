"""aekit generate."""

from typing import Annotated

import typer

from aekit.cli import _options as shared


def generate(
    out: Annotated[
        str, typer.Option("--out", "-o", help="A picture (png), or arrays by ending (npy, npz, h5, csv).")
    ] = "samples.png",
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many.")] = 64,
    between: Annotated[
        tuple[int, int] | None, typer.Option(metavar="I J", help="Walk from row I to row J of --data instead.")
    ] = None,
    steps: Annotated[int, typer.Option(min=2, help="Samples on that way, both ends included.")] = 10,
    data: Annotated[str | None, typer.Option(help="Where the two rows are.")] = None,
    model: shared.Model = None,
    device: shared.Device = "auto",
    kernels: shared.Kernels = "auto",
    precision: shared.Precision = None,
    seed: shared.Seed = 0,
    as_json: shared.Json = False,
    force: shared.Force = False,
    quiet: shared.Quiet = False,
) -> None:
    """Make new samples: from the prior, or between two samples."""
    from aekit import workflows

    options = shared.options(model, device, kernels, precision, None, seed, force)
    shared.report(workflows.generate(out, count, between, steps, data, options, shared.talk(quiet)), as_json, quiet)
