"""What happens to normalised samples before the model sees them: Batch -> Batch, of the same shapes.

Most change x alone. Those in CHANGES make another clean sample, and so change the target and the picks too.
An amount is in normalised units (of the 0..1 range for images, of the training data's standard deviation else), or a
share, or a probability.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Generator, Tensor

from aekit.batches import as_tensor, read_all
from aekit.errors import AekitError, UsageError
from aekit.formats import open_record
from aekit.records import Batch, times

Step = Callable[[Batch, Generator], Batch]
Corruption = tuple[tuple[Step, ...], ...]  # alternatives, each a chain of steps
SNR = (-10.0, 10.0)  # dB, from which `records` draws where nothing else is asked for
NODES, RESPONSE = 10, 0.7  # of the curve that `response` draws, and its standard deviation in nepers
HELD_OUT = 0.2  # the share of the records, at the end of their file, that training never sees


def gaussian(x: Tensor, amount: float, generator: Generator) -> Tensor:
    """x + amount * N(0, 1)."""
    return x + amount * _normal(x, generator)


def speckle(x: Tensor, amount: float, generator: Generator) -> Tensor:
    """x + amount * x * N(0, 1): noise in proportion to the signal."""
    return x + amount * x * _normal(x, generator)


def dropout(x: Tensor, amount: float, generator: Generator) -> Tensor:
    """Values are set to zero with probability `amount`; the others stay as they are."""
    return x * (_uniform(x.shape, x, generator) >= amount)


def uniform(x: Tensor, amount: float, generator: Generator) -> Tensor:
    """x + U(-amount, amount)."""
    return x + amount * (2 * _uniform(x.shape, x, generator) - 1)


def cosine(x: Tensor, amount: float, generator: Generator) -> Tensor:
    """x + amount * cos(2 pi f t + phase) along the last axis; 1 to T/4 periods and the phase are drawn per sample."""
    per_sample = (len(x), *[1] * (x.dim() - 1))
    periods = 1 + _uniform(per_sample, x, generator) * max(x.shape[-1] / 4 - 1, 0)
    phase = _uniform(per_sample, x, generator)
    t = torch.arange(x.shape[-1], device=x.device, dtype=x.dtype) / x.shape[-1]
    return x + amount * torch.cos(2 * math.pi * (periods * t + phase))


def gaps(x: Tensor, amount: float, generator: Generator) -> Tensor:
    """The share `amount` of the last axis is set to zero in all channels, one stretch at a place drawn per sample.

    What would run over the end goes on at the start, so that every point is hidden equally often.
    """
    points = x.shape[-1]
    start = (_uniform((len(x), *[1] * (x.dim() - 1)), x, generator) * points).floor()
    t = torch.arange(points, device=x.device)
    return x * ((t - start) % points >= round(amount * points))


def shift(batch: Batch, amount: float, generator: Generator) -> Batch:
    """With probability `amount` the sample moves along the last axis, by half of it at most; zeros come after it."""
    x = batch.x
    points = x.shape[-1]
    start = _chosen(x, amount, generator) * ((_per_sample(x, generator) - 0.5) * points).round()
    index = (torch.arange(points, device=x.device) + start).long()
    there = (index >= 0) & (index < points)
    index = index.clamp(0, points - 1)
    return _each(batch, lambda tensor: tensor.gather(-1, index.expand_as(tensor)) * there)


def events(batch: Batch, amount: float, generator: Generator) -> Batch:
    """With probability `amount` another sample of the batch is added, at another place and 1 to 5 times weaker."""
    x = batch.x
    other = shift(_each(batch, lambda tensor: tensor.roll(1, dims=0)), 1.0, generator)
    chosen = _chosen(x, amount, generator)
    size = chosen / (1 + 4 * _per_sample(x, generator))
    picks = None if batch.picks is None or other.picks is None else torch.maximum(batch.picks, chosen * other.picks)
    return batch._replace(x=x + size * other.x, target=batch.target + size * other.target, picks=picks)


def stretch(batch: Batch, amount: float, generator: Generator) -> Batch:
    """With probability `amount` time runs up to 1.65 times faster or slower about the middle; zeros where it ends."""
    x = batch.x
    points = x.shape[-1]
    chosen = _chosen(x, amount, generator)
    pace = torch.exp(chosen * (_per_sample(x, generator) - 0.5))
    at = (torch.arange(points, device=x.device) - points / 2) * pace + points / 2
    there = (at >= 0) & (at <= points - 1)
    first = at.floor().clamp(0, points - 1)
    share, index = (at - first).clamp(0, 1).to(x.dtype), first.long()

    def sampled(tensor: Tensor) -> Tensor:
        a, b = (tensor.gather(-1, i.expand_as(tensor)) for i in (index, (index + 1).clamp_max(points - 1)))
        return torch.lerp(a, b, share.expand_as(tensor)) * there

    return _each(batch, sampled)


def colour(batch: Batch, amount: float, generator: Generator) -> Batch:
    """With probability `amount` the amplitude spectrum along the last axis is multiplied by a power of the frequency.

    The power is drawn from -0.7 to 0.7: other sources, paths and sensors. The sample's power stays.
    """
    power = _chosen(batch.x, amount, generator) * (1.4 * _per_sample(batch.x, generator) - 0.7)
    return _filtered(batch, _frequencies(batch.x) ** power)


def response(batch: Batch, amount: float, generator: Generator) -> Batch:
    """With probability `amount` the amplitude spectrum along the last axis is multiplied by a smooth random curve.

    In the logarithm of the frequency it runs on straight lines between 10 nodes, 6 dB about none: other sites and
    sensors. The sample's power stays.
    """
    x = batch.x
    heights = _uniform((len(x), NODES), x, generator).mul(2).sub(1).mul(3**0.5 * RESPONSE)  # of this standard deviation
    logs = _frequencies(x).log()
    place = logs / logs[0] * (NODES - 1)  # 0 at the Nyquist frequency
    first = place.floor().clamp(max=NODES - 2).long()
    curve = torch.lerp(heights[:, first], heights[:, first + 1], place - first)
    curve = curve.view(len(x), *[1] * (x.dim() - 2), -1) * _chosen(x, amount, generator)
    return _filtered(batch, curve.exp())


def _frequencies(x: Tensor) -> Tensor:
    """Those of the spectrum along the last axis (F,), over the highest; the first stands for the mean and is not 0."""
    bins = x.shape[-1] // 2 + 1
    return torch.arange(1, bins + 1, device=x.device, dtype=x.dtype) / bins


def _filtered(batch: Batch, gain: Tensor) -> Batch:
    """x and target with their amplitude spectra times `gain`, (..., F), at the power that x had."""
    x = batch.x

    def filtered(tensor: Tensor) -> Tensor:
        new: Tensor = torch.fft.irfft(torch.fft.rfft(tensor) * gain, n=tensor.shape[-1])
        return new

    new = filtered(x)
    before, after = (_beside(v.flatten(1).norm(dim=1), x) for v in (x, new))
    size = before / torch.where(after > 0, after, torch.ones_like(after))
    target = new if batch.target is x else filtered(batch.target)
    return batch._replace(x=new * size, target=target * size)


def reverse(batch: Batch, amount: float, generator: Generator) -> Batch:
    """With probability `amount` time runs backwards."""
    chosen = _chosen(batch.x, amount, generator) > 0
    return _each(batch, lambda tensor: torch.where(chosen, tensor.flip(-1), tensor))


def drop(batch: Batch, amount: float, generator: Generator) -> Batch:
    """With probability `amount` each channel is silent; the first of them never all."""
    x = batch.x
    kept = _uniform((*x.shape[:2], *[1] * (x.dim() - 2)), x, generator) >= amount
    first = torch.arange(x.shape[1], device=x.device).view(1, -1, *[1] * (x.dim() - 2)) == 0
    kept = kept | (first & ~kept.any(dim=1, keepdim=True))
    return batch._replace(x=x * kept, target=batch.target * kept)


def silence(batch: Batch, amount: float, generator: Generator) -> Batch:
    """With probability `amount` there is no signal, nor are there picks: of paired data the noise alone is left."""
    chosen = _chosen(batch.x, amount, generator)
    picks = None if batch.picks is None else batch.picks * (1 - chosen)
    return batch._replace(x=batch.x - chosen * batch.target, target=batch.target * (1 - chosen), picks=picks)


@dataclass(eq=False)
class Records:
    """x + a record (C, T) of noise, at a signal-to-noise ratio drawn from `snr`, in dB of power over the whole sample.

    The record is drawn from `noise` (M, C, T' >= T), as is the place where it begins; what is missing at its end comes
    from its front. Its units do not matter.
    """

    noise: Tensor
    snr: tuple[float, float] = SNR
    rows: tuple[int, int | None] = (0, None)  # of the noise, those to draw from
    there: dict[torch.device, Tensor] = field(default_factory=dict)  # the noise on the devices that asked for it

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        x = batch.x
        if x.device not in self.there:
            self.there[x.device] = self.noise.to(x.device)
        noise = self.there[x.device][slice(*self.rows)]
        points = x.shape[-1]
        which = (_uniform((len(x),), x, generator) * len(noise)).long()
        start = (_uniform((len(x), 1), x, generator) * noise.shape[-1]).long()
        at = (start + torch.arange(points, device=x.device)) % noise.shape[-1]  # (B, T)
        n = noise[which[:, None], :, at].transpose(1, 2)  # (B, C, T)
        n = n - n.mean(dim=-1, keepdim=True)
        low, high = self.snr
        decibel = low + (high - low) * _per_sample(x, generator)
        power, noise_power = (v.flatten(1).square().mean(1).view(-1, 1, 1) for v in (x, n))
        power = torch.where(power > 0, power, torch.ones_like(power))  # a silent sample gets noise of unit power
        return batch._replace(x=x + n * (power / noise_power.clamp_min(1e-30)).sqrt() * 10 ** (-decibel / 20))

    def split(self) -> tuple["Records", "Records"]:
        """Those for training and those held out."""
        kept = max(1, round(len(self.noise) * (1 - HELD_OUT)))
        return replace(self, rows=(0, kept)), replace(self, rows=(min(kept, len(self.noise) - 1), None))


NOISES: dict[str, Callable[[Tensor, float, Generator], Tensor]] = {
    "gaussian": gaussian,
    "speckle": speckle,
    "dropout": dropout,
    "uniform": uniform,
    "cosine": cosine,
    "gaps": gaps,
}
CHANGES: dict[str, Callable[[Batch, float, Generator], Batch]] = {
    "shift": shift,
    "events": events,
    "stretch": stretch,
    "colour": colour,
    "response": response,
    "reverse": reverse,
    "drop": drop,
    "silence": silence,
}


@dataclass(frozen=True)
class Noise:
    """One of NOISES with its amount."""

    name: str
    amount: float

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        return batch._replace(x=NOISES[self.name](batch.x, self.amount, generator))


@dataclass(frozen=True)
class Change:
    """One of CHANGES with its amount."""

    name: str
    amount: float

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        return CHANGES[self.name](batch, self.amount, generator)


CORRUPTIONS = (*NOISES, *CHANGES, "records")
SHARES = ("dropout", "gaps", *CHANGES)  # whose amount is a share or a probability


def parse_corruption(
    texts: Sequence[str], sample_shape: tuple[int, ...] | None = None, rate: float | None = None
) -> Corruption:
    """["gaussian:0.2", "speckle:0.2+gaps:0.1"]: one of the two for each sample, the second a chain of both.

    `records:FILE[:NAME][@LOW..HIGH]` reads records for samples of `sample_shape` at the sampling rate `rate`, in Hz; it
    is left out where there is no shape. Raises UsageError for an unknown name or an amount that is not a number in
    range, AekitError for records that do not fit.
    """
    chains = [[_parse_one(part, sample_shape, rate) for part in re.split(r"\+(?=[a-z]+:)", text)] for text in texts]
    return tuple(tuple(step for step in chain if step is not None) for chain in chains)


def _parse_one(text: str, sample_shape: tuple[int, ...] | None, rate: float | None) -> Step | None:
    name, _, amount = text.partition(":")
    if name not in CORRUPTIONS:
        raise UsageError(f"--corrupt {text}: no corruption is called {name!r}; known are {', '.join(CORRUPTIONS)}")
    if name == "records":
        return _records(text, amount, sample_shape, rate)
    try:
        value = float(amount)
    except ValueError:
        value = math.nan
    if not 0 <= value <= (1 if name in SHARES else math.inf) or math.isinf(value):
        wanted = "a share from 0 to 1" if name in SHARES else "a number from 0"
        raise UsageError(f"--corrupt {text}: the amount is {wanted}, as in {name}:0.2")
    return Change(name, value) if name in CHANGES else Noise(name, value)


def _records(text: str, place: str, sample_shape: tuple[int, ...] | None, rate: float | None) -> Records | None:
    """Records of a file that are at least as long as a sample, in its channels; all of theirs for one channel."""
    found = re.fullmatch(r"(.+?)(?:@(-?[\d.]+)\.\.(-?[\d.]+))?", place)
    try:
        snr = (float(found[2]), float(found[3])) if found and found[2] is not None else SNR
    except ValueError:
        snr = (math.nan, math.nan)
    if found is None or not snr[0] <= snr[1]:
        raise UsageError(
            f"--corrupt {text}: a file of noise is needed, and LOW..HIGH in dB, as in records:n.npz@-10..10"
        )
    if sample_shape is None:
        return None
    record = open_record(found[1])
    have = record.sample_shape
    if (
        rate is not None
        and record.sampling_rate is not None
        and not math.isclose(rate, record.sampling_rate, rel_tol=1e-3)
    ):
        raise AekitError(
            f"{found[1]}: sampling rate is {record.sampling_rate:g} Hz, the data's is {rate:g} Hz; resample the file"
        )
    alike = sample_shape[0] == 1 or have[0] in (1, sample_shape[0])
    if len(sample_shape) != 2 or len(have) != 2 or not alike or have[1] < sample_shape[1]:
        raise AekitError(
            f"{found[1]}: a record of noise has shape {times(have)}, the samples {times(sample_shape)}; give noise of "
            "as many channels (or one) and at least as many points"
        )
    noise = as_tensor(read_all(record)).float()
    noise = noise.flatten(0, 1)[:, None] if sample_shape[0] == 1 else noise.expand(-1, sample_shape[0], -1)
    return Records(noise, snr)


def split(corruption: Corruption) -> tuple[Corruption, Corruption]:
    """What training uses, and what evaluation does: other records of noise, and the clean samples as they are."""

    def part(i: int) -> Corruption:
        return tuple(
            tuple(step.split()[i] if isinstance(step, Records) else step for step in chain) for chain in corruption
        )

    judged = tuple(tuple(step for step in chain if not isinstance(step, Change)) for chain in part(1))
    return part(0), judged if any(judged) else ()


def corrupt(batch: Batch, corruption: Corruption, generator: Generator, own_scale: bool = False) -> Batch:
    """The batch with one of the alternatives, drawn per sample, and the target that goes with it.

    Where each sample has a scale of its own (`own_scale`), it becomes that of what the model sees, as in use.
    """
    if not corruption:
        return batch
    results = []
    for chain in corruption:
        results.append(batch)
        for step in chain:
            results[-1] = step(results[-1], generator)
    batch = results[0]
    if len(results) > 1:
        drawn = (_uniform((len(batch.x),), batch.x, generator) * len(results)).long()
        for i, other in enumerate(results[1:], start=1):
            batch = Batch(*(_chosen_from(drawn == i, a, b) for a, b in zip(other, batch, strict=True)))  # type: ignore[arg-type]
    if not own_scale:
        return batch
    x = batch.x
    mean = x.mean(dim=tuple(range(2, x.dim())), keepdim=True)
    std = _beside((x - mean).flatten(1).std(dim=1, correction=0), x)
    std = torch.where(std > 0, std, torch.ones_like(std))
    offset, scale = batch.offset + mean * batch.scale, batch.scale * std
    return batch._replace(x=(x - mean) / std, target=(batch.target - mean) / std, offset=offset, scale=scale)


def _chosen_from(chosen: Tensor, a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is b or a is None or b is None else torch.where(_beside(chosen, a), a, b)


def _each(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """What changes samples, done to x, target and picks."""
    target = change(batch.x) if batch.target is batch.x else change(batch.target)
    picks = None if batch.picks is None else change(batch.picks)
    return batch._replace(x=change(batch.x), target=target, picks=picks)


def _beside(chosen: Tensor, x: Tensor) -> Tensor:
    return chosen.view(-1, *[1] * (x.dim() - 1))


def _per_sample(x: Tensor, generator: Generator) -> Tensor:
    """U(0, 1) for each sample, broadcasting against x."""
    return _uniform((len(x), *[1] * (x.dim() - 1)), x, generator)


def _chosen(x: Tensor, probability: float, generator: Generator) -> Tensor:
    """1 for a sample with the probability, 0 else, broadcasting against x."""
    return (_per_sample(x, generator) < probability).to(x.dtype)


def _normal(x: Tensor, generator: Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def _uniform(shape: Sequence[int], x: Tensor, generator: Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=x.device, dtype=x.dtype)
