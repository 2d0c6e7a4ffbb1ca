"""What `embed` finds in latents: near rows, clusters and probes, as tables, figures and sections of its report."""

import csv
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from aekit import formats, inference, latents
from aekit.baseline import fit_pca
from aekit.batches import as_tensor
from aekit.errors import AekitError
from aekit.files import whole
from aekit.formats.text_writers import cells, text_file
from aekit.latents import Codes
from aekit.records import Array, Record
from aekit.trained import TrainedModel
from aekit.workflows.common import Options, Talk

if TYPE_CHECKING:
    from aekit.reports import Section

IN_MEMORY = 1 << 28  # bytes of latents; more go to a file
BLOCK = 1 << 16  # latents at a time
SHOWN_QUERIES, SHOWN_NEIGHBOURS, SHOWN_MEMBERS = 6, 6, 7
PCA_VALUES = 1 << 25  # that the PCA beside the probes is fitted to


class Kept:
    """Latents (N, D) in float32 that are to be read again: in memory while they are few, else in a file without name.

    `append` takes all of them in turn before slices are read.
    """

    def __init__(self, rows: int, width: int) -> None:
        self.shape = (rows, width)
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115  `close` is its end

    def append(self, z: NDArray[np.float32]) -> None:
        self._file.write(np.ascontiguousarray(z, np.float32).tobytes())

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        start, stop, _ = rows.indices(self.shape[0])
        bytes_each = 4 * self.shape[1]
        self._file.seek(start * bytes_each)
        found = np.frombuffer(self._file.read((stop - start) * bytes_each), np.float32)
        return found.reshape(-1, self.shape[1])

    def take(self, rows: Codes) -> NDArray[np.float32]:
        """The latents of these rows, in rising order."""
        parts = [np.empty((0, self.shape[1]), np.float32)]
        for start in range(0, self.shape[0], BLOCK):
            inside = slice(*np.searchsorted(rows, (start, start + BLOCK)))
            if inside.start < inside.stop:
                parts.append(self[start : start + BLOCK][rows[inside] - start])
        return np.concatenate(parts)

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True)
class Embedded:
    """A record and its latents: `each` of them in turn are of one row, which is cut into windows where it is long."""

    trained: TrainedModel
    record: Record
    kept: Kept

    @property
    def each(self) -> int:
        return self.kept.shape[0] // len(self.record)

    @property
    def own(self) -> int:
        """How many latents in turn are not compared with each other: those of a row, of one long row each by itself."""
        return self.each if len(self.record) > 1 else 1

    def labels(self) -> NDArray[Any] | None:
        """Of each latent the label of its row."""
        return None if self.record.labels is None else np.repeat(self.record.labels, self.each)

    def samples(self, rows: Codes) -> Array:
        """The samples (K, C, ...) as stored of which these latents were made, in any order."""
        places, order = np.unique(rows, return_inverse=True)
        return np.concatenate(list(inference.samples_at(self.trained, self.record, places)))[order.ravel()]


# --- neighbours -------------------------------------------------------------------------------------------------------


def write_neighbours(
    embedded: Embedded,
    other: Embedded | None,
    k: int,
    metric: str,
    path: Path,
    run: inference.Run,
    options: Options,
    talk: Talk,
) -> "tuple[dict[str, Any], Section | None]":
    """Writes the k nearest latents to each, of the other record or of other rows; with labels, how well they vote."""
    place = other or embedded
    labels, place_labels = embedded.labels(), place.labels()
    classes = None if labels is None or place_labels is None else latents.codes_of(labels, place_labels)
    rows = embedded.kept.shape[0]
    own = embedded.own if other is None else 0
    shown = _spread(rows, SHOWN_QUERIES)
    near = np.empty((len(shown), k), np.int64)
    apart = np.empty((len(shown), k))
    names = ["row", "rank", "neighbour", "distance"] + (["neighbour_label"] if place_labels is not None else [])
    done = right = 0
    blocks = latents.neighbours(embedded.kept, place.kept, k, metric, own, run.device)
    with (
        whole(path, options.force) as temporary,
        text_file(temporary, ".csv") as stream,
        talk.track("neighbours", rows) as bar,
    ):
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(names)
        for index, distance in blocks:
            at = slice(done, done := done + len(index))
            columns = [np.repeat(np.arange(at.start, at.stop), k), np.tile(np.arange(1, k + 1), len(index))]
            columns += [index.ravel(), distance.ravel().astype(np.float32)]
            columns += [] if place_labels is None else [place_labels[index].ravel()]
            table.writerows(zip(*map(cells, columns), strict=True))
            if classes is not None:
                right += int((_votes(classes[1][index]) == classes[0][at]).sum())
            inside = (shown >= at.start) & (shown < at.stop)
            near[inside], apart[inside] = index[shown[inside] - at.start], distance[shown[inside] - at.start]
            bar(done)
    among = f"{place.kept.shape[0]:,} of {place.record.source}" + (
        "" if other is not None else ", its own row left out" if len(place.record) > 1 else ", itself left out"
    )
    talk.say(f"neighbours: {k} for each of {rows:,} latents, among {among}")
    figures: dict[str, Any] = {"neighbours": str(path)}
    if classes is not None:
        figures["neighbour_accuracy"] = right / rows
    if options.report is None:
        return figures, None
    from aekit import reports

    about = {"k": k, "metric": metric, "count": rows, "among": place.kept.shape[0], "source": place.record.source}
    few = near[:, :SHOWN_NEIGHBOURS]
    section = reports.neighbours_section(
        {**about, "accuracy": figures.get("neighbour_accuracy")},
        embedded.samples(shown),
        place.samples(few.ravel()).reshape(*few.shape, *embedded.trained.sample_shape),
        apart,
        shown,
        embedded.record.kind,
        None if labels is None else labels[shown],
        None if place_labels is None else place_labels[few],
        embedded.record.sampling_rate,
        embedded.record.columns,
    )
    return figures, section


def _votes(classes: Codes) -> Codes:
    """`latents.vote`, whose comparison of all pairs takes memory, of few rows at a time."""
    step = max(1, (1 << 24) // classes.shape[1] ** 2)
    return np.concatenate([latents.vote(classes[i : i + step]) for i in range(0, len(classes), step)])


# --- probes -----------------------------------------------------------------------------------------------------------


def check_probe(record: Record) -> None:
    """Raises AekitError where the record's labels do not make a probe."""
    if record.labels is None:
        raise AekitError(f"{record.source}: --probe needs labels, and there are none; name them with --labels")
    (classes,) = latents.codes_of(record.labels)
    if len(np.unique(classes[latents.probed(classes)])) < 2:
        raise AekitError(
            f"{record.source}: --probe needs {latents.FOLDS} rows each of two classes; leave it off, or name other "
            "labels with --labels"
        )


def probe(embedded: Embedded, seed: int, want: bool, talk: Talk) -> "tuple[dict[str, Any], Section | None]":
    """Accuracy of simple classifiers on the latents, and on PCA of the samples with as many dimensions."""
    assert embedded.record.labels is not None, "check_probe has seen to it"
    (classes,) = latents.codes_of(embedded.record.labels)
    width, each = embedded.kept.shape[1], embedded.each
    most = min(latents.PROBE_ROWS, max(1, latents.PROBE_VALUES // width))
    windows = _spread(each, max(1, most // len(latents.probed(classes))))  # of each row
    rows = latents.drawn(classes, max(1, most // len(windows)), np.random.default_rng(seed))
    row = np.repeat(rows, len(windows))
    places = row * each + np.tile(windows, len(rows))
    dimension, beside = _pca(embedded, places, width)
    count = len(np.unique(classes[rows]))
    talk.say(
        f"probe: {len(places):,} latents of {count} classes in {latents.FOLDS} folds, SVMs {latents.SVM_ROWS:,} at most"
    )
    pairs = zip(
        latents.probe(embedded.kept.take(places), classes[row], row, seed),
        latents.probe(beside, classes[row], row, seed),
        strict=True,
    )
    figures: dict[str, Any] = {
        "rows": len(places),
        "classes": count,
        "folds": latents.FOLDS,
        "pca_dimension": dimension,
    }
    for (name, own), (_, pca) in pairs:
        figures[name] = {"mean": own.mean, "std": own.std, "rows": own.rows, "pca_mean": pca.mean, "pca_std": pca.std}
        talk.say(f"  {name:13}  {own.mean:.4f} ± {own.std:.4f}, PCA {pca.mean:.4f} ± {pca.std:.4f}")
    if not want:
        return figures, None
    from aekit import reports

    return figures, reports.probe_section(figures, embedded.kept.shape[0])


def _pca(embedded: Embedded, places: Codes, width: int) -> tuple[int, NDArray[np.float32]]:
    """Of the samples of these latents as many principal components as latents have values, or samples span."""
    values = math.prod(embedded.trained.sample_shape)
    normalised = embedded.trained.normalisation.apply
    some = places[_spread(len(places), max(2, PCA_VALUES // values))]
    pca = fit_pca(normalised(as_tensor(embedded.samples(some)))[0], width)
    parts = inference.samples_at(embedded.trained, embedded.record, places)
    found = torch.cat([pca.transform(normalised(as_tensor(part))[0]) for part in parts]).numpy()
    return found.shape[1], found


# --- clusters ---------------------------------------------------------------------------------------------------------


def write_clusters(
    embedded: Embedded, k: int, path: Path, run: inference.Run, options: Options, talk: Talk
) -> "tuple[dict[str, Any], Codes, Section | None]":
    """Writes the cluster of each latent and how far its centre is; the first cluster is the largest."""
    kept, labels = embedded.kept, embedded.labels()
    rng = np.random.default_rng(options.seed)
    rows, width = kept.shape
    most = min(rows, max(k, min(latents.FITTED, latents.FITTED_VALUES // width)))
    fitted = np.sort(rng.choice(rows, most, replace=False))
    centres = latents.centres(kept.take(fitted), k, options.seed)
    parts = list(latents.neighbours(kept, centres, 1, device=run.device))
    index, apart = (np.concatenate([part[i][:, 0] for part in parts]) for i in (0, 1))
    sizes = np.bincount(index, minlength=k)
    order = np.argsort(-sizes, kind="stable")
    clusters, sizes = np.argsort(order)[index], sizes[order]
    columns = {"row": np.arange(len(clusters)), "cluster": clusters, "distance": apart.astype(np.float32)}
    formats.write_columns(path, columns | ({} if labels is None else {"label": labels}), options.force)
    some = rng.permutation(len(clusters))[: latents.SILHOUETTE_ROWS]
    some.sort()
    silhouette = latents.silhouette(kept.take(some), clusters[some])
    figures: dict[str, Any] = {"clusters": str(path), "silhouette": silhouette, "silhouette_rows": len(some)}
    figures |= {} if labels is None else latents.agreement(latents.codes_of(labels)[0], clusters)
    figures["cluster_sizes"] = {str(i): int(size) for i, size in enumerate(sizes)}
    line = f"clusters: {k} of {sizes.max():,} to {sizes.min():,} latents"
    line += f", fitted to {len(fitted):,}" if len(fitted) < len(clusters) else ""
    line += f"; silhouette of {len(some):,}" if len(some) < len(clusters) else ""
    talk.say(line)
    if options.report is None:
        return figures, clusters, None
    return figures, clusters, _clusters_section(embedded, clusters, apart, sizes, labels, figures)


def _clusters_section(
    embedded: Embedded,
    clusters: Codes,
    apart: NDArray[np.float64],
    sizes: Codes,
    labels: NDArray[Any] | None,
    figures: dict[str, Any],
) -> "Section":
    """With the members nearest to each centre."""
    from aekit import reports

    order = np.lexsort((apart, clusters))
    ends = np.cumsum(sizes)[: reports.MOST_CLUSTERS]
    members = [order[end - size : end][:SHOWN_MEMBERS] for end, size in zip(ends, sizes, strict=False)]
    samples = embedded.samples(np.concatenate(members))
    parts = np.split(samples, np.cumsum([len(part) for part in members])[:-1])
    record = embedded.record
    return reports.clusters_section(figures, clusters, parts, record.kind, labels, record.sampling_rate, record.columns)


def _spread(count: int, most: int) -> Codes:
    """At most so many places out of `count`, evenly spread from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
