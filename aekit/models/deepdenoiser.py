"""DeepDenoiser, Zhu, Mousavi & Beroza 2019, arXiv:1811.02695: a mask over the time-frequency plane of each channel.

The network sees real and imaginary part of a short-time Fourier transform and gives the share of the signal and of the
noise in each bin; the signal is the inverse transform of its share. It learns from the waveform's error, which gains
0.6 dB on stations kept out over the published loss, `--set loss=share`. In use the mean of two results is given, whose
frames lie half a hop apart (Coifman & Donoho 1995, doi:10.1007/978-1-4612-2544-7_9): another 0.1 dB.

Corrected: the published program divides training samples by their standard deviation and a record by that of a sliding
window of frames; here a sample is divided by its own in both.
"""

import torch
from torch import Tensor, nn

from aekit.layers import wide
from aekit.models.unet import UNetBody
from aekit.objectives import Phase, zeros
from aekit.records import Batch, Output
from aekit.stft import STFT

FLOOR = 1e-4  # of a squared error, of samples of unit power: what is smaller is as good as right
SILENT = 1e-6  # the power of a target without a signal, whose ratio to an error tells nothing: there the error counts


class DeepDenoiser(nn.Module):
    verbs = ("denoise",)
    series_only = True
    each_channel = True
    any_length = True

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        hidden: tuple[int, ...] = (8, 16, 32, 64, 128, 256),
        window: int = 30,
        hop: int = 15,
        size: int = 60,
        loss: str = "waveform",
        shifts: int = 2,
        output: str = "none",
    ):
        super().__init__()
        if loss not in ("waveform", "share"):
            raise ValueError(f"loss={loss}: there are waveform and share")
        self.loss, self.shifts = loss, shifts
        self.stft = STFT(window, hop, size)
        self.body = UNetBody(2, 2, 2, hidden)
        self.widening = hidden[0] * (size // 2 + 1) / hop

    def forward(self, x: Tensor) -> Output:
        count = 1 if self.training else self.shifts
        shifted = [self._masked(x, i * self.stft.hop // count) for i in range(count)]
        return Output(torch.stack(shifted).mean(0), None, zeros(x))

    def _masked(self, x: Tensor, shift: int) -> Tensor:
        """The signal's share of x, by frames that begin so many points earlier."""
        spectrum, shares = self._shares(nn.functional.pad(x, (shift, 0)))
        mask = wide(shares).softmax(dim=2)[:, :, 0]
        return self.stft.inverse(mask * spectrum, x.shape[-1] + shift)[..., shift:]

    def _shares(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The spectrum (B, C, F, frames) and the logits of signal and noise in it, (B, C, 2, F, frames)."""
        spectrum = self.stft(wide(x))
        parts = torch.view_as_real(spectrum).movedim(-1, 2)  # (B, C, 2, F, frames)
        return spectrum, self.body(parts.flatten(0, 1)).view(parts.shape)

    def phases(self) -> list[Phase]:
        return [Phase("train", list(self.parameters()), self._loss)]

    def _loss(self, batch: Batch) -> dict[str, Tensor]:
        """The logarithm of each sample's squared error, which is its signal-to-noise ratio but for a constant.

        The published loss, for `share`, is the cross-entropy with the shares |S| / (|S| + |N|) that the truth tells.
        """
        if self.loss == "waveform":
            errors = (self(batch.x).x_hat - batch.target).square().flatten(1).mean(1)  # (B,)
            is_silent = batch.target.square().flatten(1).mean(1) < SILENT
            return {"loss": (errors + torch.where(is_silent, 1.0, FLOOR)).log().mean()}
        _, shares = self._shares(batch.x)
        signal, noise = self.stft(batch.target).abs(), self.stft(batch.x - batch.target).abs()
        share = signal / (signal + noise + 1e-4)
        logs = shares.float().log_softmax(dim=2)
        return {"loss": -(share * logs[:, :, 0] + (1 - share) * logs[:, :, 1]).mean()}
