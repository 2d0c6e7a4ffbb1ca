"""The seismic generator keeps the promises of its docstring, measured from its records."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import coherence, welch

from aekit.records import Record
from aekit.synthetic import seismic as module
from aekit.synthetic.seismic import Seismograms, seismic, seismograms

Floats = NDArray[np.float64]

# Peterson 1993, tables 3 and 4: below each period in s the model is A + B log10(period), in dB of (m/s^2)^2/Hz
LOW_PERIOD = [0.1, 0.17, 0.4, 0.8, 1.24, 2.4, 4.3, 5, 6, 10, 12, 15.6, 21.9]
LOW_A = [-162.36, -166.7, -170, -166.4, -168.6, -159.98, -141.1, -71.36, -97.26, -132.18, -205.27, -37.65, -114.37]
LOW_B = [5.64, 0, -8.3, 28.9, 52.48, 29.81, 0, -99.77, -66.49, -31.57, 36.16, -104.33, -47.1]
HIGH_PERIOD = [0.1, 0.22, 0.32, 0.8, 3.8, 4.6, 6.3, 7.9, 15.4, 20]
HIGH_A = [-108.73, -150.34, -122.31, -116.85, -108.48, -74.66, 0.66, -93.37, 73.54, -151.52]
HIGH_B = [-17.23, -80.5, -23.87, 32.51, 18.08, -32.95, -127.18, -22.42, -162.98, 10.01]


@pytest.fixture(scope="module")
def made() -> Seismograms:
    return seismograms("test", 3, 400)


@pytest.fixture(scope="module")
def quakes(made: Seismograms) -> Seismograms:
    """The records with an earthquake whose S is inside."""
    return Seismograms(*(values[made.s_index >= 0] for values in made))


def rows(record: Record | None) -> NDArray[np.float32]:
    assert record is not None
    return np.asarray(record.read(0, len(record)), np.float32)


def cut(x: Floats, first: NDArray[np.int64], length: int) -> Floats:
    """`length` samples of each row (N, 3, T) from `first` (N,) on, zeros beyond its ends."""
    padded = np.pad(x, ((0, 0), (0, 0), (length, length)))
    places = first[:, None, None] + length + np.arange(length)
    return np.take_along_axis(padded, np.broadcast_to(places, (*x.shape[:2], length)), axis=2).astype(np.float64)


def rms(x: Floats) -> Floats:
    return np.sqrt((x**2).mean(axis=-1))


def test_seed_and_part_choose_the_rows():
    first = seismograms("train", 7, 20, 500)
    for values, again in zip(first, seismograms("train", 7, 20, 500), strict=True):
        np.testing.assert_array_equal(values, again)
    for other in (seismograms("test", 7, 20, 500), seismograms("train", 8, 20, 500)):
        assert not np.isclose(first.noise, other.noise, atol=0).all(axis=(1, 2)).any()
    assert first.clean.dtype == first.noise.dtype == np.float32
    assert first.p_index.dtype == first.s_index.dtype == np.int64


def test_a_row_is_the_same_whatever_the_count():
    long = seismograms("train", 1, 120, 500)
    for count in (1, 49, 50, 107):
        for few, many in zip(seismograms("train", 1, count, 500), long, strict=True):
            np.testing.assert_array_equal(few, many[:count])
    assert len(np.unique(long.noise[:, 0], axis=0)) == 120


def test_rows_are_the_same_on_every_machine():
    """Values of the first release: whoever changes the generator changes published figures with it."""
    made = seismograms("train", 0, 3)
    np.testing.assert_allclose(made.noise[:, 1, 3000], [2.6821423e-09, -3.4432354e-08, 1.6022319e-06], rtol=1e-3)
    peaks = np.abs(made.clean).max(axis=(1, 2))
    np.testing.assert_allclose(peaks, [6.2506723e-07, 1.1624732e-06, 8.1167289e-04], rtol=1e-3)
    assert made.p_index.tolist() == [3160, 1619, 2781]
    assert made.s_index.tolist() == [3672, 1766, 3212]


def test_the_record_is_clean_plus_noise_with_labels():
    record, made = seismic("train", 0, 12), seismograms("train", 0, 12)
    assert record.shape == record.target.shape == (12, 3, 6000)
    assert record.sample_shape == (3, 6000)
    assert record.sampling_rate == 100
    assert record.dtype == np.float32
    np.testing.assert_array_equal(rows(record.target), made.clean)
    np.testing.assert_array_equal(rows(record), made.clean + made.noise)
    assert record.labels.tolist() == ["noise" if p < 0 else "earthquake" for p in made.p_index]
    assert set(record.labels) == {"noise", "earthquake"}


def test_four_in_five_records_hold_an_earthquake_of_the_drawn_snr(made):
    present = made.p_index >= 0
    assert present.mean() == pytest.approx(0.8, abs=0.06)
    assert not made.clean[~present].any()
    signal, noise = (np.square(x[present].astype(np.float64)).mean(axis=(1, 2)) for x in (made.clean, made.noise))
    np.testing.assert_allclose(10 * np.log10(signal / noise), made.snr_db[present], atol=1e-3)
    assert np.histogram(made.snr_db[present], [-10, 0, 10, 20, 30])[0].min() > 0.18 * present.sum()
    assert np.isnan([made.snr_db[~present], made.magnitude[~present], made.distance[~present]]).all()
    assert (made.s_index[~present] == -1).all()
    assert -1 < made.magnitude[present].min() < 1.5
    assert 4 < made.magnitude[present].max() < 6.5
    assert np.ptp(np.log10(noise)) > 4  # quiet and loud stations


def test_picks_lie_in_the_record_and_s_waits_for_p_by_distance(quakes):
    delay = (quakes.s_index - quakes.p_index) / 100 / quakes.distance
    assert delay.mean() == pytest.approx(0.73 / 6, rel=0.02)  # (vp/vs - 1) / vp
    assert delay.std() < 0.1 * delay.mean()
    assert quakes.p_index.min() >= 300
    assert quakes.s_index.max() < 6000
    assert quakes.distance.min() > 2
    assert quakes.distance.max() < 182


def test_s_may_come_after_the_end():
    made = seismograms("train", 0, 100, 1500)
    late = (made.s_index < 0) & (made.p_index >= 0)
    assert 0.1 < late.mean() < 0.6
    assert made.distance[late].min() > 25
    assert np.abs(made.clean[late]).max(axis=(1, 2)).min() > 0


def test_nothing_comes_before_p_and_p_begins_softly(quakes):
    before = np.arange(6000) < quakes.p_index[:, None]
    assert not np.where(before[:, None], quakes.clean, 0).any()
    first = np.abs(cut(quakes.clean, quakes.p_index, 100))
    assert (first.max(axis=(1, 2)) > 0).all()
    # a signal that began earlier and was cut off would be as large at the cut as after it
    assert np.median(first[:, :, 0].max(axis=1) / first.max(axis=(1, 2))) < 0.3


def aic_pick(x: Floats) -> int:
    """Where x (T,) changes from one noise to another: the least of Maeda 1985's AIC."""
    k = np.arange(10, len(x) - 10)
    total = np.cumsum(x**2)
    before, after = total[k - 1] / k, (total[-1] - total[k - 1]) / (len(x) - k)
    return int(k[np.argmin(k * np.log(before) + (len(x) - k) * np.log(after))])


def test_picks_are_where_an_onset_detector_finds_them(quakes):
    """Within 1 % of noise; S where P is not in the window."""
    rng = np.random.default_rng(0)
    apart = quakes.s_index - quakes.p_index > 210
    for index, components in ((quakes.p_index, [0]), (quakes.s_index, [1, 2])):
        window = cut(quakes.clean, index - 200, 300)[apart][:, components]
        window += 0.01 * np.abs(window).max(axis=(1, 2), keepdims=True) * rng.standard_normal(window.shape)
        off = np.abs([min((aic_pick(x) - 200 for x in row), key=abs) for row in window])
        assert (off <= 3).mean() > 0.9


def with_all(sources: module._Sources, **values: float) -> module._Sources:
    """The sources with these values in all of them."""
    return sources._replace(**{name: np.full_like(sources.q0, value) for name, value in values.items()})


def test_source_spectra_are_brunes():
    """Freed of path and site: flat and as M0 below the corner, half as much at it, falling as f^-2 beyond."""
    sources = module._draw(1, np.random.default_rng(0))
    sources = with_all(sources, q0=1e9, kappa=0, reverberation=0)
    f = np.float32([0.001, 1, 2, 4, 8])
    for magnitude in (2.0, 3.0, 4.0):
        moment = 10 ** (1.5 * magnitude + 9.05)
        fc = 2.34 / (2 * np.pi) * 1e3 * sources.speed[0, 1] / np.cbrt(7 * moment / 16 / sources.stress_drop[0])
        log = module._log_displacement(sources, np.float32([magnitude]), f)[0] - module._log_lowpass(f)
        np.testing.assert_allclose(np.exp(log[1] - log[1, 0]), 1 / (1 + (f / fc) ** 2), rtol=0.01)
        np.testing.assert_allclose(np.exp(log[0] - log[0, 0]), 1 / (1 + (f / fc / 1.5) ** 2), rtol=0.01)
        far = 1e3 * sources.distance[0] * 4 * np.pi * 2700 * (1e3 * sources.speed[0]) ** 3
        np.testing.assert_allclose(np.exp(log[:, 0]), 2 * np.sqrt([4 / 15, 0.4]) * moment / far, rtol=1e-3)


def centroid(x: Floats) -> Floats:
    """Mean frequency of the amplitude spectra of the windows (N, 3, T), (N,)."""
    amplitude = np.abs(np.fft.rfft(x * np.hanning(x.shape[2]))).mean(axis=1)
    return (amplitude * np.fft.rfftfreq(x.shape[2], 0.01)).sum(axis=1) / amplitude.sum(axis=1)


def test_larger_earthquakes_are_lower_in_frequency_and_distance_takes_the_highs(quakes):
    middle = centroid(cut(quakes.clean, quakes.s_index, 512))
    near = quakes.distance < 40
    small, large = near & (quakes.magnitude < 1.5), near & (quakes.magnitude > 2.7)
    assert min(small.sum(), large.sum()) > 10
    assert middle[small].mean() > 1.4 * middle[large].mean()
    alike = np.abs(quakes.magnitude - 2.5) < 0.5
    assert middle[alike & (quakes.distance < 20)].mean() > 1.15 * middle[alike & (quakes.distance > 60)].mean()


def test_p_is_on_the_vertical_and_s_on_the_horizontals(quakes):
    """And S is the stronger: by about 3 on the horizontals of 115 real records, P's peak 0.4 of S's."""
    length = np.minimum(quakes.s_index - quakes.p_index, 500)
    inside = (np.arange(500) < length[:, None])[:, None]
    p = np.abs(cut(quakes.clean, quakes.p_index, 500) * inside).max(axis=2)
    s = np.abs(cut(quakes.clean, quakes.s_index, 1000)).max(axis=2)
    assert np.median(p[:, 0] / p[:, 1:].max(axis=1)) > 1.2
    assert np.median(s[:, 1:].min(axis=1) / s[:, 0]) > 1.2
    assert (np.abs(np.median(s[:, 1:] / p[:, 1:], axis=0) - 3.2) < 0.8).all()
    assert np.median(p.max(axis=1) / s.max(axis=1)) == pytest.approx(0.4, abs=0.08)


def test_coda_decays_as_in_real_records(quakes):
    """Median RMS 5, 10, 20 and 28 s after S over that at S, as in 571 records of STEAD, within a factor of 1.6."""
    whole = quakes.s_index < 3000
    clean, onset = quakes.clean[whole], quakes.s_index[whole]
    levels = [rms(cut(clean, onset + 100 * s, 100)).mean(axis=1) for s in (0, 5, 10, 20, 28)]
    ratio = np.median(np.divide(levels, levels[0]), axis=1)
    assert np.abs(np.log(ratio[1:] / [0.202, 0.073, 0.027, 0.0148])).max() < np.log(1.6)


def test_late_coda_is_aki_and_chouets():
    sources = module._draw(20, np.random.default_rng(0))
    sources = with_all(sources, distance=6, q0=100)._replace(travel=np.float32([[1, 1.73]] * 20))
    coda = module._coda(sources, np.zeros((20, 2), np.int64), 6000)[:, 1]  # of S
    t = 1.73 + np.array([2000, 3000, 5900]) / 100
    for band, f in enumerate(module.CODA_BANDS):
        expected = np.exp(-np.pi * f * t / (100 * (1 + f**2) ** 0.35)) / t
        got = coda[:, band, [2000, 3000, 5900]]
        np.testing.assert_allclose(got / got[:, :1], np.tile(expected / expected[0], (20, 1)), rtol=0.01)


def test_background_lies_between_petersons_models():
    noise = module._background(np.zeros(200, np.int64), 6000, np.random.default_rng(0))
    frequency, power = welch(noise, 100, nperseg=4096, axis=2)
    power *= (2 * np.pi * frequency) ** 2
    inside = []
    for period in (0.1, 0.2, 0.5, 1, 2, 3, 5, 8):
        near = np.abs(np.log(np.maximum(frequency, 1e-3) * period)) < 0.1
        level = 10 * np.log10(power[:, :, near].mean(axis=2))
        low, high = (
            a[i] + b[i] * np.log10(period)
            for p, a, b in ((LOW_PERIOD, LOW_A, LOW_B), (HIGH_PERIOD, HIGH_A, HIGH_B))
            for i in [np.searchsorted(p, period, "right") - 1]
        )
        inside.append(((level > low - 3) & (level < high + 3)).mean())
        assert low + 10 < np.median(level) < high - 10
    assert min(inside) > 0.95
    microseism, quiet = (np.abs(frequency - f).argmin() for f in (0.2, 1))
    assert np.median(power[:, :, microseism] / power[:, :, quiet]) > 10


def test_components_share_a_part_of_the_background():
    noise = module._background(np.zeros(100, np.int64), 6000, np.random.default_rng(0))
    for other in (1, 2):
        frequency, shared = coherence(noise[:, 0], noise[:, other], 100, nperseg=512)
        assert 0.1 < shared[:, (frequency > 1) & (frequency < 30)].mean() < 0.3


def test_short_period_sensors_do_not_see_the_microseism():
    broad, short = (module._background(np.full(100, k), 6000, np.random.default_rng(0)) for k in (0, 1))
    frequency, power = welch(np.stack([broad, short]), 100, nperseg=2048)
    ratio = np.sqrt(np.median(power[1] / power[0], axis=(0, 1)))
    for f, expected in ((5, 1), (1, 0.71), (0.2, 0.04)):
        assert ratio[np.abs(frequency - f).argmin()] == pytest.approx(expected, rel=0.1)


def test_culture_has_the_marks_of_its_kinds():
    rng, time = np.random.default_rng(0), np.arange(6000) / 100
    frequency = np.fft.rfftfreq(6000, 0.01)

    def power(x: Floats) -> Floats:
        spectra = (np.abs(np.fft.rfft(x * np.hanning(6000))) ** 2).sum(axis=1)
        return spectra / spectra.sum(axis=1, keepdims=True)

    assert np.sort(power(module._machine(30, time, rng)))[:, -15:].sum(axis=1).min() > 0.9  # three lines
    turbine = power(module._turbine(30, time, rng))
    assert turbine[:, frequency < 13].sum(axis=1).min() > 0.99
    assert np.sort(turbine)[:, -120:].sum(axis=1).min() > 0.6  # lines
    assert power(module._drift(30, time, rng))[:, frequency < 0.1].sum(axis=1).min() > 0.99
    middle = power(module._traffic(30, time, rng)) @ frequency
    assert middle.min() > 2
    assert middle.max() < 25
    assert ((module._spikes(30, time, rng) != 0).sum(axis=(1, 2)) == 3).all()
    steps = np.sort(np.abs(module._footsteps(30, time, rng)), axis=2)
    assert (steps[:, :, 4800].max() < 0.5 * steps[:, :, -1]).all()  # most of the time the ground is still
