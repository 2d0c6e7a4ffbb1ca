"""Many small dense autoencoders side by side that learn what most rows have in common, some of them anomalous or not.

Three kinds of members differ in the rows that they learn from:
- "core": the half of the rows that is best reconstructed, first the half next to the median: least trimmed squares
  (Rousseeuw 1984, doi:10.1080/01621459.1984.10477105) for autoencoders; it withstands anomalies up to half of the rows;
- "grown": a dense half of the rows, then all whose error is like that of those rows, as in a forward search (Atkinson
  & Riani 2000); it takes in groups of normal rows that lie apart, and leaves out what lies alone;
- "all": every row.
Each member sees every other row (two members of a kind share them out), so that a row is judged by members that have
not learnt it. Beside them stands the plainest autoencoder, which gives back the median.

How far the logarithm of a kind's error lies above the usual one is told in units of the spread of its usual errors, so
that no kind outvotes the others; the score is the root mean square of these distances over the kinds, smoothed at zero.
Which rows a member learns from, and this score, are our own choice.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from aekit.batches import Rows
from aekit.layers import ACTIVATIONS, wide
from aekit.objectives import Phase, zeros
from aekit.records import Batch, Output

KINDS = ("core", "grown", "all")
SHARED = 2  # members of a kind that share out the rows
ROUND = 80  # steps after which the rows to learn from are chosen anew
DENSE = 0.1  # share of the rows that lie within the distance by which a dense half is found
ANCHORS = 1000  # rows to which distances are taken
BEYOND = 2.5  # spreads above the usual error up to which a row is like those learnt from
USUAL, LOW, BELOW = 0.4, 0.1, 0.16  # quantiles of errors: the usual one; those that tell the spread
MOST_FOR_QUANTILES = 1 << 12
EDGE = 0.02  # from 0 and 1, for a median that a sigmoid is to give back
EVALUATED = 500  # rows at a time


class Ensemble(nn.Module):
    """`rows` is the number of training rows, of which the last error by other members is kept while training."""

    verbs = ("score", "embed")
    keeps_last = True  # an epoch that fits anomalies has the lower error on rows held out

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        hidden: tuple[int, ...] = (64,),
        latent: int = 8,
        activation: str = "gelu",
        restarts: int = 1,
        output: str = "none",
        rows: int = 0,
    ):
        super().__init__()
        self.sample_shape = sample_shape
        self.of_a_kind = restarts * SHARED
        values, members = math.prod(sample_shape), self.of_a_kind * len(KINDS)
        widths = (values, *hidden, latent, *reversed(hidden), values)
        self.middle = len(hidden)
        self.activation, self.output = ACTIVATIONS[activation](), ACTIVATIONS[output]()
        pairs = list(pairwise(widths))
        spread = [torch.rand(members, a, b) * 2 - 1 for a, b in pairs]
        self.weights = nn.ParameterList(w * math.sqrt(3 / w.shape[1]) for w in spread)
        self.biases = nn.ParameterList(torch.zeros(members, 1, b) for _, b in pairs)
        self.median: Tensor
        self.register_buffer("median", torch.zeros(values))
        self.usual: Tensor  # of the median and each kind, log of the usual error and its spread
        self.register_buffer("usual", torch.tensor([[0.0, 1.0]]).repeat(1 + len(KINDS), 1))
        self.last_errors: Tensor  # log, of each kind and training row
        self.register_buffer("last_errors", torch.zeros(len(KINDS), rows))
        self.learnt: Tensor  # whether a kind learns from a training row
        self.register_buffer("learnt", torch.ones(len(KINDS), rows, dtype=torch.bool))

    def members(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstructions (members, B, N) and latents (members, B, D) of samples (B, C, ...)."""
        flat = x.flatten(1)
        layers = list(zip(self.weights, self.biases, strict=True))
        z = self._through(layers[: self.middle + 1], flat.expand(len(self.weights[0]), *flat.shape))
        return self.output(self._through(layers[self.middle + 1 :], z)), z

    def _through(self, layers: list[tuple[Tensor, Tensor]], h: Tensor) -> Tensor:
        """h (members, B, D) through layers, with the activation between them."""
        for i, (weight, bias) in enumerate(layers):
            h = torch.baddbmm(bias.to(h.dtype), self.activation(h) if i else h, weight.to(h.dtype))
        return h

    def encode(self, x: Tensor) -> Tensor:
        """The latents of two members that learn from all rows, (B, 2 * D)."""
        z = self.members(x)[1][-SHARED:]
        return z.transpose(0, 1).flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        """What these two members make of their latents (B, 2 * D), (B, C, ...): the mean of both."""
        layers = [(weight[-SHARED:], bias[-SHARED:]) for weight, bias in zip(self.weights, self.biases, strict=True)]
        h = self._through(layers[self.middle + 1 :], z.view(len(z), SHARED, -1).transpose(0, 1))
        x_hat: Tensor = self.output(h)
        return x_hat.mean(0).view(-1, *self.sample_shape)

    def forward(self, x: Tensor) -> Output:
        x_hat, z = self.members(x)
        mean = x_hat[-self.of_a_kind :].mean(0).view(-1, *self.sample_shape)
        return Output(mean, z[-SHARED:].transpose(0, 1).flatten(1), zeros(x))

    # --- scores ------------------------------------------------------------------------------------------------------

    def kind_errors(self, x: Tensor, share: int | None = None) -> Tensor:
        """Squared error of each value by the median and by each kind, (1 + kinds, B, N); of a share of the members."""
        flat = wide(x.flatten(1))
        errors = (wide(self.members(x)[0]) - flat).square().reshape(len(KINDS), -1, SHARED, *flat.shape)
        errors = errors.mean((1, 2)) if share is None else errors[:, :, share].mean(1)
        return torch.cat([(flat - self.median).square()[None], errors])

    def score(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The score of each sample (B, C, ...), (B,), and what each value has in it, (B, C, ...), whose mean it is."""
        errors = self.kind_errors(x)
        above = self._above(errors.mean(2))  # (1 + kinds, B)
        score = above.square().mean(0).sqrt()
        shares = errors / errors.mean(2, keepdim=True).clamp_min(1e-30)
        weights = above.square() / above.square().sum(0).clamp_min(1e-30)
        return score, (score[:, None] * (weights[..., None] * shares).sum(0)).view(-1, *self.sample_shape)

    @torch.no_grad()
    def agreement(self, rows: Rows) -> float:
        """Spearman's rank correlation of the scores by the two shares of the members, which learn from other rows."""
        parts = torch.split(_values(rows), EVALUATED)
        scores = [
            torch.cat([self._above(self.kind_errors(part, share).mean(2)).square().mean(0) for part in parts])
            for share in range(SHARED)
        ]
        ranks = torch.stack([score.argsort().argsort().float() for score in scores])
        return float(torch.corrcoef(ranks)[0, 1])

    def _above(self, errors: Tensor) -> Tensor:
        usual, spread = wide(self.usual).unbind(1)
        return softplus((_log(errors) - usual[:, None]) / spread[:, None])

    # --- training ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def prepare(self, rows: Rows) -> None:
        """Before the first step: the median, and the half of the rows that each kind begins with."""
        x = _values(rows)
        self.median.copy_(x.median(0).values)
        is_bounded = isinstance(self.output, nn.Sigmoid)
        self.biases[-1].copy_(self.median.clamp(EDGE, 1 - EDGE).logit() if is_bounded else self.median)
        self.weights[-1].mul_(0.1)
        generator = torch.Generator().manual_seed(0)
        anchors = x[torch.randperm(len(x), generator=generator)[:ANCHORS].to(x.device)]
        nearest = min(max(2, int(DENSE * len(anchors))), len(anchors))
        lonely = torch.cat(
            [torch.cdist(part, anchors).kthvalue(nearest, 1).values for part in torch.split(x, EVALUATED)]
        )
        self.last_errors.copy_(torch.stack([_log((x - self.median).square().mean(1)), _log(lonely), zeros(x)]))
        self.learnt[:2] = self.last_errors[:2] <= _quantiles(self.last_errors[:2], 0.5)

    def phases(self) -> list[Phase]:
        """One; without `rows` every kind learns all of them."""
        after = self._choose if self.learnt.numel() else lambda: None
        return [Phase("train", list(self.parameters()), self._loss, after=after, after_every=ROUND)]

    def _loss(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.row is not None, "rows come with their places"
        x_hat, _ = self.members(batch.x)
        errors = (x_hat.float() - batch.target.flatten(1)).square().mean(2)  # (members, B)
        mine = own = _shares(batch.row, self.of_a_kind // SHARED).repeat(len(KINDS), 1)
        if self.learnt.numel():
            mine = own & self.learnt.index_select(1, batch.row).repeat_interleave(self.of_a_kind, 0)
            # of the members that do not learn the row
            others = (errors.detach() * ~own).reshape(len(KINDS), self.of_a_kind, -1).sum(1) * SHARED / self.of_a_kind
            self.last_errors.index_copy_(1, batch.row, _log(others))
        means = (errors * mine).sum(1) / mine.sum(1).clamp_min(1)
        return {"loss": means.sum(), "error": means[-self.of_a_kind :].mean().detach()}

    @torch.no_grad()
    def _choose(self) -> None:
        """The rows to learn from, anew."""
        core, grown = self.last_errors[:1], self.last_errors[1:2]
        median = _quantiles(grown, 0.5)
        known = torch.where(self.learnt[1:2], grown, torch.nan)
        low, usual = _quantiles(known, BELOW), _quantiles(known, 0.5)
        alike = grown <= torch.maximum(usual + BEYOND * (usual - low), median)
        self.learnt.copy_(torch.cat([core <= _quantiles(core, 0.5), alike, torch.ones_like(alike)]))

    @torch.no_grad()
    def settle(self, train: Rows, val: Rows) -> None:
        """After the last step: the usual error of each kind and its spread, over the rows of training."""
        parts = [
            self.kind_errors(part.view(-1, *self.sample_shape)).mean(2)
            for part in torch.split(_values(train), EVALUATED)
        ]
        errors = _log(torch.cat(parts, dim=1))
        usual = _quantiles(errors, USUAL)[:, 0]
        self.usual.copy_(torch.stack([usual, (usual - _quantiles(errors, LOW)[:, 0]).clamp_min(1e-6)], dim=1))


def _values(rows: Rows) -> Tensor:
    """All normalised rows, (rows, N)."""
    index = torch.arange(len(rows), device=rows.x.device)
    return torch.cat([rows.batch(part).x.flatten(1) for part in torch.split(index, EVALUATED)])


def _shares(row: Tensor, restarts: int) -> Tensor:
    """Which members of a kind learn each row, (restarts * SHARED, B): in each restart one of those that share them."""
    turns = [(((row + 7919 * restart) * 2654435761) >> 16) % SHARED for restart in range(restarts)]
    return torch.stack([turn == i for turn in turns for i in range(SHARED)])


def _log(errors: Tensor) -> Tensor:
    return errors.clamp_min(1e-12).log()


def _quantiles(values: Tensor, q: float) -> Tensor:
    """Of each line of (K, rows), (K, 1), NaN left out; of many rows from some, evenly spread."""
    some = values[:, :: max(1, values.shape[1] // MOST_FOR_QUANTILES)]
    return torch.nanquantile(some, q, dim=1, keepdim=True)
