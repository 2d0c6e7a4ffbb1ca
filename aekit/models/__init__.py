"""The networks, by name; a model's settings are the keyword arguments of its `__init__`."""

import inspect
from typing import Any, get_type_hints

import torch
from torch import nn

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
        if name == "kernel_size" and value is not None and value % 2 == 0:
            raise UsageError(f"{name}={value}: an odd number is needed")
        if name == "dropout" and not 0 <= value < 1:
            raise UsageError(f"{name}={value}: a share, at least 0 and below 1")
        if name.endswith("activation") and value is not None and value not in ACTIVATIONS:
            raise UsageError(f"{name}={value}: there are {', '.join(ACTIVATIONS)}")
    try:
        network = kind(sample_shape, **settings)
        with torch.no_grad():
            network.eval()(torch.zeros(1, *sample_shape))
    except ValueError as error:  # of the model itself, which names the setting
        raise UsageError(f"the model {model} for samples of {times(sample_shape)}: {error}") from error
    except RuntimeError as error:
        given = " ".join(f"{name}={_shown(value)}" for name, value in settings.items() if name not in DERIVED)
        raise AekitError(
            f"the model {model} cannot be built for samples of {times(sample_shape)}{' with ' * bool(given)}{given}: "
            "they do not pass its layers; take other settings or another recipe"
        ) from error
    return network.train()


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _whole_numbers(value: object) -> list[int]:
    several = value if isinstance(value, tuple) else (value,)
    return [n for n in several if isinstance(n, int) and not isinstance(n, bool)]
