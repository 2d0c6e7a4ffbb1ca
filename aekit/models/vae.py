"""Variational autoencoder, Kingma & Welling 2014, arXiv:1312.6114; the penalty is KL(q(z|x) || p(z)), appendix B.

The penalty is told per value of a sample, as the error is, so that beta = 1 minimises the sum of squared errors plus
KL (a Gaussian decoder of variance 1/2) whatever the sample's size.
"""

import math

import torch
from torch import Generator, Tensor, nn

from aekit.kernels import gaussian_kl, reparameterize
from aekit.layers import dense_stack
from aekit.records import Output


class VAE(nn.Module):
    verbs = ("denoise", "score", "embed", "generate")

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        hidden: tuple[int, ...] = (500,),
        latent: int = 50,
        activation: str = "relu",
        output: str = "sigmoid",
    ):
        super().__init__()
        self.sample_shape = sample_shape
        self.latent = latent
        widths = (math.prod(sample_shape), *hidden)
        self.encoder = dense_stack((*widths, 2 * latent), activation, "none")
        self.decoder = dense_stack((latent, *widths[::-1]), activation, output)
        self.seed: Tensor
        self.register_buffer("seed", torch.zeros(1, dtype=torch.int64), persistent=False)  # training sets it each step

    def encode(self, x: Tensor) -> Tensor:
        z: Tensor = self.encoder(x.flatten(1))
        return z.chunk(2, dim=1)[0]  # mu, (B, D)

    def decode(self, z: Tensor) -> Tensor:
        x_hat: Tensor = self.decoder(z)
        return x_hat.view(-1, *self.sample_shape)

    def forward(self, x: Tensor) -> Output:
        mu, logvar = self.encoder(x.flatten(1)).float().chunk(2, dim=1)  # each (B, D)
        z, kl = reparameterize(mu, logvar, self.seed) if self.training else (mu, gaussian_kl(mu, logvar))
        return Output(self.decode(z), z, kl / math.prod(self.sample_shape))

    def prior(self, count: int, generator: Generator) -> Tensor:
        """Latents (count, D) of p(z) = N(0, 1)."""
        return torch.randn(count, self.latent, generator=generator)
