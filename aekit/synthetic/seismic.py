"""Local earthquakes and noise: 60 s of ground velocity in m/s, components Z N E, 100 Hz, with the P and S picks.

What follows is taken from the literature, or said to be our choice. It leaves out layers (no Pn, no PmP), surface waves
and the extent of the rupture.

- Geometry (ours): epicentral distance 2 to 180 km, log-uniform, depth 2 to 15 km, straight rays through a crust of vp
  6 km/s and vp/vs 1.73 with small spreads; slow ground turns them steeper and the free surface doubles them.
- Source: Brune 1970, J. Geophys. Res. 75(26) 4997-5009: displacement M0 / (1 + (f / fc)^2), fc = 0.49 vs (stress drop
  / M0)^(1/3), for P 1.5 times that (Madariaga 1976, Bull. Seism. Soc. Am. 66(3) 639-666). M0 of a magnitude: Hanks &
  Kanamori 1979, J. Geophys. Res. 84(B5) 2348-2350. Stress drop: log-normal about 4 MPa, Allmann & Shearer 2009, J.
  Geophys. Res. 114 B01310. Radiation of a double couple turned at random: Aki & Richards, Quantitative Seismology, 2nd
  edition (2002), eq. 4.33, a fifth of its energy evened out, so that no wave vanishes (ours).
- Path: 1 / distance and exp(-pi f t / Q), Q as f^0.7 above 1 Hz (Aki 1980, Phys. Earth Planet. Inter. 21(1) 50-60).
- Site: exp(-pi kappa f) (Anderson & Hough 1984, Bull. Seism. Soc. Am. 74(5) 1969-1993), and a soft layer in which waves
  bounce (Haskell 1960, J. Geophys. Res. 65(12) 4147-4150).
- Onset: all these filters are minimum phase, so that nothing comes before P. Most of each wave arrives spread over a
  time that grows with distance (Boore 2003, Pure Appl. Geophys. 160 635-676); its shape and share are ours.
- Coda of P and of S: noise in the envelope of single isotropic scattering, at t after the origin ln((t + ta) / (t -
  ta)) / t for a wave that arrived at ta (Sato 1977, J. Phys. Earth 25(1) 27-41), with the attenuation above. Late
  amplitudes go as t^-1 exp(-pi f t / Qc), Aki & Chouet 1975, J. Geophys. Res. 80(23) 3322-3342.
- Background: between the low and the high noise model of Peterson 1993, USGS Open-File Report 93-322, at a height drawn
  for each band; the horizontals see a part of Z's wave field a quarter period off, as in Rayleigh waves (share ours).
- Culture (shapes and shares ours): machines; wind turbines, as harmonics of the blades' passing (Gaßner & Ritter 2023,
  Solid Earth 14(7) 785-803; felt for 15 km, Stammler & Ceranna 2016, Seism. Res. Lett. 87(5) 1075-1081); footsteps,
  traffic, spikes, drift.
- Sensor: half of them broadband, half short-period ones with corner 1 Hz; the recorder halves what is at 25 Hz.
- SNR: mean square of clean over that of noise, of the whole record, -10 to 30 dB. The magnitude is the one that gives
  it at that distance; what chance adds to the amplitude or takes from it, mostly under 12 %, is put down to the site.

Beside real records (Northern California's and STEAD's) spectra, P over S, components and the coda's decay agree.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from aekit.records import Record, record_of
from aekit.synthetic import streams

SAMPLES = 6000
SAMPLING_RATE = 100.0  # Hz
ROWS = 50  # of a block
NOISE_SHARE = 0.2  # of records without an earthquake
SNR_DB = (-10.0, 30.0)

# earthquakes; a pair is the range of an even distribution unless told
P_PLACE = (0.05, 0.75)  # where in the record P arrives
DISTANCE, DEPTH = (2.0, 180.0), (2.0, 15.0)  # km; the epicentral distance is even in its logarithm
VP, VP_VS = (6.0, 0.2), (1.73, 0.03)  # km/s and ratio: mean and standard deviation
DENSITY = 2700.0  # kg/m^3
STRESS_DROP = (4e6, 1.0)  # Pa: median, and standard deviation of the logarithm
CORNERS = np.array([1.5, 1.0], np.float32)  # of P and S over Brune's corner frequency
RADIATION = np.array([(4 / 15) ** 0.5, (2 / 5) ** 0.5], np.float32)  # of P and S, RMS over all directions
STEEPER = (0.4, 0.8)  # sine of the ray's angle from the vertical at the surface over that below
Q0 = (50.0, 200.0)  # Q at 1 Hz
KAPPA = (0.01, 0.05)  # s, of S
REVERBERATION, RESONANCE = (0.0, 0.6), (1.5, 10.0)  # what the soft layer's floor throws back; Hz, of S in it
FORWARD, SPREAD = 0.7, (0.1, 0.06)  # share of a wave that is spread; s, and the part of its travel time added to that
SCATTERING = (0.01, 0.7)  # g0 in 1/km: median, and standard deviation of the logarithm
CODA_WEIGHT = np.array([[1, 0.8, 0.8], [0.7, 1, 1]], np.float32)  # of P's and S's coda on Z N E
CODA_BANDS = (1.0, 25.0)  # Hz, where its decay is computed; in between it goes with log f

# noise
SENSORS = (1 / 120, 1.0)  # Hz, corners
NOISE_BANDS = (0.2, 2.0, 20.0)  # Hz
HEIGHTS = (0.1, 0.2, 0.2), (0.7, 0.9, 0.9)  # lowest and highest in each band: 0 is the low noise model, 1 the high one
COMMON = (0.0, 0.6)  # share of Z's wave field in the power of N and E
CULTURE = 0.15  # chance of each kind
CULTURE_SIZE = (-1.0, 0.5)  # power of 10 over the background's RMS
PETERSON = np.array(  # period in s, low and high noise model in dB of (m/s^2)^2/Hz, level beyond the ends
    [
        (0.1, -168.0, -91.5),
        (0.22, -166.7, -97.4),
        (0.4, -166.7, -112.8),
        (0.8, -169.2, -120.0),
        (1.24, -163.7, -113.8),
        (2.4, -148.6, -104.5),
        (3.8, -142.7, -98.0),
        (5.0, -141.1, -97.7),
        (6.3, -150.4, -101.0),
        (7.9, -156.9, -113.5),
        (12.0, -166.2, -117.6),
        (15.5, -162.2, -120.5),
        (21.9, -177.5, -138.1),
        (31.6, -185.0, -136.5),
        (100.0, -187.5, -131.5),
    ]
)

Floats = NDArray[np.floating[Any]]
Complexes = NDArray[np.complexfloating[Any, Any]]


class Seismograms(NamedTuple):
    """N records, each clean + noise. Where there is no earthquake, clean is 0, picks are -1 and the rest is NaN."""

    clean: NDArray[np.float32]  # (N, 3, T), m/s
    noise: NDArray[np.float32]  # (N, 3, T), m/s
    p_index: NDArray[np.int64]  # (N,), first sample of P
    s_index: NDArray[np.int64]  # (N,), -1 also where S comes after the record's end
    snr_db: Floats  # (N,)
    magnitude: Floats  # (N,), moment magnitude
    distance: Floats  # (N,), km, from the hypocentre


def seismic(part: str, seed: int, count: int, option: str = "") -> Record:
    """`count` records (count, 3, 6000) in m/s, float32, labelled earthquake or noise; with picks and clean `target`."""
    made = seismograms(part, seed, count)
    source = f"seismic ({part})"
    labels = np.where(made.p_index >= 0, "earthquake", "noise")
    target = record_of(made.clean, source, sampling_rate=SAMPLING_RATE)
    noisy = np.add(made.clean, made.noise, out=made.noise)
    picks = np.stack([made.p_index, made.s_index], axis=1)
    return replace(record_of(noisy, source, labels=labels, sampling_rate=SAMPLING_RATE), target=target, picks=picks)


def seismograms(part: str, seed: int, count: int, length: int = SAMPLES) -> Seismograms:
    """`count` records of `length` points, with their picks and sources."""
    made = Seismograms(
        np.zeros((count, 3, length), np.float32),
        np.empty((count, 3, length), np.float32),
        *np.full((2, count), -1, np.int64),
        *np.full((3, count), np.nan),
    )
    fields: tuple[NDArray[Any], ...] = (
        made.clean,
        made.p_index,
        made.s_index,
        made.snr_db,
        made.magnitude,
        made.distance,
    )
    for rows, (rng, quake_rng, noise_rng) in streams(part, seed, count, 3, ROWS):
        sensor = rng.integers(len(SENSORS), size=ROWS)
        present = rng.random(ROWS) >= NOISE_SHARE
        noise = _noise(sensor, length, noise_rng)
        quakes = _earthquakes(noise[present], sensor[present], quake_rng)
        size = rows.stop - rows.start
        made.noise[rows] = noise[:size]
        for values, drawn in zip(fields, quakes, strict=True):
            values[rows][present[:size]] = drawn[: present[:size].sum()]
    return made


# --- what earthquakes and noise share --------------------------------------------------------------------------------


def _grid(length: int) -> tuple[int, NDArray[np.float32]]:
    """Points of the transforms, a fifth more than the record, whose end would join its beginning; f in Hz (F,)."""
    points = 2 * fft.next_fast_len(round(0.6 * length), real=True)
    return points, np.fft.rfftfreq(points, 1 / SAMPLING_RATE).astype(np.float32)


def _hats(frequency: Floats, nodes: tuple[float, ...]) -> NDArray[np.float32]:
    """Weights (node, F) that interpolate linearly in log f between values at the nodes, level beyond the ends."""
    where = np.log(np.maximum(frequency, 1e-9))
    return np.stack([np.interp(where, np.log(nodes), row) for row in np.eye(len(nodes))]).astype(np.float32)


def _white(count: int, points: int, rng: np.random.Generator) -> NDArray[np.complex64]:
    """Spectra (count, 3, F) of white noise of variance 1."""
    bins = rng.standard_normal((count, 3, points // 2 + 1, 2), np.float32).view(np.complex64)[..., 0]
    bins *= np.float32(np.sqrt(points / 2))
    return bins


def _delay(frequency: Floats) -> Complexes:
    """What a delay of one sample does, (F,)."""
    return np.asarray(np.exp(-2j * np.pi * frequency.astype(np.float64) / SAMPLING_RATE))


def _sensors(frequency: Floats) -> Complexes:
    """Responses (sensor, F) of pendulums with damping 0.7, 1 above the corner, by the bilinear transform."""
    z = _delay(frequency)
    above, below = 1 - z, np.pi * np.array(SENSORS)[:, None] / SAMPLING_RATE * (1 + z)
    return np.asarray(above**2 / (above**2 + 1.4 * above * below + below**2))


def _log_lowpass(frequency: Floats) -> Floats:
    """Log amplitude (F,) of the recorder's filter, the mean of samples weighted 1, 2, 1."""
    return np.asarray(2 * np.log(np.maximum(np.cos(np.pi * frequency / SAMPLING_RATE), 1e-3)))


# --- earthquakes -----------------------------------------------------------------------------------------------------


class _Sources(NamedTuple):
    """B earthquakes as their stations see them, float32; `wave` is P, then S."""

    slant: Floats  # (B,), sine of the ray's angle from the vertical
    distance: Floats  # (B,), km
    speed: Floats  # (B, wave), km/s
    travel: Floats  # (B, wave), s
    q0: Floats  # (B,)
    kappa: Floats  # (B,)
    reverberation: Floats  # (B,)
    resonance: Floats  # (B,)
    stress_drop: Floats  # (B,)
    scattering: Floats  # (B,)


def _draw(count: int, rng: np.random.Generator) -> _Sources:
    epicentral = DISTANCE[0] * (DISTANCE[1] / DISTANCE[0]) ** rng.random(count)
    distance = np.hypot(epicentral, rng.uniform(*DEPTH, count))
    vp, ratio = rng.normal(*VP, count), rng.normal(*VP_VS, count)
    speed = np.stack([vp, vp / ratio], axis=1)
    even = [rng.uniform(*limits, count) for limits in (Q0, KAPPA, REVERBERATION, RESONANCE)]
    skew = [median * np.exp(spread * rng.standard_normal(count)) for median, spread in (STRESS_DROP, SCATTERING)]
    drawn = (epicentral / distance, distance, speed, distance[:, None] / speed, *even, *skew)
    return _Sources(*(values.astype(np.float32) for values in drawn))


def _earthquakes(noise: Floats, sensor: NDArray[np.int64], rng: np.random.Generator) -> tuple[Floats, ...]:
    """The fields of Seismograms but `noise`, for these of SENSORS (B,) under this noise (B, 3, T)."""
    count, _, length = noise.shape
    points, frequency = _grid(length)
    sources = _draw(count, rng)
    first = rng.uniform(*P_PLACE, (count, 1)) * length
    onset = np.rint(first + (sources.travel - sources.travel[:, :1]) * SAMPLING_RATE).astype(np.int64)  # (B, wave)
    inside = onset < length
    direct, coda = _direct(sources.slant, rng), _coda(sources, onset, length)

    snr_db = rng.uniform(*SNR_DB, count)
    energy = 10 ** (snr_db / 10) * np.square(noise, dtype=np.float64).sum(axis=(1, 2))
    arriving = inside * (direct**2).sum(axis=2) + (CODA_WEIGHT**2).sum(axis=1) * coda.prod(axis=2).sum(axis=2)
    magnitude = _magnitude(energy, arriving, sources, sensor)
    # velocity is the difference of displacements a sample apart; what that lacks towards high f is put in before
    response = _minimum_phase(
        _log_displacement(sources, magnitude, frequency) - np.log(np.sinc(frequency / SAMPLING_RATE))
    )
    difference = SAMPLING_RATE**2 * (1 - _delay(frequency)) * _sensors(frequency)
    response *= difference.astype(np.complex64)[sensor, None]

    white = _white(count, points, rng)
    slow, fast = (fft.irfft(white * hat, points)[..., :length] for hat in _hats(frequency, CODA_BANDS))
    spectrum = np.zeros_like(white)
    for wave in range(2):
        train = coda[:, wave, 0, None] * slow + coda[:, wave, 1, None] * fast  # (B, 3, T)
        train *= CODA_WEIGHT[wave, :, None]
        rows = np.flatnonzero(inside[:, wave])
        train[rows, :, onset[rows, wave]] += direct[rows, wave]
        spectrum += fft.rfft(train, points) * response[:, wave, None]
    clean = fft.irfft(spectrum, points)[..., :length]
    clean *= np.arange(length) >= onset[:, :1, None]  # what comes round from the end, 0.3 % of the peak at most
    clean *= np.sqrt(energy / np.square(clean, dtype=np.float64).sum(axis=(1, 2)))[:, None, None].astype(np.float32)
    return clean, *np.where(inside, onset, -1).T, snr_db, magnitude, sources.distance


def _log_displacement(sources: _Sources, magnitude: Floats, frequency: Floats) -> Floats:
    """Log amplitude spectrum (B, wave, F) of ground displacement in m s, RMS over all directions from the source."""
    moment = 10 ** (1.5 * magnitude + 9.05)  # N m
    fc = CORNERS * (0.49e3 * sources.speed[:, 1] * np.cbrt(sources.stress_drop / moment))[:, None]  # (B, wave), Hz
    metres = 1e3 * sources.distance[:, None]
    level = 2 * RADIATION * moment[:, None] / (4 * np.pi * DENSITY * (1e3 * sources.speed) ** 3 * metres)
    faster = sources.speed[:, 1:] / sources.speed  # P stays in the ground for less time than S
    loss = sources.travel[..., None] * _over_q(frequency, sources.q0)[:, None]
    loss += (sources.kappa[:, None] * faster)[..., None] * frequency
    bounce = np.cos((np.pi * faster / sources.resonance[:, None])[..., None] * frequency)
    r = sources.reverberation[:, None, None]
    shape = np.log1p((frequency / fc[..., None]) ** 2) + 0.5 * np.log1p(r * (r + 2 * bounce))
    return np.asarray(np.log(level)[..., None] - np.pi * loss - shape + _log_lowpass(frequency))


def _over_q(frequency: Floats, q0: Floats) -> Floats:
    """f / Q, (B, F)."""
    return np.asarray(frequency / (1 + frequency**2) ** 0.35 / q0[:, None])


def _magnitude(energy: Floats, arriving: Floats, sources: _Sources, sensor: NDArray[np.int64]) -> NDArray[np.float32]:
    """The magnitudes (B,) whose records hold the energy (B,), a sum of squares, if so much of each wave arrives."""
    frequency = np.geomspace(0.05, 45, 40)
    velocity = 2 * np.pi * frequency * np.abs(_sensors(frequency)[sensor])
    weight = 2 * SAMPLING_RATE * (velocity**2)[:, None] * frequency * np.log(frequency[1] / frequency[0])
    magnitude = np.full(len(energy), 2.0)
    for _ in range(12):  # log10 of energy grows 1 to 3 times as fast: each step at least halves what is amiss
        power = (weight * np.exp(2 * _log_displacement(sources, magnitude, frequency))).sum(axis=2)
        magnitude += np.log10(energy / (arriving * power).sum(axis=1)) / 2
    return magnitude.astype(np.float32)


def _minimum_phase(log_amplitude: Floats) -> Complexes:
    """The causal response (..., F) of that amplitude whose energy comes earliest, by folding its cepstrum."""
    points = 2 * (log_amplitude.shape[-1] - 1)
    cepstrum = fft.irfft(log_amplitude, points)
    cepstrum[..., 1 : points // 2] *= 2
    cepstrum[..., points // 2 + 1 :] = 0
    phase = fft.rfft(cepstrum).imag
    return np.asarray(np.exp(log_amplitude) * (np.cos(phase) + 1j * np.sin(phase)))


def _direct(slant: Floats, rng: np.random.Generator) -> NDArray[np.float32]:
    """First motion (B, wave, 3) on Z N E, in units of the waves' RMS over all directions."""
    cosine = rng.uniform(-1, 1, len(slant))
    phi, turn, away = rng.uniform(0, 2 * np.pi, (3, len(slant)))
    p = 2 * np.sqrt(1 - cosine**2) * cosine * np.cos(phi) / RADIATION[0]
    s = np.stack([(2 * cosine**2 - 1) * np.cos(phi), -cosine * np.sin(phi)]) / RADIATION[1]  # two polarisations
    p = np.sign(p) * np.sqrt(0.8 * p**2 + 0.2)
    s *= np.sqrt(0.8 + 0.2 / (s**2).sum(axis=0))
    sv, sh = s[0] * np.cos(turn) - s[1] * np.sin(turn), s[0] * np.sin(turn) + s[1] * np.cos(turn)
    sine = slant * rng.uniform(*STEEPER, len(slant))
    up, north, east = np.sqrt(1 - sine**2), np.cos(away), np.sin(away)
    motion = [
        [p * up, p * sine * north, p * sine * east],
        [-sv * sine, sv * up * north - sh * east, sv * up * east + sh * north],
    ]
    return np.asarray(np.sqrt(1 - FORWARD) * np.array(motion).transpose(2, 0, 1), np.float32)


def _coda(sources: _Sources, onset: NDArray[np.int64], length: int) -> NDArray[np.float32]:
    """RMS (B, wave, band, T) of what is scattered into each sample, for a wave whose RMS over all directions is 1."""
    lapse = (np.arange(length) - onset[..., None]) / SAMPLING_RATE  # (B, wave, T), s after the onset
    since = np.maximum(lapse, 0.5 / SAMPLING_RATE).astype(np.float32)
    travel = sources.travel[..., None]
    spread = SPREAD[0] + SPREAD[1] * travel
    alpha = 1 + since / travel
    power = np.log((alpha + 1) / (alpha - 1)) / alpha
    power *= (sources.scattering[:, None] * sources.speed)[..., None]
    power += FORWARD * since / spread**2 * np.exp(-since / spread)
    power[lapse < 0] = 0
    power /= SAMPLING_RATE
    rate = np.pi * _over_q(np.array(CODA_BANDS, np.float32), sources.q0)  # (B, band)
    return np.asarray(np.sqrt(power)[:, :, None] * np.exp(-rate[:, None, :, None] * since[:, :, None]))


# --- noise -----------------------------------------------------------------------------------------------------------


def _noise(sensor: NDArray[np.int64], length: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Background and culture (B, 3, T)."""
    noise = _background(sensor, length, rng)
    time = np.arange(length) / SAMPLING_RATE
    rms = np.sqrt((noise**2).mean(axis=(1, 2)))
    for kind in (_machine, _turbine, _footsteps, _traffic, _spikes, _drift):
        rows = np.flatnonzero(rng.random(len(noise)) < CULTURE)
        size = rms[rows] * 10 ** rng.uniform(*CULTURE_SIZE, len(rows))
        noise[rows] += (size[:, None, None] * kind(len(rows), time, rng)).astype(np.float32)
    return noise


def _background(sensor: NDArray[np.int64], length: int, rng: np.random.Generator) -> NDArray[np.float32]:
    count = len(sensor)
    points, frequency = _grid(length)
    f = np.maximum(frequency, frequency[1])
    height = rng.uniform(*HEIGHTS, (count, len(NOISE_BANDS))) @ _hats(f, NOISE_BANDS)  # (B, F)
    low, high = (np.interp(-np.log(f), np.log(PETERSON[:, 0]), model) for model in PETERSON[:, 1:].T)
    acceleration = 10 ** ((low + height * (high - low)) / 20)
    velocity = np.sqrt(SAMPLING_RATE / 2) / (2 * np.pi * f) * np.exp(_log_lowpass(f)) * _sensors(frequency)
    bins = _white(count, points, rng)
    away, share = rng.uniform(0, 2 * np.pi, (count, 1)), rng.uniform(*COMMON, (count, 1, 1))
    seen = -1j * np.sqrt(share) * np.stack([np.cos(away), np.sin(away)], axis=1)  # (B, horizontal, 1)
    bins[:, 1:] *= np.sqrt(1 - share).astype(np.float32)
    bins[:, 1:] += seen.astype(np.complex64) * bins[:, :1]
    bins *= (acceleration * velocity[sensor]).astype(np.complex64)[:, None]
    noise: NDArray[np.float32] = fft.irfft(bins, points)[..., :length]
    return noise


def _machine(count: int, time: Floats, rng: np.random.Generator) -> Floats:
    return _tones(time, rng.uniform(3, 25, count), 3, rng.uniform(0, 0.5, count), rng)


def _turbine(count: int, time: Floats, rng: np.random.Generator) -> Floats:
    return _tones(time, rng.uniform(0.5, 1, count), 12, rng.uniform(0, 1, count), rng)


def _tones(time: Floats, fundamental: Floats, harmonics: int, wander: Floats, rng: np.random.Generator) -> Floats:
    """Harmonics (B, 3, T) of tones in Hz (B,) whose phase wanders by so many radians (B,), power about 1."""
    count = len(fundamental)
    slow = 2 * np.pi * (time / rng.uniform(10, 60, (count, 1)) + rng.random((count, 1)))
    phase = 2 * np.pi * fundamental[:, None] * time + wander[:, None] * np.sin(slow)
    tone = np.exp(1j * phase)[:, None].astype(np.complex64)  # (B, 1, T)
    order = np.arange(harmonics, 0, -1)
    amplitude = rng.standard_normal((count, 3, harmonics, 2)).view(np.complex128)[..., 0] / np.sqrt(harmonics)
    amplitude *= (order * fundamental[:, None] < 40)[:, None]
    total = np.zeros((count, 3, len(time)), np.complex64)
    for k in range(harmonics):  # Horner's scheme, the highest first
        total = (total + amplitude[..., k, None].astype(np.complex64)) * tone
    return np.asarray(total.real * (1 + 0.3 * np.sin(2 * slow))[:, None])


def _footsteps(count: int, time: Floats, rng: np.random.Generator) -> Floats:
    """Somebody walks by: two steps a second, each a knock of some 20 Hz."""
    period, pitch = rng.uniform(0.45, 0.65, (count, 1)), rng.uniform(12, 30, (count, 1))
    since = (time + rng.random((count, 1))) % period
    knocks = np.exp(-since / 0.06) * np.sin(2 * np.pi * pitch * since)
    return np.asarray(10 * (_passing(count, time, rng) * knocks)[:, None] * rng.uniform(0.3, 1, (count, 3, 1)))


def _traffic(count: int, time: Floats, rng: np.random.Generator) -> Floats:
    """A vehicle passes: noise of 3 to 15 Hz."""
    points, frequency = _grid(len(time))
    middle = 3 * 5 ** rng.random((count, 1))
    shape = np.exp(-2 * np.log(np.maximum(frequency, 0.01) / middle) ** 2)
    shape /= np.sqrt((shape**2).mean(axis=1, keepdims=True))
    rumble = fft.irfft(_white(count, points, rng) * shape[:, None].astype(np.float32), points)[..., : len(time)]
    return np.asarray(3 * _passing(count, time, rng)[:, None] * rumble)


def _passing(count: int, time: Floats, rng: np.random.Generator) -> Floats:
    """The envelope (B, T) of what comes and goes within seconds, at most 1."""
    nearest, seconds = rng.uniform(time[0], time[-1], (count, 1)), rng.uniform(2, 8, (count, 1))
    return np.asarray(np.exp(-0.5 * ((time - nearest) / seconds) ** 2))


def _spikes(count: int, time: Floats, rng: np.random.Generator) -> Floats:
    """Three single samples that are off, each on one component."""
    spikes = np.zeros((count, 3, len(time)))
    component, place = rng.integers(3, size=(count, 3)), rng.integers(len(time), size=(count, 3))
    spikes[np.arange(count)[:, None], component, place] = 10 * rng.standard_normal((count, 3))
    return spikes


def _drift(count: int, time: Floats, rng: np.random.Generator) -> Floats:
    """Ground that tilts and electronics that warm up, over minutes; the horizontals most."""
    phase = 2 * np.pi * (time / rng.uniform(60, 300, (count, 3, 1)) + rng.random((count, 3, 1)))
    return np.asarray(3 * np.sin(phase) * [[0.2], [1], [1]])
