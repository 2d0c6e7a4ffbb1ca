"""The loop: resuming, the contract with models of other kinds, the choice of the best epoch, determinism."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aekit import checkpoint
from aekit.batches import Rows, choose_normalisation, to_rows
from aekit.corruptions import parse_corruption
from aekit.layers import channels_last
from aekit.models import build
from aekit.objectives import Phase, zeros
from aekit.optimisers import orthogonalise
from aekit.records import Batch, Output
from aekit.training import Epoch, TrainSettings, _schedule, fit, is_tied, steps_in_epoch

SHORT = TrainSettings(epochs=4, batch_size=16, lr=1e-2, seed=3)


def images(count: int, seed: int = 0) -> Rows:
    """Bright squares at random places, 8 x 8, bytes."""
    rng = np.random.default_rng(seed)
    raw = np.zeros((count, 1, 8, 8), np.uint8)
    for image, (i, j) in zip(raw, rng.integers(0, 5, (count, 2)), strict=True):
        image[0, i : i + 3, j : j + 3] = 200
    return to_rows(raw, choose_normalisation(raw, "image", "squares"))


def plain_rows(x: Tensor, target: Tensor | None = None) -> Rows:
    one = torch.ones(1, *[1] * (x.dim() - 1))
    return Rows(x, None, 0 * one, one, target)


def network(model: str = "conv", shape: tuple[int, ...] = (1, 8, 8), **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return channels_last(build(model, shape, settings))


def run(model: nn.Module, settings: TrainSettings, stop_after: int | None = None, **more: Any) -> list[Epoch]:
    epochs = []
    for epoch in fit(model, images(70), images(20, seed=1), settings, **more):
        epochs.append(epoch)
        if epoch.number == stop_after:
            break
    return epochs


CASES: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("conv", {}, ("gaussian:0.1", "speckle:0.1")),
    ("dense", {"dropout": 0.2}, ()),
    ("vae", {"hidden": (32,), "latent": 4}, ()),
    ("mae", {"patch": 2}, ()),
]


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
@pytest.mark.parametrize(("model", "settings", "corruption"), CASES, ids=[c[0] for c in CASES])
def test_resumed_run_has_the_same_weights_bit_for_bit(
    model: str,
    settings: dict[str, Any],
    corruption: tuple[str, ...],
    optimiser: Literal["adamw", "muon"],
    tmp_path: Any,
) -> None:
    more = {"corruption": parse_corruption(corruption)}
    short = replace(SHORT, optimiser=optimiser)
    straight = network(model, **settings)
    last = run(straight, short, **more)[-1]

    stopped = network(model, **settings)
    checkpoint.save_resume(run(stopped, short, stop_after=2, **more)[-1].state(), tmp_path / "resume.safetensors")
    resumed = network(model, **settings)
    state = checkpoint.load_resume(tmp_path / "resume.safetensors")
    again = run(resumed, short, resume=state, **more)

    assert [e.number for e in again] == [3, 4]
    assert again[-1].metrics["val_error"] == last.metrics["val_error"]
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_best_epoch_is_the_last_that_is_no_worse_than_the_lowest_validation_error_but_by_chance() -> None:
    epochs = run(network(), TrainSettings(epochs=6, batch_size=16, lr=0.05, schedule="constant"))
    errors = [e.metrics["val_error"] for e in epochs]
    for i, error in enumerate(errors):
        assert epochs[i].is_best or error > min(errors[:i])  # a new lowest is always kept
    lowest = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    assert is_tied(lowest, lowest)
    assert is_tied(lowest - 0.1, lowest)
    assert not is_tied(lowest + 0.1, lowest)  # worse on every row: no chance
    assert is_tied(lowest + torch.tensor([0.9, -0.8, 0.7, -0.6]), lowest)  # worse by 0.05 +- 0.38
    assert not is_tied(lowest.repeat(100) + torch.tensor([0.9, -0.8, 0.7, -0.6]).repeat(100), lowest.repeat(100))


def test_patience_stops_after_epochs_without_a_better_one() -> None:
    settings = TrainSettings(epochs=50, batch_size=16, lr=1e-12, schedule="constant", patience=2)
    noise = parse_corruption(["gaussian:0.5"])  # the error of training moves, that of validation hardly
    epochs = run(network(), settings, corruption=noise)
    assert len(epochs) < 50
    errors = [e.metrics["val_error"] for e in epochs]
    assert min(errors[-2:]) >= min(errors[:-2])


def test_steps_beat_epochs_and_may_end_inside_an_epoch() -> None:
    epochs = run(network(), TrainSettings(epochs=9, steps=7, batch_size=16))
    assert steps_in_epoch(70, 16) == 5
    assert [e.number for e in epochs] == [1, 2]
    assert epochs[-1].state()["step"] == 7


def test_every_batch_has_one_shape() -> None:
    shapes: list[Sequence[int]] = []
    model = network()
    model.register_forward_pre_hook(lambda _, args: shapes.append(args[0].shape) if model.training else None)
    run(model, TrainSettings(epochs=2, batch_size=16))
    assert set(map(tuple, shapes)) == {(16, 1, 8, 8)}


def test_another_seed_gives_other_weights_and_the_same_seed_the_same() -> None:
    weights = []
    for seed in (1, 1, 2):
        model = network()
        run(model, TrainSettings(epochs=1, batch_size=16, seed=seed))
        weights.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_paired_data_trains_towards_its_target() -> None:
    x = torch.randn(200, 1, 16, generator=torch.Generator().manual_seed(0))
    rows = plain_rows(x, 0.5 * x.flip(2))
    model = network("dense", (1, 16), hidden=(32,), latent=32, activation="none", output="none")
    *_, last = fit(model, rows, rows, TrainSettings(epochs=60, batch_size=20, lr=1e-2))
    assert last.metrics["val_error"] < 1e-3


# --- models of other kinds: the contract holds them -------------------------------------------------------------------


class ThreeHeads(nn.Module):
    """A detector: three outputs of one channel each, weighted, towards targets of another shape than x."""

    verbs = ("score",)

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv1d(2, 8, 5, padding=2), nn.ReLU(), nn.Conv1d(8, 3, 5, padding=2), nn.Sigmoid())
        self.weights: Tensor
        self.register_buffer("weights", torch.tensor([0.05, 0.40, 0.55]).view(1, 3, 1))

    def forward(self, x: Tensor) -> Output:
        return Output(self.net(x), None, zeros(x), weight=self.weights)


class Masked(nn.Module):
    """A masked model: it sees a quarter of the values and is judged on the others alone."""

    verbs = ("embed", "score")

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))

    def forward(self, x: Tensor) -> Output:
        shown = (torch.rand(x.shape) < 0.25).float()
        return Output(self.net(x * shown), None, zeros(x), target=x.detach(), weight=1 - shown)


class TinyGAN(nn.Module):
    """Critic and generator, the critic three times as often."""

    verbs = ("generate",)

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.critic = nn.Linear(4, 2), nn.Linear(2, 1)
        self.calls: list[str] = []

    def phases(self) -> list[Phase]:
        def critic(batch: Batch) -> dict[str, Tensor]:
            self.calls.append("critic")
            fake = self.generator(torch.randn(len(batch.x), 4)).detach()
            return {"loss": self.critic(fake).mean() - self.critic(batch.x.flatten(1)).mean()}

        def generator(batch: Batch) -> dict[str, Tensor]:
            self.calls.append("generator")
            return {"loss": -self.critic(self.generator(torch.randn(len(batch.x), 4))).mean()}

        return [
            Phase("critic", list(self.critic.parameters()), critic, pace=4),
            Phase("generator", list(self.generator.parameters()), generator, every=3),
        ]


def test_three_headed_detector_learns_targets_of_another_shape() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 2, 40)
    target = torch.stack([(x[:, 0] > 1).float(), (x[:, 1] > 1).float(), (x[:, 0] < -1).float()], dim=1)
    rows, model = plain_rows(x, target), ThreeHeads()
    epochs = list(fit(model, rows, rows, TrainSettings(epochs=30, batch_size=16, lr=1e-2, error="bce")))
    assert epochs[-1].metrics["train_loss"] < 0.5 * epochs[0].metrics["train_loss"]
    assert epochs[-1].is_best


def test_masked_model_is_judged_by_its_own_weights() -> None:
    torch.manual_seed(0)
    x = torch.randn(256, 1, 1).expand(-1, 1, 16).contiguous().squeeze(1)  # one value repeated: easy from a few
    rows, model = plain_rows(x), Masked()
    epochs = list(fit(model, rows, rows, TrainSettings(epochs=20, batch_size=32, lr=1e-2)))
    assert epochs[-1].metrics["val_error"] < 0.3


def test_adversarial_phases_move_their_own_parameters_and_resume_exactly(tmp_path: Path) -> None:
    torch.manual_seed(0)
    rows = plain_rows(torch.randn(48, 2) + 3)
    settings = TrainSettings(epochs=4, batch_size=8, lr=1e-4)

    def fresh() -> TinyGAN:
        torch.manual_seed(1)
        return TinyGAN()

    straight = fresh()
    epochs = list(fit(straight, rows, rows, settings))
    assert straight.calls[:7] == ["critic", "generator", "critic", "critic", "critic", "generator", "critic"]
    assert {"critic_loss", "generator_loss"} <= set(epochs[-1].metrics)
    assert "val_error" not in epochs[-1].metrics
    assert all(e.is_best for e in epochs)

    stopped = fresh()
    for epoch in fit(stopped, rows, rows, settings):
        if epoch.number == 2:
            break
    checkpoint.save_resume(epoch.state(), tmp_path / "resume.safetensors")
    state = checkpoint.load_resume(tmp_path / "resume.safetensors")
    resumed = fresh()
    list(fit(resumed, rows, rows, settings, resume=state))
    for a, b in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_muon_update_is_nearly_orthogonal_as_in_float64() -> None:
    x = torch.randn(3, 20, 70, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(x))
    assert float(values.min()) > 0.5
    assert float(values.max()) < 1.5
    torch.testing.assert_close(orthogonalise(x).double(), orthogonalise(x.double()), rtol=1e-3, atol=1e-4)


def test_learning_rate_rises_once_and_falls_to_nothing() -> None:
    rates = [_schedule(TrainSettings(), step / 100) for step in range(101)]
    peak = int(np.argmax(rates))
    assert all(a <= b for a, b in pairwise(rates[: peak + 1]))
    assert all(a >= b for a, b in pairwise(rates[peak:]))
    assert rates[peak] == pytest.approx(1)
    assert rates[-1] == pytest.approx(0)
