"""What latents tell: exact neighbours in whatever blocks, votes, clusters and probes."""

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.metrics import silhouette_score

from aekit import latents
from aekit.errors import AekitError
from aekit.workflows.analyses import Kept

RNG = np.random.default_rng(0)


def all_of(*words, **more):
    parts = list(latents.neighbours(*words, **more))
    return tuple(np.concatenate([part[i] for part in parts]) for i in (0, 1))


def brute(query, reference, k, metric="euclidean", own=0):
    """All distances in float64, sorted by distance and then by row."""
    distance = cdist(query.astype(float), reference.astype(float), metric)
    if own:
        row = np.arange(len(query)) // own
        distance[row[:, None] == row] = np.inf
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(distance, order, axis=1)


# --- neighbours -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", latents.METRICS)
@pytest.mark.parametrize(("rows", "among", "width", "k"), [(1, 1, 1, 1), (7, 50, 3, 50), (300, 900, 20, 10)])
def test_neighbours_are_those_of_all_distances(metric, rows, among, width, k):
    query, reference = (RNG.normal(size=(n, width)).astype(np.float32) for n in (rows, among))
    index, distance = all_of(query, reference, k, metric)
    expected = brute(query, reference, k, metric)
    np.testing.assert_allclose(distance, expected[1], rtol=1e-9, atol=1e-12)
    if width > 1 or metric == "euclidean":  # of one dimension cosine knows two values
        np.testing.assert_array_equal(index, expected[0])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    rows=st.integers(2, 40),
    levels=st.integers(1, 4),
    width=st.integers(1, 3),
    own=st.sampled_from([0, 1, 2, 5]),
    shift=st.sampled_from([0.0, 1e6]),
    data=st.data(),
)
def test_equal_distances_go_by_row_in_whatever_blocks(seed, rows, levels, width, own, shift, data):
    rows += -rows % max(1, own)
    z = np.random.default_rng(seed).integers(0, levels, (rows, width)).astype(np.float32) + np.float32(shift)
    if rows - own < 1:
        return
    k = data.draw(st.integers(1, rows - own))
    with (
        mock.patch.object(latents, "SPARE", 2),
        mock.patch.object(latents, "PAIRS", data.draw(st.sampled_from([8, 64, 10_000]))),
        mock.patch.object(latents, "QUERIES", data.draw(st.sampled_from([1, 7, 256]))),
    ):
        index, distance = all_of(z, z, k, own=own)
    expected = brute(z, z, k, own=own)
    np.testing.assert_array_equal(index, expected[0])
    np.testing.assert_array_equal(distance, expected[1])


def test_rounding_far_from_zero_loses_no_neighbour():
    """Of latents whose squares swamp their differences the candidates of the product are not to be trusted."""
    z = (RNG.normal(size=(400, 4)) * 1e-3 + 1e4).astype(np.float32)
    index, distance = all_of(z, z, 3, own=1)
    expected = brute(z, z, 3, own=1)
    np.testing.assert_array_equal(index, expected[0])
    np.testing.assert_allclose(distance, expected[1], rtol=1e-12)


def test_cosine_does_not_see_length_and_zeros_are_at_one_from_all():
    z = np.array([[1, 0], [5e-30, 0], [0, 3], [-2, 0], [0, 0], [0, 0]], np.float32)
    index, distance = all_of(z, z, 6, "cosine")
    np.testing.assert_array_equal(index[0], [0, 1, 2, 4, 5, 3])
    np.testing.assert_allclose(distance[0], [0, 0, 1, 1, 1, 2], atol=1e-15)
    np.testing.assert_array_equal(index[4], range(6))
    np.testing.assert_allclose(distance[4], 1)


def test_latents_in_a_file_are_those_in_memory(tmp_path: Path):
    z = RNG.normal(size=(500, 5)).astype(np.float32)
    with mock.patch("aekit.workflows.analyses.IN_MEMORY", 100), mock.patch("aekit.workflows.analyses.BLOCK", 64):
        kept = Kept(*z.shape)
        for start in range(0, 500, 90):
            kept.append(z[start : start + 90])
        np.testing.assert_array_equal(kept[130:170], z[130:170])
        rows = np.array([0, 63, 64, 300, 499])
        np.testing.assert_array_equal(kept.take(rows), z[rows])
        np.testing.assert_array_equal(all_of(kept, kept, 4)[0], all_of(z, z, 4)[0])
        kept.close()


def test_the_vote_goes_to_the_most_frequent_and_then_to_the_nearest():
    classes = np.array([[1, 0, 0], [2, 1, 0], [0, 1, 1], [3, 1, 1]])
    np.testing.assert_array_equal(latents.vote(classes), [0, 2, 1, 1])
    np.testing.assert_array_equal(latents.vote(np.array([[0, 1, 1, 0], [1, 0, 1, 0]])), [0, 1])


def test_labels_of_two_files_become_the_same_numbers():
    a, b = latents.codes_of(np.array([3.0, 1.0]), np.array([1, 3, 7]))
    assert (a.tolist(), b.tolist()) == ([1, 0], [0, 1, 2])
    a, b = latents.codes_of(np.array([b"\xc3\xa4", b"b"]), np.array(["b", "ä"], object))
    assert (a.tolist(), b.tolist()) == ([1, 0], [0, 1])


# --- clusters ---------------------------------------------------------------------------------------------------------


def test_blobs_are_found_again():
    middle = RNG.normal(size=(4, 6)) * 20
    truth = np.repeat(np.arange(4), [40, 30, 20, 10])
    z = (middle[truth] + RNG.normal(size=(100, 6))).astype(np.float32)
    centres = latents.centres(z, 4, seed=2**40)
    clusters = all_of(z, centres, 1)[0][:, 0]
    assert list(latents.agreement(truth, clusters).values()) == [1, 1]
    for k in range(4):
        assert np.abs(centres - z[truth == k].mean(axis=0)).max(axis=1).min() < 1e-4
    np.testing.assert_array_equal(centres, latents.centres(z, 4, seed=2**40))
    assert latents.silhouette(z, clusters) == pytest.approx(silhouette_score(z, clusters))


def test_figures_that_are_not_defined_are_none():
    z = np.zeros((5, 2), np.float32)
    clusters = all_of(z, latents.centres(z, 3, seed=0), 1)[0][:, 0]
    assert set(clusters) == {0}
    assert latents.silhouette(z, clusters) is None
    assert latents.silhouette(RNG.normal(size=(2, 1)).astype(np.float32), np.array([0, 1])) is None


# --- probes -----------------------------------------------------------------------------------------------------------


def test_each_class_is_drawn_by_its_share_and_rare_ones_whole():
    classes = np.concatenate([np.zeros(700), np.ones(300), np.full(6, 2), np.full(4, 3)]).astype(int)
    rows = latents.drawn(classes, 100, np.random.default_rng(0))
    assert np.bincount(classes[rows]).tolist() == [70, 30, latents.FOLDS]
    assert (np.diff(rows) > 0).all()
    assert len(latents.drawn(classes, 10**6, np.random.default_rng(0))) == 1006


def test_probes_find_what_is_there_and_nothing_in_noise():
    classes = np.arange(120) % 3
    told = (np.eye(3)[classes] * 8 + RNG.normal(size=(120, 3))).astype(np.float32)
    found = dict(latents.probe(told, classes, np.arange(120), seed=0))
    assert sorted(found) == ["knn", "linear", "linear_svm", "random_forest", "rbf_svm"]
    assert all(accuracy.mean > 0.97 and accuracy.rows == 120 for accuracy in found.values())
    noise = dict(latents.probe(RNG.normal(size=(120, 3)), classes, np.arange(120), seed=0))
    assert all(0.15 < accuracy.mean < 0.55 for accuracy in noise.values())
    assert dict(latents.probe(told, classes, np.arange(120), seed=0)) == found


def test_windows_of_one_row_are_in_one_fold():
    """Rows that are known by themselves alone: with windows of the same row in training every probe would be right."""
    row = np.repeat(np.arange(60), 4)
    classes = RNG.integers(0, 2, 60)[row]
    z = (RNG.normal(size=(60, 4)) * 10)[row] + 0.01 * RNG.normal(size=(240, 4))
    assert all(accuracy.mean < 0.75 for _, accuracy in latents.probe(z.astype(np.float32), classes, row, seed=0))


def test_svms_see_fewer_rows():
    classes = np.arange(60) % 2
    with mock.patch.object(latents, "SVM_ROWS", 20):
        found = dict(latents.probe(RNG.normal(size=(60, 2)), classes, np.arange(60), seed=0))
    assert {name: accuracy.rows for name, accuracy in found.items() if "svm" in name} == {
        "linear_svm": 20,
        "rbf_svm": 20,
    }


# --- maps -------------------------------------------------------------------------------------------------------------


def test_two_dimensions_of_pca_are_the_latents_turned():
    z = RNG.normal(size=(30, 2)).astype(np.float32)
    said = []
    planes = latents.planes(z, ("pca", "tsne"), 0, said.append)
    assert list(planes) == ["PCA"]
    np.testing.assert_allclose(cdist(planes["PCA"], planes["PCA"]), cdist(z, z), atol=1e-4)
    assert said == ["t-SNE left out: of 30 latents that span 2 dimension(s) PCA's map shows enough"]


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (2, 8), (1, 4)])
def test_a_map_of_next_to_nothing_is_drawn(shape):
    planes = latents.planes(RNG.normal(size=shape).astype(np.float32), ("tsne",), 0, lambda line: None)
    assert planes["PCA"].shape == (shape[0], 2)
    assert np.isfinite(planes["PCA"]).all()


@pytest.mark.parametrize(
    ("name", "library"),
    [("tsne", "sklearn"), ("tsne", "openTSNE"), pytest.param("umap", "umap", marks=pytest.mark.slow)],
)
def test_a_map_keeps_groups_apart_and_is_the_same_twice(name, library, monkeypatch):
    pytest.importorskip(library, exc_type=ImportError)
    if library == "sklearn":
        monkeypatch.setattr(latents.importlib.util, "find_spec", lambda name: None)
    truth = np.arange(60) % 3
    z = (np.eye(5)[truth] * 30 + RNG.normal(size=(60, 5))).astype(np.float32)
    (plane,) = latents.planes(z, (name,), 2**35, lambda line: None).values()
    assert silhouette_score(plane, truth) > 0.5
    np.testing.assert_array_equal(plane, *latents.planes(z, (name,), 2**35, lambda line: None).values())


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(latents.importlib.util, "find_spec", lambda name: None)
    latents.check_maps(("pca", "tsne"))
    with pytest.raises(AekitError, match=r'pip install "aekit\[umap\]"'):
        latents.check_maps(("pca", "umap"))
