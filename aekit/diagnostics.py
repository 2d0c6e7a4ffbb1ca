"""How good generated samples are beside real ones: memorised, collapsed, precise, complete.

Samples are normalised, (N, C, ...), so that one unit means the same in all values. What depends on what is alike, and
not on single values, is judged in an embedding of our own: the last hidden layer of a small classifier, trained here in
seconds on real rows. Figures compare within one such network: those of two networks, or of two seeds, have no common
scale.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from aekit.baseline import fit_pca
from aekit.batches import as_tensor
from aekit.records import Array, Kind
from aekit.training import mix

WIDTH = 64  # values of the embedding
FIT_ROWS = 20_000  # that the classifier learns from, at most, and at most half of the rows
CLUSTERS = 10  # that stand for classes where there are no labels
SEEN_SAMPLES = 64_000  # in training, at most
SEEN_POINTS = 50_000_000  # time points or pixels in training, at most: seconds on one core
LONGEST_SIDE = 64  # pixels; larger images are averaged down first
BATCH = 128
BLOCK = 4096  # rows that are compared at a time
NEIGHBOURS = 3  # out to which a ball about a point of a manifold reaches
SUBSETS = 50  # of the kernel inception distance
SUBSET_ROWS = 1000  # in one of them, at most
COVERED = 0.1  # of its share among real rows, that a class needs to count as covered
USUAL_ROWS = 1000  # real rows whose neighbours are looked for
MEMORISED = 0.01  # quantile of their distances, below which an output counts as memorised

Floats = NDArray[np.floating[Any]]
Places = NDArray[np.int64]


# --- the embedding ---------------------------------------------------------------------------------------------------


@dataclass
class Features:
    """A trained classifier: samples (N, C, ...) -> embedding (N, 64), whose mean square is 1, and probabilities."""

    network: "_Classifier"
    scale: float
    free: Places  # rows that it was not trained on, in a random order
    accuracy: float  # on them, at most 5,000
    classes: int
    labelled: bool  # else its classes are clusters

    @torch.inference_mode()
    def __call__(self, x: Array) -> tuple[Floats, Floats]:
        """Embedding (N, 64) and probabilities of the classes (N, K)."""
        parts = [self.network(as_tensor(x[i : i + BATCH]).float()) for i in range(0, len(x), BATCH)]
        hidden, logits = (torch.cat(part) for part in zip(*parts, strict=True))
        return hidden.double().numpy() / self.scale, logits.double().softmax(1).numpy()


class _Classifier(nn.Module):
    """Strided convolutions in 1-D or 2-D, of tables dense layers; the last hidden layer has 64 units."""

    def __init__(self, sample_shape: tuple[int, ...], kind: Kind, classes: int, mean: Tensor, std: Tensor):
        super().__init__()
        self.mean, self.std = mean, std
        channels, *size = sample_shape
        layers: list[nn.Module] = []
        if kind == "table":
            layers = [nn.Flatten(), nn.Linear(math.prod(sample_shape), 128), nn.ReLU()]
            values = 128
        else:
            dims, before, width = len(size), channels, 16
            kernel_size, stride, smallest = (7, 4, 8) if dims == 1 else (3, 2, 4)
            layer = nn.Conv1d if dims == 1 else nn.Conv2d
            norm = nn.BatchNorm1d if dims == 1 else nn.BatchNorm2d
            if dims == 2 and max(size) > LONGEST_SIDE:
                factor = math.ceil(max(size) / LONGEST_SIDE)
                layers.append(nn.AvgPool2d(factor, ceil_mode=True))
                size = [math.ceil(side / factor) for side in size]
            while not layers or max(size) > smallest:
                convolution = layer(before, width, kernel_size, stride, kernel_size // 2, bias=False)
                layers += [convolution, norm(width), nn.ReLU()]
                size = [math.ceil(side / stride) for side in size]
                before, width = width, min(2 * width, WIDTH)
            layers.append(nn.Flatten())
            values = before * math.prod(size)
        self.body = nn.Sequential(*layers, nn.Linear(values, WIDTH), nn.ReLU())
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden: Tensor = self.body((x - self.mean) / self.std)
        return hidden, self.head(hidden)


def fit_features(x: Array, labels: Places | None = None, seed: int = 0, kind: Kind | None = None) -> Features:
    """A classifier of real rows x (N, C, ...) by their labels (N,), 0 to K - 1, else by clusters of their PCA.

    It learns from at most half of the rows; labels of one class alone count as none, rows labelled -1 are left out.
    """
    order = np.random.default_rng(mix(seed, 11)).permutation(len(x))
    if labels is not None:
        order = order[labels[order] >= 0]
    used = order[: max(2, min(FIT_ROWS, len(order) // 2))]
    free = order[len(used) :]
    labelled = labels is not None and len(np.unique(labels[used])) > 1
    fitted = as_tensor(x[used]).float()
    if labelled and labels is not None:
        goal, classes = labels, int(labels.max()) + 1
    else:
        goal, classes = _clusters(x, used, seed)
    kind = kind or ("image" if x.ndim == 4 else "series")
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(mix(seed, 12))
        network = _Classifier(x.shape[1:], kind, classes, fitted.mean(), fitted.std() + 1e-12)
        _train(network, fitted, torch.from_numpy(goal[used]).long())
    features = Features(network.eval(), 1.0, free, 0.0, classes, labelled)
    judged = free[:5000] if len(free) else used
    hidden, probabilities = features(x[judged])
    features.scale = float(np.sqrt(np.square(hidden).mean())) or 1.0
    features.accuracy = float((probabilities.argmax(1) == goal[judged]).mean())
    return features


def _clusters(x: Array, used: Places, seed: int) -> tuple[Places, int]:
    """The cluster of each row (N,), by k-means of the first components of PCA, and how many there are."""
    from sklearn.cluster import KMeans  # scikit-learn takes a second

    pca = fit_pca(as_tensor(x[used]).float(), 50)
    z = np.concatenate([pca.transform(as_tensor(x[i : i + BLOCK]).float()).numpy() for i in range(0, len(x), BLOCK)])
    count = max(1, min(CLUSTERS, len(used) // 20))
    means = KMeans(count, n_init=1, random_state=seed % 2**32).fit(z[used])
    return means.predict(z).astype(np.int64), count


def _train(network: _Classifier, x: Tensor, labels: Tensor) -> None:
    points = math.prod(x.shape[2:])
    steps = max(1, min(30 * len(x), SEEN_SAMPLES, SEEN_POINTS // points) // BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps + 1)
    size = min(BATCH, len(x))
    order = torch.cat([torch.randperm(len(x)) for _ in range(1 + steps * size // len(x))])
    for step in range(steps):
        rows = order[step * size : (step + 1) * size]
        _, logits = network(x[rows])
        optimiser.zero_grad()
        cross_entropy(logits, labels[rows]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()


# --- figures ---------------------------------------------------------------------------------------------------------


def nearest(x: Array, blocks: Iterable[Array], own: Places | None = None) -> tuple[Floats, Places]:
    """Euclidean distance (Q,) of each row of x (Q, C, ...) to the nearest of the reference rows, and its place there.

    `blocks` are the reference rows (N, C, ...) in parts; `own` (Q,) are places in them that are not looked at, where x
    is taken from them.
    """
    wide = x.reshape(len(x), -1).astype(np.float64)
    norms = np.square(wide).sum(1)
    best, place = np.full(len(x), np.inf), np.zeros(len(x), np.int64)
    first = 0
    for block in blocks:
        rows = block.reshape(len(block), -1).astype(np.float64)
        square = norms[:, None] + np.square(rows).sum(1) - 2 * wide @ rows.T
        if own is not None:
            inside = np.flatnonzero((own >= first) & (own < first + len(rows)))
            square[inside, own[inside] - first] = np.inf
        at = square.argmin(1)
        exact = np.sqrt(np.square(wide - rows[at]).sum(1))
        exact[np.isinf(square[np.arange(len(x)), at])] = np.inf
        place = np.where(exact < best, at + first, place)
        best = np.minimum(exact, best)
        first += len(rows)
    return best, place


def precision_recall(real: Floats, fake: Floats, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Shares of fakes inside the manifold of the real ones, and of real ones inside that of the fakes.

    Embeddings (N, D), of both as many; a manifold is the union of balls about its points, each out to the k-th nearest
    of the others (Kynkäänniemi et al. 2019, arXiv:1904.06991, equations 1 to 3).
    """
    if len(real) != len(fake) or len(real) <= k:
        raise ValueError(f"as many real as fake rows are needed, and more than {k}")
    return _inside(fake, real, k), _inside(real, fake, k)


def _inside(points: Floats, centres: Floats, k: int) -> float:
    radius = np.concatenate(
        [
            np.partition(_distances(centres[i : i + BLOCK], centres), k, axis=1)[:, k]
            for i in range(0, len(centres), BLOCK)
        ]
    )  # the nearest is the point itself
    within = [(_distances(points[i : i + BLOCK], centres) <= radius).any(axis=1) for i in range(0, len(points), BLOCK)]
    return float(np.concatenate(within).mean())


def _distances(a: Floats, b: Floats) -> Floats:
    from scipy.spatial.distance import cdist

    found: Floats = cdist(a, b)
    return found


class Distance(NamedTuple):
    """Mean and standard deviation over subsets of so many rows."""

    mean: float
    std: float
    rows: int


def kid(a: Floats, b: Floats, seed: int = 0) -> Distance:
    """Kernel inception distance of embeddings (N, D), (M, D): unbiased squared maximum mean discrepancy over subsets.

    The kernel is (u.v / D + 1)^3 (Bińkowski et al. 2018, arXiv:1801.01401, section 3); 50 subsets of half the rows,
    at most 1,000.
    """
    rng = np.random.default_rng(mix(seed, 13))
    rows = min(SUBSET_ROWS, min(len(a), len(b)) // 2)
    if rows < 2:
        raise ValueError("at least four rows of each are needed")
    drawn = [
        discrepancy(a[rng.choice(len(a), rows, replace=False)], b[rng.choice(len(b), rows, replace=False)])
        for _ in range(SUBSETS)
    ]
    return Distance(float(np.mean(drawn)), float(np.std(drawn)), rows)


def discrepancy(a: Floats, b: Floats) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy, equation 4 there."""
    within = sum(
        (kernel.sum() - np.trace(kernel)) / (len(x) * (len(x) - 1)) for x in (a, b) for kernel in [_kernel(x, x)]
    )
    return float(within - 2 * _kernel(a, b).mean())


def _kernel(a: Floats, b: Floats) -> Floats:
    product: Floats = (a @ b.T / a.shape[1] + 1) ** 3
    return product


class Coverage(NamedTuple):
    """Shares of the classes (K,) among outputs and real rows, as the classifier sees them."""

    shares: Floats
    real_shares: Floats
    covered: int  # classes with at least a tenth of their share among real rows
    present: int  # classes that real rows have
    confidence: float  # mean of the highest probability


def coverage(probabilities: Floats, real_probabilities: Floats) -> Coverage:
    """Of outputs (N, K) beside real rows (M, K)."""
    classes = probabilities.shape[1]
    shares, real_shares = (
        np.bincount(part.argmax(1), minlength=classes) / len(part) for part in (probabilities, real_probabilities)
    )
    present = real_shares > 0
    covered = int((present & (shares > 0) & (shares >= COVERED * real_shares)).sum())
    return Coverage(shares, real_shares, covered, int(present.sum()), float(probabilities.max(1).mean()))


# --- all of them -----------------------------------------------------------------------------------------------------


@dataclass
class Diagnosis:
    """The figures, and what a report shows of them."""

    figures: dict[str, Any]
    distance: Floats  # (N,), of each output to the nearest real row
    place: Places  # (N,), which that is
    usual: Floats  # (P,), of real rows to the nearest other
    coverage: Coverage
    labelled: bool  # its classes are the labels, else clusters


def diagnose(fake: Array, real: Array, features: Features, wanted: Places | None = None, seed: int = 0) -> Diagnosis:
    """Figures of outputs `fake` (N, C, ...) beside the real rows (M, C, ...) that `features` was fitted to.

    `wanted` (N,) are the classes that were asked for. An output counts as memorised where it is nearer to a real row
    than 99 % of real rows are to the nearest other. Precision, recall and distances take rows that the classifier has
    not seen, as many as there are outputs, and say how many these were.
    """
    blocks = [real[i : i + BLOCK] for i in range(0, len(real), BLOCK)]
    distance, place = nearest(fake, blocks)
    some = np.sort(np.random.default_rng(mix(seed, 14)).permutation(len(real))[:USUAL_ROWS])
    usual, _ = nearest(real[some], blocks, own=some)
    limit = float(np.quantile(usual, MEMORISED))
    embedded, probabilities = features(fake)
    judged = features.free[: max(2 * len(fake), 2 * SUBSET_ROWS)]
    embedded_real, real_probabilities = features(real[judged])
    covered = coverage(probabilities, real_probabilities)
    figures: dict[str, Any] = {
        "real_rows": len(real),
        "memorised": float((distance < limit).mean()),
        "nearest_ratio": float(np.median(distance)) / max(float(np.median(usual)), 1e-12),
        "classes": covered.present,
        "classes_covered": covered.covered,
        "largest_share": float(covered.shares.max()),
        "real_largest_share": float(covered.real_shares.max()),
        "mean_confidence": covered.confidence,
        "real_confidence": float(real_probabilities.max(1).mean()),
    }
    if wanted is not None and features.labelled:
        figures["label_accuracy"] = float((probabilities.argmax(1) == wanted[: len(fake)]).mean())
    figures |= {"feature_accuracy": features.accuracy, "feature_classes": "labels" if features.labelled else "clusters"}
    one, other = np.array_split(embedded_real, 2)
    figures |= _beside(embedded, embedded_real, seed, "") | _beside(one, other, seed, "_floor")
    return Diagnosis(figures, distance, place, usual, covered, features.labelled)


def verdicts(figures: dict[str, Any]) -> list[str]:
    """What the figures of `diagnose` say in words, a line for each thing that is not as with real rows."""
    lines = []
    if figures["memorised"] > 5 * MEMORISED:
        lines.append(f"copied: {figures['memorised']:.0%} of the samples are nearer to a real row than real rows are")
    if figures["classes_covered"] < figures["classes"]:
        lines.append(f"collapsed: {figures['classes_covered']} of {figures['classes']} classes are covered")
    if "recall" in figures and figures["recall"] < 0.1 * figures.get("recall_floor", 1.0):
        lines.append(
            f"collapsed, or unlike real rows: they reach {figures['recall']:.0%} of these (recall), and then a "
            f"precision of {figures['precision']:.2f} says little"
        )
    return lines


def _beside(fake: Floats, real: Floats, seed: int, suffix: str) -> dict[str, Any]:
    """Precision, recall and kernel inception distance, of as many rows as there are."""
    count = min(len(fake), len(real))
    figures: dict[str, Any] = {}
    if count > NEIGHBOURS:
        precision, recall = precision_recall(real[:count], fake[:count])
        figures = {f"precision{suffix}": precision, f"recall{suffix}": recall, f"precision{suffix}_rows": count}
        distance = kid(fake, real, seed)
        figures |= dict(zip((f"kid{suffix}", f"kid{suffix}_std", f"kid{suffix}_rows"), distance, strict=True))
    return figures
