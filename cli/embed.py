"""aekit embed."""

from typing import Annotated

import typer

from aekit.cli import _options as shared


def embed(
    data: shared.Data,
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="Latents, npy, npz, h5 or csv; else INPUT.latents.npy in this folder."),
    ] = None,
    labels: shared.Labels = None,
    maps: Annotated[
        str | None, typer.Option(help="Pictures on a plane between commas: pca, tsne and umap; or none. [pca,tsne]")
    ] = None,
    neighbours: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="Also write the K nearest rows to each row.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="DATA", help="Look for neighbours in this file or named data set's training part, not in INPUT."
        ),
    ] = None,
    metric: Annotated[str, typer.Option(help="Distance to neighbours: euclidean or cosine.")] = "euclidean",
    probe: Annotated[
        bool, typer.Option("--probe", help="Also tell how well simple classifiers find the labels, beside PCA.")
    ] = False,
    clusters: Annotated[
        int | None, typer.Option(min=2, metavar="K", help="Also write K clusters, found by k-means.")
    ] = None,
    shard: shared.Shard = None,
    missing: shared.Missing = None,
    engine: shared.Engine = "local",
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

    options = shared.options(model, device, kernels, precision, batch_size, seed, force, report, missing=missing)
    alone = {"--maps": None if maps == "none" else maps, "--neighbours": neighbours, "--probe": probe}
    if shared.is_ray(engine, shard, {**alone, "--clusters": clusters}):
        figures = workflows.by_ray("embed", data, out, options, shared.talk(quiet), labels=labels)
        shared.report(figures, as_json, quiet)
        return
    figures = workflows.embed(
        data,
        out,
        labels,
        options,
        shared.talk(quiet),
        maps=maps,
        neighbours=neighbours,
        reference=reference,
        metric=metric,
        probe=probe,
        clusters=clusters,
        shard=shard,
    )
    shared.report(figures, as_json, quiet)
