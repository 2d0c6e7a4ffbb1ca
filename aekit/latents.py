"""What latents (N, D) tell: maps of them, near rows, clusters, and how well classes can be read off them.

Neighbours and clusters take more latents than memory holds: an array, or whatever gives rows by slices.
"""

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aekit.baseline import fit_pca
from aekit.batches import as_tensor
from aekit.errors import AekitError

Codes = NDArray[np.int64]  # classes as whole numbers from 0 on, or places of rows
CPU = torch.device("cpu")
METRICS = ("euclidean", "cosine")

MAPS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
FEWEST_MAPPED = 20  # latents of which t-SNE and UMAP are drawn

QUERIES, PAIRS, VALUES = 256, 1 << 22, 1 << 22  # rows, distances and values of candidates at a time
SPARE = 8  # candidates beyond k, so that hardly ever all distances must be measured by differences

FITTED, FITTED_VALUES = 20_000, 1 << 24  # latents that centres are fitted to; more hardly move them
STARTS = 10  # of k-means
SILHOUETTE_ROWS = 5_000  # whose silhouette is taken: it looks at every pair

FOLDS = 5
PROBE_ROWS, SVM_ROWS = 10_000, 5_000  # more take minutes
PROBE_VALUES = 1 << 22  # of these rows


class Blocks(Protocol):
    """Latents (N, D), so many at a time: an array, or one in a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: slice, /) -> NDArray[Any]: ...


# --- maps -------------------------------------------------------------------------------------------------------------


def check_maps(names: tuple[str, ...]) -> None:
    """Raises AekitError where a map needs what is not installed."""
    if "umap" in names and importlib.util.find_spec("umap") is None:
        raise AekitError('--maps umap: umap-learn is missing; pip install "aekit[umap]"')


def planes(z: NDArray[np.float32], names: tuple[str, ...], seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Maps of latents (N, D) on a plane by name of MAPS, title -> (N, 2); PCA's alone where it shows all there is."""
    tensor = as_tensor(z)
    start = fit_pca(tensor, min(50, z.shape[1])).transform(tensor).numpy()
    curved = tuple(name for name in names if name != "pca")
    if len(z) < FEWEST_MAPPED or start.shape[1] <= 2:
        if curved:
            left = " and ".join(MAPS[name] for name in curved)
            say(f"{left} left out: of {len(z)} latents that span {start.shape[1]} dimension(s) PCA's map shows enough")
        names = ("pca",)
    found: dict[str, Any] = {}
    for name in names:
        if name == "pca":
            plane = start[:, :2]
            missing = np.zeros((len(z), 2 - plane.shape[1]), np.float32)
            found[MAPS[name]] = np.column_stack([plane, missing])
        else:
            say(f"{MAPS[name]} of {len(z):,} latents")
            found[MAPS[name]] = (_tsne if name == "tsne" else _umap)(start, seed % 2**32)
    return found


def _tsne(z: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """By openTSNE where it is installed, else by scikit-learn; van der Maaten & Hinton 2008."""
    threads = torch.get_num_threads()
    perplexity = min(30, (len(z) - 1) / 3)
    if importlib.util.find_spec("openTSNE") is not None:
        import openTSNE

        quick = openTSNE.TSNE(perplexity=perplexity, initialization="pca", random_state=seed, n_jobs=threads)
        return np.asarray(quick.fit(z), np.float32)
    from sklearn.manifold import TSNE

    found: NDArray[np.float32] = TSNE(
        perplexity=perplexity, init="pca", random_state=seed, n_jobs=threads
    ).fit_transform(z)
    return found


def _umap(z: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """McInnes, Healy & Melville 2018, arXiv:1802.03426; with a seed it runs on one thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a missing TensorFlow, which nothing here needs
        import umap

        found: NDArray[np.float32] = umap.UMAP(
            n_neighbors=min(15, len(z) - 1), random_state=seed, n_jobs=1
        ).fit_transform(z)
    return found


# --- neighbours -------------------------------------------------------------------------------------------------------


def neighbours(
    query: Blocks, reference: Blocks, k: int, metric: str = "euclidean", own: int = 0, device: torch.device = CPU
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """The k nearest rows of `reference` (M, D) to each of `query` (N, D): rows (B, k) and distances (B, k), in blocks.

    They are exact, and equal distances go by row: a matrix product in float64 finds candidates, which are measured
    again by their differences. The cosine distance is 1 - cosine, and 1 from or to a vector of zeros.
    With `own` the query is the reference, of which each `own` latents in turn are of one row: they are no neighbours.
    """
    count, width = reference.shape
    assert k <= count - own, "the caller checks that there are so many neighbours"
    rows = max(1, min(QUERIES, VALUES // ((k + SPARE) * width)))
    block = max(k + SPARE, min(PAIRS // rows, VALUES // width))
    for start in range(0, query.shape[0], rows):
        q = _points(query[start : start + rows], metric, 0).to(device)
        distances = q.new_empty((len(q), 0))
        index = torch.empty((len(q), 0), dtype=torch.int64, device=device)
        q_row = torch.arange(start, start + len(q), device=device) // max(1, own)
        for first in range(0, count, block):
            r = _points(reference[first : first + block], metric, 1).to(device)
            r_row = torch.arange(first, first + len(r), device=device) // max(1, own)
            near = own > 0 and r_row[0] <= q_row[-1] and q_row[0] <= r_row[-1]
            found, at = _nearest(q, r, k, q_row[:, None] == r_row if near else None)
            both, order = torch.cat([distances, found], dim=1).sort(dim=1, stable=True)
            distances, index = both[:, :k], torch.cat([index, at + first], dim=1).gather(1, order)[:, :k]
        apart = distances.sqrt() if metric == "euclidean" else distances / 2
        yield index.cpu().numpy(), apart.cpu().numpy()


def _points(z: NDArray[Any], metric: str, side: int) -> Tensor:
    """Latents in float64; for cosine on the unit sphere, with two dimensions more in which zeros are far from all."""
    wide = torch.from_numpy(np.asarray(z, np.float64))
    if metric == "euclidean":
        return wide
    wide = wide / wide.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    zeros = torch.zeros(len(wide), 2, dtype=wide.dtype)
    zeros[(wide == 0).all(dim=1), side] = 1
    return torch.cat([torch.nn.functional.normalize(wide), zeros], dim=1)


def _nearest(q: Tensor, r: Tensor, k: int, own: Tensor | None) -> tuple[Tensor, Tensor]:
    """Squared distances (B, k) in rising order and rows of r (M, D), fewer where M is; infinity where `own` (B, M)."""
    count = min(k + SPARE, len(r))
    reach = r.square().sum(1)
    rough = torch.addmm(reach[None], q, r.T, alpha=-2)  # less the query's own square
    if own is not None:
        rough.masked_fill_(own, torch.inf)
    candidates, index = rough.topk(count, largest=False)
    index, order = index.sort(dim=1)
    far = candidates.gather(1, order).isinf()
    exact = (q[:, None] - r[index]).square().sum(2).masked_fill(far, torch.inf)
    exact, order = exact.sort(dim=1, stable=True)
    index = index.gather(1, order)
    if count < len(r):
        q_reach = q.square().sum(1)
        rounding = 4 * (q.shape[1] + 8) * torch.finfo(q.dtype).eps * (q_reach + reach.max())
        unsure = candidates[:, -1] + q_reach - rounding <= exact[:, k - 1]
        for i in unsure.nonzero().flatten().tolist():
            every = (r - q[i]).square().sum(1)
            if own is not None:
                every = every.masked_fill(own[i], torch.inf)
            every, order = every.sort(stable=True)
            exact[i], index[i] = every[:count], order[:count]
    return exact[:, :k], index[:, :k]


def vote(classes: Codes) -> Codes:
    """The most frequent class of each row's neighbours (N, k), nearest first, (N,); of several the nearest one's."""
    votes = (classes[:, :, None] == classes[:, None, :]).sum(axis=2)
    winner: Codes = np.take_along_axis(classes, votes.argmax(axis=1)[:, None], axis=1)[:, 0]
    return winner


def codes_of(*labels: NDArray[Any]) -> list[Codes]:
    """Labels (N,) of one or several files as numbers, the same for the same label."""
    given = [_text(part) if part.dtype.kind in "OS" else part for part in labels]
    codes = np.unique(np.concatenate(given), return_inverse=True)[1]
    return np.split(codes, np.cumsum([len(part) for part in given])[:-1])


def _text(labels: NDArray[Any]) -> NDArray[Any]:
    return np.array([x.decode("utf-8", "replace") if isinstance(x, bytes) else str(x) for x in labels.tolist()])


# --- clusters ---------------------------------------------------------------------------------------------------------


def centres(z: NDArray[np.float32], k: int, seed: int) -> NDArray[np.float32]:
    """k-means of latents (N, D): the best of ten starts, (k, D); Arthur & Vassilvitskii 2007 for the starts."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of fewer different latents than clusters: some are empty
        found = KMeans(k, n_init=STARTS, random_state=seed % 2**32).fit(np.asarray(z, np.float64))
    return np.asarray(found.cluster_centers_, np.float32)


def silhouette(z: NDArray[np.float32], clusters: Codes) -> float | None:
    """Mean silhouette of latents (N, D) in clusters (N,), Rousseeuw 1987; None where it is not defined."""
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(clusters)) < len(z):
        return None
    return float(silhouette_score(z, clusters))


def agreement(classes: Codes, clusters: Codes) -> dict[str, float]:
    """How well clusters (N,) agree with classes (N,): Hubert & Arabie 1985; mutual information over mean entropy."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    return {
        "adjusted_rand_index": float(adjusted_rand_score(classes, clusters)),
        "normalised_mutual_information": float(normalized_mutual_info_score(classes, clusters)),
    }


# --- probes -----------------------------------------------------------------------------------------------------------


class Accuracy(NamedTuple):
    mean: float
    std: float  # over the folds
    rows: int


def probed(classes: Codes) -> Codes:
    """Places of the rows whose class can be probed: FOLDS rows or more have it."""
    return np.flatnonzero(np.bincount(classes)[classes] >= FOLDS)


def drawn(classes: Codes, most: int, rng: np.random.Generator) -> Codes:
    """About `most` places of rows that can be probed, in order: of each class its share, and FOLDS at least."""
    rows = probed(classes)
    share = min(1.0, most / max(1, len(rows)))
    parts = []
    for value in np.unique(classes[rows]):
        members = rows[classes[rows] == value]
        parts.append(rng.permutation(members)[: max(FOLDS, round(share * len(members)))])
    return np.sort(np.concatenate(parts))


def probe(z: NDArray[np.float32], classes: Codes, row: Codes, seed: int) -> Iterator[tuple[str, Accuracy]]:
    """Accuracy with which classifiers tell the classes (M,) from latents (M, D), by stratified cross-validation.

    Latents of one `row` (M,) are in one fold. Values are centred and divided by one scale, the largest standard
    deviation of a unit, both of all rows: a unit that hardly moves is not to count as much as the others.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC, LinearSVC

    seed %= 2**32
    few = _some(classes, row, SVM_ROWS, np.random.default_rng(seed))
    probes: dict[str, tuple[Any, Codes]] = {
        "linear": (LogisticRegression(max_iter=1000), np.arange(len(z))),
        "knn": (KNeighborsClassifier(5), np.arange(len(z))),
        "linear_svm": (LinearSVC(dual="auto", random_state=seed), few),
        "rbf_svm": (SVC(), few),
        "random_forest": (RandomForestClassifier(random_state=seed, n_jobs=torch.get_num_threads()), np.arange(len(z))),
    }
    for name, (classifier, part) in probes.items():
        yield name, _accuracy(classifier, z[part], classes[part], row[part], seed)


def _some(classes: Codes, row: Codes, most: int, rng: np.random.Generator) -> Codes:
    """Places of about `most` latents, of whole rows."""
    _, first, inverse = np.unique(row, return_index=True, return_inverse=True)
    kept = drawn(classes[first], max(1, most * len(first) // len(row)), rng)
    return np.flatnonzero(np.isin(inverse, kept))


def _accuracy(classifier: Any, z: NDArray[np.float32], classes: Codes, row: Codes, seed: int) -> Accuracy:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import StratifiedKFold

    scale = float(z.std(axis=0).max()) or 1.0
    z = z - z.mean(axis=0)
    _, first, inverse = np.unique(row, return_index=True, return_inverse=True)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    right = []
    for _, held_out in folds.split(first, classes[first]):
        test = np.isin(inverse, held_out)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a rough fit tells as much
            found = classifier.fit(z[~test] / scale, classes[~test])
        right.append(float((found.predict(z[test] / scale) == classes[test]).mean()))
    return Accuracy(float(np.mean(right)), float(np.std(right, ddof=1)), len(z))
