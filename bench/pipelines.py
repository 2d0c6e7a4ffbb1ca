"""Speed and memory of whole verbs on this machine, each beside the plain loop in the same run -> results/.

    AEKIT_DATA=<folder> python bench/pipelines.py speed memory

`memory` writes and removes two files of 4 GiB in a temporary folder. Run it on a machine that does nothing else.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import plain
import torch

from aekit import workflows
from aekit.workflows import Options

RESULTS = Path(__file__).parent / "results"
GIB = 1 << 30
TEST_IMAGES = "t10k-images-idx3-ubyte.gz"
Row = dict[str, object]


def row(what: str, provider: str, seconds: float, ratio: float | None = None, target: str = "", note: str = "") -> Row:
    shown = "" if ratio is None else f"{ratio:.2f}"
    print(f"{what:44} {provider:16} {seconds:10.3f} {shown:>8} {target} {note}", flush=True)
    return {
        "what": what,
        "provider": provider,
        "value": f"{seconds:.4g}",
        "ratio": shown,
        "target": target,
        "note": note,
    }


def best(function: Callable[[], float], times: int) -> float:
    """The quickest of several runs: what the machine can do when nothing else disturbs it."""
    return min(function() for _ in range(times))


def epoch_seconds(folder: Path, recipe: str, data: str, **options: object) -> tuple[float, float]:
    """Seconds of the quickest of three epochs, validation left out as in the plain loop, and the last training loss."""
    figures = workflows.train(
        recipe, data, {"epochs": 3, "val": "0.02", **options}, out=str(folder / "run"), force=True
    )
    fastest = max(float(line["samples_per_second"]) for line in metrics(folder))
    return 1 / fastest, float(figures["train_loss"])


def metrics(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "run" / "metrics.csv").read_text().splitlines()))


def to_the_same_error(folder: Path, model: torch.nn.Module, seconds: float, test: np.ndarray) -> list[Row]:
    """The plain loop's test error after three epochs against aekit's after one, whose learning rate anneals in it."""
    what = "train conv to such a test error, s"
    error = plain.score_conv(model, test).error
    rows = [row(what, "plain loop", seconds, note=f"3 epochs, test MSE {error:.5f}")]
    figures = workflows.train("conv", "mnist", {"epochs": 1, "val": "0.02"}, out=str(folder / "run"), force=True)
    (epoch,) = metrics(folder)
    own = float(epoch["seconds"])
    note = f"1 epoch, test MSE {figures['test_error']:.5f}"
    return [*rows, row(what, "aekit fp32", own, seconds / own if figures["test_error"] <= error else None, "", note)]


def speed(folder: Path) -> list[Row]:
    data = Path(os.environ["AEKIT_DATA"])
    idx = data / "mnist" / "train-images-idx3-ubyte.gz"
    images = plain.read_idx(idx)
    rows = []

    torch.manual_seed(0)
    model = plain.conv_autoencoder()
    timing = plain.train_conv(model, images, epochs=3)
    own = {p: epoch_seconds(folder, "conv", "mnist", batch_size=64, precision=p) for p in ("fp32", "bf16")}
    rows.append(row("train conv, mnist, s an epoch", "plain loop", timing.seconds, note=f"loss {timing.error:.5f}"))
    for precision, (seconds, loss) in own.items():
        target = ">= 2.5" if precision == "fp32" else ""
        ratio = timing.seconds / (seconds * len(images))
        rows.append(
            row(
                "train conv, mnist, s an epoch",
                f"aekit {precision}",
                seconds * len(images),
                ratio,
                target,
                f"loss {loss:.5f}",
            )
        )
    rows += to_the_same_error(folder, model, 3 * timing.seconds, plain.read_idx(data / "mnist" / TEST_IMAGES))

    table = np.loadtxt(data / "ecg5000" / "ECG5000_TRAIN.tsv.gz", dtype=np.float32)
    beats = torch.from_numpy(table[table[:, 0] == 1, 1:]).unsqueeze(-1)
    torch.manual_seed(0)
    timing = plain.train_lstm(plain.LSTMAutoencoder(), list(beats), epochs=2)
    per_sample = timing.seconds / timing.samples
    rows.append(row("train lstm, ecg5000, ms a sample", "plain loop", 1000 * per_sample))
    for precision in ("fp32", "bf16"):
        seconds, _ = epoch_seconds(folder, "lstm", "ecg5000", precision=precision, epochs=6)
        target = ">= 5" if precision == "fp32" else ""
        rows.append(
            row("train lstm, ecg5000, ms a sample", f"aekit {precision}", 1000 * seconds, per_sample / seconds, target)
        )

    timing = plain.score_conv(model, images)
    rows.append(row("score 60,000 digits by conv, s", "plain loop", timing.seconds))
    for precision, target in (("fp32", ">= 2"), ("bf16", ">= 3")):
        workflows.train("conv", "mnist", {"steps": 50, "precision": precision}, out=str(folder / "run"), force=True)

        def scored() -> float:
            out = str(folder / "scores.csv")
            options = Options(model=str(folder / "run"), force=True)
            return float(workflows.score(str(idx), out, "auto", options=options)["seconds"])

        seconds = best(scored, 3)
        note = "reading, p-values and CSV included"
        rows.append(
            row("score 60,000 digits by conv, s", f"aekit {precision}", seconds, timing.seconds / seconds, target, note)
        )
    return rows + commands(folder)


def commands(folder: Path) -> list[Row]:
    """Whole commands, start-up included."""
    rows = []
    for words, name, target in (
        (["--help"], "aekit --help, s", "< 0.3"),
        (["train", "--help"], "aekit train --help, s", "< 0.3"),
        (
            ["score", "mnist", "--model", str(folder / "run"), "-o", str(folder / "d.csv"), "--force"],
            "score 10,000 digits, s",
            "<= 5",
        ),
    ):

        def command(words: list[str] = words) -> float:
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "aekit", *words], check=True, capture_output=True)
            return time.perf_counter() - start

        rows.append(row(name, "aekit", best(command, 3), target=target, note="start-up included"))
    return rows


def memory(folder: Path) -> list[Row]:
    """Peak resident memory of the streaming verbs over a 4 GiB file, npy and h5."""
    points = 512
    count = 4 * GIB // (4 * points)
    rng = np.random.default_rng(0)
    block = np.sin(np.linspace(0, 20, points) + rng.uniform(0, 6, (4096, 1))).astype(np.float32)
    np.save(folder / "small.npy", block)
    settings = {"steps": 20, "hidden": [32], "latent": 8}
    workflows.train("stacked", str(folder / "small.npy"), settings, out=str(folder / "run"))
    with (folder / "big.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (count, points)}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(count // len(block)):
            file.write(block.tobytes())
    rows = []
    for ending in ("npy", "h5"):
        big = folder / f"big.{ending}"
        if ending == "h5":
            with h5py.File(big, "w") as file:
                data = file.create_dataset("x", (count, points), "f4", chunks=(1024, points))
                for start in range(0, count, len(block)):
                    data[start : start + len(block)] = block
            (folder / "big.npy").unlink()
        for verb, out in (("score", "s.csv"), ("embed", "z.npy"), ("denoise", f"d.{ending}")):
            peak, seconds = peak_memory(
                [verb, str(big), "--model", str(folder / "run"), "-o", str(folder / out), "--force"]
            )
            what = f"{verb} a 4 GiB {ending}, peak GiB"
            rows.append(row(what, "aekit", peak, target="<= 1 + model", note=f"{seconds:.0f} s"))
            (folder / out).unlink()
    return rows


def peak_memory(words: list[str]) -> tuple[float, float]:
    """GiB and seconds of a command in a process of its own."""
    code = (
        "import json, resource, sys, time\n"
        "start = time.perf_counter()\n"
        "from aekit.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20\n"
        "print(json.dumps([peak, time.perf_counter() - start]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words, "--quiet"], capture_output=True, text=True, check=True)
    peak, seconds = json.loads(done.stdout)
    return float(peak), float(seconds)


SUBJECTS = {"speed": speed, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subjects", nargs="*", choices=SUBJECTS, default=list(SUBJECTS))
    for subject in parser.parse_args().subjects:
        with tempfile.TemporaryDirectory() as folder:
            rows = SUBJECTS[subject](Path(folder))
        with (RESULTS / f"{subject}-cpu.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
