"""embed: one latent vector per sample in the file's order, maps of them, and what they tell."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aekit import formats, inference, latents
from aekit.errors import AekitError, UsageError
from aekit.files import together, whole
from aekit.records import Record, record_of
from aekit.trained import TrainedModel
from aekit.training import predicts_hidden, reconstructs
from aekit.workflows import analyses, common, shards
from aekit.workflows.analyses import Embedded, Kept
from aekit.workflows.common import Clock, Options, Talk
from aekit.workflows.shards import Shard

if TYPE_CHECKING:
    from aekit.reports import Section

MAPS = "pca,tsne"  # where none are asked for
PICTURED = 3000  # points; t-SNE of more takes minutes
INSIDE = (".npz", ".h5", ".hdf5", ".zarr")  # what holds labels beside the latents


@dataclass(frozen=True)
class Outputs:
    latents: Path
    picture: Path | None
    labels: Path | None
    neighbours: Path | None
    clusters: Path | None


@dataclass(frozen=True)
class Asked:
    maps: tuple[str, ...]
    neighbours: int | None
    metric: str
    probe: bool
    clusters: int | None


def embed(
    data: str,
    out: str | None = None,
    labels: str | None = None,
    options: Options | None = None,
    talk: Talk | None = None,
    *,
    maps: str | None = None,
    neighbours: int | None = None,
    reference: str | None = None,
    metric: str = "euclidean",
    probe: bool = False,
    clusters: int | None = None,
    shard: str | None = None,
) -> dict[str, Any]:
    """Writes latents (rows, D) to `out` (by default <name>.latents.npy), and <out>.png beside it; returns the figures.

    Labels go along: inside the file where the format holds several arrays, else as <out>.labels.csv. `maps` are names
    of latents.MAPS between commas, or none. `neighbours` and `clusters`, numbers of them, write <out>.neighbours.csv
    (in `reference`, else in the input) and <out>.clusters.csv; `probe` measures how well classes can be read off. With
    `shard`, as in 2/8, writes the latents of that part of the rows beside `out`, for `merge`, and no maps.
    """
    options, talk, clock = options or Options(), talk or Talk(), Clock()
    asked = Asked(parse_maps(maps or MAPS), neighbours, metric, probe, clusters)
    latents.check_maps(asked.maps)
    if metric not in latents.METRICS:
        raise UsageError(f"--metric: {metric!r} is none of {', '.join(latents.METRICS)}")
    if reference is not None and neighbours is None:
        raise UsageError("--reference: is where neighbours are looked for; say how many with --neighbours K")
    if shard is not None:
        wanted = maps if asked.maps else None
        alone = {"--maps": wanted, "--neighbours": neighbours, "--probe": probe, "--clusters": clusters}
        part = shards.asked(shard, options, alone)
        return {**_embed_shard(data, out, labels, part, options, talk), "seconds": clock.seconds}
    record = common.open_input(data, labels)
    other = None if reference is None else _open_reference(reference, labels)
    if probe:
        analyses.check_probe(record)
    path = Path(out) if out is not None else common.default_out(data, "latents", ".npy")
    outputs = Outputs(
        path,
        path.with_suffix(".png") if asked.maps else None,
        labels_file(path) if record.labels is not None else None,
        path.with_suffix(".neighbours.csv") if neighbours is not None else None,
        path.with_suffix(".clusters.csv") if clusters is not None else None,
    )
    for source in (data,) if reference is None else (data, reference):
        common.check_outputs(options, source, *vars(outputs).values())
    trained, run = common.find_model(data, record, "embed", options, talk)
    record = common.as_model_takes(trained, record, options.missing, talk)
    other = None if other is None else common.as_model_takes(trained, other, options.missing, talk)
    rows, width = inference.latent_shape(trained, record)
    with contextlib.ExitStack() as stack:
        of_input = Embedded(trained, record, stack.enter_context(contextlib.closing(Kept(rows, width))))
        of_other = None
        if other is not None:
            kept = Kept(*inference.latent_shape(trained, other))
            of_other = Embedded(trained, other, stack.enter_context(contextlib.closing(kept)))
        _check_counts(of_input, of_other, asked)
        with together():
            figures = _embed(of_input, of_other, run, outputs, asked, options, talk)
    return {**figures, "seconds": clock.seconds}


def _embed_shard(
    data: str, out: str | None, labels: str | None, shard: Shard, options: Options, talk: Talk
) -> dict[str, Any]:
    given = common.open_input(data, labels)
    path = Path(out) if out is not None else common.default_out(data, "latents", ".npy")
    shards.check_places(shard, given, data, path, options)
    trained, run = common.find_model(data, given, "embed", options, talk)
    record = common.as_model_takes(trained, given, options.missing, talk)
    span = shards.span_of(shard, trained, record, run)
    rows, width = inference.latent_shape(trained, record)
    each = rows // len(record)
    formats.ending_for(path, latents_like(record.source, rows, width, None))
    job = shards.job_of("embed", shard, data, given, trained, run, (rows, width), np.float32, options, labels=labels)

    def compute(part: Path) -> None:
        like = latents_like(record.source, span.rows * each, width, None)
        with formats.create(part, like, like.shape, np.float32, force=True) as writer:
            for z in span.own(_latents(trained, span.record, run, talk), each):
                writer.write(z)

    return shards.write_part(job, shard, path, run, compute, options, talk)


def labels_file(latents: Path) -> Path | None:
    """Beside latents in a format without a place for labels."""
    return None if latents.suffix in INSIDE else latents.with_suffix(".labels.csv")


def latents_like(source: str, rows: int, width: int, labels: NDArray[Any] | None) -> Record:
    """What latents are written like, with the labels where their file has a place for them."""
    return record_of(np.empty((rows, width), np.float32), source, labels)


def write_labels(path: Path, labels: NDArray[Any], force: bool) -> None:
    formats.write_columns(path, {"row": np.arange(len(labels)), "label": labels}, force)


def parse_maps(text: str) -> tuple[str, ...]:
    """Names of latents.MAPS between commas, none for "none"; raises UsageError for another name."""
    if text == "none":
        return ()
    names = tuple(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in latents.MAPS:
            raise UsageError(f"--maps: {name!r} is none of {', '.join(latents.MAPS)}; or say none alone")
    return names


def _open_reference(reference: str, labels: str | None) -> Record:
    """A file, with the labels of the same name as the input's; of a named data set the training part."""
    same = None if labels is None or common.is_dataset(reference) or formats.exists(labels) else labels
    record = common.open_part(reference, "train", same)
    assert record is not None, "every data set has a training part"
    return record


def _check_counts(embedded: Embedded, other: Embedded | None, asked: Asked) -> None:
    """Raises AekitError where there are fewer latents than neighbours or clusters asked for."""
    rows = embedded.kept.shape[0]
    source, most = (
        (embedded.record.source, rows - embedded.own) if other is None else (other.record.source, other.kept.shape[0])
    )
    if asked.neighbours is not None and asked.neighbours > most:
        raise AekitError(
            f"{source}: has {most:,} latents that can be neighbours; ask for at most so many with --neighbours"
        )
    if asked.clusters is not None and asked.clusters > rows:
        raise AekitError(f"{embedded.record.source}: has {rows:,} latents; ask for at most so many with --clusters")


def _embed(
    embedded: Embedded,
    other: Embedded | None,
    run: inference.Run,
    outputs: Outputs,
    asked: Asked,
    options: Options,
    talk: Talk,
) -> dict[str, Any]:
    trained, record, kept = embedded.trained, embedded.record, embedded.kept
    rows, width = kept.shape
    labels = embedded.labels()
    like = latents_like(record.source, rows, width, labels if outputs.labels is None else None)
    with formats.create(outputs.latents, like, (rows, width), np.dtype(np.float32), options.force) as writer:
        errors = _run(embedded, run, talk, writer)
    if outputs.labels is not None and labels is not None:
        write_labels(outputs.labels, labels, options.force)
    figures: dict[str, Any] = {
        "count": rows,
        "out": str(outputs.latents),
        "latent": width,
        "model": trained.source,
        "compression": _compression(trained, record, width, errors, talk),
        **({} if outputs.labels is None else {"labels": str(outputs.labels)}),
    }
    sections: list[Section] = []  # of the report, where one is asked for
    want = options.report is not None
    if asked.neighbours is not None:
        assert outputs.neighbours is not None, "it is named where neighbours are asked for"
        if other is not None:
            _run(other, run, talk, None)
        found, section = analyses.write_neighbours(
            embedded, other, asked.neighbours, asked.metric, outputs.neighbours, run, options, talk
        )
        figures |= found
        sections += [section] if section is not None else []
    if asked.probe:
        figures["probe"], section = analyses.probe(embedded, options.seed, want, talk)
        sections += [section] if section is not None else []
    clusters = None
    if asked.clusters is not None:
        assert outputs.clusters is not None, "it is named where clusters are asked for"
        found, clusters, section = analyses.write_clusters(
            embedded, asked.clusters, outputs.clusters, run, options, talk
        )
        figures |= found
        sections += [section] if section is not None else []
    if outputs.picture is not None:
        from aekit import reports  # matplotlib takes a second

        drawn = np.sort(np.random.default_rng(options.seed).choice(rows, min(PICTURED, rows), replace=False))
        if len(drawn) < rows:
            talk.say(f"maps: {len(drawn):,} of {rows:,} latents are drawn")
        planes = latents.planes(kept.take(drawn), asked.maps, options.seed, talk.say)
        names = None if labels is None else labels[drawn]
        groups = None if clusters is None else clusters[drawn]
        with whole(outputs.picture, options.force) as temporary:
            reports.save_figure(reports.latent_picture(planes, names, groups), temporary)
        figures |= {"picture": str(outputs.picture), "drawn": len(drawn)}
        if want:
            sections.insert(0, reports.embedding_section(planes, names, clusters=groups, count=rows))
    if options.report is not None:
        figures["report"] = options.report
        _write_report(trained, record, figures, sections, options)
    return figures


def _run(embedded: Embedded, run: inference.Run, talk: Talk, writer: formats.Writer | None) -> NDArray[np.float64]:
    """Fills in the latents, and writes them; returns the mean errors of the model and of PCA, as far as there are."""
    trained, record = embedded.trained, embedded.record
    total = np.zeros(2 if trained.pca is not None else 1)

    def add(errors: list[NDArray[np.float32]]) -> None:
        total[:] += [batch.sum(dtype=np.float64) for batch in errors]

    on_errors = (
        add if writer is not None and reconstructs(trained.network) and not predicts_hidden(trained.network) else None
    )
    for z in _latents(trained, record, run, talk, on_errors):
        if writer is not None:
            writer.write(z)
        embedded.kept.append(z)
    return total / embedded.kept.shape[0] if on_errors is not None else np.zeros(0)


def _latents(
    trained: TrainedModel,
    record: Record,
    run: inference.Run,
    talk: Talk,
    on_errors: Callable[[list[NDArray[np.float32]]], object] | None = None,
) -> Iterator[NDArray[np.float32]]:
    """As inference gives them; raises AekitError where one is not a number."""
    seen = inference.Seen()
    with talk.track("rows", len(record)) as bar:
        for z in inference.embed(trained, record, run, seen, bar, on_errors):
            if not np.isfinite(z).all():
                raise AekitError(
                    f"{record.source}: a latent is not a number: the values are too far from the training data"
                )
            yield z
    common.warn(seen, trained, talk)


def _compression(
    trained: TrainedModel, record: Record, width: int, errors: NDArray[np.float64], talk: Talk
) -> dict[str, Any]:
    """How much smaller a latent is than what it was made of, and the mean squared error of what is made of it."""
    values = int(np.prod(trained.sample_shape))
    figures: dict[str, Any] = {
        "sample_values": values,
        "latent_values": width,
        "ratio": values / width,
        "sample_bytes": values * record.dtype.itemsize,
        "latent_bytes": 4 * width,
    }
    line = f"compression: {values:,} values as {width:,}, {values / width:.4g} to 1"
    if len(errors) and np.isfinite(errors).all():
        figures["error"] = float(errors[0])
        line += f"; mean squared error {errors[0]:.4g}"
        if trained.pca is not None:
            components = len(trained.pca.components)
            figures |= {"pca_error": float(errors[1]), "pca_components": components}
            line += f", PCA's with {components:,} components {errors[1]:.4g}"
    talk.say(line)
    return figures


def _write_report(
    trained: TrainedModel, record: Record, figures: dict[str, Any], sections: "list[Section]", options: Options
) -> None:
    from aekit import reports

    size = figures["compression"]
    facts = {
        "recipe": trained.recipe,
        **{
            name: value for name, value in figures.items() if isinstance(value, str | int) and name != "silhouette_rows"
        },
        "values per latent value": size["ratio"],
        **{words: size[name] for name, words in (("error", "error"), ("pca_error", "PCA's error")) if name in size},
    }
    with whole(Path(str(options.report)), options.force) as temporary:
        temporary.write_text(reports.page(f"{record.source}, embedded", facts, sections))
