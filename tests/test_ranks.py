"""Training by several processes, as torchrun starts them: as by one, whatever becomes of one of them."""

import csv
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from program import aekit, result

from aekit import checkpoint

WORDS = ("train", "denoising", "--data", "digits", "--batch-size", "33", "--hidden", "32")
NOISE = ("--corrupt", "gaussian:0.3", "--corrupt", "gaps:0.3+speckle:0.1")


def torchrun(folder: Path, *words: str, processes: int = 2) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.Popen([*command, "-m", "aekit", *words], cwd=folder, stderr=subprocess.PIPE, text=True, env=env)


def test_nothing_of_the_exchange_runs_on_when_it_is_over(tmp_path: Path) -> None:
    """A thread of gloo that outlives it aborts the process at its end, once in a hundred times."""
    script = """
        import os, pathlib, torch
        from aekit import ranks
        with ranks.joined(torch.device("cpu")):
            import torch._dynamo  # as the first step of an optimiser does, and with it torch.distributed.nn
            ranks.merged({ranks.number(): 1})
        tasks = pathlib.Path("/proc/self/task").glob("*/comm")
        pathlib.Path(os.environ["RANK"]).write_text(" ".join(task.read_text() for task in tasks))
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "script.py"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=100)
    for rank in ("0", "1"):
        assert "gloo" not in (tmp_path / rank).read_text()


def metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    """Shares of 16 and 17 rows, with noise, and a batch that an epoch's end fills up."""
    with torchrun(tmp_path, *WORDS, *NOISE, "--epochs", "2", "--out", "two") as two:
        aekit(tmp_path, *WORDS, *NOISE, "--epochs", "2", "--out", "one")
        told = two.communicate(timeout=100)[1]
    assert two.returncode == 0, told
    assert told.count("epoch 2/2") == 1, "the first process alone tells"
    for a, b in zip(metrics(tmp_path / "two"), metrics(tmp_path / "one"), strict=True):
        for name in ("train_loss", "val_error"):
            assert float(a[name]) == pytest.approx(float(b[name]), rel=1e-6)
    ours, theirs = (checkpoint.load(tmp_path / run / "model.safetensors") for run in ("two", "one"))
    for name, value in ours.network.state_dict().items():
        torch.testing.assert_close(value, theirs.network.state_dict()[name], rtol=1e-4, atol=1e-5)
    assert ours.figures["val_error"] == pytest.approx(theirs.figures["val_error"], rel=1e-6)
    np.testing.assert_allclose(ours.calibration, theirs.calibration, rtol=1e-3)


@pytest.mark.slow
def test_where_a_process_is_killed_the_others_say_so_and_the_run_goes_on_with_fewer(tmp_path: Path) -> None:
    running = torchrun(tmp_path, *WORDS, "--epochs", "2000", "--out", "run")
    while not (tmp_path / "run" / "resume.safetensors").exists():
        assert running.poll() is None
        time.sleep(0.1)
    found = subprocess.run(["pgrep", "-P", str(running.pid)], capture_output=True, text=True)
    os.kill(int(found.stdout.split()[-1]), 9)
    told = running.communicate(timeout=100)[1]
    assert running.returncode != 0
    assert "aekit train --resume run" in told
    done = len(metrics(tmp_path / "run"))
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace('"epochs": 2000', f'"epochs": {done + 2}'))
    again = aekit(tmp_path, "train", "--resume", "run")
    assert "begun by 2 processes" in again.stderr
    assert len(metrics(tmp_path / "run")) == done + 2


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["vae", "wgan-gp", "conv"])
def test_other_recipes_too(tmp_path: Path, recipe: str) -> None:
    """Adversarial phases, draws of the model's own, batch normalisation."""
    words = ("train", recipe, "--data", "digits", "--epochs", "2", "--out", "run")
    two = torchrun(tmp_path, *words)
    told = two.communicate(timeout=100)[1]
    assert two.returncode == 0, told
    assert result(tmp_path, "info", "run")["recipe"] == recipe


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("train", "dense", "--data", "digits", "--batch-size", "1"), "batches of 1 rows are too small"),
        (("train", "ensemble", "--data", "digits"), "train it by one process"),
        (("train", "dense", "--data", "none.npy"), "there is no such file"),
    ],
)
def test_what_several_processes_cannot_do_is_told_once(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    two = torchrun(tmp_path, *words)
    told = [line for line in two.communicate(timeout=100)[1].splitlines() if line.startswith("aekit: ")]
    assert two.returncode == 1
    assert len(told) == 1
    assert says in told[0]
    assert not list(tmp_path.iterdir())
