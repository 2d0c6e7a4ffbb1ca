"""Small recordings in the formats that only an input of theirs can be written to: miniSEED, SAC and WFDB."""

import warnings
from pathlib import Path

import numpy as np

from aekit.records import Array

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what these libraries use although it will go
    import obspy
    import wfdb
    from obspy.core.util import AttribDict

ENDINGS = (".mseed", ".miniseed", ".sac", ".hea")
START = "2024-03-01T12:00:00.123456Z"


def trace(
    code: str, count: int, first: float = 0.0, rate: float = 20.0, dtype: str = "i4", seed: int = 0
) -> "obspy.Trace":
    """A trace NET.STA.LOC.CHA of a noisy wave that begins `first` seconds after START."""
    rng = np.random.default_rng([seed, *code.encode(), count])
    data = (500 * np.sin(np.arange(count) / 5) + 100 * rng.normal(size=count)).astype(dtype)
    names = ("network", "station", "location", "channel")
    header = dict(zip(names, code.split("."), strict=True), sampling_rate=rate)
    return obspy.Trace(data, {**header, "starttime": obspy.UTCDateTime(START) + first})


def write_mseed(path: Path, *traces: "obspy.Trace", **settings: object) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of traces that are not all of one encoding
        obspy.Stream(list(traces)).write(str(path), format="MSEED", **settings)
    return path


def three_channels_with_a_gap() -> list["obspy.Trace"]:
    """One station from E to Z, 85 s: 5 s of all channels are missing, 2.5 s more of N."""
    before = [trace(f"CH.AAA..HH{letter}", 900) for letter in "ENZ"]
    return [*before, *(trace(f"CH.AAA..HH{c}", n, 85 - n / 20) for c, n in (("E", 700), ("N", 650), ("Z", 700)))]


def write_sac(path: Path, count: int = 1500, byteorder: str = "<", **header: object) -> Path:
    vertical = trace("CH.AAA.00.HHZ", count, dtype="f4")
    vertical.stats.sac = AttribDict(header)
    vertical.write(str(path), format="SAC", byteorder=byteorder)
    return path


def write_wfdb(path: Path, digital: Array, form: str = "16", **more: object) -> Path:
    """Digital values (T, C) with other gains, baselines and units for each channel."""
    channels = digital.shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wfdb.wrsamp(
            path.stem,
            fs=250,
            units=["mV", "uV", "mmHg"][:channels],
            sig_name=["I", "V 5", "ABP"][:channels],
            d_signal=digital,
            fmt=[form] * channels,
            adc_gain=[200.0, 3.5, 100.0][:channels],
            baseline=[5, -3, 0][:channels],
            comments=["age: 50"],
            write_dir=str(path.parent),
            **more,
        )
    return path


def write_recording(path: Path) -> Path:
    """A small file of the format that the ending names."""
    if path.suffix == ".sac":
        return write_sac(path, 300)
    if path.suffix == ".hea":
        return write_wfdb(path, np.random.default_rng(0).integers(-100, 100, (300, 2)))
    return write_mseed(path, *(trace(f"CH.AAA..HH{c}", 200) for c in "12345"), reclen=512)  # five records
