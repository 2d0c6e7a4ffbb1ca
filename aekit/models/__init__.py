"""The networks, by name; a model's settings are the keyword arguments of its `__init__`."""

import inspect
import math
from collections.abc import Mapping
from typing import Any, get_type_hints

import torch
from torch import Size, Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from aekit.errors import AekitError, UsageError
from aekit.layers import ACTIVATIONS
from aekit.models.acgan import ACGAN
from aekit.models.blindspot import BlindSpot
from aekit.models.classifier import Classifier
from aekit.models.conv import Conv
from aekit.models.deepdenoiser import DeepDenoiser
from aekit.models.dense import Dense
from aekit.models.ensemble import Ensemble
from aekit.models.eqtransformer import EQTransformer
from aekit.models.gan import GAN
from aekit.models.lstm import LSTM
from aekit.models.mae import MAE
from aekit.models.trace import Trace
from aekit.models.unet import UNet
from aekit.models.vae import VAE
from aekit.models.wavedecompnet import WaveDecompNet
from aekit.records import times
from aekit.settings import is_a, words

LARGEST_SAMPLE = 1 << 26  # values, of a model file that does not hold a sample's PCA
LARGEST_TRIED = 1 << 17  # values of a sample that a network from a file is tried on
DERIVED = (
    "output",
    "classes",
    "encoder",
    "encoder_settings",
    "rows",
)  # settings that follow from the data, or another model

MODELS: dict[str, type[nn.Module]] = {
    "dense": Dense,
    "conv": Conv,
    "vae": VAE,
    "lstm": LSTM,
    "trace": Trace,
    "unet": UNet,
    "deepdenoiser": DeepDenoiser,
    "wavedecompnet": WaveDecompNet,
    "eqtransformer": EQTransformer,
    "gan": GAN,
    "acgan": ACGAN,
    "classifier": Classifier,
    "mae": MAE,
    "ensemble": Ensemble,
    "blind-spot": BlindSpot,
}


def settings_of(model: str) -> dict[str, Any]:
    """The settings that a model knows, with their defaults; what is DERIVED is not the user's."""
    known = inspect.signature(MODELS[model].__init__).parameters.values()
    return {p.name: p.default for p in known if p.name not in ("self", "sample_shape", *DERIVED)}


def build(model: str, sample_shape: tuple[int, ...], settings: dict[str, Any]) -> nn.Module:
    """The network for samples (C, ...), untrained. Raises AekitError where the shape does not suit the model."""
    _check_settings(model, sample_shape, settings)
    try:
        network = MODELS[model](sample_shape, **settings)
        _try(network, sample_shape)
    except ValueError as error:  # of the model itself, which names the setting
        raise UsageError(f"the model {model} for samples of {times(sample_shape)}: {error}") from error
    except RuntimeError as error:
        given = " ".join(f"{name}={_shown(value)}" for name, value in settings.items() if name not in DERIVED)
        raise AekitError(
            f"the model {model} cannot be built for samples of {times(sample_shape)}{' with ' * bool(given)}{given}: "
            "they do not pass its layers; take other settings or another recipe"
        ) from error
    return network.train()


def rebuild(
    model: str, sample_shape: tuple[int, ...], settings: dict[str, Any], tensors: Mapping[str, Tensor]
) -> nn.Module:
    """The network that these tensors, by name, are the state of; it is for a file that may lie.

    Raises AekitError, ValueError, TypeError or RuntimeError where the settings make another network, and before memory
    is taken for one.
    """
    _check_settings(model, sample_shape, settings)
    held = sum(tensor.numel() for tensor in tensors.values())
    if math.prod(sample_shape) > max(LARGEST_SAMPLE, held):
        raise ValueError(f"samples of {times(sample_shape)}")
    if classifies := model == "classifier":  # which takes out of the encoder what it does not need
        full = {p.name: p.default for p in inspect.signature(MODELS[model].__init__).parameters.values()} | settings
        encoder, inner = full["encoder"], full["encoder_settings"] or {}
        _check_settings(encoder, sample_shape, inner)
        if not 1 <= full["classes"] <= held:
            raise ValueError(f"classes={full['classes']}")
        _outline(encoder, sample_shape, inner, 16 * held, 16 * len(tensors))
    elif _outline(model, sample_shape, settings, held, len(tensors)) != {k: v.shape for k, v in tensors.items()}:
        raise ValueError("its settings make another network than its weights are of")
    network = MODELS[model](sample_shape, **settings)
    network.load_state_dict(dict(tensors))
    if math.prod(sample_shape) <= LARGEST_TRIED or classifies:
        _try(network, sample_shape)
    return network.eval()


def _check_settings(model: str, sample_shape: tuple[int, ...], settings: dict[str, Any]) -> None:
    kind = MODELS[model]
    if getattr(kind, "series_only", False) and len(sample_shape) != 2:
        raise AekitError(
            f"the model {model} takes series (channels, points), not samples of shape {times(sample_shape)}; "
            "conv, dense and vae take images"
        )
    hints = get_type_hints(kind.__init__)
    for name, value in settings.items():
        if name in DERIVED:
            continue
        if name in hints and not is_a(value, hints[name]):
            raise UsageError(f"{name}={value}: {words(hints[name])} is needed")
        if any(n < 1 for n in _whole_numbers(value)):  # all of them are sizes
            raise UsageError(f"{name}={value}: at least 1")
        if any(n >= 1 << 31 for n in _whole_numbers(value)):
            raise UsageError(f"{name}={value}: below 2147483648")
        if name == "kernel_size" and value is not None and value % 2 == 0:
            raise UsageError(f"{name}={value}: an odd number is needed")
        if name == "dropout" and not 0 <= value < 1:
            raise UsageError(f"{name}={value}: a share, at least 0 and below 1")
        if name.endswith("activation") and value is not None and value not in ACTIVATIONS:
            raise UsageError(f"{name}={value}: there are {', '.join(ACTIVATIONS)}")


@torch.no_grad()
def _try(network: nn.Module, sample_shape: tuple[int, ...]) -> None:
    network.eval()(torch.zeros(1, *sample_shape))


def _outline(
    model: str, sample_shape: tuple[int, ...], settings: dict[str, Any], most: int, parts: int
) -> dict[str, Size]:
    """Names and shapes of a network's tensors, which take no memory on the way.

    Raises ValueError as soon as there are more than so many `parts`, or they hold more than `most` values; each may be
    exceeded by what is not in a model file.
    """
    count = values = 0

    def register(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal count, values
        count, values = count + 1, values + (0 if tensor is None else tensor.numel())
        if count > 2 * parts + 100 or values > most + LARGEST_SAMPLE:
            raise ValueError("its settings make a larger network than its weights are of")

    with (
        register_module_parameter_registration_hook(register),
        register_module_buffer_registration_hook(register),
        torch.device("meta"),
    ):
        network = MODELS[model](sample_shape, **settings)
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _whole_numbers(value: object) -> list[int]:
    several = value if isinstance(value, tuple) else (value,)
    return [n for n in several if isinstance(n, int) and not isinstance(n, bool)]
