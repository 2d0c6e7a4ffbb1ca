"""WaveDecompNet, Yin, Denolle & He 2022, arXiv:2205.11653: a record is taken apart into earthquake and noise.

One encoder, and a decoder for each part, with a bottleneck over time between them. The reconstruction is the
earthquake; both parts are judged.

Corrected: the published Transformer attends across the samples of a batch; here it attends over time. A convolution
that the published module carries and never uses is left out.
"""

from collections.abc import Callable

from torch import Tensor, nn

from aekit.layers import conv, conv_transpose, strided_sizes
from aekit.objectives import Phase, zeros
from aekit.records import Batch, Output

KERNELS = (9, 7, 5)  # of the stages, the largest scale first; each stage halves the length
WIDTHS = (8, 16, 32)
DEEPEST = 64
HEADS = 4


class _Recurrent(nn.LSTM):
    def __init__(self) -> None:
        super().__init__(DEEPEST, DEEPEST // 2, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)[0]


class _Attention(nn.MultiheadAttention):
    def __init__(self) -> None:
        super().__init__(DEEPEST, HEADS, dropout=0.2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, x, x, need_weights=False)[0]


BOTTLENECKS: dict[str, Callable[[], nn.Module]] = {  # each (B, T, 64) -> the same shape
    "none": nn.Identity,
    "linear": lambda: nn.Linear(DEEPEST, DEEPEST),
    "lstm": _Recurrent,
    "attention": _Attention,
    "transformer": lambda: nn.TransformerEncoderLayer(DEEPEST, HEADS, dim_feedforward=2048, batch_first=True),
}


class WaveDecompNet(nn.Module):
    verbs = ("denoise",)
    series_only = True
    any_length = True

    def __init__(self, sample_shape: tuple[int, ...], bottleneck: str = "lstm", output: str = "none"):
        super().__init__()
        if bottleneck not in BOTTLENECKS:
            raise ValueError(f"bottleneck={bottleneck}: there are {', '.join(BOTTLENECKS)}")
        channels, points = sample_shape
        layers: list[nn.Module] = []
        for before, width, kernel_size in zip((channels, *WIDTHS), WIDTHS, KERNELS, strict=False):
            layers += [conv(1, before, width, kernel_size), conv(1, width, width, kernel_size, stride=2)]
        layers.append(conv(1, WIDTHS[-1], DEEPEST, 3))
        self.encoder = nn.ModuleList(layers)
        self.norms = nn.ModuleList(nn.BatchNorm1d(layer.out_channels) for layer in layers)  # type: ignore[arg-type]
        self.signal = _Decoder(channels, points, bottleneck)
        self.noise = _Decoder(channels, points, bottleneck)

    def forward(self, x: Tensor) -> Output:
        return Output(self.signal(*self._encoded(x)), None, zeros(x))

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Earthquake and noise, each (B, C, T); nothing makes them add up to x."""
        encoded = self._encoded(x)
        return self.signal(*encoded), self.noise(*encoded)

    def _encoded(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The deepest map, and what the decoders add to theirs."""
        skips = []  # before normalisation: of the first convolutions of 16 and 32 channels, and of the last
        for i, (layer, norm) in enumerate(zip(self.encoder, self.norms, strict=True)):
            before = layer(x)
            if i in (2, 4, 6):
                skips.append(before)
            x = norm(before).relu()
        return x, skips

    def phases(self) -> list[Phase]:
        return [Phase("train", list(self.parameters()), self._loss)]

    def _loss(self, batch: Batch) -> dict[str, Tensor]:
        """The squared errors of both parts."""
        signal, noise = self.parts(batch.x)
        signal_loss = (signal - batch.target).square().mean()
        noise_loss = (noise - (batch.x - batch.target)).square().mean()
        return {
            "loss": signal_loss + noise_loss,
            "signal_loss": signal_loss.detach(),
            "noise_loss": noise_loss.detach(),
        }


class _Decoder(nn.Module):
    """The way back from 64 channels, with what the encoder saw added before each normalisation."""

    def __init__(self, channels: int, points: int, bottleneck: str):
        super().__init__()
        self.bottleneck = BOTTLENECKS[bottleneck]()
        sizes = strided_sizes((points,), len(WIDTHS))
        back = list(reversed(range(len(WIDTHS))))
        kernels = (3, *KERNELS[::-1])
        widths = (DEEPEST, *WIDTHS[::-1], channels)
        layers = []
        for i, at in enumerate(back):
            same, up = (sizes[at + 1],) * 2, (sizes[at + 1], sizes[at])
            layers += [
                conv_transpose(widths[i], widths[i + 1], kernels[i], same),
                conv_transpose(widths[i + 1], widths[i + 1], kernels[i + 1], up, stride=2),
            ]
        layers.append(conv_transpose(widths[-2], channels, kernels[-1], (sizes[0], sizes[0])))
        self.layers = nn.ModuleList(layers)
        before = (DEEPEST, *(layer.out_channels for layer in layers))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for width in before)  # type: ignore[arg-type]

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        x = self.norms[0](self.bottleneck(x.mT).mT + skips[2]).relu()
        for i, (layer, norm) in enumerate(zip(self.layers, list(self.norms)[1:], strict=True)):
            x = layer(x)
            if i in (1, 3):
                x = x + skips[1 - i // 2]
            x = norm(x)
            if i < len(self.layers) - 1:
                x = x.relu()
        return x
