"""What streaming costs in quality, seconds and memory -> results/streaming.csv; an hour on one core.

    python bench/streaming.py            # all
    python bench/streaming.py quality    # MNIST's test error after the same epochs, beside that of a full shuffle
    python bench/streaming.py memory     # of a file of a gigabyte, beside holding it

MNIST lies in a file as it is published, and sorted by class, the order that a shuffle can do least about.
"""

import csv
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from common import RESULTS, Array, Row, row, rows_of, train
from ranks import PEAK

import aekit
from aekit.datasets import open_dataset

RECIPES = {"stacked": 20, "conv": 3}  # epochs
SEEDS = (0, 1, 2)
BUFFERS = (0, 5700, 570)  # of 57,000 rows
LARGE = 2_000_000, 140
STEPS = 3000


def quality(folder: Path) -> list[Row]:
    x, labels = rows_of("mnist", "train"), open_dataset("mnist", "train").labels  # type: ignore[union-attr]
    test = rows_of("mnist", "test")
    np.save(folder / "published.npy", x)
    np.save(folder / "sorted.npy", x[np.argsort(np.asarray(labels), kind="stable")])
    found = []
    for recipe, epochs in RECIPES.items():
        full = 0.0
        for order in ("published", "sorted"):
            for buffer in BUFFERS if order == "published" else BUFFERS[1:]:
                errors = [error(folder, recipe, order, buffer, epochs, seed, test) for seed in SEEDS]
                full = full or mean(errors)
                name = f"buffer {buffer:,}" if buffer else "full shuffle"
                told = f"{' '.join(f'{e:.6f}' for e in errors)}; {mean(errors) / full - 1:+.1%}"
                found.append(
                    row(f"mnist, {order}", f"{recipe}, {epochs} epochs", f"test error, {name}", mean(errors), note=told)
                )
    return found


def error(folder: Path, recipe: str, order: str, buffer: int, epochs: int, seed: int, test: Array) -> float:
    """Of MNIST's test part, mean squared in 0..1."""
    train(folder, recipe, str(folder / f"{order}.npy"), "run", epochs=epochs, seed=seed, buffer=buffer)
    model = aekit.load(str(folder / "run"))
    x = np.asarray(test, np.float32)
    return float(np.mean((x - model.denoise(x)) ** 2)) / 255**2


def memory(folder: Path) -> list[Row]:
    rows, points = LARGE
    rng = np.random.default_rng(0)
    x = np.lib.format.open_memmap(folder / "large.npy", "w+", np.float32, LARGE)
    t = np.arange(points) / points
    for start in range(0, rows, 100_000):
        phase, rate = rng.random((2, 100_000, 1))
        x[start : start + 100_000] = np.sin(2 * np.pi * ((1 + 3 * rate) * t + phase)) + rng.normal(
            0, 0.1, (100_000, points)
        )
    x.flush()
    del x
    (folder / "peak.py").write_text(PEAK)
    found = []
    for processes, buffer in ((1, 0), (1, 100_000), (2, 100_000)):
        command = [sys.executable, str(folder / "peak.py")]
        if processes > 1:
            command[1:1] = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        words = ["train", "dense", "--data", str(folder / "large.npy"), "--steps", str(STEPS), "--batch-size", "512"]
        words += ["--set", f"buffer={buffer}", "-o", str(folder / f"run-{processes}-{buffer}")]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([*command, *words], capture_output=True, text=True, env=env, check=False)
        assert done.returncode == 0, done.stderr
        peak = max(int(told) for told in re.findall(r"PEAK (\d+)", done.stderr)) / 2**20
        with (folder / f"run-{processes}-{buffer}" / "metrics.csv").open(newline="") as file:
            rate = float(list(csv.DictReader(file))[-1]["samples_per_second"])
        name = f"buffer {buffer:,}" if buffer else "all in memory"
        name += f", {processes} processes" if processes > 1 else ""
        data = f"{rows:,} x {points}"
        found.append(row(data, "dense", f"GiB of a process, {name}", peak))
        found.append(row(data, "dense", f"samples a second, {name}", rate))
    return found


def main() -> None:
    chosen = sys.argv[1:] or ["quality", "memory"]
    results = RESULTS / "streaming.csv"
    done = list(csv.DictReader(results.open(newline=""))) if results.exists() else []
    with tempfile.TemporaryDirectory() as name:
        new = [line for kind in chosen for line in {"quality": quality, "memory": memory}[kind](Path(name))]
    keys = {(line["data"], line["model"], line["figure"]) for line in new}
    kept = [line for line in done if (line["data"], line["model"], line["figure"]) not in keys]
    with results.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(new[0]))
        writer.writeheader()
        writer.writerows([*kept, *new])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
