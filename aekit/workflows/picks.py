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
from aekit.workflows.common import Options, Talk, warn


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
            picks += find_picks(row, mean, spread, rate, thresholds)
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
    columns = _columns(picks)
    if path is None:
        formats.write_csv(sys.stdout, columns)
    else:
        formats.write_columns(path, columns, options.force)
    return figures


def _columns(picks: list[Pick]) -> dict[str, NDArray[Any]]:
    return {
        "row": np.array([pick.row for pick in picks], dtype=np.int64),
        "kind": np.array([pick.kind for pick in picks], dtype=np.str_),
        "start_seconds": np.array([pick.start for pick in picks], dtype=np.float64),
        "end_seconds": np.array([pick.end for pick in picks], dtype=np.float64),
        "probability": np.array([pick.probability for pick in picks], dtype=np.float32),
        "uncertainty": np.array([pick.uncertainty for pick in picks], dtype=np.float32),
    }
