"""Encoder-decoder with skips, Ronneberger et al. 2015, arXiv:1505.04597, in 1-D or 2-D: for denoising.

The layers are DeepDenoiser's (Zhu et al. 2019, arXiv:1811.02695): strided convolutions in place of pooling, and batch
normalisation after each.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from aekit.layers import ACTIVATIONS, Stack, conv
from aekit.objectives import zeros
from aekit.records import Output


class UNet(nn.Module):
    """The latent is the mean over all positions of the deepest map; a decoder without its skips would be another."""

    verbs = ("denoise", "score", "embed")
    any_length = True

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        hidden: tuple[int, ...] = (16, 32, 64, 128),
        kernel_size: int | None = None,
        activation: str = "relu",
        output: str = "none",
    ):
        super().__init__()
        channels, *size = sample_shape
        kernel_size = kernel_size or (7 if len(size) == 1 else 3)
        self.body = UNetBody(len(size), channels, channels, hidden, kernel_size, activation)
        self.output = ACTIVATIONS[output]()
        self.widening = hidden[0] / channels  # the widest map holds so many values for each of a sample

    def encode(self, x: Tensor) -> Tensor:
        return self.body.down(x)[-1].flatten(2).mean(2)  # (B, D)

    def forward(self, x: Tensor) -> Output:
        maps = self.body.down(x)
        return Output(self.output(self.body.up(maps)), maps[-1].flatten(2).mean(2), zeros(x))


class UNetBody(nn.Module):
    """(B, C_in, ...) -> (B, C_out, ...) of the same size, which may be any."""

    def __init__(
        self, dims: int, c_in: int, c_out: int, widths: tuple[int, ...], kernel_size: int = 3, activation: str = "relu"
    ):
        super().__init__()
        norm = nn.BatchNorm1d if dims == 1 else nn.BatchNorm2d
        transposed = nn.ConvTranspose1d if dims == 1 else nn.ConvTranspose2d

        def same(before: int, after: int, stride: int = 1) -> Stack:
            layer = conv(dims, before, after, kernel_size, stride, bias=False)
            return Stack(layer, norm(after, eps=1e-3), ACTIVATIONS[activation]())

        def larger(before: int, after: int) -> nn.Module:
            return transposed(before, after, kernel_size, stride=2, padding=kernel_size // 2, bias=False)

        self.first = same(c_in, widths[0])
        self.levels = nn.ModuleList(same(a, b) for a, b in zip((widths[0], *widths), widths, strict=False))
        self.smaller = nn.ModuleList(same(w, w, stride=2) for w in widths[:-1])
        self.larger = nn.ModuleList(larger(b, a) for a, b in pairwise(widths))
        self.enlarged = nn.ModuleList(nn.Sequential(norm(w, eps=1e-3), ACTIVATIONS[activation]()) for w in widths[:-1])
        self.joined = nn.ModuleList(same(2 * w, w) for w in widths[:-1])
        self.last = conv(dims, widths[0], c_out, 1)

    def down(self, x: Tensor) -> list[Tensor]:
        """The maps of all levels, the largest first."""
        x = self.levels[0](self.first(x))
        maps = [x]
        for smaller, level in zip(self.smaller, self.levels[1:], strict=True):
            maps.append(level(smaller(maps[-1])))
        return maps

    def up(self, maps: list[Tensor]) -> Tensor:
        """The way back from those maps."""
        x = maps[-1]
        ways = zip(maps[:-1], self.larger, self.enlarged, self.joined, strict=True)
        for skip, larger, enlarged, joined in reversed(list(ways)):
            x = enlarged(larger(x, output_size=list(skip.shape[2:])))
            x = joined(torch.cat([x, skip], dim=1))
        out: Tensor = self.last(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x))
