"""aekit denoise."""

from typing import Annotated

import typer

from aekit.cli import _options as shared


def denoise(
    data: Annotated[
        str, typer.Argument(metavar="INPUT", help="A file, a folder of files or of images, or a named data set.")
    ],
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Output; else INPUT.denoised.ENDING in this folder.")
    ] = None,
    noise_out: Annotated[
        str | None, typer.Option("--noise-out", help="Also write what was taken away to this file.")
    ] = None,
    clean: Annotated[str | None, typer.Option(help="The clean data, if known: tells the gain in dB.")] = None,
    model: shared.Model = None,
    device: shared.Device = "auto",
    kernels: shared.Kernels = "auto",
    precision: shared.Precision = None,
    batch_size: shared.BatchSize = None,
    report: shared.Report = None,
    as_json: shared.Json = False,
    force: shared.Force = False,
    quiet: shared.Quiet = False,
) -> None:
    """Remove noise: the output has the input's format, shape, type and units."""
    from aekit import workflows

    options = shared.options(model, device, kernels, precision, batch_size, force=force, report=report)
    shared.report(workflows.denoise(data, out, clean, noise_out, options, shared.talk(quiet)), as_json, quiet)
