"""score by a model that finds picks: detections and arrivals of P and S instead of a score per row."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aekit import formats, inference
from aekit.errors import AekitError
from aekit.picks import KINDS, Pick, find_picks, pick_figures
from aekit.records import Record
from aekit.trained import TrainedModel
from aekit.workflows.common import Options, Talk, gap_share, warn, where_and_when


def write_picks(
    trained: TrainedModel,
    run: inference.Run,
    record: Record,
    path: Path | None,
    thresholds: tuple[float, float, float],
    options: Options,
    talk: Talk,
) -> dict[str, Any]:
    """Writes a row per detection and pick to `path`, None is stdout; returns the figures."""
    rate = record.sampling_rate or trained.sampling_rate
    if rate is None:
        raise AekitError(f"{record.source}: tells no sampling rate, without which picks have no time; add one, in Hz")
    picks: list[Pick] = []
    seen = inference.Seen()
    with talk.track("rows", len(record)) as bar:
        for row, mean, spread in inference.probabilities(trained, record, run, options.seed, seen):
            picks += _recorded(find_picks(row, mean, spread, rate, thresholds), record, rate)
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
        found = pick_figures(picks, record.picks, rate)
        figures |= {name: None if value is None else round(value, 4) for name, value in found.items()}
    columns = _columns(picks, record)
    if path is None:
        formats.write_csv(sys.stdout, columns)
    else:
        formats.write_columns(path, columns, options.force)
    return figures


def _recorded(picks: list[Pick], record: Record, rate: float) -> list[Pick]:
    """Those that do not lie in gaps, where straight lines stand in for the record."""
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
