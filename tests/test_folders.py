"""A folder of many files: one output each, by one model, and files that fail stop no other; or one data set."""

import os
import resource
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from program import QUICK, aekit, contents, fails, result, waves

from aekit import checkpoint
from aekit.batches import Normalisation
from aekit.errors import AekitError
from aekit.formats import files_in, joined, open_record
from aekit.models import build
from aekit.records import record_of
from aekit.trained import TrainedModel

POINTS = 64


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A folder of files in two folders, a note beside them, and a model outside."""
    rng = np.random.default_rng(0)
    for place in ("one.npy", "deep/one.npy", "deep/er/two.npz"):
        file = tmp_path / "archive" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = rng.normal(size=(3, POINTS)).astype(np.float32)
        np.save(file, rows) if file.suffix == ".npy" else np.savez(file, x=rows)
    (tmp_path / "archive" / "notes.txt").write_text("taken in the field\n")
    network = build("unet", (1, POINTS), {"hidden": [4, 4], "output": "none"})
    normalisation = Normalisation("standard", (0.0,), (1.0,), -9, 9)
    trained = TrainedModel(
        network, "unet", "unet", {"hidden": [4, 4]}, (1, POINTS), "series", None, normalisation, "mse"
    )
    trained.figures = {"epochs": 1}
    checkpoint.save(trained, tmp_path / "model.safetensors")
    return tmp_path


def outputs(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_each_file_gives_what_it_gives_alone(archive: Path) -> None:
    figures = result(
        archive, "denoise", "archive", "--model", "model.safetensors", "--noise-out", "noise", "-o", "clean"
    )
    assert (figures["files"], figures["count"], figures["out"]) == (3, 9, "clean")
    assert outputs(archive / "clean") == outputs(archive / "noise") == ["deep/er/two.npz", "deep/one.npy", "one.npy"]
    result(archive, "denoise", "archive/deep/one.npy", "--model", "model.safetensors", "-o", "alone.npy")
    alone, clean, noise = (np.load(archive / f) for f in ("alone.npy", "clean/deep/one.npy", "noise/deep/one.npy"))
    np.testing.assert_array_equal(clean, alone)
    np.testing.assert_allclose(clean + noise, np.load(archive / "archive/deep/one.npy"), atol=1e-6)


def test_nothing_is_overwritten_unless_it_is_asked_for(archive: Path) -> None:
    (archive / "archive.denoised").mkdir()
    (archive / "archive.denoised" / "one.npy").write_bytes(b"mine")
    fails(
        archive, "denoise", "archive", "--model", "model.safetensors", says="archive.denoised/one.npy: exists already"
    )
    assert outputs(archive / "archive.denoised") == ["one.npy"]
    result(archive, "denoise", "archive", "--model", "model.safetensors", "--force")
    assert len(outputs(archive / "archive.denoised")) == 3
    fails(archive, "denoise", "archive", "--model", "model.safetensors", "--force", "-o", "archive", says="is read")


def test_a_file_that_fails_stops_no_other(archive: Path) -> None:
    (archive / "archive" / "a.npy").write_bytes(b"no array")
    says = "1 of 4 files failed, the other 3 are written under archive.denoised; the first: archive/a.npy"
    done = aekit(archive, "denoise", "archive", "--model", "model.safetensors", "--quiet", code=1)
    assert says in done.stderr
    assert outputs(archive / "archive.denoised") == ["deep/er/two.npz", "deep/one.npy", "one.npy"]


def test_text_and_pictures_are_data_only_where_nothing_else_is(archive: Path) -> None:
    folder = archive / "archive"
    (folder / "run").mkdir()
    (folder / "run" / "config.json").write_text("{}")
    (folder / "run" / "model.safetensors").write_bytes(b"")
    (folder / ".hidden.npy").write_bytes(b"")
    (folder / "map.png").write_bytes(b"")
    assert [file.name for file in files_in(folder).files] == ["two.npz", "one.npy", "one.npy"]
    assert files_in(folder).left_out == "1 text file(s) and 1 picture file(s) left out"
    for file in folder.rglob("*.np*"):
        file.unlink()
    assert files_in(folder).files == []  # a folder of images is one array
    (folder / "map.png").unlink()
    assert [file.name for file in files_in(folder).files] == ["notes.txt"]
    assert files_in(folder / "notes.txt").files == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("-o", "archive/clean"), "archive/clean: lies in the folder that is read"),
        (("-o", "clean", "--noise-out", "clean"), "clean: lies in the folder that is read, or in another output"),
        (("-o", "model.safetensors/clean"), "model.safetensors is a file"),
        (("-o", "no/where"), "the folder no does not exist"),
        (("--report", "r.html"), "a report is of one file"),
        (("--clean", "archive"), "--clean is told for one file"),
    ],
)
def test_places_are_checked_before_anything_is_made(words: tuple[str, ...], says: str, archive: Path) -> None:
    fails(archive, "denoise", "archive", "--model", "model.safetensors", *words, says=says)


def test_each_file_has_scores_of_its_own(archive: Path) -> None:
    figures = result(archive, "train", "conv1d", "--data", "archive/one.npy", "--steps", "2")
    figures = result(archive, "score", "archive", "--model", figures["run"])
    assert (figures["files"], figures["count"], figures["out"]) == (3, 9, "archive.scores")
    assert outputs(archive / "archive.scores") == ["deep/er/two.npz.csv", "deep/one.npy.csv", "one.npy.csv"]


# --- their rows as one data set ---------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.data())
def test_any_rows_of_many_files_are_those_of_one(sizes: list[int], data: st.DataObject) -> None:
    rows = np.random.default_rng(0).normal(size=(sum(sizes), 2, 9))
    parts = np.split(rows, np.cumsum(sizes)[:-1])
    labels = np.split(np.arange(len(rows)), np.cumsum(sizes)[:-1])
    record = joined("all", [record_of(part, "part", label) for part, label in zip(parts, labels, strict=True)])
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows) + 3))
    np.testing.assert_array_equal(record.read(start, stop), rows[start:stop])
    np.testing.assert_array_equal(record.labels, np.arange(len(rows)))  # type: ignore[arg-type]
    assert record.shape == rows.shape


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """Labelled rows, in one file and, in their order, in those of a folder."""
    x, y = waves(70, POINTS), np.arange(70) % 2
    np.savez(tmp_path / "all.npz", x=x, y=y)
    (tmp_path / "data").mkdir()
    for part in range(10):
        rows = slice(7 * part, 7 * part + 7)
        np.savez(tmp_path / "data" / f"part-{part}.npz", x=x[rows], y=y[rows])
    (tmp_path / "data" / "notes.txt").write_text("of May\n")
    return tmp_path


@pytest.mark.parametrize("data", ["data", "data/part-?.npz:x"])
def test_training_and_latents_are_those_of_one_file(split: Path, data: str) -> None:
    result(split, "train", "conv1d", "--data", "all.npz", "-o", "one", *QUICK)
    figures = result(split, "train", "conv1d", "--data", data, *QUICK)
    assert figures["run"] == "runs/conv1d-data-1"
    one, many = (checkpoint.load(split / run / "model.safetensors") for run in ("one", "runs/conv1d-data-1"))
    for name, weights in one.network.state_dict().items():
        assert torch.equal(weights, many.network.state_dict()[name])
    model = ("--model", "one", "--batch-size", "16", "--maps", "none")
    result(split, "embed", "all.npz", *model, "-o", "one.npz")
    assert result(split, "embed", data, *model)["out"] == "data.latents.npy"
    for shard in ("1/3", "2/3", "3/3"):
        aekit(split, "embed", data, *model, "-o", "many.npz", "--shard", shard)
    aekit(split, "merge", "many.npz")
    assert (split / "many.npz").read_bytes() == (split / "one.npz").read_bytes()


def test_labels_and_clean_rows_may_lie_in_one_file_for_all(split: Path) -> None:
    np.save(split / "clean.npy", waves(70, POINTS, seed=1))
    (split / "names.csv").write_text("\n".join(["label", *("ab"[i // 35] for i in range(70))]))
    record = open_record(split / "data", str(split / "names.csv"), str(split / "clean.npy"))
    assert (record.labels == np.repeat(["a", "b"], 35)).all()  # type: ignore[union-attr]
    np.testing.assert_array_equal(record.target.read(0, 70), waves(70, POINTS, seed=1))  # type: ignore[union-attr]
    (split / "names.csv").write_text("label\na\n")
    with pytest.raises(AekitError, match="has 1 labels, the data has 70 rows"):
        open_record(split / "data", str(split / "names.csv"))


def test_more_files_than_a_process_may_hold_open(tmp_path: Path) -> None:
    for part in range(60):
        with h5py.File(tmp_path / f"{part:02}.h5", "w") as file:
            file["x"], file["y"] = np.full((2, POINTS), part, np.float32), [0, 1]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 40, before[1]))
    try:
        rows = open_record(tmp_path).read(0, 120)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    np.testing.assert_array_equal(rows[:, 0], np.repeat(np.arange(60), 2))


def test_stations_and_gaps_keep_their_rows(tmp_path: Path) -> None:
    obspy = pytest.importorskip("obspy")
    for day, codes in enumerate((("A", "B"), ("C",))):
        traces = []
        for code in codes:
            start = obspy.UTCDateTime(2024, 1, 1 + day)
            for first, points in ((0, 500), (700, 300)):  # a gap of 200 points
                head = {"station": code, "network": "N", "channel": "HHZ", "sampling_rate": 100.0}
                head["starttime"] = start + first / 100
                traces.append(obspy.Trace(np.arange(points, dtype=np.int32), head))
        obspy.Stream(traces).write(str(tmp_path / f"day{day}.mseed"), format="MSEED")
    record = open_record(tmp_path)
    assert record.recorded is not None
    assert len(record) == 3
    assert [name.split(".")[1] for name in record.recorded.stations] == ["A", "B", "C"]
    assert record.recorded.gaps.tolist() == [[row, 500, 700] for row in range(3)]
    assert str(record.recorded.starts[2]).startswith("2024-01-02")  # type: ignore[index]


def test_files_that_are_not_alike_are_named(split: Path) -> None:
    odd = split / "data" / "a.npz"
    for kept, says in (
        ({"x": np.zeros((2, 9), np.float32), "y": [0, 1]}, "data/a.npz: has rows of 9, data/part-0.npz of 64"),
        ({"x": np.zeros((2, POINTS)), "y": [0, 1]}, "data/a.npz: has the type float64, data/part-0.npz float32"),
        ({"x": np.zeros((2, POINTS), np.float32)}, "data/a.npz: has no labels, data/part-0.npz has; give all files"),
        (
            {"x": np.zeros((2, POINTS), np.float32), "y": [0, 1], "sampling_rate": 5.0},
            "data/a.npz: has the sampling rate 5.0, data/part-0.npz None",
        ),
    ):
        np.savez(odd, **kept)
        for words in (("info", "data"), ("train", "conv1d", "--data", "data"), ("embed", "data")):
            fails(split, *words, says=says)
    odd.unlink()
    fails(split, "embed", "data/*.csv", says="data/*.csv: no data file fits this pattern")


# --- shards and patterns ----------------------------------------------------------------------------------------------


def test_shards_of_a_folder_share_its_files_and_go_on(archive: Path) -> None:
    words = ("denoise", "archive", "--model", "model.safetensors")
    result(archive, *words, "-o", "whole")
    first = result(archive, *words, "-o", "parts", "--shard", "1/2")
    assert (first["files"], first["already_there"], first["shard"]) == (1, 0, "1/2")
    assert outputs(archive / "parts") == ["deep/er/two.npz"]
    result(archive, *words, "-o", "parts", "--shard", "2/2")
    assert contents(archive / "parts").keys() == {
        archive / "parts" / path.relative_to(archive / "whole") for path in contents(archive / "whole")
    }
    for name in outputs(archive / "whole"):
        assert (archive / "parts" / name).read_bytes() == (archive / "whole" / name).read_bytes()
    (archive / "parts" / "one.npy").unlink()
    again = result(archive, *words, "-o", "parts", "--shard", "2/2")
    assert (again["files"], again["already_there"]) == (1, 1)
    assert result(archive, *words, "-o", "parts", "--shard", "2/2", "--force")["files"] == 2
    fails(archive, "denoise", "archive", "--shard", "1/2", says="no model under runs/ fits")
    figures = result(archive, *words, "-o", "many", "--shard", "4/4")
    assert figures["files"] == 1


def test_a_pattern_names_the_files(archive: Path) -> None:
    words = ("--model", "model.safetensors")
    (archive / "archive" / "one.log").write_text("left out")
    figures = result(archive, "denoise", "archive/**/*.np*", *words)
    assert (figures["files"], figures["out"]) == (3, "archive.denoised")
    assert outputs(archive / "archive.denoised") == ["deep/er/two.npz", "deep/one.npy", "one.npy"]
    folder = archive / "archive"
    for _ in range(2):  # what was written is not read the next time
        figures = result(folder, "denoise", "*.npy", "--model", "../model.safetensors", "--force")
        assert (figures["files"], figures["out"]) == (1, "archive.denoised")
    fails(archive, "denoise", "archive/*.npy", *words, "-o", "archive", "--force", says="is read")
    fails(archive, "denoise", "archive/**/*.npy", *words, "-o", "archive/x", says="is read")
    fails(archive, "denoise", "archive/*.doc", *words, says="archive/*.doc: no data file fits this pattern")
    assert "aekit score 'archive/*.npy'" in aekit(archive, "info", "archive/*.npy").stdout
    np.save(archive / "a[1].npy", np.zeros((3, POINTS), np.float32))
    assert result(archive, "denoise", "a[1].npy", *words)["out"] == "a[1].denoised.npy"


def test_a_model_that_cannot_is_told_once(archive: Path) -> None:
    network = build("eqtransformer", (3, POINTS), {})
    normalisation = Normalisation("sample", (0.0,), (1.0,), -9, 9)
    picker = TrainedModel(
        network, "eqtransformer", "eqtransformer", {}, (3, POINTS), "series", None, normalisation, "mse"
    )
    checkpoint.save(picker, archive / "picker.safetensors")
    done = aekit(archive, "denoise", "archive", "--model", "picker.safetensors", code=1)
    assert "does not denoise" in done.stderr
    assert len(done.stderr.splitlines()) == 1
