"""Windows of long rows and their overlap, rows too short, and other sampling rates."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aekit.batches import read_all
from aekit.records import record_of
from aekit.windows import Windows, fits, overlap_weight, ratio, tiles, window_starts, windows_of


@given(length=st.integers(1, 300), window=st.integers(1, 60), hop=st.integers(1, 60))
@settings(max_examples=100, deadline=None)
def test_windows_cover_the_record_and_stay_inside(length: int, window: int, hop: int) -> None:
    window, hop = min(window, length), min(hop, window, length)
    starts = window_starts(length, window, hop)
    covered = np.zeros(length, bool)
    for start in starts:
        assert 0 <= start <= length - window
        covered[start : start + window] = True
    assert covered.all()
    assert starts == sorted(set(starts))


@given(size=st.tuples(st.integers(4, 40), st.integers(4, 40)), window=st.tuples(st.integers(1, 12), st.integers(1, 12)))
@settings(max_examples=60, deadline=None)
def test_weighted_overlap_gives_back_what_was_cut(size: tuple[int, int], window: tuple[int, int]) -> None:
    window = (min(size[0], window[0]), min(size[1], window[1]))
    picture = np.random.default_rng(0).normal(size=size)
    weight, result, total = overlap_weight(window), np.zeros(size), np.zeros(size)
    for place in tiles(size, window, overlap=True):
        result[place] += picture[place] * weight
        total[place] += weight
    assert total.min() > 0
    np.testing.assert_allclose(result / total, picture, atol=1e-12)


def test_long_rows_become_windows_with_their_labels_and_targets() -> None:
    array = np.arange(40.0).reshape(2, 20)
    record = record_of(array, labels=np.array(["a", "b"]))
    cut = windows_of(record, (1, 6))
    assert cut.sample_shape == (1, 6)
    np.testing.assert_array_equal(read_all(cut)[:4, 0, 0], [0, 6, 12, 14])
    assert list(cut.labels if cut.labels is not None else []) == ["a"] * 4 + ["b"] * 4


def test_only_samples_with_the_same_channels_and_no_shorter_side_fit() -> None:
    assert fits((1, 30), (1, 30))
    assert fits((1, 31), (1, 30))
    assert not fits((1, 29), (1, 30))
    assert not fits((2, 30), (1, 30))
    assert not fits((1, 30, 30), (1, 30))


def test_rates_that_are_nearly_equal_or_not_told_change_nothing() -> None:
    assert ratio(100.0, 100.00001) == ratio(None, 20.0) == ratio(20.0, None) == 1
    assert ratio(100.0, 40.0) == Fraction(5, 2)
    assert ratio(100.0, 31.25) == Fraction(16, 5)


@pytest.mark.parametrize("rate", [Fraction(5, 2), Fraction(1, 2), Fraction(100, 31)])
def test_what_lies_below_both_nyquist_frequencies_survives_another_rate(rate: Fraction) -> None:
    t = np.arange(4000)
    rows = 1e6 + np.stack([np.sin(0.02 * t), np.cos(0.3 * t)])[None]  # of 2 channels, far from zero
    cut = Windows.over((2, 4000), (2, 500), False, True, rate)
    samples = cut.samples(rows)
    assert samples.shape == (1, 2, *cut.size)
    assert cut.size == (int(np.ceil(4000 * rate)),)
    np.testing.assert_allclose(
        samples[0, 1, 500:520], 1e6 + np.cos(0.3 * np.arange(500, 520) / float(rate)), rtol=0, atol=0.01
    )
    back = cut.rows(samples, 4000)
    assert back.shape == rows.shape
    np.testing.assert_allclose(back[..., 50:-50], rows[..., 50:-50], rtol=0, atol=0.01)
    np.testing.assert_allclose(back, rows, rtol=0, atol=0.2)  # the filter sees no further than the ends


@given(points=st.integers(2, 40), window=st.integers(2, 100))
@settings(max_examples=50, deadline=None)
def test_short_rows_are_filled_to_one_sample_and_cut_again(points: int, window: int) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 1, points)).astype(np.float32)
    cut = Windows.over((1, points), (1, window), False, True, Fraction(1))
    samples = cut.samples(rows)
    assert samples.shape[-1] == max(points, window)
    mirrored = np.concatenate([rows, rows[..., -2::-1]], axis=-1)[..., :window]
    np.testing.assert_array_equal(samples[..., : mirrored.shape[-1]], mirrored[..., : samples.shape[-1]])
    np.testing.assert_array_equal(cut.rows(samples, points), rows)


def test_curves_come_back_on_straight_lines() -> None:
    cut = Windows.over((1, 40), (1, 10), False, True, Fraction(1, 2))
    assert cut.size == (20,)
    back = cut.curves(np.arange(20.0)[None], 40)
    np.testing.assert_allclose(back[0], np.minimum(np.arange(40) / 2, 19))
    assert Windows.over((1, 40), (1, 10), False, True, Fraction(1)).curves(np.ones((3, 40)), 40).shape == (3, 40)


@given(st.floats(0.01, 1e9), st.floats(0.01, 1e9))
def test_ratios_of_rates_are_right_to_a_thousandth(wanted: float, given_rate: float) -> None:
    assert float(ratio(wanted, given_rate)) == pytest.approx(wanted / given_rate, rel=1.1e-3)
