"""fit(): the loop of every model. It yields after each epoch; the caller logs, saves and stops.

What differs between models is in their phases: each has a name, the parameters that it moves and its loss. A model
without phases has one, the objective. Random numbers are a function of (seed, step), so a resumed run repeats them:
the state that `resume` needs is weights, optimiser and counters. Inside an epoch nothing waits for the device.

Where several processes train (see `ranks`), each makes and corrupts the same batches and goes on with its share of
them; of a stream it has read no other rows, and what stands in their place is dropped again. What is drawn inside a
model (dropout, latents) differs from one process to the next.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from aekit import ranks
from aekit.batches import Rows
from aekit.corruptions import Corruption, corrupt, split
from aekit.graphs import Graphed
from aekit.objectives import ERRORS, Phase, mse, objective, parse_penalties
from aekit.optimisers import Muon
from aekit.records import Output
from aekit.streaming import Stream

PRECISIONS = ("fp32", "tf32", "bf16")
EVALUATION_ROWS = 1000
LARGE = 4096  # values; for smaller matrices Muon's time is not worth its better step
WIDEST = 128  # of a matrix's short side: Muon's time grows with its cube


@dataclass(frozen=True)
class TrainSettings:
    """How to train; a recipe gives the defaults. `steps` beats `epochs`."""

    epochs: int = 20
    steps: int | None = None
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    warmup: float = 0.3  # share of a one-cycle run in which the learning rate rises
    optimiser: Literal["adamw", "muon"] = "adamw"  # muon moves large matrices, adamw the others
    betas: tuple[float, float] = (0.9, 0.999)  # of AdamW
    clip: float | None = None  # norm that gradients are clipped to
    error: str = "mse"
    beta: float = 1.0  # weight of the model's own penalty
    beta_warmup: float = 0.0  # share of the run in which beta rises from 0, evenly
    penalty: tuple[str, ...] = ()  # others, NAME:WEIGHT each
    patience: int | None = None  # epochs without a better validation error before training stops
    precision: str = "fp32"
    seed: int = 0


State = Callable[[], dict[str, Any]]  # all that `resume` needs: tensors and plain values


@dataclass
class Epoch:
    number: int  # from 1
    metrics: dict[str, float]
    is_best: bool
    notes: tuple[str, ...]  # lines for the user
    state: State = field(repr=False)


def mix(*numbers: int) -> int:
    """A seed of 63 bits from several numbers (splitmix64), so that streams do not overlap."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & (2**64 - 1)
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        state ^= state >> 31
    return state >> 1


def steps_in_epoch(rows: int, batch_size: int) -> int:
    return math.ceil(rows / min(batch_size, rows))


def precision_context(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The context in which a model runs: autocast for bf16; tf32 lets matrix products of float32 round their inputs."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.deterministic = True  # resumed runs repeat bits
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def fit(
    model: nn.Module,
    train: Rows | Stream,
    val: Rows,
    settings: TrainSettings,
    corruption: Corruption = (),
    resume: dict[str, Any] | None = None,
    progress: Callable[[int], None] = lambda step: None,
    pause: Callable[[State], None] = lambda state: None,
) -> Iterator[Epoch]:
    """Trains `model` in place on its device and yields an Epoch after each; `val` chooses the best.

    Batches have one shape: the last of an epoch is filled up from the front of its order. A model that does not
    reconstruct (it serves neither denoise nor score) has no validation error, and its last epoch is its best.
    `progress` is told the steps done. `pause` is given the state each time that the buffer of a stream is used up.
    """
    batch = min(settings.batch_size, len(train))
    per_epoch = steps_in_epoch(len(train), settings.batch_size)
    total = settings.steps if settings.steps is not None else settings.epochs * per_epoch
    ranks.start_alike(model)
    if isinstance(train, Stream):
        train.prepare(batch)
    step = _Step(model, train.rows if isinstance(train, Stream) else train, batch, settings, corruption)
    done, stale = 0, 0
    lowest: Tensor | None = None  # validation errors (N,) of the epoch with the lowest mean
    if resume is not None:
        done, stale = resume["step"], resume["stale"]
        lowest = resume["validation"].get("lowest")
        model.load_state_dict(resume["model"])
        step.restore(resume)

    def state() -> dict[str, Any]:
        return {
            "step": done,
            "stale": stale,
            "validation": {} if lowest is None else {"lowest": lowest},
            "model": model.state_dict(),
            **step.state(),
        }

    while done < total and (settings.patience is None or stale < settings.patience):
        started, begun = time.perf_counter(), done
        epoch = done // per_epoch
        number, first, last = epoch + 1, done - epoch * per_epoch, min(per_epoch, total - epoch * per_epoch)
        model.train()
        for index, is_used_up in _batches(train, mix(settings.seed, number), batch, first, last):
            step(index, done, done / total)
            done += 1
            progress(done)
            if is_used_up and done < epoch * per_epoch + last:
                ranks.average_statistics(model)
                step.settle()
                pause(state)

        metrics = step.means()
        trained_seconds = time.perf_counter() - started
        ranks.average_statistics(model)
        model.eval()
        is_best = True
        if is_judged(model):
            errors, units = errors_of(model, val, settings, corruption)
            metrics["val_error"] = float((errors * units).mean())
            is_lowest = lowest is None or float(errors.mean()) < float(lowest.mean())
            lowest, stale = (errors, 0) if lowest is None or is_lowest else (lowest, stale + 1)
            is_best = hasattr(model, "keeps_last") or is_tied(errors, lowest)
        metrics["best"] = float(is_best)
        metrics["seconds"] = time.perf_counter() - started
        metrics["samples_per_second"] = (done - begun) * batch / trained_seconds
        yield Epoch(number, metrics, is_best, step.notes(), state)


Due = tuple[bool, bool]  # whether a phase moves its parameters in a step, and what comes after is run


def _due(phase: Phase, number: int) -> Due:
    moves = number % phase.every == 0
    return moves, moves and (number + 1) % phase.after_every == 0


class _Step:
    """One step of training over fixed tensors, so that on CUDA a graph can be replayed: one for each combination of
    phases that falls due. What is logged is summed on the device and fetched once an epoch."""

    def __init__(self, model: nn.Module, train: Rows, batch: int, settings: TrainSettings, corruption: Corruption):
        self.train, self.settings, self.corruption = train, settings, split(corruption)[0]
        self.device = train.x.device
        self.beta = torch.tensor(settings.beta, device=self.device)
        self.phases = phases_of(model, settings, self.beta)
        self.optimisers = [_optimisers(phase, settings, self.device) for phase in self.phases]
        self.noise = torch.Generator(self.device)
        self.seeds = [seed for name, seed in model.named_buffers() if name.rpartition(".")[2] == "seed"]
        self.sums: dict[str, Tensor] = {}
        self.counts: Counter[str] = Counter()
        self.graphs: dict[tuple[Due, ...], Graphed] = {}
        self.told: set[str] = set()
        self.part = ranks.share(batch)
        self.weight = (self.part.stop - self.part.start) * ranks.count() / batch  # of its mean over that of all shares

    def __call__(self, index: Tensor, number: int, progress: float) -> None:
        """Rows `index` (B,) in step `number`, at a share `progress` of the run."""
        self._seed(mix(self.settings.seed, 1, number))
        warmup = self.settings.beta_warmup
        self.beta.fill_(self.settings.beta * (min(1.0, progress / warmup) if warmup else 1.0))
        due = tuple(_due(phase, number) for phase in self.phases)
        for phase, movers in zip(self.phases, self.optimisers, strict=True):
            for optimiser in movers:
                rate = phase.pace * self.settings.lr * _schedule(self.settings, progress)
                optimiser.param_groups[0]["lr"].fill_(rate)
        if due not in self.graphs:  # what processes exchange is not recorded
            recorded_on = self.device if ranks.count() == 1 else torch.device("cpu")
            self.graphs[due] = Graphed(partial(self._run, due), recorded_on, [self.noise])
        self.graphs[due](index)
        self.counts.update(phase.name for phase, (moves, _) in zip(self.phases, due, strict=True) if moves)

    def _run(self, due: Sequence[Due], index: Tensor) -> None:
        batch = self.train.batch(index)
        batch = corrupt(batch, self.corruption, self.noise, self.train.unit is not None)
        if ranks.count() > 1:
            batch = batch.part(self.part)
        for phase, movers, (moves, settles) in zip(self.phases, self.optimisers, due, strict=True):
            if not moves:
                continue
            for parameter in phase.parameters:
                parameter.grad = None
            with precision_context(self.settings.precision, self.device):
                losses = phase.loss(batch)
            loss = losses["loss"] if ranks.count() == 1 else losses["loss"] * self.weight
            loss.backward(inputs=phase.parameters)
            ranks.average_gradients(phase.parameters)
            if self.settings.clip is not None:
                clip_grad_norm_(phase.parameters, self.settings.clip)
            for optimiser in movers:
                optimiser.step()
            if settles:
                phase.after()
            for name, value in losses.items():
                key = name if len(self.phases) == 1 else f"{phase.name}_{name}"
                if key not in self.sums:
                    self.sums[key] = torch.zeros((), device=self.device)
                self.sums[key] += value.detach() * self.weight

    def means(self) -> dict[str, float]:
        """What the phases logged, a mean over their steps since the last call."""
        found = {}
        for phase in self.phases:
            own = [key for key in self.sums if len(self.phases) == 1 or key.startswith(f"{phase.name}_")]
            for key in own if self.counts[phase.name] else []:
                found[_column(key)] = float(self.sums[key]) / self.counts[phase.name]
                self.sums[key].zero_()
        self.counts.clear()
        return ranks.average_numbers(found)

    def settle(self) -> None:
        """What was logged in an epoch so far becomes that of all processes, so that any of them can go on with it."""
        names = list(self.sums)
        found = ranks.average_numbers({name: float(self.sums[name]) for name in names})
        for name in names:
            self.sums[name].fill_(found[name])

    def state(self) -> dict[str, Any]:
        """The optimisers, and what was logged in an epoch that is not over."""
        optimisers = [_state(optimiser) for optimiser in chain(*self.optimisers)]
        sums = {name: value.clone() for name, value in self.sums.items()}
        return {"optimisers": optimisers, "sums": sums, "counts": dict(self.counts)}

    def restore(self, state: dict[str, Any]) -> None:
        """As it was in `state`."""
        for optimiser, tensors in zip(chain(*self.optimisers), state["optimisers"], strict=True):
            _restore(optimiser, tensors)
        self.sums = {name: value.to(self.device) for name, value in state["sums"].items()}
        self.counts = Counter(state["counts"])

    def notes(self) -> tuple[str, ...]:
        """What the user has not been told yet: that a step is not replayed as a CUDA graph."""
        failures = {graph.failure for graph in self.graphs.values() if graph.failure} - self.told
        self.told |= failures
        return tuple(f"a step cannot be recorded as a CUDA graph and runs without ({why})" for why in sorted(failures))

    def _seed(self, seed: int) -> None:
        self.noise.manual_seed(seed)
        own_seed = mix(seed, ranks.number()) if ranks.number() else seed
        torch.manual_seed(own_seed)  # dropout draws from the global generator
        for own in self.seeds:  # of layers that draw in a kernel
            own.fill_(own_seed)


def phases_of(model: nn.Module, settings: TrainSettings, beta: Tensor) -> list[Phase]:
    """The model's own phases, or the one of every other model: the objective, with a beta that training moves."""
    if hasattr(model, "phases"):
        phases: list[Phase] = model.phases()  # type: ignore[operator]
        return phases
    error, penalties = ERRORS[settings.error], parse_penalties(settings.penalty)
    return [Phase("train", list(model.parameters()), lambda batch: objective(model, batch, error, beta, penalties))]


def reconstructs(model: nn.Module | type[nn.Module]) -> bool:
    verbs = getattr(model, "verbs", ())
    return bool({"denoise", "score"} & set(verbs)) and not hasattr(model, "errors")


def is_judged(model: nn.Module | type[nn.Module]) -> bool:
    """Whether rows held out have an error: that of the reconstruction, or the model's own."""
    return reconstructs(model) or hasattr(model, "errors")


def finds_picks(model: object) -> bool:
    """Whether what the model gives back are probabilities of detection, P and S."""
    return getattr(model, "finds_picks", False)


def classifies(model: object) -> bool:
    """Whether what the model gives back are probabilities of classes."""
    return getattr(model, "classifies", False)


def predicts_hidden(model: object) -> bool:
    """Whether the model is judged by values that it did not see."""
    return hasattr(model, "example_mask")


def is_tied(errors: Tensor, lowest: Tensor) -> bool:
    """Whether errors (N,) are no worse than the lowest (N,) but by chance: one standard error of their difference.

    Of epochs that few rows cannot tell apart the last is kept, whose learning rate was the lowest; the rule is that of
    Breiman et al. 1984, section 3.4.3, with the simplest model read as the steadiest.
    """
    difference = errors - lowest
    return bool(difference.mean() <= difference.std(correction=0) / len(errors) ** 0.5)


def evaluate(
    forward: Callable[[Tensor], Output], rows: Rows, settings: TrainSettings, corruption: Corruption = ()
) -> float:
    """The mean of `errors_of`, in 0..1 units for images, of the training data's standard deviation else."""
    errors, units = errors_of(forward, rows, settings, corruption)
    return float((errors * units).mean())


def errors_of(
    forward: Callable[[Tensor], Output], rows: Rows, settings: TrainSettings, corruption: Corruption = ()
) -> tuple[Tensor, Tensor]:
    """Mean squared error of each normalised sample (N,), float64, corrupted as in training, the same in each call.

    A model that does not reconstruct may have `errors` of its own, of a batch, (B,).
    The other tensor (N,) turns errors into 0..1 units for images, into units of the training data's standard deviation
    else: it differs from 1 where each sample has a scale of its own.
    """
    corruption = split(corruption)[1]
    starts = range(0, len(rows), EVALUATION_ROWS)
    parts = ranks.spread(starts, lambda start: _errors_from(start, forward, rows, settings, corruption))
    errors, units = zip(*parts, strict=True)
    return torch.cat(errors), torch.cat(units)


@torch.no_grad()
def _errors_from(
    start: int, forward: Callable[[Tensor], Output], rows: Rows, settings: TrainSettings, corruption: Corruption
) -> tuple[Tensor, Tensor]:
    """Of the rows of one batch, with the corruption that evaluation uses."""
    device = rows.x.device
    noise = torch.Generator(device)
    noise.manual_seed(mix(settings.seed, 2, start))
    index = torch.arange(start, min(start + EVALUATION_ROWS, len(rows)), device=device)
    batch = corrupt(rows.batch(index), corruption, noise, rows.unit is not None)
    if hasattr(forward, "errors"):
        with precision_context(settings.precision, device):
            errors: Tensor = forward.errors(batch).double()
        return errors.cpu(), torch.ones_like(errors).cpu()
    with precision_context(settings.precision, device):
        output = forward(batch.x)
    target = batch.target if output.target is None else output.target
    errors = mse(output.x_hat.float(), target, output.weight).double()
    return errors.cpu(), (torch.ones_like(errors) * rows.error_unit(batch)).cpu()


def _batches(train: Rows | Stream, seed: int, batch: int, first: int, last: int) -> Iterator[tuple[Tensor, bool]]:
    """Places (B,) of the rows of an epoch's batches from `first` to that before `last`; whether a buffer ends.

    The order is a permutation of the rows, filled up from its own front to whole batches; the same on every device.
    """
    if isinstance(train, Stream):
        yield from train.batches(seed, batch, first, last)
        return
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    filled = torch.cat([order, order[: -len(order) % batch]]).to(train.x.device)
    for index in filled.view(-1, batch)[first:last]:
        yield index, False


def _schedule(settings: TrainSettings, progress: float) -> float:
    """Factor of the learning rate at a share of the run: cosine up from 1/25, cosine down to 0 (Smith & Topin 2019)."""
    if settings.schedule == "constant":
        return 1.0
    if progress < settings.warmup:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * progress / settings.warmup)) / 2
    return (1 + math.cos(math.pi * (progress - settings.warmup) / (1 - settings.warmup))) / 2


def _optimisers(phase: Phase, settings: TrainSettings, device: torch.device) -> list[torch.optim.Optimizer]:
    """AdamW for all parameters, or Muon for the large matrices and AdamW for the others; their rates are tensors."""

    def lr() -> Tensor:
        return torch.tensor(phase.pace * settings.lr, device=device)

    is_cuda = device.type == "cuda"
    large = [settings.optimiser == "muon" and _suits_muon(p) for p in phase.parameters]
    matrices = [p for p, is_large in zip(phase.parameters, large, strict=True) if is_large]
    others = [p for p, is_large in zip(phase.parameters, large, strict=True) if not is_large]
    adamw = torch.optim.AdamW(
        others, lr(), settings.betas, weight_decay=settings.weight_decay, fused=True, capturable=is_cuda
    )
    return [adamw, Muon(matrices, lr(), settings.weight_decay)] if matrices else [adamw]


def _suits_muon(parameter: nn.Parameter) -> bool:
    return parameter.dim() > 1 and parameter.numel() >= LARGE and min(parameter.flatten(1).shape) <= WIDEST


def _state(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Its tensors by "<parameter>.<name>"."""
    state = optimiser.state_dict()["state"]
    return {f"{i}.{name}": value for i, values in state.items() for name, value in values.items()}


def _restore(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for key, value in tensors.items():
        i, name = key.split(".", 1)
        like = parameters[int(i)]
        if value.shape == like.shape:  # fused Adam walks through memory: moments lie as their weights do
            value = torch.empty_like(like).copy_(value)
        state.setdefault(int(i), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def _column(key: str) -> str:
    return "train_loss" if key == "loss" else key
