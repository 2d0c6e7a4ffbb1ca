"""EQTransformer, Mousavi et al. 2020, doi:10.1038/s41467-020-17591-w: detection, P and S at each time point.

An encoder down to 47 steps, residual convolutions, recurrent and attentive blocks, and three decoders. The published
network keeps the dropout of its residual convolutions on when it is used, and so tells how sure it is: `draws` does.
"""

import math

import torch
from torch import Tensor, nn

from aekit.layers import conv
from aekit.objectives import Phase, mse, zeros
from aekit.picks import KINDS
from aekit.records import Batch, Output

WIDTHS, KERNELS = (8, 16, 16, 32, 32, 64, 64), (11, 9, 7, 7, 5, 5, 3)
RESIDUAL = (3, 3, 3, 3, 2, 3, 2)  # kernel sizes of the residual convolutions
STEP_WIDTH = 16  # of what the recurrent and attentive blocks pass on
WEIGHTS = (0.05, 0.40, 0.55)  # of detection, P and S in the loss


class EQTransformer(nn.Module):
    verbs = ("score",)
    series_only = True
    finds_picks = True
    any_length = True

    def __init__(self, sample_shape: tuple[int, ...], recurrent: int = 2, dropout: float = 0.1, output: str = "none"):
        super().__init__()
        channels, self.points = sample_shape
        self.encoder = nn.ModuleList(
            conv(1, before, width, kernel_size)
            for before, width, kernel_size in zip((channels, *WIDTHS), WIDTHS, KERNELS, strict=False)
        )
        self.residual = nn.ModuleList(_Residual(WIDTHS[-1], kernel_size, dropout) for kernel_size in RESIDUAL)
        widths = (WIDTHS[-1], *[STEP_WIDTH] * (recurrent - 1))
        self.recurrent = nn.ModuleList(_Recurrent(width, dropout) for width in widths)
        self.attentive = nn.ModuleList(_Attentive(dropout) for _ in range(2))
        self.heads = nn.ModuleList(_Head(is_pick) for is_pick in (False, True, True))

    def forward(self, x: Tensor) -> Output:
        """x_hat holds the probabilities of detection, P and S, (B, 3, T)."""
        logits = self.logits(x)
        return Output(logits.sigmoid(), None, zeros(x))

    def logits(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, 3, T)."""
        sizes = []
        for layer in self.encoder:
            sizes.append(x.shape[-1])
            x = nn.functional.max_pool1d(layer(x).relu(), 2, ceil_mode=True)
        for block in (*self.residual, *self.recurrent, *self.attentive):
            x = block(x)
        return torch.cat([head(x, sizes) for head in self.heads], dim=1)

    def draws(self, x: Tensor, count: int) -> Tensor:
        """Probabilities (count, B, 3, T), each with dropout of its own in the residual convolutions."""
        dropouts = [module for module in self.residual.modules() if isinstance(module, nn.Dropout1d)]
        for dropout in dropouts:
            dropout.train()
        found = torch.stack([self(x).x_hat for _ in range(count)])
        for dropout in dropouts:
            dropout.eval()
        return found

    def errors(self, batch: Batch) -> Tensor:
        """Mean squared error of the probabilities, (B,)."""
        assert batch.picks is not None, "the workflow checks that there are picks"
        return mse(self(batch.x).x_hat.float(), batch.picks)

    def phases(self) -> list[Phase]:
        return [Phase("train", list(self.parameters()), self._loss)]

    def _loss(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of each head, weighted as published; its tiny penalties on weights and biases are left out."""
        assert batch.picks is not None, "the workflow checks that there are picks"
        logits = self.logits(batch.x).float()
        losses = nn.functional.binary_cross_entropy_with_logits(logits, batch.picks, reduction="none").mean((0, 2))
        return {
            "loss": torch.stack([weight * loss for weight, loss in zip(WEIGHTS, losses, strict=True)]).sum(),
            **{f"{kind.lower()}_loss": loss.detach() for kind, loss in zip(KINDS, losses, strict=True)},
        }


class _Residual(nn.Module):
    """x + two convolutions, each after normalisation, ReLU and dropout of whole channels."""

    def __init__(self, width: int, kernel_size: int, dropout: float):
        super().__init__()
        self.kernel_size = kernel_size
        self.norms = nn.ModuleList(nn.BatchNorm1d(width, eps=1e-3) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv1d(width, width, kernel_size) for _ in range(2))
        self.dropout = nn.Dropout1d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        before = (self.kernel_size - 1) // 2
        for norm, layer in zip(self.norms, self.convs, strict=True):
            y = self.dropout(norm(y).relu())
            y = layer(nn.functional.pad(y, (before, self.kernel_size - 1 - before)))
        return x + y


class _Recurrent(nn.Module):
    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.lstm = nn.LSTM(width, STEP_WIDTH, bidirectional=True, batch_first=True)
        self.conv = nn.Conv1d(2 * STEP_WIDTH, STEP_WIDTH, 1)
        self.norm = nn.BatchNorm1d(STEP_WIDTH, eps=1e-3)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        h = self.dropout(self.lstm(x.mT)[0]).mT
        out: Tensor = self.norm(self.conv(h))
        return out


class _Additive(nn.Module):
    """Additive self-attention of one head (Bahdanau et al. 2015, arXiv:1409.0473), over `width` steps, or all."""

    def __init__(self, width: int | None = None, units: int = 32):
        super().__init__()
        self.width = width
        self.query = nn.Linear(STEP_WIDTH, units, bias=False)
        self.key = nn.Linear(STEP_WIDTH, units)
        self.score = nn.Linear(units, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, 16)
        energy = self.score(torch.tanh(self.query(x)[:, :, None] + self.key(x)[:, None]))[..., 0]  # (B, T, T)
        if self.width is not None:
            t = torch.arange(x.shape[1], device=x.device)
            lower = t[:, None] - self.width // 2
            seen = (t >= lower) & (t < lower + self.width)
            energy = energy.masked_fill(~seen, -math.inf)
        seen_steps: Tensor = energy.softmax(dim=2) @ x
        return seen_steps


class _Attentive(nn.Module):
    """Attention and a feed-forward pair, each added to what it saw and normalised."""

    def __init__(self, dropout: float):
        super().__init__()
        self.attention = _Additive()
        self.norms = nn.ModuleList(nn.LayerNorm(STEP_WIDTH) for _ in range(2))
        self.forward_pair = nn.Sequential(
            nn.Linear(STEP_WIDTH, 128), nn.ReLU(), nn.Dropout(dropout), nn.Linear(128, STEP_WIDTH)
        )

    def forward(self, x: Tensor) -> Tensor:
        h = x.mT
        h = self.norms[0](h + self.attention(h))
        out: Tensor = self.norms[1](h + self.forward_pair(h))
        return out.mT


class _Head(nn.Module):
    """The way back to every time point: doubled and convolved, cut to the length that the encoder saw there."""

    def __init__(self, is_pick: bool):
        super().__init__()
        self.lstm = nn.LSTM(STEP_WIDTH, STEP_WIDTH, batch_first=True) if is_pick else None
        self.attention = _Additive(width=3) if is_pick else None
        widths = (STEP_WIDTH, *WIDTHS[::-1])
        self.layers = nn.ModuleList(
            conv(1, before, width, kernel_size)
            for before, width, kernel_size in zip(widths, WIDTHS[::-1], KERNELS[::-1], strict=False)
        )
        self.last = conv(1, WIDTHS[0], 1, 11)

    def forward(self, x: Tensor, sizes: list[int]) -> Tensor:
        if self.lstm is not None and self.attention is not None:
            x = self.attention(self.lstm(x.mT)[0]).mT
        for layer, size in zip(self.layers, reversed(sizes), strict=True):
            x = x.repeat_interleave(2, dim=2)[:, :, :size]
            x = layer(x).relu()
        out: Tensor = self.last(x)
        return out
