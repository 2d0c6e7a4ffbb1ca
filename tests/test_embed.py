"""aekit embed with neighbours, clusters, probes and maps, as a user runs it."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from program import QUICK, aekit, contents, fails, result, table, waves

from aekit.workflows.embed import parse_maps

ALL = ("--neighbours", "3", "--clusters", "4", "--maps", "pca")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Waves of three classes and more of them, a model trained on them, and one of windows."""
    folder = tmp_path_factory.mktemp("lab")
    labels = np.array(["low", "middle", "high"])[np.arange(90) % 3]
    for name, seed in (("a", 0), ("b", 1)):
        x = waves(90, 64, seed) * 0.5 + 2.0 * (np.arange(90) % 3)[:, None]
        np.savez(folder / f"{name}.npz", x=x.astype(np.float32), y=labels)
    np.save(folder / "plain.npy", np.load(folder / "a.npz")["x"][:40])
    aekit(folder, "train", "stacked", "--data", "a.npz", "--latent", "5", *QUICK)
    aekit(folder, "train", "stacked", "--data", "a.npz", "-o", "windows", "--latent", "5", "--set", "window=16", *QUICK)
    aekit(folder, "train", "stacked", "--data", "a.npz", "-o", "one", "--latent", "1", *QUICK)
    return folder


def at(lab: Path, run: str = "runs/stacked-a-1") -> tuple[str, ...]:
    return "--model", str(lab / run)


def test_neighbours_are_the_nearest_latents_of_the_reference(lab: Path, tmp_path: Path) -> None:
    a, b = str(lab / "a.npz"), str(lab / "b.npz")
    words = ("embed", a, *at(lab), "-o", "z.npy", "--maps", "none")
    figures = result(tmp_path, *words, "--neighbours", "3", "--reference", b)
    result(tmp_path, "embed", b, *at(lab), "-o", "r.npy", "--maps", "none")
    z, r = np.load(tmp_path / "z.npy").astype(float), np.load(tmp_path / "r.npy").astype(float)
    labels = np.load(b)["y"]
    distance = np.sqrt(np.square(z[:, None] - r).sum(axis=2))
    order = np.argsort(distance, axis=1)[:, :3]
    rows = table(tmp_path / "z.neighbours.csv")
    assert list(rows[0]) == ["row", "rank", "neighbour", "distance", "neighbour_label"]
    assert [int(row["row"]) for row in rows] == np.repeat(np.arange(90), 3).tolist()
    assert [int(row["rank"]) for row in rows] == [1, 2, 3] * 90
    assert [int(row["neighbour"]) for row in rows] == order.ravel().tolist()
    np.testing.assert_allclose(
        [float(row["distance"]) for row in rows], np.take_along_axis(distance, order, 1).ravel(), rtol=1e-5
    )
    assert [row["neighbour_label"] for row in rows] == labels[order].ravel().tolist()
    found = labels[order]
    vote = np.where((found[:, 1] == found[:, 2]), found[:, 1], found[:, 0])
    assert figures["neighbour_accuracy"] == pytest.approx((vote == np.load(a)["y"]).mean())
    assert figures["neighbours"] == "z.neighbours.csv"
    assert "picture" not in figures
    assert not (tmp_path / "z.png").exists()


def test_without_a_reference_no_row_is_its_own_neighbour(lab: Path, tmp_path: Path) -> None:
    figures = result(
        tmp_path,
        "embed",
        str(lab / "plain.npy"),
        *at(lab),
        "--neighbours",
        "39",
        "--metric",
        "cosine",
        "--maps",
        "none",
    )
    rows = table(tmp_path / "plain.latents.neighbours.csv")
    assert list(rows[0]) == ["row", "rank", "neighbour", "distance"]
    for i in range(40):
        assert sorted(int(row["neighbour"]) for row in rows[39 * i : 39 * i + 39]) == [j for j in range(40) if j != i]
    assert "neighbour_accuracy" not in figures


def test_windows_of_a_row_are_no_neighbours_of_each_other(lab: Path, tmp_path: Path) -> None:
    words = ("embed", str(lab / "a.npz"), *at(lab, "windows"), "-o", "z.h5", *ALL, "--probe", "--report", "r.html")
    figures = result(tmp_path, *words)
    assert figures["count"] == 360
    for row in table(tmp_path / "z.neighbours.csv"):
        assert int(row["row"]) // 4 != int(row["neighbour"]) // 4
    clusters = table(tmp_path / "z.clusters.csv")
    assert [row["label"] for row in clusters] == np.repeat(np.load(lab / "a.npz")["y"], 4).tolist()
    assert figures["probe"]["rows"] == 360
    assert figures["compression"]["sample_values"] == 16
    assert not (tmp_path / "z.labels.csv").exists()  # they are inside


def test_windows_of_one_long_row_are_neighbours(lab: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "long.npy", waves(1, 640))
    done = aekit(tmp_path, "embed", "long.npy", *at(lab, "windows"), "--neighbours", "39", "--maps", "none")
    assert "39 for each of 40 latents, among 40 of long.npy, itself left out" in done.stderr
    for row in table(tmp_path / "long.latents.neighbours.csv"):
        assert row["row"] != row["neighbour"]


def test_clusters_are_told_with_their_worth(lab: Path, tmp_path: Path) -> None:
    words = ("embed", str(lab / "a.npz"), *at(lab), "-o", "z.npy", "--clusters", "3", "--maps", "pca")
    figures = result(tmp_path, *words)
    rows = table(tmp_path / "z.clusters.csv")
    cluster = np.array([int(row["cluster"]) for row in rows])
    sizes = list(figures["cluster_sizes"].values())
    assert np.bincount(cluster, minlength=3).tolist() == sizes == sorted(sizes, reverse=True)
    z = np.load(tmp_path / "z.npy").astype(float)
    centres = np.stack([z[cluster == k].mean(axis=0) for k in range(3)])
    away = np.linalg.norm(z - centres[cluster], axis=1)
    np.testing.assert_allclose([float(row["distance"]) for row in rows], away, rtol=1e-3)
    assert -1 <= figures["silhouette"] <= 1
    assert figures["silhouette_rows"] == 90
    assert {"adjusted_rand_index", "normalised_mutual_information"} <= set(figures)
    with Image.open(tmp_path / "z.png") as picture:
        assert picture.height > 1200  # a row of maps by label, one by cluster
    assert result(tmp_path, *words, "--force")["cluster_sizes"] == figures["cluster_sizes"]


def test_probes_stand_beside_those_of_pca(lab: Path, tmp_path: Path) -> None:
    words = ("embed", str(lab / "a.npz"), *at(lab), "-o", "z.npy", "--probe", "--maps", "none")
    done = aekit(tmp_path, *words, "--report", "r.html", "--json")
    assert "random_forest" in done.stderr
    probe = json.loads(done.stdout)["probe"]
    assert probe["rows"] == 90
    assert probe["pca_dimension"] == 5
    for name in ("linear", "knn", "linear_svm", "rbf_svm", "random_forest"):
        assert probe[name]["pca_mean"] > 0.6  # the classes lie at different heights
        assert 0 <= probe[name]["mean"] <= 1
        assert probe[name]["std"] >= 0
    page = (tmp_path / "r.html").read_text()
    assert "logistic regression" in page
    assert f"{probe['linear']['mean']:.3f}" in page


def test_the_error_of_the_compression_is_the_test_error(tmp_path: Path) -> None:
    trained = result(tmp_path, "train", "conv", "--data", "digits", *QUICK)
    size = result(tmp_path, "embed", "digits", "--maps", "none")["compression"]
    assert (size["sample_values"], size["latent_values"], size["ratio"]) == (64, 20, 3.2)
    assert size["error"] == pytest.approx(trained["test_error"], rel=1e-4)
    assert size["pca_error"] == pytest.approx(trained["pca_test_error"], rel=1e-4)
    words = ("--maps", "none", "--reference", "digits", "--neighbours", "8", "--force")
    assert "among 1,437 of digits (train)" in aekit(tmp_path, "embed", "digits", *words).stderr


def test_the_error_is_in_the_units_of_training(tmp_path: Path) -> None:
    """Rows that differ in size carry a scale each; their errors count as they do in training."""
    np.save(tmp_path / "x.npy", waves(100) * np.geomspace(1, 1000, 100)[:, None])
    aekit(tmp_path, "train", "stacked", "--data", "x.npy", *QUICK)
    size = result(tmp_path, "embed", "x.npy", "--maps", "none")["compression"]
    result(tmp_path, "denoise", "x.npy", "-o", "c.npy")
    x, cleaned = np.load(tmp_path / "x.npy").astype(float), np.load(tmp_path / "c.npy").astype(float)
    assert size["error"] == pytest.approx(np.square(x - cleaned).mean() / x.var(), rel=0.02)


def test_next_to_nothing_is_embedded(lab: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", waves(2))
    words = ("--neighbours", "1", "--clusters", "2", "--report", "r.html", *at(lab, "one"))
    figures = result(tmp_path, "embed", "few.npy", *words)
    assert np.load(tmp_path / "few.latents.npy").shape == (2, 1)
    assert figures["silhouette"] is None
    np.save(tmp_path / "same.npy", np.repeat(waves(1), 30, axis=0))
    figures = result(tmp_path, "embed", "same.npy", *words, "--force")
    assert sum(figures["cluster_sizes"].values()) == 30


def test_images_of_colours_and_tables_have_reports(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "i.npz", x=rng.random((40, 8, 8, 3)), y=np.arange(40) % 2)
    lines = [f"{a:.3f},{b:.3f},{c}" for a, b, c in zip(*rng.normal(size=(2, 40)), np.arange(40) % 2, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,label", *lines]) + "\n")
    for data in ("i.npz", "t.csv"):
        aekit(tmp_path, "train", "stacked", "--data", data, "--latent", "3", *QUICK)
        figures = result(tmp_path, "embed", data, *ALL, "--report", "r.html", "--force")
        page = (tmp_path / "r.html").read_text()
        for section in ("Embedding", "Neighbours", "Clusters"):
            assert f"{section}</h2>" in page
        assert figures["report"] == "r.html"


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--neighbours", "90"), "has 89 latents that can be neighbours; ask for at most so many with --neighbours"),
        (("--clusters", "91"), "has 90 latents; ask for at most so many with --clusters"),
        (("--neighbours", "1", "--reference", "gone.npy"), "gone.npy: there is no such file"),
        (("--neighbours", "1", "--reference", "short.npy"), "short.npy: a row has shape 1x8"),
    ],
)
def test_faults_are_told_before_any_work(lab: Path, tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    np.save(tmp_path / "short.npy", waves(10, 8))
    fails(tmp_path, "embed", str(lab / "a.npz"), *at(lab), *words, says=says)


def test_probes_need_labels(lab: Path, tmp_path: Path) -> None:
    fails(tmp_path, "embed", str(lab / "plain.npy"), *at(lab), "--probe", says="--probe needs labels, and there")
    x = np.load(lab / "plain.npy")
    for labels in (np.arange(40), np.zeros(40)):
        np.savez(tmp_path / "x.npz", x=x, y=labels)
        fails(tmp_path, "embed", "x.npz", *at(lab), "--probe", says="--probe needs 5 rows each of two classes")


def test_wrong_words_exit_2(lab: Path, tmp_path: Path) -> None:
    for words, says in (
        (("--maps", "pca,lda"), "'lda' is none of pca, tsne, umap"),
        (("--maps", "pca,none"), "'none' is none of"),
        (("--reference", "a.npz"), "say how many with --neighbours K"),
        (("--neighbours", "2", "--metric", "l1"), "'l1' is none of euclidean, cosine"),
    ):
        fails(tmp_path, "embed", str(lab / "a.npz"), *at(lab), *words, code=2, says=says)


def test_maps_are_named_once() -> None:
    assert parse_maps("none") == ()
    assert parse_maps("tsne,pca,tsne") == ("tsne", "pca")


def test_an_output_that_exists_is_refused_and_none_is_written(lab: Path, tmp_path: Path) -> None:
    words = ("embed", str(lab / "a.npz"), *at(lab), "-o", "z.npy", *ALL)
    for name in ("z.neighbours.csv", "z.clusters.csv", "z.labels.csv", "z.png"):
        (tmp_path / name).write_text("mine")
        fails(tmp_path, *words, says=f"{name}: exists already")
        (tmp_path / name).unlink()
    other = tmp_path / "o.npy"
    np.save(other, np.load(lab / "a.npz")["x"])
    reference = ("--neighbours", "1", "--reference", "o.npy", "-o", "o.npy", "--force")
    fails(tmp_path, "embed", str(lab / "a.npz"), *at(lab), *reference, says="o.npy: is the input itself")


def test_outputs_come_together_or_not_at_all(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aekit import latents

    def broken(*words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(latents, "planes", broken)
    words = ("embed", str(lab / "a.npz"), *at(lab), "-o", "z.npy", *ALL, "--report", "r.html")
    aekit(tmp_path, *words, code=130)
    assert contents(tmp_path) == {}


@pytest.mark.skipif(importlib.util.find_spec("umap") is not None, reason="umap-learn is installed")
def test_a_missing_extra_is_told(lab: Path, tmp_path: Path) -> None:
    fails(tmp_path, "embed", str(lab / "a.npz"), *at(lab), "--maps", "umap", says='pip install "aekit[umap]"')
