"""Whether noise is white, as foresight of known quality tells it."""

import pytest
import torch

from aekit.batches import Rows
from aekit.models import build
from aekit.models.blindspot import Foresight, Guess, surest_error
from aekit.whiteness import Evidence, evidence, joined


def test_an_error_is_judged_where_the_network_is_surest() -> None:
    x = torch.arange(100.0)
    variance = torch.where(x < 20, 1.0, 9.0)
    mu = torch.where(x < 20, x - 2, x - 50)
    assert surest_error(x, Guess(mu, variance), 0.2) == pytest.approx(2)


def test_noise_is_shared_where_near_points_tell_more_and_what_is_taken_away_goes_on() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 1, 500)
    smooth = (x + x.roll(1, 2)) / 2**0.5
    sigma = torch.full((1, 1), 0.5)

    def told(data: torch.Tensor, near: float, *far: float) -> Evidence:
        guesses = [Guess((1 - left) * data, left**2 * torch.ones_like(data)) for left in (near, *far)]
        return evidence(data, Foresight(guesses[0], guesses[1:]), sigma)

    assert told(smooth, 1.0, 1.0).is_white
    shared = told(smooth, 0.2, 1.0)
    assert not shared.is_white
    assert (shared.near, shared.far, shared.correlation) == pytest.approx((0.2, 1.0, 0.5), rel=0.15)
    assert not told(smooth, 0.2, 0.2, 1.0).is_white  # along one axis is enough
    assert told(x, 0.2, 1.0).is_white  # texture under white noise
    assert told(0.01 * smooth, 0.2, 1.0).correlation == pytest.approx(0.5, rel=0.15)
    assert Evidence(0.001, 0.01, -0.5).is_white  # hardly any noise
    assert Evidence(0.05, 0.15, 0.9).is_white  # smooth data left some signal
    assert not Evidence(0.1, 0.17, -0.11).is_white  # AR(0.9) on heartbeats


def test_batches_are_joined() -> None:
    model = build("blind-spot", (2, 20), {"width": 4, "hidden": 8}).eval()
    x = torch.randn(6, 2, 20)
    whole, parts = model.foresight(x), joined([model.foresight(part) for part in x.split(4)])  # type: ignore[operator]
    for a, b in zip((whole.near, *whole.far), (parts.near, *parts.far), strict=True):
        torch.testing.assert_close(tuple(a), tuple(b))


def test_sigma_is_settled_by_what_is_left_and_never_raised() -> None:
    model = build("blind-spot", (2, 50), {"width": 4, "hidden": 8}).eval()
    x = torch.randn(40, 2, 50)
    with torch.no_grad():
        near = model.foresight(x).near  # type: ignore[operator]
    left = surest_error(x[:, 0], Guess(near.mu[:, 0], near.variance[:, 0]), 0.05)
    with torch.no_grad():
        model.level[0], model.level[1] = 3.0, -3.0  # type: ignore[index, operator]
    low = model.sigma[1].item()  # type: ignore[index, union-attr]
    rows = Rows(x, None, torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    model.settle(rows, rows)  # type: ignore[operator]
    assert model.sigma.detach().flatten().tolist() == pytest.approx([left, low], rel=1e-3)  # type: ignore[operator, union-attr]
