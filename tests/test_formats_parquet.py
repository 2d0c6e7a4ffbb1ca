"""Parquet: numbers as they are asked for, words, times, labels and gaps by the rules of CSV, and back."""

import datetime
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from format_files import fault, numbers, whole, write
from hypothesis import given, settings
from hypothesis import strategies as st
from program import QUICK, aekit, result, table

from aekit.errors import AekitError
from aekit.formats import create, default_out, open_record
from aekit.records import record_of, select

DTYPES = ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8")


def save(path: Path, columns: dict[str, Any], **how: Any) -> Path:
    pq.write_table(pa.table(columns), path, **how)
    return path


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    dtype=st.sampled_from(DTYPES),
    rows=st.integers(1, 40),
    width=st.integers(2, 5),
    group=st.integers(1, 50),
    spans=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=6),
)
def test_any_rows_of_any_numbers_are_those_that_were_written(
    dtype: str,
    rows: int,
    width: int,
    group: int,
    spans: list[tuple[int, int]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    array = numbers((rows, width), dtype)
    columns = {f"c{i}": pa.array(column) for i, column in enumerate(array.T)}
    schema = pa.schema([pa.field(name, column.type, nullable=False) for name, column in columns.items()])
    path = tmp_path_factory.getbasetemp() / "a.parquet"
    pq.write_table(pa.table(columns, schema=schema), path, row_group_size=group)
    record = open_record(path)
    assert (record.shape, record.dtype, record.kind) == (array.shape, np.dtype(dtype), "table")
    assert record.columns == tuple(columns)
    for one, other in spans:
        start, stop = sorted((min(one, rows), min(other, rows)))
        np.testing.assert_array_equal(record.read(start, stop), array[start:stop])
    np.testing.assert_array_equal(whole(record), array)
    back = path.with_name("b.parquet")
    write(back, whole(record), record)
    found = pq.read_table(back)
    assert found.column_names == list(columns)
    np.testing.assert_array_equal(np.stack([column.to_numpy() for column in found.columns], axis=1), array)


def test_series_have_columns_that_are_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", numbers((5, 9)))
    assert pq.read_table(path).column_names == [str(i + 1) for i in range(9)]
    assert open_record(path).kind == "series"
    with pytest.raises(AekitError, match=r"name a \.npy file"):
        write(tmp_path / "b.parquet", numbers((5, 3, 9)))


def test_equal_arrays_give_equal_files_however_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aekit.formats.parquet.GROUP_ROWS", 8)
    array = numbers((30, 4))
    files = [write(tmp_path / f"{rows}.parquet", array, rows=rows).read_bytes() for rows in (1, 7, 8, 30)]
    assert len(set(files)) == 1
    metadata = pq.read_metadata(tmp_path / "7.parquet")
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [8, 8, 8, 6]


def test_missing_numbers_are_nan_and_whole_ones_stay_whole(tmp_path: Path) -> None:
    columns = {"a": pa.array([1, None, 3], pa.int32()), "b": pa.array([True, False, None])}
    record = open_record(save(tmp_path / "a.parquet", columns))
    np.testing.assert_array_equal(whole(record), [[1, 1], [np.nan, 0], [3, np.nan]])
    floats = open_record(
        save(tmp_path / "b.parquet", {"a": pa.array([1.5, None], pa.float32()), "b": pa.array([0, 1])})
    )
    np.testing.assert_array_equal(whole(floats), [[1.5, 0], [np.nan, 1]])
    fields = [pa.field("a", pa.int16(), nullable=False), pa.field("b", pa.int32(), nullable=False)]
    pq.write_table(pa.table({"a": [1, 2], "b": [3, 4]}, schema=pa.schema(fields)), tmp_path / "c.parquet")
    assert open_record(tmp_path / "c.parquet").dtype == np.int32


def test_words_are_columns_of_their_places(tmp_path: Path) -> None:
    columns = {"x": [1.0, 2, 3, 4], "colour": pa.array(["red", "blue", None, "red"]).dictionary_encode()}
    record = open_record(save(tmp_path / "a.parquet", columns))
    assert record.categories == ((), ("", "blue", "red"))
    np.testing.assert_array_equal(whole(record), [[1, 2], [2, 1], [3, 0], [4, 2]])
    assert any("no word in 1 of 4 rows" in note for note in record.notes)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_even_times_make_one_series(tmp_path: Path, unit: str) -> None:
    begin = datetime.datetime(2024, 1, 31, 12)
    times = [begin + datetime.timedelta(seconds=2 * i) for i in range(50)]
    value = numbers((50,), "f8")
    stamps = pa.array(times, pa.timestamp(unit, tz="UTC"))
    path = save(tmp_path / "a.parquet", {"when": stamps, "v": value, "label": [i == 3 for i in range(50)]})
    record = open_record(path)
    assert record.by_point
    assert (record.shape, record.sampling_rate) == ((1, 50), 0.5)
    np.testing.assert_array_equal(record.point_labels, [int(i == 3) for i in range(50)])
    back = tmp_path / "b.parquet"
    write(back, whole(record), record)
    assert pq.read_table(back).column_names == ["when", "v", "label"]
    again = open_record(back)
    assert again.sampling_rate == 0.5
    np.testing.assert_array_equal(whole(again), value[None])


@pytest.mark.parametrize("labels", [[3, 1, 3], ["a", "b", "a"], [True, False, True], [1.0, 0.0, 1.0]])
def test_labels_go_along(tmp_path: Path, labels: list[object]) -> None:
    path = save(tmp_path / "a.parquet", {"a": [1.0, 2, 3], "label": labels, "b": [4.0, 5, 6]})
    record = open_record(path)
    assert record.columns == ("a", "b")
    expected = [int(one) if isinstance(one, bool) else one for one in labels]
    np.testing.assert_array_equal(record.labels, expected)
    back = write(tmp_path / "b.parquet", whole(record), record)
    assert pq.read_table(back).column_names == ["a", "label", "b"]
    np.testing.assert_array_equal(open_record(back).labels, expected)
    some = select(record, np.array([2, 0]))
    np.testing.assert_array_equal(open_record(write(tmp_path / "c.parquet", whole(some), some)).labels, expected[::2])
    np.testing.assert_array_equal(open_record(path, labels="b").labels, [4, 5, 6])
    np.save(tmp_path / "x.npy", numbers((3, 4)))
    np.testing.assert_array_equal(open_record(tmp_path / "x.npy", labels=f"{path}:label").labels, expected)


def test_columns_are_named_after_a_colon(tmp_path: Path) -> None:
    path = save(tmp_path / "a.parquet", {"a": [1.0, 2], "b": ["x", "y"], "c": [5.0, 6]})
    np.testing.assert_array_equal(whole(open_record(f"{path}:c,a")), [[5, 1], [6, 2]])
    assert "has no column 'd'" in fault(f"{path}:a,d")


def test_a_csv_of_words_becomes_parquet_and_back(tmp_path: Path) -> None:
    rows = [f"id{i},{i}.5,{i % 3},{'ok' if i % 2 else 'bad'}" for i in range(60)]
    (tmp_path / "a.csv").write_text("\n".join(["name,a,b,class", *rows]) + "\n")
    record = open_record(tmp_path / "a.csv")
    path = write(tmp_path / "a.parquet", whole(record), record)
    assert pq.read_table(path).column_names == ["name", "a", "b", "class"]
    again = open_record(path)
    np.testing.assert_array_equal(whole(again), whole(record))
    np.testing.assert_array_equal(again.labels, record.labels)
    write(tmp_path / "b.csv", whole(again), again)
    assert (tmp_path / "b.csv").read_text().splitlines()[:2] == ["name,a,b,class", "id0,0.5,0.0,bad"]


def test_nested_columns_are_left_out_and_told(tmp_path: Path) -> None:
    path = save(tmp_path / "a.parquet", {"a": [1.0, 2], "b": [[1], [2, 3]], "c": [1.0, 4]})
    record = open_record(path)
    assert record.columns == ("a", "c")
    assert record.notes == ("column b holds nested values and is left out",)
    assert "holds no numbers or words" in fault(f"{path}:a,b")


def test_faults_are_told_in_a_line(tmp_path: Path) -> None:
    good = save(tmp_path / "good.parquet", {"a": numbers((9_000,)), "b": numbers((9_000,))}, row_group_size=1000)
    data = good.read_bytes()
    for name, content in (("cut", data[:-9]), ("half", data[: len(data) // 2]), ("text", b"a,b\n1,2\n")):
        (tmp_path / f"{name}.parquet").write_bytes(content)
        assert "damaged" in fault(tmp_path / f"{name}.parquet")
    spoilt = bytearray(data)
    spoilt[1000:60_000] = bytes(59_000)
    (tmp_path / "spoilt.parquet").write_bytes(spoilt)
    fault(tmp_path / "spoilt.parquet")
    assert "no rows" in fault(save(tmp_path / "empty.parquet", {"a": pa.array([], pa.float32())}))
    pq.write_table(pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0])], ["a", "a"]), tmp_path / "two.parquet")
    assert "two columns are called a" in fault(tmp_path / "two.parquet")
    path = save(tmp_path / "label.parquet", {"a": [1.0, 2], "b": [3.0, 4], "label": ["x", None]})
    assert "row 1, column label: its label is missing" in fault(path)
    nested = save(tmp_path / "nested.parquet", {"a": [[1.0], [2.0]]})
    assert "has no column of numbers or words" in fault(nested)


def test_a_table_of_words_is_not_read_whole_where_it_is_very_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aekit.formats.parquet.MOST_ROWS", 3)
    path = save(tmp_path / "a.parquet", {"a": [1.0] * 4, "b": [2.0] * 4, "w": ["x", "y"] * 2})
    assert "name the columns of numbers" in fault(path)
    assert open_record(f"{path}:a,b").shape == (4, 2)


def test_numbers_are_read_a_batch_at_a_time(tmp_path: Path) -> None:
    array = numbers((400_000, 8))
    path = save(tmp_path / "a.parquet", {f"c{i}": column for i, column in enumerate(array.T)}, row_group_size=20_000)
    record = open_record(path)
    tracemalloc.start()
    total = sum(float(record.read(start, start + 1000).sum(dtype=np.float64)) for start in range(0, len(record), 1000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < array.nbytes / 3  # a group of rows as it lies in the file, and a batch of it
    assert total == pytest.approx(array.sum(dtype=np.float64))


def test_verbs_take_parquet(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = {"a": rng.normal(size=200), "b": rng.normal(size=200), "kind": rng.choice(["x", "y"], 200)}
    save(tmp_path / "t.parquet", columns)
    aekit(tmp_path, "train", "stacked", "--data", "t.parquet", *QUICK, "--quiet")
    assert result(tmp_path, "score", "t.parquet", "--quiet")["count"] == 200
    assert set(table(tmp_path / "t.scores.csv")[0]) >= {"score", "columns"}
    assert result(tmp_path, "embed", "t.parquet", "-o", "z.parquet", "--maps", "none", "--quiet")["count"] == 200
    assert open_record(tmp_path / "z.parquet").shape[0] == 200
    assert default_out("t.parquet", "denoised") == Path("t.denoised.parquet")


def test_without_labels_of_its_own_a_table_takes_those_of_the_record(tmp_path: Path) -> None:
    record = record_of(numbers((4, 3)), labels=np.array(["a", "b", "a", "b"]))
    with create(tmp_path / "a.parquet", record, record.shape, record.dtype) as writer:
        writer.write(whole(record))
    np.testing.assert_array_equal(open_record(tmp_path / "a.parquet").labels, record.labels)
