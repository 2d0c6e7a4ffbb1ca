"""How well a pulse is found without a network: argmax, a matched filter and a whitened one, on the `radio` test part.

Run `python bench/radio_baselines.py`; it prints one line per noise and method, as CSV: the share of pulses whose
position is within 10 samples of 500, whose height is within 2 %, and both. `shares` judges a network's output likewise.
"""

import numpy as np

from aekit.datasets import open_dataset
from aekit.synthetic.radio import NOISES, SAMPLES, mean_pulse, pulse_positions

LONG = 1024  # transforms this long do not wrap a template of 80 samples into the trace
FINE = 4  # steps per sample: half a sample off is a sixth of a period at 60 MHz


def argmax(traces):
    """Position and height of the largest |value| of each trace, (B,) and (B,)."""
    size = np.abs(traces)
    return size.argmax(axis=1), size.max(axis=1)


def matched_filter(traces, power=None):
    """Position and height of the pulse that fits best; `power` is the noise's at each frequency, white if None."""
    pulse = mean_pulse()
    template = np.fft.rfft(pulse, LONG)
    weighted = template.conj() if power is None else template.conj() / power
    norm = np.fft.irfft(template * weighted, LONG)[0]
    fit = (
        np.fft.irfft(np.fft.rfft(traces, LONG) * weighted, LONG * FINE) * FINE / norm
    )  # height of the pulse at each lag
    size = np.abs(np.roll(fit, np.abs(pulse).argmax() * FINE, axis=1)[:, : SAMPLES * FINE])
    return size.argmax(axis=1) / FINE, size.max(axis=1)


def shares(position, height, signals):
    """Of the rows with a pulse: the share located within 10 samples, of a height within 2 %, and both."""
    truth = pulse_positions(signals)
    present = truth >= 0
    located = np.abs(position - truth)[present] <= 10
    measured = np.abs(height / np.abs(signals).max(axis=1).clip(1e-12) - 1)[present] <= 0.02
    return located.mean(), measured.mean(), (located & measured).mean()


def noise_power(name):
    """Power of the noise at each frequency, from 10,000 training rows of a radio data set."""
    train = open_dataset(name, "train", count=10_000)
    background = train.read(0, 10_000) - train.target.read(0, 10_000)
    power = (np.abs(np.fft.rfft(background * np.hanning(SAMPLES), LONG)) ** 2).mean(axis=0)
    return power + 1e-3 * power.max()  # none where nothing is measured


def main():
    print("noise,method,located,height,both")
    for noise in NOISES:
        power = noise_power(f"radio:{noise}")
        test = open_dataset(f"radio:{noise}", "test")
        traces, signals = test.read(0, len(test)), test.target.read(0, len(test))
        for method, found in (
            ("argmax", argmax(traces)),
            ("matched filter", matched_filter(traces)),
            ("whitened matched filter", matched_filter(traces, power)),
        ):
            print(f"{noise},{method}," + ",".join(f"{share:.3f}" for share in shares(*found, signals)))


if __name__ == "__main__":
    main()
