"""Short-time Fourier transform whose inverse gives the signal back exactly, and which gradients pass both ways.

The convention is scipy.signal.stft's: a periodic Hann window, zeros beyond both ends, frames filled up with zeros at
their end. The inverse weights frames by the window once more and divides by the sum of its squares.
"""

import torch
from torch import Tensor, nn


class STFT(nn.Module):
    """Frames of `window` points every `hop`, transformed at `size` points."""

    def __init__(self, window: int = 30, hop: int = 15, size: int = 60):
        super().__init__()
        if not 0 < hop < window <= size:
            raise ValueError(f"hop < window <= size is needed: {hop}, {window}, {size}")
        self.hop, self.size = hop, size
        self.hann: Tensor
        self.register_buffer("hann", torch.hann_window(window), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., T) -> complex (..., F, frames), F = size // 2 + 1."""
        window = len(self.hann)
        points = x.shape[-1] + window // 2 * 2
        last = -(points - window) % self.hop
        padded = nn.functional.pad(x, (window // 2, window // 2 + last))
        frames = padded.unfold(-1, window, self.hop) * self.hann  # (..., frames, window)
        spectrum: Tensor = torch.fft.rfft(frames, n=self.size).mT
        return spectrum

    def inverse(self, spectrum: Tensor, points: int) -> Tensor:
        """complex (..., F, frames) -> (..., T) of so many points."""
        window = len(self.hann)
        frames = torch.fft.irfft(spectrum.mT, n=self.size)[..., :window] * self.hann
        weight = self.hann.square().expand(frames.shape[-2:])
        total, weights = self._lay_over(frames), self._lay_over(weight)
        start = window // 2
        return (total[..., start : start + points]) / weights[start : start + points]

    def _lay_over(self, frames: Tensor) -> Tensor:
        """(..., frames, window) -> (..., T), each frame added where it belongs."""
        *batch, count, window = frames.shape
        length = (count - 1) * self.hop + window
        columns = frames.reshape(-1, count, window).mT  # (N, window, frames), as fold takes them
        out = nn.functional.fold(columns, (1, length), (1, window), stride=(1, self.hop))
        return out.view(*batch, length)
