"""Single heartbeats of an electrocardiogram, normal and of four abnormal kinds, with ECG5000's labels 1 to 5.

A beat is the closed form of McSharry, Clifford, Tarassenko & Smith 2003, IEEE Trans. Biomed. Eng. 50(3) 289-294: one
Gaussian per wave, at the angles of its table I, as high as its a_i b_i^2 with R at 1 mV; widths and times from R go
with the square root of the RR interval (Bazett), as widths do in the authors' ECGSYN. The window is 140 samples at
250 Hz, the rate of the record behind ECG5000 (BIDMC chf07, PhysioNet), with R near 0.2 s. Marks of the abnormal beats
after Surawicz & Knilans, Chou's Electrocardiography in Clinical Practice, 6th edition (2008):

1. normal: P, Q, R, S and T;
2. R-on-T: a ventricular beat on the T wave of the beat before: wide (over 120 ms) and tall, no P, T against R;
3. PVC, premature ventricular contraction: the same later in the cycle, of the other polarity and notched;
4. SP, supraventricular premature: narrow QRS, but P inverted and close to R, after the T wave of the beat before;
5. UB, unclassified: a fusion of a normal beat and a PVC in varying proportion, under muscle noise.

Each wave varies from beat to beat in size, width and time; breathing scales the beat and bends the baseline; white
noise of 0.02 mV lies on all. The classes come as often as in ECG5000's 5,000 rows.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aekit.records import Record, record_of
from aekit.synthetic import BLOCK, streams

SAMPLES = 140
SAMPLING_RATE = 250.0  # Hz
R_TIME = 0.2  # s
RR = (0.6, 0.05)  # s, mean and standard deviation
COUNTS = (2919, 1767, 96, 194, 24)  # ECG5000's rows of each class

# time from R in s, width (standard deviation) in s, both at an RR of 1 s, and height in mV
P = (-0.17, 0.04, 0.25)
Q = (-0.042, 0.016, -0.17)
R = (0.0, 0.016, 1.0)
S = (0.042, 0.016, -0.25)
T = (0.25, 0.064, 0.4)
NONE = (0.0, 0.016, 0.0)
WAVES = np.array(
    [
        [NONE, P, Q, R, S, T],
        [(-0.16, 0.064, 0.4), NONE, NONE, (0.0, 0.045, 1.6), (0.11, 0.05, -0.35), (0.29, 0.08, -0.6)],
        [NONE, NONE, (-0.06, 0.03, 0.2), (0.0, 0.035, -1.4), (0.085, 0.035, -1.0), (0.32, 0.08, 0.6)],
        [(-0.28, 0.064, 0.4), (-0.12, 0.03, -0.2), Q, R, S, T],
        [NONE, P, Q, R, S, T],
    ]
)  # (class, wave, 3); the first wave is the T of the beat before
FUSION = (0.25, 0.75)  # the PVC's part in a beat of class 5
SPREAD = (0.006, 0.1, 0.12)  # of each wave: time in s, width and height as shares
NOISE = (0.02, 0.08)  # mV, of classes 1 to 4 and of class 5

Floats = NDArray[np.floating[Any]]


def heartbeats(part: str, seed: int, count: int, option: str = "") -> Record:
    """`count` beats (count, 140) in mV, float32, with labels 1 to 5 (int64)."""
    beats = np.empty((count, SAMPLES), np.float32)
    labels = np.empty(count, np.int64)
    for rows, (rng,) in streams(part, seed, count, 1):
        kind = rng.choice(len(COUNTS), BLOCK, p=np.divide(COUNTS, sum(COUNTS)))
        size = rows.stop - rows.start
        beats[rows] = _beats(kind, rng)[:size]
        labels[rows] = kind[:size] + 1
    return record_of(beats, f"heartbeats ({part})", labels=labels, sampling_rate=SAMPLING_RATE)


def _beats(kind: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Beats in mV, (B, T), of the classes `kind` (B,), counted from 0."""
    time = np.arange(SAMPLES) / SAMPLING_RATE - R_TIME
    rr = rng.normal(*RR, (BLOCK, 1)).clip(0.4, 1.2)
    beats = _waves(kind, rr, time, rng)
    fused = kind == 4
    share = rng.uniform(*FUSION, (fused.sum(), 1))
    beats[fused] = (1 - share) * beats[fused] + share * _waves(np.full(fused.sum(), 2), rr[fused], time, rng)
    breath = rng.uniform(0, 2 * np.pi, (BLOCK, 1))
    beats *= 1 + 0.08 * np.cos(breath)
    beats += 0.1 * np.sin(2 * np.pi * 0.25 * time + breath)
    return np.asarray(beats + np.where(fused, NOISE[1], NOISE[0])[:, None] * rng.standard_normal(beats.shape))


def _waves(kind: NDArray[np.int64], rr: Floats, time: Floats, rng: np.random.Generator) -> Floats:
    """The sum of the waves of each beat, (B, T)."""
    centre, width, height = np.moveaxis(WAVES[kind], 2, 0)  # (B, wave) each
    spread_time, spread_width, spread_height = SPREAD
    varied = rng.standard_normal((3, *centre.shape)).clip(-2.5, 2.5)
    centre = centre * np.sqrt(rr) + spread_time * varied[0]
    width = width * np.sqrt(rr) * (1 + spread_width * varied[1])
    height = height * (1 + spread_height * varied[2])
    beats = np.zeros((len(kind), len(time)))
    for wave in range(centre.shape[1]):
        distance = (time - centre[:, wave, None]) / width[:, wave, None]
        beats += height[:, wave, None] * np.exp(-0.5 * distance**2)
    return beats
