"""Figures of generated samples against plain loops, and on samples of which the answer is known."""

import numpy as np
import pytest

from aekit import diagnostics
from aekit.diagnostics import coverage, diagnose, discrepancy, fit_features, kid, nearest, precision_recall


def test_discrepancy_is_that_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(7, 3)), rng.normal(0.5, 1, size=(9, 3))

    def kernel(u: np.ndarray, v: np.ndarray) -> float:
        return float((sum(x * y for x, y in zip(u, v, strict=True)) / 3 + 1) ** 3)

    within = [
        sum(kernel(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j) / (len(x) * (len(x) - 1))
        for x in (a, b)
    ]
    across = sum(kernel(u, v) for u in a for v in b) / (7 * 9)
    assert discrepancy(a, b) == pytest.approx(within[0] + within[1] - 2 * across, rel=1e-12)


def test_the_kernel_distance_is_unbiased_and_says_its_rows() -> None:
    rng = np.random.default_rng(0)
    same = kid(rng.normal(size=(3000, 8)), rng.normal(size=(3000, 8)))
    assert same.rows == 1000
    assert abs(same.mean) < 4 * same.std / 50**0.5 + 0.01
    apart = kid(rng.normal(size=(300, 8)), rng.normal(0.5, 1, size=(200, 8)))
    assert apart.rows == 100
    assert apart.mean > 0.3
    with pytest.raises(ValueError, match="four rows"):
        kid(np.zeros((3, 2)), np.zeros((9, 2)))


def test_precision_and_recall_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(40, 3)), rng.normal(0.7, 0.6, size=(40, 3))

    def inside(points: np.ndarray, centres: np.ndarray, k: int) -> float:
        hits = 0
        for p in points:
            radii = [sorted(np.linalg.norm(c - d) for d in centres)[k] for c in centres]
            hits += any(np.linalg.norm(p - c) <= r for c, r in zip(centres, radii, strict=True))
        return hits / len(points)

    assert precision_recall(real, fake, 3) == (inside(fake, real, 3), inside(real, fake, 3))


def test_precision_and_recall_where_the_answer_is_known() -> None:
    line = np.arange(20.0)[:, None]
    assert precision_recall(line, line) == (1, 1)
    assert precision_recall(line, line + 1000) == (0, 0)
    halves = np.concatenate([line[:10], line[:10] + 0.1])
    precision, recall = precision_recall(line, halves)
    assert precision == 1
    assert 0.5 <= recall < 0.7  # a mode is missing
    with pytest.raises(ValueError, match="as many real"):
        precision_recall(line, line[:10])


def test_nearest_is_exact_over_blocks() -> None:
    rng = np.random.default_rng(0)
    x, rows = (
        rng.normal(100, 1, size=(30, 2, 5)).astype(np.float32),
        rng.normal(100, 1, size=(77, 2, 5)).astype(np.float32),
    )
    all_distances = np.linalg.norm((x[:, None] - rows[None]).reshape(30, 77, -1).astype(float), axis=2)
    distance, place = nearest(x, [rows[:20], rows[20:21], rows[21:]])
    np.testing.assert_array_equal(place, all_distances.argmin(1))
    np.testing.assert_allclose(distance, all_distances.min(1), rtol=1e-5)
    assert nearest(rows[40:43], [rows[:41], rows[41:]])[0].tolist() == [0, 0, 0]
    own, at = nearest(rows[40:43], [rows[:41], rows[41:]], own=np.array([40, 41, 42]))
    assert (own > 0).all()
    assert set(at).isdisjoint({40, 41, 42}) or (at != np.array([40, 41, 42])).all()


def test_a_class_is_covered_by_a_tenth_of_its_share() -> None:
    real = np.eye(4)[np.repeat([0, 1, 2], [50, 30, 20])]
    fake = np.eye(4)[np.repeat([0, 1, 2, 3], [949, 29, 21, 1])]
    found = coverage(fake, real)
    assert (found.covered, found.present) == (2, 3)  # 2.9 % is under a tenth of 30 %
    assert found.shares.tolist() == [0.949, 0.029, 0.021, 0.001]
    assert found.confidence == 1


def shapes(rows: int, seed: int, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Images of a bright square in one of the corners, in noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    x = rng.normal(0, 0.1, (rows, 1, 12, 12))
    for i, k in enumerate(labels):
        a, b = 1 + 6 * (k // 2), 1 + 6 * (k % 2)
        x[i, 0, a : a + 4, b : b + 4] += rng.uniform(0.5, 1)
    return x.astype(np.float32), labels


@pytest.fixture(scope="module")
def features() -> diagnostics.Features:
    return fit_features(*shapes(800, 0), kind="image")


def test_the_classifier_learns_in_seconds_and_repeats_itself(features: diagnostics.Features) -> None:
    assert features.accuracy > 0.97
    assert len(features.free) == 400
    again = fit_features(*shapes(800, 0), kind="image")
    x = shapes(50, 3)[0]
    for one, other in zip(features(x), again(x), strict=True):
        np.testing.assert_array_equal(one, other)
    assert features(x)[0].shape == (50, 64)


@pytest.mark.parametrize(
    ("shape", "kind"), [((2, 40), "series"), ((1, 7), "table"), ((3, 70, 90), "image"), ((1, 1), "table")]
)
def test_features_of_any_shape_without_labels(shape: tuple[int, ...], kind: str) -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(60, *shape)) + 5 * np.sign(rng.normal(size=(60, *[1] * len(shape))))).astype(np.float32)
    found = fit_features(x, kind=kind)  # type: ignore[arg-type]
    assert not found.labelled
    assert found(x)[0].shape == (60, 64)
    assert np.isfinite(diagnose(x[:10], x, found).figures["kid"])


def test_good_samples_copies_and_a_collapse_are_told_apart(features: diagnostics.Features) -> None:
    real, _ = shapes(800, 0)
    fresh, wanted = shapes(200, 7)
    good = diagnose(fresh, real, features, wanted).figures
    assert good["memorised"] < 0.06
    assert good["label_accuracy"] > 0.97
    assert good["classes_covered"] == good["classes"] == 4
    assert min(good["precision"], good["recall"]) > 0.6
    copies = diagnose(real[:200], real, features).figures
    assert copies["memorised"] == 1
    assert copies["nearest_ratio"] == 0
    collapsed = diagnose(shapes(200, 8, classes=1)[0], real, features).figures
    assert (collapsed["classes_covered"], collapsed["largest_share"]) == (1, 1)
    assert collapsed["recall"] < 0.5
    assert collapsed["kid"] > 5 * max(good["kid"], abs(good["kid_floor"]), 0.01)
