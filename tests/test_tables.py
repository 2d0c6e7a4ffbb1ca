"""Tables of words and gaps: what the reader makes of them, and what the verbs do."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from format_files import fault, whole, write
from hypothesis import given, settings
from hypothesis import strategies as st
from program import QUICK, aekit, fails, result, table

from aekit import checkpoint, tables
from aekit.errors import AekitError
from aekit.formats import open_record
from aekit.formats._columns import MISSING
from aekit.records import Record, record_of


def is_word(text: str) -> bool:
    """Whether a column of such is no column of numbers or dates."""
    return text.strip() == text and not any(c.isdigit() or c in "\r\n\x85\u2028\u2029" for c in text) and text not in (
        "inf", "infinity", "-inf", "+inf", "nan"
    )  # fmt: skip


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "N")), max_size=6).filter(is_word)
CELLS = st.one_of(WORDS, st.sampled_from(["a,b", 'say "no"', "x;y", "tab\there", "", "?", "NA", "it's"]))


def sheet(folder: Path, text: str, name: str = "t.csv", spec: str = "") -> Record:
    (folder / name).write_text(text, encoding="utf-8")
    return open_record(f"{folder}/{name}{spec}")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data(), separator=st.sampled_from(",;\t"))
def test_words_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, separator: str):
    rows = data.draw(st.integers(2, 40))
    words = data.draw(st.lists(CELLS, min_size=rows, max_size=rows))
    if all(word.lower() in MISSING for word in words):
        words[0] = "red"
    numbers = data.draw(st.lists(st.none() | st.floats(allow_infinity=False, allow_nan=False), min_size=rows,
                                 max_size=rows))  # fmt: skip
    numbers[0] = 1.5
    text = io.StringIO()
    out = csv.writer(text, delimiter=separator, lineterminator="\n")
    out.writerow(["number", "word", "other"])
    out.writerows(["" if n is None else repr(n), word, "ab"[i % 2]] for i, (n, word) in
                  enumerate(zip(numbers, words, strict=True)))  # fmt: skip
    record = sheet(tmp_path_factory.getbasetemp(), text.getvalue())
    assert (record.kind, record.columns, record.shape) == ("table", ("number", "word", "other"), (rows, 3))
    words = ["" if word.strip().lower() in MISSING else word.strip() for word in words]
    assert record.categories == ((), tuple(sorted(set(words))), ("a", "b"))
    assert any("column word has no word" in note for note in record.notes) == ("" in words)
    values = whole(record)
    np.testing.assert_array_equal(values[:, 0], [np.nan if n is None else n for n in numbers])
    assert [record.categories[1][int(place)] for place in values[:, 1]] == words

    hot = tables.encoded(record)
    assert hot.columns == ("number", *(f"word={w}" for w in record.categories[1]), "other=a", "other=b")
    found = whole(hot)[:, 1:-2]
    assert (found.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(found.argmax(axis=1), values[:, 1])
    assert tables.encoded(hot) is hot
    np.testing.assert_array_equal(whole(tables.encoded(record, hot.columns)), whole(hot))


COLOURS = "size,colour,weight\n1,red,10\n2,blue,20\n3,red,30\n4,,40\n"


def test_a_column_of_words_becomes_one_column_for_each_word(tmp_path: Path) -> None:
    hot = tables.encoded(sheet(tmp_path, COLOURS))
    assert hot.columns == ("size", "colour=", "colour=blue", "colour=red", "weight")
    expected = [[1, 0, 0, 1, 10], [2, 0, 1, 0, 20], [3, 0, 0, 1, 30], [4, 1, 0, 0, 40]]
    np.testing.assert_array_equal(whole(hot), expected)
    np.testing.assert_array_equal(hot.read(1, 3), expected[1:3])
    assert (hot.categories, hot.shape, hot.sample_shape) == ((), (4, 5), (1, 5))


def test_a_table_is_brought_to_the_columns_of_a_model(tmp_path: Path) -> None:
    columns = tables.encoded(sheet(tmp_path, COLOURS)).columns
    other = sheet(tmp_path, "colour,weight,size\nviolet,1,2\nred,3,4\nviolet,5,6\n")
    there = tables.encoded(other, columns)
    assert there.columns == columns
    np.testing.assert_array_equal(whole(there), [[2, 0, 0, 0, 1], [4, 0, 0, 1, 3], [6, 0, 0, 0, 5]])
    assert tables.unknown_words(other, columns) == {"colour": (["violet"], 2)}
    for text in ("colour,size\nred,1\n", "colour,size,weight,age\nred,1,2,3\n", "colour,size,weight\n1,2,3\n"):
        lacks = sheet(tmp_path, text)
        assert tables.encoded(lacks, columns).columns == tables.encoded(lacks).columns  # which check_fits tells
    with pytest.raises(AekitError, match="two columns are called a; give each a name of its own"):
        tables.encoded(sheet(tmp_path, "a,a,b\nred,1,2\n"))


def test_columns_of_a_model_are_told_by_the_columns_of_the_table(tmp_path: Path) -> None:
    record = sheet(tmp_path, "colour=red,colour,size=big\n1,red,3\n2,blue,4\n")
    columns = ("colour=red", "colour=blue", "colour=green", "size=big")
    assert tables.owners(record, columns) == ("colour=red", "colour", "colour", "size=big")


def test_what_is_no_table_stays_as_it_is(tmp_path: Path) -> None:
    series, numbers = record_of(np.zeros((3, 4))), sheet(tmp_path, "a,b\n1,2\n")
    assert tables.encoded(series, ("a",)) is series
    assert tables.encoded(numbers) is numbers
    assert tables.encoded(numbers, ("a", "b")) is numbers
    assert tables.encoded(numbers, ("b", "a")).columns == ("b", "a")


def test_columns_of_names_and_dates_are_left_out_told_and_written_back(tmp_path: Path) -> None:
    rows = [f"person {i},{i % 7}.5,31.12.20{10 + i % 80},{'ab'[i % 2]},{i}" for i in range(100)]
    text = "\n".join(["name,size,born,kind,rank", *rows]) + "\n"
    record = sheet(tmp_path, text, spec="")
    assert (record.columns, record.categories) == (("size", "kind", "rank"), ((), ("a", "b"), ()))
    assert record.notes == (
        "column name holds 100 different words in 100 rows and is left out",
        "column born holds dates and is left out",
    )
    numbers = sheet(tmp_path, text, spec=":name,size,rank")
    assert (numbers.columns, numbers.categories) == (("size", "rank"), ())
    back = write(tmp_path / "back.csv", whole(numbers), numbers).read_text().splitlines()
    assert back[:2] == ["name,size,rank", "person 0,0.5,0.0"]


def test_a_column_is_of_words_where_no_early_cell_is_a_number(tmp_path: Path) -> None:
    late = "\n".join(["a,b", *("low,1" for _ in range(20)), "3,2"]) + "\n"
    assert sheet(tmp_path, late).categories == (("3", "low"), ())
    early = "\n".join(["a,b", *("low,1" for _ in range(19)), "3,2"]) + "\n"
    (tmp_path / "e.csv").write_text(early)
    assert "e.csv: line 2, column a: 'low' is not a number; mend it" in fault(tmp_path / "e.csv")
    sparse = "\n".join(["a,b", *(",1" for _ in range(50)), "low,2"]) + "\n"
    assert sheet(tmp_path, sparse).categories == (("", "low"), ())
    (tmp_path / "c.csv").write_text("a;b\n1,5;2\n")
    assert "write decimals with a point" in fault(tmp_path / "c.csv")
    nominal = "@attribute size numeric\n@attribute colour {red,blue}\n@attribute kind {x,z}\n@data\n1,red,x\n2,blue,z\n"
    record = sheet(tmp_path, nominal, "t.arff")
    assert (record.categories, record.labels.tolist()) == (((), ("blue", "red")), ["x", "z"])


def test_gaps_are_counted_and_filled(tmp_path: Path) -> None:
    record = sheet(tmp_path, "a,b\n1,\n,\n3,4\n,8\n")
    assert tables.find_gaps(record) == tables.Gaps(4, 3, 0, 1)
    np.testing.assert_array_equal(tables.column_means(record), [2, 6])
    np.testing.assert_array_equal(tables.column_means(record, np.array([True, False, False, True])), [1, 8])
    filled = tables.filled(record, np.array([2.0, 6.0]))
    np.testing.assert_array_equal(whole(filled), [[1, 6], [2, 6], [3, 4], [2, 8]])
    assert tables.find_gaps(filled) is None
    with pytest.raises(AekitError, match="column b has no value in any row"):
        tables.column_means(sheet(tmp_path, "a,b\n1,\n2,\n"))


# --- the verbs --------------------------------------------------------------------------------------------------------


def goods(path: Path, rows: int = 80, gaps: bool = False, colours: str = "red,blue,green", seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    lines = ["size,colour,weight,sold"]
    for i in range(rows):
        size = rng.normal(5, 1)
        weight = "" if gaps and i % 10 == 3 else f"{2 * size + rng.normal(0, 0.1):.3f}"
        lines.append(f"{size:.3f},{rng.choice(colours.split(','))},{weight},yes")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of words and a model trained on it, and a model that fills gaps."""
    folder = tmp_path_factory.mktemp("shop")
    goods(folder / "goods.csv")
    goods(folder / "gaps.csv", gaps=True)
    result(folder, "train", "stacked", "--data", "goods.csv", "-o", "plain", *QUICK)
    result(folder, "train", "stacked", "--data", "gaps.csv", "--missing", "mean", "-o", "filling", *QUICK)
    return folder


def test_words_are_trained_on_scored_and_embedded(shop: Path) -> None:
    columns = ("size", "colour=blue", "colour=green", "colour=red", "weight", "sold=yes")
    assert checkpoint.load(shop / "plain" / "model.safetensors").columns == columns
    goods(shop / "new.csv", 20, colours="red,violet,blue", seed=1)
    done = aekit(shop, "score", "new.csv", "--model", "plain", "--map", "map.csv", "--force")
    assert "new.csv: column colour: the model does not know violet, in " in done.stderr
    assert all(np.isfinite(float(row["score"])) for row in table(shop / "new.scores.csv"))
    assert (shop / "map.csv").read_text().splitlines()[0] == ",".join(columns)
    result(shop, "train", "stacked", "--data", "goods.csv", *QUICK)
    done = aekit(shop, "embed", "new.csv", "--maps", "none", "--json")
    assert json.loads(done.stdout)["model"] == "runs/stacked-goods-1/model.safetensors"
    assert "mirrored" not in done.stderr
    assert result(shop, "info", "gaps.csv")["next"] == "aekit score gaps.csv --missing mean"
    facts = result(shop, "info", "goods.csv")
    assert (facts["columns_of_words"], facts["sample_shape"]) == ("colour (3), sold (1)", "1x6")
    fails(shop, "denoise", "goods.csv", "--model", "plain", says="goods.csv: column colour holds words, which denoise")
    fails(
        shop, "generate", "--between", "0", "1", "--data", "goods.csv", "--model", "plain", says="column colour holds"
    )
    (shop / "less.csv").write_text("size,colour,sold\n1,red,yes\n")
    fails(
        shop, "score", "less.csv", "--model", "plain", says="less.csv: its columns are size, colour=red, sold=yes, the"
    )


def test_a_missing_value_is_a_fault_unless_means_are_asked_for(shop: Path) -> None:
    told = "gaps.csv: row 3, column weight has no value, the first of 8 values in 8 of 80 rows; --missing mean puts"
    for words in (("train", "stacked", "--data", "gaps.csv"), ("score", "gaps.csv", "--model", "plain")):
        fails(shop, *words, says=told)
    fails(shop, "embed", "gaps.csv", "--model", "filling", "--missing", "error", says=told)
    assert (
        "'median' is not one of error, mean" in aekit(shop, "score", "gaps.csv", "--missing", "median", code=2).stderr
    )
    done = aekit(shop, "score", "gaps.csv", "--model", "plain", "--missing", "mean", "--force")
    assert (
        "gaps.csv: 8 values in 8 of 80 rows are missing: the mean of their column in the training data" in done.stderr
    )
    np.save(shop / "series.npy", np.zeros((40, 16)))
    fails(shop, "train", "conv1d", "--data", "series.npy", "--missing", "mean", says="--missing is for tables")


def test_a_model_that_was_trained_with_gaps_fills_them_by_itself(shop: Path) -> None:
    config = json.loads((shop / "filling" / "config.json").read_text())
    assert config["options"]["missing"] == "mean"
    trained = checkpoint.load(shop / "filling" / "model.safetensors")
    record = tables.encoded(open_record(shop / "gaps.csv"))
    np.testing.assert_allclose(trained.normalisation.offset, tables.column_means(record), rtol=1e-12)
    done = aekit(shop, "score", "gaps.csv", "--model", "filling", "-o", "own.csv")
    assert "8 values in 8 of 80 rows are missing" in done.stderr
    by_hand = tables.filled(record, np.array(trained.normalisation.offset))
    rows = [",".join(map(repr, row)) for row in whole(by_hand).tolist()]
    (shop / "hand.csv").write_text("\n".join([",".join(by_hand.columns), *rows]) + "\n")
    result(shop, "score", "hand.csv", "--model", "filling")
    own, hand = ([row["score"] for row in table(shop / name)] for name in ("own.csv", "hand.scores.csv"))
    assert own == hand


def test_means_are_those_of_the_normal_rows(tmp_path: Path) -> None:
    rows = [f"{i},{'' if i % 5 == 0 else 1},a" for i in range(30)] + [f"{i},100,b" for i in range(10)]
    (tmp_path / "t.csv").write_text("\n".join(["x,y,class", *rows]) + "\n")
    (tmp_path / "val.csv").write_text("x,y,class\n1,,a\n2,1,a\n")
    words = ("--data", "t.csv", "--normal", "a", "--missing", "mean", "--val", "val.csv", "-o", "run")
    done = aekit(tmp_path, "train", "stacked", *words, *QUICK)
    assert "t.csv: 6 values in 6 of 40 rows are missing" in done.stderr
    assert "val.csv: 1 values in 1 of 2 rows are missing" in done.stderr
    assert checkpoint.load(tmp_path / "run" / "model.safetensors").normalisation.offset == (14.5, 1.0)
