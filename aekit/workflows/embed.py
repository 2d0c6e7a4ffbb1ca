"""embed: one latent vector per sample in the file's order, and a picture of them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aekit import formats, inference
from aekit.baseline import fit_pca
from aekit.batches import as_tensor
from aekit.errors import AekitError
from aekit.files import together, whole
from aekit.records import Record, record_of
from aekit.trained import TrainedModel
from aekit.workflows import common
from aekit.workflows.common import Clock, Options, Talk

PICTURED = 3000  # points; t-SNE of more takes minutes


def embed(
    data: str,
    out: str | None = None,
    labels: str | None = None,
    options: Options | None = None,
    talk: Talk | None = None,
) -> dict[str, Any]:
    """Writes latents (rows, D) to `out` (by default <name>.latents.npy), and <out>.png beside it; returns the figures.

    Labels go along: inside the file where the format holds several arrays, else as <out>.labels.csv.
    """
    options, talk, clock = options or Options(), talk or Talk(), Clock()
    record = common.open_input(data, labels)
    path = Path(out) if out is not None else common.default_out(data, "latents", ".npy")
    inside = path.suffix in (".npz", ".h5", ".hdf5")
    beside = path.with_suffix(".labels.csv") if record.labels is not None and not inside else None
    common.check_outputs(options, data, path, path.with_suffix(".png"), beside)
    trained, run = common.find_model(data, record, "embed", options, talk)
    with together():
        figures = _embed(trained, run, record, path, beside, inside, options, talk)
    return {**figures, "seconds": clock.seconds}


def _embed(
    trained: TrainedModel,
    run: inference.Run,
    record: Record,
    path: Path,
    beside: Path | None,
    inside: bool,
    options: Options,
    talk: Talk,
) -> dict[str, Any]:
    from aekit import reports  # matplotlib takes a second

    rows, width = inference.latent_shape(trained, record)
    like = record_of(
        np.zeros((rows, width), np.float32), record.source, _repeated(record.labels, rows) if inside else None
    )
    drawn = np.sort(np.random.default_rng(options.seed).choice(rows, min(PICTURED, rows), replace=False))
    shown: list[NDArray[np.float32]] = []
    seen = inference.Seen()
    done = 0
    created = formats.create(path, like, (rows, width), np.dtype(np.float32), options.force)
    with created as writer, talk.track("rows", len(record)) as bar:
        for z in inference.embed(trained, record, run, seen, bar):
            if not np.isfinite(z).all():
                raise AekitError(
                    f"{record.source}: a latent is not a number: the values are too far from the training data"
                )
            writer.write(z)
            shown.append(z[drawn[(drawn >= done) & (drawn < done + len(z))] - done])
            done += len(z)
    common.warn(seen, trained, talk)
    labels_out = _repeated(record.labels, rows)
    if beside is not None and labels_out is not None:
        formats.write_columns(beside, {"row": np.arange(rows), "label": labels_out}, options.force)
    figures: dict[str, Any] = {"count": rows, "out": str(path), "latent": width, "model": trained.source}
    names = None if labels_out is None else labels_out[drawn]
    maps = _maps(np.concatenate(shown), options.seed, talk)
    png = path.with_suffix(".png")
    with whole(png, options.force) as temporary:
        reports.save_figure(reports.latent_picture(maps, names), temporary)
    figures["picture"] = str(png)
    if options.report is not None:
        figures["report"] = options.report
        section = reports.embedding_section(maps, names)
        with whole(Path(options.report), options.force) as temporary:
            temporary.write_text(
                reports.page(f"{record.source}, embedded", {"recipe": trained.recipe, **figures}, [section])
            )
    if beside is not None:
        figures["labels"] = str(beside)
    return figures


def _repeated(labels: NDArray[Any] | None, rows: int) -> NDArray[Any] | None:
    return None if labels is None else np.repeat(labels, rows // len(labels))


def _maps(z: NDArray[np.float32], seed: int, talk: Talk) -> dict[str, NDArray[np.float32]]:
    """Two-dimensional maps of latents (N, D): PCA, and t-SNE where there are enough of them."""
    from sklearn.manifold import TSNE

    tensor = as_tensor(z)
    maps = {"PCA": fit_pca(tensor, 2).transform(tensor).numpy()}
    if maps["PCA"].shape[1] == 1:
        maps["PCA"] = np.column_stack([maps["PCA"], np.zeros(len(z), np.float32)])
    start = fit_pca(tensor, min(50, z.shape[1])).transform(tensor).numpy()
    if len(z) >= 20 and start.shape[1] > 2:  # else PCA's map shows all there is
        talk.say(f"t-SNE of {len(z)} latents")
        maps["t-SNE"] = TSNE(
            perplexity=min(30, (len(z) - 1) / 3), init="pca", random_state=seed % 2**32, n_jobs=-1
        ).fit_transform(start)
    return maps
