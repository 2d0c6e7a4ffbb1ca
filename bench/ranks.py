"""Training by several processes beside one, on this machine's cores -> results/ranks.csv; five minutes.

    python bench/ranks.py

Each process computes in one thread. Losses of all epochs are laid beside those of one process; `conv` has no batch
normalisation, `unet` has.
"""

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from common import RESULTS, Row, row

RECIPES = (("conv", "mnist", 64), ("conv", "mnist", 512), ("denoising", "mnist", 256), ("unet", "ecg5000", 64))
EPOCHS = {"mnist": 2, "ecg5000": 4}
PROCESSES = (1, 2)
PEAK = """
import resource, sys
from aekit.cli import main
try:
    main()
finally:
    print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def trained(folder: Path, recipe: str, data: str, batch: int, processes: int) -> tuple[list[dict[str, str]], float]:
    """The rows of metrics.csv, and the highest memory of a process in GiB."""
    out = folder / f"{recipe}-{batch}-{processes}"
    script = folder / "peak.py"
    script.write_text(PEAK)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    words = ["train", recipe, "--data", data, "--epochs", str(EPOCHS[data]), "--batch-size", str(batch), "-o", str(out)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(script), *words], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    peaks = [int(line.split()[1]) for line in done.stderr.splitlines() if line.startswith("PEAK")]
    with (out / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file)), max(peaks) / 2**20


def main() -> None:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        for recipe, data, batch in RECIPES:
            what = f"{recipe} on {data}, batch {batch}"
            found = {n: trained(Path(name), recipe, data, batch, n) for n in PROCESSES}
            one = found[1][0]
            rate = {n: median(float(line["samples_per_second"]) for line in lines) for n, (lines, _) in found.items()}
            for n, (lines, peak) in found.items():
                who = f"{n} process{'es' if n > 1 else ''}"
                rows.append(row(what, who, "samples per second", rate[n]))
                rows.append(row(what, who, "peak memory of a process, GiB", peak))
                if n == 1:
                    continue
                rows.append(row(what, who, "efficiency", rate[n] / rate[1] / n))
                for key in ("train_loss", "val_error"):
                    far = max(abs(float(a[key]) / float(b[key]) - 1) for a, b in zip(lines, one, strict=True))
                    rows.append(
                        row(what, who, f"{key}, relative difference", far, "" if recipe == "unet" else "<= 1e-6")
                    )
    with (RESULTS / "ranks.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
