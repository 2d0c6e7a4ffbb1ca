"""The model file: what can be wrong with it is told in one line."""

import json
from pathlib import Path

import pytest
import torch
from good_files import trained
from safetensors.torch import save_file

from aekit import checkpoint
from aekit.errors import AekitError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    checkpoint.save(trained(), path)
    return path


def test_everything_comes_back(file: Path) -> None:
    before, after = trained(), checkpoint.load(file)
    for name in ("recipe", "settings", "normalisation", "corruption", "normal", "figures", "fingerprint", "error"):
        assert getattr(before, name) == getattr(after, name), name
    assert after.calibration is not None
    assert after.mixture is not None
    assert torch.equal(after.mixture.factors, torch.eye(2)[None])


def test_truncated_at_any_place_is_told(file: Path) -> None:
    whole = file.read_bytes()
    for size in (0, 1, 7, 8, 9, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(AekitError, match=r"model\.safetensors: .*damaged"):
            checkpoint.load(file)


def test_newer_format_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT", checkpoint.FORMAT + 1)
    checkpoint.save(trained(), file)
    monkeypatch.undo()
    with pytest.raises(AekitError, match="newer than"):
        checkpoint.load(file)


def test_fields_that_an_older_file_lacks_have_defaults(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    younger = {"classes", "columns", "windowed"}
    monkeypatch.setattr(checkpoint, "_PLAIN", tuple(name for name in checkpoint._PLAIN if name not in younger))
    checkpoint.save(trained(), file)
    monkeypatch.undo()
    after = checkpoint.load(file)
    assert (after.classes, after.columns, after.windowed, after.normal) == (None, (), False, ("1",))


def test_somebody_elses_safetensors_is_refused(file: Path) -> None:
    save_file({"w": torch.ones(3)}, file)
    with pytest.raises(AekitError, match="not an aekit model"):
        checkpoint.load(file)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "unheard"},
        {"settings": {"hidden": 3}},
        {"sample_shape": [1, 7]},
        {"kind": None, "settings": {"bad": 1}},
    ],
)
def test_header_that_contradicts_the_weights_is_told(file: Path, change: dict[str, object]) -> None:
    size = int.from_bytes(file.read_bytes()[:8], "little")
    header = json.loads(file.read_bytes()[8 : 8 + size])
    inner = json.loads(header["__metadata__"]["aekit"])
    header["__metadata__"]["aekit"] = json.dumps(inner | change)
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + file.read_bytes()[8 + size :])
    with pytest.raises(AekitError):
        checkpoint.load(file)


def test_pickle_is_never_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    torch.save({"a": 1}, path)
    with pytest.raises(AekitError, match="not a model file"):
        checkpoint.load(path)


def test_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(AekitError, match="no such file"):
        checkpoint.load(tmp_path / "gone.safetensors")
