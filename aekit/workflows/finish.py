"""What follows the last epoch: calibration, the PCA baseline, the mixture to generate from, and the figures."""

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aekit import ranks
from aekit.baseline import PCA, fit_pca
from aekit.batches import Rows
from aekit.corruptions import Corruption
from aekit.inference import scores_of
from aekit.objectives import zeros
from aekit.records import Batch, Output
from aekit.trained import Mixture, TrainedModel
from aekit.training import (
    TrainSettings,
    classifies,
    evaluate,
    is_judged,
    precision_context,
    predicts_hidden,
    reconstructs,
)
from aekit.workflows.training_data import Parts

ROWS = 1000  # at a time
LATENT_ROWS = 10_000  # for the mixture
LEAST_ROWS = 10  # that a mixture is fitted to
LEAST_CLASS_ROWS = 20  # of a class with components of its own
MOST_COMPONENTS_OF_A_CLASS = 10
MOST_IN_ALL = 50  # components, unless there are more classes
PCA_ROWS = 20_000  # more hardly move the components
MOST_COMPONENTS = 256  # of PCA: more would make the model file large
PCA_VALUES = 1 << 26  # that PCA is fitted to


@torch.inference_mode()
def finish(
    trained: TrainedModel,
    parts: Parts,
    settings: TrainSettings,
    corruption: Corruption,
    history: list[dict[str, float]],
    where: torch.device,
) -> dict[str, Any]:
    """Fills in calibration, PCA and mixture; returns the figures. Each process judges some of the rows."""
    network, val = trained.network, parts.val.to(where)
    figures: dict[str, Any] = {"epochs": len(history), "train_loss": history[-1].get("train_loss")}
    best = [row for row in history if row["best"]][-1]
    figures |= {"best_epoch": int(best["epoch"]), "val_error": best.get("val_error"), "test_error": None}
    trained.network.eval()
    train = parts.train.to(where)
    some = train.subset(_some(len(train), LATENT_ROWS).to(where))
    if hasattr(network, "settle"):
        network.settle(train, val)  # type: ignore[operator]
    if hasattr(network, "agreement") and len(train) > 1:
        figures["rank_agreement"] = round(network.agreement(train), 4)  # type: ignore[operator]
    z = _latents(trained, some)
    if z is not None and reconstructs(network):
        values = math.prod(trained.sample_shape)
        most = max(1, min(values // 4, MOST_COMPONENTS))  # with more, PCA passes everything through
        batch = parts.train.batch(_some(len(parts.train), min(PCA_ROWS, max(most + 1, PCA_VALUES // values))))
        trained.pca = fit_pca(batch.target, min(z.shape[1], most))  # of what is to come out, where data is paired
    if trained.pca is not None and not predicts_hidden(network):  # PCA sees what it is judged by
        figures["pca_components"] = len(trained.pca.components)
        pca = _as_model(trained.pca)
        exact = replace(settings, precision="fp32")  # PCA is not asked to run in the model's precision
        figures["pca_val_error"] = evaluate(pca, parts.val, exact, corruption)
        if parts.test is not None:
            figures["pca_test_error"] = evaluate(pca, parts.test, exact, corruption)
    if reconstructs(network):
        trained.calibration, trained.pca_calibration = _calibrate(trained, val)
    if parts.test is not None and is_judged(network):
        figures["test_error"] = evaluate(network, parts.test.to(where), settings, corruption)
    if classifies(network):
        figures["val_accuracy"] = _accuracy(network, val, settings.precision)
        if parts.test is not None:
            figures["test_accuracy"] = _accuracy(network, parts.test.to(where), settings.precision)
    if z is not None and "generate" in network.verbs:  # type: ignore[operator]
        labels = None if some.labels is None else some.labels.cpu().numpy()
        trained.mixture = fit_mixture(z.float().cpu().numpy(), labels)
    figures["samples_per_second"] = round(float(np.median([row["samples_per_second"] for row in history])))
    return figures


def _some(rows: int, count: int) -> torch.Tensor:
    """Places of at most `count` rows, drawn with a fixed seed: files are often sorted, by class say."""
    return torch.randperm(rows, generator=torch.Generator().manual_seed(0))[:count].sort().values


def _latents(trained: TrainedModel, rows: Rows) -> torch.Tensor | None:
    if "embed" not in trained.network.verbs:  # type: ignore[operator]
        return None
    return torch.cat([trained.network(_batch(rows, start).x).z for start in range(0, len(rows), ROWS)])


def _accuracy(network: torch.nn.Module, rows: Rows, precision: str) -> float:
    def right(start: int) -> int:
        batch = _batch(rows, start)
        assert batch.label is not None, "the workflow checks that there are labels"
        with precision_context(precision, rows.x.device):
            found = network(batch.x).x_hat.argmax(dim=1)
        return int((found == batch.label).sum())

    return sum(ranks.spread(range(0, len(rows), ROWS), right)) / len(rows)


def _as_model(pca: PCA) -> Callable[[torch.Tensor], Output]:
    """PCA in the model's place: given the same corrupted input, judged by the same target."""
    return lambda x: Output(pca.reconstruct(x), None, zeros(x))


def _calibrate(trained: TrainedModel, rows: Rows) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Scores of the rows held out, the model's and PCA's, as `score` makes them."""

    def of(start: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        x = _batch(rows, start).x
        pca = None if trained.pca is None else trained.pca.error(x.cpu())
        return scores_of(trained, x, trained.precision).cpu(), pca

    found = ranks.spread(range(0, len(rows), ROWS), of)
    own, pca = [scores for scores, _ in found], [errors for _, errors in found if errors is not None]
    return torch.cat(own), torch.cat(pca) if pca else None


def _batch(rows: Rows, start: int) -> Batch:
    return rows.batch(torch.arange(start, min(start + ROWS, len(rows)), device=rows.x.device))


def fit_mixture(z: NDArray[np.float32], labels: NDArray[np.int64] | None = None) -> Mixture | None:
    """A Gaussian mixture on latents (N, D): full covariances for small latents, else diagonal; None for huge ones.

    With labels (N,), -1 where there is none, each class of enough rows has components of its own, and the others
    together; a class weighs what it has of the rows.
    """
    if z.shape[1] > 4096 or len(z) < LEAST_ROWS:
        return None
    groups = {-1: np.ones(len(z), np.bool_)}
    if labels is not None:
        names, counts = np.unique(labels[labels >= 0], return_counts=True)
        groups = {int(name): labels == name for name in names[counts >= LEAST_CLASS_ROWS]}
        others = ~np.isin(labels, list(groups))
        if others.sum() >= LEAST_ROWS:
            groups[-1] = others
    each = max(1, MOST_IN_ALL // len(groups))
    fitted = [(k, rows.mean(), *_fit_gaussians(z[rows], each)) for k, rows in groups.items()]
    share = sum(share for _, share, *_ in fitted)
    weights = np.concatenate([own / share * weights for _, own, weights, _, _ in fitted])
    means, factors = (np.concatenate([parts[i] for parts in fitted]) for i in (3, 4))
    classes = np.concatenate([np.full(len(weights), k) for k, _, weights, _, _ in fitted])
    tensors = [torch.from_numpy(values.astype(np.float32)) for values in (weights, means, factors)]
    return Mixture(tensors[0], tensors[1], tensors[2], None if labels is None else torch.from_numpy(classes))


def _fit_gaussians(z: NDArray[np.float32], most: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Weights, means and factors of a mixture of at most so many components, and one for each 100 rows."""
    from sklearn.exceptions import ConvergenceWarning  # scikit-learn takes a second
    from sklearn.mixture import GaussianMixture

    full = z.shape[1] <= 64
    wide = z.astype(np.float64)
    floor = 1e-4 * float(wide.var(axis=0).mean()) + 1e-12
    mixture = GaussianMixture(
        n_components=max(1, min(most, MOST_COMPONENTS_OF_A_CLASS, len(z) // 100)),
        covariance_type="full" if full else "diag",
        reg_covar=floor,
        max_iter=50,
        tol=1e-2,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a rough fit generates as well
        mixture.fit(wide)
    factors = np.linalg.cholesky(mixture.covariances_) if full else np.sqrt(mixture.covariances_)
    return mixture.weights_, mixture.means_, factors
