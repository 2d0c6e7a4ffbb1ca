"""Records -> normalised batches, and the way back to the file's units.

Normalisation is chosen from the data, stored in the model and undone on the way out. Images become 0..1; series and
tables become units of their standard deviation, but for columns of nothing but 0 and 1, words among them, in which
rare values would outweigh all else. Series whose rows differ in size by an order of magnitude carry a scale each, since
one scale would leave most of them invisible; a recipe may ask for that too.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aekit.errors import AekitError
from aekit.records import Array, Batch, Kind, Record

CHUNK_BYTES = 32 << 20  # what a verb reads at a time
LARGEST_VALUE = 1e100  # whose square is still a number
FLAG = 2**0.5  # scale of a column of 0 and 1: rows of different words then lie a standard deviation apart
SPREAD = 10.0  # rows whose 90th and 10th percentile of size differ by this factor carry a scale each


@dataclass(frozen=True)
class Normalisation:
    """value in the file = x * scale + offset; `offset` and `scale` hold one number, one per channel or one per column.

    kind "range" maps low..high to 0..1, "standard" divides by the training data's standard deviation, "sample" by each
    sample's own (`scale` then holds the training data's, in which errors are told). `low` and `high` were seen.
    """

    kind: Literal["range", "standard", "sample"]
    offset: tuple[float, ...]
    scale: tuple[float, ...]
    low: float
    high: float
    per: Literal["all", "channel", "column"] = "all"

    @property
    def output(self) -> str:
        """The output activation that suits: a sigmoid never meets data outside 0..1."""
        return "sigmoid" if self.kind == "range" else "none"

    def describe(self) -> str:
        """One line for the user."""
        if self.kind == "range":
            return f"values {self.offset[0]:g} to {self.offset[0] + self.scale[0]:g} become 0 to 1"
        per = {"all": "", "channel": " of each channel", "column": " of each column"}[self.per]
        if self.kind == "standard":
            flags = (
                ", words and columns of 0 and 1 of a fixed one" if self.per == "column" and FLAG in self.scale else ""
            )
            return f"values become multiples of the standard deviation{per}{flags}, mean taken off"
        return "each row is divided by its own standard deviation, mean taken off"

    def apply(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Samples as stored (B, C, ...) -> normalised float32, and the offset and scale to undo it (see `undo`)."""
        if self.kind == "sample":
            wide = raw.double() if raw.dtype in _WIDE else raw.float()
            offset = wide.mean(dim=tuple(range(2, raw.dim())), keepdim=True)
            scale = (wide - offset).flatten(1).std(dim=1, correction=0).view(-1, *[1] * (raw.dim() - 1))
            scale = torch.where(scale > 0, scale, torch.ones_like(scale))
            return ((wide - offset) / scale).float(), offset, scale
        offset, scale = self.constants(raw)
        x = raw.to(offset.dtype)
        if any(self.offset):
            x = x - offset
        return (x * (1 / scale)).float(), offset, scale

    def constants(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """`offset` and `scale` beside samples (B, C, ...), on their device, in float64 where float32 is not exact."""
        dtype = torch.float64 if raw.dtype in _WIDE else torch.float32
        shape = (1, -1, *[1] * (raw.dim() - 2)) if self.per != "column" else (1, *raw.shape[1:])
        return _tensor(self.offset, dtype, shape, raw.device), _tensor(self.scale, dtype, shape, raw.device)

    @property
    def unit(self) -> float | None:
        """The training data's standard deviation where each sample has its own scale; else errors need no factor."""
        return self.scale[0] if self.kind == "sample" else None


_WIDE = (torch.float64, torch.int32, torch.int64, torch.uint32, torch.uint64)  # not exact in float32


@cache  # numbers that are sent anew for each batch make a GPU wait; a CUDA graph reads them where they are
def _tensor(values: tuple[float, ...], dtype: torch.dtype, shape: tuple[int, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device).view(shape)


def undo(x: Tensor, offset: Tensor, scale: Tensor) -> Tensor:
    """Normalised samples (B, C, ...) in the file's units."""
    return x.to(offset.dtype) * scale + offset


@dataclass(frozen=True)
class Survey:
    """What a normalisation is chosen from, of `rows` samples."""

    rows: int
    low: float
    high: float
    too_large: int | None  # the first row of a value that cannot be squared
    mean: NDArray[np.float64]  # of each channel, of a table of each column, of images none
    variance: NDArray[np.float64]
    flags: NDArray[np.bool_]  # a table's columns of nothing but 0 and 1


def survey(raw: Array, kind: Kind, first: int = 0) -> Survey:
    """Of samples as stored (N, C, ...), the first of which is row `first`."""
    low, high = float(raw.min()), float(raw.max())
    mean, variance, flags = np.zeros((3, 0))
    too_large = None
    if max(abs(low), abs(high)) > LARGEST_VALUE:
        too_large = first + int(np.abs(raw.reshape(len(raw), -1)).max(axis=1).argmax())
    elif kind != "image":
        wide = raw.astype(np.float64, copy=False)
        axes = 0 if kind == "table" else (0, *range(2, wide.ndim))
        mean, variance = wide.mean(axis=axes).ravel(), wide.var(axis=axes).ravel()
        if kind == "table":
            flags = ((wide == 0) | (wide == 1)).all(axis=0).ravel()
    return Survey(len(raw), low, high, too_large, mean, variance, flags.astype(np.bool_))


def surveyed(parts: Sequence[Survey]) -> Survey:
    """All of the parts together (Chan, Golub & LeVeque 1983, eq. 1.5)."""
    rows = sum(part.rows for part in parts)
    low, high = min(part.low for part in parts), max(part.high for part in parts)
    too_large = next((part.too_large for part in parts if part.too_large is not None), None)
    if too_large is not None:
        return replace(parts[0], rows=rows, low=low, high=high, too_large=too_large)
    mean = sum(part.rows * part.mean for part in parts) / rows
    variance = sum(part.rows * (part.variance + (part.mean - mean) ** 2) for part in parts) / rows
    flags = np.all([part.flags for part in parts], axis=0)
    return Survey(rows, low, high, None, np.asarray(mean), np.asarray(variance), flags)


def choose_normalisation(
    raw: Array, kind: Kind, source: str, per_sample: bool | None = None, whole: Survey | None = None
) -> Normalisation:
    """From samples as stored (N, C, ...), by their kind, range, sign and spread.

    `per_sample` scales each series alone, or no series; else those whose rows differ much in size. `whole` is the
    survey of all samples where `raw` is but some of them.

    Raises AekitError where all values are equal: there is nothing to learn.
    """
    whole = survey(raw, kind) if whole is None else whole
    low, high = whole.low, whole.high
    if low == high:
        raise AekitError(f"{source}: every value is {low:g}; constant data holds nothing to learn")
    if kind == "image":
        if raw.dtype == np.uint8 and high > 1:
            return Normalisation("range", (0.0,), (255.0,), low, high)
        if low >= 0:
            return Normalisation("range", (0.0,), (1.0 if high <= 1 else high,), low, high)
        return Normalisation("range", (low,), (high - low,), low, high)
    if whole.too_large is not None:
        size = max(abs(low), abs(high))
        raise AekitError(f"{source}: row {whole.too_large} holds values as large as {size:g}; mend or remove it")
    scale = np.sqrt(whole.variance)
    if kind == "table":
        scale[whole.flags] = FLAG
        scale[scale == 0] = 1.0  # a constant column stays as it is
        return Normalisation("standard", _floats(whole.mean), _floats(scale), low, high, "column")
    wide = raw.astype(np.float64, copy=False)
    sizes = wide.reshape(len(wide), wide.shape[1], -1).std(axis=2).max(axis=1)
    sizes = sizes[sizes > 0]
    uneven = len(sizes) >= 10 and np.quantile(sizes, 0.9) > SPREAD * np.quantile(sizes, 0.1)
    if per_sample or (uneven and per_sample is None):
        spread = float(np.sqrt(whole.variance.mean() + whole.mean.var()))
        return Normalisation("sample", (0.0,), (spread,), low, high)
    scale[scale == 0] = 1.0
    per: Literal["all", "channel"] = "all" if raw.shape[1] == 1 else "channel"
    return Normalisation("standard", _floats(whole.mean), _floats(scale), low, high, per)


def _floats(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


# --- reading ---------------------------------------------------------------------------------------------------------


def chunk_rows(record: Record, row_bytes: int = 0, multiple: int = 1) -> int:
    """Rows of a chunk, see `chunks`: a multiple of `multiple` where that many rows are no larger than a chunk."""
    rows = max(1, CHUNK_BYTES // max(1, row_bytes, record.values_per_row * record.dtype.itemsize))
    return rows // multiple * multiple or rows


def chunks(record: Record, row_bytes: int = 0, multiple: int = 1) -> Iterator[tuple[int, Array]]:
    """(first row, samples as stored (B, C, ...)) through the whole record; raises AekitError at a NaN or infinity.

    The samples are a view of one buffer that the next step overwrites. `row_bytes` is what is made of a row, where that
    is more than the row itself; of `multiple` rows full batches are made.
    """
    step = chunk_rows(record, row_bytes, multiple)
    for start in range(0, len(record), step):
        yield start, read_samples(record, start, min(start + step, len(record)))


def read_samples(record: Record, start: int, stop: int) -> Array:
    """Samples as stored (B, C, ...), see `chunks`."""
    rows = record.read(start, stop)
    check_finite(rows, record.first + start, record)
    return record.to_samples(rows)


def check_finite(rows: Array, start: int, record: Record) -> None:
    """Raises AekitError that names the first NaN or infinity."""
    if rows.dtype.kind != "f" or np.isfinite(rows.sum(dtype=np.float64)):
        return
    bad = ~np.isfinite(rows)
    if not bad.any():
        return
    row, *place = (int(i) for i in np.argwhere(bad)[0])
    what = "NaN" if np.isnan(rows[(row, *place)]) else "infinity"
    where = f"column {record.columns[place[-1]]}" if record.columns else f"value {', '.join(map(str, place))}"
    if record.by_point:
        along = place[-1] if record.channel_axis == 1 else place[0]
        where = f"point {along}" + (f", {where}" if record.columns else "")
    raise AekitError(
        f"{record.source}: row {start + row}, {where} is {what} ({int(bad.any(axis=tuple(range(1, bad.ndim))).sum())} "
        f"such rows in this part); remove those rows or fill in the values, as aekit denoise --mask nan does"
    )


def read_all(record: Record) -> Array:
    """All samples as stored (N, C, ...), contiguous; raises AekitError at a NaN or infinity."""
    parts = [samples.copy() for _, samples in chunks(record, multiple=record.block)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


# --- rows on the device, for training --------------------------------------------------------------------------------


@dataclass
class Rows:
    """All samples of a training, validation or test part, on the device; bytes stay bytes until a batch is made."""

    x: Tensor  # (N, C, ...), as stored where the type is narrow, else normalised
    normalisation: Normalisation | None  # None where x is normalised already
    offset: Tensor  # of a normalised x, broadcasting against (N, C, ...)
    scale: Tensor
    target: Tensor | None = None  # (N, ...), normalised
    picks: Tensor | None = None  # (N, 2), arrivals of P and S
    labels: Tensor | None = None  # (N,), int64, places among the classes
    unit: float | None = None  # what errors are told in, where every sample has an offset and scale of its own

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor) -> Batch:
        """The rows of `index` (B,), normalised."""
        x, offset, scale = self.x.index_select(0, index), self.offset, self.scale
        if self.normalisation is not None:
            x, offset, scale = self.normalisation.apply(x)
        elif self.unit is not None:
            offset, scale = offset.index_select(0, index), scale.index_select(0, index)
        target = x if self.target is None else self.target.index_select(0, index)
        picks = None if self.picks is None else pick_maps(self.picks.index_select(0, index), x.shape[-1])
        label = None if self.labels is None else self.labels.index_select(0, index)
        return Batch(x, target, offset, scale, picks, label, index)

    def error_unit(self, batch: Batch) -> Tensor | float:
        """What turns a normalised squared error into squared units of the training data's standard deviation."""
        return 1.0 if self.unit is None else (batch.scale.flatten(1).mean(1) / self.unit).square()

    def subset(self, index: Tensor) -> "Rows":
        """Some of the rows, in the order of `index`."""
        return self._map(lambda tensor: tensor.index_select(0, index))

    def to(self, device: torch.device) -> "Rows":
        return self._map(lambda tensor: tensor.to(device), constants=True)

    def room(self, count: int) -> "Rows":
        """Rows of the same kind, so many of them, whose values are not set."""
        return self._map(lambda tensor: tensor.new_empty((count, *tensor.shape[1:])))

    def put(self, first: int, rows: "Rows") -> None:
        """Rows of the same kind in place of those from `first` on."""
        for own, new in zip(self._of_rows(), rows._of_rows(), strict=True):
            own[first : first + len(new)] = new

    def front(self, count: int) -> "Rows":
        """So many of the first rows, a view."""
        return self._map(lambda tensor: tensor[:count])

    def _of_rows(self) -> list[Tensor]:
        """The tensors that hold something of each row."""
        constants = [] if self.unit is None else [self.offset, self.scale]
        more = [tensor for tensor in (self.target, self.picks, self.labels) if tensor is not None]
        return [self.x, *constants, *more]

    def _map(self, change: Callable[[Tensor], Tensor], constants: bool = False) -> "Rows":
        """With another tensor in place of each that holds something of each row, and of the constants too."""
        target = None if self.target is None else change(self.target)
        picks = None if self.picks is None else change(self.picks)
        labels = None if self.labels is None else change(self.labels)
        offset, scale = self.offset, self.scale
        if constants or self.unit is not None:
            offset, scale = change(offset), change(scale)
        return replace(self, x=change(self.x), offset=offset, scale=scale, target=target, picks=picks, labels=labels)


PICK_WIDTH = 10.0  # points, standard deviation of the bell that stands for a pick
CODA = 0.4  # of the time from P to S, by which a detection lasts beyond S


def pick_maps(picks: Tensor, points: int) -> Tensor:
    """(B, 2) arrivals of P and S -> (B, 3, T): detection is 1 from P into the coda, P and S are bells around them.

    The definitions are EQTransformer's (Mousavi et al. 2020, doi:10.1038/s41467-020-17591-w).
    """
    t = torch.arange(points, device=picks.device)
    there = picks >= 0
    bells = torch.exp(-0.5 * ((t - picks[..., None]) / PICK_WIDTH).square()) * there[..., None]
    p, s = picks[:, :1], picks[:, 1:]
    end = s + CODA * (s - p)
    detection = (t >= p) & (t <= end) & there.all(dim=1, keepdim=True)
    return torch.cat([detection[:, None].to(bells.dtype), bells], dim=1)


def to_rows(
    raw: Array,
    normalisation: Normalisation,
    target: Array | None = None,
    picks: Array | None = None,
    labels: Array | None = None,
) -> Rows:
    """Samples as stored (N, C, ...), and their clean counterparts in the same units, ready for `fit`.

    `labels` (N,) are whole numbers, the places of the rows' classes.
    """
    x = as_tensor(raw)
    goal = None
    narrow = x.dtype in (torch.uint8, torch.int8) and normalisation.kind != "sample"
    shape = (1, *[1] * (x.dim() - 1))
    offset, scale = torch.zeros(shape), torch.ones(shape)
    kept: Normalisation | None = normalisation
    if not narrow or target is not None:
        x, offset, scale = normalisation.apply(x)
        kept = None
    if target is not None:
        goal = ((as_tensor(target).to(offset.dtype) - offset) / scale).float()
    arrivals = None if picks is None else torch.from_numpy(picks)
    places = None if labels is None else as_tensor(labels).long()
    return Rows(x, kept, offset, scale, goal, arrivals, places, normalisation.unit)


def as_tensor(raw: Array) -> Tensor:
    """A tensor of the same values, in the machine's byte order; types that torch lacks become the next wider one.

    An array that must not be written to is copied, for torch knows no such tensors.
    """
    wider = {np.dtype("bool"): np.uint8, np.dtype("uint16"): np.int32, np.dtype("uint32"): np.int64}
    native = raw.dtype.newbyteorder("=")
    return torch.from_numpy(np.require(raw, wider.get(native, native), ["C", "W"]))
