"""Latents: drawn of a class, on arcs, along directions; what the model does not know is told."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor, nn

from aekit import checkpoint, generation
from aekit.batches import Normalisation
from aekit.errors import AekitError, UsageError
from aekit.inference import Run
from aekit.models import build
from aekit.objectives import zeros
from aekit.records import Output
from aekit.trained import Mixture, TrainedModel
from aekit.workflows.finish import fit_mixture

RUN = Run(torch.device("cpu"), "fp32", 64)
CLASSES = ("ant", "bee", "cat")


class Linear(nn.Module):
    """x = W z; the latent of a sample is unknown."""

    verbs = ("generate",)

    def __init__(self, weight: Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.weight.T)[:, None]

    def forward(self, x: Tensor) -> Output:
        return Output(x, None, zeros(x))


class WithPrior(Linear):
    def prior(self, count: int, generator: Generator) -> Tensor:
        return torch.randn(count, self.weight.shape[1], generator=generator)


class OfClasses(Linear):
    conditional = True

    def prior(self, count: int, generator: Generator, label: int | None = None) -> Tensor:
        assert label is not None
        return torch.full((count, self.weight.shape[1]), float(label))


def model(network: nn.Module, classes: tuple[str, ...] | None = None, mixture: Mixture | None = None) -> TrainedModel:
    normalisation = Normalisation("standard", (0.0,), (1.0,), -9, 9)
    kept = {"classes": classes, "mixture": mixture, "source": "m.st"}
    return TrainedModel(network, "r", "m", {}, (1, 6), "series", None, normalisation, "mse", **kept)


def blobs(rows: int = 900, width: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Latents of three classes, far from each other, in no order."""
    labels = np.random.default_rng(0).integers(0, 3, rows)
    z = 10 * np.eye(3, width)[labels] + np.random.default_rng(1).normal(size=(rows, width))
    return z.astype(np.float32), labels


def class_of(z: Tensor) -> np.ndarray:
    return z.numpy()[:, :3].argmax(1)


# --- drawn ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [4, 70], ids=["full", "diagonal"])
def test_a_mixture_by_class_gives_that_class(width: int) -> None:
    z, labels = blobs(width=width)
    trained = model(Linear(torch.ones(6, width)), CLASSES, fit_mixture(z, labels))
    drawn = generation.sample_latents(trained, 60, 0, ("cat", "ant"))
    assert drawn.labels is not None
    assert drawn.labels.tolist() == [2] * 30 + [0] * 30
    np.testing.assert_array_equal(class_of(drawn.z), drawn.labels)
    everything = generation.sample_latents(trained, 3000, 0)
    assert everything.labels is not None
    np.testing.assert_array_equal(class_of(everything.z), everything.labels)
    np.testing.assert_allclose(np.bincount(everything.labels) / 3000, np.bincount(labels) / 900, atol=0.03)
    np.testing.assert_allclose(everything.z.mean(0), z.mean(0), atol=0.5)


def test_rows_of_rare_classes_and_of_none_have_components_in_common() -> None:
    z, labels = blobs()
    labels[labels == 2] = np.where(np.arange((labels == 2).sum()) < 19, 2, -1)  # 19 rows are too few
    mixture = fit_mixture(z, labels)
    assert mixture is not None
    assert mixture.classes is not None
    assert set(mixture.classes.tolist()) == {-1, 0, 1}
    assert float(mixture.weights.sum()) == pytest.approx(1)
    trained = model(Linear(torch.ones(6, 4)), CLASSES, mixture)
    assert generation.sample_latents(trained, 100, 0).labels is None
    with pytest.raises(
        AekitError, match="too few rows of the class 'cat' were trained on; there are enough of ant, bee"
    ):
        generation.sample_latents(trained, 5, 0, ("cat",))


def test_classes_of_a_mixture_come_back_and_an_older_file_has_none(tmp_path: Path) -> None:
    path, settings = tmp_path / "model.safetensors", {"hidden": (8,), "latent": 4, "output": "none"}
    for labels in (blobs()[1], None):
        trained = model(build("dense", (1, 6), settings), CLASSES, fit_mixture(blobs()[0], labels))
        trained.model, trained.settings = "dense", settings
        checkpoint.save(trained, path)
        read = checkpoint.load(path)
        assert read.mixture is not None
        if labels is not None:
            np.testing.assert_array_equal(class_of(generation.sample_latents(read, 9, 0, ("bee",)).z), 1)
    with pytest.raises(AekitError, match="fitted without classes; train the model again"):
        generation.sample_latents(read, 9, 0, ("bee",))


def test_a_prior_of_classes_gives_what_is_asked_and_tells_what_it_drew() -> None:
    trained = model(OfClasses(torch.ones(6, 4)), CLASSES)
    drawn = generation.sample_latents(trained, 5, 0, ("cat", "bee"))
    assert drawn.z[:, 0].tolist() == [2, 2, 2, 1, 1]
    several = generation.sample_latents(trained, 100, 0)
    assert several.labels is not None
    assert set(several.labels) == {0, 1, 2}
    assert several.z[:, 0].tolist() == several.labels.tolist()


def test_what_a_model_cannot_draw_is_told() -> None:
    mixture = fit_mixture(*blobs())
    plain, own = model(Linear(torch.ones(6, 4)), None, mixture), model(WithPrior(torch.ones(6, 4)), CLASSES, mixture)
    bare = model(WithPrior(torch.ones(6, 4)), CLASSES)
    for trained, labels, prior, error, says in (
        (plain, ("ant",), None, AekitError, "trained without labels"),
        (own, ("dog",), None, AekitError, "no class 'dog'; its classes are ant, bee, cat"),
        (own, ("ant",), "model", UsageError, "knows no classes"),
        (plain, (), "model", UsageError, "none of its own"),
        (bare, (), "mixture", AekitError, "no fitted mixture; leave --prior and --label off"),
        (bare, ("ant",), None, AekitError, "no fitted mixture"),
    ):
        with pytest.raises(error, match=says):
            generation.sample_latents(trained, 3, 0, labels, prior)
    assert generation.sample_latents(own, 9, 0).labels is None  # of its prior
    assert generation.sample_latents(own, 9, 0, (), "mixture").labels is not None


# --- on a path --------------------------------------------------------------------------------------------------------

VECTORS = st.lists(st.floats(-5, 5, width=32), min_size=3, max_size=3).map(torch.tensor)


@given(VECTORS, VECTORS, st.integers(2, 9), st.booleans())
def test_both_ends_are_reached_as_they_are(first: Tensor, last: Tensor, steps: int, spherical: bool) -> None:
    path = generation.between(first, last, steps, spherical)
    assert path.shape == (steps, 3)
    assert torch.equal(path[0], first)
    assert torch.equal(path[-1], last)
    assert bool(path.isfinite().all())


def test_an_arc_keeps_the_length_and_turns_evenly() -> None:
    rng = np.random.default_rng(0)
    first, last = (torch.from_numpy(v / np.linalg.norm(v)).float() for v in rng.normal(size=(2, 5)))
    path = generation.between(first, last, 7, spherical=True).double()
    torch.testing.assert_close(path.norm(dim=1), torch.ones(7, dtype=torch.float64), rtol=0, atol=1e-6)
    turns = (path[1:] * path[:-1]).sum(1).clamp(-1, 1).arccos()
    torch.testing.assert_close(turns, turns.mean().expand(6), rtol=0, atol=1e-5)
    straight = generation.between(first, last, 7)
    torch.testing.assert_close(straight.diff(dim=0), ((last - first) / 6).expand(6, 5), rtol=0, atol=1e-6)


@pytest.mark.parametrize("factor", [2.0, -2.0, 0.0])
def test_an_arc_between_parallel_vectors_is_straight(factor: float) -> None:
    first = torch.tensor([1.0, 2.0, 2.0])
    arc, straight = (generation.between(first, factor * first, 5, way) for way in (True, False))
    assert torch.equal(arc, straight)


def test_directions_are_those_in_which_samples_differ_most() -> None:
    """Of a linear decoder they are its right singular vectors, whatever the latents' own scales."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(n, 3)))[0] for n in (6, 3))
    trained = model(WithPrior(torch.from_numpy(left @ np.diag([9.0, 3.0, 1.0]) @ right.T).float()))
    drawn = generation.sample_latents(trained, 4000, 0)
    for k in range(3):
        path = generation.along(trained, k, 7, RUN, drawn, torch.zeros(3)).double().numpy()
        np.testing.assert_allclose(path[3], 0, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(path[6]), 3, atol=0.1)  # standard deviations
        assert abs(path[6] @ right[:, k]) > 0.99 * np.linalg.norm(path[6])
    about = generation.along(trained, 0, 3, RUN, drawn)[1]
    torch.testing.assert_close(about, drawn.z.mean(0))
    with pytest.raises(AekitError, match="no direction 3; they run from 0 to 2"):
        generation.along(trained, 3, 7, RUN, drawn)
