"""The networks, by name; a model's settings are the keyword arguments of its `__init__`."""

import inspect
from typing import Any

import torch
from torch import nn

from aekit.errors import AekitError, UsageError
from aekit.layers import ACTIVATIONS
from aekit.models.conv import Conv
from aekit.models.dense import Dense
from aekit.models.lstm import LSTM
from aekit.models.trace import Trace
from aekit.models.vae import VAE

MODELS: dict[str, type[nn.Module]] = {"dense": Dense, "conv": Conv, "vae": VAE, "lstm": LSTM, "trace": Trace}
SERIES_ONLY = ("lstm", "trace")


def settings_of(model: str) -> dict[str, Any]:
    """The settings that a model knows, with their defaults; sample shape and output activation are not the user's."""
    known = inspect.signature(MODELS[model].__init__).parameters.values()
    return {p.name: p.default for p in known if p.name not in ("self", "sample_shape", "output")}


def build(model: str, sample_shape: tuple[int, ...], settings: dict[str, Any]) -> nn.Module:
    """The network for samples (C, ...), untrained. Raises AekitError where the shape does not suit the model."""
    if model in SERIES_ONLY and len(sample_shape) != 2:
        raise AekitError(
            f"the model {model} takes series (channels, points), not samples of shape "
            f"{'x'.join(map(str, sample_shape))}; conv, dense and vae take images"
        )
    if settings.get("activation", "relu") not in ACTIVATIONS:
        raise UsageError(f"--activation {settings['activation']}: there are {', '.join(ACTIVATIONS)}")
    try:
        network = MODELS[model](sample_shape, **settings)
        with torch.no_grad():
            network.eval()(torch.zeros(1, *sample_shape))
    except (ValueError, RuntimeError, TypeError, IndexError, ZeroDivisionError, AssertionError) as error:
        shape, why = "x".join(map(str, sample_shape)), " ".join(str(error).split())[:200]
        raise AekitError(
            f"the model {model} cannot be built for samples of {shape} with {settings}: {why}; change the settings"
        ) from error
    return network.train()
