"""Format, lint and types hold: ruff on the checkout, mypy on an installed copy, as it does not follow package-dir."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-P", "-m", *command], cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A regular install of the package alone, as a folder to put on the path."""
    target = tmp_path_factory.mktemp("installed")
    build = tmp_path_factory.mktemp("source") / "aekit"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    for name in listed.stdout.split():
        if (ROOT / name).is_file():
            (build / name).parent.mkdir(parents=True, exist_ok=True)
            (build / name).write_bytes((ROOT / name).read_bytes())
    done = run("pip", "install", "-q", "--no-deps", "--target", str(target), str(build))
    assert done.returncode == 0, done.stderr
    return target


def test_code_is_formatted() -> None:
    done = run("ruff", "format", "--check", "--diff", ".")
    assert done.returncode == 0, done.stdout


def test_code_is_clean() -> None:
    done = run("ruff", "check", ".")
    assert done.returncode == 0, done.stdout


def test_types_hold(installed: Path, tmp_path: Path) -> None:
    config = ("--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path))
    done = run("mypy", *config, str(installed / "aekit"), folder=tmp_path)
    assert done.returncode == 0, done.stdout


def test_regular_install_runs_from_the_checkout(installed: Path) -> None:
    """The checkout's own `aekit` folder lacks its kernels: a regular install must be the one that is found."""
    code = "import aekit.kernels, aekit.cli, sys; print(aekit.kernels.__file__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=ROOT, capture_output=True, text=True, env=_with_path(installed)
    )
    assert done.stdout.startswith(str(installed)), done.stderr
    done = subprocess.run(
        [sys.executable, "-P", "-m", "aekit", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=_with_path(installed),
    )
    assert done.stdout.startswith("aekit "), done.stderr


def test_editable_install_finds_kernels_and_verbs_from_anywhere(tmp_path: Path) -> None:
    code = "import aekit.kernels, aekit.cli; print(aekit.cli.__file__)"
    for folder in (ROOT, tmp_path):
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def _with_path(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(folder)}
