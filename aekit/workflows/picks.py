"""score by a model that finds picks: detections and arrivals of P and S instead of a score per row."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aekit import formats, inference
from aekit.errors import AekitError
from aekit.files import whole
from aekit.picks import KINDS, Pick, find_picks, pick_errors, pick_figures
from aekit.records import Record
from aekit.trained import TrainedModel
from aekit.workflows.common import Options, Talk, gap_share, warn, where_and_when

SHOWN = 6  # examples in the report
LONG = 120.0  # seconds of a row that is not drawn whole
STRETCH = 60.0  # seconds that are drawn of it
BEFORE = 0.25  # share of them before what was found


@dataclass(frozen=True)
class _Stretch:
    """Part of a row that may be drawn, from the point `first` on; the lowest ranks are."""

    rank: tuple[int, int]  # 0 with a detection, 1 with picks, 2 with nothing; its place among those of the row
    row: int
    first: int
    probability: NDArray[np.floating]  # (3, T)
    spread: NDArray[np.floating]
    picks: list[Pick]  # that touch it


def write_picks(
    trained: TrainedModel,
    run: inference.Run,
    record: Record,
    path: Path | None,
    thresholds: tuple[float, float, float],
    options: Options,
    talk: Talk,
) -> dict[str, Any]:
    """Writes a row per detection and pick to `path`, None is stdout, and the report; returns the figures."""
    rate = record.sampling_rate or trained.sampling_rate
    if rate is None:
        raise AekitError(f"{record.source}: tells no sampling rate, without which picks have no time; add one, in Hz")
    picks: list[Pick] = []
    shown: list[_Stretch] = []
    seen = inference.Seen()
    with talk.track("rows", len(record)) as bar:
        for row, mean, spread in inference.probabilities(trained, record, run, options.seed, seen):
            found = _recorded(find_picks(row, mean, spread, rate, thresholds), record, rate)
            picks += found
            if options.report is not None:
                shown = sorted([*shown, *_stretches(row, mean, spread, found, rate)], key=lambda s: s.rank)[:SHOWN]
            bar(row + 1)
    warn(seen, trained, talk)
    detections, p, s = (sum(pick.kind == kind for pick in picks) for kind in KINDS)
    figures: dict[str, Any] = {
        "count": len(record),
        "detections": detections,
        "p_picks": p,
        "s_picks": s,
        "thresholds": list(thresholds),
        "model": trained.source,
        "out": "-" if path is None else str(path),
    }
    if record.picks is not None:
        worth = pick_figures(picks, record.picks, rate)
        figures |= {name: None if value is None else round(value, 4) for name, value in worth.items()}
    if options.report is not None:
        figures["report"] = _report(trained, record, rate, picks, shown, figures, options)
    columns = _columns(picks, record)
    if path is None:
        formats.write_csv(sys.stdout, columns)
    else:
        formats.write_columns(path, columns, options.force)
    return figures


def _recorded(picks: list[Pick], record: Record, rate: float) -> list[Pick]:
    """Those that do not lie in gaps, where what lies beside stands in for the record."""
    at = [(pick.row, round(pick.start * rate), round(pick.end * rate)) for pick in picks]
    row, first, last = np.array(at, dtype=np.int64).reshape(-1, 3).T
    share = gap_share(record, row, first, last - first + 1)
    return [pick for pick, gone in zip(picks, share, strict=True) if gone < 1]


def _columns(picks: list[Pick], record: Record) -> dict[str, NDArray[Any]]:
    row = np.array([pick.row for pick in picks], dtype=np.int64)
    start = np.array([pick.start for pick in picks], dtype=np.float64)
    return {
        "row": row,
        **where_and_when(record, row, start),
        "kind": np.array([pick.kind for pick in picks], dtype=np.str_),
        "start_seconds": start,
        "end_seconds": np.array([pick.end for pick in picks], dtype=np.float64),
        "probability": np.array([pick.probability for pick in picks], dtype=np.float32),
        "uncertainty": np.array([pick.uncertainty for pick in picks], dtype=np.float32),
    }


def _stretches(
    row: int, probability: NDArray[np.floating], spread: NDArray[np.floating], picks: list[Pick], rate: float
) -> Iterator[_Stretch]:
    """The row, or of a long one what lies about its likeliest detections, else picks, else its highest probability."""
    points, wide = probability.shape[1], round(STRETCH * rate)
    detections = [pick for pick in picks if pick.kind == KINDS[0]]
    rank = 0 if detections else 1 if picks else 2
    if points <= LONG * rate:
        yield _Stretch((rank, 0), row, 0, probability.copy(), spread.copy(), picks)  # else their chunk would stay
        return
    likeliest = sorted(detections or picks, key=lambda pick: -pick.probability)
    places = [round(pick.start * rate) for pick in likeliest] or [int(probability.max(axis=0).argmax())]
    taken: list[int] = []
    for place in places:
        first = min(max(0, place - round(BEFORE * wide)), points - wide)
        if len(taken) < SHOWN and not any(other <= place < other + wide for other in taken):
            part = slice(first, first + wide)
            inside = [pick for pick in picks if pick.start * rate < part.stop and pick.end * rate >= first]
            yield _Stretch((rank, len(taken)), row, first, probability[:, part].copy(), spread[:, part].copy(), inside)
            taken.append(first)


def _report(
    trained: TrainedModel,
    record: Record,
    rate: float,
    picks: list[Pick],
    shown: list[_Stretch],
    figures: dict[str, Any],
    options: Options,
) -> str:
    from aekit import reports  # matplotlib takes a second

    known, examples = record.picks, []
    for stretch in shown:
        part = slice(stretch.first, stretch.first + stretch.probability.shape[1])
        samples = np.array(record.to_samples(record.read(stretch.row, stretch.row + 1))[0, :, part])
        where = where_and_when(record, np.array([stretch.row]), np.array([stretch.first / rate]))
        words = [f"Row {stretch.row}", *(str(value[0]) for value in where.values())]
        words += [f"from {stretch.first / rate:,.0f} s"] if stretch.first else []
        words += ["nothing found"] if stretch.rank[0] == 2 else []
        inside = range(part.start, part.stop)
        arrivals = [] if known is None else [point for point in known[stretch.row].tolist() if point in inside]
        examples.append(
            reports.Found(
                " · ".join(words), samples, stretch.first, stretch.probability, stretch.spread, stretch.picks, arrivals
            )
        )
    errors = None if known is None else pick_errors(picks, known, rate)
    sections = [
        reports.picks_section(len(record), picks, figures["thresholds"], figures, errors),
        reports.stretches_section(examples, rate),
    ]
    worth = tuple(f"{kind.lower()}_{what}" for kind in KINDS for what in ("precision", "recall", "f1", "mean"))
    facts = {name: value for name, value in figures.items() if not name.startswith(worth)}
    facts["thresholds"] = ", ".join(f"{least:g}" for least in figures["thresholds"])
    path = Path(str(options.report))
    with whole(path, options.force) as temporary:
        temporary.write_text(reports.page(f"{record.source}, picks", {"recipe": trained.recipe, **facts}, sections))
    return str(path)
