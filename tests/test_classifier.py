"""Fine-tuning of a trained encoder on labels, and what score, embed and Python make of such a model."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from program import fails, result

import aekit
from aekit.errors import AekitError
from aekit.models import MODELS, build

STEPS = ("--steps", "400", "--quiet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a plain autoencoder and of the classifier that goes on from it."""
    place = tmp_path_factory.mktemp("classifier")
    result(place, "train", "conv", "--data", "digits", "--out", "plain", *STEPS)
    result(place, "train", "classifier", "--from", "plain", "--data", "digits", "--out", "fine", *STEPS)
    return place


def test_score_tells_class_and_probability(folder: Path) -> None:
    figures = result(folder, "score", "digits", "--model", "fine", "-o", "c.csv", "--report", "c.html", "--force")
    assert figures["count"] == 360
    assert sum(figures["classes"].values()) == 360
    rows = list(csv.DictReader((folder / "c.csv").read_text().splitlines()))
    assert list(rows[0]) == ["row", "class", "probability", "label"]
    right = np.mean([row["class"] == row["label"] for row in rows])
    assert figures["accuracy"] == pytest.approx(right, abs=1e-4)
    assert right > 0.85
    assert all(0.1 <= float(row["probability"]) <= 1 for row in rows)
    assert "True and found classes" in (folder / "c.html").read_text()


def test_training_tells_the_accuracy_on_rows_held_out(folder: Path) -> None:
    model = aekit.load(str(folder / "fine"))
    figures = model.trained.figures
    assert figures["test_accuracy"] > 0.85
    assert figures["val_accuracy"] > 0.85
    assert model.trained.pca is None


def test_python_classifies_and_embeds(folder: Path) -> None:
    model = aekit.load(str(folder / "fine"))
    x = np.zeros((3, 8, 8))
    names, probabilities = model.classify(x)
    assert names.tolist() == list("0123456789")
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert model.embed(x).shape == (3, 20)
    with pytest.raises(AekitError, match="tells classes"):
        model.score(x)
    with pytest.raises(AekitError, match="tells no classes"):
        aekit.load(str(folder / "plain")).classify(x)


def test_a_classifier_starts_from_the_encoders_weights_and_leaves_the_decoder(folder: Path) -> None:
    result(
        folder, "train", "classifier", "--from", "plain", "--data", "digits", "--out", "still", "--lr", "1e-12", *STEPS
    )
    plain, still = (aekit.load(str(folder / name)) for name in ("plain", "still"))
    x = np.random.default_rng(0).uniform(0, 16, (4, 8, 8))
    np.testing.assert_allclose(still.embed(x), plain.embed(x), rtol=1e-5, atol=1e-6)
    assert still.trained.normalisation == plain.trained.normalisation
    assert not any("decoder" in name for name in still.trained.network.state_dict())


def test_a_classifier_goes_on_from_a_classifier_with_other_labels(folder: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(folder / "few.npz", x=rng.uniform(0, 16, (60, 8, 8)), y=np.arange(60) % 2)
    result(folder, "train", "classifier", "--from", "fine", "--data", "few.npz", "--out", "two", "--steps", "5", "-q")
    assert aekit.load(str(folder / "two")).classify(np.zeros((1, 8, 8)))[0].tolist() == ["0", "1"]


def test_faults_are_told(folder: Path) -> None:
    fails(folder, "train", "classifier", "--data", "digits", says="name its run with --from", code=2)
    result(folder, "train", "gan", "--data", "digits", "--steps", "2", "--out", "gan", "-q")
    fails(folder, "train", "classifier", "--from", "gan", "--data", "digits", says="does not embed")
    np.savez(folder / "large.npz", x=np.random.default_rng(0).random((20, 12, 12)), y=np.arange(20) % 2)
    fails(folder, "train", "classifier", "--from", "plain", "--data", "large.npz", says="do not fit")
    fails(folder, "score", "digits", "--model", "fine", "--threshold", "3", says="leave --threshold")
    fails(
        folder,
        "train",
        "classifier",
        "--from",
        "plain",
        "--data",
        "digits",
        "--beta",
        "2",
        says="loss of its own",
        code=2,
    )


@pytest.mark.parametrize("encoder", [name for name, kind in MODELS.items() if "embed" in kind.verbs])  # type: ignore[operator]
def test_every_encoder_can_be_fine_tuned(encoder: str) -> None:
    if encoder == "classifier":
        return
    torch.manual_seed(0)
    model = build("classifier", (1, 64), {"encoder": encoder, "encoder_settings": {}, "classes": 3}).eval()
    x = torch.randn(2, 1, 64)
    output = model(x)
    assert output.x_hat.shape == (2, 3)
    assert torch.equal(model.encode(x), output.z)  # type: ignore[operator]
