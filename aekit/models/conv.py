"""Convolutional autoencoder in 1-D or 2-D: strided convolutions, and, if asked for, a vector in the middle.

`bottleneck` adds a convolution over the whole of the last map, `latent` a linear layer to a vector; with both None the
model is fully convolutional. The stage count follows the sample's shape where `hidden` is not given: halved until the
longer side is at most 7 (at most 8 stages), at least once; widths double from `width` up to 4 * `width`.
"""

import math

from torch import Tensor, nn

from aekit.layers import ACTIVATIONS, Reshape, Stack, conv, conv_transpose, strided_sizes
from aekit.objectives import zeros
from aekit.records import Output


class Conv(nn.Module):
    verbs = ("denoise", "score", "embed", "generate")

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        hidden: tuple[int, ...] | None = None,
        bottleneck: int | None = 64,
        latent: int | None = 20,
        kernel_size: int = 3,
        width: int = 16,
        activation: str = "relu",
        output: str = "sigmoid",
    ):
        super().__init__()
        self.encoder, self.decoder = conv_coders(
            sample_shape, hidden, bottleneck, latent, kernel_size, width, activation, output
        )

    def encode(self, x: Tensor) -> Tensor:
        z: Tensor = self.encoder(x)
        return z  # (B, D)

    def decode(self, z: Tensor) -> Tensor:
        x_hat: Tensor = self.decoder(z)
        return x_hat  # (B, C, ...)

    def error(self, x: Tensor, target: Tensor, kind: str) -> Tensor:
        """The error of each reconstruction from the target, (B,), of a kind in KINDS; it need not be written."""
        return self.decoder.error(self.encode(x), target, kind)

    def forward(self, x: Tensor) -> Output:
        z = self.encode(x)
        return Output(self.decode(z), z, zeros(x))


def conv_coders(
    sample_shape: tuple[int, ...],
    hidden: tuple[int, ...] | None,
    bottleneck: int | None,
    latent: int | None,
    kernel_size: int,
    width: int,
    activation: str,
    output: str,
    per_latent: int = 1,
) -> tuple[Stack, Stack]:
    """Encoder (B, C, ...) -> (B, per_latent * D) and decoder (B, D) -> (B, C, ...), by the settings of `Conv`."""
    channels, *size = sample_shape
    dims = len(size)
    if hidden is None:
        stages = min(8, max(1, math.ceil(math.log2(max(size) / 7))))
        hidden = tuple(min(width * 2**i, 4 * width) for i in range(stages))
    if not hidden:
        raise ValueError("hidden names no width, and there is no convolution without one")
    sizes = strided_sizes(tuple(size), len(hidden))
    widths = (channels, *hidden)
    act = ACTIVATIONS[activation]

    encoder: list[nn.Module] = []
    for c_in, c_out in zip(widths, hidden, strict=False):
        encoder += [conv(dims, c_in, c_out, kernel_size, stride=2), act()]
    decoder: list[nn.Module] = []  # in reverse order, as the encoder goes
    for i, (c_out, c_in) in enumerate(zip(widths, hidden, strict=False)):
        last = ACTIVATIONS[output]() if i == 0 else act()
        decoder += [last, conv_transpose(c_in, c_out, kernel_size, (sizes[i + 1], sizes[i]), stride=2)]

    inner: tuple[int, ...] = (hidden[-1], *sizes[-1])
    if bottleneck is not None:
        one = (1,) * dims
        encoder += [conv(dims, hidden[-1], bottleneck, sizes[-1]), act()]
        decoder += [act(), conv_transpose(bottleneck, hidden[-1], sizes[-1], (one, sizes[-1]))]
        inner = (bottleneck, *one)
    encoder.append(nn.Flatten())
    decoder.append(Reshape(*inner))
    if latent is not None:
        encoder.append(nn.Linear(math.prod(inner), per_latent * latent))
        decoder += [act(), nn.Linear(latent, math.prod(inner))]
    return Stack(*encoder), Stack(*reversed(decoder))
