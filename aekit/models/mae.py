"""Masked autoencoder, He et al. 2022, arXiv:2111.06377: most patches are hidden, and predicted from those that are not.

The encoder sees the visible patches alone. In training they are drawn anew for each sample and step. In use four fixed
choices of them hide every patch in turn, and each patch is given back as it was predicted where it was hidden: the
error tells how unlike its surroundings it is. The latent is the mean over the patches of the whole sample, none hidden.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from aekit.layers import wide
from aekit.objectives import Phase, mse, zeros
from aekit.records import Batch, Output

SIZES = {  # width, blocks and heads of the encoder, then of the decoder; base is the published one
    "tiny": (128, 4, 4, 64, 2, 2),
    "small": (384, 12, 6, 256, 8, 8),
    "base": (768, 12, 12, 512, 8, 16),
}
PATCHES = 64  # of a sample, where no patch size is asked for
LARGEST = 16  # pixels along a patch of an image, where none is asked for
CHOICES = 4  # of visible patches, in use
CONTENT = 2  # size of what a patch of unit values adds to its position at first; with less, training stalls for long
FLOOR = 1e-6  # added to a patch's variance


class MAE(nn.Module):
    verbs = ("score", "embed")

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        size: str = "tiny",
        patch: int | None = None,
        masked: float = 0.75,
        normalised: bool = False,
        output: str = "none",
    ):
        super().__init__()
        if size not in SIZES:
            raise ValueError(f"size={size}: there are {', '.join(SIZES)}")
        if not 0 < masked < 1:
            raise ValueError(f"masked={masked}: a share between 0 and 1")
        channels, *points = sample_shape
        side = patch or _patch_size(points)
        self.patch = [min(side, along) for along in points]
        self.grid = [math.ceil(along / size) for along, size in zip(points, self.patch, strict=True)]
        count = math.prod(self.grid)
        if count < 2:
            raise ValueError(f"patch={side}: the sample is one patch, with none to predict it from")
        self.sample_shape, self.normalised, self.output = sample_shape, normalised, output
        self.visible = min(count - 1, max(1, int(count * (1 - masked))))
        values = channels * math.prod(self.patch)
        width, blocks, heads, decoder_width, decoder_blocks, decoder_heads = SIZES[size]
        self.widening = 4 * width * count / math.prod(sample_shape)

        self.embedding = nn.Linear(values, width)
        self.class_token = nn.Parameter(torch.empty(width))
        self.encoder = nn.ModuleList(_Block(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.to_decoder = nn.Linear(width, decoder_width)
        self.mask_token = nn.Parameter(torch.empty(decoder_width))
        self.decoder = nn.Sequential(
            *(_Block(decoder_width, decoder_heads) for _ in range(decoder_blocks)),
            nn.LayerNorm(decoder_width, eps=1e-6),
            nn.Linear(decoder_width, values + 2 * normalised),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.embedding.weight, std=CONTENT / math.sqrt(values))
        for token in (self.class_token, self.mask_token):
            nn.init.normal_(token, std=0.02)

        self.order: Tensor  # in the model file, as scores depend on it
        self.positions: Tensor
        self.decoder_positions: Tensor
        self.inside: Tensor
        self.register_buffer("order", torch.tensor(np.random.default_rng(0).permutation(count).tolist()))
        self.register_buffer("positions", positions(self.grid, width), persistent=False)
        self.register_buffer("decoder_positions", positions(self.grid, decoder_width), persistent=False)
        inside = self._patches(torch.ones(1, *sample_shape))[0]  # (L, P), 0 in the padding
        self.register_buffer("inside", inside, persistent=False)

    def encode(self, x: Tensor) -> Tensor:
        return self._encoded(self._tokens(self._patches(x)))[:, 1:].mean(1)  # (B, D)

    def forward(self, x: Tensor) -> Output:
        patches = self._patches(x)
        total, times = torch.zeros_like(patches), torch.zeros_like(self.inside)
        for choice in range(CHOICES):
            visible = self._choice(choice)
            hidden = self._hidden(visible[None])[0, :, None]  # (L, 1)
            total = total + hidden * self._in_units(self._predicted(patches, visible.expand(len(x), -1)))
            times = times + hidden
        x_hat = self._samples(torch.where(times > 0, total / times.clamp(min=1), patches))
        weight = self._samples((times > 0).float()[None])
        return Output(self._clipped(x_hat), None if self.training else self.encode(x), zeros(x), weight=weight)

    def fill(self, x: Tensor, mask: Tensor) -> Tensor:
        """Samples (B, C, ...) with the values where `mask` is True as predicted from patches without such values."""
        patches = self._patches(x.masked_fill(mask, 0))
        hidden = self._patches(mask.to(x.dtype)).amax(2) > 0  # (B, L)
        seen = pad(~hidden, (1, 0), value=True)[:, None, None]  # by heads and queries
        tokens = self.to_decoder(self._encoded(self._tokens(patches), seen))
        known = torch.where(hidden[..., None], self.mask_token.to(tokens.dtype), tokens[:, 1:])
        x_hat = self._clipped(self._samples(self._in_units(self._decoded(tokens[:, :1], known))))
        return torch.where(mask, x_hat, x)

    def example_mask(self) -> Tensor:
        """The values that the first of the fixed choices hides, (C, ...), for pictures: True where hidden."""
        hidden = self._hidden(self._choice(0)[None])[..., None]
        return self._samples(hidden.expand(-1, *self.inside.shape))[0] > 0

    def phases(self) -> list[Phase]:
        return [Phase("train", list(self.parameters()), self._loss)]

    def _loss(self, batch: Batch) -> dict[str, Tensor]:
        """The mean squared error over hidden values.

        Where patches are normalised it is that of their content, plus those of their mean and logarithm of standard
        deviation: all three are predicted, so that nothing of a hidden patch is known.
        """
        patches = self._patches(batch.x)
        noise = torch.rand(patches.shape[:2], device=batch.x.device)
        visible = noise.argsort(1)[:, : self.visible]
        hidden = self._hidden(visible)[..., None]  # (B, L, 1)
        predicted = self._predicted(patches, visible)
        if not self.normalised:
            weight = self._samples(hidden.expand(-1, *self.inside.shape))
            return {"loss": mse(self._samples(predicted), batch.target, weight).mean()}
        target = self._normalised(self._patches(batch.target))
        errors = (predicted - target).square()
        weight = hidden * self.inside
        content = (errors[..., :-2] * weight).sum() / weight.sum()
        statistics = (errors[..., -2:] * hidden).sum() / hidden.sum()
        return {"loss": content + statistics, "content_loss": content.detach(), "statistics_loss": statistics.detach()}

    def _normalised(self, patches: Tensor) -> Tensor:
        """Each patch's content, mean and logarithm of standard deviation, (B, L, P + 2); padding does not count."""
        count = self.inside.sum(1, keepdim=True)
        mean = (patches * self.inside).sum(2, keepdim=True) / count
        content = (patches - mean) * self.inside
        variance = content.square().sum(2, keepdim=True) / (count - 1).clamp(min=1) + FLOOR
        return torch.cat([content * variance.rsqrt(), mean, variance.log() / 2], dim=2)

    def _in_units(self, predicted: Tensor) -> Tensor:
        """Predicted patches (B, L, P) in the units of the data."""
        if not self.normalised:
            return predicted
        content, mean, log_deviation = predicted[..., :-2], predicted[..., -2:-1], predicted[..., -1:]
        return mean + log_deviation.exp() * content

    def _clipped(self, x_hat: Tensor) -> Tensor:
        return x_hat.clamp(0, 1) if self.output == "sigmoid" else x_hat  # what lies in 0..1 is no farther from there

    def _choice(self, choice: int) -> Tensor:
        """The visible patches (K,) of one of the fixed choices."""
        return self.order.roll(-(choice * len(self.order) // CHOICES))[: self.visible]

    def _hidden(self, visible: Tensor) -> Tensor:
        """(B, K) places of the visible patches -> (B, L), 1 at the others."""
        return torch.ones(len(visible), len(self.order), device=visible.device).scatter(1, visible, 0)

    def _predicted(self, patches: Tensor, visible: Tensor) -> Tensor:
        """What the decoder makes of the visible patches at all places, (B, L, P or P + 2)."""
        tokens = self.to_decoder(self._encoded(self._tokens(patches, visible)))
        known = self.mask_token.to(tokens.dtype).expand(*patches.shape[:2], -1)
        known = known.scatter(1, visible[..., None].expand(-1, -1, tokens.shape[2]), tokens[:, 1:])
        return self._decoded(tokens[:, :1], known)

    def _tokens(self, patches: Tensor, visible: Tensor | None = None) -> Tensor:
        """(B, L, P) -> (B, K, D) with their positions, of all patches or of the visible ones."""
        if visible is not None:
            patches = patches.gather(1, visible[..., None].expand(-1, -1, patches.shape[2]))
        tokens: Tensor = self.embedding(patches)
        return tokens + (self.positions if visible is None else self.positions[visible])

    def _encoded(self, tokens: Tensor, seen: Tensor | None = None) -> Tensor:
        """(B, K, D) -> (B, 1 + K, D), the class token first; `seen` tells which tokens the others look at."""
        tokens = torch.cat([self.class_token.expand(len(tokens), 1, -1), tokens], dim=1)
        for block in self.encoder:
            tokens = block(tokens, seen)
        out: Tensor = self.norm(tokens)
        return out

    def _decoded(self, class_token: Tensor, tokens: Tensor) -> Tensor:
        predicted: Tensor = self.decoder(torch.cat([class_token, tokens + self.decoder_positions], dim=1))
        return wide(predicted[:, 1:])

    def _patches(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, L, P), with zeros beyond the sample's end."""
        dims = len(self.grid)
        sizes = list(zip(x.shape[2:], self.grid, self.patch, strict=True))
        x = pad(x, [n for along, many, size in reversed(sizes) for n in (0, many * size - along)])
        x = x.reshape(*x.shape[:2], *(n for _, many, size in sizes for n in (many, size)))
        x = x.permute(0, *range(2, 2 + 2 * dims, 2), 1, *range(3, 3 + 2 * dims, 2))  # (B, grid, C, patch)
        return x.flatten(1 + dims).flatten(1, dims)

    def _samples(self, patches: Tensor) -> Tensor:
        """The way back of `_patches`."""
        dims = len(self.grid)
        x = patches.reshape(len(patches), *self.grid, self.sample_shape[0], *self.patch)
        x = x.permute(0, 1 + dims, *(axis for i in range(dims) for axis in (1 + i, 2 + dims + i)))
        for axis, along in enumerate(self.sample_shape[1:]):
            x = x.flatten(2 + axis, 3 + axis).narrow(2 + axis, 0, along)
        return x


class _Block(nn.Module):
    """Attention and a feed-forward pair four times as wide, each added to what it saw normalised."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.inputs = nn.Linear(width, 3 * width)
        self.outputs = nn.Linear(width, width)
        self.forward_pair = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        inputs = self.inputs(self.norms[0](x)).unflatten(2, (3, self.heads, -1))  # (B, K, 3, heads, D / heads)
        query, key, value = inputs.permute(2, 0, 3, 1, 4)
        looked_up = scaled_dot_product_attention(query, key, value, seen)
        x = x + self.outputs(looked_up.transpose(1, 2).flatten(2))
        out: Tensor = x + self.forward_pair(self.norms[1](x))
        return out


def positions(grid: list[int], width: int) -> Tensor:
    """Sines and cosines of each place of a grid, (L, D): for each axis an equal part of D."""
    each = width // len(grid) // 2
    frequencies = 10_000 ** (-torch.arange(each, dtype=torch.float64) / each)
    places = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    angles = [place.reshape(-1, 1) * frequencies for place in places]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1).float()


def _patch_size(points: list[int]) -> int:
    """Points along a patch, such that a sample holds about 49 to 64 of them; larger images hold more."""
    side = math.ceil(math.pow(math.prod(points) / PATCHES, 1 / len(points)))
    return side if len(points) == 1 else min(side, LARGEST)
