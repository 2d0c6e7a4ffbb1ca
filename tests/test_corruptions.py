"""Corruptions: what each does, the draw among several, and words that are not understood."""

import pytest
import torch

from aekit.corruptions import CORRUPTIONS, corrupt, parse_corruption
from aekit.errors import UsageError


def draw(text: str | list[str], x: torch.Tensor, seed: int = 0) -> torch.Tensor:
    texts = [text] if isinstance(text, str) else text
    return corrupt(x, parse_corruption(texts), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_keeps_shape_repeats_with_its_seed_and_does_nothing_at_amount_0(name: str) -> None:
    x = torch.rand(4, 2, 50)
    noisy = draw(f"{name}:0.3", x)
    assert noisy.shape == x.shape
    assert not torch.equal(noisy, x)
    assert torch.equal(noisy, draw(f"{name}:0.3", x))
    assert not torch.equal(noisy, draw(f"{name}:0.3", x, seed=1))
    torch.testing.assert_close(draw(f"{name}:0", x), x)


def test_amounts_mean_what_they_say() -> None:
    x = torch.full((400, 1, 100), 2.0)
    assert float((draw("gaussian:0.3", x) - x).std()) == pytest.approx(0.3, rel=0.02)
    assert float((draw("speckle:0.3", x) - x).std()) == pytest.approx(0.6, rel=0.02)
    assert float((draw("dropout:0.3", x) == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float((draw("uniform:0.3", x) - x).abs().max()) == pytest.approx(0.3, rel=0.01)
    assert float((draw("cosine:0.3", x) - x).std()) == pytest.approx(0.3 / 2**0.5, rel=0.05)
    assert bool(((draw("gaps:0.3", x) == 0).sum(dim=2) == 30).all())


def test_a_gap_is_one_stretch_in_all_channels() -> None:
    gone = draw("gaps:0.2", torch.ones(20, 3, 50)) == 0
    assert bool((gone[:, 0] == gone[:, 1]).all())
    edges = (gone[:, 0, 1:] != gone[:, 0, :-1]).sum(dim=1)
    assert bool((edges <= 2).all())
    assert len(set(gone[:, 0].float().argmax(dim=1).tolist())) > 5  # at places that differ


def test_gaps_hide_every_point_equally_often() -> None:
    hidden = (draw("gaps:0.25", torch.ones(20_000, 1, 8)) == 0).float().mean(dim=(0, 1))
    torch.testing.assert_close(hidden, torch.full((8,), 0.25), atol=0.02, rtol=0)


def test_given_twice_one_is_drawn_per_sample() -> None:
    x = torch.ones(1000, 1, 20)
    noisy = draw(["gaussian:0.5", "dropout:0.5"], x)
    dropped = (noisy == 0).any(dim=2).squeeze(1)
    assert float(dropped.float().mean()) == pytest.approx(0.5, abs=0.05)
    assert bool(((noisy == 0) | (noisy == 1))[dropped].all())


def test_a_chain_applies_both() -> None:
    noisy = draw("gaussian:0.5+dropout:0.5", torch.ones(100, 1, 20))
    assert bool((noisy == 0).any(dim=2).all())
    assert bool(((noisy != 0) & (noisy != 1)).any(dim=2).all())


@pytest.mark.parametrize(
    "text", ["", "salt:0.1", "gaussian", "gaussian:x", "gaussian:-1", "gaussian:nan", "dropout:1.5"]
)
def test_words_not_understood_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--corrupt"):
        parse_corruption([text])
