"""aekit embed."""

from typing import Annotated

import typer

from aekit.cli import _options as shared


def embed(
    data: Annotated[str, typer.Argument(metavar="INPUT", help="A file, a folder of images, or a named data set.")],
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="Latents, npy, npz, h5 or csv; else INPUT.latents.npy in this folder."),
    ] = None,
    labels: shared.Labels = None,
    model: shared.Model = None,
    device: shared.Device = "auto",
    kernels: shared.Kernels = "auto",
    precision: shared.Precision = None,
    batch_size: shared.BatchSize = None,
    seed: shared.Seed = 0,
    report: shared.Report = None,
    as_json: shared.Json = False,
    force: shared.Force = False,
    quiet: shared.Quiet = False,
) -> None:
    """Write one latent vector per sample, in the file's order, and a picture of them."""
    from aekit import workflows

    options = shared.options(model, device, kernels, precision, batch_size, seed, force, report)
    shared.report(workflows.embed(data, out, labels, options, shared.talk(quiet)), as_json, quiet)
