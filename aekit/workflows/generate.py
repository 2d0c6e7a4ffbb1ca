"""generate: new samples from a prior, of one class, from given latents, or on a path through the latents."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from aekit import diagnostics, formats, generation, inference
from aekit.batches import as_tensor, check_finite, read_all
from aekit.diagnostics import Diagnosis
from aekit.errors import AekitError, UsageError
from aekit.files import together, whole
from aekit.formats._columns import Layout
from aekit.formats._registry import Names, ending_of, label_array
from aekit.formats.images import Picture
from aekit.generation import Draw, Prior
from aekit.records import Array, Record, record_of, select, times
from aekit.trained import TrainedModel
from aekit.windows import fits, windows_of
from aekit.workflows import common
from aekit.workflows.common import Clock, Options, Talk

TEXT = (*formats.TEXT, ".arff")
COUNT, STEPS = 64, 10  # where none are asked for
JUDGED = 10_000  # outputs, at most, that figures are of
ENOUGH = 500  # outputs for figures that tell something
MOST_COLUMNS = 16  # of a grid with a class in each row
SHOWN, PAIRS = 64, 12  # samples in a report, and those of them beside real rows


@dataclass(frozen=True)
class Words:
    """What is asked of generate, beside where and how it runs."""

    count: int | None = None
    label: str | None = None
    prior: Prior | None = None
    between: tuple[int, int] | None = None
    along: int | None = None
    about: int | None = None
    steps: int | None = None
    path: Literal["straight", "spherical"] | None = None
    latents: str | None = None
    data: str | None = None

    @property
    def labels(self) -> list[str]:
        return [] if self.label is None else [name.strip() for name in self.label.split(",")]

    @property
    def on_a_path(self) -> bool:
        return self.between is not None or self.along is not None

    def check(self, report: str | None) -> None:
        """Raises UsageError where words exclude each other."""
        ways = {"--between": self.between, "--along": self.along, "--from": self.latents}
        named = [flag for flag, value in ways.items() if value is not None]
        rows_of_data = self.between is not None and self.data is not None
        draws = not (self.latents is not None or rows_of_data)
        wrong = None
        if len(named) > 1:
            wrong = f"{' and '.join(named)} exclude each other: give one of them"
        elif self.count is not None and self.count < 1:
            wrong = "--count is at least 1"
        elif self.steps is not None and (self.steps < 2 or not self.on_a_path):
            wrong = "--steps is at least 2, and goes with --between or --along"
        elif self.path is not None and self.between is None:
            wrong = "--path goes with --between"
        elif self.about is not None and (self.along is None or self.data is None):
            wrong = "--about names a row of --data to start --along from, as in: --along 0 --about 5 --data mnist"
        elif self.along is not None and self.data is not None and self.about is None:
            wrong = "--along with --data needs --about ROW, the row that it goes through"
        elif self.count is not None and not (draws and self.along is None):
            wrong = "--count is of samples that are drawn: leave it off" + (
                ", or say --steps" if self.on_a_path else ""
            )
        elif self.label is not None and not (draws and self.along is None):
            wrong = "--label is of samples that are drawn, alone or at both ends of --between without --data"
        elif self.prior is not None and not draws:
            wrong = "--prior is what samples are drawn from; leave it off"
        elif report is not None and self.on_a_path:
            wrong = "--report is of single samples; leave it off with --between and --along"
        if wrong is not None:
            raise UsageError(wrong)


def generate(
    out: str | None = None, words: Words | None = None, options: Options | None = None, talk: Talk | None = None
) -> dict[str, Any]:
    """Writes samples to `out` (by default samples.png) in the form that its ending names; returns the figures.

    Arrays and text are in the training data's units; png is a grid, a name without an ending a folder of pictures, wav
    all samples one after the other. With `data`, and no path between its rows, also figures beside its training part.
    """
    options, talk, clock, words = options or Options(), talk or Talk(), Clock(), words or Words()
    words.check(options.report)
    out = out or "samples.png"
    path, as_folder = Path(out), _is_folder(out)
    common.check_outputs(options, words.data or "", path)
    if words.latents is not None:
        common.check_outputs(options, words.latents, path)
    record = None
    if words.data is None:
        trained, run = common.load_ready("generate", options, talk)
    else:
        judged = None if words.on_a_path else common.open_part(words.data, "train")
        record = judged or common.open_input(words.data)
        trained, run = common.find_model(words.data, record, "generate", options, talk)
    if as_folder and trained.kind != "image":
        raise AekitError(f"{out}: only images are written as a folder, these are {trained.kind}; name a .npy file")
    if path.suffix.lower() == ".wav" and (trained.kind != "series" or trained.sampling_rate is None):
        raise AekitError(
            f"{out}: sound is of series with a sampling rate, and {trained.source} makes "
            f"{'series without one' if trained.kind == 'series' else trained.kind}; name a .npy file"
        )
    drawn = _latents(trained, run, words, record, options.seed, talk)
    form = _Form.of(path, as_folder, trained, drawn, words, talk)
    real = None if record is None or words.on_a_path else _real(trained, record, talk)
    most = len(drawn.z) if form.at_once else JUDGED if real is not None else SHOWN
    figures: dict[str, Any] = {"count": len(drawn.z), "out": out, "model": trained.source}
    if drawn.labels is not None:
        counts = np.bincount(drawn.labels)
        figures["labels"] = {(trained.classes or ())[k]: int(counts[k]) for k in np.flatnonzero(counts)}
    with together():
        samples = form.write(_decoded(trained, run, drawn, talk), options.force, most)
        found = None if real is None else _judge(trained, samples[:JUDGED], drawn.labels, *real, options, talk)
        if found is not None:
            figures |= found.figures
        if options.report is not None:
            figures["report"] = options.report
            _report(
                trained, samples, _names(trained, drawn), None if real is None else real[0], found, figures, options
            )
    return {**figures, "seconds": clock.seconds}


def _is_folder(out: str) -> bool:
    """Whether a name is that of a folder: one that ends in / or has no ending."""
    if out.endswith("/") and Path(out).suffix:
        raise UsageError(f"-o {out}: a folder's name has no ending")
    return out.endswith("/") or not Path(out).suffix


# --- latents ---------------------------------------------------------------------------------------------------------


def _latents(
    trained: TrainedModel, run: inference.Run, words: Words, record: Record | None, seed: int, talk: Talk
) -> Draw:
    steps = words.steps or STEPS
    if words.latents is not None:
        return _given(trained, words.latents)
    if words.between is not None and record is not None:
        ends = generation.encode(trained, _rows(trained, record, words.between, talk), run)
        return Draw(generation.between(ends[0], ends[1], steps, words.path == "spherical"), None)
    if words.along is not None:
        about = None
        if record is not None and words.about is not None:
            about = generation.encode(trained, _rows(trained, record, (words.about,), talk), run)[0]
        prior = words.prior or (
            "model" if trained.mixture is None else "mixture"
        )  # which lies where training latents do
        drawn = generation.sample_latents(trained, generation.draws_for_directions(trained), seed, (), prior)
        return Draw(generation.along(trained, words.along, steps, run, drawn, about), None)
    drawn = generation.sample_latents(trained, words.count or COUNT, seed, words.labels, words.prior)
    if words.between is None:
        return drawn
    for end in words.between:
        if not 0 <= end < len(drawn.z):
            raise UsageError(f"--between {end}: there are samples 0 to {len(drawn.z) - 1}; draw more with --count")
    first, last = words.between
    return Draw(generation.between(drawn.z[first], drawn.z[last], steps, words.path == "spherical"), None)


def _given(trained: TrainedModel, name: str) -> Draw:
    """Latents out of a file, with the labels that lie beside them."""
    record = formats.open_record(name)
    wanted = generation.width(trained)
    if record.by_point and wanted == 1 and len(record.shape) == 2:  # one column of text
        return Draw(as_tensor(read_all(record)[0].T).float(), None)
    if len(record.shape) != 2 or record.shape[1] != wanted or not len(record):
        raise AekitError(
            f"{record.source}: has shape {times(record.shape)}, the model {trained.source} takes latents of rows x "
            f"{wanted}; `aekit embed` writes such"
        )
    return Draw(as_tensor(read_all(record)[:, 0]).float(), None)


def _rows(trained: TrainedModel, record: Record, rows: tuple[int, ...], talk: Talk) -> Array:
    """Some rows as samples (len(rows), C, ...), checked."""
    found = []
    for row in rows:
        if not 0 <= row < len(record):
            raise AekitError(f"{record.source}: there is no row {row}; rows run from 0 to {len(record) - 1}")
        stored = np.array(record.read(row, row + 1))
        check_finite(stored, row, record)
        found.append(record.to_samples(stored)[0])
    if record.sample_shape != trained.sample_shape:
        raise AekitError(f"{record.source}: rows are longer than the model's samples; cut them first")
    samples = np.stack(found)
    seen = inference.Seen()
    seen.add(samples)
    common.warn(seen, trained, talk)
    return samples


def _decoded(trained: TrainedModel, run: inference.Run, drawn: Draw, talk: Talk) -> Iterator[NDArray[np.float32]]:
    """Samples (n, C, ...), a batch at a time."""
    z = drawn.z.numpy()
    with talk.track("samples", len(z)) as bar:
        for start in range(0, len(z), run.batch_size):
            samples = generation.decode(trained, z[start : start + run.batch_size], run)
            if not np.isfinite(samples).all():
                raise AekitError(
                    f"{trained.source}: a sample is not a number: latents are too far from those of training"
                )
            yield samples
            bar(start + len(samples))


def _names(trained: TrainedModel, drawn: Draw) -> list[str] | None:
    return None if drawn.labels is None else [(trained.classes or ())[k] for k in drawn.labels]


# --- outputs ---------------------------------------------------------------------------------------------------------


@dataclass
class _Form:
    """How samples are written."""

    path: Path
    trained: TrainedModel
    like: Record  # for the writer
    shape: tuple[int, ...]  # that is written
    grid: tuple[int | None, list[str] | None] | None = None  # columns and titles of a picture of all

    @classmethod
    def of(cls, path: Path, as_folder: bool, trained: TrainedModel, drawn: Draw, words: Words, talk: Talk) -> "_Form":
        names, count = _names(trained, drawn), len(drawn.z)
        titles = names if words.label is not None else None
        channels, *size = trained.sample_shape
        shape = (count, *trained.sample_shape) if channels > 1 else (count, *size)
        like = replace(
            record_of(np.empty((0, *shape[1:]), np.float32), str(path)),
            shape=shape,
            kind=trained.kind,
            channel_axis=1 if channels > 1 else None,
            sampling_rate=trained.sampling_rate,
            labels=None if names is None else label_array(names),
            header=Names("x", "y"),
        )
        if path.suffix.lower() == ".png" and not as_folder:
            each = count // max(1, len(words.labels))
            aligned = len(words.labels) > 1 and each * len(words.labels) == count and each <= MOST_COLUMNS
            columns = count if words.on_a_path else each if aligned else None  # a class in each row
            return cls(path, trained, like, shape, (columns, titles))
        if as_folder:
            digits = max(4, len(str(count)))
            folders = [f"{name}/" for name in titles] if titles and len(words.labels) > 1 else [""] * count
            like = replace(
                like, header=Picture(False, tuple(f"{f}{i + 1:0{digits}}.png" for i, f in enumerate(folders)))
            )
            low, scale = trained.normalisation.offset[0], trained.normalisation.scale[0]
            if (low, scale) != (0, 255):
                talk.say(f"values {low:g} to {low + scale:g} become 0 to 255, as pictures hold them")
        elif path.suffix.lower() == ".wav":
            shape = (1, channels, count * size[-1])
            like = replace(like, shape=shape, labels=None, channel_axis=1)
        elif ending_of(path.name).removesuffix(".gz") in TEXT:
            names_of = trained.columns
            if titles:  # first without column names, as the UCR archive has it, else last
                like = replace(like, header=Layout(",", names_of, "label" if names_of else "", len(names_of)))
            else:
                like = replace(like, header=Layout(",", names_of))
        return cls(path, trained, like, shape)

    @property
    def at_once(self) -> bool:
        """Whether all samples are needed before one is written."""
        return self.grid is not None or self.is_sound

    @property
    def is_sound(self) -> bool:
        return self.like.shape[0] == 1 and self.path.suffix.lower() == ".wav"

    @property
    def dtype(self) -> np.dtype[np.generic]:
        if isinstance(self.like.header, Picture):
            return np.dtype(np.uint8)
        if self.is_sound:
            loudest = max(abs(self.trained.normalisation.low), abs(self.trained.normalisation.high))
            whole_numbers = np.int16 if loudest < 1 << 15 else np.int32
            return np.dtype(np.float32 if loudest < 256 else whole_numbers)  # as recorders and players have them
        return np.dtype(np.float32)

    def write(self, batches: Iterator[NDArray[np.float32]], force: bool, most: int) -> NDArray[np.float32]:
        """Writes all samples and gives back the first `most` of them, (N, C, ...)."""
        kept: list[NDArray[np.float32]] = []
        if self.at_once:
            samples = np.concatenate(list(batches))
            if self.grid is not None:
                self._draw(samples, force)
                return samples
            sound = np.moveaxis(samples, 0, 1).reshape(self.shape)
            with formats.create(self.path, self.like, self.shape, self.dtype, force) as writer:
                writer.write(sound)
            return samples
        with formats.create(self.path, self.like, self.shape, self.dtype, force) as writer:
            for samples in batches:
                writer.write(self._stored(samples))
                if sum(map(len, kept)) < most:
                    kept.append(samples)
        return np.concatenate(kept)[:most]

    def _stored(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        if isinstance(self.like.header, Picture):
            low, scale = self.trained.normalisation.offset[0], self.trained.normalisation.scale[0]
            samples = (samples - np.float32(low)) * np.float32(255 / scale)
        return samples if len(self.shape) == samples.ndim else samples[:, 0]

    def _draw(self, samples: NDArray[np.float32], force: bool) -> None:
        from aekit import reports  # matplotlib takes a second

        assert self.grid is not None
        columns, titles = self.grid
        figure = reports.sample_grid(samples, self.trained.kind, columns, titles, self.trained.sampling_rate)
        with whole(self.path, force) as temporary:
            reports.save_figure(figure, temporary)


# --- beside real rows ------------------------------------------------------------------------------------------------


def _real(trained: TrainedModel, record: Record, talk: Talk) -> tuple[Array, NDArray[np.int64] | None]:
    """The rows that the model learnt from, as samples as stored (N, C, ...), and the places of their classes."""
    if trained.normal is not None and record.labels is not None:
        rows = np.flatnonzero(np.isin(np.array(list(map(str, record.labels))), trained.normal))
        if len(rows):
            talk.say(f"{record.source}: {len(rows)} rows of the class {', '.join(trained.normal)} are compared with")
            record = select(record, rows)
    if record.sample_shape != trained.sample_shape and fits(record.sample_shape, trained.sample_shape):
        record = windows_of(record, trained.sample_shape)
    raw = read_all(record)
    if len(raw) < 20:
        raise AekitError(f"{record.source}: {len(raw)} rows are too few to compare samples with; give at least 20")
    if record.labels is None:
        return raw, None
    names = list(map(str, record.labels))
    known = {name: k for k, name in enumerate(trained.classes or sorted(set(names)))}
    return raw, np.array([known.get(name, -1) for name in names], np.int64)


def _judge(
    trained: TrainedModel,
    samples: NDArray[np.float32],
    wanted: NDArray[np.int64] | None,
    raw: Array,
    labels: NDArray[np.int64] | None,
    options: Options,
    talk: Talk,
) -> Diagnosis:
    """Figures of samples (N, C, ...) beside real ones."""
    if len(samples) < ENOUGH:
        talk.say(f"{len(samples)} samples are few for these figures: better --count 1000 or more")
    talk.say(f"a small classifier of {len(raw)} real rows, then the nearest of them to each sample")
    fake, real = (_normalised(trained, part) for part in (samples, raw))
    features = diagnostics.fit_features(real, labels, options.seed, trained.kind)
    found = diagnostics.diagnose(fake, real, features, wanted, options.seed)
    for line in diagnostics.verdicts(found.figures):
        talk.say(line)
    found.figures["shares"] = dict(zip(_class_names(trained, found), found.coverage.shares.tolist(), strict=True))
    return found


def _class_names(trained: TrainedModel, found: Diagnosis) -> list[str]:
    names = trained.classes or ()
    count = len(found.coverage.shares)
    return list(names[:count]) if found.labelled and len(names) >= count else [f"cluster {k + 1}" for k in range(count)]


def _normalised(trained: TrainedModel, samples: Array) -> NDArray[np.float32]:
    parts = [trained.normalisation.apply(as_tensor(samples[i : i + 1024]))[0] for i in range(0, len(samples), 1024)]
    return torch.cat(parts).numpy()


def _report(
    trained: TrainedModel,
    samples: NDArray[np.float32],
    names: list[str] | None,
    raw: Array | None,
    found: Diagnosis | None,
    figures: dict[str, Any],
    options: Options,
) -> None:
    from aekit import reports  # matplotlib takes a second

    rate = trained.sampling_rate
    sections = [reports.samples_section(samples[:SHOWN], trained.kind, names, rate)]
    if found is not None and raw is not None:
        order = np.argsort(found.distance, kind="stable")
        order = order[np.unique(np.linspace(0, len(order) - 1, PAIRS).astype(np.int64))]
        pairs = samples[order], raw[found.place[order]], found.place[order]
        sections.append(reports.nearest_section(*pairs, found.distance, found.usual, trained.kind, rate))
        shares = found.coverage.shares, found.coverage.real_shares
        sections.append(reports.coverage_section(_class_names(trained, found), *shares, found.figures))
    facts = {"recipe": trained.recipe, **{k: v for k, v in figures.items() if k in ("count", "out", "model")}}
    with whole(Path(str(options.report)), options.force) as temporary:
        temporary.write_text(reports.page(f"Samples of {trained.recipe}", facts, sections))
