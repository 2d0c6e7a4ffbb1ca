"""Training steps as CUDA graphs: nothing in a step waits for the device; replays give what calls would give."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from aekit import graphs, recipes
from aekit.batches import Normalisation, Rows, to_rows
from aekit.corruptions import parse_corruption
from aekit.graphs import Graphed, Waits
from aekit.models import build
from aekit.training import Epoch, TrainSettings, fit

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
SHAPES = {
    "lstm": (1, 24),
    "trace": (1, 64),
    "conv1d": (1, 60),
    "deepdenoiser": (2, 60),
    "wavedecompnet": (2, 64),
    "eqtransformer": (2, 60),
}


def images(shape: tuple[int, ...], device: str = "cpu") -> Rows:
    picks = np.tile([10, 20], (48, 1)) if len(shape) == 2 else None
    raw = torch.randint(0, 256, (48, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    normalisation = Normalisation("range", (0.0,), (255.0,), 0.0, 255.0)
    return to_rows(raw.numpy(), normalisation, picks=picks, labels=np.arange(48) % 2).to(torch.device(device))


def train(name: str, device: str = "cpu", model: torch.nn.Module | None = None) -> list[Epoch]:
    """Two epochs of six steps with dropout in the model and each kind of corruption."""
    recipe = recipes.recipe(name)
    torch.manual_seed(0)
    shape = SHAPES.get(name, (1, 12, 12))
    model = model or build(recipe.model, shape, dict(recipe.settings))
    changes = {"epochs": 2, "batch_size": 8, "error": "mse", "clip": 1.0, "optimiser": "muon"}
    settings = TrainSettings(**{**recipe.training, **changes})
    rows = images(shape, device)
    corruption = parse_corruption(["gaussian:0.2+dropout:0.1", "speckle:0.2", "gaps:0.1+cosine:0.1", "uniform:0.1"])
    return list(fit(model.to(device), rows, rows, settings, corruption))


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_no_step_waits_for_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[set[str]] = []
    call = Graphed.__call__

    def watched(self: Graphed, *inputs: Tensor) -> Any:
        with Waits() as mode:
            result = call(self, *inputs)
        found.append(mode.found)
        return result

    monkeypatch.setattr(Graphed, "__call__", watched)
    train(name)
    assert len(found) == 12
    assert not set().union(*found[1:])  # the first makes what stays: states, and numbers on the device


def test_the_watch_notices_what_waits() -> None:
    x = torch.ones(3)
    for wait in (lambda: float(x.sum()), lambda: torch.tensor([1.0]), lambda: x[x > 0]):
        with Waits() as mode:
            wait()
        assert mode.found


def test_on_a_cpu_each_call_is_made() -> None:
    calls: list[int] = []
    graphed = Graphed(lambda x: calls.append(int(x)), torch.device("cpu"))
    for i in range(6):
        graphed(torch.tensor(i))
    assert calls == list(range(6))


@needs_gpu
@pytest.mark.parametrize("name", recipes.RECIPES)
def test_replayed_steps_give_the_same_losses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = train(name, "cuda")
    assert all(not epoch.notes for epoch in recorded)
    monkeypatch.setattr(graphs, "WARM_UP", 10**9)
    called = train(name, "cuda")
    for a, b in zip(recorded, called, strict=True):
        for key in [key for key in a.metrics if key.endswith("loss") or key == "val_error"]:
            assert a.metrics[key] == pytest.approx(b.metrics[key], rel=1e-6), key


@needs_gpu
def test_random_numbers_differ_between_replays_and_repeat_with_the_seed() -> None:
    generator, device = torch.Generator("cuda"), torch.device("cuda")
    graphed = Graphed(lambda: torch.rand(4, generator=generator, device=device), device, [generator])
    drawn: list[Tensor] = []
    for seed in (0, 1, 2, 3, 4, 5, 3, 0):
        generator.manual_seed(seed)
        drawn.append(graphed().clone())
    assert graphed.graph is not None
    assert torch.equal(drawn[6], drawn[3])
    assert torch.equal(drawn[7], drawn[0])  # which was not replayed
    assert len({tuple(x.tolist()) for x in drawn}) == 6


@needs_gpu
def test_what_cannot_be_recorded_runs_without_and_says_so() -> None:
    class Waits(torch.nn.Module):
        verbs = ("denoise",)

        def __init__(self) -> None:
            super().__init__()
            self.inner = build("dense", (1, 12, 12), {})

        def forward(self, x: Tensor) -> Any:
            output = self.inner(x)
            assert float(output.x_hat.sum()) > 0
            return output

    epochs = train("stacked", "cuda", Waits())
    assert "runs without (it waits for the device in aten::_local_scalar_dense)" in epochs[0].notes[0]
    assert not epochs[1].notes
    assert epochs[1].metrics["train_loss"] < epochs[0].metrics["train_loss"]
