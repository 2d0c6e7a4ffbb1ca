"""Classical ways to clean a seismogram, and the folds and mixtures on which all are judged.

Run `python bench/seismic_baselines.py`: a line per method over all records of earthquake_and_noise_1c.npz. SNR is the
power of the whole record over that of the noise.
"""

import os
from pathlib import Path

import numpy as np
import pywt
import scipy.signal

RATE = 100.0  # Hz
SNR = (-10.0, 10.0)  # dB
FOLDS = (("ZQ",), ("NN",), ("AZ", "BC", "CC", "CI", "HV", "NC", "TA"))  # networks kept out together
NOISE_KEPT = 480  # the earlier of the 600 records of noise train, the later ones judge


def records():
    """Earthquakes (571, 6000), their networks, noise (600, 6000) in order of date; float64, mean taken off."""
    file = np.load(Path(os.environ["AEKIT_DATA"]) / "seismic" / "earthquake_and_noise_1c.npz")
    networks = np.array([name.split("_")[0] for name in file["signal_name"]])
    order = np.argsort([name.rpartition("_")[2] for name in file["noise_name"]], kind="stable")
    signal, noise = file["signal"].astype(np.float64), file["noise"][order].astype(np.float64)
    return signal - signal.mean(1, keepdims=True), networks, noise - noise.mean(1, keepdims=True)


def mixtures(signal, noise, seed):
    """signal + a record of noise at a drawn SNR, and that noise as scaled."""
    rng = np.random.default_rng(seed)
    scaled = noise[rng.integers(len(noise), size=len(signal))]
    ratio = 10 ** (rng.uniform(*SNR, len(signal)) / 10)
    scaled = scaled * np.sqrt(signal.var(1) / scaled.var(1) / ratio)[:, None]
    return signal + scaled, scaled


def figures(cleaned, signal, noisy):
    """Mean gain in dB and mean correlation."""

    def decibel(error):
        return 10 * np.log10((signal**2).mean(1) / (error**2).mean(1))

    gain = decibel(cleaned - signal) - decibel(noisy - signal)
    correlation = [np.corrcoef(a, b)[0, 1] if a.any() else 0.0 for a, b in zip(cleaned, signal, strict=True)]
    return float(gain.mean()), float(np.mean(correlation))


def band_pass(noisy):
    """Butterworth of order 4, 2 to 20 Hz, forward and back."""
    sections = scipy.signal.butter(4, (2, 20), "bandpass", fs=RATE, output="sos")
    return scipy.signal.sosfiltfilt(sections, noisy, axis=1)


def wiener(noisy):
    """Wiener's filter over 29 samples."""
    return np.stack([scipy.signal.wiener(row, 29) for row in noisy])


def wavelet(noisy):
    """Soft universal threshold of Daubechies-4 coefficients, the noise's size from the finest scale, by level."""
    cleaned = []
    for row in noisy:
        coarse, *levels = pywt.wavedec(row, "db4")
        kept = []
        for level in levels:
            size = np.median(np.abs(level)) / 0.6745
            kept.append(pywt.threshold(level, size * np.sqrt(2 * np.log(len(row))), "soft"))
        cleaned.append(pywt.waverec([coarse, *kept], "db4")[: len(row)])
    return np.stack(cleaned)


def spectral_subtraction(noisy):
    """The mean magnitude of the first 3 s taken off that of each frame."""
    _, _, frames = scipy.signal.stft(noisy, RATE, nperseg=64, noverlap=48)
    first = np.abs(frames[:, :, : int(3 * RATE / 16)]).mean(axis=2, keepdims=True)
    size = np.maximum(np.abs(frames) - first, 0)
    _, cleaned = scipy.signal.istft(size * np.exp(1j * np.angle(frames)), RATE, nperseg=64, noverlap=48)
    return cleaned[:, : noisy.shape[1]]


def oracle_mask(signal, noise):
    """What the share |S| / (|S| + |N|), known, would give: the limit of a network that predicts it."""
    parts = [scipy.signal.stft(x, nperseg=30, noverlap=15, nfft=60)[2] for x in (signal, noise)]
    share = np.abs(parts[0]) / (np.abs(parts[0]) + np.abs(parts[1]) + 1e-30)
    _, cleaned = scipy.signal.istft(share * (parts[0] + parts[1]), nperseg=30, noverlap=15, nfft=60)
    return cleaned[:, : signal.shape[1]]


METHODS = {
    "band-pass 2 to 20 Hz": band_pass,
    "Wiener, 29 samples": wiener,
    "wavelet threshold": wavelet,
    "spectral subtraction": spectral_subtraction,
}


def main():
    signal, _, noise = records()
    noisy, scaled = mixtures(signal, noise[NOISE_KEPT:], 0)
    for name, method in METHODS.items():
        print(f"{name:24} {figures(method(noisy), signal, noisy)}")
    print(f"{'oracle mask':24} {figures(oracle_mask(signal, scaled), signal, noisy)}")


if __name__ == "__main__":
    main()
