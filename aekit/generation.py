"""New samples: latents drawn from a prior or a fitted mixture, given, or on a path, and what they decode to."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from aekit.baseline import fit_pca
from aekit.batches import undo
from aekit.errors import AekitError, UsageError
from aekit.inference import Run, as_computed, forward, latent_width
from aekit.records import Array
from aekit.trained import Mixture, TrainedModel
from aekit.training import precision_context

Prior = Literal["model", "mixture"]
PARALLEL = 1e-6  # sine of an angle below which vectors count as parallel
DRAWN = 2048  # samples whose directions are looked for
DRAWN_VALUES = 1 << 26  # in them, at most
REACH = 3.0  # standard deviations to either side on the way along a direction


class Draw(NamedTuple):
    """Latents and, where they are known, their classes."""

    z: Tensor  # (N, D)
    labels: NDArray[np.int64] | None  # (N,), places among the model's classes


# --- drawn -----------------------------------------------------------------------------------------------------------


def sample_latents(
    trained: TrainedModel, count: int, seed: int, labels: Sequence[str] = (), prior: Prior | None = None
) -> Draw:
    """`count` latents of the model's prior where it has one, else of the mixture fitted to its training latents.

    With `labels` as many of each of these classes, in their order: of a prior that knows classes, else of the mixture.
    Raises AekitError where the model has no such prior, or no such class.
    """
    generator = torch.Generator().manual_seed(seed)
    wanted = _places(trained, labels, count) if labels else None
    if _by_prior(trained, wanted is not None, prior):
        return _from_prior(trained, count, generator, wanted)
    if trained.mixture is None:
        raise AekitError(f"{trained.source}: this model has no fitted mixture; {_without_mixture(trained)}")
    return _from_mixture(trained, trained.mixture, count, generator, wanted)


def _by_prior(trained: TrainedModel, labelled: bool, prior: Prior | None) -> bool:
    """Whether the model's own prior is to be drawn from; raises UsageError where it is asked for in vain."""
    has_prior = hasattr(trained.network, "prior")
    if prior == "model" and not has_prior:
        raise UsageError(f"--prior model: {trained.source} has none of its own; leave --prior off")
    if not labelled:
        return has_prior if prior is None else prior == "model"
    knows = has_prior and _conditional(trained)
    if prior == "model" and not knows:
        raise UsageError(f"--prior model: that of {trained.source} knows no classes; leave --prior off, or --label")
    return knows if prior is None else prior == "model"


def _conditional(trained: TrainedModel) -> bool:
    return getattr(trained.network, "conditional", False)


def _without_mixture(trained: TrainedModel) -> str:
    if _conditional(trained):
        return "leave --prior off: its own knows the classes"
    if hasattr(trained.network, "prior"):
        return "leave --prior and --label off, or train the recipe acgan for classes"
    return "the recipe vae can generate, or train this one again"


def _places(trained: TrainedModel, labels: Sequence[str], count: int) -> Tensor:
    """For each of `count` samples the place of its class; the classes in order, as evenly as can be."""
    if trained.classes is None:
        raise AekitError(
            f"{trained.source}: was trained without labels, so it knows no classes; train it again on data with "
            "labels (--labels names them), or leave --label off"
        )
    for name in labels:
        if name not in trained.classes:
            known = ", ".join(trained.classes[:20]) + (", ..." if len(trained.classes) > 20 else "")
            raise AekitError(f"{trained.source}: knows no class {name!r}; its classes are {known}")
    which = torch.arange(count) * len(labels) // count
    return torch.tensor([trained.classes.index(name) for name in labels])[which]


def _from_prior(trained: TrainedModel, count: int, generator: Generator, wanted: Tensor | None) -> Draw:
    prior: Callable[..., Tensor] = trained.network.prior  # type: ignore[assignment]
    if not _conditional(trained):
        return Draw(prior(count, generator), None)
    if wanted is None:
        wanted = torch.randint(len(trained.classes or ()), (count,), generator=generator)
    return Draw(_of_each(wanted, lambda k, some: prior(some, generator, label=k)), wanted.numpy())


def _from_mixture(
    trained: TrainedModel, mixture: Mixture, count: int, generator: Generator, wanted: Tensor | None
) -> Draw:
    """Of the components of the wanted classes, or of all."""
    if wanted is None:
        which = torch.multinomial(mixture.weights, count, replacement=True, generator=generator)
        known = mixture.classes is not None and bool((mixture.classes[which] >= 0).all())
        labels = mixture.classes[which].numpy() if mixture.classes is not None and known else None
    else:
        of_class = _components(trained, mixture, wanted)
        which = _of_each(
            wanted, lambda k, some: torch.multinomial(of_class[k], some, replacement=True, generator=generator)
        )
        labels = wanted.numpy()
    means, factors = mixture.means, mixture.factors
    if factors.dim() == 2:  # diagonal
        return Draw(means[which] + factors[which] * torch.randn(means[which].shape, generator=generator), labels)
    z = torch.empty(count, means.shape[1])
    for k in sorted(set(which.tolist())):  # a factor for each sample would be large
        of_k = which == k
        noise = torch.randn(int(of_k.sum()), factors.shape[2], generator=generator)
        z[of_k] = means[k] + noise @ factors[k].T
    return Draw(z, labels)


def _components(trained: TrainedModel, mixture: Mixture, wanted: Tensor) -> dict[int, Tensor]:
    """For each wanted class the weights of its components (K,), 0 for the others."""
    if mixture.classes is None:
        raise AekitError(
            f"{trained.source}: its mixture was fitted without classes; train the model again, or leave --label off"
        )
    found = {}
    for k in sorted(set(wanted.tolist())):
        found[k] = torch.where(mixture.classes == k, mixture.weights, 0)
        if not found[k].any():
            there = sorted(set(mixture.classes.tolist()) - {-1})
            names = ", ".join((trained.classes or ())[place] for place in there[:20])
            raise AekitError(
                f"{trained.source}: too few rows of the class {(trained.classes or ())[k]!r} were trained on; there "
                f"are enough of {names or 'none'}"
            )
    return found


def _of_each(places: Tensor, draw: Callable[[int, int], Tensor]) -> Tensor:
    """What `draw(place, how many)` gives for each place (N,), in their order."""
    counts = places.bincount().tolist()
    drawn = torch.cat([draw(k, some) for k, some in enumerate(counts) if some])
    return drawn[places.argsort(stable=True).argsort()]


# --- on a path -------------------------------------------------------------------------------------------------------


def encode(trained: TrainedModel, samples: Array, run: Run) -> Tensor:
    """Latents (B, D) of samples as stored (B, C, ...); raises AekitError where the model has no encoder."""
    z = forward(trained, samples, run).output.z
    if z is None:
        raise AekitError(
            f"{trained.source}: the model {trained.model} has no encoder, so it takes no rows of --data; without "
            "--data, I and J of --between are samples of one draw"
        )
    return z.float().cpu()


def between(first: Tensor, last: Tensor, steps: int, spherical: bool = False) -> Tensor:
    """Latents (steps, D) on the way from one (D,) to another, both ends included as they are.

    The way is straight, or `spherical`: a great arc whose length changes on the way (Shoemake 1985, slerp), straight
    where the ends are parallel.
    """
    share = torch.linspace(0, 1, steps, dtype=torch.float64)[:, None]
    ends = first.double(), last.double()
    lengths = ends[0].norm(), ends[1].norm()
    cosine = (ends[0] @ ends[1] / (lengths[0] * lengths[1])).clamp(-1, 1)
    angle = cosine.arccos()
    if not spherical or not angle.sin() > PARALLEL:  # NaN where an end is zero
        path = torch.lerp(ends[0][None], ends[1][None], share)
    else:
        path = (((1 - share) * angle).sin() * ends[0] + (share * angle).sin() * ends[1]) / angle.sin()
    return path.float()


def along(
    trained: TrainedModel, direction: int, steps: int, run: Run, draw: Draw, about: Tensor | None = None
) -> Tensor:
    """Latents (steps, D) from -3 to 3 standard deviations about the mean of a draw, or about one latent (D,).

    Direction 0 is that in which samples differ most: the mean latent as it goes with the first principal component of
    the decoded draw. Unlike the latents' own directions it does not depend on their scales. Raises AekitError where
    there is no such direction.
    """
    z = draw.z.double()
    most = min(z.shape[1], len(z) - 1)
    if not 0 <= direction < most:
        raise AekitError(f"{trained.source}: there is no direction {direction}; they run from 0 to {most - 1}")
    x = torch.from_numpy(decode(trained, draw.z.numpy(), run))
    scores = fit_pca(x, direction + 1).transform(x).double()
    if scores.shape[1] <= direction:
        raise AekitError(f"{trained.source}: there is no direction {direction}: its samples differ in fewer ways")
    score = scores[:, direction]
    centre = z.mean(0)
    step = (z - centre).T @ (score - score.mean()) / (len(z) * score.std(correction=0))
    step = step * step[step.abs().argmax()].sign()  # either sign is as good: the same on every machine
    share = torch.linspace(-REACH, REACH, steps, dtype=torch.float64)[:, None]
    return ((centre if about is None else about.double()) + share * step).float()


def draws_for_directions(trained: TrainedModel) -> int:
    """How many samples `along` needs."""
    return max(64, min(DRAWN, DRAWN_VALUES // int(np.prod(trained.sample_shape))))


# --- decoded ---------------------------------------------------------------------------------------------------------


def width(trained: TrainedModel) -> int:
    """D of the latents that the model decodes."""
    if hasattr(trained.network, "prior"):
        z: Tensor = trained.network.prior(1, torch.Generator())  # type: ignore[operator]
        return z.shape[1]
    return latent_width(trained)


@torch.inference_mode()
def decode(trained: TrainedModel, latents: NDArray[Any], run: Run) -> NDArray[np.float32]:
    """Latents (K, D) as samples (K, C, ...) in the units of the training data."""
    parts = []
    for start in range(0, len(latents), run.batch_size):
        z = torch.from_numpy(latents[start : start + run.batch_size]).to(run.device)
        z = as_computed(z, run.precision)
        with precision_context(run.precision, run.device):
            x_hat = trained.network.decode(z).float()  # type: ignore[operator]
        parts.append(undo(x_hat, *trained.normalisation.constants(x_hat)).float().cpu().numpy())
    return np.concatenate(parts)
