"""What is left when the ground is pulled from under a verb -> results/faults.csv; a quarter of an hour on one core.

    python bench/faults.py                     # everything
    python bench/faults.py killed --times 5    # one kind of fault, fewer times

Each verb runs in a process of its own, forked from this one. Killed and Ctrl-C: at a moment drawn from the time that
the verb takes and a tenth more. Full disk: no file may grow beyond a size drawn up to that of the largest output.
Input removed: at such a moment. Truncated: the input, or the model, to a length drawn from its own. Afterwards each
output is whole, the same bytes as undisturbed but for reports, or absent; then the same words are said again (with
--force, or --resume where a run had begun) and must give all outputs, of training the same weights bit for bit.
"""

import argparse
import contextlib
import csv
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from common import RESULTS
from safetensors import safe_open

from aekit.cli import main as program

TIMES = 50
TRAIN = ("train", "conv1d", "--data", "x.npy", "--epochs", "6", "--batch-size", "32", "-o", "run")
MODEL = ("--model", "model")


@dataclass(frozen=True)
class Command:
    """Words of the command line, and the files that they write; of training, those of the run that decide."""

    name: str
    words: tuple[str, ...]
    outputs: tuple[str, ...]


COMMANDS = (
    Command("train", TRAIN, ("run/model.safetensors", "run/report.html")),
    Command("denoise", ("denoise", "x.npy", *MODEL, "-o", "o.npy", "--report", "r.html"), ("o.npy", "r.html")),
    Command(
        "score",
        ("score", "x.npy", *MODEL, "-o", "o.csv", "--map", "m.npy", "--report", "r.html"),
        ("o.csv", "m.npy", "r.html"),
    ),
    Command("embed", ("embed", "x.npy", *MODEL, "-o", "o.npy", "--maps", "pca"), ("o.npy", "o.png")),
    Command("generate", ("generate", *MODEL, "-n", "500", "-o", "o.npy"), ("o.npy",)),
    Command("score without a model", ("score", "x.npy", "-o", "o.csv"), ("o.csv",)),
)


def run(folder: Path, words: tuple[str, ...], most: int | None = None) -> int:
    """Starts the program in a child and returns its process; what it says goes to `told` in the folder."""
    pid = os.fork()
    if pid:
        return pid
    os.chdir(folder)
    with open("told", "w") as told:
        os.dup2(told.fileno(), 1)
        os.dup2(told.fileno(), 2)
    if most is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["aekit", *words]
    code = 1
    try:
        program()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException as error:  # noqa: BLE001  a traceback, which is a failure
        print(f"Traceback: {error!r}", file=sys.stderr)
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def told(folder: Path) -> str:
    return (folder / "told").read_text()


def weights(path: Path) -> dict[str, bytes]:
    with safe_open(str(path), "np") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118


def is_same(path: Path, reference: Path) -> bool:
    """Reports tell seconds, and so does a model's header."""
    if path.suffix == ".html":
        return path.read_text().rstrip().endswith("</html>")
    if path.suffix == ".safetensors":
        return weights(path) == weights(reference)
    return path.read_bytes() == reference.read_bytes()


def prepared(seed_folder: Path, parent: Path) -> Path:
    folder = Path(tempfile.mkdtemp(dir=parent))
    for name in ("x.npy", "model"):
        source = seed_folder / name
        shutil.copytree(source, folder / name) if source.is_dir() else shutil.copy(source, folder / name)
    return folder


def state(folder: Path, command: Command, reference: Path) -> str:
    """whole, absent or some (of the outputs are whole, of a run in progress) after a fault; "BROKEN" else."""
    there = [name for name in command.outputs if (folder / name).exists()]
    if command.name == "train" and (folder / "run").exists():
        for path in (folder / "run").glob("*.safetensors"):
            if not path.name.startswith("."):
                weights(path)  # raises where it is torn
        done = len(there) == len(command.outputs)
        return "whole" if done and is_same(folder / there[0], reference / there[0]) else "resumable"
    if not all(is_same(folder / name, reference / name) for name in there):
        return "BROKEN"
    return "whole" if len(there) == len(command.outputs) else "some" if there else "absent"


def again(folder: Path, command: Command, reference: Path) -> bool:
    """Whether the same words, or --resume, give everything afterwards."""
    words = (*command.words, "--force")
    if command.name == "train" and (folder / "run" / "config.json").exists():
        words = ("train", "--resume", "run")
    if ended(run(folder, words)) != 0:
        return False
    return all((folder / name).exists() and is_same(folder / name, reference / name) for name in command.outputs)


Fault = Callable[
    [Path, Command, float, np.random.Generator], tuple[int, bool]
]  # exit code, whether it was as it should


def stopped(by: signal.Signals) -> Fault:
    def fault(folder: Path, command: Command, seconds: float, rng: np.random.Generator) -> tuple[int, bool]:
        pid = run(folder, command.words)
        time.sleep(rng.uniform(0, 1.1 * seconds))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, by)
        code = ended(pid)
        if by == signal.SIGKILL:
            return code, code in (0, -9)
        left = [path for path in folder.rglob(".*") if path.is_file()]
        return code, code in (0, 130, -2) and not left and "Traceback" not in told(folder)

    return fault


def full_disk(folder: Path, command: Command, seconds: float, rng: np.random.Generator) -> tuple[int, bool]:
    largest = 200_000 if command.name == "train" else 120_000
    code = ended(run(folder, command.words, most=int(rng.integers(0, largest))))
    left = [path for path in folder.rglob(".*") if path.is_file()]
    return code, code in (0, 1) and not left and "Traceback" not in told(folder)


def input_removed(folder: Path, command: Command, seconds: float, rng: np.random.Generator) -> tuple[int, bool]:
    kept = (folder / "x.npy").read_bytes()
    pid = run(folder, command.words)
    time.sleep(rng.uniform(0, seconds))
    (folder / "x.npy").unlink()
    code = ended(pid)
    (folder / "x.npy").write_bytes(kept)
    return code, code in (0, 1) and "Traceback" not in told(folder)


def truncated(folder: Path, command: Command, seconds: float, rng: np.random.Generator) -> tuple[int, bool]:
    names = ["x.npy", "model/model.safetensors"]
    if command.name in ("train", "score without a model"):
        names = names[:1]
    if command.name == "generate":
        names = names[1:]
    path = folder / str(rng.choice(names))
    kept = path.read_bytes()
    path.write_bytes(kept[: int(rng.integers(0, len(kept)))])
    code = ended(run(folder, command.words))
    one_line = len(told(folder).strip().splitlines()) >= 1 and "Traceback" not in told(folder)
    path.write_bytes(kept)
    return code, code == 1 and one_line


FAULTS: dict[str, Fault] = {
    "killed": stopped(signal.SIGKILL),
    "ctrl-c": stopped(signal.SIGINT),
    "full disk": full_disk,
    "input removed": input_removed,
    "truncated": truncated,
}


def tried(name: str, command: Command, times: int, seeds: Path, place: Path) -> dict[str, object]:
    reference = prepared(seeds, place)
    started = time.perf_counter()
    assert ended(run(reference, command.words)) == 0, told(reference)
    seconds = time.perf_counter() - started
    found: Counter[str] = Counter()
    rng = np.random.default_rng([sum(map(ord, name)), sum(map(ord, command.name))])
    for _ in range(times):
        folder = prepared(seeds, place)
        _, is_right = FAULTS[name](folder, command, seconds, rng)
        found[state(folder, command, reference)] += 1
        found["wrong end"] += not is_right
        if not is_right:
            print(f"{name}, {command.name}: {told(folder)[-300:]}", file=sys.stderr)
        found["again"] += again(folder, command, reference)
        shutil.rmtree(folder)
    line = {"fault": name, "command": command.name, "times": times}
    columns = ("whole", "some", "absent", "resumable", "BROKEN", "wrong end", "again")
    line |= {column.lower(): found[column] for column in columns}
    line["seconds"] = f"{seconds:.2f}"
    print(", ".join(f"{key} {value}" for key, value in line.items()), flush=True)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", choices=[*FAULTS, []], help="some of them; else all")
    parser.add_argument("--times", type=int, default=TIMES)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        seeds = Path(folder) / "seeds"
        seeds.mkdir()
        rng = np.random.default_rng(0)
        t = np.arange(64)
        waves = np.sin(t / rng.uniform(2, 6, (400, 1)) + rng.uniform(0, 6, (400, 1)))
        np.save(seeds / "x.npy", (waves + 0.05 * rng.normal(size=waves.shape)).astype(np.float32))
        assert ended(run(seeds, TRAIN)) == 0, told(seeds)
        (seeds / "run").rename(seeds / "model")
        lines = [
            tried(name, command, asked.times, seeds, Path(folder))
            for name in asked.faults or FAULTS
            for command in COMMANDS
        ]
    path = RESULTS / "faults.csv"
    if path.exists():
        new = {(line["fault"], line["command"]) for line in lines}
        with path.open(newline="") as file:
            lines = [old for old in csv.DictReader(file) if (old["fault"], old["command"]) not in new] + lines
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


if __name__ == "__main__":
    main()
