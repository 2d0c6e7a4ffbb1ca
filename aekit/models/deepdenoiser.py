"""DeepDenoiser, Zhu, Mousavi & Beroza 2019, arXiv:1811.02695: a mask over the time-frequency plane of each channel.

The network sees real and imaginary part of a short-time Fourier transform and gives the share of the signal and of the
noise in each bin; the signal is the inverse transform of its share. What it learns from is the ratio of the magnitudes.

Corrected: the published program divides training samples by their standard deviation and a record by that of a sliding
window of frames; here a sample is divided by its own in both.
"""

import torch
from torch import Tensor, nn

from aekit.models.unet import UNetBody
from aekit.objectives import Phase, zeros
from aekit.records import Batch, Output
from aekit.stft import STFT


class DeepDenoiser(nn.Module):
    verbs = ("denoise",)
    series_only = True
    each_channel = True

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        hidden: tuple[int, ...] = (8, 16, 32, 64, 128, 256),
        window: int = 30,
        hop: int = 15,
        size: int = 60,
        mask: str = "share",
        loss: str = "waveform",
        output: str = "none",
    ):
        super().__init__()
        self.mask, self.loss = mask, loss
        self.stft = STFT(window, hop, size)
        self.body = UNetBody(2, 2, 2, hidden)

    def forward(self, x: Tensor) -> Output:
        spectrum, shares = self._shares(x)
        if self.mask == "share":
            mask = shares.float().softmax(dim=2)[:, :, 0]
        else:
            mask = torch.complex(shares[:, :, 0].float(), shares[:, :, 1].float())
        return Output(self.stft.inverse(mask * spectrum, x.shape[-1]), None, zeros(x))

    def _shares(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The spectrum (B, C, F, frames) and the logits of signal and noise in it, (B, C, 2, F, frames)."""
        spectrum = self.stft(x.float())
        parts = torch.view_as_real(spectrum).movedim(-1, 2)  # (B, C, 2, F, frames)
        return spectrum, self.body(parts.flatten(0, 1)).view(parts.shape)

    def phases(self) -> list[Phase]:
        return [Phase("train", list(self.parameters()), self._loss)]

    def _loss(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy with the shares |S| / (|S| + |N|) that the truth tells."""
        if self.loss == "waveform":
            x_hat = self(batch.x).x_hat
            return {"loss": ((x_hat - batch.target).square().flatten(1).mean(1) + 1e-4).log().mean()}
        _, shares = self._shares(batch.x)
        signal, noise = self.stft(batch.target).abs(), self.stft(batch.x - batch.target).abs()
        share = signal / (signal + noise + 1e-4)
        logs = shares.float().log_softmax(dim=2)
        return {"loss": -(share * logs[:, :, 0] + (1 - share) * logs[:, :, 1]).mean()}
