"""PCA: what a linear autoencoder of the same latent size reaches. It stands beside the model in every figure."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PCA:
    mean: Tensor  # (N,)
    components: Tensor  # (K, N), orthonormal rows, largest variance first

    def to(self, device: torch.device) -> "PCA":
        return PCA(self.mean.to(device), self.components.to(device))

    def transform(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, K)."""
        return (x.flatten(1) - self.mean) @ self.components.T

    def reconstruct(self, x: Tensor) -> Tensor:
        """(B, ...) -> its projection on the components, in the same shape."""
        return (self.transform(x) @ self.components + self.mean).view_as(x)

    def error(self, x: Tensor, target: Tensor | None = None) -> Tensor:
        """Mean squared error of each sample's projection from the target, x itself by default: (B, ...) -> (B,)."""
        goal = x if target is None else target
        return (self.reconstruct(x) - goal).flatten(1).square().mean(1)


def fit_pca(x: Tensor, components: int) -> PCA:
    """PCA of normalised samples (B, ...): at most `components` of them, and no more than the samples span."""
    flat = x.flatten(1)
    mean = flat.mean(0)
    k = max(1, min(components, flat.shape[1], len(flat) - 1))
    centred = (flat - mean).double() if flat.numel() <= 1 << 26 else flat - mean
    rows, values = centred.shape
    if min(rows, values) > 2000:  # too large for an exact decomposition in reasonable time
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _, sizes, right = torch.svd_lowrank(centred, q=min(k + 10, rows, values), niter=4)
        power, vectors = sizes.square(), right.T
    elif rows < values:
        power, left = torch.linalg.eigh(centred @ centred.T)
        power = power.flip(0)
        vectors = torch.nn.functional.normalize(left.flip(1)[:, :k].T @ centred, dim=1)
    else:
        power, vectors = torch.linalg.eigh(centred.T @ centred)
        power, vectors = power.flip(0), vectors.flip(1).T
    spanned = int((power > power[0] * max(rows, values) * torch.finfo(power.dtype).eps).sum())  # what follows is noise
    return PCA(mean, vectors[: max(1, min(k, spanned))].float().contiguous())
