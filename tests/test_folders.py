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
    says = "the outputs of a folder go to another folder"
    fails(archive, "denoise", "archive", "--model", "model.safetensors", "--force", "-o", "archive", says=says)


def test_a_file_that_fails_stops_no_other(archive: Path) -> None:
    (archive / "archive" / "a.npy").write_bytes(b"no array")
    says = "1 of 4 files failed, the other 3 are written under archive.denoised; the first: archive/a.npy"
    done = aekit(archive, "denoise", "archive", "--model", "model.safetensors", "--quiet", code=1)
    assert says in done.stderr
    assert outputs(archive / "archive.denoised") == ["deep/er/two.npz", "deep/one.npy", "one.npy"]


def test_text_is_data_only_where_nothing_else_is(archive: Path) -> None:
    assert [file.name for file in files_in(archive / "archive")] == ["two.npz", "one.npy", "one.npy"]
    for file in (archive / "archive").rglob("*.np*"):
        file.unlink()
    assert [file.name for file in files_in(archive / "archive")] == ["notes.txt"]
    (archive / "archive" / "a.png").write_bytes(b"")
    assert files_in(archive / "archive") == []  # a folder of images is one array
