"""Separators, headers, label columns and gaps of text files are found out, and written back alike."""

from pathlib import Path

import numpy as np
import pytest
from format_files import whole, write

from aekit.formats import open_record
from aekit.records import Record


def text_record(folder: Path, text: str, name: str = "t.csv", spec: str = "", **asked: str) -> Record:
    (folder / name).write_text(text, encoding="utf-8")
    return open_record(f"{folder}/{name}{spec}", **asked)


def test_header_labels_and_gaps_of_a_table(tmp_path: Path) -> None:
    text = '# from the lab\n"height, cm",width,class\n1.5,2,a b\n,NA,c_d\n3,nan,a b\n'
    record = text_record(tmp_path, text)
    assert (record.kind, record.columns, record.shape) == ("table", ("height, cm", "width"), (3, 2))
    assert record.labels.tolist() == ["a b", "c_d", "a b"]
    np.testing.assert_array_equal(whole(record), [[1.5, 2], [np.nan, np.nan], [3, np.nan]])
    back = write(tmp_path / "back.csv", whole(record), record).read_text()
    assert back == '"height, cm",width,class\n1.5,2.0,a b\nnan,nan,c_d\n3.0,nan,a b\n'


@pytest.mark.parametrize(
    "text",
    [
        "1.5,2\n3,4\n",
        "1.5;2\n3;4\n",
        "1.5\t2\n3\t4\n",
        "1.5 2\n3 4",
        "  1.5   2\r\n  3   4  \r\n\n\n",
        "\ufeff1.5,2\n\n3,4",
    ],
)
def test_separators_are_found_out(text: str, tmp_path: Path) -> None:
    record = text_record(tmp_path, text)
    np.testing.assert_array_equal(whole(record), [[1.5, 2], [3, 4]])
    assert (record.kind, record.columns, record.labels) == ("series", (), None)


def test_columns_by_name_and_by_number(tmp_path: Path) -> None:
    text = "when,a,b,species\n2024-01-01,1,2,x\n2024-01-02,3,4,y\n"
    record = text_record(tmp_path, text, spec=":b,a", labels="species")
    assert (whole(record).tolist(), record.columns, record.labels.tolist()) == (
        [[2, 1], [4, 3]],
        ("b", "a"),
        ["x", "y"],
    )
    record = text_record(tmp_path, "7,1,2\n8,3,4\n", labels="1")
    assert (whole(record).tolist(), record.labels.tolist()) == ([[1, 2], [3, 4]], [7, 8])


def test_what_looks_like_labels_but_is_none(tmp_path: Path) -> None:
    assert text_record(tmp_path, "x,y,z\n1,2,3\n").shape == (1, 3)  # coordinates
    assert text_record(tmp_path, "y\n1\n2\n").labels is None  # the only column
    starts_at_zero = "".join(f"0.0\t0.{i}\t0.3\n" for i in range(1, 9))
    assert text_record(tmp_path, starts_at_zero, "t.tsv").labels is None
    whole_numbers = "".join(f"{i % 2}\t{i}\t3\n" for i in range(9))
    assert text_record(tmp_path, whole_numbers, "t.tsv").labels is None


def test_text_without_a_header_may_hold_labels(tmp_path: Path) -> None:
    ucr = "".join(f"{1 + i % 2}\t0.{i}\t-1.{i}e-1\n" for i in range(1, 9))
    for name in ("t.tsv", "t.csv", "t.txt"):
        record = text_record(tmp_path, ucr, name)
        assert (record.shape, record.kind, record.labels.tolist()) == ((8, 2), "series", [2, 1] * 4)
    assert write(tmp_path / "u.tsv", whole(record), record).read_text().startswith("2\t0.1\t-0.11\n1\t0.2")
    assert text_record(tmp_path, "1.5,2.5,normal.\n3.5,4.5,attack.\n").labels.tolist() == ["normal.", "attack."]
    only_class_one = "".join(f"1\t0.{i}\t0.5\n" for i in range(1, 9))
    assert text_record(tmp_path, only_class_one, "t.tsv").labels.tolist() == [1] * 8


def test_an_index_of_pandas_or_r_is_no_data(tmp_path: Path) -> None:
    record = text_record(tmp_path, ",a,b\n0,1.5,2.5\n1,3.5,4.5\n")
    assert (record.columns, whole(record).tolist()) == (("a", "b"), [[1.5, 2.5], [3.5, 4.5]])
    assert write(tmp_path / "i.csv", whole(record), record).read_text() == ",a,b\n0,1.5,2.5\n1,3.5,4.5\n"
    record = text_record(tmp_path, "0,1,2\n0.5,1.5,2.5\n")
    assert (record.shape, record.kind) == ((1, 3), "series")


def test_arff(tmp_path: Path) -> None:
    text = "% about\n@RELATION r\n@attribute 'a b' NUMERIC\n@attribute c real\n@attribute kind {'x y',z}\n\n@DATA\n"
    record = text_record(tmp_path, text + "1,?,'x y'\n2.5,3,z\n", "t.arff")
    assert (record.kind, record.columns, record.labels.tolist()) == ("table", ("a b", "c"), ["x y", "z"])
    np.testing.assert_array_equal(whole(record), [[1, np.nan], [2.5, 3]])
    again = open_record(write(tmp_path / "u.arff", whole(record), record))
    assert (again.columns, again.labels.tolist()) == (record.columns, record.labels.tolist())
    series = "".join(f"@attribute att{i} numeric\n" for i in range(3)) + "@attribute target {1,2}\n@data\n1,2,3,2\n"
    record = text_record(tmp_path, series, "t.arff")
    assert (record.kind, record.columns, record.labels.tolist()) == ("series", (), [2])


def test_one_column_keeps_its_gaps(tmp_path: Path) -> None:
    np.testing.assert_array_equal(whole(text_record(tmp_path, "1\n\n3\n\n")), [[1, np.nan, 3]])
