"""Radio pulses of cosmic-ray air showers under three kinds of noise: pairs of a noisy trace and its clean signal.

It stands in for the data of Erdmann, Glombitza, Kasieczka & Klemradt, Deep Learning for Physics Research (2021),
exercise 9.2, after Erdmann, Schlüter & Smida 2019, arXiv:1901.04079, which cannot be downloaded freely: 500 samples at
180 MHz in mV, pulses of SNR 2, coloured noise of about 0.1 mV, some traces without a pulse. Everything below is taken
from the literature, or said to be our choice, and was fixed before any network was trained on it.

- Band: 30 to 80 MHz (LOPES, AERA, Tunka-Rex; Pierre Auger Collaboration 2012, arXiv:1209.3840). Antenna gain is flat,
  so that voltage per field falls as 1/f; the filter is a Butterworth band-pass of 4th order with its own phase (order:
  ours), which rings for tens of ns as Tunka-Rex's pulses do (Bezyazeekov et al. 2021, arXiv:2101.02943).
- Pulse: the field falls as exp(-f / f0), 1/f0 = 0.017 +- 0.004 per MHz (LOPES, Nigl et al. 2008, arXiv:0809.2751);
  either polarity; arrival anywhere but at the ends of the trace.
- SNR: the largest |signal| over the RMS of the row's own noise, 2 in every row with a pulse; 10 % have none (ours).
- Level: 0.1 mV, swinging by 15 % as the Galaxy passes overhead (arXiv:1209.3840 shows the swing; its size is ours).
- `original`: through the same filter, the Galaxy's temperature 180 K (f / 180 MHz)^-2.55 (index 2.5 +- 0.1, Rogers &
  Bowman 2008, arXiv:0806.2868) plus a receiver of 290 K; and the four carriers to which AERA's beacon and notch
  filters are tuned (arXiv:1512.02216), with random phases and Rayleigh amplitudes. They hold three quarters of the
  noise power on average: the share at which the best linear detector (whitened by the true covariance) reaches what
  arXiv:1901.04079 reports of its network, 90 % of the pulses of SNR 3 found with 0.2 % false alarms.
- `uniform`: white, evenly spread. `cosine`: one tone in the band, frequency and phase new in each row. The published
  study names these two without numbers: both have the level and SNR of `original`, and the same pulses.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aekit.records import Record, record_of
from aekit.synthetic import BLOCK, streams

SAMPLES = 500
SAMPLING_RATE = 180e6  # Hz
BAND = (30e6, 80e6)  # Hz, -3 dB
ORDER = 4
FIELD_SLOPE = (0.017e-6, 0.004e-6)  # mean and standard deviation, 1/Hz
CARRIERS = (58.887e6, 61.523e6, 68.555e6, 71.191e6)  # Hz
CARRIER_POWER = 0.75  # share of the noise power
SNR = 2.0
LEVEL = (0.1, 0.15)  # mV, and its swing
PULSE_SHARE = 0.9
ARRIVALS = (20, 450)  # samples; the peak comes 3 to 7 later, and its ringing dies out within 30
NOISES = ("original", "uniform", "cosine")
LONG = 576  # noise is drawn longer and cut, for its end would join its beginning

Floats = NDArray[np.floating[Any]]


def radio(part: str, seed: int, count: int, noise: str) -> Record:
    """`count` traces (count, 500) in mV, float32, whose `target` is the clean signals; noise is one of NOISES."""
    signals = np.empty((count, SAMPLES), np.float32)
    traces = np.empty((count, SAMPLES), np.float32)
    for rows, (pulse_rng, noise_rng) in streams(part, seed, count, 2):
        background = _noise(noise, noise_rng)
        pulses = _pulses(pulse_rng)
        background *= _levels(pulse_rng) / np.sqrt((background**2).mean(axis=1, keepdims=True))
        pulses *= SNR * np.sqrt((background**2).mean(axis=1, keepdims=True))
        size = rows.stop - rows.start
        signals[rows] = pulses[:size]
        traces[rows] = (pulses + background)[:size]
    source = f"radio:{noise} ({part})"
    target = record_of(signals, source, sampling_rate=SAMPLING_RATE)
    return replace(record_of(traces, source, sampling_rate=SAMPLING_RATE), target=target)


def pulse_positions(signals: Floats) -> NDArray[np.int64]:
    """The sample of the largest |value| of each clean signal (B, T) -> (B,), or -1 where the signal is zero."""
    size = np.abs(signals)
    return np.where(size.any(axis=1), size.argmax(axis=1), -1).astype(np.int64)


def mean_pulse() -> Floats:
    """The pulse of mean slope with peak 1, cut to the 80 samples that hold it, (80,): a matched filter's template."""
    frequency = np.fft.rfftfreq(SAMPLES, 1 / SAMPLING_RATE)
    spectrum = _antenna_and_filter(frequency) * np.exp(-FIELD_SLOPE[0] * frequency)
    pulse = np.roll(np.fft.irfft(spectrum, SAMPLES), 20)[:80]
    return np.asarray(pulse / pulse[np.abs(pulse).argmax()])


def _antenna_and_filter(frequency: Floats) -> NDArray[np.complex128]:
    """Voltage per field at each frequency in Hz, up to a factor: 1/f times an analogue Butterworth band-pass."""
    low, high = BAND
    f = np.maximum(frequency, 1.0)  # the filter's response at 0 Hz is 0, as it is at 1 Hz
    s = 1j * (f**2 - low * high) / (f * (high - low))  # of the low-pass with cut-off 1 that the band-pass comes from
    poles = np.exp(1j * np.pi * (2 * np.arange(ORDER) + ORDER + 1) / (2 * ORDER))
    return np.asarray(np.sqrt(low * high) / f / np.prod(s[:, None] - poles, axis=1))


def _pulses(rng: np.random.Generator) -> Floats:
    """Signals of one block, (BLOCK, T), with largest |value| 1 or all zero."""
    slope = rng.normal(*FIELD_SLOPE, (BLOCK, 1))
    arrival = rng.uniform(*ARRIVALS, (BLOCK, 1)) / SAMPLING_RATE
    sign = np.where(rng.random((BLOCK, 1)) < 0.5, -1.0, 1.0)
    present = rng.random((BLOCK, 1)) < PULSE_SHARE
    frequency = np.fft.rfftfreq(SAMPLES, 1 / SAMPLING_RATE)
    # exp(-f (slope + 2 pi i arrival)) at the k-th frequency is the k-th power of its value at the first
    spectrum = np.repeat(np.exp(-frequency[1] * (slope + 2j * np.pi * arrival)), len(frequency), axis=1)
    spectrum[:, 0] = 1
    pulses = np.fft.irfft(np.cumprod(spectrum, axis=1) * _antenna_and_filter(frequency), SAMPLES)
    return np.asarray(pulses * (present * sign / np.abs(pulses).max(axis=1, keepdims=True)))


def _levels(rng: np.random.Generator) -> Floats:
    level, swing = LEVEL
    return np.asarray(level * (1 + swing * np.cos(2 * np.pi * rng.random((BLOCK, 1)))))


def _noise(kind: str, rng: np.random.Generator) -> Floats:
    """Noise of one block, (BLOCK, T), in any unit."""
    time = np.arange(SAMPLES) / SAMPLING_RATE
    if kind == "uniform":
        return rng.uniform(-1, 1, (BLOCK, SAMPLES))
    if kind == "cosine":
        tone, phase = rng.uniform(*BAND, (BLOCK, 1)), rng.uniform(0, 2 * np.pi, (BLOCK, 1))
        return np.asarray(np.cos(2 * np.pi * tone * time + phase))
    assert kind == "original", kind
    frequency = np.fft.rfftfreq(LONG, 1 / SAMPLING_RATE)
    kelvin = 180 * (np.maximum(frequency, 1e6) / 180e6) ** -2.55 + 290
    # a sky that fills the beam gives k T per Hz whatever the gain: take the antenna's 1/f out of the response again
    amplitude = np.abs(_antenna_and_filter(frequency)) * frequency * np.sqrt(kelvin)
    bins = rng.standard_normal((BLOCK, len(frequency), 2)).view(np.complex128)[..., 0]
    broadband = np.fft.irfft(amplitude * bins, LONG)[:, :SAMPLES]
    broadband /= np.sqrt(2 * (amplitude[1:-1] ** 2).sum()) * np.sqrt(2) / LONG  # variance 1
    angle = 2 * np.pi * np.outer(CARRIERS, time)
    tones = np.concatenate([np.cos(angle), np.sin(angle)])  # (2 * carriers, T)
    carriers = rng.standard_normal((BLOCK, len(tones))) @ tones / np.sqrt(len(CARRIERS))
    return np.asarray(np.sqrt(1 - CARRIER_POWER) * broadband + np.sqrt(CARRIER_POWER) * carriers)
