"""Fully connected autoencoder: hidden widths on the way in, mirrored on the way out (Hinton & Salakhutdinov 2006)."""

import math

from torch import Tensor, nn

from aekit.layers import dense_stack
from aekit.objectives import zeros
from aekit.records import Output


class Dense(nn.Module):
    """`latent_activation` is that of the hidden layers where not given; none spares a small latent dead units."""

    verbs = ("denoise", "score", "embed", "generate")

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        hidden: tuple[int, ...] = (128,),
        latent: int = 64,
        activation: str = "relu",
        latent_activation: str | None = None,
        output: str = "sigmoid",
        dropout: float = 0.0,
    ):
        super().__init__()
        self.sample_shape = sample_shape
        widths = (math.prod(sample_shape), *hidden, latent)
        self.encoder = dense_stack(widths, activation, latent_activation or activation, dropout)
        self.decoder = dense_stack(widths[::-1], activation, output, dropout)

    def encode(self, x: Tensor) -> Tensor:
        z: Tensor = self.encoder(x.flatten(1))
        return z  # (B, D)

    def decode(self, z: Tensor) -> Tensor:
        x_hat: Tensor = self.decoder(z)
        return x_hat.view(-1, *self.sample_shape)

    def forward(self, x: Tensor) -> Output:
        z = self.encode(x)
        return Output(self.decode(z), z, zeros(x))
