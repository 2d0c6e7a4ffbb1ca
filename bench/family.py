"""Models that generate, embed and are regularised, each beside its baseline: ELBO, samples, galaxies, latents.

Runs that lie in the folder already are taken as they are, so that one that stopped goes on (`--keep`). Pictures go to
results/ too.
"""

import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, Array, Row, kept, row, rows_of
from torch import Tensor, nn

from aekit import diagnostics, generation, reports, workflows
from aekit.batches import read_all
from aekit.datasets import open_dataset
from aekit.models import build
from aekit.models.vae import VAE
from aekit.objectives import RHO, bce
from aekit.workflows import Options

GENERATED = 2000
WIDTH = 50  # latent values of the networks whose latents are probed, but those with a width of their own
DIGIT_STEPS = {"gan": 2000, "acgan": 6000, "wgan-gp": 2500, "wgan-div": 2500}
GALAXY_STEPS = {"gan": 3000, "acgan": 4000, "wgan-gp": 6000, "wgan-div": 6000}


def draw(name: str, samples: Array, columns: int | None = None, titles: list[str] | None = None) -> None:
    reports.save_figure(reports.sample_grid(samples, "image", columns, titles), RESULTS / f"{name}.png")


# --- evidence lower bound ---------------------------------------------------------------------------------------------


def elbo(folder: Path) -> list[Row]:
    """Of MNIST test digits under a Bernoulli decoder, by networks of one size, ours and pythae's, as long trained."""
    x, test = (torch.from_numpy(rows_of("mnist", part)[:, None].astype(np.float32) / 255) for part in ("train", "test"))
    rows = []
    same = {"error": "bce", "beta": 1.0, "epochs": 10, "batch_size": 128, "lr": 3e-3, "warmup": 0.2, "latent": 16}
    for recipe, more in (("vae", {"hidden": [512]}), ("conv-vae", {"width": 32})):
        model, note = kept(folder, recipe, "mnist", f"elbo-{recipe}", **same, **more)
        network = model.trained.network.train()  # which draws
        rows += _bounds(f"aekit {recipe}", test, partial(_terms, network), note, network)
        settings = {"latent": 16, "output": "sigmoid", "convolutional": recipe == "conv-vae", **more}
        settings = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
        torch.manual_seed(0)
        other = build("vae", (1, 28, 28), settings)
        assert isinstance(other, VAE)
        theirs, note = _pythae(other, x, folder / f"pythae-{recipe}")
        rows += _bounds(f"pythae VAE, {recipe}'s networks", test, theirs, note, other)
    return rows


def _terms(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of one draw and divergence of each sample, in nats, (B,) each."""
    values = x[0].numel()
    output = network(x)
    return bce(output.x_hat, x) * values, output.penalty * values


@torch.no_grad()
def _bounds(
    name: str, x: Tensor, terms: Callable[[Tensor], tuple[Tensor, Tensor]], note: str, network: nn.Module
) -> list[Row]:
    parts = [torch.stack(terms(part)) for part in x.split(1000)]
    error, divergence = torch.cat(parts, dim=1).mean(dim=1).tolist()
    count = sum(p.numel() for p in network.parameters())
    figures = {"ELBO, nats": -error - divergence, "cross-entropy, nats": error, "KL, nats": divergence}
    return [
        row("mnist", name, figure, value, note=f"{note}, {count:,} parameters") for figure, value in figures.items()
    ]


def _pythae(network: VAE, x: Tensor, folder: Path) -> tuple[Callable[[Tensor], tuple[Tensor, Tensor]], str]:
    """Its VAE and trainer around our networks: the terms of its bound, and the seconds of 10 epochs in words."""
    from pythae.models import VAE as TheirVAE
    from pythae.models import VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.latent_dim = network.latent
            self.body = network.encoder

        def forward(self, x: Tensor) -> Any:
            mu, logvar = self.body(x if network.convolutional else x.flatten(1)).chunk(2, dim=1)
            return ModelOutput(embedding=mu, log_covariance=logvar)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.body = network.decoder

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.body(z).view(-1, 1, 28, 28))

    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=network.latent, reconstruction_loss="bce")
    model = TheirVAE(config, Encoder(), Decoder())
    seconds = folder / "seconds"
    if not seconds.exists():
        _train_theirs(model, x, folder)
    weights = sorted(folder.glob("*/final_model/model.pt"))[-1]
    model.load_state_dict(torch.load(weights, weights_only=False)["model_state_dict"])  # our own file, of this bench
    best = model.eval()

    def terms(x: Tensor) -> tuple[Tensor, Tensor]:
        found = best.encoder(x)
        mu, logvar = found.embedding, found.log_covariance
        z = mu + (0.5 * logvar).exp() * torch.randn_like(mu)
        kl = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(1)
        return bce(best.decoder(z).reconstruction, x) * x[0].numel(), kl

    return terms, f"{seconds.read_text()} s, 10 epochs"


def _train_theirs(model: Any, x: Tensor, folder: Path) -> None:
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    held, used = order[:3000], order[3000:]  # as many as aekit holds out
    trainer = BaseTrainer(
        model,
        *(BaseDataset(x[part], torch.zeros(len(part))) for part in (used, held)),
        BaseTrainerConfig(
            output_dir=str(folder),
            per_device_train_batch_size=128,
            per_device_eval_batch_size=1000,
            num_epochs=10,
            learning_rate=1e-3,
            no_cuda=True,
        ),
    )
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train()
    (folder / "seconds").write_text(f"{time.perf_counter() - started:.0f}")


# --- samples ----------------------------------------------------------------------------------------------------------


def samples(folder: Path) -> list[Row]:
    """What is generated from MNIST beside real digits, in one embedding for all; `acgan` is asked for each class."""
    features, real = _features("mnist")
    rows = _real("mnist", features, real)
    models = {
        "vae": kept(folder, "vae", "mnist", "mnist-vae", epochs=10),
        "conv, fitted prior": kept(folder, "conv", "mnist", "mnist-conv", epochs=5, latent=WIDTH),
        **{
            recipe: kept(folder, recipe, "mnist", f"mnist-{recipe}", steps=steps, precision="bf16")
            for recipe, steps in DIGIT_STEPS.items()
        },
    }
    for name, (model, note) in models.items():
        x = model.generate(GENERATED, seed=0)
        rows += _judged("mnist", name, x / 255, features, real, note)
        draw(f"mnist-{name.partition(',')[0]}", x[:32], 8)
    vae, note = models["vae"]
    z = generation.sample_latents(vae.trained, GENERATED, 0, prior="mixture").z.numpy()
    rows += _judged("mnist", "vae, fitted prior", vae.generate(latents=z) / 255, features, real, note)
    acgan, note = models["acgan"]
    asked = np.arange(10).repeat(100)
    x = np.concatenate([acgan.generate(100, seed=k, label=str(k)) for k in range(10)])
    accuracy = (features(x / 255)[1].argmax(1) == asked).mean()
    rows.append(row("mnist", "acgan", "class as asked for", float(accuracy), ">= 0.9", note))
    draw("mnist-acgan-classes", x.reshape(10, 100, *x.shape[1:])[:, :8].reshape(80, *x.shape[1:]), 8)
    return rows


def _features(data: str) -> tuple[diagnostics.Features, Array]:
    """The network that judges, trained on half of the training part, and the rows of that part."""
    record = open_dataset(data, "train")
    assert record is not None
    assert record.labels is not None
    real = read_all(record).astype(np.float32) / 255
    names = sorted(set(map(str, record.labels)))
    labels = np.array([names.index(str(label)) for label in record.labels])
    return diagnostics.fit_features(real, labels), real


def _real(data: str, features: diagnostics.Features, real: Array) -> list[Row]:
    """Real rows in the place of generated ones: what can be reached."""
    free = features.free
    rows = [row(data, "judge", "accuracy on rows kept out", features.accuracy)]
    one, other = (features(real[part])[0] for part in np.array_split(free[: 2 * GENERATED], 2))
    rows.append(row(data, "real rows", "KID", diagnostics.kid(one, other).mean, note=f"{len(one)} rows"))
    precision, recall = diagnostics.precision_recall(one, other)
    return [*rows, row(data, "real rows", "precision", precision), row(data, "real rows", "recall", recall)]


def _judged(data: str, name: str, x: Array, features: diagnostics.Features, real: Array, note: str) -> list[Row]:
    found = diagnostics.diagnose(x, real, features).figures
    told = {
        "KID": "kid",
        "precision": "precision",
        "recall": "recall",
        "classes covered": "classes_covered",
        "largest share of a class": "largest_share",
        "memorised": "memorised",
    }
    return [row(data, name, figure, found[key], note=note) for figure, key in told.items()]


# --- galaxies ---------------------------------------------------------------------------------------------------------


def galaxies(folder: Path) -> list[Row]:
    """Adversarial recipes at 32 x 32: are the three classes covered? The variational one at 128 x 128 beside PCA."""
    features, real = _features("galaxies:32")
    rows = _real("galaxies:32", features, real)
    for recipe, steps in GALAXY_STEPS.items():
        model, note = kept(folder, recipe, "galaxies:32", f"galaxies-{recipe}", steps=steps, precision="bf16")
        x = model.generate(GENERATED, seed=0)
        rows += _judged("galaxies:32", recipe, x / 255, features, real, note)
        draw(f"galaxies-{recipe}", x[:32], 8)
    return [*rows, *_large_vae(folder)]


def _large_vae(folder: Path) -> list[Row]:
    """Eight pictures held out over their reconstructions, and the way between two of them in eight pictures."""
    model, note = kept(folder, "vae", "galaxies", "galaxies-vae", epochs=10, precision="bf16")
    figures = model.trained.figures
    rows = [
        row("galaxies", "vae", "parameters", figures["parameters"], "49,277,252"),
        row("galaxies", "vae", "test MSE", figures["test_error"], note=note),
        row("galaxies", f"PCA-{figures['pca_components']}", "test MSE", figures["pca_test_error"]),
    ]
    record = open_dataset("galaxies", "test")
    assert record is not None
    x = np.array(record.read(0, 8))
    given = np.moveaxis(x, 3, 1)
    again = model.denoise(x)
    draw("galaxies-vae-reconstructions", np.concatenate([given, np.moveaxis(again, 3, 1)]), 8)
    z = model.embed(x[[0, 1]])
    path = model.generate(latents=z[0] + np.linspace(0, 1, 8, dtype=np.float32)[:, None] * (z[1] - z[0]))
    draw("galaxies-vae-path", path, 8)
    return rows


# --- latents ----------------------------------------------------------------------------------------------------------


def latents(folder: Path) -> list[Row]:
    """Accuracies of simple classifiers on the latents of MNIST's test part, beside PCA of the same width, and maps."""
    rows: list[Row] = []
    runs: dict[str, dict[str, Any]] = {
        "conv": {"epochs": 5, "latent": WIDTH},
        "vae": {"epochs": 10},
        "contractive": {"epochs": 5, "latent": WIDTH},
        "sparse": {"epochs": 8},
        "mae": {"epochs": 3},
    }
    for recipe, options in runs.items():
        run = {"conv": "mnist-conv", "vae": "mnist-vae", "mae": "mae-mnist"}.get(
            recipe, f"latents-{recipe}"
        )  # of other subjects
        _, note = kept(folder, recipe, "mnist", run, **options)
        figures = workflows.embed(
            "mnist",
            str(folder / f"{recipe}.npy"),
            options=Options(model=str(folder / run), force=True),
            maps="pca,tsne",
            probe=True,
        )
        (RESULTS / f"latents-{recipe}.png").write_bytes(Path(figures["picture"]).read_bytes())
        rows += _probed(recipe, figures, note)
    return [*rows, *_sparsity(folder)]


def _probed(recipe: str, figures: dict[str, Any], note: str) -> list[Row]:
    rows = []
    for classifier, found in figures["probe"].items():
        if not isinstance(found, dict):
            continue  # how many rows and folds
        rows.append(row("mnist", f"{recipe}-{figures['latent']}", f"accuracy, {classifier}", found["mean"], note=note))
        if "pca_mean" in found:
            rows.append(row("mnist", f"PCA-{figures['latent']}", f"accuracy, {classifier}", found["pca_mean"]))
    return rows


def _sparsity(folder: Path) -> list[Row]:
    """Mean activations of `sparse` on test digits, and what each unit answers to."""
    model, note = kept(folder, "sparse", "mnist", "latents-sparse", epochs=8)
    z = model.embed(rows_of("mnist", "test"))
    record = open_dataset("mnist", "test")
    assert record is not None
    section = reports.units_section(z, record.labels)
    reports.save_figure(section.pictures[0].figure, RESULTS / "sparse-units.png")
    means = z.mean(axis=0)
    target = f"{0.8 * RHO:g} to {1.2 * RHO:g}"
    share = ((means > 0.8 * RHO) & (means < 1.2 * RHO)).mean()
    return [
        row("mnist", "sparse", "mean activation", float(means.mean()), target, note),
        row("mnist", "sparse", "units whose mean is within 20 % of rho", float(share), note=note),
    ]


SUBJECTS = {"elbo": elbo, "samples": samples, "galaxies": galaxies, "latents": latents}
