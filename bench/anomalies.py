"""Data with anomalies that are known: real classes, made tables and series, and files of others.

A case holds both in one file ("mixed"), or other rows to learn from that are normal throughout ("held out"), or no
anomaly at all ("clean").
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from common import Array, rows_of
from numpy.typing import NDArray
from sklearn import datasets

from aekit.datasets import Part, open_dataset
from aekit.formats import open_record

Flags = NDArray[np.bool_]
Protocol = Literal["mixed", "held out", "clean"]
PARTS: tuple[Part, ...] = ("train", "test")
SHARES = (1, 5, 15)  # % of anomalies in tables
HEARTBEAT_SHARES = (1, 5, 20, 40)
CLASSES = range(10)  # of digits, each held out in turn
MNIST_LEARNT, MNIST_JUDGED = 4000, 2000
PICTURES = 1500
CLEAN_SEEDS = range(20)


@dataclass(frozen=True, eq=False)
class Case:
    """x: rows (N, ...), of a table (N, columns), or the points (T, C) of a series; anomalous (N,) or (T,)."""

    name: str
    protocol: Protocol
    x: Array
    anomalous: Flags
    train: Array | None = None  # rows to learn from, where it is not x
    kind: Literal["rows", "table", "series"] = "rows"
    seed: int = 0  # of the training


def mixed(x: Array, normal: Flags, share: float, seed: int, most: int | None = None) -> tuple[Array, Flags]:
    """All normal rows, at most `most`, and so many others that they are this share of the whole, shuffled."""
    rng = np.random.default_rng(seed)
    rows, others = rng.permutation(np.flatnonzero(normal))[:most], rng.permutation(np.flatnonzero(~normal))
    count = min(len(others), round(share * len(rows) / (1 - share)))
    rows = rng.permutation(np.concatenate([rows, others[:count]]))
    return x[rows], ~normal[rows]


def labels_of(data: str, part: Part) -> NDArray[np.str_]:
    record = open_dataset(data, part)
    assert record is not None
    assert record.labels is not None
    return np.array(list(map(str, record.labels)))


def whole(data: str) -> tuple[Array, NDArray[np.str_]]:
    """The rows and labels of both parts of a named data set."""
    rows, labels = ([of(data, part) for part in PARTS] for of in (rows_of, labels_of))
    return np.concatenate(rows), np.concatenate(labels)


# --- made tables ------------------------------------------------------------------------------------------------------

Rng = np.random.Generator
Two = tuple[Array, Array]  # normal rows and anomalies


def table(kind: str, seed: int, rows: int = 3000, columns: int = 20, share: float = 0.05) -> tuple[Array, Flags]:
    """A table of one of TABLES (rows, columns) float32, and which rows are anomalous."""
    rng = np.random.default_rng(seed)
    count = round(share * rows)
    x = np.concatenate(TABLES[kind](rng, rows - count, count, columns)).astype(np.float32)
    order = rng.permutation(rows)
    return x[order], order >= rows - count


def _apart(rng: Rng, rows: Array) -> Array:
    """Columns shuffled, each by itself: usual values that do not go together."""
    return np.stack([rng.permutation(column) for column in rows.T], axis=1)


def _dependency(rng: Rng, normal: int, anomalous: int, columns: int) -> Two:
    a, b = rng.normal(size=(2, 4, columns))

    def rows(count: int) -> Array:
        z = rng.normal(size=(count, 4))
        return np.asarray(z @ a + 0.5 * np.tanh(2 * z @ b) + 0.3 * rng.normal(size=(count, columns)))

    return rows(normal), _apart(rng, rows(anomalous))


def _local(rng: Rng, normal: int, anomalous: int, columns: int) -> Two:
    """Four groups; anomalies lie around the same means, twice as far."""
    means = rng.uniform(-4, 4, (4, columns))
    factors = rng.normal(size=(4, columns, columns)) / columns**0.5

    def rows(count: int, spread: float) -> Array:
        group = rng.integers(4, size=count)
        around = np.einsum("nij,nj->ni", factors[group], rng.normal(size=(count, columns)))
        return np.asarray(means[group] + spread * around)

    return rows(normal, 1.0), rows(anomalous, 2.0)


def _global(rng: Rng, normal: int, anomalous: int, columns: int) -> Two:
    """Three groups; anomalies anywhere within the range of each column."""
    means = rng.uniform(-2, 2, (3, columns))
    factors = rng.normal(size=(3, columns, columns)) / columns**0.5
    group = rng.integers(3, size=normal)
    x = means[group] + np.einsum("nij,nj->ni", factors[group], rng.normal(size=(normal, columns)))
    return x, rng.uniform(x.min(axis=0), x.max(axis=0), (anomalous, columns))


def _clustered(rng: Rng, normal: int, anomalous: int, columns: int) -> Two:
    """One group; anomalies are a small dense one beside it."""
    factor = rng.normal(size=(columns, columns)) / columns**0.5
    x = rng.normal(size=(normal, columns)) @ factor.T
    towards = rng.normal(size=columns)
    centre = 5 * towards / np.linalg.norm(towards)
    return x, centre + 0.3 * rng.normal(size=(anomalous, columns)) @ factor.T


def _manifold(rng: Rng, normal: int, anomalous: int, columns: int) -> Two:
    """A curved surface of two dimensions; anomalies lie farther off it."""
    w, phase = rng.normal(size=(2, columns)), rng.uniform(0, 6.28, columns)

    def surface(count: int) -> Array:
        return np.asarray(np.sin(1.5 * rng.uniform(-1.5, 1.5, (count, 2)) @ w + phase))

    x = surface(normal) + 0.05 * rng.normal(size=(normal, columns))
    return x, surface(anomalous) + 0.25 * rng.normal(size=(anomalous, columns))


def _heavy(rng: Rng, normal: int, anomalous: int, columns: int) -> Two:
    """Factors and noise with heavy tails, Student's t of 4 degrees of freedom; anomalies break the dependency."""
    a = rng.normal(size=(5, columns))

    def rows(count: int) -> Array:
        return np.asarray(rng.standard_t(4, (count, 5)) @ a + 0.5 * rng.standard_t(4, (count, columns)))

    return rows(normal), _apart(rng, rows(anomalous))


def _few(rng: Rng, normal: int, anomalous: int, columns: int) -> Two:
    """Four columns, of which two follow from the others; anomalies break the dependency."""
    z = rng.normal(size=(normal, 2))
    product = z[:, 0] * z[:, 1] + 0.1 * rng.normal(size=normal)
    x = np.stack([z[:, 0], z[:, 1], product, np.exp(0.5 * z[:, 0]) + 0.1 * rng.normal(size=normal)], axis=1)
    return x, _apart(rng, x[:anomalous])


TABLES: dict[str, Callable[[Rng, int, int, int], Two]] = {
    "dependency": _dependency,
    "local": _local,
    "global": _global,
    "clustered": _clustered,
    "manifold": _manifold,
    "heavy": _heavy,
    "few": _few,
}

# --- made series ------------------------------------------------------------------------------------------------------

SEASONS = {48: 1.0, 336: 0.4}  # period in points -> amplitude
NOISE = 0.1  # standard deviation
SPIKE, SHIFT = (1.0, 2.0), (0.5, 1.0)  # heights, either up or down
STRETCHES = 15  # a third each of spikes, of shifted levels and of seasons twice as fast
POINTS = {"spike": (1, 4), "shift": (30, 51), "fast": (30, 51)}  # of a stretch, the last one excluded


def series(seed: int, points: int = 20_000, channels: int = 1) -> tuple[Array, Flags]:
    """Seasons under noise (points, channels) float32, and which points lie in an anomalous stretch of a channel."""
    rng = np.random.default_rng(seed)
    phases = rng.uniform(0, 2 * np.pi, (len(SEASONS), channels))

    def seasons(t: Array) -> Array:
        waves = [
            height * np.sin(2 * np.pi * t[:, None] / period + phase)
            for (period, height), phase in zip(SEASONS.items(), phases, strict=True)
        ]
        return np.asarray(sum(waves))

    t = np.arange(points)
    x = seasons(t) + NOISE * rng.normal(size=(points, channels))
    anomalous = np.zeros(points, bool)
    room = points // STRETCHES
    for slot, kind in enumerate(rng.permutation([*POINTS] * (STRETCHES // len(POINTS)))):
        length, channel = int(rng.integers(*POINTS[kind])), int(rng.integers(channels))
        first = slot * room + int(rng.integers(room - length))
        place = t[first : first + length]
        if kind == "fast":
            x[place, channel] += (seasons(2 * place - first) - seasons(place))[:, channel]
        else:
            x[place, channel] += rng.choice([-1, 1]) * rng.uniform(*(SPIKE if kind == "spike" else SHIFT))
        anomalous[place] = True
    return x.astype(np.float32), anomalous


# --- the cases --------------------------------------------------------------------------------------------------------


def tables() -> Iterator[Case]:
    for kind in TABLES:
        for share in SHARES:
            yield Case(f"table-{kind}-{share}", "mixed", *table(kind, share, share=share / 100), kind="table")


def real_tables() -> Iterator[Case]:
    """scikit-learn's, at the sizes that benchmarks of outliers use: 10 of 367 malignant, 10 of 129 of one cultivar."""
    for name, load, rare, share in (
        ("breast-cancer", datasets.load_breast_cancer, 0, 10 / 367),
        ("wine", datasets.load_wine, 0, 10 / 129),
    ):
        x, labels = load(return_X_y=True)
        for seed in range(3):
            yield Case(
                f"{name}-{seed}", "mixed", *mixed(x.astype(np.float32), labels != rare, share, seed), kind="table"
            )


def ecg() -> Iterator[Case]:
    x, labels = whole("ecg5000")
    yield Case("ecg5000-whole", "mixed", x, labels != "1")
    for share in HEARTBEAT_SHARES:
        yield Case(f"ecg5000-{share}", "mixed", *mixed(x, labels == "1", share / 100, share))


def heartbeats() -> Iterator[Case]:
    x, labels = whole("heartbeats")
    yield Case("heartbeats-whole", "mixed", x, labels != "1")
    yield Case("heartbeats-5", "mixed", *mixed(x, labels == "1", 0.05, 0))


def patterns() -> Iterator[Case]:
    x, labels = whole("patterns")
    yield Case("patterns-5", "mixed", *mixed(x, labels == "normal", 0.05, 0, PICTURES))


def digits() -> Iterator[Case]:
    """Held out, the class is scored whole, beside the test part's rows of the others."""
    x, labels = whole("digits")
    learnt = np.arange(len(x)) < len(labels_of("digits", "train"))
    for k in CLASSES:
        yield Case(f"digits-{k}", "mixed", *mixed(x, labels != str(k), 0.05, k))
    for k in CLASSES:
        rare = labels == str(k)
        judged = ~learnt | rare
        yield Case(f"digits-{k}", "held out", x[judged], rare[judged], x[learnt & ~rare])


def mnist() -> Iterator[Case]:
    """Held out, the first rows of the test part are scored."""
    x, labels = whole("mnist")
    for k in CLASSES:
        yield Case(f"mnist-{k}", "mixed", *mixed(x, labels != str(k), 0.05, k, MNIST_LEARNT))
    learnt, learnt_labels = (of("mnist", "train") for of in (rows_of, labels_of))
    judged, judged_labels = (of("mnist", "test")[:MNIST_JUDGED] for of in (rows_of, labels_of))
    for k in CLASSES:
        rows = learnt[learnt_labels != str(k)][:MNIST_LEARNT]
        yield Case(f"mnist-{k}", "held out", judged, judged_labels == str(k), rows)


def made_series() -> Iterator[Case]:
    for channels in (1, 3):
        yield Case(f"series-{channels}", "mixed", *series(channels, channels=channels), kind="series")


def clean() -> Iterator[Case]:
    """Normal rows alone, in another order under each seed; tables are made anew."""
    real = {"digits": whole("digits")[0]}
    for name in ("ecg5000", "heartbeats"):
        x, labels = whole(name)
        real[name] = x[labels == "1"]
    for seed in CLEAN_SEEDS:
        for kind in TABLES:
            yield Case(f"table-{kind}", "clean", *table(kind, 100 + seed, share=0), kind="table", seed=seed)
        for name, x in real.items():
            order = np.random.default_rng(seed).permutation(len(x))
            yield Case(name, "clean", x[order], np.zeros(len(x), bool), seed=seed)


def adbench(folder: Path) -> Iterator[Case]:
    """A table for each .npz file of a folder with X and y, 1 where anomalous."""
    for file in sorted(folder.glob("*.npz")):
        with np.load(file) as arrays:
            yield Case(file.stem, "mixed", arrays["X"].astype(np.float32), arrays["y"].ravel() == 1, kind="table")


def series_files(folder: Path) -> Iterator[Case]:
    """A series for each .csv file of a folder with a label for each point, 1 where anomalous."""
    for file in sorted(folder.glob("*.csv")):
        record = open_record(file)
        assert record.point_labels is not None, f"{file}: is no series with a label for each point"
        x = np.array(record.read(0, 1))[0]
        anomalous = np.array(list(map(str, record.point_labels))) == "1"
        yield Case(file.stem, "mixed", x.reshape(len(x), -1), anomalous, kind="series")


GROUPS: dict[str, Callable[[], Iterator[Case]]] = {
    "tables": tables,
    "real": real_tables,
    "ecg": ecg,
    "heartbeats": heartbeats,
    "patterns": patterns,
    "digits": digits,
    "mnist": mnist,
    "series": made_series,
    "clean": clean,
}
