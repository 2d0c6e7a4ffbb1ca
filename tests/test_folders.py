"""A folder of many files: one output each, by one model, and files that fail stop no other."""

from pathlib import Path

import numpy as np
import pytest
from program import aekit, fails, result

from aekit import checkpoint
from aekit.batches import Normalisation
from aekit.formats import files_in
from aekit.models import build
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


def test_what_takes_no_folders_says_so(archive: Path) -> None:
    says = "archive: is a folder of data files, which only denoise and score take"
    for words in (("info", "archive"), ("train", "unet", "--data", "archive", "--corrupt", "gaussian:0.1")):
        fails(archive, *words, says=says)


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
