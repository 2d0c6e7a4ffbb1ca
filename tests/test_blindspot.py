"""The blind-spot network: it is blind, weighs by the estimated noise, and finds the noise's standard deviation."""

import numpy as np
import pytest
import torch

from aekit.batches import choose_normalisation, to_rows
from aekit.models import build
from aekit.models.blindspot import FAR, Guess, posterior, surprise
from aekit.training import TrainSettings, fit

SHAPES = [(1, 8, 8), (3, 9, 14), (1, 28, 28), (2, 50), (1, 141), (1, 5)]


@pytest.mark.parametrize("shape", SHAPES)
def test_no_point_is_predicted_from_itself_and_all_branches_are_used(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = build("blind-spot", shape, {"width": 4, "hidden": 8, "activation": "silu"}).eval()
    x = torch.randn(1, *shape, requires_grad=True)
    seen = model.foresight(x)  # type: ignore[operator]
    size = shape[1:]
    for place in (tuple(n // 2 for n in size), tuple(0 for _ in size), tuple(n - 1 for n in size)):
        at = (0, slice(None), *place)
        for guess, axes, reach in [(seen.near, range(len(size)), 1)] + [
            (far, [axis], FAR[len(size)]) for axis, far in enumerate(seen.far)
        ]:
            (slope,) = torch.autograd.grad(guess.mu[at].sum() + guess.variance[at].sum(), x, retain_graph=True)
            away = torch.ones(size, dtype=torch.bool)
            for axis, (n, middle) in enumerate(zip(size, place, strict=True)):
                near = (torch.arange(n) - middle).abs() < (reach if axis in axes else n)
                away[~near.view([-1 if a == axis else 1 for a in range(len(size))]).expand(size)] = False
            assert not slope[0][:, away].any()
    at = (0, 0, *(n // 2 for n in size))
    (slope,) = torch.autograd.grad(seen.near.mu[at], x, retain_graph=True)
    for axis, n in enumerate(size):
        for step in (-1, 1):
            beside = list(at)
            beside[2 + axis] += step
            assert n < 3 or slope[tuple(beside)] != 0


def test_output_is_the_mean_of_the_clean_value_given_both() -> None:
    """Against the product of the two densities, integrated on a grid."""
    rng = np.random.default_rng(0)
    grid = np.linspace(-12, 12, 200_001)
    for _ in range(5):
        mu, s, y, sigma = rng.normal(), rng.uniform(0.2, 2), rng.normal(), rng.uniform(0.2, 2)
        density = np.exp(-0.5 * ((grid - mu) / s) ** 2 - 0.5 * ((grid - y) / sigma) ** 2)
        expected = (grid * density).sum() / density.sum()
        terms = (torch.tensor(v, dtype=torch.float64) for v in (y, mu, s * s, sigma))
        x, mean, variance, deviation = terms
        assert float(posterior(x, Guess(mean, variance), deviation)) == pytest.approx(expected, rel=1e-6)


def test_the_loss_is_the_negative_log_likelihood() -> None:
    x, mu = torch.randn(2, 3, 2, 9, dtype=torch.float64)
    variance = torch.rand(3, 2, 9, dtype=torch.float64) + 0.1
    expected = -torch.distributions.Normal(mu, variance.sqrt()).log_prob(x).mean(dim=(1, 2)) - np.log(2 * np.pi) / 2
    torch.testing.assert_close(surprise(x, mu, variance), expected)


def test_it_returns_the_posterior_and_judges_by_the_likelihood() -> None:
    torch.manual_seed(0)
    model = build("blind-spot", (2, 40), {"width": 4, "hidden": 8}).eval()
    x = torch.randn(3, 2, 40)
    near = model.foresight(x).near  # type: ignore[operator]
    torch.testing.assert_close(model(x).x_hat, posterior(x, near, model.sigma))  # type: ignore[arg-type]
    rows = to_rows(x.numpy(), choose_normalisation(x.numpy(), "series", "x"))
    batch = rows.batch(torch.arange(3))
    near = model.foresight(batch.x).near  # type: ignore[operator]
    expected = surprise(batch.x, near.mu, near.variance + model.sigma.square())  # type: ignore[operator]
    torch.testing.assert_close(model.errors(batch), expected)  # type: ignore[operator]


@pytest.mark.parametrize("level", [0.25, 0.5])
def test_sigma_is_found_within_ten_percent(level: float) -> None:
    """Waves of two periods, each of a phase of its own, under white noise."""
    rng = np.random.default_rng(1)
    t = np.arange(48)
    clean = np.sin(2 * np.pi * (2 * t / 48 + rng.random((200, 1))))[:, None]
    noisy = (clean + level * rng.normal(size=clean.shape)).astype(np.float32)
    normalisation = choose_normalisation(noisy, "series", "x")
    rows = to_rows(noisy, normalisation)
    torch.manual_seed(0)
    model = build("blind-spot", (1, 48), {"width": 8, "hidden": 16})
    settings = TrainSettings(steps=200, batch_size=32, lr=1e-2, warmup=0.2, clip=1.0)
    list(fit(model, rows, rows.subset(torch.arange(20)), settings))
    model.eval()
    found = model.sigma.item() * normalisation.scale[0]  # type: ignore[operator, union-attr]
    assert found == pytest.approx(level, rel=0.1)
    x = rows.batch(torch.arange(200)).x
    with torch.no_grad():
        cleaned = model(x).x_hat.numpy() * normalisation.scale[0] + normalisation.offset[0]
    assert np.square(cleaned - clean).mean() < 0.5 * level**2
