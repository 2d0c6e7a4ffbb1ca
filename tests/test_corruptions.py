"""Corruptions: what each does, the draw among several, and words that are not understood."""

from pathlib import Path

import numpy as np
import pytest
import torch

from aekit.corruptions import CHANGES, NOISES, Corruption, Records, corrupt, parse_corruption, split
from aekit.errors import AekitError, UsageError
from aekit.records import Batch


def both(
    x: torch.Tensor, target: torch.Tensor, corruption: Corruption, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """x and target after the corruption."""
    batch = Batch(x, target, torch.zeros(1), torch.ones(1))
    got = corrupt(batch, corruption, torch.Generator().manual_seed(seed))
    return got.x, got.target


def draw(text: str | list[str], x: torch.Tensor, seed: int = 0) -> torch.Tensor:
    texts = [text] if isinstance(text, str) else text
    return both(x, x, parse_corruption(texts), seed)[0]


@pytest.mark.parametrize("name", [*NOISES, *CHANGES])
def test_keeps_shape_repeats_with_its_seed_and_does_nothing_at_amount_0(name: str) -> None:
    x = torch.rand(40, 2, 50)
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


def pulses(count: int = 200, points: int = 60) -> torch.Tensor:
    """Samples (count, 2, points), silent but for one pulse whose height tells the sample."""
    x = torch.zeros(count, 2, points)
    x[:, :, points // 2] = torch.arange(1.0, count + 1)[:, None]
    return x


@pytest.mark.parametrize("name", sorted(set(CHANGES) - {"silence"}))
def test_what_makes_another_clean_sample_changes_the_target_with_it(name: str) -> None:
    x = pulses().roll(7, dims=-1)
    noisy, target = both(x, 2 * x, parse_corruption([f"{name}:0.5"]))
    torch.testing.assert_close(target, 2 * noisy)
    changed = ((noisy - x).abs().flatten(1).amax(dim=1) > 1e-3 * x.flatten(1).amax(dim=1)).float().mean()
    assert float(changed) == pytest.approx(0.75 if name == "drop" else 0.5, abs=0.12)


def test_a_shift_moves_by_half_at_most_and_brings_in_zeros() -> None:
    x = pulses()
    moved = draw("shift:1", x)
    heights, places = moved[:, 0].max(dim=1)
    assert set(heights.tolist()) <= {0.0, *x[:, 0].max(dim=1).values.tolist()}  # a pulse may leave at an edge
    assert bool((moved.abs().flatten(1).count_nonzero(dim=1) <= 2).all())
    assert places.min() < 6
    assert places.max() > 53
    assert len(set(places.tolist())) > 40


def test_a_stretch_keeps_the_middle_and_moves_the_rest_by_up_to_e_to_the_half() -> None:
    x = torch.zeros(300, 1, 400)
    x[:, 0, 200], x[:, 0, 298:303] = 1.0, 2.0  # 100 points behind the middle
    stretched = draw("stretch:1", x)[:, 0]
    assert bool((stretched[:, 200] == 1).all())
    moved = (stretched * (torch.arange(400) > 220)).argmax(dim=1) - 200
    assert 60 <= int(moved.min()) < 66
    assert 158 < int(moved.max()) <= 168


def test_a_colour_changes_the_spectrum_by_a_power_and_keeps_the_sum_of_squares() -> None:
    x = torch.randn(200, 1, 512, generator=torch.Generator().manual_seed(3))
    coloured = draw("colour:1", x)
    torch.testing.assert_close(coloured.norm(dim=2), x.norm(dim=2))
    gain = (torch.fft.rfft(coloured) / torch.fft.rfft(x)).abs()[:, 0]
    slope = torch.log(gain[:, 255] / gain[:, 15]) / torch.log(torch.tensor(256 / 16))
    middle = torch.log(gain[:, 63] / gain[:, 15]) / torch.log(torch.tensor(64 / 16))
    torch.testing.assert_close(slope, middle, atol=1e-3, rtol=0)
    assert -0.701 < float(slope.min()) < -0.6
    assert 0.6 < float(slope.max()) < 0.701


def test_a_response_is_smooth_and_keeps_the_sum_of_squares() -> None:
    x = torch.zeros(300, 1, 512)
    x[:, :, 100] = 1.0
    answered = draw("response:1", x)
    torch.testing.assert_close(answered.square().sum(dim=(1, 2)), torch.ones(300))
    gain = torch.fft.rfft(answered)[:, 0].abs().log()
    assert float((gain - gain.mean(dim=1, keepdim=True)).std()) == pytest.approx(0.6, abs=0.15)
    assert float((gain[:, 101:] - gain[:, 100:-1]).abs().max()) < 0.05


def test_an_event_of_another_sample_is_added_weaker() -> None:
    x = torch.rand(100, 1, 50, generator=torch.Generator().manual_seed(1))
    added = draw("events:1", x) - x
    size = added.flatten(1).abs().amax(dim=1)
    assert float(size.min()) > 0.1
    assert float(size.max()) <= 1.0


def test_without_a_signal_the_noise_of_a_pair_is_left() -> None:
    x, noise = (torch.randn(200, 2, 30, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    noisy, target = both(x + noise, x, parse_corruption(["silence:0.3"]))
    silent = target.flatten(1).abs().amax(dim=1) == 0
    assert float(silent.float().mean()) == pytest.approx(0.3, abs=0.1)
    torch.testing.assert_close(noisy[silent], noise[silent])
    torch.testing.assert_close(noisy[~silent], (x + noise)[~silent])


def test_a_silent_channel_is_never_the_only_one() -> None:
    kept = draw("drop:0.9", torch.ones(300, 3, 5)).amax(dim=2)
    assert bool((kept.sum(dim=1) >= 1).all())
    assert float((kept == 0).float().mean()) == pytest.approx(0.9 - 0.9**3 / 3, abs=0.05)


def decibel(signal: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    return 10 * torch.log10(signal.square().mean(dim=(1, 2)) / noise.square().mean(dim=(1, 2)))


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e6])
def test_records_are_added_at_the_drawn_ratio_whatever_their_unit(unit: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "n+1.npz", noise=(unit * rng.normal(3, 1, (7, 90))).astype(np.float64))
    x = (
        torch.randn(400, 1, 60, generator=torch.Generator().manual_seed(0))
        * 10 ** torch.linspace(-3, 3, 400)[:, None, None]
    )
    text = f"records:{tmp_path / 'n+1.npz'}:noise@-5..15"
    step = parse_corruption([f"gaussian:0+{text}"], (1, 60))
    noisy, target = both(x, x, step)
    assert target is x
    ratio = decibel(x, noisy - x)
    assert -5.01 <= float(ratio.min()) < -4
    assert 14 < float(ratio.max()) <= 15.01
    assert float(ratio.mean()) == pytest.approx(5, abs=1)
    again, _ = both(x, x, step)
    assert torch.equal(noisy, again)


def test_records_begin_anywhere_and_those_held_out_are_never_trained_on() -> None:
    periods = torch.arange(1.0, 11)  # in a sample, by which a record is known
    noise = torch.sin(2 * torch.pi * periods[:, None] * torch.arange(120) / 40)
    corruption = ((Records(noise[:, None], (0.0, 0.0)),),)
    seen = []
    for part in split(corruption):
        x = torch.ones(300, 1, 40)
        added = both(x, x, part)[0][:, 0] - 1
        spectrum = torch.fft.rfft(added)
        drawn = spectrum.abs().argmax(dim=1)
        seen.append(set(drawn.tolist()))
        phases = spectrum.gather(1, drawn[:, None]).angle()
        assert len(set(phases.round(decimals=2).flatten().tolist())) > 10
    assert seen == [set(range(1, 9)), {9, 10}]


def test_a_scale_of_its_own_is_that_of_what_the_model_sees() -> None:
    clean = torch.randn(20, 2, 50, generator=torch.Generator().manual_seed(0))
    batch = Batch(clean, clean, torch.full((20, 2, 1), 7.0), torch.full((20, 1, 1), 3.0))
    corruption = ((Records(torch.randn(5, 2, 80), (-20.0, -20.0)),),)
    got = corrupt(batch, corruption, torch.Generator().manual_seed(0), own_scale=True)
    torch.testing.assert_close(got.x.flatten(1).std(dim=1, correction=0), torch.ones(20))
    torch.testing.assert_close(got.x.mean(dim=2), torch.zeros(20, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(got.target * got.scale + got.offset, clean * 3 + 7, atol=1e-3, rtol=1e-4)


def test_records_that_do_not_fit_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "short.npy", np.zeros((4, 30)) + np.arange(30))
    with pytest.raises(AekitError, match="a record of noise has shape 1x30, the samples 1x60; give noise"):
        parse_corruption([f"records:{tmp_path / 'short.npy'}"], (1, 60))
    with pytest.raises(AekitError, match="not_there"):
        parse_corruption([f"records:{tmp_path / 'not_there.npy'}"], (1, 60))


def test_picks_move_with_their_sample() -> None:
    x = pulses()
    picks = (x > 0).float().amax(dim=1, keepdim=True).expand(-1, 3, -1)
    batch = Batch(x, x, torch.zeros(1), torch.ones(1), picks)
    chain = parse_corruption(["shift:0.9+events:0.5+reverse:0.5+drop:0.3+gaussian:0.1"])
    got = corrupt(batch, chain, torch.Generator().manual_seed(0))
    assert got.picks is not None
    where = (got.target > 0).float().amax(dim=1, keepdim=True)
    assert torch.equal(got.picks, where.expand(-1, 3, -1))
    assert set(got.picks.sum(dim=2).flatten().tolist()) == {0.0, 1.0, 2.0}


def test_a_chain_names_the_word_that_is_not_known() -> None:
    with pytest.raises(UsageError, match="no corruption is called 'wind'"):
        parse_corruption(["gaussian:0.2+wind:3"])


def test_evaluation_sees_the_clean_samples_as_they_are() -> None:
    train, judged = split(parse_corruption(["shift:0.9+gaussian:0.2+drop:0.5", "shift:0.9"]))
    assert [len(chain) for chain in train] == [3, 1]
    assert [len(chain) for chain in judged] == [1, 0]
    assert split(parse_corruption(["shift:0.9+stretch:0.5"]))[1] == ()


@pytest.mark.parametrize(
    "text",
    [
        "records:",
        "records:a.npy@1..0",
        "records:a.npy@1.2.3..4",
        "shift:2",
        "drop:-1",
        "",
        "salt:0.1",
        "gaussian",
        "gaussian:x",
        "gaussian:-1",
        "gaussian:nan",
        "dropout:1.5",
    ],
)
def test_words_not_understood_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--corrupt"):
        parse_corruption([text])
