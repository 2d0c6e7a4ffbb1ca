"""The verbs on miniSEED, SAC and WFDB: outputs in the input's format, with stations, times and gaps."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from program import QUICK, aekit, contents, result, table
from recordings import START, obspy, three_channels_with_a_gap, trace, write_mseed, write_sac, write_wfdb
from test_picks import quakes

from aekit.formats import open_record
from aekit.records import Recorded, record_of
from aekit.workflows.common import gap_share

POINTS = 128


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of each kind: masks for each channel, a vector, picks; and one for ECG of two signals."""
    folder = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    x = 500 * np.sin(np.arange(POINTS) / 5) + 100 * rng.normal(size=(40, 3, POINTS))
    np.savez(folder / "three.npz", data=x, sampling_rate=20.0)
    np.savez(folder / "two.npz", data=x[:, :2] / 500, sampling_rate=250.0)
    noisy = ("--corrupt", "gaussian:0.3")
    aekit(folder, "train", "deepdenoiser", "--data", "three.npz", *noisy, "-o", "masks", *QUICK)
    aekit(folder, "train", "conv1d", "--data", "three.npz", "-o", "vector", *QUICK)
    aekit(folder, "train", "conv1d", "--data", "two.npz", "-o", "ecg", *QUICK)
    aekit(folder, "train", "eqtransformer", "--data", quakes(folder).name, "-o", "picks", *QUICK)
    return folder


def traces_of(path: Path) -> list["obspy.Trace"]:
    with open(path, "rb") as f:
        return sorted(obspy.read(f), key=lambda t: (t.id, t.stats.starttime))


@pytest.mark.parametrize(
    "traces",
    [
        three_channels_with_a_gap(),
        [trace(f"CH.{station}..BH{letter}", 500) for station in ("BBB", "AAA") for letter in "Z12"],
        [trace("CH.AAA.00.HHZ", 700)],
    ],
    ids=["gap", "stations", "one"],
)
def test_denoise_gives_the_same_traces_without_the_noise(
    traces: list["obspy.Trace"], models: Path, tmp_path: Path
) -> None:
    write_mseed(tmp_path / "day.mseed", *traces)
    done = aekit(tmp_path, "denoise", "day.mseed", "--model", str(models / "masks"), "--noise-out", "noise.mseed")
    noisy, cleaned, rest = (traces_of(tmp_path / f"{name}.mseed") for name in ("day", "day.denoised", "noise"))
    assert len(noisy) == len(cleaned) == len(rest) == len(traces)
    for before, after, noise in zip(noisy, cleaned, rest, strict=True):
        for key in ("network", "station", "location", "channel", "starttime", "sampling_rate", "npts"):
            assert before.stats[key] == after.stats[key] == noise.stats[key]
        assert (after.data.dtype, after.stats.mseed.encoding) == (np.int32, "STEIM2")
        assert not np.array_equal(after.data, before.data)
        np.testing.assert_array_equal(after.data + noise.data, before.data)
    says = "day.mseed: 350 of 5,100 values were not recorded; what lies beside stands in for them"
    assert (says in done.stderr) == (len(traces) == 6 and traces[0].id[3:6] == "AAA")


def test_denoise_gives_sac_and_wfdb_with_their_headers(models: Path, tmp_path: Path) -> None:
    write_sac(tmp_path / "one.sac", a=10.0, kevnm="a quake")
    aekit(tmp_path, "denoise", "one.sac", "-o", "clean.sac", "--model", str(models / "masks"))
    before, after = (obspy.read(str(tmp_path / f"{name}.sac"))[0] for name in ("one", "clean"))
    assert not np.array_equal(before.data, after.data)
    for key in ("a", "kevnm", "b", "nzyear", "knetwk", "delta", "npts"):
        assert before.stats.sac[key] == after.stats.sac[key]
    assert before.stats.starttime == after.stats.starttime
    write_wfdb(tmp_path / "100.hea", np.random.default_rng(0).integers(-100, 100, (500, 2)), "212")
    aekit(tmp_path, "denoise", "100.hea", "--model", str(models / "ecg"))
    texts = [(tmp_path / name).read_text().splitlines() for name in ("100.hea", "100_denoised.hea")]
    assert [line.split()[1:5] for line in texts[1][1:3]] == [line.split()[1:5] for line in texts[0][1:3]]
    assert texts[1][3:] == texts[0][3:]
    assert open_record(tmp_path / "100_denoised.hea").shape == (1, 2, 500)


def test_a_record_of_two_files_is_whole_or_absent(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wfdb(tmp_path / "100.hea", np.random.default_rng(0).integers(-100, 100, (500, 2)))
    (tmp_path / "out.dat").write_text("old")
    before = contents(tmp_path)
    words = ("denoise", "100.hea", "-o", "out.hea", "--model", str(models / "ecg"))
    aekit(tmp_path, *words, code=1)
    assert contents(tmp_path) == before

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        aekit(tmp_path, *words, "--force", code=130)
    assert contents(tmp_path) == before
    aekit(tmp_path, *words, "--force")
    assert open_record(tmp_path / "out.hea").shape == (1, 2, 500)


def test_scores_and_latents_tell_station_time_and_gap(models: Path, tmp_path: Path) -> None:
    write_mseed(tmp_path / "gap.mseed", *three_channels_with_a_gap())
    aekit(tmp_path, "score", "gap.mseed", "--model", str(models / "vector"))
    rows = table(tmp_path / "gap.scores.csv")
    assert {row["station"] for row in rows} == {"CH.AAA..HH"}
    times = [obspy.UTCDateTime(row["time"]) for row in rows]
    starts = [int(row["start"]) for row in rows]
    assert times == [obspy.UTCDateTime(START) + start / 20 for start in starts]
    inside = [len(set(range(900, 1000)) & set(range(start, start + POINTS))) / POINTS for start in starts]
    np.testing.assert_allclose([float(row["in_gap"]) for row in rows], inside, rtol=1e-6)
    assert result(tmp_path, "embed", "gap.mseed", "--model", str(models / "vector"))["count"] == len(rows)


def test_picks_tell_station_and_time(models: Path, tmp_path: Path) -> None:
    words = ("--model", str(models / "picks"), "--pick-thresholds", "0.01,0.01,0.01")
    write_mseed(tmp_path / "two.mseed", *(trace(f"CH.{name}..HHZ", 600) for name in ("AAA", "BBB")))
    figures = result(tmp_path, "score", "two.mseed", *words)
    rows = table(tmp_path / "two.picks.csv")
    assert len(rows) == figures["detections"] + figures["p_picks"] + figures["s_picks"] > 0
    for row in rows:
        assert row["station"] == ("CH.AAA..HH", "CH.BBB..HH")[int(row["row"])]
        assert row["time"].endswith("Z")
        assert abs(obspy.UTCDateTime(row["time"]) - obspy.UTCDateTime(START) - float(row["start_seconds"])) < 2e-6
    write_sac(tmp_path / "p.sac", 600, a=10.0, t0=15.0)
    assert "p_recall" in result(tmp_path, "score", "p.sac", *words)
    write_mseed(tmp_path / "hole.mseed", trace("CH.AAA..HHZ", 300), trace("CH.AAA..HHZ", 300, 75.0))
    result(tmp_path, "score", "hole.mseed", *words)
    for row in table(tmp_path / "hole.picks.csv"):
        first, last = (round(float(row[f"{end}_seconds"]) * 20) for end in ("start", "end"))
        assert not 300 <= first <= last < 1500


def test_share_of_stretches_that_lies_in_gaps() -> None:
    record = record_of(np.zeros((2, 100), np.float32))
    row, first, points = (np.array(values) for values in ([0, 0, 0, 1, 1], [0, 10, 15, 5, 0], [10, 10, 10, 1, 100]))
    assert gap_share(record, row, first, points).tolist() == [0] * 5
    gaps = np.array([(0, 10, 20), (1, 5, 6), (1, 50, 99)])
    record = type(record)(**{**record.__dict__, "recorded": Recorded((), None, gaps, 60)})
    np.testing.assert_allclose(gap_share(record, row, first, points), [0, 1, 0.5, 1, 0.5])


def test_info_tells_stations_start_and_gaps(tmp_path: Path) -> None:
    write_mseed(tmp_path / "gap.mseed", *three_channels_with_a_gap())
    facts = result(tmp_path, "info", "gap.mseed")
    assert (facts["rows"], facts["sample_shape"], facts["type"]) == (1, "3x1700", "int32")
    assert (facts["stations"], facts["start"]) == ("CH.AAA..HH", START)
    assert (facts["gaps"], facts["values_not_recorded"]) == (1, 350)


def test_doctor_tells_which_formats_want_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = result(tmp_path, "doctor")
    assert ".mseed" in facts["formats"]
    assert facts["formats_missing"] is None
    plain = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("obspy", "wfdb") else plain(name))
    facts = result(tmp_path, "doctor")
    assert ".mseed" not in facts["formats"]
    assert '.mseed .miniseed .sac: pip install "aekit[seismic]"' in facts["formats_missing"]
    assert '.hea: pip install "aekit[ecg]"' in facts["formats_missing"]
