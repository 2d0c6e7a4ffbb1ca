"""Variational autoencoder, Kingma & Welling 2014, arXiv:1312.6114; the penalty is KL(q(z|x) || p(z)), appendix B.

The penalty is told per value of a sample, as the error is, so that beta = 1 minimises the sum of squared errors plus
KL (a Gaussian decoder of variance 1/2) whatever the sample's size.
"""

import math

import torch
from torch import Generator, Tensor, nn

from aekit.kernels import gaussian_kl, reparameterize
from aekit.layers import dense_stack, wide
from aekit.models.conv import conv_coders
from aekit.records import Output


class VAE(nn.Module):
    """Dense through `hidden`, by default 500, or `convolutional` with the stages of `Conv`."""

    verbs = ("denoise", "score", "embed", "generate")

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        hidden: tuple[int, ...] | None = None,
        latent: int = 50,
        activation: str = "relu",
        convolutional: bool = False,
        width: int = 16,
        kernel_size: int = 3,
        output: str = "sigmoid",
    ):
        super().__init__()
        self.sample_shape = sample_shape
        self.convolutional = convolutional
        self.latent = latent
        if convolutional:
            self.encoder, self.decoder = conv_coders(
                sample_shape, hidden, None, latent, kernel_size, width, activation, output, per_latent=2
            )
        else:
            widths = (math.prod(sample_shape), *((500,) if hidden is None else hidden))
            self.encoder = dense_stack((*widths, 2 * latent), activation, "none")
            self.decoder = dense_stack((latent, *widths[::-1]), activation, output)
        self.seed: Tensor
        self.register_buffer("seed", torch.zeros(1, dtype=torch.int64), persistent=False)  # training sets it each step

    def encode(self, x: Tensor) -> Tensor:
        return self._posterior(x)[0]  # mu, (B, D)

    def decode(self, z: Tensor) -> Tensor:
        x_hat: Tensor = self.decoder(z)
        return x_hat.view(-1, *self.sample_shape)

    def forward(self, x: Tensor) -> Output:
        mu, logvar = self._posterior(x)
        z, kl = reparameterize(mu, logvar, self.seed) if self.training else (mu, gaussian_kl(mu, logvar))
        return Output(self.decode(z), z, kl / math.prod(self.sample_shape))

    def _posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of q(z|x), each (B, D)."""
        found = wide(self.encoder(x if self.convolutional else x.flatten(1)))
        mu, logvar = found.chunk(2, dim=1)
        return mu, logvar

    def prior(self, count: int, generator: Generator) -> Tensor:
        """Latents (count, D) of p(z) = N(0, 1)."""
        return torch.randn(count, self.latent, generator=generator)
