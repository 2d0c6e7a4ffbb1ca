"""aekit denoise."""

from typing import Annotated

import typer

from aekit.cli import _options as shared


def denoise(
    data: shared.Data,
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="Output; else INPUT.denoised.ENDING, or INPUT.filled.ENDING, in this folder."),
    ] = None,
    noise_out: Annotated[
        str | None, typer.Option("--noise-out", help="Also write what was taken away to this file.")
    ] = None,
    clean: Annotated[str | None, typer.Option(help="The clean data, if known: tells the gain in dB.")] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            help="Fill in where this array is not zero, and leave all else as it is; nan: where INPUT is NaN."
        ),
    ] = None,
    shard: shared.Shard = None,
    engine: shared.Engine = "local",
    model: shared.Model = None,
    fresh: shared.Fresh = False,
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
    """Remove noise, or fill in what is unknown: the output has the input's format, shape, type and units.

    Where no run under runs/ fits, it learns from the noisy input alone.
    """
    from aekit import workflows

    options = shared.options(model, device, kernels, precision, batch_size, seed, force, report, fresh)
    talk = shared.talk(quiet)
    if shared.is_ray(engine, shard, {"--clean": clean, "--noise-out": noise_out, "--mask": mask}):
        figures = workflows.by_ray("denoise", data, out, options, talk)
    elif mask is None:
        figures = workflows.denoise(data, out, clean, noise_out, options, talk, shard)
    elif shard is not None:
        raise typer.BadParameter("goes without --mask", param_hint="--shard")
    elif noise_out is not None:
        raise typer.BadParameter("goes without --mask, which takes nothing away", param_hint="--noise-out")
    elif fresh:
        raise typer.BadParameter("goes without --mask: noisy data alone does not fill in", param_hint="--fresh")
    else:
        figures = workflows.fill(data, mask, out, clean, options, talk)
    shared.report(figures, as_json, quiet)
