"""The generators keep the promises of their docstrings, and give the same rows whoever asks for however many."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from aekit.records import Record
from aekit.synthetic import radio as radio_module
from aekit.synthetic.heartbeats import heartbeats
from aekit.synthetic.radio import CARRIERS, NOISES, mean_pulse, pulse_positions, radio

Floats = NDArray[np.float64]
GENERATORS: dict[str, Callable[[str, int, int], Record]] = {
    "radio": lambda part, seed, count: radio(part, seed, count, "original"),
    "heartbeats": heartbeats,
}


def rows(record: Record | None) -> Floats:
    assert record is not None
    return np.array(record.read(0, len(record)), np.float64)


def pair(noise: str, count: int = 2000) -> tuple[Floats, Floats]:
    """Signals and noise of the first rows."""
    record = radio("test", 3, count, noise)
    return rows(record.target), rows(record) - rows(record.target)


def spectrum(x: Floats) -> tuple[Floats, Floats]:
    """Frequency in MHz and mean power."""
    power = np.abs(np.fft.rfft(x * np.hanning(x.shape[1]))) ** 2
    return np.fft.rfftfreq(x.shape[1], 1 / 180), power.mean(axis=0)


@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS)
def test_seed_and_part_choose_the_rows(make):
    first = rows(make("train", 7, 20))
    assert first.dtype == np.float64
    assert np.isfinite(first).all()
    assert make("train", 7, 20).dtype == np.float32
    np.testing.assert_array_equal(first, rows(make("train", 7, 20)))
    assert not np.isclose(first, rows(make("test", 7, 20))).all(axis=1).any()
    assert not np.isclose(first, rows(make("train", 8, 20))).all(axis=1).any()


@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS)
def test_a_row_is_the_same_whatever_the_count(make):
    long = make("train", 1, 1203)
    for count in (1, 499, 500, 507):
        short = make("train", 1, count)
        np.testing.assert_array_equal(rows(short), rows(long)[:count])
        if long.labels is not None:
            np.testing.assert_array_equal(short.labels, long.labels[:count])
    assert len(np.unique(rows(long), axis=0)) == 1203


def test_rows_are_the_same_on_every_machine():
    """Values of the first release: whoever changes a generator changes published figures with it."""
    record = radio("train", 0, 3, "original")
    np.testing.assert_allclose(rows(record)[:, 250], [0.03462617, 0.2445908, -0.1317381], rtol=1e-4)
    np.testing.assert_allclose(rows(heartbeats("train", 0, 3))[:, 50], [-1.885264, 0.6879323, 1.65966], rtol=1e-4)


@pytest.mark.parametrize("noise", NOISES)
def test_radio_keeps_snr_level_and_share_of_pulses(noise):
    signals, background = pair(noise)
    rms = np.sqrt((background**2).mean(axis=1))
    present = pulse_positions(signals) >= 0
    np.testing.assert_allclose(np.abs(signals).max(axis=1)[present] / rms[present], 2, rtol=1e-5)
    assert not signals[~present].any()
    assert 0.87 < present.mean() < 0.93
    assert rms.min() == pytest.approx(0.085, rel=1e-3)
    assert rms.max() == pytest.approx(0.115, rel=1e-3)
    assert rms.mean() == pytest.approx(0.1, rel=0.02)


def test_the_three_noises_hide_the_same_pulses():
    original, uniform, cosine = (pair(noise, 600)[0] for noise in NOISES)
    np.testing.assert_allclose(original, uniform, atol=1e-6)
    np.testing.assert_allclose(original, cosine, atol=1e-6)


def test_pulses_lie_in_the_band_and_have_the_mean_shape():
    signals, _ = pair("uniform")
    positions = pulse_positions(signals)
    signals, positions = signals[positions >= 0], positions[positions >= 0]
    power = np.abs(np.fft.rfft(signals)) ** 2
    frequency = np.fft.rfftfreq(500, 1 / 180)
    inside = (frequency >= 28) & (frequency <= 82)
    assert (power[:, inside].sum(axis=1) / power.sum(axis=1)).min() > 0.9
    assert (signals[np.arange(len(signals)), positions] > 0).mean() == pytest.approx(0.5, abs=0.05)
    assert positions.min() >= 20
    assert positions.max() <= 460
    # at the best of fine lags each pulse is the mean one but for its slope
    cross = np.fft.irfft(np.fft.rfft(signals, 1024) * np.fft.rfft(mean_pulse(), 1024).conj(), 1024 * 8) * 8
    norms = np.linalg.norm(signals, axis=1) * np.linalg.norm(mean_pulse())
    assert (np.abs(cross).max(axis=1) / norms).min() > 0.95


def test_pulses_fall_towards_high_frequency_as_measured():
    """Freed of antenna and filter, the mean field falls as exp(-0.017 f / MHz)."""
    signals, _ = pair("uniform")
    frequency = np.fft.rfftfreq(500, 1 / 180e6)
    inside = (frequency > 32e6) & (frequency < 78e6)
    response = np.abs(radio_module._antenna_and_filter(frequency[inside]))
    field = np.abs(np.fft.rfft(signals[pulse_positions(signals) >= 0]))[:, inside] / response
    slope = -np.polyfit(frequency[inside] / 1e6, np.log(field).T, 1)[0]
    assert slope.mean() == pytest.approx(0.017, abs=0.0005)
    assert slope.std() == pytest.approx(0.004, abs=0.0005)


def test_original_noise_is_the_galaxy_in_the_band_with_four_carriers():
    _, background = pair("original")
    frequency, power = spectrum(background)
    assert power[(frequency >= 28) & (frequency <= 82)].sum() / power.sum() > 0.93
    near = np.abs(frequency[:, None] - np.divide(CARRIERS, 1e6)).min(axis=1) < 1
    assert power[near].sum() / power.sum() == pytest.approx(0.75, abs=0.04)
    # kT of sky and receiver, each at two frequencies where the filter is open
    sky = [180 * (mhz / 180) ** -2.55 + 290 for mhz in (40, 54)]
    measured = [power[np.abs(frequency - mhz) < 2].mean() for mhz in (40, 54)]
    assert measured[0] / measured[1] == pytest.approx(sky[0] / sky[1], rel=0.1)


def test_uniform_noise_is_white_and_flat_in_value():
    _, background = pair("uniform")
    scaled = background / np.sqrt((background**2).mean(axis=1, keepdims=True))
    assert np.abs(scaled).max() < 1.95  # sqrt(3), but for each row's own RMS
    assert (scaled**4).mean() == pytest.approx(1.8, abs=0.02)
    frequency, power = spectrum(background)
    for low in range(5, 85, 10):
        assert power[(frequency >= low) & (frequency < low + 10)].mean() == pytest.approx(power.mean(), rel=0.03)


def test_cosine_noise_is_one_tone_per_row():
    _, background = pair("cosine")
    power = np.abs(np.fft.rfft(background * np.hanning(500))) ** 2
    peak = power.argmax(axis=1)
    near = np.abs(np.arange(power.shape[1]) - peak[:, None]) <= 3
    assert ((power * near).sum(axis=1) / power.sum(axis=1)).min() > 0.99
    tones = np.fft.rfftfreq(500, 1 / 180)[peak]
    assert tones.min() == pytest.approx(30, abs=0.5)
    assert tones.max() == pytest.approx(80, abs=0.5)
    assert np.histogram(tones, 5)[0].min() > 300


def test_pulse_positions_are_those_of_the_largest_value():
    signals = np.zeros((3, 500))
    signals[0, 100], signals[0, 101] = -2, 1
    signals[2, 0] = 0.5
    assert pulse_positions(signals).tolist() == [100, -1, 0]


def test_heartbeats_come_in_ecg5000s_mix():
    record = heartbeats("train", 0, 20_000)
    labels = np.asarray(record.labels)
    assert labels.dtype == np.int64
    share = np.divide((2919, 1767, 96, 194, 24), 5000)
    found = np.bincount(labels, minlength=6)
    assert found[0] == 0
    assert (np.abs(found[1:] / 20_000 - share) < 4 * np.sqrt(share * (1 - share) / 20_000)).all()
    assert record.sampling_rate == 250
    assert record.shape == (20_000, 140)


def test_heartbeats_have_the_marks_of_their_classes():
    record = heartbeats("train", 0, 20_000)
    time_s = np.arange(140) / 250
    means = {k: rows(record)[record.labels == k].mean(axis=0) for k in range(1, 6)}

    def qrs_seconds(beat: Floats, height: float) -> float:
        """How long the deflection around the largest one stays on its side, above a part of its height."""
        peak = np.abs(beat).argmax()
        below = np.flatnonzero(beat * np.sign(beat[peak]) < height * abs(beat[peak]))
        return float((below[below > peak].min() - below[below < peak].max(initial=-1)) / 250)

    def at(beat: Floats, seconds: float) -> float:
        return float(beat[np.abs(time_s - 0.2 - seconds).argmin()])

    for narrow in (1, 4):
        assert time_s[means[narrow].argmax()] == pytest.approx(0.2, abs=0.01)
        assert qrs_seconds(means[narrow], 0.1) < 0.12
        assert qrs_seconds(means[narrow], 0.5) < 0.05
        assert at(means[narrow], 0.19) > 0.25  # T, the way of R
    for wide, way in ((2, 1), (3, -1)):
        assert qrs_seconds(means[wide], 0.1) > 0.12
        assert qrs_seconds(means[wide], 0.5) > 0.08
        assert way * at(means[wide], 0.22) < -0.25  # T, against R
        assert np.abs(means[wide]).max() > np.abs(means[1]).max()  # tall
    assert at(means[1], -0.13) > 0.15  # P
    assert at(means[4], -0.09) < -0.05  # P inverted and late, after the T before
    assert at(means[4], -0.2) > 0.15
    assert abs(at(means[3], -0.13)) < 0.05  # no P
    assert at(means[2], -0.13) > 0.25  # on the T before
    fusions = rows(record)[record.labels == 5]
    assert fusions.std(axis=0).max() > 1.5 * rows(record)[record.labels == 3].std(axis=0)[:40].max()


def test_heartbeats_differ_by_class_more_than_within():
    train, test = heartbeats("train", 0, 5000), heartbeats("test", 0, 5000)
    means = np.stack([rows(train)[train.labels == k].mean(axis=0) for k in range(1, 6)])
    nearest = ((rows(test)[:, None] - means) ** 2).sum(axis=2).argmin(axis=1) + 1
    assert (nearest == test.labels).mean() > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS)
def test_at_least_20000_rows_a_second(make):
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        make("train", 0, 10_000)
        best = max(best, 10_000 / (time.perf_counter() - start))
    assert best > 20_000
