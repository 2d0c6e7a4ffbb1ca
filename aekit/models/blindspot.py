"""Blind-spot network, Laine et al. 2019, arXiv:1901.10277: learns to denoise from noisy samples alone, in 1-D or 2-D.

Of each point a mean mu and a standard deviation s are predicted from the other points. Noise that is independent from
point to point cannot be predicted, so mu is of the clean value; s and the noise's standard deviation sigma are those
under which the noisy points, N(mu, s^2 + sigma^2), are most likely (section 3.2 there, each channel for itself). What
comes out is the mean of the clean value given both, mu and the noisy point (equation 6).

The blind spot is one of architecture: along each axis one branch sees what lies before a point, the other what lies
behind it. Noise that neighbours share can be predicted, and would stay in mu: `foresight` tells how well each point is
predicted from near and from afar, by which `whiteness` judges.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool1d, max_pool2d, pad

from aekit.batches import Rows
from aekit.layers import ACTIVATIONS, Stack, conv, wide
from aekit.objectives import Phase, zeros
from aekit.records import Batch, Output

LEVELS = {1: 5, 2: 3}  # halvings of the sample along each axis, at most
SMALLEST = 2  # points along an axis after them
FAR = {1: 4, 2: 3}  # points between a place and the nearest one that is seen from afar
HIDDEN = 0.2  # share of the points that the branches do not see in training
PREFERENCE = 0.05  # for noise over doubt about the clean value, where both explain a point
FIRST_SIGMA, FIRST_VARIANCE = -1.5, -1.0  # logarithms; more noise at first is slow to learn from, less is kept by s
PACE = 4.0  # of the logarithm of sigma beside that of the weights
SUREST = 0.05  # the share of points that sigma is settled by
SETTLED_ROWS = 500
SETTLED = 0.9  # of sigma, above which it is left as it was learnt
FLOOR = 1e-6  # of variances, in normalised units


class Guess(NamedTuple):
    """Mean and variance of a clean value as the other points tell them, (B, C, ...)."""

    mu: Tensor
    variance: Tensor


class Foresight(NamedTuple):
    near: Guess  # from all other points
    far: list[Guess]  # along each axis, from points at least FAR away; the variance is that of the noisy point


class BlindSpot(nn.Module):
    """`width` is that of each branch, of which there are two to an axis."""

    verbs = ("denoise",)
    any_length = True
    error_is = "negative log-likelihood"
    own_input = True  # sigma is that of the file it was trained on

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        width: int = 16,
        hidden: int = 64,
        kernel_size: int | None = None,
        activation: str = "relu",
        output: str = "none",
    ):
        super().__init__()
        channels, *size = sample_shape
        self.dims = len(size)
        levels = min(LEVELS[self.dims], max(0, int(math.log2(min(size) / SMALLEST))))
        kernel = kernel_size or (5 if self.dims == 1 else 3)
        if kernel % 2 == 0:
            raise ValueError(f"kernel_size={kernel}: an odd number is needed")
        self.branches = nn.ModuleList(
            _Branch(self.dims, channels, width, levels, kernel, activation) for _ in range(2 * self.dims)
        )
        self.near = _head(self.dims, 2 * self.dims * width, hidden, 2 * channels, activation)
        self.far = nn.ModuleList(
            _head(self.dims, 2 * width, hidden // 2, 2 * channels, activation) for _ in range(self.dims)
        )
        self.level = nn.Parameter(torch.full((channels, *[1] * self.dims), FIRST_SIGMA / PACE))
        self.widening = 6 * self.dims * width / channels

    @property
    def sigma(self) -> Tensor:
        """Standard deviation of the noise in normalised units, (C, 1, ...)."""
        return ((2 * PACE * self.level).exp() + FLOOR).sqrt()

    def forward(self, x: Tensor) -> Output:
        return Output(posterior(x, self._near(self._features(x)), self.sigma), None, zeros(x))

    def foresight(self, x: Tensor) -> Foresight:
        """How x (B, C, ...) is predicted where it is not seen."""
        maps = self._features(x)
        return Foresight(self._near(maps), self._far(maps))

    def phases(self) -> list[Phase]:
        return [Phase("train", list(self.parameters()), self._loss)]

    def errors(self, batch: Batch) -> Tensor:
        """Negative log-likelihood of the noisy points per value, but for its constant, (B,)."""
        near = self._near(self._features(batch.x))
        return surprise(batch.x, near.mu, near.variance + self.sigma.square())

    @torch.no_grad()
    def settle(self, train: Rows, val: Rows) -> None:
        """Lowers sigma where points of rows held out that are foretold best stray less from it than sigma says.

        Data with hardly any noise needs it: of what is hard to foretell, some is taken for noise.
        """
        index = torch.linspace(0, len(val) - 1, min(len(val), SETTLED_ROWS), device=val.x.device).long()
        x = val.batch(index).x
        near = self.foresight(x).near
        for c, level in enumerate(self.level):
            left = surest_error(x[:, c], Guess(near.mu[:, c], near.variance[:, c]), SUREST)
            if left < SETTLED * float(self.sigma.flatten()[c]):
                level.fill_(math.log(max(left, FLOOR)) / PACE)

    def _loss(self, batch: Batch) -> dict[str, Tensor]:
        """A part of the points is hidden, for the branches would learn rows of a small file, noise and all, by heart.

        What is seen from afar only watches: its gradient stops at the branches.
        """
        x = batch.x
        maps = self._features(x * (torch.rand_like(x[:, :1]) >= HIDDEN))
        near = self._near(maps)
        loss = surprise(x, near.mu, near.variance + self.sigma.square()).mean()
        far = sum(surprise(x, *guess).mean() for guess in self._far([m.detach() for m in maps]))
        return {"loss": loss + far - PREFERENCE * PACE * self.level.mean(), "near_loss": loss.detach()}

    def _features(self, x: Tensor) -> list[Tensor]:
        """Maps of the branches, each at a point of what lies up to it, itself included, as the branch runs."""
        return [branch(_turned(x, way)) for way, branch in enumerate(self.branches)]

    def _near(self, maps: list[Tensor]) -> Guess:
        blind = torch.cat([_blind(m, way, 1) for way, m in enumerate(maps)], dim=1)
        return _guess(self.near(blind), FIRST_VARIANCE)

    def _far(self, maps: list[Tensor]) -> list[Guess]:
        blind = [_blind(m, way, FAR[self.dims]) for way, m in enumerate(maps)]
        return [_guess(head(torch.cat(blind[2 * a : 2 * a + 2], dim=1))) for a, head in enumerate(self.far)]


def posterior(x: Tensor, guess: Guess, sigma: Tensor) -> Tensor:
    """Mean of the clean value under N(mu, s^2) and an observation x of it with noise N(0, sigma^2)."""
    noise = sigma.square()
    return (guess.mu * noise + x * guess.variance) / (noise + guess.variance)


def surprise(x: Tensor, mu: Tensor, variance: Tensor) -> Tensor:
    """Of each sample the mean of -log N(x; mu, variance) + log(2 pi) / 2, (B, ...) -> (B,)."""
    return ((x - mu).square() / variance + variance.log()).flatten(1).mean(1) / 2


def surest_error(x: Tensor, guess: Guess, share: float) -> float:
    """Root mean square of x - mu at this share of the points, where the variance told is smallest."""
    few = max(1, round(share * x.numel()))
    surest = guess.variance.flatten().topk(few, largest=False).indices
    return float((x - guess.mu).flatten()[surest].double().square().mean().sqrt())


def _guess(out: Tensor, first: float = 0.0) -> Guess:
    mu, log_variance = wide(out).chunk(2, dim=1)
    return Guess(mu, (log_variance + first).clamp(max=20).exp() + FLOOR)


def _turned(x: Tensor, way: int) -> Tensor:
    """x such that the branch of this way runs along its first axis of points; `_turned_back` undoes it."""
    x = x.transpose(2, 3) if way >= 2 else x
    x = x.flip(2) if way % 2 else x
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def _blind(maps: Tensor, way: int, points: int) -> Tensor:
    """Maps of a branch in the order of its input, each point with what lies at least so many points away."""
    points = min(points, maps.shape[2])
    maps = _before(maps, points)[:, :, : maps.shape[2]]
    maps = maps.flip(2) if way % 2 else maps
    return maps.transpose(2, 3) if way >= 2 else maps


def _before(x: Tensor, points: int, beside: int = 0) -> Tensor:
    """x with zeros before it along its first axis of points, and on both sides along the other."""
    return pad(x, (points, 0) if x.dim() == 3 else (beside, beside, points, 0))


class _Layer(nn.Module):
    """A convolution that sees no later point along the first axis."""

    def __init__(self, dims: int, c_in: int, c_out: int, kernel_size: int, activation: str):
        super().__init__()
        norm = nn.BatchNorm1d if dims == 1 else nn.BatchNorm2d
        inner = conv(dims, c_in, c_out, (kernel_size,) * dims, bias=False)
        self.body = Stack(inner, norm(c_out, eps=1e-3), ACTIVATIONS[activation]())
        self.reach = kernel_size - 1, kernel_size // 2

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(_before(x, *self.reach))
        return out


class _Branch(nn.Module):
    """An encoder-decoder with skips, (B, C, ...) -> (B, width, ...), of which no point sees a later one."""

    def __init__(self, dims: int, channels: int, width: int, levels: int, kernel_size: int, activation: str):
        super().__init__()

        def layer(c_in: int) -> _Layer:
            return _Layer(dims, c_in, width, kernel_size, activation)

        self.first = layer(channels)
        self.down = nn.ModuleList(layer(width) for _ in range(levels + 1))
        self.joined = nn.ModuleList(layer(2 * width) for _ in range(levels))
        self.up = nn.ModuleList(layer(width) for _ in range(levels))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        maps: list[Tensor] = []
        for down in self.down:
            x = down(x if not maps else _halved(x))
            maps.append(x)
        for skip, joined, up in reversed(list(zip(maps[:-1], self.joined, self.up, strict=True))):
            x = interpolate(x, scale_factor=2, mode="nearest")[:, :, : skip.shape[2]]
            x = up(joined(torch.cat([x[..., : skip.shape[-1]], skip], dim=1)))
        return x


def _halved(x: Tensor) -> Tensor:
    """Largest values of pairs of points, the pairs one earlier along the first axis: 2i sees 2i - 1, and not 2i + 1."""
    earlier = _before(x, 1)[:, :, : x.shape[2]]
    return max_pool1d(earlier, 2, ceil_mode=True) if x.dim() == 3 else max_pool2d(earlier, 2, ceil_mode=True)


def _head(dims: int, c_in: int, hidden: int, c_out: int, activation: str) -> Stack:
    steps = [conv(dims, c_in, hidden, 1), ACTIVATIONS[activation](), conv(dims, hidden, hidden, 1)]
    return Stack(*steps, ACTIVATIONS[activation](), conv(dims, hidden, c_out, 1))
