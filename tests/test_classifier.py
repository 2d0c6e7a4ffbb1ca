"""Fine-tuning of a trained encoder on labels, and what score, embed and Python make of such a model."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from program import aekit as program
from program import fails, result

import aekit
from aekit.errors import AekitError
from aekit.models import MODELS, build
from aekit.workflows.training_data import _held_out

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


ENCODERS = [name for name, kind in MODELS.items() if "embed" in kind.verbs and name != "classifier"]  # type: ignore[operator]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_can_be_fine_tuned(encoder: str) -> None:
    torch.manual_seed(0)
    model = build("classifier", (1, 64), {"encoder": encoder, "encoder_settings": {}, "classes": 3}).eval()
    x = torch.randn(2, 1, 64)
    output = model(x)
    assert output.x_hat.shape == (2, 3)
    assert torch.equal(model.encode(x), output.z)  # type: ignore[operator]


def test_a_data_sets_normal_class_does_not_narrow_what_is_learnt(folder: Path) -> None:
    result(folder, "train", "conv1d", "--data", "heartbeats", "--out", "beats", "--steps", "40", "--quiet")
    run = ("train", "classifier", "--from", "beats", "--data", "heartbeats")
    figures = result(folder, *run, "--out", "rhythms", "--steps", "60", "--quiet")
    assert 0.3 < figures["test_accuracy"] < 1
    found = result(folder, "score", "heartbeats", "--model", "rhythms", "-o", "r.csv", "--force")
    assert list(found["classes"]) == ["1", "2", "3", "4", "5"]
    fails(folder, *run, "--normal", "1", says="leave it off", code=2)


def test_a_row_of_an_unknown_class_is_named_with_its_file(folder: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(folder / "some.npz", x=rng.uniform(0, 16, (40, 8, 8)), y=np.arange(40) % 2)
    np.savez(folder / "val.npz", x=rng.uniform(0, 16, (9, 8, 8)), y=[0, 1, 0, 7, 1, 0, 1, 0, 1])
    fails(
        folder, "train", "classifier", "--from", "plain", "--data", "some.npz", "--val", "val.npz",
        says="val.npz: row 3 has the label 7",
    )  # fmt: skip


def test_windows_of_a_row_stay_together_and_all_classes_are_in_both_parts() -> None:
    held = _held_out(10, 40, "0.3", 0, True, most=40)
    assert len(held) == 12
    assert not {i // 4 for i in held} & {i // 4 for i in set(range(40)) - set(held)}
    ordered = _held_out(10, 40, "0.3", 0, False, most=40)
    assert ordered.tolist() == list(range(28, 40))
    assert _held_out(10, 40, "0.3", 0, True, most=9).size == 8


def test_a_resumed_classifier_needs_no_other_run(folder: Path) -> None:
    np.savez(folder / "own.npz", x=np.random.default_rng(0).uniform(0, 16, (60, 8, 8)), y=np.arange(60) % 3)
    result(folder, "train", "dense", "--data", "own.npz", "--out", "gone", "--steps", "3", "--quiet")
    result(folder, "train", "classifier", "--from", "gone", "--data", "own.npz", "--out", "on", "--epochs", "2", "-q")
    before = aekit.load(str(folder / "on")).classify(np.ones((2, 8, 8)))[1]
    shutil.rmtree(folder / "gone")
    result(folder, "train", "--resume", "on", "--quiet")
    np.testing.assert_array_equal(aekit.load(str(folder / "on")).classify(np.ones((2, 8, 8)))[1], before)


def test_data_unlike_the_encoders_is_told_or_refused(folder: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(folder / "loud.npz", x=rng.uniform(0, 4000, (40, 8, 8)), y=np.arange(40) % 2)
    run = program(folder, "train", "classifier", "--from", "plain", "--data", "loud.npz", "--out", "l", "--steps", "2")
    assert "the model was trained on 0 to 16" in run.stderr
