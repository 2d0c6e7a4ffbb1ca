"""Fully convolutional denoiser for traces of a few hundred points: 500 points become 16 channels of 31.

After the radio-trace denoiser of Erdmann et al. 2019, arXiv:1901.04079, and its descendants: stages of convolution and
max-pooling by 2, transposed convolutions back to the sizes passed on the way in. The inner widths are our choice.
"""

from itertools import pairwise

from torch import Tensor, nn

from aekit.layers import ACTIVATIONS, Reshape, Stack, conv, conv_transpose
from aekit.objectives import zeros
from aekit.records import Output


class Trace(nn.Module):
    verbs = ("denoise", "score", "embed", "generate")
    series_only = True

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        hidden: tuple[int, ...] = (16, 32, 32),
        latent_channels: int = 16,
        kernel_size: int = 7,
        activation: str = "relu",
        output: str = "none",
    ):
        super().__init__()
        channels, length = sample_shape
        widths = (channels, *hidden, latent_channels)
        lengths = [length >> i for i in range(len(widths))]
        act = ACTIVATIONS[activation]
        encoder: list[nn.Module] = []
        for c_in, c_out in pairwise(widths):
            encoder += [conv(1, c_in, c_out, kernel_size), act(), nn.MaxPool1d(2)]
        decoder: list[nn.Module] = [Reshape(latent_channels, lengths[-1])]
        back, back_lengths = (*widths[:0:-1], widths[1]), lengths[::-1]
        for i in range(len(widths) - 1):
            small, large = back_lengths[i], back_lengths[i + 1]
            kernel = (large - 2 * small + 2,)  # 2, or 3 where pooling dropped an odd point
            decoder += [conv_transpose(back[i], back[i + 1], kernel, ((small,), (large,)), stride=2), act()]
        decoder += [conv(1, widths[1], channels, kernel_size), ACTIVATIONS[output]()]
        self.encoder = Stack(*encoder, nn.Flatten())
        self.decoder = Stack(*decoder)

    def encode(self, x: Tensor) -> Tensor:
        z: Tensor = self.encoder(x)
        return z  # (B, D), D = latent_channels * (T >> stages)

    def decode(self, z: Tensor) -> Tensor:
        x_hat: Tensor = self.decoder(z)
        return x_hat  # (B, C, T)

    def forward(self, x: Tensor) -> Output:
        z = self.encode(x)
        return Output(self.decode(z), z, zeros(x))
