"""Figures of quality on real data, each beside its baseline in the same run -> results/<subject>.csv.

    AEKIT_DATA=<folder> python bench/figures.py mnist fashion undercomplete rotated ecg5000 radio seismic

Everything goes through the verbs as a user would call them; settings are those of the recipes.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import family
import masked
import numpy as np
import plain
import signals
import torch
from common import RESULTS, Array, Row, row, rows_of, train
from sklearn.metrics import roc_auc_score
from torch import nn

from aekit import workflows
from aekit.baseline import fit_pca
from aekit.corruptions import corrupt, parse_corruption
from aekit.datasets import open_dataset
from aekit.models import build
from aekit.recipes import RECIPES
from aekit.records import Batch
from aekit.workflows import Options, Talk

SEEDS = range(5)


# --- MNIST ------------------------------------------------------------------------------------------------------------


def mnist(folder: Path) -> list[Row]:
    """`conv` after 20 epochs of batch 64, `dense` after 20,000 steps of 256, PCA of the same size beside them."""
    rows = []
    figures = train(folder, "dense", "mnist", steps=20_000, batch_size=256)
    note = f"{figures['seconds']:.0f} s"
    rows.append(row("mnist", "dense", "training MSE", figures["train_loss"], "<= 0.0034", note))
    rows.append(row("mnist", "dense", "test MSE", figures["test_error"], note=note))
    rows.append(row("mnist", "PCA-64", "test MSE", figures["pca_test_error"]))
    rows.append(row("mnist", "dense, published", "training MSE", 0.003604, note="FACTS, tutorial D"))
    for seed in (0, 1):
        figures = train(folder, "conv", "mnist", epochs=20, batch_size=64, seed=seed)
        note = f"{figures['seconds']:.0f} s, seed {seed}"
        rows.append(row("mnist", "conv", "test MSE", figures["test_error"], "<= 0.0063 (stretch 0.0060)", note))
    rows.append(row("mnist", "PCA-20", "test MSE", figures["pca_test_error"]))
    rows.append(row("mnist", "conv, published", "test MSE", 0.007516, note="FACTS, tutorial C"))
    return rows


def undercomplete(folder: Path) -> list[Row]:
    """`undercomplete` at several latent sizes, and a linear autoencoder, beside PCA of the same size."""
    rows = []
    for latent in (2, 3, 5, 10, 20):
        figures = train(folder, "undercomplete", "mnist", latent=latent, epochs=10)
        rows.append(row("mnist", f"undercomplete, latent {latent}", "test MSE", figures["test_error"]))
        rows.append(row("mnist", f"PCA-{latent}", "test MSE", figures["pca_test_error"]))
    figures = train(folder, "stacked", "mnist", hidden=[], latent=20, activation="none", epochs=20, lr=1e-3)
    ratio = figures["test_error"] / figures["pca_test_error"]
    rows.append(row("mnist", "linear, latent 20", "test MSE", figures["test_error"]))
    rows.append(row("mnist", "linear, latent 20", "error over PCA's", ratio, "<= 1.01"))
    return rows


def rotated(folder: Path) -> list[Row]:
    """Upright test digits against the same ones turned by 90 degrees, by `conv`."""
    if not (folder / "conv-run").exists():
        train(folder, "conv", "mnist", epochs=20, batch_size=64)
    test = rows_of("mnist", "test")
    np.savez(
        folder / "turned.npz",
        x=np.concatenate([test, np.rot90(test, axes=(1, 2))]),
        y=np.repeat([0, 1], len(test)),
    )
    rows = []
    for rule in ("auto", "fpr=0.01"):
        out = folder / f"{rule}.csv"
        figures = workflows.score(
            str(folder / "turned.npz"), str(out), rule, options=Options(model=str(folder / "conv-run"), force=True)
        )
        flagged = np.array([int(line["anomaly"]) for line in csv.DictReader(out.read_text().splitlines())])
        if rule == "auto":
            rows.append(row("mnist, rotated", "conv", "AUROC", figures["auroc"]))
            rows.append(row("mnist, rotated", "PCA-20", "AUROC", figures["pca_auroc"]))
        rows.append(row("mnist, rotated", "conv", f"upright flagged at {rule}", flagged[: len(test)].mean()))
        rows.append(row("mnist, rotated", "conv", f"rotated flagged at {rule}", flagged[len(test) :].mean()))
        np.save(folder / "upright.npy", test)
        alone = workflows.score(
            str(folder / "upright.npy"),
            str(folder / "u.csv"),
            rule,
            options=Options(model=str(folder / "conv-run"), force=True),
        )
        rows.append(row("mnist, upright alone", "conv", f"flagged at {rule}", alone["flagged"] / alone["count"]))
    return rows


# --- Fashion-MNIST ----------------------------------------------------------------------------------------------------


def plain_loop(network: nn.Module, x: Array, lr: float, batch_size: int, epochs: int) -> float:
    """Adam at a constant rate over shuffled batches, as the tutorials train; returns seconds."""
    start = time.perf_counter()
    loader = torch.utils.data.DataLoader(plain.Pictures(x), batch_size=batch_size, shuffle=True)
    optimiser = torch.optim.Adam(network.parameters(), lr=lr)
    for _ in range(epochs):
        for batch in loader:
            loss = nn.functional.mse_loss(network(batch).x_hat, batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return time.perf_counter() - start


@torch.no_grad()
def mean_error(network: nn.Module, x: Array) -> float:
    parts = torch.from_numpy(x[:, None].astype(np.float32) / 255).split(1000)
    return float(np.mean([nn.functional.mse_loss(network(part).x_hat, part) for part in parts]))


def fashion(folder: Path) -> list[Row]:
    """5 epochs beside the plain loop of the tutorials; peak signal-to-noise ratio before and after denoising."""
    rows = []
    x, test = rows_of("fashion-mnist", "train"), rows_of("fashion-mnist", "test")
    for recipe, lr, batch_size in (("stacked", 5e-3, 50), ("fully-conv", 1e-3, 50), ("undercomplete", 1e-4, 128)):
        figures = train(folder, recipe, "fashion-mnist", epochs=5, batch_size=batch_size)
        rows.append(row("fashion-mnist", recipe, "test MSE", figures["test_error"], note=f"{figures['seconds']:.0f} s"))
        torch.manual_seed(0)
        network = build(RECIPES[recipe].model, (1, 28, 28), {**RECIPES[recipe].settings, "output": "sigmoid"})
        seconds = plain_loop(network, x, lr, batch_size, 5)
        rows.append(
            row(
                "fashion-mnist", f"{recipe}, plain loop", "test MSE", mean_error(network, test), note=f"{seconds:.0f} s"
            )
        )
        rows.append(row("fashion-mnist", f"PCA-{figures['pca_components']}", "test MSE", figures["pca_test_error"]))
    noises = {
        "dropout 0.2": ["dropout:0.2"],
        "gaussian 0.2": ["gaussian:0.2"],
        "half and half": ["gaussian:0.2", "speckle:0.2"],
    }
    for name, texts in noises.items():
        train(folder, "denoising", "fashion-mnist", f"denoising {name}", corrupt=texts, epochs=5)
        rows += _psnr(folder, "fashion-mnist", test, texts, f"denoising {name}", f"denoising, {name}")
    train(folder, "conv", "mnist", "conv-5", epochs=5)
    rows += _psnr(folder, "mnist", rows_of("mnist", "test"), ["gaussian:0.2"], "conv-5", "conv, clean digits only")
    return rows


def _psnr(folder: Path, data: str, test: Array, texts: list[str], run: str, name: str) -> list[Row]:
    clean = torch.from_numpy(test.astype(np.float32) / 255)[:, None]
    batch = Batch(clean, clean, torch.zeros(1), torch.ones(1))
    noisy = corrupt(batch, parse_corruption(texts), torch.Generator().manual_seed(1)).x
    np.save(folder / "clean.npy", clean[:, 0].numpy() * 255)
    np.save(folder / "noisy.npy", noisy[:, 0].numpy() * 255)
    figures = workflows.denoise(
        str(folder / "noisy.npy"),
        str(folder / "out.npy"),
        str(folder / "clean.npy"),
        options=Options(model=str(folder / run), force=True),
    )
    words = "/".join(texts)
    return [
        row(data, name, f"PSNR before, {words}, dB", figures["psnr_before_db"]),
        row(data, name, f"PSNR after, {words}, dB", figures["psnr_after_db"]),
    ]


# --- ECG5000 ----------------------------------------------------------------------------------------------------------


def ecg5000(folder: Path) -> list[Row]:
    """Trained on normal rows only; the archive's split, and the tutorials' pooled one drawn anew for each seed.

    PCA stands beside it, trained on the same rows. Settings were chosen on rows of the training part.
    """
    parts = [open_dataset("ecg5000", part) for part in ("train", "test")]  # type: ignore[arg-type]
    x, y = ([np.array(p.read(0, len(p))) for p in parts if p], [p.labels for p in parts if p])
    normal = [np.array(list(map(str, labels))) == "1" for labels in y]
    everything, is_normal = np.concatenate(x), np.concatenate(normal)
    for seed in SEEDS:
        _save_split(folder / f"archive-{seed}", x[0][normal[0]], x[1], ~normal[1])
        order = np.random.default_rng(seed).permutation(np.flatnonzero(is_normal))
        kept = np.concatenate([order[:145], np.flatnonzero(~is_normal)])
        train_x = everything[order[145 + 293 :]]  # 2,481 of 2,919; 293 more are the tutorials' validation rows
        _save_split(folder / f"pooled-{seed}", train_x, everything[kept], ~is_normal[kept])
    rows = []
    for split in ("archive", "pooled"):
        rows += _heartbeats(folder, split, "conv1d", SEEDS, {})
        quick = {"precision": "bf16"} | ({} if split == "archive" else {"epochs": 15})  # minutes instead of an hour
        rows += _heartbeats(folder, split, "lstm", SEEDS[:3], quick)
        pca = [_pca_auroc(folder / f"{split}-{seed}") for seed in SEEDS]
        note = f"sd {np.std(pca):.4f}, {len(pca)} splits, all rows"
        rows.append(row(f"ecg5000, {split}", "PCA-5", "AUROC", float(np.mean(pca)), note=note))
    return rows


def _save_split(folder: Path, train_x: Array, test_x: Array, anomalous: Array) -> None:
    folder.mkdir()
    np.save(folder / "train.npy", train_x)
    np.savez(folder / "test.npz", x=test_x, y=anomalous.astype(np.int64))


def _pca_auroc(folder: Path) -> float:
    pca = fit_pca(torch.from_numpy(np.load(folder / "train.npy").astype(np.float32)), 5)
    with np.load(folder / "test.npz") as test:
        score = pca.error(torch.from_numpy(test["x"].astype(np.float32))).numpy()
        return float(roc_auc_score(test["y"], score))


def _heartbeats(folder: Path, split: str, recipe: str, seeds: range, options: dict[str, Any]) -> list[Row]:
    target = {("archive", "conv1d"): ">= 0.993", ("pooled", "conv1d"): ">= 0.994"}.get((split, recipe), "")
    found: dict[str, list[float]] = {}
    start = time.perf_counter()
    for seed in seeds:
        train(folder, recipe, str(folder / f"{split}-{seed}" / "train.npy"), seed=seed, **options)
        for rule in ("auto", "fdr=0.05"):
            notes: list[str] = []
            figures = workflows.score(
                str(folder / f"{split}-{seed}" / "test.npz"),
                str(folder / "s.csv"),
                rule,
                options=Options(model=str(folder / f"{recipe}-run"), force=True),
                talk=Talk(notes.append),
            )
            for key in ("false_discovery_rate", "recall", "f1", "best_f1"):
                if figures[key] is not None:  # where nothing is flagged there is no false discovery rate
                    found.setdefault(f"{key} at {rule}", []).append(figures[key])
            for note in notes:  # where the strict rule cannot flag, it says why
                print("      ", seed, rule, note)
        found.setdefault("AUROC", []).append(figures["auroc"])
    seconds = (time.perf_counter() - start) / len(seeds)
    rows = []
    for figure, values in found.items():
        note = f"sd {np.std(values):.4f}, {len(values)} runs, {seconds:.0f} s each"
        goal = target if figure == "AUROC" else ""
        rows.append(row(f"ecg5000, {split}", recipe, figure, float(np.mean(values)), goal, note))
    return rows


SUBJECTS: dict[str, Callable[[Path], list[Row]]] = {
    "mnist": mnist,
    "undercomplete": undercomplete,
    "rotated": rotated,
    "fashion": fashion,
    "ecg5000": ecg5000,
    **signals.SUBJECTS,
    **family.SUBJECTS,
    **masked.SUBJECTS,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subjects", nargs="*", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where runs are left; those of `family` go on")
    asked = parser.parse_args()
    if asked.keep is not None:
        return run(asked.subjects, asked.keep)
    with tempfile.TemporaryDirectory() as folder:
        run(asked.subjects, Path(folder))


def run(subjects: list[str], folder: Path) -> None:
    for subject in subjects:
        rows = SUBJECTS[subject](folder)
        with (RESULTS / f"{subject}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
