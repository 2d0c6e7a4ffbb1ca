"""Text whose rows are the points of one series: found out by even times or by a single column, and written back."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from format_files import fault, whole, write
from hypothesis import given
from hypothesis import strategies as st
from program import QUICK, aekit, result

from aekit.formats import open_record
from aekit.formats._clock import even_step, seconds
from aekit.records import Record
from aekit.windows import windows_of

START = datetime(2024, 1, 31, 23, 50)


def sheet(folder: Path, header: str, times: list[str], name: str = "s.csv", separator: str = ",") -> Path:
    """A column of times, then as many columns of numbers as the header has beside it, then label where it has one."""
    columns = header.split(separator)[1:]
    lines = [header]
    for row, time in enumerate(times):
        cells = [
            str(row // 3 % 2) if column == "is_anomaly" else f"{row + 0.5 * k}" for k, column in enumerate(columns)
        ]
        lines.append(separator.join([time, *cells]))
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def every(minutes: float, count: int = 12, pattern: str = "%Y-%m-%d %H:%M:%S") -> list[str]:
    return [(START + timedelta(minutes=minutes * i)).strftime(pattern) for i in range(count)]


def notes(record: Record) -> str:
    return "; ".join(record.notes)


def test_even_times_make_a_series_with_a_rate_and_a_label_per_point(tmp_path: Path) -> None:
    path = sheet(tmp_path, "Timestamp,a,b,is_anomaly", every(5))
    record = open_record(path)
    assert (record.kind, record.shape, record.sample_shape, record.channel_axis) == ("series", (1, 12, 2), (2, 12), 2)
    assert (record.by_point, record.columns, record.labels) == (True, ("a", "b"), None)
    assert record.sampling_rate == pytest.approx(1 / 300)
    assert record.point_labels.tolist() == [0, 0, 0, 1, 1, 1] * 2
    np.testing.assert_array_equal(record.to_samples(whole(record))[0, 1], np.arange(12) + 0.5)
    assert notes(record) == "its rows are one series: column Timestamp tells steps of 300 s"
    assert write(tmp_path / "back.csv", whole(record), record).read_text() == path.read_text()


@pytest.mark.parametrize(
    ("header", "times", "rate"),
    [
        ("date,a,b", every(1440, pattern="%Y-%m-%d"), 1 / 86400),
        ("date,a,b", every(1440, pattern="%Y%m%d"), 1 / 86400),
        ("date,a,b", every(60, pattern="%Y/%m/%d %H:%M"), 1 / 3600),
        ("when,a,b", every(1, pattern="%Y-%m-%dT%H:%M:%SZ"), 1 / 60),
        ("when,a,b", every(1 / 600, pattern="%Y-%m-%dT%H:%M:%S.%f+02:00"), 10),
        ("Month,a,b", [f"20{y}-{m:02}" for y in (24, 25) for m in range(1, 13)], 1 / (31 * 86400)),
        ("time,a,b", [f"{0.01 * i:.2f}" for i in range(300)], 100),
        ("timestamp,a,b", [f"{1_700_000_000_000 + 20 * i}" for i in range(30)], 50),
        (",a,b", every(5), 1 / 300),
    ],
)
def test_times_are_dates_with_the_year_first_or_numbers(
    header: str, times: list[str], rate: float, tmp_path: Path
) -> None:
    path = sheet(tmp_path, header, times)
    record = open_record(path)
    assert (record.by_point, record.shape) == (True, (1, len(times), 2))
    assert record.sampling_rate == pytest.approx(rate, rel=1e-6)
    assert write(tmp_path / "back.csv", whole(record), record).read_text() == path.read_text()


def test_a_column_alone_is_a_series(tmp_path: Path) -> None:
    for text, labels in (
        ("value\n1.5\n2.5\n4.0\n", None),
        ("1.5\n2.5\n4.0\n", None),
        ("Data,Label\n1.5,0\n2.5,1\n4.0,0\n", [0, 1, 0]),
        (",value\n0,1.5\n1,2.5\n2,4.0\n", None),
        ("1.5,calm\n2.5,calm\n4.0,storm\n", ["calm", "calm", "storm"]),
    ):
        (tmp_path / "one.csv").write_text(text)
        record = open_record(tmp_path / "one.csv")
        assert (record.by_point, record.kind, whole(record).tolist()) == (True, "series", [[1.5, 2.5, 4.0]])
        assert (record.sampling_rate, record.labels) == (None, None)
        assert (None if record.point_labels is None else record.point_labels.tolist()) == labels
        assert "each row is a point" in notes(record)
        assert write(tmp_path / "back.csv", whole(record), record).read_text() == text


def test_a_chosen_column_is_a_series_with_its_times(tmp_path: Path) -> None:
    path = sheet(tmp_path, "time,a,b,is_anomaly", every(5))
    record = open_record(f"{path}:b")
    assert (record.shape, record.sampling_rate is None) == ((1, 12), False)
    assert (
        write(tmp_path / "b.csv", whole(record), record)
        .read_text()
        .startswith("time,b,is_anomaly\n2024-01-31 23:50:00,0.5,0\n")
    )
    (tmp_path / "labels.txt").write_text("\n".join(["calm", "storm"] * 6))
    record = open_record(f"{path}:b", labels=str(tmp_path / "labels.txt"))
    assert record.point_labels.tolist() == ["calm", "storm"] * 6
    assert "has 12 labels, the data has 11 rows" in fault(sheet(tmp_path, "time,a", every(5, 11)),
                                                          labels=str(tmp_path / "labels.txt"))  # fmt: skip


@pytest.mark.parametrize(
    ("times", "says"),
    [
        ([*every(5, 30), *every(5, 30)], "times that go back"),  # of two stations, one below the other
        ([f"{i**2}" for i in range(12)], "uneven times"),
        (every(5, pattern="%d.%m.%Y %H:%M"), "no times as 2024-01-31 12:00:00"),
        ([*every(5, 11), ""], "no times as 2024-01-31 12:00:00"),
    ],
)
def test_times_that_make_no_series_are_left_out_and_told(times: list[str], says: str, tmp_path: Path) -> None:
    path = sheet(tmp_path, "time,a,b", times)
    record = open_record(path)
    assert (record.kind, record.columns, record.shape, record.by_point) == ("table", ("a", "b"), (len(times), 2), False)
    assert notes(record) == f"column time holds {says} and is left out"
    assert write(tmp_path / "back.csv", whole(record), record).read_text() == path.read_text()


def test_a_number_called_time_that_goes_back_is_a_number(tmp_path: Path) -> None:
    record = open_record(sheet(tmp_path, "time,age,b", ["5", "3", "9", "7"]))
    assert (record.kind, record.columns, record.notes) == ("table", ("time", "age", "b"), ())
    assert whole(record)[:, 0].tolist() == [5, 3, 9, 7]


def test_words_beside_times_are_left_out_of_the_series(tmp_path: Path) -> None:
    lines = ["time,a,state,b", *(f"{i},{i}.5,{'on' if i % 2 else 'off'},{i}.25" for i in range(9))]
    (tmp_path / "s.csv").write_text("\n".join(lines) + "\n")
    record = open_record(tmp_path / "s.csv")
    assert (record.shape, record.columns) == ((1, 9, 2), ("a", "b"))
    assert "column state holds words and is left out" in notes(record)
    assert write(tmp_path / "back.csv", whole(record), record).read_text() == "\n".join(lines) + "\n"


@given(
    step=st.floats(1e-3, 1e6),
    start=st.floats(-1e9, 1e9),
    count=st.integers(30, 200),
    missing=st.sets(st.integers(5, 25), max_size=1),
)
def test_even_steps_are_found_but_for_a_few_gaps(step: float, start: float, count: int, missing: set[int]) -> None:
    times = np.delete(start + step * np.arange(count), list(missing))
    found = even_step(times)
    assert found is not None
    assert found[0] == pytest.approx(step, rel=1e-3)
    assert found[1] == len(missing)
    assert even_step(times[::-1]) is None
    assert even_step(start + step * np.sqrt(np.arange(count))) is None
    assert even_step(times[:2]) is None


@given(st.lists(st.datetimes(datetime(1950, 1, 1), datetime(2100, 1, 1)), min_size=1, max_size=9))
def test_dates_are_read_to_the_microsecond(dates: list[datetime]) -> None:
    found = seconds([date.isoformat(" ") for date in dates])
    assert found is not None
    expected = [(date - datetime(1970, 1, 1)) / timedelta(seconds=1) for date in dates]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_a_series_is_trained_on_in_windows_and_written_back(tmp_path: Path) -> None:
    rows = [f"{time},{np.sin(i / 8):.4f},{int(i == 200)}" for i, time in enumerate(every(5, 400))]
    (tmp_path / "s.csv").write_text("\n".join(["timestamp,value,is_anomaly", *rows]) + "\n")
    done = aekit(tmp_path, "train", "conv1d", "--data", "s.csv", *QUICK)
    assert "its 400 points are cut into windows of 32, 1 points apart" in done.stderr
    assert "369 rows of 1x32, series" in done.stderr
    result(tmp_path, "denoise", "s.csv")
    back = (tmp_path / "s.denoised.csv").read_text().splitlines()
    assert [line.split(",")[::2] for line in back[1:]] == [line.split(",")[::2] for line in rows]
    assert back[0] == "timestamp,value,is_anomaly"
    assert "tells steps of 300 s" in result(tmp_path, "info", "s.csv")["read_as"]
    assert result(tmp_path, "info", "s.csv")["labels"] == "0 (399), 1 (1)"
    places = [(slice(start, start + 100),) for start in range(0, 301, 50)]
    windows = windows_of(open_record(tmp_path / "s.csv"), (1, 100), places)
    assert (windows.shape, windows.by_point, windows.point_labels) == ((7, 1, 100), False, None)


def test_a_gap_in_a_series_is_named_by_its_point(tmp_path: Path) -> None:
    text = "time,a,b\n" + "".join(f"{i},{i % 5}.5,{'' if i == 70 else i}\n" for i in range(90))
    (tmp_path / "gap.csv").write_text(text)
    done = aekit(tmp_path, "train", "conv1d", "--data", "gap.csv", *QUICK, code=1)
    assert "gap.csv: row 0, point 70, column b is NaN" in done.stderr
