"""What is left when the ground is pulled from under a verb -> results/faults.csv; an hour and a half on one core.

    python bench/faults.py                     # everything
    python bench/faults.py killed --times 5 --only train merge    # a part of it, fewer times; the other rows stay

Each verb runs in a process of its own, forked from this one. Killed and Ctrl-C: at a moment drawn from the time that
the verb takes and a tenth more. Full disk: no file may grow beyond a size drawn up to that of the largest output; for
Ray, whose memory is a file too, a small tmpfs instead (which root alone may mount). Input removed: at such a moment.
Truncated: an input, or the model, to a length drawn from its own. Afterwards each output is whole, the same bytes as
undisturbed but for reports, or absent; then the same words are said again and must give all outputs, of training the
same weights bit for bit: with --force where outputs may be there, with --resume where a run had begun, and parts and
Ray as before, since they go on with what is there.
"""

import argparse
import contextlib
import csv
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from common import RESULTS
from safetensors import safe_open

from aekit.cli import main as program

TIMES = 50
TRAIN = ("train", "conv1d", "--data", "x.npy", "--epochs", "6", "--batch-size", "32", "-o", "run")
RUN = ("run/model.safetensors", "run/report.html")
TRAINING = ("train", "train, streamed")
MODEL = ("--model", "model")
MODEL_FILES = ("model/model.safetensors",)
PART = ("score", "x.npy", *MODEL, "-o")


@dataclass(frozen=True)
class Command:
    """Words of the command line, and the files that they write; of training, those of the run that decide."""

    name: str
    words: tuple[str, ...]
    outputs: tuple[str, ...]
    inputs: tuple[str, ...] = ("x.npy", "model/model.safetensors")
    most: int = TIMES  # times, of what is slow to start


COMMANDS = (
    Command("train", TRAIN, RUN, ("x.npy",)),
    Command("train, streamed", (*TRAIN, "--set", "buffer=64"), RUN, ("x.npy",)),
    Command("denoise", ("denoise", "x.npy", *MODEL, "-o", "o.npy", "--report", "r.html"), ("o.npy", "r.html")),
    Command(
        "score",
        ("score", "x.npy", *MODEL, "-o", "o.csv", "--map", "m.npy", "--report", "r.html"),
        ("o.csv", "m.npy", "r.html"),
    ),
    Command("embed", ("embed", "x.npy", *MODEL, "-o", "o.npy", "--maps", "pca"), ("o.npy", "o.png")),
    Command("generate", ("generate", *MODEL, "-n", "500", "-o", "o.npy"), ("o.npy",), MODEL_FILES),
    Command("score without a model", ("score", "x.npy", "-o", "o.csv"), ("o.csv",), ("x.npy",)),
    Command("score, a part", (*PART, "o.csv", "--shard", "1/2"), ("o.csv.parts/1-of-2.npz", "o.csv.parts/1-of-2.json")),
    Command("merge", ("merge", "p.csv"), ("p.csv",), ("p.csv.parts/1-of-2.npz", "p.csv.parts/2-of-2.json")),
    Command("score by Ray", (*PART, "o.csv", "--engine", "ray"), ("o.csv",), most=8),
)
GOES_ON = ("--shard", "--engine")  # with what is there already


class Undisturbed(NamedTuple):
    folder: Path
    seconds: float


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
    return Path(shutil.copytree(seed_folder, tempfile.mkdtemp(dir=parent), dirs_exist_ok=True))


def state(folder: Path, command: Command, reference: Path) -> str:
    """whole, absent or some (of the outputs are whole, of a run in progress) after a fault; "BROKEN" else."""
    there = [name for name in command.outputs if (folder / name).exists()]
    if command.name in TRAINING and (folder / "run").exists():
        for path in (folder / "run").glob("*.safetensors"):
            if not path.name.startswith("."):
                weights(path)  # raises where it is torn
        if len(there) < len(command.outputs):
            return "resumable"
    if not all(is_same(folder / name, reference / name) for name in there):
        return "BROKEN"
    return "whole" if len(there) == len(command.outputs) else "some" if there else "absent"


def again(folder: Path, command: Command, reference: Path) -> bool:
    """Whether the same words, or --resume, give everything afterwards."""
    words = (*command.words, "--force")
    if command.name in TRAINING and (folder / "run" / "config.json").exists():
        words = ("train", "--resume", "run")
    elif any(flag in command.words for flag in GOES_ON) and not (folder / "o.csv").exists():
        words = command.words
    if ended(run(folder, words)) != 0:
        return False
    return all((folder / name).exists() and is_same(folder / name, reference / name) for name in command.outputs)


Fault = Callable[[Path, Command, Undisturbed, np.random.Generator], str]  # what is wrong with its end, "" for nothing


def stopped(by: signal.Signals) -> Fault:
    def fault(folder: Path, command: Command, undisturbed: Undisturbed, rng: np.random.Generator) -> str:
        pid = run(folder, command.words)
        time.sleep(rng.uniform(0, 1.1 * undisturbed.seconds))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, by)
        code = ended(pid)
        if by == signal.SIGKILL:
            return "" if code in (0, -9) else f"exit code {code}"
        return wrong(folder, code, (0, 130, -2))

    return fault


def wrong(folder: Path, code: int, allowed: tuple[int, ...]) -> str:
    left = [str(path.relative_to(folder)) for path in folder.rglob(".*") if path.is_file()]
    is_right = code in allowed and not left and "Traceback" not in told(folder)
    return "" if is_right else f"exit code {code}, left {left}, told {told(folder)[-300:]}"


def full_disk(folder: Path, command: Command, undisturbed: Undisturbed, rng: np.random.Generator) -> str:
    room = int(rng.integers(0, max((undisturbed.folder / name).stat().st_size for name in command.outputs)))
    if "--engine" in command.words:
        code = on_small_disk(folder, command, room)
    else:
        code = ended(run(folder, command.words, most=room))
    return wrong(folder, code, (0, 1))


def on_small_disk(folder: Path, command: Command, room: int) -> int:
    """Runs where that many bytes are free beside the inputs; what is left then lies in the folder."""
    disk = folder.with_name(f"{folder.name}-disk")
    disk.mkdir()
    size = sum(path.stat().st_blocks * 512 for path in folder.rglob("*")) + room
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=True)
    try:
        shutil.copytree(folder, disk, dirs_exist_ok=True)
        code = ended(run(disk, command.words))
        shutil.copytree(disk, folder, dirs_exist_ok=True)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)  # workers of Ray may take a moment to end
    return code


def input_removed(folder: Path, command: Command, undisturbed: Undisturbed, rng: np.random.Generator) -> str:
    path = folder / command.inputs[0]
    kept = path.read_bytes()
    pid = run(folder, command.words)
    time.sleep(rng.uniform(0, undisturbed.seconds))
    path.unlink()
    code = ended(pid)
    path.write_bytes(kept)
    return wrong(folder, code, (0, 1))


def truncated(folder: Path, command: Command, undisturbed: Undisturbed, rng: np.random.Generator) -> str:
    path = folder / str(rng.choice(command.inputs))
    kept = path.read_bytes()
    path.write_bytes(kept[: int(rng.integers(0, len(kept)))])
    code = ended(run(folder, command.words))
    path.write_bytes(kept)
    return wrong(folder, code, (1,)) or ("" if told(folder).strip() else "nothing told")


FAULTS: dict[str, Fault] = {
    "killed": stopped(signal.SIGKILL),
    "ctrl-c": stopped(signal.SIGINT),
    "full disk": full_disk,
    "input removed": input_removed,
    "truncated": truncated,
}


def tried(name: str, command: Command, times: int, seeds: Path, place: Path) -> dict[str, object]:
    folder = prepared(seeds, place)
    started = time.perf_counter()
    assert ended(run(folder, command.words)) == 0, told(folder)
    undisturbed = Undisturbed(folder, time.perf_counter() - started)
    found: Counter[str] = Counter()
    rng = np.random.default_rng([sum(map(ord, name)), sum(map(ord, command.name))])
    for _ in range(times):
        folder = prepared(seeds, place)
        fault = FAULTS[name](folder, command, undisturbed, rng)
        found[state(folder, command, undisturbed.folder)] += 1
        found["wrong end"] += fault != ""
        if fault:
            print(f"{name}, {command.name}: {fault}", file=sys.stderr)
        found["again"] += again(folder, command, undisturbed.folder)
        shutil.rmtree(folder)
    line: dict[str, object] = {"fault": name, "command": command.name, "times": times}
    columns = ("whole", "some", "absent", "resumable", "BROKEN", "wrong end", "again")
    line |= {column.lower(): found[column] for column in columns}
    line["seconds"] = f"{undisturbed.seconds:.2f}"
    print(", ".join(f"{key} {value}" for key, value in line.items()), flush=True)
    return line


def keep(line: dict[str, object], path: Path) -> None:
    """In place of the one of the same fault and command, in the order of both."""
    old: list[dict[str, object]] = []
    if path.exists():
        with path.open(newline="") as file:
            old = list(csv.DictReader(file))
    lines = {(row["fault"], row["command"]): row for row in [*old, line]}
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(line))
        writer.writeheader()
        writer.writerows(
            lines[name, command.name] for name in FAULTS for command in COMMANDS if (name, command.name) in lines
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", choices=[*FAULTS, []], help="some of them; else all")
    parser.add_argument("--times", type=int, default=TIMES)
    parser.add_argument("--only", nargs="+", choices=[command.name for command in COMMANDS], help="commands; else all")
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
        for number in (1, 2):
            assert ended(run(seeds, (*PART, "p.csv", "--shard", f"{number}/2"))) == 0, told(seeds)
        (seeds / "told").unlink()
        for name in asked.faults or FAULTS:
            for command in COMMANDS:
                if asked.only is None or command.name in asked.only:
                    line = tried(name, command, min(asked.times, command.most), seeds, Path(folder))
                    keep(line, RESULTS / "faults.csv")


if __name__ == "__main__":
    main()
