"""Classical ways to clean a seismogram and to pick its onsets, and the records and mixtures on which all are judged.

Run `python bench/seismic_baselines.py`: a line per method over all records of earthquake_and_noise_1c.npz. SNR is the
power of the whole record over that of the noise.
"""

import os
from itertools import product
from pathlib import Path

import numpy as np
import pywt
import scipy.signal

from aekit.picks import Pick, pick_figures

RATE = 100.0  # Hz
SNR = (-10.0, 10.0)  # dB
FOLDS = (("ZQ",), ("NN",), ("AZ", "BC", "CC", "CI", "HV", "NC", "TA"))  # networks kept out together
NOISE_KEPT = 480  # the earlier of the 600 records of noise train, the later ones judge
SEISMIC = Path(os.environ.get("AEKIT_DATA", ".")) / "seismic"


def records():
    """Earthquakes (571, 6000), their networks, noise (600, 6000) in order of date; float64, mean taken off."""
    file = np.load(SEISMIC / "earthquake_and_noise_1c.npz")
    networks = np.array([name.split("_")[0] for name in file["signal_name"]])
    order = np.argsort([name.rpartition("_")[2] for name in file["noise_name"]], kind="stable")
    signal, noise = file["signal"].astype(np.float64), file["noise"][order].astype(np.float64)
    return signal - signal.mean(1, keepdims=True), networks, noise - noise.mean(1, keepdims=True)


def mixtures(signal, noise, seed):
    """signal (N, ...) + a record of noise at a drawn SNR, and that noise as scaled."""
    rng = np.random.default_rng(seed)
    scaled = noise[rng.integers(len(noise), size=len(signal))]
    ratio = 10 ** (rng.uniform(*SNR, len(signal)) / 10)
    power = [x.reshape(len(x), -1).var(axis=1) for x in (signal, scaled)]
    scaled = scaled * np.sqrt(power[0] / power[1] / ratio).reshape(-1, *[1] * (signal.ndim - 1))
    return signal + scaled, scaled


def triples():
    """At 10 Hz, Z N E: earthquakes (75, 3, 600) and noise (72, 3, 600) of the same file, where all three are there."""
    file = np.load(SEISMIC / "earthquake_and_noise_1c.npz")
    return tuple(at_10_hz(_triples(file[part], file[f"{part}_name"])) for part in ("signal", "noise"))


def _triples(x, names):
    """Rows of one time and station, in order of date: (N, 3, T), Z N E."""
    groups = {}
    for row, name in zip(x, names, strict=True):
        network, station, channel, date = name.split("_")
        groups.setdefault((date, network, station), {})[channel[-1]] = row
    whole = [[group[letter] for letter in "ZNE"] for _, group in sorted(groups.items()) if set(group) == set("ZNE")]
    return np.array(whole, dtype=np.float64)


def at_10_hz(x):
    """Records (..., T) at 100 Hz, a tenth of their points, mean taken off."""
    x = scipy.signal.decimate(x.astype(np.float64), 10, ftype="fir", zero_phase=True)
    return x - x.mean(axis=-1, keepdims=True)


def turbines():
    """The traces of noisy_records_3c.npz, (27, 9001), mean taken off, and the points of P."""
    file = np.load(SEISMIC / "noisy_records_3c.npz")
    x = file["data"].reshape(-1, file["data"].shape[-1]).astype(np.float64)
    return x - x.mean(axis=1, keepdims=True), np.repeat(file["p_index"], file["data"].shape[1])


def onset_ratio(x, p):
    """Mean square of the 10 s from P on over that of the 25 s before, in dB, the median over traces."""
    ratios = [
        (row[at : at + 1000] ** 2).mean() / max((row[at - 2500 : at] ** 2).mean(), 1e-30)
        for row, at in zip(x, p, strict=True)
    ]
    return float(10 * np.log10(np.median(ratios)))


def picked():
    """The records of earthquakes_3c_picks.npz: (115, 3, 6000) as Z N E, arrivals (115, 2), and their stations."""
    file = np.load(SEISMIC / "earthquakes_3c_picks.npz")
    stations = np.array(["_".join(name.split("_")[:2]) for name in file["name"]])
    return file["data"][:, ::-1].copy(), np.stack([file["p_index"], file["s_index"]], 1).astype(np.int64), stations


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


# --- picks ------------------------------------------------------------------------------------------------------------

SHORT, LONG = 0.3, 5.0  # seconds of P's windows; those of S are as short and a fifth as long
LEVELS = (2.0, 3.0, 5.0, 8.0, 12.0, 20.0), (1.5, 2.0, 3.0, 5.0, 8.0)  # of P and S, to choose from
WAIT = 0.3  # seconds from P, before which no S is looked for


def ratio(power, short, long):
    """Mean power of so many points from each on, over that of so many before it; 0 where these do not all exist."""
    total = np.concatenate([[0], np.cumsum(power)])
    at = np.arange(long, len(power) - short)
    found = np.zeros(len(power))
    before = (total[at] - total[at - long]) / long
    found[at] = (total[at + short] - total[at]) / short / np.maximum(before, 1e-30 + 1e-9 * power.mean())
    return found


def onsets(x):
    """STA/LTA (Allen 1978, Bull. Seism. Soc. Am. 68(5)) of P on Z, of S on N and E of a record (3, T), 2 to 20 Hz."""
    power = band_pass(x.astype(np.float64)) ** 2
    short, long = round(SHORT * RATE), round(LONG * RATE)
    return ratio(power[0], short, long), ratio(power[1] + power[2], short, long // 5)


def sta_lta_picks(ratios, row, p_level, s_level):
    """P where its ratio is highest in the second after it first reaches its level, S where its own is highest later."""
    p_ratio, s_ratio = ratios
    p = _first_peak(p_ratio, p_level)
    found = [] if p is None else [Pick(row, "P", p / RATE, p / RATE, 1.0, 0.0)]
    behind = 0 if p is None else p + round(WAIT * RATE)
    s = behind + int(s_ratio[behind:].argmax()) if behind < len(s_ratio) else 0
    if s_ratio[s] >= s_level:
        found.append(Pick(row, "S", s / RATE, s / RATE, 1.0, 0.0))
    return found


def _first_peak(values, level):
    above = np.flatnonzero(values >= level)
    if not len(above):
        return None
    end = above[0] + round(RATE)  # a second
    return int(above[0] + values[above[0] : end].argmax())


def choose_thresholds(x, arrivals):
    """The two levels with the highest sum of F1 on these records."""

    ratios = [onsets(record) for record in x]

    def worth(levels):
        picks = [pick for i, found in enumerate(ratios) for pick in sta_lta_picks(found, i, *levels)]
        figures = pick_figures(picks, arrivals, RATE)
        return (figures["p_f1"] or 0) + (figures["s_f1"] or 0)

    return max(product(*LEVELS), key=worth)


METHODS = {
    "band-pass 2 to 20 Hz": band_pass,
    "Wiener, 29 samples": wiener,
    "wavelet threshold": wavelet,
    "spectral subtraction": spectral_subtraction,
}
METHODS_10_HZ = {name: METHODS[name] for name in ("Wiener, 29 samples", "wavelet threshold")}


def main():
    signal, _, noise = records()
    noisy, scaled = mixtures(signal, noise[NOISE_KEPT:], 0)
    for name, method in METHODS.items():
        print(f"{name:24} {figures(method(noisy), signal, noisy)}")
    print(f"{'oracle mask':24} {figures(oracle_mask(signal, scaled), signal, noisy)}")


if __name__ == "__main__":
    main()
