"""`mae` beside simple baselines: hidden patches beside means, its latents beside PCA of the raw values."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Array, Row, kept, row, rows_of
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aekit.baseline import fit_pca
from aekit.batches import as_tensor
from aekit.datasets import open_dataset
from aekit.models.mae import MAE
from aekit.workflows.common import load_model

PROBED = 10_000, 5_000  # rows that the probe is fitted to, and judged by
SMALLER = 20, 50  # components of PCA, beside as many as the latent has


def masked(folder: Path) -> list[Row]:
    """MNIST after a few minutes of training."""
    return beside(folder, "mnist", epochs=3)


def masked_heartbeats(folder: Path) -> list[Row]:
    """ECG5000 with all of its classes."""
    return beside(folder, "ecg5000", normal="1,2,3,4,5", steps=1000)


def beside(folder: Path, data: str, **options: Any) -> list[Row]:
    """Errors of the hidden values of test rows, in the data's normalised units, and accuracies of a linear probe."""
    model, note = kept(folder, "mae", data, f"mae-{data}", **options)
    x, test = rows_of(data, "train"), rows_of(data, "test")[: PROBED[1]]
    found = hidden_errors(folder / f"mae-{data}", x, test)
    rows = [row(data, name, "error of hidden patches", value, note=note) for name, value in found.items()]
    rows.append(row(data, "mae", "error of hidden patches over the best mean's", _ratio(found), "< 1"))
    labels = [open_dataset(data, part).labels for part in ("train", "test")]  # type: ignore[arg-type, union-attr]
    latents = [model.embed(x[: PROBED[0]]), model.embed(test)]
    accuracy = probe(latents, labels)
    width = latents[0].shape[1]
    flat = [as_tensor(part.reshape(len(part), -1).astype(np.float32)) for part in (x, test)]
    best = 0.0
    for components in (*SMALLER, width):
        pca = fit_pca(flat[0], components)
        by_pca = probe([pca.transform(part[: PROBED[0]]).numpy() for part in flat], labels)
        best = max(best, by_pca)
        rows.append(row(data, f"PCA-{components}", "accuracy of a linear probe", by_pca))
    rows.append(row(data, f"mae, latent {width}", "accuracy of a linear probe", accuracy, f"> {best:.4f}"))
    return rows


def hidden_errors(run: Path, x: Array, test: Array) -> dict[str, float]:
    """Mean squared error of the hidden values of test rows, a mask drawn for each: of `mae`, of the training rows' mean
    at each place, and of the mean of the values that a row shows."""
    trained = load_model(str(run))
    network = trained.network.eval()
    assert isinstance(network, MAE)
    mean = trained.normalisation.apply(as_tensor(x[:, None]))[0].mean(0, keepdim=True)
    rng = np.random.default_rng(0)
    errors: dict[str, list[float]] = {}
    for start in range(0, len(test), 500):
        given = trained.normalisation.apply(as_tensor(test[start : start + 500, None]))[0]
        order = rng.random((len(given), len(network.order))).argsort(axis=1)
        hidden = torch.from_numpy(order >= network.visible).view(-1, 1, *network.grid)
        for axis, size in enumerate(network.patch):
            hidden = hidden.repeat_interleave(size, 2 + axis).narrow(2 + axis, 0, given.shape[2 + axis])
        shown = given.masked_fill(hidden, 0).flatten(1).sum(1) / (~hidden).flatten(1).sum(1)
        with torch.inference_mode():
            guesses = {
                "mae": network.fill(given, hidden),
                "mean of the training rows": mean.expand_as(given),
                "mean of what is shown": shown.view(-1, *[1] * (given.dim() - 1)).expand_as(given),
            }
        for name, guess in guesses.items():
            errors.setdefault(name, []).extend((guess - given)[hidden].square().tolist())
    return {name: float(np.mean(values)) for name, values in errors.items()}


def _ratio(found: dict[str, float]) -> float:
    return found["mae"] / min(value for name, value in found.items() if name != "mae")


def probe(z: list[Array], labels: list[Array]) -> float:
    """Accuracy on the second part of a logistic regression fitted to the first."""
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    fitted.fit(z[0], labels[0][: len(z[0])])
    return float(fitted.score(z[1], labels[1][: len(z[1])]))


SUBJECTS: dict[str, Callable[[Path], list[Row]]] = {"masked": masked, "masked-heartbeats": masked_heartbeats}
