"""Model + record -> arrays, a chunk at a time: peak memory does not grow with the number of rows.

Rows longer than the model's sample are cut into windows, a batch at a time. What is denoised is put back together by
weighted overlap; scores and latents come one per window. A row is read whole, so one long row sets the memory: that of
the row as it is read and as it is written.
On CUDA a batch is on its way there while the one before is computed and the one before that on its way back.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from math import gcd
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from torch import Tensor

from aekit.batches import CHUNK_BYTES, as_tensor, chunk_rows, chunks, undo
from aekit.errors import AekitError
from aekit.graphs import Graphed
from aekit.layers import wide
from aekit.objectives import ERRORS, error_map, mse
from aekit.records import Array, Output, Record, times
from aekit.trained import TrainedModel
from aekit.training import mix, precision_context
from aekit.transfers import Upload, fetch
from aekit.windows import Place, Spot, Windows, fits, float_for, ratio, window_starts

BATCH = {"cpu": (1 << 20, 1024), "cuda": (1 << 22, 8192)}  # most values and samples where no batch size is asked for
FARTHEST = 10  # times a sampling rate may be that of the model
POINT_HOPS = 8  # windows over a point of a series that is scored by point
DRAWS = 10  # of a network that tells how sure it is by dropout
IN_FLIGHT = {"cpu": 1, "cuda": 2}  # batches that are started before the first of them is waited for
Progress = Callable[[int], None]  # told the rows done
Function = Callable[[Tensor], list[Tensor]]  # samples as stored (B, C, ...), on the device -> what is asked of them


@dataclass(frozen=True)
class Run:
    """Where and how a model runs."""

    device: torch.device
    precision: str  # one of training's, or fp64 for a network in float64: no bit of a row is owed to those beside it
    batch_size: int


@dataclass
class Seen:
    """The values that went by, to warn where the model was not trained on such, and what else the user should know."""

    low: float = float("inf")
    high: float = float("-inf")
    not_recorded: str = ""  # why batches were not replayed as a CUDA graph

    def add(self, samples: Array) -> None:
        self.low, self.high = min(self.low, float(samples.min())), max(self.high, float(samples.max()))

    def warnings(self, trained: TrainedModel) -> list[str]:
        """A line for each thing to tell."""
        outside = self._outside(trained)
        note = f"a batch cannot be recorded as a CUDA graph and runs without ({self.not_recorded})"
        return [line for line in (outside, note if self.not_recorded else None) if line is not None]

    def _outside(self, trained: TrainedModel) -> str | None:
        """One line where values lie well outside the range of training: half its width for series; None else."""
        if trained.kind == "table" or trained.normalisation.kind == "sample":
            return None  # whose columns, or rows, have a range each
        low, high = trained.normalisation.low, trained.normalisation.high
        if trained.normalisation.kind == "range":
            low = min(low, trained.normalisation.offset[0])  # black is no surprise in pictures that were never quite so
        slack = 0.01 if trained.normalisation.kind == "range" else 0.5
        width = high - low
        if self.low >= low - slack * width and self.high <= high + slack * width:
            return None
        return (
            f"values run from {self.low:g} to {self.high:g}, the model was trained on {low:g} to {high:g}: "
            "results may be poor; check the units, or train on data like this"
        )


@dataclass
class Scores:
    """Per row or window: `row` and `start` tell which window of which row (start empty where rows are not cut)."""

    score: NDArray[np.float32]
    pca: NDArray[np.float32]
    row: NDArray[np.int64]
    start: list[tuple[int, ...]]
    seen: Seen


def default_run(trained: TrainedModel, device: str, precision: str | None, batch_size: int | None) -> Run:
    where = pick_device(device)
    values, samples = BATCH[where.type]
    widest = getattr(trained.network, "widening", 1) * int(np.prod(trained.sample_shape))
    fitting = min(samples, max(1, int(values / widest)))
    return Run(where, precision or trained.precision, batch_size or fitting)


def pick_device(name: str) -> torch.device:
    """auto is the GPU where there is one; raises AekitError where cuda is asked for and there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise AekitError(
            "--device cuda: this machine has no usable CUDA device; leave the flag off, or see: aekit doctor"
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def check_fits(trained: TrainedModel, record: Record, as_signal: bool = False) -> None:
    """Raises AekitError where the record's rows are not, and do not hold, samples of the model.

    What is taken `as_signal`, by a model for signals, may have another sampling rate, and be shorter than a sample.
    """
    have, want = record.sample_shape, trained.sample_shape
    as_signal = as_signal and takes_signals(trained) and record.kind == "series"
    if as_signal:
        have = (have[0], max(have[1], want[1]))
    if _each_channel(trained) and len(have) == len(want):
        have, want = (1, *have[1:]), (1, *want[1:])
    if trained.columns and record.columns and record.columns != trained.columns:
        raise AekitError(
            f"{record.source}: its columns are {', '.join(record.columns)}, the model {trained.source} takes "
            f"{', '.join(trained.columns)}; give these columns in this order"
        )
    table = "table" in (record.kind, trained.kind)  # whose columns have a meaning each
    if not fits(have, want) or (table and have != want):
        raise AekitError(
            f"{record.source}: a row has shape {times(have)} (channels first), the model {trained.source} takes "
            f"{times(want)}; name another model with --model, or train one on such data"
        )
    rate = ratio(trained.sampling_rate, record.sampling_rate)
    if as_signal and not 1 / FARTHEST <= rate <= FARTHEST:
        raise AekitError(
            f"{record.source}: sampling rate is {record.sampling_rate:g} Hz, the model expects "
            f"{trained.sampling_rate:g} Hz, too far from it to be resampled; name another model with --model"
        )
    rates = record.sampling_rate, trained.sampling_rate
    if not as_signal and None not in rates and not np.isclose(rates[0] or 0, rates[1] or 0, rtol=1e-3):
        raise AekitError(
            f"{record.source}: sampling rate is {rates[0]:g} Hz, the model expects {rates[1]:g} Hz; resample the file"
        )


def _each_channel(trained: TrainedModel) -> bool:
    """Whether the network takes channels one by one, so that there may be any number of them."""
    return getattr(trained.network, "each_channel", False)


def takes_signals(trained: TrainedModel) -> bool:
    """Whether the model makes of a signal of any length another one: it is told apart from noise at every point."""
    return trained.kind == "series" and getattr(trained.network, "any_length", False)


def _windows(trained: TrainedModel, record: Record, overlap: bool) -> Windows:
    """Where windows lie in each row, one place where a row is a sample; raises AekitError where rows do not fit.

    With `overlap` what is found is laid back over the rows, which are then taken as signals.
    """
    check_fits(trained, record, as_signal=overlap)
    rate = ratio(trained.sampling_rate, record.sampling_rate) if overlap else Fraction(1)
    return Windows.over(record.sample_shape, trained.sample_shape, _each_channel(trained), overlap, rate)


def _full_batches(places: list[Place], run: Run) -> int:
    """The fewest rows whose windows are full batches."""
    return run.batch_size // gcd(run.batch_size, len(places))


def grain(trained: TrainedModel, record: Record, run: Run, as_signal: bool) -> int:
    """The rows at whose multiples parts of a record are to begin to give the bits that the whole record gives.

    A row's last bits depend on the size of its batch, so that batches are the same where parts begin with one.
    `as_signal` tells `denoise` from `score` and `embed`.
    """
    windows = _windows(trained, record, as_signal)
    multiple = _full_batches(windows.places, run)
    rows = chunk_rows(record, windows.row_bytes(record.sample_shape[0]) if as_signal else 0, multiple)
    of_chunk = record.dtype.kind in "iu" and record.dtype.itemsize == 4  # whose values choose a type, see float_for
    return rows if of_chunk else min(rows, multiple)


@dataclass
class Result:
    """One batch through the model."""

    x: Tensor
    output: Output
    offset: Tensor
    scale: Tensor


@torch.inference_mode()
def forward(trained: TrainedModel, samples: Array, run: Run) -> Result:
    """Samples as stored (B, C, ...), at once."""
    return _forward(trained, as_tensor(samples).to(run.device), run)


def _forward(trained: TrainedModel, raw: Tensor, run: Run) -> Result:
    x, offset, scale = trained.normalisation.apply(raw)
    x = as_computed(x, run.precision)
    with precision_context(run.precision, run.device):
        output = trained.network(x)
    return Result(x, output._replace(x_hat=wide(output.x_hat)), offset, scale)


class _Batches:
    """What a function finds in windows of samples, a batch at a time; full batches are one CUDA graph."""

    def __init__(self, function: Function, run: Run, seen: Seen) -> None:
        self.function, self.run, self.seen = function, run, seen
        self.upload = Upload(run.device)
        self.graphed = Graphed(function, run.device)

    def __call__(self, samples: Array, places: list[Place]) -> Iterator[tuple[list[Spot], list[NDArray[Any]]]]:
        """The windows at these places of each sample in turn: where each batch of them lies, and what was found."""
        self.seen.add(samples)
        spots: Iterator[Spot] = ((row, *place) for row in range(len(samples)) for place in places)
        started: deque[tuple[list[Spot], Callable[[], list[NDArray[Any]]]]] = deque()
        done = 0
        while some := list(islice(spots, self.run.batch_size)):
            whole_rows = len(places) == 1
            cut = samples[done : done + len(some)] if whole_rows else np.stack([samples[spot] for spot in some])
            started.append((some, self._start(cut)))
            done += len(some)
            if len(started) == IN_FLIGHT[self.run.device.type]:
                batch, wait = started.popleft()
                yield batch, wait()
        for batch, wait in started:
            yield batch, wait()
        self.seen.not_recorded = self.graphed.failure

    @torch.inference_mode()
    def _start(self, samples: Array) -> Callable[[], list[NDArray[Any]]]:
        raw = self.upload(as_tensor(samples))
        if not raw.is_cuda or len(raw) < self.run.batch_size:
            return fetch(self.function(raw))
        return fetch(self.graphed(raw))


# --- denoise ---------------------------------------------------------------------------------------------------------


def denoise(trained: TrainedModel, record: Record, run: Run, seen: Seen, progress: Progress) -> Iterator[Array]:
    """The record's rows without the noise, (rows, *item) a chunk at a time, float, in the file's units."""
    windows = _windows(trained, record, overlap=True)

    def function(raw: Tensor) -> list[Tensor]:
        result = _forward(trained, raw, run)
        return [undo(result.output.x_hat, result.offset, result.scale)]

    batches = _Batches(function, run, seen)
    rows = _full_batches(windows.places, run)
    for start, samples in chunks(record, windows.row_bytes(record.sample_shape[0]), rows):
        given = windows.samples(samples)
        found = batches(given, windows.places)
        if len(windows.places) == 1:
            parts = [cleaned for _, (cleaned,) in found]
            cleaned = parts[0] if len(parts) == 1 else np.concatenate(parts)
        else:
            (cleaned,) = windows.overlaid(found, given.shape, float_for(samples))
        yield record.from_samples(windows.rows(cleaned, samples.shape[-1]))
        progress(start + len(samples))


# --- score and embed -------------------------------------------------------------------------------------------------


def score(
    trained: TrainedModel,
    record: Record,
    run: Run,
    progress: Progress,
    with_pca: bool = False,
    on_map: Callable[[Array], object] | None = None,
) -> Scores:
    """The reconstruction error of each row, or window, and PCA's beside it if asked for; higher is more anomalous.

    `on_map` is given the model's error of every value, (rows, *item) a chunk at a time; its mean over a row, or window,
    is the score.
    """
    places = _windows(trained, record, overlap=False).places
    count = len(record) * len(places)
    score = np.empty(count, np.float32)  # at once: small arrays kept from among the large ones hold their memory
    pca = trained.pca.to(run.device) if with_pca and trained.pca is not None else None
    pca_score = np.empty(count if pca is not None else 0, np.float32)

    def function(raw: Tensor) -> list[Tensor]:
        x, _, _ = trained.normalisation.apply(raw)
        found = (
            _scores_and_map(trained, x, run.precision) if on_map is not None else [scores_of(trained, x, run.precision)]
        )
        return found if pca is None else [*found, pca.error(x)]

    done = 0
    seen = Seen()
    batches = _Batches(function, run, seen)
    for start, samples in chunks(record, multiple=_full_batches(places, run)):
        maps = np.zeros(samples.shape if on_map is not None else 0, np.float32)
        for spots, (errors, *more) in batches(samples, places):
            part = slice(done, done := done + len(errors))
            score[part] = errors
            if pca is not None:
                pca_score[part] = more.pop()
            if on_map is not None:
                for spot, values in zip(spots, more.pop(), strict=True):
                    maps[spot] = values
        if on_map is not None:
            on_map(record.from_samples(maps))
        progress(start + len(samples))
    row = np.repeat(np.arange(len(record)), len(places))
    if not np.isfinite(score).all():
        worst = row[int(np.argmin(np.isfinite(score)))]
        raise AekitError(
            f"{record.source}: row {record.first + worst} holds values too far from the training data to be scored; "
            "mend or remove it"
        )
    starts = [tuple(along.start for along in place[1:]) for place in places] * len(record) if len(places) > 1 else []
    return Scores(score, pca_score, row, starts, seen)


def error_maps(
    trained: TrainedModel, record: Record, run: Run, rows: NDArray[np.int64]
) -> Iterator[NDArray[np.float32]]:
    """The error of each value of these rows, or windows, numbers in rising order, as samples (K, C, ...); in parts."""
    for samples in samples_at(trained, record, rows):
        for start in range(0, len(samples), run.batch_size):
            with torch.inference_mode():
                raw = as_tensor(samples[start : start + run.batch_size]).to(run.device)
                errors = _scores_and_map(trained, trained.normalisation.apply(raw)[0], run.precision)[1]
            yield errors.cpu().numpy()


def score_points(
    trained: TrainedModel, record: Record, run: Run, progress: Progress, on_map: Callable[[Array], object] | None = None
) -> Scores:
    """A score of each time point of a record whose rows are points, by windows that lie an eighth of one apart.

    It is the geometric mean of two: the lowest score of the windows over a point, for beside an anomaly there is one
    that does not hold it, and the mean of the point's own error in them, smoothed over an eighth of a window. `row` are
    the points.
    """
    check_fits(trained, record)
    points, window = record.sample_shape[-1], trained.sample_shape[-1]
    hop = max(1, window // POINT_HOPS)
    places: list[Place] = [(slice(None), slice(s, s + window)) for s in window_starts(points, window, hop)]
    lowest, over = np.full(points, np.inf), np.zeros(points)
    done = 0
    maps = np.zeros((1, *record.sample_shape), np.float32)
    seen = Seen()

    def function(raw: Tensor) -> list[Tensor]:
        return _scores_and_map(trained, trained.normalisation.apply(raw)[0], run.precision)

    batches = _Batches(function, run, seen)
    for _, samples in chunks(record):
        for spots, (scores, values) in batches(samples, places):
            for (_, _, along), score, value in zip(spots, scores, values, strict=True):
                lowest[along] = np.minimum(lowest[along], score)
                over[along] += 1
                maps[0, :, along] += value
            done += len(spots)
            progress(min(points, done * hop))
    maps /= over.astype(np.float32)
    near = uniform_filter1d(maps[0].mean(axis=0).astype(np.float64), hop)
    if on_map is not None:
        on_map(record.from_samples(maps))
    score = np.sqrt(np.maximum(near, 0) * lowest).astype(np.float32)
    if not np.isfinite(score).all():
        raise AekitError(
            f"{record.source}: point {int(np.argmin(np.isfinite(score)))} lies too far from the training data to be "
            "scored; mend or remove it"
        )
    return Scores(score, np.empty(0, np.float32), np.arange(points), [], seen)


def class_probabilities(
    trained: TrainedModel, record: Record, run: Run, seen: Seen, progress: Progress
) -> NDArray[np.float32]:
    """Of each row, or window, the probability of each class, (rows or windows, K)."""
    places = _windows(trained, record, overlap=False).places
    batches = _Batches(lambda raw: [_forward(trained, raw, run).output.x_hat], run, seen)
    parts = []
    for start, samples in chunks(record):
        parts += [found for _, (found,) in batches(samples, places)]
        progress(start + len(samples))
    return np.concatenate(parts)


def probabilities(
    trained: TrainedModel, record: Record, run: Run, seed: int, seen: Seen
) -> Iterator[tuple[int, NDArray[np.floating], NDArray[np.floating]]]:
    """Of each row: its number, the probabilities (3, T) of detection, P and S, and their spread over the draws.

    Rows longer than the model's sample are cut into windows that overlap, and the windows' weighted means are told.
    """
    windows = _windows(trained, record, overlap=True)

    def function(raw: Tensor) -> list[Tensor]:
        x, _, _ = trained.normalisation.apply(raw)
        with precision_context(run.precision, run.device):
            drawn = trained.network.draws(x, DRAWS).float()  # type: ignore[operator]
        return [drawn.mean(0), drawn.std(0)]

    batches = _Batches(function, run, seen)
    for start, samples in chunks(record, 2 * windows.row_bytes(3)):
        torch.manual_seed(mix(seed, start))  # dropout draws from the global generator
        given = windows.samples(samples)
        mean, spread = windows.overlaid(batches(given, windows.places), (len(given), 3, *windows.size))
        for row in range(len(samples)):
            points = samples.shape[-1]
            yield start + row, windows.curves(mean[row], points), windows.curves(spread[row], points)


def as_computed(x: Tensor, precision: str) -> Tensor:
    """What a network of this precision is given: float32, which autocast narrows, or float64."""
    return x.double() if precision == "fp64" else x


def scores_of(trained: TrainedModel, x: Tensor, precision: str) -> Tensor:
    """The score of each normalised sample (B, C, ...), (B,) in float32."""
    x = as_computed(x, precision)
    with precision_context(precision, x.device):
        if hasattr(trained.network, "score"):  # one of its own
            return trained.network.score(x)[0].float()  # type: ignore[operator,no-any-return]
        if hasattr(trained.network, "error"):  # it knows a way in which the reconstruction is never written
            return trained.network.error(x, x, trained.error).float()  # type: ignore[operator,no-any-return]
        output = trained.network(x)
    target = x if output.target is None else output.target
    return ERRORS[trained.error](wide(output.x_hat), target, output.weight).float()


def _scores_and_map(trained: TrainedModel, x: Tensor, precision: str) -> list[Tensor]:
    """The score of each sample, and the error of each of its values, whose mean it is, or its part in the score."""
    x = as_computed(x, precision)
    with precision_context(precision, x.device):
        if hasattr(trained.network, "score"):
            return [found.float() for found in trained.network.score(x)]  # type: ignore[operator]
        output = trained.network(x)
    target = x if output.target is None else output.target
    error, x_hat = ERRORS[trained.error], wide(output.x_hat)
    in_one_pass = x.is_cuda and hasattr(trained.network, "error")  # with a map or without, the scores are the same
    scores = scores_of(trained, x, precision) if in_one_pass else error(x_hat, target, output.weight).float()
    return [scores, error_map(error, x_hat, target, output.weight)]


def latent_shape(trained: TrainedModel, record: Record) -> tuple[int, int]:
    """Rows (or windows) and D of what `embed` gives."""
    return len(record) * samples_each(trained, record), latent_width(trained)


def samples_each(trained: TrainedModel, record: Record) -> int:
    """Scores, or latents, of a row: one, or one for each of its windows."""
    return len(_windows(trained, record, overlap=False).places)


def latent_width(trained: TrainedModel) -> int:
    """D of the model's latents."""
    weight = next(trained.network.parameters())
    run = Run(weight.device, "fp64" if weight.dtype == torch.float64 else "fp32", 1)
    result = forward(trained, np.zeros((1, *trained.sample_shape), np.float32), run)
    assert result.output.z is not None, "a model that serves embed returns z"
    return result.output.z.shape[1]


def embed(
    trained: TrainedModel,
    record: Record,
    run: Run,
    seen: Seen,
    progress: Progress,
    on_errors: Callable[[list[NDArray[np.float32]]], object] | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Latent vectors (rows or windows, D), a chunk at a time.

    `on_errors` is given the mean squared errors of their reconstructions (B,), in the units of training's figures, and
    beside them PCA's where the model has one, a batch at a time.
    """
    places = _windows(trained, record, overlap=False).places
    pca = trained.pca.to(run.device) if on_errors is not None and trained.pca is not None else None

    def function(raw: Tensor) -> list[Tensor]:
        result = _forward(trained, raw, run)
        assert result.output.z is not None, "a model that serves embed returns z"
        found = [result.output.z.float()]
        if on_errors is not None:
            target = result.x if result.output.target is None else result.output.target
            unit = trained.normalisation.unit
            scale = 1.0 if unit is None else (result.scale.flatten(1).mean(1) / unit).square()
            found.append(mse(result.output.x_hat, target, result.output.weight) * scale)
            found += [] if pca is None else [pca.error(result.x) * scale]
        return found

    batches = _Batches(function, run, seen)
    for start, samples in chunks(record, multiple=_full_batches(places, run)):
        parts = []
        for _, (latents, *errors) in batches(samples, places):
            parts.append(latents)
            if on_errors is not None:
                on_errors(errors)
        yield np.concatenate(parts)
        progress(start + len(samples))


def samples_at(trained: TrainedModel, record: Record, latents: NDArray[np.int64]) -> Iterator[Array]:
    """The samples as stored (K, C, ...) of which `embed` makes these latents, numbers in rising order; in parts."""
    places = _windows(trained, record, overlap=False).places
    row, place = np.divmod(latents, len(places))
    step = max(1, CHUNK_BYTES // max(1, record.values_per_row * record.dtype.itemsize))
    for start in range(0, len(record), step):
        inside = slice(*np.searchsorted(row, (start, start + step)))
        if inside.start < inside.stop:
            first, last = int(row[inside][0]), int(row[inside][-1])
            samples = record.to_samples(record.read(first, last + 1))
            spots = zip(row[inside] - first, place[inside], strict=True)
            yield np.stack([samples[(i, *places[at])] for i, at in spots])
