"""Speed and memory of whole verbs on this machine, each beside the plain loop in the same run -> $OUT or results/.

    AEKIT_DATA=<folder> python bench/pipelines.py speed memory archive epochs      # on a CPU
    AEKIT_DATA=<folder> python bench/pipelines.py gpu

`memory` writes and removes two files of 4 GiB in a temporary folder, `gpu` one of 0.9 GB. Run it on a machine that does
nothing else.
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
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import obspy
import plain
import torch

from aekit import kernels, workflows
from aekit.datasets import open_dataset
from aekit.graphs import Graphed
from aekit.inference import scores_of
from aekit.synthetic.seismic import SAMPLES, SAMPLING_RATE, seismograms
from aekit.trained import TrainedModel
from aekit.workflows import Options
from aekit.workflows.common import load_model

RESULTS = Path(os.environ.get("OUT", Path(__file__).parent / "results"))
DEVICE = "cuda"  # of `gpu`
COPIES = 20  # of MNIST in the file that `gpu` scores
RESIDENT = 65_536  # samples of a batch on the device
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


EPOCHS = {  # recipe -> data, and steps that take some seconds
    "dense": ("mnist", 400),
    "conv": ("mnist", 200),
    "conv1d": ("ecg5000", 200),
    "lstm": ("ecg5000", 20),
    "trace": ("radio", 100),
    "unet": ("radio", 60),
    "deepdenoiser": ("seismic", 20),
    "wavedecompnet": ("seismic", 10),
    "eqtransformer": ("seismic", 10),
}


def epochs(folder: Path) -> list[Row]:
    """Seconds of an epoch of each kind of network, dense, 1-D, 2-D and on a spectrum, from a few steps of it."""
    rows = []
    for recipe, (data, steps) in EPOCHS.items():
        workflows.train(recipe, data, {"steps": steps, "corrupt": []}, out=str(folder / "run"), force=True)
        speed = max(float(line["samples_per_second"]) for line in metrics(folder))
        record = open_dataset(data, "train")
        assert record is not None
        count = len(record) * (record.sample_shape[0] if recipe == "deepdenoiser" else 1)
        what = f"an epoch of {recipe}, {count:,} samples of {data}, seconds"
        rows.append(row(what, "aekit", count / speed, note=f"{speed:,.0f} samples a second"))
    return rows


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


def archive(folder: Path) -> list[Row]:
    """A day of three components at 100 Hz: seconds, peak resident memory and how much windows show at their edges."""
    minutes = 24 * 60
    made = seismograms("test", 0, minutes)
    day = np.concatenate(list(made.clean + made.noise), axis=1) * 1e9  # (3, T), nm/s
    np.save(folder / "day.npy", day[None])
    traces = obspy.Stream()
    for letter, values in zip("ZNE", day, strict=True):
        header = {"network": "XX", "station": "DAY", "channel": f"HH{letter}", "sampling_rate": SAMPLING_RATE}
        traces += obspy.Trace(np.rint(values).astype(np.int32), header)
    traces.write(str(folder / "day.mseed"), format="MSEED")
    del made, traces
    for recipe in ("deepdenoiser", "eqtransformer"):
        workflows.train(recipe, "seismic", {"steps": 60}, out=str(folder / recipe))
    rows = []
    for verb, recipe, files in (
        ("denoise", "deepdenoiser", ("day.npy", "day.mseed")),
        ("score", "eqtransformer", ("day.mseed",)),
    ):
        for name in files:
            out = folder / (f"cleaned.{name}" if verb == "denoise" else "picks.csv")
            words = [verb, str(folder / name), "--model", str(folder / recipe), "-o", str(out), "--force"]
            peak, seconds = peak_memory(words)
            what = f"{verb} {name}, 3 x {day.shape[1]:,} points"
            rows.append(row(f"{what}, seconds", recipe, seconds))
            rows.append(row(f"{what}, peak GiB", recipe, peak, target="<= 1 + model"))
    bends = np.abs(np.diff(np.load(folder / "cleaned.day.npy")[0].astype(np.float64), 2))  # (3, T - 2)
    hop = SAMPLES // 2  # windows begin and end at its multiples: a step there shows in the two bends before
    stretches = bends[:, : bends.shape[1] // hop * hop].reshape(3, -1, hop)
    inside = stretches[:, ::2]  # every other edge lies between two of the minutes that the day was made of
    seam = np.median(inside[..., -2:] / np.median(inside, axis=2, keepdims=True))
    rows.append(row("seam in day.npy, bends at edges over others", "deepdenoiser", float(seam), target="1"))
    return rows


def peak_memory(words: list[str]) -> tuple[float, float]:
    """GiB and seconds of a command in a process of its own; getrusage would tell a higher peak of this process."""
    code = (
        "import json, re, sys, time\n"
        "start = time.perf_counter()\n"
        "from aekit.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "peak = int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) / 2**20\n"
        "print(json.dumps([peak, time.perf_counter() - start]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words, "--quiet"], capture_output=True, text=True, check=True)
    peak, seconds = json.loads(done.stdout)
    return float(peak), float(seconds)


def gpu(folder: Path) -> list[Row]:
    """Training and scoring MNIST by `conv` on a GPU beside the plain loop and compiled torch."""
    images = plain.read_idx(Path(os.environ["AEKIT_DATA"]) / "mnist" / "train-images-idx3-ubyte.gz")
    return [*gpu_training(folder, images), *gpu_scoring(folder, images)]


def gpu_training(folder: Path, images: np.ndarray) -> list[Row]:
    what = "train conv, mnist, 20 epochs of 64, s"
    torch.manual_seed(0)
    timing = plain.train_conv(plain.conv_autoencoder().to(DEVICE), images, device=DEVICE)
    plain_seconds = 20 * timing.seconds
    rows = [row(what, "plain loop", plain_seconds, note="one epoch times 20")]
    seconds = 20 * compiled_epoch(images)
    rows.append(row(what, "compiled", seconds, plain_seconds / seconds, note="data on the device, one epoch times 20"))
    for choice in ("auto", "triton", "torch"):
        for precision in ("fp32", "bf16"):
            kernels.use("auto")
            options = {"epochs": 20, "batch_size": 64, "precision": precision}
            out = str(folder / "run")
            figures = workflows.train("conv", "mnist", options, out=out, device=DEVICE, kernels=choice, force=True)
            epochs = [len(images) / float(line["samples_per_second"]) for line in metrics(folder)]  # without validation
            seconds = 20 * float(np.median(epochs))
            whole = sum(float(line["seconds"]) for line in metrics(folder))
            note = (
                f"with validation, compiling and recording {whole:.1f} s, "
                f"start-up {figures['start_up_seconds']:.1f} s, test MSE {figures['test_error']:.5f}"
            )
            target = "<= 2 s" if (choice, precision) == ("auto", "fp32") else ""
            rows.append(row(what, f"aekit {precision} {choice}", seconds, plain_seconds / seconds, target, note))
    return rows


def compiled_epoch(images: np.ndarray) -> float:
    """Seconds of an epoch of compiled torch with everything on the device, nothing read before its end."""
    data = torch.from_numpy(images.copy()).to(DEVICE)
    model = plain.conv_autoencoder().to(DEVICE, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True, capturable=DEVICE == "cuda")
    loss_of = torch.compile(lambda x: torch.nn.functional.mse_loss(model(x), x), mode="max-autotune")

    def train(batches: torch.Tensor) -> float:
        start = time.perf_counter()
        for index in batches:
            loss = loss_of(data[index].unsqueeze(1).float() / 255)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        synchronize()
        return time.perf_counter() - start

    order = torch.randperm(len(data), device=DEVICE)[: len(data) // 64 * 64].view(-1, 64)
    train(order[:20])
    return train(order)


def gpu_scoring(folder: Path, images: np.ndarray) -> list[Row]:
    rows = []
    raw = torch.from_numpy(images.copy()).to(DEVICE)[:, None][torch.arange(RESIDENT, device=DEVICE) % len(images)]
    for precision in ("fp32", "bf16"):
        what = f"score 1,000,000 digits on the device, {precision}, ms"
        options = {"steps": 50, "precision": precision}
        out = str(folder / "run")
        workflows.train("conv", "mnist", options, out=out, device=DEVICE, force=True)
        trained = load_model(out)
        network = trained.network.to(DEVICE, memory_format=torch.channels_last)  # type: ignore[call-overload]

        def reference(network: torch.nn.Module = network, precision: str = precision) -> torch.Tensor:
            x = raw.float() / 255
            with torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bf16"):
                x_hat = network(x).x_hat
            return (x_hat.float() - x).square().mean(dim=(1, 2, 3))

        def own(raw: torch.Tensor, trained: TrainedModel = trained, precision: str = precision) -> torch.Tensor:
            return scores_of(trained, trained.normalisation.apply(raw)[0], precision)

        with torch.inference_mode():
            kernels.use("torch")
            compiled = torch.compile(reference, mode="max-autotune")
            base = milliseconds(compiled) * 1e6 / RESIDENT
            rows.append(row(what, "compiled", base))
            for choice in ("auto", "triton", "torch"):
                kernels.use(choice)
                value = milliseconds(partial(Graphed(own, torch.device(DEVICE)), raw)) * 1e6 / RESIDENT
                rows.append(row(what, f"aekit {choice}", value, base / value, ">= 3" if choice == "auto" else ""))
    return [*rows, *file_scoring(folder, images)]


def file_scoring(folder: Path, images: np.ndarray) -> list[Row]:
    """`score` of a large file beside reading it, both out of the page cache."""
    file = folder / "many.npy"
    np.save(file, np.concatenate([images] * COPIES))
    what = f"score {COPIES * len(images):,} digits from a file, s"

    def read() -> float:
        start = time.perf_counter()
        buffer = bytearray(32 << 20)
        with file.open("rb", buffering=0) as source:
            while source.readinto(buffer):
                pass
        return time.perf_counter() - start

    def scored() -> float:
        options = Options(model=str(folder / "run"), device=DEVICE, force=True)
        return float(workflows.score(str(file), str(folder / "s.csv"), "auto", options=options)["seconds"])

    seconds = best(read, 3)
    rows = [row(what, "reading the file", seconds)]
    kernels.use("auto")
    value = best(scored, 2)
    return [*rows, row(what, "aekit bf16", value, seconds / value, ">= 1", "p-values and CSV included")]


def milliseconds(function: Callable[[], object]) -> float:
    """The median of 20 calls, after 5."""
    times = []
    for _ in range(25):
        synchronize()
        start = time.perf_counter()
        function()
        synchronize()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times[5:]))


def synchronize() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


SUBJECTS = {"speed": speed, "memory": memory, "archive": archive, "epochs": epochs, "gpu": gpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subjects", nargs="+", choices=SUBJECTS)
    for subject in parser.parse_args().subjects:
        if subject == "gpu" and not torch.cuda.is_available():
            print("no CUDA device here: nothing was measured")
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows = SUBJECTS[subject](Path(folder))
        where = torch.cuda.get_device_name().lower().replace(" ", "-") if subject == "gpu" else "cpu"
        name = "pipelines" if subject == "gpu" else subject
        with (RESULTS / f"{name}-{where}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
