"""Figures of quality for signals, each beside classical methods in the same run; `figures.py` runs and writes them."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import radio_baselines
import seismic_baselines as classical
import torch
from common import Array, Row, row, rows_of, train
from numpy.typing import NDArray

from aekit import workflows
from aekit.batches import as_tensor
from aekit.datasets import open_dataset
from aekit.models.wavedecompnet import WaveDecompNet
from aekit.picks import Pick, pick_figures
from aekit.recipes import RECIPES
from aekit.synthetic.seismic import seismograms
from aekit.workflows import Options
from aekit.workflows.common import load_model

LOW, HIGH = classical.SNR
FOLDS = 5  # of stations, for picks


def clean_up(folder: Path, run: str, noisy: Array, noise_too: bool = False) -> tuple[Array, Array | None]:
    """What the run makes of these rows, through the verb: the cleaned rows, and the noise if asked for."""
    np.save(folder / "noisy.npy", noisy)
    options = Options(model=str(folder / run), force=True)
    rest = str(folder / "rest.npy") if noise_too else None
    workflows.denoise(str(folder / "noisy.npy"), str(folder / "cleaned.npy"), noise_out=rest, options=options)
    return np.load(folder / "cleaned.npy"), None if rest is None else np.load(rest)


# --- radio ------------------------------------------------------------------------------------------------------------


def radio(folder: Path) -> list[Row]:
    """Pulses located within 10 samples of 500, and amplitude within 2 %, by networks, argmax and matched filters."""
    rows = []
    for noise, published in (("original", 0.69), ("uniform", 0.95), ("cosine", 0.98)):
        data = f"radio:{noise}"
        record = open_dataset(data, "test")
        assert record is not None
        assert record.target is not None
        noisy, signals = np.array(record.read(0, len(record))), np.array(record.target.read(0, len(record)))
        power = radio_baselines.noise_power(data)
        found = {
            "argmax of the noisy trace": radio_baselines.argmax(noisy),
            "matched filter": radio_baselines.matched_filter(noisy),
            "whitened matched filter": radio_baselines.matched_filter(noisy, power),
        }
        seconds = {}
        for recipe, epochs in (("trace", 10), ("unet", 4)):
            seconds[recipe] = train(folder, recipe, data, epochs=epochs, corrupt=[])["seconds"]
            options = Options(model=str(folder / f"{recipe}-run"), force=True)
            gain = workflows.denoise(data, str(folder / "radio.npy"), options=options)
            rows.append(row(f"radio, {noise}", recipe, "SNR gain, dB", gain["snr_gain_db"]))
            found[recipe] = radio_baselines.argmax(np.load(folder / "radio.npy"))
        for name, places in found.items():
            located, measured, both = radio_baselines.shares(*places, signals)
            target = f"> {published}" if name in seconds else ""
            note = f"{seconds[name]:.0f} s" if name in seconds else ""
            rows.append(row(f"radio, {noise}", name, "located within 10 of 500", float(located), target, note))
            rows.append(row(f"radio, {noise}", name, "amplitude within 2 %", float(measured)))
            rows.append(row(f"radio, {noise}", name, "both", float(both)))
    return rows


# --- seismograms ------------------------------------------------------------------------------------------------------


def seismic(folder: Path) -> list[Row]:
    """Real earthquakes in real noise: `deepdenoiser` on networks kept out, classical filters, and a mask that knows.

    The network learns from generated earthquakes first, then from the real ones of the other networks.
    """
    signal, networks, noise = classical.records()
    noisy, scaled = classical.mixtures(signal, noise[classical.NOISE_KEPT :], 0)
    cleaned = {"deepdenoiser": np.zeros_like(signal), "generated ones alone": np.zeros_like(signal)}
    np.save(folder / "noise.npy", noise[: classical.NOISE_KEPT])
    noises = [f"records:{folder / 'noise.npy'}@{LOW:g}..{HIGH:g}"]
    made = seismograms("train", 0, 3200)
    np.save(folder / "made.npy", made.clean[made.p_index >= 0].reshape(-1, signal.shape[1]))
    first: dict[str, Any] = {"steps": 3500, "val": 0.05, "augment": f"{RECIPES['deepdenoiser'].augment}+response:0.8"}
    seconds = train(folder, "deepdenoiser", str(folder / "made.npy"), "deepdenoiser-pre", corrupt=noises, **first)[
        "seconds"
    ]
    cleaned["generated ones alone"], _ = clean_up(folder, "deepdenoiser-pre", noisy)
    limit = classical.oracle_mask(signal, scaled)
    rows = []
    for fold in classical.FOLDS:
        out = np.isin(networks, fold)
        np.save(folder / "clean.npy", signal[~out])
        options = {"steps": 1500, "lr": 1.5e-3, "start": str(folder / "deepdenoiser-pre")}
        seconds += train(folder, "deepdenoiser", str(folder / "clean.npy"), corrupt=noises, **options)["seconds"]
        cleaned["deepdenoiser"][out], _ = clean_up(folder, "deepdenoiser-run", noisy[out])
        for name, result in (("deepdenoiser", cleaned["deepdenoiser"]), ("oracle mask", limit)):
            gain, correlation = classical.figures(result[out], signal[out], noisy[out])
            note = f"correlation {correlation:.3f}, {int(out.sum())} records of {' '.join(fold)} kept out"
            rows.append(row("seismic", f"{name}, a fold", "SNR gain, dB", gain, note=note))
    found = {**cleaned, "oracle mask": limit}
    found |= {name: method(noisy) for name, method in classical.METHODS.items()}
    for name, result in found.items():
        gain, correlation = classical.figures(result, signal, noisy)
        own = name == "deepdenoiser"
        note = f"{len(classical.FOLDS)} folds of networks, {seconds:.0f} s" if own else ""
        rows.append(row("seismic", name, "SNR gain, dB", gain, ">= 9.2" if own else "", note))
        rows.append(row("seismic", name, "correlation", correlation, ">= 0.92" if own else ""))
    runs = {"deepdenoiser": "deepdenoiser-run", "generated ones alone": "deepdenoiser-pre"}
    return rows + _turbines(folder, runs)


def _turbines(folder: Path, runs: dict[str, str]) -> list[Row]:
    """Noise of another origin: nine earthquakes beside wind turbines, whose clean traces nobody knows."""
    noisy, p = classical.turbines()
    found = {name: clean_up(folder, run, noisy)[0] for name, run in runs.items()}
    found |= {"as recorded": noisy, **{name: method(noisy) for name, method in classical.METHODS.items()}}
    what = "10 s from P over 25 s before, dB"
    return [
        row("seismic, turbines", name, what, classical.onset_ratio(cleaned, p), note="median of 27 traces")
        for name, cleaned in found.items()
    ]


def decomposition(folder: Path) -> list[Row]:
    """`wavedecompnet` by bottleneck at 10 Hz: trained on generated earthquakes in real noise, judged on real ones."""
    earthquakes, noise = classical.triples()
    kept = round(0.8 * len(noise))  # the later ones judge
    made = seismograms("train", 0, 2500)
    np.save(folder / "clean.npy", classical.at_10_hz(made.clean[made.p_index >= 0]))
    np.save(folder / "noise.npy", noise[:kept])
    noisy, scaled = classical.mixtures(earthquakes, noise[kept:], 0)

    def figures(name: str, cleaned: Array, rest: Array, note: str = "") -> list[Row]:
        parts = (("earthquake", cleaned, earthquakes), ("what is left as noise", rest, scaled))
        return [
            row("seismic, 10 Hz", name, f"explained variance, {what}", _explained(part, truth), note=note)
            for what, part, truth in parts
        ]

    rows = []
    for bottleneck in ("none", "linear", "lstm", "attention", "transformer"):
        options = {
            "bottleneck": bottleneck,
            "corrupt": [f"records:{folder / 'noise.npy'}@{LOW:g}..{HIGH:g}"],
            "epochs": 30,
        }
        run = train(folder, "wavedecompnet", str(folder / "clean.npy"), **options)
        cleaned, rest = clean_up(folder, "wavedecompnet-run", noisy, noise_too=True)
        assert rest is not None
        name, note = f"wavedecompnet, {bottleneck}", f"{run['parameters']:,} parameters, {run['seconds']:.0f} s"
        rows += figures(name, cleaned, rest, note)
        own = _explained(_noise_branch(folder / "wavedecompnet-run", noisy), scaled)
        rows.append(row("seismic, 10 Hz", name, "explained variance, noise by its own branch", own, note=note))
    for name, method in classical.METHODS_10_HZ.items():
        cleaned = method(noisy.reshape(-1, noisy.shape[-1])).reshape(noisy.shape)
        rows += figures(name, cleaned, noisy - cleaned)
    return rows


def _noise_branch(run: Path, noisy: Array) -> Array:
    """What the second decoder makes of these rows, which no verb writes: `--noise-out` adds up to the input."""
    trained = load_model(str(run))
    network = trained.network.eval()
    assert isinstance(network, WaveDecompNet)
    x, _, scale = trained.normalisation.apply(as_tensor(noisy))
    with torch.no_grad():
        return (network.parts(x)[1] * scale).double().numpy()


def _explained(part: Array, truth: Array) -> float:
    """1 - var(difference) / var(truth) of each row, the mean over rows."""
    return float(np.mean(1 - (part - truth).var(axis=(1, 2)) / truth.var(axis=(1, 2))))


def picks(folder: Path) -> list[Row]:
    """P and S of real earthquakes by `eqtransformer`, pre-trained on generated ones, and by STA/LTA; whole stations
    are kept out of each fold, and of those that the thresholds of STA/LTA are chosen on."""
    x, arrivals, stations = classical.picked()
    start = train(folder, "eqtransformer", "seismic", "pre", steps=700)
    fold = np.random.default_rng(0).permutation(len(np.unique(stations)))[np.unique(stations, return_inverse=True)[1]]
    fold %= FOLDS
    found: dict[str, list[Pick]] = {"eqtransformer": [], "generated ones alone": [], "STA/LTA": []}
    seconds = start["seconds"]
    for i in range(FOLDS):
        out = np.flatnonzero(fold == i)
        kept = np.flatnonzero(fold != i)
        _save_picked(folder / "kept.npz", x[kept], arrivals[kept])
        _save_picked(folder / "out.npz", x[out], arrivals[out])
        options = {"steps": 120, "start": str(folder / "pre"), "lr": 1e-3, "val": 0.1}
        seconds += train(folder, "eqtransformer", str(folder / "kept.npz"), **options)["seconds"]
        for name, run in (("eqtransformer", "eqtransformer-run"), ("generated ones alone", "pre")):
            found[name] += _picks_of(folder, run, out)
        chosen = classical.choose_thresholds(x[kept], arrivals[kept])
        found["STA/LTA"] += [
            pick for r in out for pick in classical.sta_lta_picks(classical.onsets(x[r]), int(r), *chosen)
        ]
    rows = []
    for name, mine in found.items():
        note = f"{seconds:.0f} s" if name == "eqtransformer" else ""
        for figure, value in pick_figures(mine, arrivals, classical.RATE).items():
            if value is not None and (name != "STA/LTA" or not figure.startswith("detection")):
                rows.append(row("seismic, 115 picked", name, figure.replace("_", " "), value, note=note))
    return rows


def _save_picked(path: Path, x: Array, arrivals: Array) -> None:
    np.savez(path, data=x, p_index=arrivals[:, 0], s_index=arrivals[:, 1], sampling_rate=classical.RATE)


def _picks_of(folder: Path, run: str, records: NDArray[np.int64]) -> list[Pick]:
    """What `score` writes about out.npz, whose rows are these records."""
    workflows.score(
        str(folder / "out.npz"), str(folder / "p.csv"), options=Options(model=str(folder / run), force=True)
    )
    with (folder / "p.csv").open() as file:
        return [
            Pick(
                int(records[int(line["row"])]),
                line["kind"],
                *(float(line[name]) for name in ("start_seconds", "end_seconds", "probability", "uncertainty")),
            )
            for line in csv.DictReader(file)
        ]


# --- skips ------------------------------------------------------------------------------------------------------------


def skips(folder: Path) -> list[Row]:
    """`unet` beside `conv`, each trained to take the same noise out of pictures of clothes."""
    rows = []
    clean = rows_of("fashion-mnist", "test").astype(np.float64)
    noisy = clean + 0.2 * 255 * np.random.default_rng(0).normal(size=clean.shape)
    np.save(folder / "clean.npy", clean)
    np.save(folder / "noisy.npy", noisy)
    for recipe in ("conv", "unet"):
        run = train(folder, recipe, "fashion-mnist", corrupt=["gaussian:0.2"], epochs=3)
        options = Options(model=str(folder / f"{recipe}-run"), force=True)
        found: dict[str, Any] = workflows.denoise(
            str(folder / "noisy.npy"), str(folder / "out.npy"), str(folder / "clean.npy"), options=options
        )
        note = f"{found['psnr_before_db']} dB before, {run['seconds']:.0f} s"
        rows.append(row("fashion-mnist", recipe, "PSNR after gaussian 0.2, dB", found["psnr_after_db"], note=note))
    return rows


SUBJECTS: dict[str, Callable[[Path], list[Row]]] = {
    "radio": radio,
    "seismic": seismic,
    "decomposition": decomposition,
    "picks": picks,
    "skips": skips,
}
