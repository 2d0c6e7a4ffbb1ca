"""A trained model in memory: what a model file holds, and all that the verbs need."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from aekit.baseline import PCA
from aekit.batches import Normalisation
from aekit.records import Kind


@dataclass
class Mixture:
    """A Gaussian mixture over the latents of the training data, from which a plain autoencoder generates."""

    weights: Tensor  # (K,)
    means: Tensor  # (K, D)
    factors: Tensor  # (K, D, R) or (K, D): a sample is mean + factor @ N(0, 1)
    classes: Tensor | None = None  # (K,), int64, the class of each component by its place, -1 for rows of no class


@dataclass
class TrainedModel:
    network: nn.Module
    recipe: str
    model: str
    settings: dict[str, Any]  # keyword arguments of the network
    sample_shape: tuple[int, ...]  # (C, ...)
    kind: Kind
    sampling_rate: float | None  # Hz
    normalisation: Normalisation
    error: str
    corruption: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None  # the labels in the training data
    normal: tuple[str, ...] | None = None  # those of them that count as normal
    columns: tuple[str, ...] = ()  # of a table
    missing: str = "error"  # or mean, which is `normalisation.offset`: what is done where a table has no value
    windowed: bool = False  # its samples are windows, cut from longer rows
    precision: str = "fp32"
    data: str = ""  # what it was trained on, for people
    fingerprint: str = ""  # of the data, for machines
    own_input: bool = False  # trained on what it is to be used on: it fits that file alone
    figures: dict[str, Any] = field(default_factory=dict)
    calibration: Tensor | None = None  # (K,), scores of rows held out of training
    pca: PCA | None = None
    pca_calibration: Tensor | None = None
    mixture: Mixture | None = None
    source: str = "model"  # the file, for messages
