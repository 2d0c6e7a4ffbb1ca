"""Scores -> verdicts, figures and columns of the table; a rule judges all scores of a file together.

What was measured of each sample comes from one run of `score`, or from the parts of many.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aekit import thresholds
from aekit.errors import AekitError
from aekit.files import whole
from aekit.records import Array
from aekit.thresholds import Verdict
from aekit.workflows.common import Talk

LOW_AGREEMENT = 0.8  # of the ranks of two halves of the networks, below which it is told
COLUMN = "column "  # before the name of a column in a part
OF_SAMPLES = ("score", "labels", "truth", "pca")  # the rest of a part
OF_MODEL = ("calibration", "pca_calibration", "is_mixed", "precisions", "agreement")
NONE = np.empty(0)  # in place of a column that is not wanted
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Measured:
    """What is known of each sample before it is judged, (N,) each, and what it is judged by."""

    columns: dict[str, Array]  # of the table, those that come before the scores
    score: Scores
    labels: Array | None
    truth: NDArray[np.bool_] | None  # whether each sample is anomalous, where it is known
    pca: Scores  # empty where there is no truth to compare with
    calibration: Scores  # of held-out rows; empty where the scores judge each other
    pca_calibration: Scores | None
    is_mixed: bool  # no rows are known to be normal
    precisions: tuple[str, str]  # of the calibration and of the scores
    agreement: float | None  # of the ranks that two halves of the networks give

    @property
    def by_itself(self) -> bool:
        return not len(self.calibration)


def judge(
    measured: Measured, rule: str, places: dict[str, str], talk: Talk
) -> tuple[Verdict, dict[str, Any], dict[str, float]]:
    """The verdict, the figures of the file, `places` among them, and PCA's where the labels tell what is anomalous."""
    score, calibration = measured.score, measured.calibration
    if measured.is_mixed:
        verdict = thresholds.judge_mixed(score, rule, None if measured.by_itself else calibration)
    else:
        verdict = thresholds.judge(score, calibration, rule)
    calibrated, scored = measured.precisions
    if calibrated != scored and not measured.by_itself:
        talk.say(f"calibrated in {calibrated}, scored in {scored}: p-values are approximate")
    for note in verdict.notes:
        talk.say(note)
    if measured.agreement is not None and measured.agreement < LOW_AGREEMENT:
        talk.say(
            f"rank agreement {measured.agreement:.2f}: the two halves of the networks, each taught by its share of the "
            "rows, rank them differently; more rows or more steps of training may help"
        )
    figures: dict[str, Any] = {
        "count": len(score),
        "flagged": int(verdict.flagged.sum()),
        "rule": verdict.rule,
        "threshold": float(verdict.threshold) if np.isfinite(verdict.threshold) else None,
        **({} if measured.by_itself else {"calibration_rows": len(calibration)}),
        **places,
        **({} if measured.agreement is None else {"rank_agreement": measured.agreement}),
    }
    pca: dict[str, float] = {}
    if measured.truth is not None:
        figures |= _rounded(thresholds.anomaly_figures(score, measured.truth, verdict.flagged))
        pca = _pca_figures(measured, measured.truth, rule)
        figures |= {f"pca_{k}": v for k, v in pca.items()}
    return verdict, figures, pca


def save(path: Path, measured: Measured) -> None:
    """As .npz, whole or absent."""
    columns = {f"{COLUMN}{name}": values for name, values in measured.columns.items()}
    known = {name: getattr(measured, name) for name in (*OF_SAMPLES, *OF_MODEL) if getattr(measured, name) is not None}
    with whole(path, force=True) as temporary:
        np.savez(temporary, **columns, **known)  # type: ignore[arg-type]


def load(paths: list[Path], with_columns: bool = True) -> Measured:
    """What parts in turn hold, or, without columns and labels, what the scores are judged by.

    Raises AekitError where one cannot be read as a part.
    """
    parts = [_load(path, with_columns) for path in paths]
    if any(part.keys() != parts[0].keys() for part in parts):
        raise AekitError(f"{paths[0].parent}: its parts hold different columns; run all shards again with --force")
    fields: dict[str, Any] = {name: parts[0].get(name) for name in OF_MODEL}
    names = [name for name in parts[0] if name not in OF_MODEL]
    found = {name: np.concatenate([part.pop(name) for part in parts]) for name in names}
    fields |= {name: found.get(name) for name in OF_SAMPLES}
    fields["columns"] = {name.removeprefix(COLUMN): found[name] for name in names if name.startswith(COLUMN)}
    fields["is_mixed"] = bool(fields["is_mixed"])
    fields["precisions"] = tuple(map(str, fields["precisions"]))
    fields["agreement"] = None if fields["agreement"] is None else float(fields["agreement"])
    return Measured(**fields)


def _load(path: Path, with_columns: bool) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as file:
            left_out = [name for name in file.files if name.startswith(COLUMN) or name == "labels"]
            part = {name: NONE if name in left_out and not with_columns else file[name] for name in file.files}
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise AekitError(f"{path}: is damaged ({error}); run its shard again with --force") from error
    missing = {"score", "pca", "calibration", "is_mixed", "precisions"} - set(part)
    if missing:
        raise AekitError(f"{path}: holds no {missing.pop()}; run its shard again with --force")
    return part


def table(measured: Measured, verdict: Verdict, named: Array | None) -> dict[str, Array]:
    """The columns of the table; `named` are the columns of the input that have most in a score, in words."""
    columns = measured.columns | {
        "score": measured.score,
        "p_value": verdict.p_values,
        "anomaly": verdict.flagged.astype(np.int8),
    }
    columns |= {} if named is None else {"columns": named}
    return columns | ({} if measured.labels is None else {"label": measured.labels})


def _pca_figures(measured: Measured, truth: NDArray[np.bool_], rule: str) -> dict[str, float]:
    if measured.pca_calibration is None or not len(measured.pca):
        return {}
    if measured.is_mixed:
        verdict = thresholds.judge_mixed(measured.pca, rule)
    else:
        verdict = thresholds.judge(measured.pca, measured.pca_calibration, rule)
    return _rounded(thresholds.anomaly_figures(measured.pca, truth, verdict.flagged))


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    return {k: None if v is None else round(float(v), 4) for k, v in figures.items()}
