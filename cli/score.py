"""aekit score."""

from typing import Annotated

import typer

from aekit.cli import _options as shared


def score(
    data: shared.Data,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", help="CSV; else INPUT.scores.csv (or INPUT.picks.csv) in this folder; - is stdout."
        ),
    ] = None,
    threshold: Annotated[
        str, typer.Option(help="auto, fdr=0.05, fpr=0.01, quantile=0.99, mad=3.5, mean+2std, or a number.")
    ] = "auto",
    labels: shared.Labels = None,
    normal: shared.Normal = None,
    error_map: Annotated[
        str | None, typer.Option("--map", help="Also write the error of every value to this file.")
    ] = None,
    pick_thresholds: Annotated[
        str, typer.Option(help="Least probability of a detection, of P and of S, for models that find picks.")
    ] = "0.3,0.1,0.1",
    shard: shared.Shard = None,
    missing: shared.Missing = None,
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
    """Score each sample; higher is more anomalous. Where no run fits, a model learns from INPUT itself."""
    if out == "-" and as_json:
        raise typer.BadParameter("CSV and JSON cannot both go to stdout; leave one off", param_hint="--json")
    least = parse_thresholds(pick_thresholds)
    from aekit import workflows

    options = shared.options(model, device, kernels, precision, batch_size, seed, force, report, fresh, missing)
    talk = shared.talk(quiet)
    if shared.is_ray(engine, shard, {"--map": error_map}):
        words = {"rule": threshold, "labels": labels, "normal": normal}
        figures = workflows.by_ray("score", data, out, options, talk, **words)
    else:
        figures = workflows.score(data, out, threshold, labels, normal, error_map, options, talk, least, shard)
    shared.report(figures, as_json, quiet)


def parse_thresholds(text: str) -> tuple[float, float, float]:
    """Three probabilities between commas; a usage error where they are not."""
    try:
        detection, p, s = (float(part) for part in text.split(","))
    except ValueError:
        detection = p = s = -1.0
    if not all(0 < threshold <= 1 for threshold in (detection, p, s)):
        raise typer.BadParameter(
            f"{text!r}: three numbers from 0 to 1 are needed, as in 0.3,0.1,0.1", param_hint="--pick-thresholds"
        )
    return detection, p, s
