"""The program as a user runs it, for tests: in this process, since importing torch for each call would take minutes."""

import contextlib
import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from aekit.cli import main

QUICK = ("--epochs", "2", "--batch-size", "32")


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def aekit(folder: Path, *words: str, code: int = 0) -> Done:
    """Runs `aekit WORDS` in `folder`, by way of its entry point, and checks the exit code."""
    out, err = io.StringIO(), io.StringIO()
    before = os.getcwd()
    os.chdir(folder)
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch("sys.argv", ["aekit", *words]),
        ):
            main()
    except SystemExit as stop:
        returncode = stop.code if isinstance(stop.code, int) else 1
    else:
        returncode = 0
    finally:
        os.chdir(before)
    done = Done(returncode, out.getvalue(), err.getvalue())
    assert done.returncode == code, f"{words}: {done}"
    assert "Traceback" not in done.stderr
    return done


def result(folder: Path, *words: str) -> dict[str, Any]:
    """The JSON object that a verb prints; stdout holds nothing else."""
    figures: dict[str, Any] = json.loads(aekit(folder, *words, "--json").stdout)
    return figures


def fails(folder: Path, *words: str, says: str, code: int = 1) -> None:
    """One line on stderr, nothing on stdout, nothing written and nothing lost."""
    before = contents(folder)
    done = aekit(folder, *words, *(() if words[0] == "info" else ("--quiet",)), code=code)
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert says in done.stderr, done.stderr
    assert contents(folder) == before


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file under `folder` with its bytes, and every folder."""
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """The program in a process of its own, to be stopped."""
    command = [sys.executable, "-m", "aekit", *words]
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}  # as in this process: bits depend on it
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def waves(rows: int = 120, points: int = 64, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 6, (rows, 1))
    return (np.sin(np.linspace(0, 9, points) + phase) + 0.1 * rng.normal(size=(rows, points))).astype(np.float32)
