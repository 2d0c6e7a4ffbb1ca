"""Penalties against autograd's Jacobian and closed forms, what they do in training, and the warm-up of beta."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from program import aekit, fails
from torch import Tensor, nn

from aekit.batches import Rows, choose_normalisation, to_rows
from aekit.errors import UsageError
from aekit.models import build
from aekit.objectives import (
    EXACT,
    Penalty,
    contractive,
    kl_sparsity,
    l1_sparsity,
    mse,
    objective,
    parse_penalties,
    zeros,
)
from aekit.recipes import RECIPES
from aekit.records import Batch, Output
from aekit.training import TrainSettings, fit


def jacobian_norm(encode: Any, x: Tensor) -> Tensor:
    """The squared Frobenius norm of dz/dx of each sample, (B,), by autograd's Jacobian."""
    jacobian = torch.func.vmap(torch.func.jacrev(lambda one: encode(one[None])[0]))(x)
    return jacobian.detach().flatten(1).square().sum(1)  # type: ignore[no-any-return]


@pytest.mark.parametrize("model", ["dense", "conv"])
def test_contractive_penalty_is_the_norm_of_autograds_jacobian(model: str) -> None:
    torch.manual_seed(0)
    network = build(model, (1, 12, 10), {"latent": 5, "activation": "tanh"}).double()
    x = torch.randn(4, 1, 12, 10, dtype=torch.float64).requires_grad_()
    found = contractive(network.encode(x), x, 0.0)  # type: ignore[operator]
    torch.testing.assert_close(found, (jacobian_norm(network.encode, x.detach()) * 120 / 5).float())


def test_contractive_penalty_of_one_sigmoid_layer_has_rifais_closed_form() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(9, 6)
    x = torch.randn(3, 9).requires_grad_()
    h = layer(x).sigmoid()
    closed = ((h * (1 - h)).square() * layer.weight.square().sum(1)).sum(1)
    torch.testing.assert_close(contractive(h, x, 0.0), closed * 9 / 6)


def test_contractive_estimate_of_large_latents_is_right_in_the_mean() -> None:
    torch.manual_seed(0)
    encode = nn.Sequential(nn.Linear(20, 3 * EXACT), nn.Tanh())
    x = torch.randn(1, 20)
    many = x.expand(4000, -1).clone().requires_grad_()
    estimates = contractive(encode(many), many, 0.0).detach()
    exact = float(jacobian_norm(encode, x)) * 20 / (3 * EXACT)
    error = float(estimates.std()) / 4000**0.5
    assert float(estimates.mean()) == pytest.approx(exact, abs=4 * error)
    assert error < 0.02 * exact


def test_contractive_penalty_keeps_the_graph() -> None:
    """Its gradient by the weights is that of the closed form, by finite differences in float64."""
    torch.manual_seed(0)
    weight = torch.randn(4, 7, dtype=torch.float64).requires_grad_()
    x = torch.randn(2, 7, dtype=torch.float64).requires_grad_()

    def penalty(weight: Tensor) -> Tensor:
        z = (x @ weight.T).tanh()
        slopes = [torch.autograd.grad(z[:, j].sum(), x, create_graph=True)[0] for j in range(4)]
        return torch.stack(slopes).square().sum() * 7 / 4

    (expected,) = torch.autograd.grad(penalty(weight), weight)
    (found,) = torch.autograd.grad(contractive((x @ weight.T).tanh(), x, 0.0).sum(), weight)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert found.abs().max() > 0.1


def test_a_smooth_picture_in_more_pixels_has_the_same_contractive_penalty() -> None:
    """The unit that reads the mean of a region: its weights are spread over the pixels."""
    small = torch.rand(2, 64).requires_grad_()
    weight = torch.randn(3, 64)
    large = small.detach().repeat_interleave(16, dim=1).requires_grad_()
    coarse = contractive((small @ weight.T).tanh(), small, 0.0)
    fine = contractive((large @ weight.repeat_interleave(16, dim=1).T / 16).tanh(), large, 0.0)
    torch.testing.assert_close(coarse, fine)


def test_sparsity_penalties_are_what_they_say() -> None:
    z = torch.tensor([[0.1, 0.9], [0.3, 0.5]])
    r = np.array([0.2, 0.7])
    kl = (0.05 * np.log(0.05 / r) + 0.95 * np.log(0.95 / (1 - r))).mean()
    assert kl_sparsity(z, z, 0.05).tolist() == pytest.approx([kl, kl], rel=1e-5)
    assert float(kl_sparsity(torch.full((4, 3), 0.05), z, 0.05).max()) == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(kl_sparsity(torch.tensor([[0.0, 1.0]]), z, 0.05)).all()
    assert l1_sparsity(torch.tensor([[1.0, -3.0], [0.0, 0.5]]), z, 0.0).tolist() == [2.0, 0.25]


def test_the_objective_adds_weighted_penalties_to_the_error() -> None:
    torch.manual_seed(0)
    network = build("dense", (1, 30), {"hidden": (8,), "latent": 4, "latent_activation": "sigmoid"})
    x = torch.rand(6, 1, 30)
    batch = Batch(x, x, torch.zeros(1), torch.ones(1))
    given = (Penalty("l1", 0.5), Penalty("contractive", 0.25))
    found = objective(network, batch, mse, 1.0, given)
    output = network(x)
    leaf = x.clone().requires_grad_()
    parts = [l1_sparsity(output.z, x, 0.0).mean().item(), contractive(network(leaf).z, leaf, 0.0).mean().item()]
    expected = mse(output.x_hat, x).mean().item() + 0.5 * parts[0] + 0.25 * parts[1]
    assert found["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert float(found["penalty"]) == 0
    assert [float(found[name]) for name in ("l1", "contractive")] == pytest.approx(parts, rel=1e-5)
    assert set(objective(network, batch, mse)) == {"loss", "penalty"}


def bars(count: int, size: int) -> Rows:
    """Pictures of one to three bright bars, which a sparse code can name, as bytes."""
    rng = np.random.default_rng(0)
    raw = np.zeros((count, 1, 12, 12), np.uint8)
    for image in raw:
        for place in rng.choice(12, rng.integers(1, 4), replace=False):
            image[0, place] = 200
    raw = raw.repeat(size // 12, axis=2).repeat(size // 12, axis=3)
    return to_rows(raw, choose_normalisation(raw, "image", "bars"))


@pytest.mark.parametrize("size", [12, 48])
def test_kl_sparsity_brings_the_mean_activation_to_rho_whatever_the_size(size: int) -> None:
    torch.manual_seed(0)
    rows = bars(400, size)
    network = build("dense", (1, size, size), {"hidden": (64,), "latent": 20, "latent_activation": "sigmoid"})
    settings = TrainSettings(steps=500, batch_size=100, lr=1e-2, optimiser="muon", penalty=("kl:0.3@0.15",))
    *_, last = fit(network, rows, rows, settings)
    means = network(rows.batch(torch.arange(400)).x).z.detach().mean(0)
    assert float(means.mean()) == pytest.approx(0.15, rel=0.2)
    assert last.metrics["val_error"] < 0.04  # that of the mean picture is twice as large


def test_l1_makes_latents_smaller_and_contraction_their_slopes() -> None:
    rows = bars(200, 12)
    x = rows.batch(torch.arange(200)).x
    found: dict[tuple[str, ...], tuple[float, float]] = {}
    for penalty in ((), ("l1:0.3",), ("contractive:1e-3",)):
        torch.manual_seed(0)
        network = build("dense", (1, 12, 12), {"hidden": (32,), "latent": 8, "latent_activation": "none"})
        list(fit(network, rows, rows, TrainSettings(steps=200, batch_size=50, lr=3e-3, penalty=penalty)))
        z = network(x).z.detach()
        found[penalty] = float(z.abs().mean()), float(jacobian_norm(network.encode, x).mean())  # type: ignore[arg-type]
    assert found[("l1:0.3",)][0] < 0.5 * found[()][0]
    assert found[("contractive:1e-3",)][1] < 0.5 * found[()][1]


class Watched(nn.Module):
    """Gives its only weight as penalty: the gradient tells the beta of the step."""

    verbs = ("denoise",)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.betas: list[float] = []
        self.weight.register_hook(lambda grad: self.betas.append(float(grad)))

    def forward(self, x: Tensor) -> Output:
        return Output(x, None, zeros(x) + self.weight)


def test_beta_rises_evenly_over_its_share_of_the_run_and_stays() -> None:
    x = torch.ones(4, 1, 2)
    rows = Rows(x, None, torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    model = Watched()
    list(fit(model, rows, rows, TrainSettings(steps=10, batch_size=4, lr=1e-9, beta=2.0, beta_warmup=0.5)))
    assert model.betas == pytest.approx([0, 0.4, 0.8, 1.2, 1.6, 2, 2, 2, 2, 2])
    model = Watched()
    list(fit(model, rows, rows, replace(TrainSettings(), steps=3, batch_size=4, beta=2.0)))
    assert model.betas == pytest.approx([2, 2, 2])


def test_penalties_are_parsed_and_faults_told() -> None:
    assert parse_penalties(["kl:0.2@0.1", "l1:1e-3"]) == (Penalty("kl", 0.2, 0.1), Penalty("l1", 1e-3))
    assert parse_penalties(["kl:0.2"])[0].rho == 0.05
    for text in ("l2:1", "kl", "kl:x", "kl:1@2", "l1:1@0.1", "l1:-1", "l1:inf", "kl:1@"):
        with pytest.raises(UsageError, match="--penalty"):
            parse_penalties([text])
    with pytest.raises(UsageError, match="given twice"):
        parse_penalties(["l1:1", "l1:2"])


@pytest.mark.parametrize(
    ("recipe", "penalty", "said"),
    [
        ("conv", "kl:0.1", "needs latents in 0..1"),
        ("vae", "kl:0.1", "needs latents in 0..1"),
        ("stacked", "kl:0.1", "latent_activation=sigmoid"),
        ("gan", "l1:0.1", "has a loss of its own"),
        ("conv", "l3:0.1", "there are l1, kl, contractive"),
    ],
)
def test_a_penalty_that_a_recipe_cannot_have_is_refused(recipe: str, penalty: str, said: str, tmp_path: Path) -> None:
    fails(tmp_path, "train", recipe, "--data", "digits", "--penalty", penalty, "--out", "run", says=said, code=2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("recipe", ["sparse", "contractive"])
def test_recipes_bring_their_penalty_which_none_takes_away(recipe: str, tmp_path: Path) -> None:
    (penalty,) = parse_penalties(RECIPES[recipe].training["penalty"])
    assert penalty.name == {"sparse": "kl", "contractive": "contractive"}[recipe]
    aekit(tmp_path, "train", recipe, "--data", "digits", "--epochs", "1", "--out", "run", "--quiet")
    with (tmp_path / "run" / "metrics.csv").open() as file:
        assert float(next(csv.DictReader(file))[penalty.name]) > 0
    aekit(
        tmp_path, "train", recipe, "--data", "digits", "--epochs", "1", "--out", "bare", "--penalty", "none", "--quiet"
    )
    assert penalty.name not in (tmp_path / "bare" / "metrics.csv").read_text()
