"""`denoise` without a model: gains from noisy data alone, beside the same data learnt with clean targets and filters.

    python bench/blindspot.py digits mnist radio clean    # -> results/blindspot.csv, half an hour on one core
    python bench/blindspot.py guard                       # -> results/blindspot-guard.csv, an hour

Filters are given the standard deviation that the blind spot estimated. Of total variation the weight is the one that
takes away so much (Morozov's principle); sizes of windows and patches are those in the notes.
"""

import argparse
import csv
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, Array, Row, row, rows_of, train
from scipy.ndimage import gaussian_filter, uniform_filter
from scipy.signal import lfilter, wiener
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, denoise_wavelet
from sklearn.datasets import load_digits

from aekit import load, workflows
from aekit.datasets import open_dataset
from aekit.errors import AekitError
from aekit.workflows import Options, Talk

LEVELS = (0.1, 0.25, 0.5)
TARGETS = {0.1: 60, 0.25: 70, 0.5: 75}  # % of the gain of supervised training
SAME_SIZE = (16, 32, 64)  # widths of a `unet` of 83,000 parameters in 2-D; the blind spot has 97,000 to 135,000
MNIST_ROWS, MNIST_STEPS = (10_000, 1_000), 800  # to learn from, and to be judged by; a fifth of the usual steps
LEAST_STEPS = 1_200  # of the network with clean targets, which sees new noise at each step
TRACES = 500
SEEDS = range(1)


def digits(folder: Path) -> list[Row]:
    """All 1,797 rows, noisy, are denoised by what is learnt from them."""
    clean = (load_digits().images / 16).astype(np.float32)
    return [line for level in LEVELS for line in _images(folder, "digits", clean, clean, level)]


def mnist(folder: Path) -> list[Row]:
    """Learnt from noisy rows of the training part, judged by noisy rows of the test part."""
    learnt, judged = (
        rows_of("mnist", part)[:count] / np.float32(255)
        for part, count in zip(("train", "test"), MNIST_ROWS, strict=True)
    )
    return [line for level in LEVELS for line in _images(folder, "mnist", learnt, judged, level, steps=MNIST_STEPS)]


def _images(folder: Path, name: str, learnt: Array, judged: Array, level: float, **options: Any) -> list[Row]:
    data = f"{name}, noise {level:g}"
    rng = np.random.default_rng(0)
    noisy = _plus(rng, learnt, level)
    test = noisy if judged is learnt else _plus(rng, judged, level)
    np.save(folder / "noisy.npy", noisy)
    np.save(folder / "clean.npy", learnt)
    before = _psnr(test, judged)
    rows = [row(data, "input", "PSNR", before)]

    own, steps, seconds = _learnt(folder, "blind-spot", "noisy.npy", **options)
    sigma = _sigma(own)
    found, took = _timed(lambda: own.denoise(test))
    gains = {"blind-spot": _psnr(found, judged) - before}
    times = {"blind-spot": f"{seconds:.0f} s to learn, {took:.1f} s to use"}
    rows.append(row(data, "blind-spot", "noise found", sigma, f"{level:g}"))

    steps = max(steps, LEAST_STEPS)
    options = {"hidden": list(SAME_SIZE), "corrupt": [f"gaussian:{level}"], "steps": steps}
    model, _, seconds = _learnt(folder, "unet", "clean.npy", **options)
    found, took = _timed(lambda: model.denoise(test))
    gains["unet, clean targets"] = _psnr(found, judged) - before
    times["unet, clean targets"] = f"{seconds:.0f} s to learn, {took:.1f} s to use, {steps} steps of 32"
    for method, apply in _filters(sigma, 2).items():
        found, took = _timed(_each(apply, test))
        gains[method], times[method] = _psnr(found, judged) - before, f"{took:.1f} s"
    rows += [row(data, method, "gain in PSNR, dB", gain, note=times[method]) for method, gain in gains.items()]
    share = 100 * gains["blind-spot"] / gains["unet, clean targets"]
    rows.append(row(data, "blind-spot", "share of the gain with clean targets, %", share, f">= {TARGETS[level]}"))
    return rows


def radio(folder: Path) -> list[Row]:
    """Traces of the three kinds of noise, of which `uniform` alone is independent from point to point."""
    rows = []
    for kind in ("uniform", "original", "cosine", "white"):
        record = open_dataset("radio:uniform" if kind == "white" else f"radio:{kind}", "train")
        assert record is not None
        assert record.target is not None
        noisy, clean = (np.array(part.read(0, TRACES)) for part in (record, record.target))
        if kind == "white":
            noisy = _plus(np.random.default_rng(0), clean, float((noisy - clean).std()))
        data = f"radio, {kind} noise"
        np.save(folder / "noisy.npy", noisy)
        np.save(folder / "clean.npy", clean)
        true = float((noisy - clean).std())
        before = time.perf_counter()
        try:
            found, sigma = _denoised(folder, "noisy.npy")
        except AekitError:
            rows.append(row(data, "blind-spot", "refused", 1, note=f"{time.perf_counter() - before:.0f} s"))
            sigma = true
        else:
            note = f"{time.perf_counter() - before:.0f} s"
            rows.append(row(data, "blind-spot", "noise found, mV", sigma, f"{true:.4g}"))
            rows.append(row(data, "blind-spot", "gain in SNR, dB", _gain(noisy, found, clean), note=note))
        trained = train(folder, "unet", str(folder / "noisy.npy"), "sup", target=str(folder / "clean.npy"), steps=1200)
        found = load(str(folder / "sup")).denoise(noisy)
        note = f"{trained['seconds']:.0f} s"
        rows.append(row(data, "unet, clean targets", "gain in SNR, dB", _gain(noisy, found, clean), note=note))
        for method, apply in _filters(sigma, 1).items():
            found, took = _timed(_each(apply, noisy))
            rows.append(row(data, method, "gain in SNR, dB", _gain(noisy, found, clean), note=f"{took:.1f} s"))
    return rows


def clean(folder: Path) -> list[Row]:
    """Data with hardly any noise: how far what comes out lies from it, over its standard deviation."""
    rows = []
    for name, x in {"mnist": rows_of("mnist", "test")[:2000], "ecg5000": rows_of("ecg5000", "test")}.items():
        np.save(folder / "noisy.npy", x)
        model, _, _ = _learnt(folder, "blind-spot", "noisy.npy", steps=MNIST_STEPS)
        found, sigma = model.denoise(x.astype(np.float32)), _sigma(model)
        change = np.square(found.astype(float) - x).mean() ** 0.5 / x.std()
        rows.append(row(f"{name}, as it is", "blind-spot", "noise found over the data's", sigma / float(x.std())))
        rows.append(row(f"{name}, as it is", "blind-spot", "change over the data's", change, "<= 0.1"))
    return rows


def _learnt(folder: Path, recipe: str, data: str, **options: Any) -> tuple[Any, int, float]:
    """A trained model, its steps and its seconds."""
    before = time.perf_counter()
    said: list[str] = []
    place = str(folder / recipe)
    workflows.train(recipe, str(folder / data), options, out=place, force=True, talk=Talk(say=said.append))
    steps = [int(line.split()[0]) for line in said if " steps of " in line]
    return load(place), options.get("steps") or (steps[0] if steps else 0), time.perf_counter() - before


def _denoised(folder: Path, data: str) -> tuple[Array, float]:
    """By the verb, which learns; what it wrote, and the noise that it found."""
    options = Options(fresh=True, force=True)
    figures = workflows.denoise(str(folder / data), str(folder / "out.npy"), options=options)
    return np.load(folder / "out.npy"), figures["noise_std"]


def _sigma(model: Any) -> float:
    return float(model.trained.network.sigma.detach().mean()) * float(np.mean(model.trained.normalisation.scale))


def _filters(sigma: float, dims: int) -> dict[str, Callable[[Array], Array]]:
    size = 3 if dims == 2 else 5
    found: dict[str, Callable[[Array], Array]] = {
        f"Wiener, window {size}": lambda x: wiener(x, size, sigma**2),
        "wavelets, BayesShrink": lambda x: denoise_wavelet(x, sigma, rescale_sigma=False),
        "total variation": lambda x: _total_variation(x, sigma),
    }
    if dims == 2:
        settings = {"patch_size": 3, "patch_distance": 5, "h": 0.8 * sigma, "sigma": sigma, "fast_mode": False}
        found["non-local means, patch 3"] = lambda x: denoise_nl_means(x, **settings)
    return found


def _total_variation(x: Array, sigma: float) -> Array:
    """With the weight at which the residual's standard deviation is sigma, by bisection."""
    low, high = 0.01 * sigma, 20 * sigma
    for _ in range(8):
        weight = math.sqrt(low * high)
        found = denoise_tv_chambolle(x, weight)
        low, high = (weight, high) if (x - found).std() < sigma else (low, weight)
    return np.asarray(found)


def _plus(rng: np.random.Generator, x: Array, level: float) -> Array:
    return np.asarray(x + level * rng.normal(size=x.shape), np.float32)


def _psnr(x: Array, clean: Array) -> float:
    return float(-10 * np.log10(np.square(x.astype(float) - clean).mean()))


def _gain(noisy: Array, found: Array, clean: Array) -> float:
    before, after = (np.square(x.astype(float) - clean).sum() for x in (noisy, found))
    return float(10 * np.log10(before / after))


def _each(apply: Callable[[Array], Array], x: Array) -> Callable[[], Array]:
    return lambda: np.stack([apply(row) for row in x])


def _timed(work: Callable[[], Array]) -> tuple[Array, float]:
    before = time.perf_counter()
    return work(), time.perf_counter() - before


# --- the guard --------------------------------------------------------------------------------------------------------

DATA = {  # name -> rows that are taken
    "digits": 1797,
    "mnist": 1000,
    "fashion-mnist": 1000,
    "galaxies:32": 600,
    "ecg5000": 2000,
    "radio pulses": 600,
}
WHITE = ("none", "white 0.1", "white 0.25", "white 0.5")
SHARED = ("smooth 0.25", "AR 0.5", "AR 0.9", "rows 0.25", "box 0.25", "band 0.25")
STEPS = 250  # a third of the usual ones or fewer, so that the table takes a quarter of an hour


def guard(folder: Path) -> list[Row]:
    """For each kind of data and noise the share of seeds for which denoise refuses, and what it went by."""
    rows = []
    for kind in (*WHITE, *SHARED):
        for name in DATA:
            x = _clean(name)
            if kind.startswith("rows") and x.ndim == 2:
                continue
            rows += _refusals(folder, name, kind, x)
    for kinds, what in ((WHITE, "false alarms, %"), (SHARED, "found, %")):
        some = [float(str(r["value"])) for r in rows if str(r["data"]).partition(", ")[2] in kinds]
        rows.append(row("all", "blind-spot", what, 100 * float(np.mean(some)), note=f"{len(some)} kinds"))
    return rows


def _refusals(folder: Path, name: str, kind: str, x: Array) -> list[Row]:
    refused, told = [], []
    unit = 1.0 if x.ndim > 2 else float(x.std())
    for seed in SEEDS:
        noisy = (x + unit * noise(kind, x.shape, np.random.default_rng(seed))).astype(np.float32)
        np.save(folder / "noisy.npy", noisy)
        options = {"steps": STEPS, "seed": seed}
        workflows.train("blind-spot", str(folder / "noisy.npy"), options, out=str(folder / "run"), force=True)
        with_run = Options(model=str(folder / "run"), force=True)
        try:
            workflows.denoise(str(folder / "noisy.npy"), str(folder / "out.npy"), options=with_run)
            refused.append(0)
            told.append(f"gain {_gain(noisy, np.load(folder / 'out.npy'), x):.1f} dB" if kind != "none" else "")
        except AekitError as error:
            refused.append(1)
            told.append(str(error).partition("point to point: ")[2].partition(", so")[0])
    target, note = "0" if kind in WHITE else "1", "; ".join(filter(None, told))
    return [row(f"{name}, {kind}", "blind-spot", "refused", float(np.mean(refused)), target, note)]


def _clean(name: str) -> Array:
    count = DATA[name]
    if name == "digits":
        return np.asarray(load_digits().images / 16)
    if name == "radio pulses":
        record = open_dataset("radio", "train")
        assert record is not None
        assert record.target is not None
        return np.array(record.target.read(0, count)) * 4.0
    x = rows_of(name, "test" if name == "ecg5000" else "train")[:count]
    return x / (255.0 if x.dtype == np.uint8 else 1.0)


def noise(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Noise (rows, *item) of the standard deviation at the end of its name, or 0.25; channels of pictures lie last."""
    name, _, amount = kind.partition(" ")
    points = (1, 2) if len(shape) > 2 else (1,)
    w = rng.normal(size=shape)
    if name == "none":
        return 0 * w
    if name == "uniform":
        w = rng.uniform(-1, 1, shape)
    elif name in ("smooth", "box"):
        along = [1 if axis in points else 0 for axis in range(len(shape))]
        w = gaussian_filter(w, along) if name == "smooth" else uniform_filter(w, [1 + 2 * a for a in along])
    elif name == "AR":
        for axis in points:
            w = lfilter([1], [1, -float(amount)], w, axis=axis)
    elif name == "rows":
        w = w[:, :, :1] + (rng.normal(size=shape) if amount == "and white" else 0 * w)
    elif name == "band":
        spectrum, frequency = np.fft.rfft(w, axis=points[-1]), np.fft.rfftfreq(shape[points[-1]])
        outside = (frequency < 0.1) | (frequency > 0.3)
        spectrum[(slice(None),) * points[-1] + (outside,)] = 0
        w = np.fft.irfft(spectrum, shape[points[-1]], axis=points[-1])
    level = float(amount) if amount and name in ("white", "uniform", "smooth", "box", "band") else 0.25
    return np.asarray(level * w / w.std())


SUBJECTS: dict[str, Callable[[Path], list[Row]]] = {
    "digits": digits,
    "mnist": mnist,
    "radio": radio,
    "clean": clean,
    "guard": guard,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subjects", nargs="+", choices=SUBJECTS)
    names = parser.parse_args().subjects
    for file, subjects in (("blindspot", [n for n in names if n != "guard"]), ("blindspot-guard", ["guard"])):
        if not set(subjects) & set(names):
            continue
        rows = []
        for name in subjects:
            with tempfile.TemporaryDirectory() as folder:
                rows += SUBJECTS[name](Path(folder))
        path = RESULTS / f"{file}.csv"
        if path.exists():
            with path.open(newline="") as before:
                rows = [old for old in csv.DictReader(before) if old["data"] not in {r["data"] for r in rows}] + rows
        with path.open("w", newline="") as out:
            writer = csv.DictWriter(out, rows[0])
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
