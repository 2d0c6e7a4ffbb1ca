"""--shard and merge: the parts of a job together are the bytes that the verb writes alone, or one line says why not."""

import json
import shutil
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from program import QUICK, aekit, contents, fails, result, table, waves

from aekit import workflows
from aekit.errors import AekitError, UsageError
from aekit.records import record_of, rows_of
from aekit.workflows import shards
from aekit.workflows.shards import Shard, Span, parse_shard

ROWS = 120
SMALL = ("--batch-size", "16")  # so that parts begin within a batch


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled traces, longer ones, a table of words, and models of the traces and of the table."""
    folder = tmp_path_factory.mktemp("lab")
    x, label = waves(ROWS), np.where(np.arange(ROWS) % 9 == 0, "odd", "usual")
    x[label == "odd"] *= 2
    np.savez(folder / "traces.npz", x=x, label=label, sampling_rate=100.0)
    np.save(folder / "long.npy", waves(ROWS, points=200))
    rng = np.random.default_rng(0)
    lines = [f"{a:.3f},{b:.3f},{'red' if a > 0 else 'blue'}" for a, b in rng.normal(size=(ROWS, 2))]
    (folder / "table.csv").write_text("\n".join(["a,b,colour", *lines, "99,99,red"]) + "\n")
    aekit(folder, "train", "conv1d", "--data", "traces.npz", "--normal", "usual", *QUICK)
    aekit(folder, "train", "stacked", "--data", "table.csv", *QUICK)
    return folder


def traces_model(lab: Path) -> tuple[str, ...]:
    return "--model", str(lab / "runs" / "conv1d-traces-1")


def shard_all(folder: Path, count: int, *words: str) -> None:
    for number in range(1, count + 1):
        aekit(folder, *words, "--shard", f"{number}/{count}", "--quiet")


def check_merged(folder: Path, out: str, count: int, *words: str) -> None:
    """The verb alone and in so many parts writes the same bytes, beside OUT too, and tells the same figures."""
    figures = result(folder, *words, "-o", out, "--quiet")
    beside = Path(out).with_suffix(".labels.csv")
    alone = {name: (folder / name).read_bytes() for name in (out, str(beside)) if (folder / name).exists()}
    for name in alone:
        (folder / name).unlink()
    shard_all(folder, count, *words, "-o", out)
    assert not (folder / out).exists()
    merged = result(folder, "merge", out, "--quiet")
    assert alone == {name: (folder / name).read_bytes() for name in alone}
    assert merged.pop("parts") == count
    for name in set(merged) - {"seconds", "model"}:
        assert merged[name] == figures[name], name


# --- cutting ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 10_000), st.integers(1, 300))
def test_shards_cover_all_rows_once_and_are_alike(count: int, of: int) -> None:
    spans = [Shard(number, of).rows(count) for number in range(1, of + 1)]
    assert spans[0][0] == 0
    assert spans[-1][1] == count
    assert all(one[1] == other[0] for one, other in pairwise(spans))
    sizes = {stop - start for start, stop in spans}
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.integers(1, 9), min_size=1), st.integers(1, 3), st.data())
def test_of_what_is_computed_a_shard_keeps_its_own_rows(sizes: list[int], each: int, data: st.DataObject) -> None:
    rows = sum(sizes)
    before = data.draw(st.integers(0, rows - 1))
    own = data.draw(st.integers(1, rows - before))
    made = np.arange(rows * each)
    chunks = np.split(made, np.cumsum(sizes)[:-1] * each)
    span = Span(record_of(np.zeros((rows, 4))), before, own, 0)
    kept = np.concatenate(list(span.own(chunks, each)))
    np.testing.assert_array_equal(kept, made[before * each : (before + own) * each])


def test_rows_of_a_record_know_their_place_in_the_file() -> None:
    record = rows_of(rows_of(record_of(np.arange(40).reshape(10, 4)), 2, 9), 3, 5)
    assert record.first == 5
    np.testing.assert_array_equal(record.read(0, 2)[:, 0], [20, 24])


@pytest.mark.parametrize("word", ["0/3", "4/3", "1", "1/0", "-1/3", "1/3/5", "one/3", "1/ 3", "²/3"])
def test_words_that_are_no_shard_are_refused(word: str) -> None:
    with pytest.raises(UsageError, match="no I/N"):
        parse_shard(word)


# --- the same bytes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("out", ["out.npy", "out.h5", "out.csv", "out.parquet"])
@pytest.mark.parametrize("verb", ["denoise", "embed"])
def test_merged_rows_are_those_of_the_whole(lab: Path, tmp_path: Path, verb: str, out: str, count: int) -> None:
    more = ("--maps", "none") if verb == "embed" else ()
    check_merged(tmp_path, out, count, verb, str(lab / "traces.npz"), *traces_model(lab), *SMALL, *more)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_merged_scores_are_those_of_the_whole(lab: Path, tmp_path: Path, count: int) -> None:
    words = ("score", str(lab / "traces.npz"), *traces_model(lab), *SMALL)
    check_merged(tmp_path, "out.csv", count, *words)
    assert list(table(tmp_path / "out.csv")[0]) == ["row", "score", "p_value", "anomaly", "label"]
    assert {"auroc", "pca_auroc"} <= set(result(tmp_path, "merge", "out.csv", "--force"))


@pytest.mark.parametrize(("verb", "out"), [("denoise", "out.npy"), ("score", "out.csv"), ("embed", "out.npy")])
def test_parts_of_one_row(lab: Path, tmp_path: Path, verb: str, out: str) -> None:
    np.save(tmp_path / "few.npy", waves(9))
    more = ("--maps", "none") if verb == "embed" else ()
    check_merged(tmp_path, out, 9, verb, "few.npy", *traces_model(lab), *more)


@pytest.mark.parametrize(("verb", "out"), [("denoise", "out.npy"), ("score", "out.csv"), ("embed", "out.npy")])
def test_rows_of_many_windows_in_a_file_of_many_chunks(
    lab: Path, tmp_path: Path, verb: str, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk of 31 rows would end in a batch of one window, whose bits are others than those of full batches."""
    monkeypatch.setattr("aekit.batches.CHUNK_BYTES", 25_000)
    more = ("--maps", "none") if verb == "embed" else ()
    batch = ("--batch-size", "5" if verb == "denoise" else "3")
    check_merged(tmp_path, out, 7, verb, str(lab / "long.npy"), *traces_model(lab), *batch, *more)


def test_values_that_choose_their_type_by_the_chunk(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole numbers of 24 bits are overlaid in float32, and in float64 where one of the chunk is larger."""
    monkeypatch.setattr("aekit.batches.CHUNK_BYTES", 25_000)
    rows = (1_000_000 * waves(ROWS, points=200)).astype(np.int32)
    rows[40, 0] = 1 << 25
    np.save(tmp_path / "counts.npy", rows)
    check_merged(tmp_path, "out.npy", 7, "denoise", "counts.npy", *traces_model(lab), "--batch-size", "6")


def test_a_table_of_words_names_the_columns_of_a_score(lab: Path, tmp_path: Path) -> None:
    model = ("--model", str(lab / "runs" / "stacked-table-1"))
    check_merged(tmp_path, "out.csv", 3, "score", str(lab / "table.csv"), *model, "--threshold", "quantile=0.9", *SMALL)
    named = [row["columns"] for row in table(tmp_path / "out.csv")]
    assert "%" in named[-1]
    assert "" in named


def test_a_model_of_the_input_itself_judges_all_parts_together(lab: Path, tmp_path: Path) -> None:
    x = waves(ROWS)
    x[5] += 3
    np.save(tmp_path / "own.npy", x)
    aekit(tmp_path, "score", "own.npy", "-o", "first.csv", "--quiet")
    check_merged(tmp_path, "out.csv", 3, "score", "own.npy")
    assert "calibration_rows" not in result(tmp_path, "merge", "out.csv", "--force")


def test_a_folder_of_pictures_comes_back_as_one(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for i in range(10):
        pixels = np.random.default_rng(i).integers(0, 255, (8, 8)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    aekit(tmp_path, "train", "stacked", "--data", "pictures", "--steps", "3", "--quiet")
    aekit(tmp_path, "denoise", "pictures", "-o", "alone", "--model", "runs/stacked-pictures-1", "--quiet")
    shard_all(tmp_path, 3, "denoise", "pictures", "-o", "clean", "--model", "runs/stacked-pictures-1")
    aekit(tmp_path, "merge", "clean", "--quiet")
    alone = {path.name: path.read_bytes() for path in (tmp_path / "alone").iterdir()}
    assert alone == {path.name: path.read_bytes() for path in (tmp_path / "clean").iterdir()}


def test_the_rule_may_move_at_the_merge(lab: Path, tmp_path: Path) -> None:
    words = ("score", str(lab / "traces.npz"), *traces_model(lab))
    shard_all(tmp_path, 2, *words, "-o", "out.csv")
    assert result(tmp_path, "merge", "out.csv")["rule"] == "auto"
    moved = result(tmp_path, "merge", "out.csv", "--threshold", "quantile=0.5", "--force")
    aekit(tmp_path, *words, "-o", "alone.csv", "--threshold", "quantile=0.5")
    assert moved["rule"] == "quantile=0.5"
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()
    fails(tmp_path, "merge", "out.csv", "--threshold", "often", says="not a rule", code=2)


def test_parts_are_merged_without_the_input_and_the_model(lab: Path, tmp_path: Path) -> None:
    shutil.copy(lab / "traces.npz", tmp_path)
    shutil.copytree(lab / "runs" / "conv1d-traces-1", tmp_path / "runs" / "it")
    shard_all(tmp_path, 2, "denoise", "traces.npz", "-o", "clean.npz")
    shard_all(tmp_path, 2, "score", "traces.npz", "-o", "scores.csv")
    aekit(tmp_path, "merge", "clean.npz")
    aekit(tmp_path, "merge", "scores.csv")
    with np.load(tmp_path / "clean.npz") as file:
        cleaned = file["x"]
        assert "label" in file
    scores = (tmp_path / "scores.csv").read_bytes()
    (tmp_path / "traces.npz").unlink()
    shutil.rmtree(tmp_path / "runs")
    told = aekit(tmp_path, "merge", "clean.npz", "--force").stderr
    assert "the input is not at hand" in told
    with np.load(tmp_path / "clean.npz") as file:
        np.testing.assert_array_equal(file["x"], cleaned)
        assert "label" not in file
    aekit(tmp_path, "merge", "scores.csv", "--force")
    assert (tmp_path / "scores.csv").read_bytes() == scores


def test_merging_takes_no_memory_for_the_file(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "big.npy", np.tile(waves(ROWS), (500, 1)))  # 15 MB
    shard_all(tmp_path, 2, "denoise", "big.npy", "-o", "out.npy", *traces_model(lab))
    monkeypatch.setattr("aekit.batches.CHUNK_BYTES", 1 << 20)
    tracemalloc.start()
    workflows.merge(str(tmp_path / "out.npy"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 7 << 20  # fingerprint and checksum read a few blocks more


# --- going on ---------------------------------------------------------------------------------------------------------


def test_a_part_that_is_there_is_left_alone(lab: Path, tmp_path: Path) -> None:
    words = ("denoise", str(lab / "traces.npz"), "-o", "out.npy", *traces_model(lab), "--shard", "2/3")
    assert result(tmp_path, *words)["state"] == "written"
    before = contents(tmp_path)
    part = tmp_path / "out.npy.parts" / "2-of-3.npy"
    inode = part.stat().st_ino
    done = aekit(tmp_path, *words)
    assert "2-of-3.npy: already there" in done.stderr
    assert result(tmp_path, *words)["state"] == "already there"
    assert contents(tmp_path) == before
    assert part.stat().st_ino == inode
    assert result(tmp_path, *words, "--force")["state"] == "written"
    assert part.stat().st_ino != inode


def test_a_part_without_its_manifest_is_made_again(lab: Path, tmp_path: Path) -> None:
    words = ("score", str(lab / "traces.npz"), "-o", "out.csv", *traces_model(lab), "--shard", "1/2")
    aekit(tmp_path, *words)
    folder = tmp_path / "out.csv.parts"
    (folder / "1-of-2.json").unlink()
    (folder / "1-of-2.npz").write_bytes(b"half of it")  # as if killed between the two
    assert result(tmp_path, *words)["state"] == "written"
    (folder / "1-of-2.npz").unlink()
    assert result(tmp_path, *words)["state"] == "written"


def test_parts_of_something_else_are_refused(lab: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", waves(ROWS))
    np.save(tmp_path / "y.npy", waves(ROWS, seed=1))
    shutil.copytree(lab / "runs" / "conv1d-traces-1", tmp_path / "m")
    words = ("-o", "out.csv", "--model", "m", "--shard", "1/2")
    aekit(tmp_path, "score", "x.npy", *words)
    (tmp_path / "x.npy").rename(tmp_path / "moved.npy")  # the same under another name is no other input
    assert result(tmp_path, "score", "moved.npy", *words)["state"] == "already there"
    fails(tmp_path, "score", "y.npy", *words, says="is of another input than now")
    for flag, value in (("--precision", "bf16"), ("--batch-size", "7")):
        fails(tmp_path, "score", "moved.npy", *words, flag, value, says="is of other settings than now")
    (tmp_path / "out.csv.parts" / "1-of-2.npz").write_bytes(b"nothing")
    fails(tmp_path, "score", "moved.npy", *words, says="is damaged; replace it with --force")
    assert result(tmp_path, "score", "y.npy", *words, "--force")["state"] == "written"


def test_a_shard_that_fails_leaves_the_folder_of_those_at_work(tmp_path: Path) -> None:
    folder = tmp_path / "out.npy.parts"
    with shards._made(folder, Shard(1, 2)):
        with pytest.raises(AekitError), shards._made(folder, Shard(2, 2)):
            raise AekitError("a NaN")
        (folder / "1-of-2.npy").write_bytes(b"a part")
    assert [part.name for part in folder.iterdir()] == ["1-of-2.npy"]


def test_a_fault_leaves_no_part(lab: Path, tmp_path: Path) -> None:
    x = waves(ROWS)
    x[70, 3] = np.nan
    np.save(tmp_path / "x.npy", x)
    for verb, out in (("denoise", "out.npy"), ("score", "out.csv"), ("embed", "out.npy")):
        words = (verb, "x.npy", "-o", out, *traces_model(lab), *SMALL)
        fails(tmp_path, *words, "--shard", "2/2", says="row 70, value 3 is NaN")
        aekit(tmp_path, *words, "--shard", "1/2", "--quiet")
        shutil.rmtree(tmp_path / f"{out}.parts")


@pytest.mark.parametrize(
    ("words", "says", "code"),
    [
        (("denoise", "x.npy", "--clean", "x.npy"), "goes without --clean", 2),
        (("denoise", "x.npy", "--noise-out", "n.npy"), "goes without --noise-out", 2),
        (("denoise", "x.npy", "--report", "r.html"), "goes without --report", 2),
        (("denoise", "x.npy", "--fresh"), "goes without --fresh", 2),
        (("denoise", "x.npy", "-o", "x.npy"), "is the input itself", 1),
        (("denoise", "x.npy", "-o", "x.odd"), "ending '.odd' is not known", 1),
        (("denoise", "x.npy", "-o", "gone/x.npy"), "does not exist", 1),
        (("denoise", "one.npy"), "is a single row", 1),
        (("score", "x.npy", "--map", "m.npy"), "goes without --map", 2),
        (("score", "x.npy", "-o", "-"), "goes without -o -", 2),
        (("score", "one.npy"), "is a single row", 1),
        (("embed", "x.npy", "--neighbours", "3"), "goes without --neighbours", 2),
        (("embed", "x.npy", "--clusters", "3"), "goes without --clusters", 2),
        (("embed", "x.npy", "--probe"), "goes without --probe", 2),
        (("embed", "x.npy", "--maps", "pca"), "goes without --maps", 2),
        (("embed", "few.npy"), "has 2 rows, too few for 3 parts", 1),
    ],
)
def test_what_cannot_be_cut_is_refused(lab: Path, tmp_path: Path, words: tuple[str, ...], says: str, code: int) -> None:
    for name, rows in (("x", ROWS), ("one", 1), ("few", 2)):
        np.save(tmp_path / f"{name}.npy", waves(rows))
    (tmp_path / "files").mkdir()
    np.save(tmp_path / "files" / "x.npy", waves(ROWS))
    model = () if "--fresh" in words else traces_model(lab)
    fails(tmp_path, *words, *model, "--shard", "1/3", says=says, code=code)


def test_a_mask_is_not_cut(tmp_path: Path) -> None:
    aekit(tmp_path, "denoise", "x.npy", "--mask", "m.npy", "--shard", "1/3", code=2)


def test_models_that_tell_picks_or_classes_are_refused(lab: Path, tmp_path: Path) -> None:
    aekit(tmp_path, "train", "classifier", "--from", *traces_model(lab)[1:], "--data", str(lab / "traces.npz"), *QUICK)
    shutil.copy(lab / "traces.npz", tmp_path)
    fails(
        tmp_path, "score", "traces.npz", "--model", "runs/classifier-traces-1", "--shard", "1/3", says="writes classes"
    )


@pytest.mark.parametrize("verb", ["denoise", "score", "embed"])
def test_shards_do_not_train_but_say_what_to_do_first(tmp_path: Path, verb: str) -> None:
    np.save(tmp_path / "x.npy", waves(ROWS))
    fails(tmp_path, verb, "x.npy", "--shard", "1/3", says="or name a model with --model")


# --- what merge refuses -----------------------------------------------------------------------------------------------


@pytest.fixture
def parts(lab: Path, tmp_path: Path) -> Path:
    """The folder of five good parts of out.npy."""
    shard_all(tmp_path, 5, "embed", str(lab / "traces.npz"), "-o", "out.npy", *traces_model(lab))
    return tmp_path / "out.npy.parts"


def test_missing_parts_are_named(parts: Path, tmp_path: Path) -> None:
    for number in (1, 2, 4):
        (parts / f"{number}-of-5.{'json' if number == 2 else 'npy'}").unlink()
    fails(tmp_path, "merge", "out.npy", says="shards 1 to 2, 4 of 5 are missing; run again")
    fails(tmp_path, "merge", "out.npy", says="-o out.npy --shard 1/5 and so on")


def test_a_missing_part_is_made_up_for_by_the_command_told(parts: Path, lab: Path, tmp_path: Path) -> None:
    (parts / "3-of-5.json").unlink()
    told = aekit(tmp_path, "merge", "out.npy", code=1).stderr
    command = told.strip().partition(": aekit ")[2].split()
    aekit(tmp_path, *command, *traces_model(lab), "--quiet")
    aekit(tmp_path, "merge", "out.npy", "--quiet")


def test_damaged_parts_are_named(parts: Path, tmp_path: Path) -> None:
    whole = (parts / "3-of-5.npy").read_bytes()
    (parts / "3-of-5.npy").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    (parts / "5-of-5.npy").unlink()
    fails(tmp_path, "merge", "out.npy", says="shard 5 of 5 is missing, shard 3 of 5 is damaged")
    fails(tmp_path, "merge", "out.npy", says="--force")


def test_rows_that_are_there_twice_are_told(parts: Path, tmp_path: Path) -> None:
    for ending in ("json", "npy"):
        shutil.copy(parts / f"2-of-5.{ending}", parts / f"3-of-5.{ending}")
    fails(tmp_path, "merge", "out.npy", says="shard 3 of 5 is of other rows")
    command = json.loads((parts / "1-of-5.json").read_text())["job"]
    words = ("embed", command["input"], "-o", "out.npy", "--model", command["model"], "--shard", "3/5")
    fails(tmp_path, *words, says="is of other rows than now")
    shutil.copy(parts / "2-of-5.json", parts / "2-of-4.json")
    fails(tmp_path, "merge", "out.npy", says="holds parts of 4 and 5")


def test_parts_of_another_count_are_refused_before_they_are_made(lab: Path, tmp_path: Path) -> None:
    words = ("embed", str(lab / "traces.npz"), "-o", "out.npy", *traces_model(lab))
    aekit(tmp_path, *words, "--shard", "1/2")
    fails(tmp_path, *words, "--shard", "2/3", says="holds parts of 2; ask for --shard 2/2, or remove them")
    (tmp_path / "out").mkdir()
    fails(tmp_path, "merge", "out", says="nothing to merge")


def test_the_rule_of_the_merge_is_free(lab: Path, tmp_path: Path) -> None:
    words = ("score", str(lab / "traces.npz"), "-o", "out.csv", *traces_model(lab))
    aekit(tmp_path, *words, "--shard", "1/2", "--threshold", "fpr=0.1")
    aekit(tmp_path, *words, "--shard", "2/2", "--threshold", "fpr=0.2")
    assert "parts ask for the rules fpr=0.1 and fpr=0.2" in aekit(tmp_path, "merge", "out.csv").stderr
    aekit(tmp_path, "merge", "out.csv", "--threshold", "fpr=0.3", "--force")
    aekit(tmp_path, *words[:3], "one.csv", *traces_model(lab), "--threshold", "fpr=0.3")
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


def test_parts_of_different_jobs_are_told(parts: Path, lab: Path, tmp_path: Path) -> None:
    words = ("embed", str(lab / "traces.npz"), "-o", "out.npy", *traces_model(lab), "--batch-size", "7")
    aekit(tmp_path, *words, "--shard", "4/5", "--force")
    fails(tmp_path, "merge", "out.npy", says="shard 4 of 5 is of other settings than the others; run again")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"job": 1}', "[" * 100_000, '{"job": {"shape": 3}}', '{"job": {"shape": [], "x": 1}}'],
    ids=str.__len__,
)
def test_a_damaged_manifest_is_a_damaged_part(parts: Path, tmp_path: Path, text: str) -> None:
    (parts / "2-of-5.json").write_text(text)
    fails(tmp_path, "merge", "out.npy", says="shard 2 of 5 is damaged")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rows", 0),
        ("of", 0),
        ("dtype", "O"),
        ("dtype", "odd"),
        ("shape", [-1]),
        ("shape", []),
        ("shape", [4]),
        ("settings", 3),
        ("settings", {"labels": 3}),
        ("input", 3),
        ("verb", "train"),
        ("verb", []),
    ],
    ids=str,
)
def test_numbers_that_no_manifest_has_are_damage(parts: Path, tmp_path: Path, key: str, value: object) -> None:
    for number in range(1, 6):
        path = parts / f"{number}-of-5.json"
        manifest = json.loads(path.read_text())
        manifest["job"][key] = value
        path.write_text(json.dumps(manifest))
    fails(tmp_path, "merge", "out.npy", says="manifests are damaged")


def test_parts_of_unlike_machines_are_told(parts: Path, tmp_path: Path) -> None:
    manifest = parts / "1-of-5.json"
    value = json.loads(manifest.read_text())
    assert value["made_on"] == f"cpu, {torch.get_num_threads()} threads"
    alike = aekit(tmp_path, "merge", "out.npy")
    assert "last bits" not in alike.stderr
    manifest.write_text(json.dumps({**value, "made_on": "cpu, 99 threads"}))
    unlike = aekit(tmp_path, "merge", "out.npy", "--force")
    assert f"{value['made_on']} and cpu, 99 threads: their last bits may differ" in unlike.stderr


def test_a_newer_manifest_is_refused(parts: Path, tmp_path: Path) -> None:
    path = parts / "1-of-5.json"
    manifest = json.loads(path.read_text())
    manifest["job"]["format"] = 99
    path.write_text(json.dumps(manifest))
    fails(tmp_path, "merge", "out.npy", says="update aekit")


def test_merge_wants_parts_and_a_free_place(parts: Path, tmp_path: Path) -> None:
    fails(tmp_path, "merge", "other.npy", says="run a verb with -o other.npy --shard 1/N first")
    fails(tmp_path, "merge", "out.npy", "--threshold", "auto", says="no rule judges", code=2)
    (parts / ".3-of-5.json.0badcafe.json").write_text("{")  # of a process that was killed
    aekit(tmp_path, "merge", "out.npy", "--quiet")
    fails(tmp_path, "merge", "out.npy", says="exists already")
    aekit(tmp_path, "merge", "out.npy", "--force", "--quiet")
    assert len(list(parts.iterdir())) == 11
