"""Training by several processes beside one, on this machine's cores -> results/ranks.csv; five minutes.

    python bench/ranks.py

Each process computes in one thread. Losses of ten steps are laid beside those of one process; `conv` has no batch
normalisation, `unet` has. Over thousands of steps differences of rounding grow: those of all epochs are laid beside the
differences that one process makes with two threads.
"""

import csv
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from common import RESULTS, Row, row

RECIPES = (("conv", "mnist", 64), ("conv", "mnist", 512), ("denoising", "mnist", 256), ("unet", "ecg5000", 64))
EPOCHS = {"mnist": 2, "ecg5000": 4}
PROCESSES = (1, 2)
STEPS = 10
LOSSES = ("train_loss", "val_error")
PEAK = """
import os, pathlib
from aekit.cli import main
try:
    main()
finally:
    told = pathlib.Path("/proc/self/status").read_text()  # the other figure, ru_maxrss, begins with the parent's memory
    os.write(2, f"PEAK {told.split('VmHWM:')[1].split()[0]}\\n".encode())  # at once: others write too
"""


Run = tuple[list[dict[str, str]], float]


def trained(
    folder: Path, recipe: str, data: str, batch: int, processes: int, threads: int = 1, steps: int | None = None
) -> Run:
    """The rows of metrics.csv, and the highest memory of a process in GiB."""
    out = folder / f"{recipe}-{batch}-{processes}-{threads}-{steps}"
    script = folder / "peak.py"
    script.write_text(PEAK)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    words = ["train", recipe, "--data", data, "--epochs", str(EPOCHS[data]), "--batch-size", str(batch), "-o", str(out)]
    words += [] if steps is None else ["--steps", str(steps)]
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([*command, str(script), *words], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    peaks = [int(peak) for peak in re.findall(r"PEAK (\d+)", done.stderr)]
    with (out / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file)), max(peaks) / 2**20


def difference(one: Run, other: Run) -> float:
    """The largest of losses and validation errors."""
    pairs = [(float(a[key]), float(b[key])) for a, b in zip(one[0], other[0], strict=True) for key in LOSSES]
    return max(abs(b / a - 1) for a, b in pairs)


def main() -> None:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        for recipe, data, batch in RECIPES:
            what = f"{recipe} on {data}, batch {batch}"
            found = {n: trained(Path(name), recipe, data, batch, n) for n in PROCESSES}
            rate = {n: median(float(line["samples_per_second"]) for line in lines) for n, (lines, _) in found.items()}
            for n in PROCESSES:
                who = f"{n} process{'es' if n > 1 else ''}"
                rows.append(row(what, who, "samples per second", rate[n]))
                rows.append(row(what, who, "peak memory of a process, GiB", found[n][1]))
            rows.append(row(what, "2 processes", "efficiency", rate[2] / rate[1] / 2))
            few = [trained(Path(name), recipe, data, batch, n, steps=STEPS) for n in PROCESSES]
            target = "" if recipe == "unet" else "<= 1e-6"
            rows.append(row(what, "2 processes", f"relative difference, {STEPS} steps", difference(*few), target))
            rows.append(row(what, "2 processes", "relative difference, all epochs", difference(found[1], found[2])))
            threads = trained(Path(name), recipe, data, batch, 1, threads=2)
            rows.append(row(what, "2 threads", "relative difference, all epochs", difference(found[1], threads)))
    with (RESULTS / "ranks.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
