"""A recipe is a name for a choice of model, settings, corruption and training that is known to work."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aekit.errors import UsageError


@dataclass(frozen=True)
class Recipe:
    model: str
    about: str  # one line
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the model
    training: Mapping[str, Any] = field(default_factory=dict)  # fields of TrainSettings
    corruption: tuple[str, ...] = ()
    augment: str = ""  # a chain that makes other clean samples, before the corruption
    needs_noise: bool = False  # it learns nothing without a corruption or paired data
    per_sample: bool = False  # each row of a series is divided by its own standard deviation, whatever the data
    window: int = 1024  # points that long series are cut into, where none is asked for
    least_steps: int = 3000  # with few rows the default epochs are more, so that there are so many steps
    sizes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # training that differs by --size
    points: tuple[int, int] | None = None  # in a batch and in all, at most: it learns pieces of rows, by these numbers


ADVERSARIAL = {"batch_size": 64, "lr": 2e-4, "betas": (0.5, 0.999), "schedule": "constant"}
# the published rate is 2e-4, after 5 steps of the critic for one of the generator: slow to show anything on a laptop
WASSERSTEIN = {**ADVERSARIAL, "epochs": 60, "lr": 5e-4}

RECIPES: dict[str, Recipe] = {
    "stacked": Recipe(
        "dense",
        "dense 784-100-30-100-784, SELU: small and quick",
        {"hidden": (100,), "latent": 30, "activation": "selu"},
        {"epochs": 20, "batch_size": 50, "lr": 5e-3},
    ),
    "undercomplete": Recipe(
        "dense",
        "dense 784-512-128-3 and back: a latent space one can draw",
        {"hidden": (512, 128), "latent": 3, "latent_activation": "none"},
        {"epochs": 20, "batch_size": 128, "lr": 1e-3},
    ),
    "dense": Recipe(
        "dense",
        "dense 784-128-64-128-784, sigmoid: the classic",
        {"hidden": (128,), "latent": 64, "activation": "sigmoid"},
        {"epochs": 85, "batch_size": 256, "lr": 3e-2, "warmup": 0.2, "optimiser": "muon"},
    ),
    "fully-conv": Recipe(
        "conv",
        "convolutions only, the latent is a map",
        {"bottleneck": None, "latent": None},
        {"epochs": 20, "batch_size": 64, "lr": 5e-3, "warmup": 0.2, "optimiser": "muon"},
    ),
    "conv": Recipe(
        "conv",
        "convolutions to a latent vector of 20: images, and series too",
        {},
        {"epochs": 20, "batch_size": 64, "lr": 5e-3, "warmup": 0.2, "optimiser": "muon"},
    ),
    "denoising": Recipe(
        "dense",
        "dense 784-256-128-64 and back, trained to undo noise: half gaussian, half speckle",
        {"hidden": (256, 128), "latent": 64, "latent_activation": "none"},
        {"epochs": 20, "batch_size": 128, "lr": 2e-3},
        ("gaussian:0.2", "speckle:0.2"),
    ),
    "sparse": Recipe(
        "dense",
        "dense 784-256-100 and back, few latent units on at a time: parts that a sample is made of",
        {"hidden": (256,), "latent": 100, "latent_activation": "sigmoid"},
        {"epochs": 20, "batch_size": 128, "lr": 5e-3, "warmup": 0.2, "optimiser": "muon", "penalty": ("kl:0.5",)},
    ),
    "contractive": Recipe(
        "dense",
        "dense 784-256-32 and back, a latent that noise in the input hardly moves",
        {"hidden": (256,), "latent": 32, "latent_activation": "none"},
        {
            "epochs": 20,
            "batch_size": 128,
            "lr": 5e-3,
            "warmup": 0.2,
            "optimiser": "muon",
            "penalty": ("contractive:1e-6",),
        },
    ),
    "vae": Recipe(
        "vae",
        "variational, 500 hidden and 50 latent: generates from a prior",
        {},
        {
            "epochs": 20,
            "batch_size": 128,
            "lr": 3e-3,
            "warmup": 0.2,
            "beta": 0.15,  # 1 allows a value a variance of 1/2: blurred
        },
    ),
    "conv-vae": Recipe(
        "vae",
        "variational with convolutions: images, and series too",
        {"convolutional": True, "latent": 20},
        {"epochs": 20, "batch_size": 64, "lr": 2e-3, "warmup": 0.2, "beta": 0.15},
    ),
    "gan": Recipe(
        "gan",
        "adversarial, a generator against a critic: generates",
        {},
        {"epochs": 40, **ADVERSARIAL},
        least_steps=10_000,
    ),
    "acgan": Recipe(
        "acgan",
        "adversarial with classes, which the critic tells: generates one class or all",
        {"critic_steps": 1},
        {"epochs": 100, **ADVERSARIAL, "lr": 4e-4},  # published 1e-4, which is slow to give the classes asked for
        least_steps=25_000,
    ),
    "wgan-gp": Recipe(
        "gan",
        "adversarial by the Wasserstein distance, critic of slope 1: generates, and does not collapse",
        {"loss": "wgan-gp", "critic_steps": 3},
        WASSERSTEIN,
        least_steps=15_000,
    ),
    "wgan-div": Recipe(
        "gan",
        "adversarial by the Wasserstein divergence: generates, and does not collapse",
        {"loss": "wgan-div", "critic_steps": 3},
        WASSERSTEIN,
        least_steps=15_000,
    ),
    "classifier": Recipe(
        "classifier",
        "the encoder of a trained model (--from) learns on, with labels: score tells classes",
        {},
        {"epochs": 10, "batch_size": 64, "lr": 1e-3, "weight_decay": 0.01},
        least_steps=1000,
    ),
    "ensemble": Recipe(
        "ensemble",
        "small dense networks that withstand anomalies in their training data: what score trains by itself",
        {},
        {"epochs": 4, "batch_size": 256, "lr": 5e-3, "warmup": 0.05},
        ("gaussian:0.2",),
        window=64,
        least_steps=1000,
    ),
    "lstm": Recipe(
        "lstm",
        "recurrent, embedding 128, L1 error: short series",
        {},
        {"epochs": 40, "batch_size": 16, "lr": 3e-3, "warmup": 0.2, "error": "l1", "clip": 1.0},
        ("gaussian:0.3",),
        least_steps=1000,
    ),
    "conv1d": Recipe(
        "conv",
        "1-D convolutions with a small latent and gaussian corruption: anomalies in short series",
        {"hidden": (16, 32), "bottleneck": None, "latent": 8, "kernel_size": 7, "activation": "gelu"},
        {"epochs": 100, "batch_size": 32, "lr": 1e-2, "warmup": 0.2, "optimiser": "muon"},
        ("gaussian:0.3",),
        least_steps=800,
    ),
    "trace": Recipe(
        "trace",
        "1-D convolutions, 500 points to 16 x 31 and back: pulses in noise",
        {},
        {"epochs": 10, "batch_size": 64, "lr": 5e-3, "warmup": 0.2, "optimiser": "muon"},
        per_sample=True,  # a pulse is told from noise by its size beside that noise, which differs from row to row
    ),
    "unet": Recipe(
        "unet",
        "convolutions with skips, 1-D or 2-D: noise out of signals and images",
        {},
        {"epochs": 20, "batch_size": 32, "lr": 3e-3, "warmup": 0.2},
        ("gaussian:0.3",),
        needs_noise=True,
    ),
    "deepdenoiser": Recipe(
        "deepdenoiser",
        "masks over the short-time Fourier transform of each channel: seismograms",
        {},
        {"epochs": 60, "batch_size": 20, "lr": 3e-3, "warmup": 0.2},
        augment="shift:0.5+stretch:0.8+colour:0.8+events:0.2+reverse:0.2",
        needs_noise=True,
        window=3000,
        per_sample=True,
    ),
    "wavedecompnet": Recipe(
        "wavedecompnet",
        "earthquake and noise as two parts of a record: seismograms at a low rate, 600 points and more",
        {},
        {"epochs": 60, "batch_size": 64, "lr": 3e-3, "warmup": 0.2},
        augment="shift:0.9+silence:0.1",
        needs_noise=True,
        window=600,
        per_sample=True,
    ),
    "eqtransformer": Recipe(
        "eqtransformer",
        "detection, P and S of earthquakes at each time point; score writes picks",
        {},
        {"epochs": 60, "batch_size": 32, "lr": 2e-3, "warmup": 0.2},
        augment="shift:0.99+events:0.3+drop:0.1",
        window=6000,
        per_sample=True,
    ),
    "mae": Recipe(
        "mae",
        "transformer that predicts hidden patches from visible ones: latents of images and series without labels",
        {},
        {
            "epochs": 20,
            "batch_size": 64,
            "lr": 5e-3,
            "weight_decay": 0.05,
            "betas": (0.9, 0.95),
            "warmup": 0.1,
            "optimiser": "muon",
        },
        sizes={size: {"optimiser": "adamw", "lr": 3e-4} for size in ("small", "base")},  # published, by sqrt(batch)
    ),
    "blind-spot": Recipe(
        "blind-spot",
        "predicts each point from the others: denoises the very file it was trained on, without clean data",
        {},
        {"lr": 5e-3, "warmup": 0.2, "clip": 1.0},
        points=(4096, 16_000_000),
    ),
}


def recipe(name: str) -> Recipe:
    """Raises UsageError for a name that is not in RECIPES."""
    if name not in RECIPES:
        close = difflib.get_close_matches(name, RECIPES, n=1)
        meant = f"did you mean {close[0]}? " if close else ""
        raise UsageError(
            f"no recipe is called {name!r}; {meant}there are {', '.join(RECIPES)} (aekit recipes tells more)"
        )
    return RECIPES[name]
