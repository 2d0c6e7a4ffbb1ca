"""Unknown values of rows filled in by what a model knows of such rows; known values stay as they are.

A network that fills by itself does so. Of one that decodes latents the most probable latent given the known values is
sought: from the best of many drawn ones, by gradient, under the mixture fitted to its training latents. For any other
network the unknown values are replaced by the reconstruction's again and again (Rezende, Mohamed & Wierstra 2014,
arXiv:1401.4082, appendix F). On squares of 10 x 10 hidden in MNIST the search by `conv` leaves half the squared error
of that, and of PCA's conditional mean.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from fractions import Fraction
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aekit.batches import CHUNK_BYTES, as_tensor, check_finite, undo
from aekit.errors import AekitError
from aekit.generation import sample_latents
from aekit.inference import Progress, Run, Seen, check_fits
from aekit.records import Array, Record
from aekit.trained import Mixture, TrainedModel
from aekit.training import precision_context
from aekit.windows import Spot, Windows, float_for, ratio

ROUNDS = 20  # of reconstructions
PCA_ROUNDS = 10  # PCA's grow worse with more
STEPS, PACE = 50, 0.1  # of the search; its first step in standard deviations of the mixture's means
STARTS, START_VALUES = 1000, 1 << 25  # drawn latents to start from, at most, and values in them
AT_ONCE = 256  # samples
# of a latent's log density beside squared errors over the variance that a reconstruction leaves: neighbours err alike,
# so that they count for fewer than they are
WEIGHT = 10.0

Known = Callable[[Tensor, Tensor], Tensor]  # samples (B, C, ...) and where they are unknown -> filled


class Filled(NamedTuple):
    """Rows of a record from `start` on."""

    start: int
    stored: Array  # (B, *item), as read
    unknown: NDArray[np.bool_]  # (B, *item)
    filled: Array  # (B, *item), floats: what the model makes of all values
    pca: Array | None  # what PCA does


def fill(
    trained: TrainedModel,
    record: Record,
    unknown: Callable[[int, Array], NDArray[np.bool_]],
    run: Run,
    seed: int,
    seen: Seen,
    progress: Progress,
    with_pca: bool = False,
) -> Iterator[Filled]:
    """The record's rows a chunk at a time; `unknown(start, rows)` says which of their values (B, *item) to fill in.

    What stands at unknown values is not looked at, be it NaN. Long rows are cut into windows that overlap.
    """
    check_fits(trained, record, as_signal=True)
    if ratio(trained.sampling_rate, record.sampling_rate) != 1:
        raise AekitError(
            f"{record.source}: sampling rate is {record.sampling_rate:g} Hz, the model expects "
            f"{trained.sampling_rate:g} Hz; resample the file, whose gaps would not survive it"
        )
    each = getattr(trained.network, "each_channel", False)
    windows = Windows.over(record.sample_shape, trained.sample_shape, each, True, Fraction(1))
    ways = [_way(trained, run, seed)] + ([_by_pca(trained, run)] if with_pca and trained.pca is not None else [])
    size = record.values_per_row * max(record.dtype.itemsize, 4)
    step = max(1, CHUNK_BYTES // max(1, size, windows.row_bytes(record.sample_shape[0])))
    for start in range(0, len(record), step):
        stored = np.array(record.read(start, min(start + step, len(record))))
        mask = unknown(start, stored)
        samples, mask_of = _started(trained, record, stored, mask), windows.samples(record.to_samples(mask))
        check_finite(samples, start, record)
        seen.add(samples)
        given = windows.samples(samples)
        laid = windows.overlaid(_batches(trained, given, mask_of, windows, ways, run), given.shape, float_for(samples))
        rows = [record.from_samples(windows.rows(part, samples.shape[-1])) for part in laid]
        yield Filled(start, stored, mask, rows[0], rows[1] if len(rows) > 1 else None)
        progress(start + len(stored))


def _started(trained: TrainedModel, record: Record, stored: Array, mask: NDArray[np.bool_]) -> NDArray[Any]:
    """Samples (B, C, ...) as floats, unknown values at the mean of the known ones of their channel."""
    samples = record.to_samples(stored).astype(float_for(stored))
    unknown = record.to_samples(mask).astype(np.bool_, copy=False)
    axes = tuple(range(2, samples.ndim))
    known = (~unknown).sum(axis=axes, keepdims=True)
    samples[unknown] = 0
    middle = (trained.normalisation.low + trained.normalisation.high) / 2
    mean = np.where(known > 0, samples.sum(axis=axes, keepdims=True) / np.maximum(known, 1), middle)
    return np.where(unknown, mean.astype(samples.dtype), samples)


def _batches(
    trained: TrainedModel,
    samples: NDArray[Any],
    unknown: Array,
    windows: Windows,
    ways: list[Known],
    run: Run,
) -> Iterator[tuple[list[Spot], list[NDArray[Any]]]]:
    spots: Iterator[Spot] = ((row, *place) for row in range(len(samples)) for place in windows.places)
    while some := list(islice(spots, min(run.batch_size, AT_ONCE))):
        raw = as_tensor(np.stack([samples[spot] for spot in some])).to(run.device)
        mask = torch.from_numpy(np.stack([unknown[spot] for spot in some])).to(run.device)
        x, offset, scale = trained.normalisation.apply(raw)
        yield some, [undo(way(x, mask), offset, scale).cpu().numpy() for way in ways]


# --- ways ------------------------------------------------------------------------------------------------------------


def _way(trained: TrainedModel, run: Run, seed: int) -> Known:
    network = trained.network
    if hasattr(network, "fill"):

        @torch.inference_mode()
        def by_itself(x: Tensor, unknown: Tensor) -> Tensor:
            with precision_context(run.precision, run.device):
                filled: Tensor = network.fill(x, unknown)  # type: ignore[operator]
            return filled.float()

        return by_itself
    if hasattr(network, "decode") and trained.mixture is not None:
        return _Search(trained, trained.mixture, run, seed)

    def reconstruct(x: Tensor) -> Tensor:
        with precision_context(run.precision, run.device):
            x_hat: Tensor = network(x).x_hat
        return x_hat.float()

    return lambda x, unknown: repeated(reconstruct, x, unknown, ROUNDS)


def _by_pca(trained: TrainedModel, run: Run) -> Known:
    assert trained.pca is not None
    pca = trained.pca.to(run.device)

    def way(x: Tensor, unknown: Tensor) -> Tensor:
        mean = pca.mean.view(1, *x.shape[1:])
        return repeated(pca.reconstruct, torch.where(unknown, mean, x), unknown, PCA_ROUNDS)

    return way


@torch.inference_mode()
def repeated(reconstruct: Callable[[Tensor], Tensor], x: Tensor, unknown: Tensor, rounds: int) -> Tensor:
    """Samples x (B, C, ...) whose unknown values are replaced by their reconstruction's so many times."""
    for _ in range(rounds):
        x = torch.where(unknown, reconstruct(x), x)
    return x


class _Search:
    """The decoded latent z that minimises sum of squared errors of known values / variance - 10 log p(z)."""

    def __init__(self, trained: TrainedModel, mixture: Mixture, run: Run, seed: int):
        self.network, self.run = trained.network, run
        self.density = _Density(mixture, run.device)
        self.pace = PACE * max(float(mixture.means.std()), float(mixture.factors.std()), 1e-6)
        self.variance = max(1e-6, float(trained.figures.get("val_error") or 0.01))
        count = max(16, min(STARTS, START_VALUES // math.prod(trained.sample_shape)))
        self.z = sample_latents(trained, count, seed, (), "mixture").z.to(run.device)
        with torch.inference_mode():
            self.x = torch.cat([self._decode(z) for z in torch.split(self.z, AT_ONCE)]).flatten(1)
        recurrent = any(isinstance(module, nn.RNNBase) for module in self.network.modules())
        self.differentiable = torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()

    def __call__(self, x: Tensor, unknown: Tensor) -> Tensor:
        known = (~unknown).float()
        weights = known.flatten(1)
        goal = weights * x.flatten(1)
        distance = weights @ self.x.square().T - 2 * goal @ self.x.T  # and what is the same for all starts
        z = self.z[distance.argmin(1)].clone()
        first, second = torch.zeros_like(z), torch.zeros_like(z)
        for step in range(1, STEPS + 1):  # Adam, of latents alone
            (slope,) = torch.autograd.grad(self._loss(z.requires_grad_(), x, known), z)
            z = z.detach()
            first.lerp_(slope, 0.1)
            second.lerp_(slope.square(), 0.001)
            z -= self.pace * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        with torch.inference_mode():
            return torch.where(unknown, self._decode(z), x)

    def _loss(self, z: Tensor, x: Tensor, known: Tensor) -> Tensor:
        error = ((self._decode(z) - x) * known).square().sum()
        return error / self.variance - WEIGHT * self.density(z).sum()

    def _decode(self, z: Tensor) -> Tensor:
        with precision_context(self.run.precision, self.run.device):
            x_hat: Tensor = self.network.decode(z)  # type: ignore[operator]
        return x_hat.float()


class _Density:
    """The log density of latents (B, D) under a mixture, but for a constant: (B,)."""

    def __init__(self, mixture: Mixture, device: torch.device):
        self.means, factors = mixture.means.to(device), mixture.factors.to(device)
        self.full = factors.dim() == 3
        diagonal = factors.diagonal(dim1=1, dim2=2) if self.full else factors
        self.inverse = torch.linalg.inv(factors) if self.full else 1 / factors
        self.weights = mixture.weights.to(device).log() - diagonal.log().sum(1)

    def __call__(self, z: Tensor) -> Tensor:
        away = z[:, None] - self.means  # (B, K, D)
        away = torch.einsum("kij,bkj->bki", self.inverse, away) if self.full else away * self.inverse
        return torch.logsumexp(self.weights - 0.5 * away.square().sum(2), dim=1)
