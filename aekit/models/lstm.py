"""Recurrent autoencoder for short series, Malhotra et al. 2016, arXiv:1607.00148: the last state is the latent.

The decoder repeats the latent at every time point; its first layer's input product is therefore made once.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from aekit.layers import ACTIVATIONS
from aekit.objectives import zeros
from aekit.records import Output


def _initialise(layer: nn.Module) -> None:
    """Orthogonal recurrent weights and open forget gates: from torch's start it stays at the mean series for long."""
    for name, parameter in layer.named_parameters():
        with torch.no_grad():
            gates = parameter.chunk(4)  # input, forget, cell, output
            if name.startswith("weight_hh"):
                for gate in gates:
                    nn.init.orthogonal_(gate)
            elif name.startswith("bias_ih"):
                gates[1].fill_(1.0)


class LSTM(nn.Module):
    verbs = ("denoise", "score", "embed", "generate")
    series_only = True

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        hidden: tuple[int, ...] = (256,),
        latent: int = 128,
        output: str = "none",
    ):
        super().__init__()
        channels, self.length = sample_shape
        widths = (channels, *hidden, latent)
        back = (latent, latent, *hidden[::-1])
        self.encoder = nn.ModuleList(nn.LSTM(i, o, batch_first=True) for i, o in pairwise(widths))
        self.decoder = nn.ModuleList(nn.LSTM(i, o, batch_first=True) for i, o in pairwise(back))
        for layer in (*self.encoder, *self.decoder):
            _initialise(layer)
        self.head = nn.Sequential(nn.Linear(back[-1], channels), ACTIVATIONS[output]())

    def encode(self, x: Tensor) -> Tensor:
        h = x.transpose(1, 2)  # (B, T, C)
        for layer in self.encoder:
            h, _ = layer(h)
        return h[:, -1]  # (B, D)

    def decode(self, z: Tensor) -> Tensor:
        h = z[:, None].expand(-1, self.length, -1)
        for layer in self.decoder:
            h, _ = layer(h)
        x_hat: Tensor = self.head(h)
        return x_hat.transpose(1, 2)  # (B, C, T)

    def forward(self, x: Tensor) -> Output:
        z = self.encode(x)
        return Output(self.decode(z), z, zeros(x))
