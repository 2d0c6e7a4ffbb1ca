"""The page that score writes with --report: how scores lie, where they are high, and examples."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aekit import formats, inference
from aekit.batches import as_tensor, undo
from aekit.files import whole
from aekit.records import Record
from aekit.thresholds import Verdict
from aekit.trained import TrainedModel
from aekit.workflows import contributions
from aekit.workflows.common import Options
from aekit.workflows.contributions import Columns

if TYPE_CHECKING:
    from aekit.reports import Section

ENLARGED = 3  # ranges of a series
AROUND = 4  # windows, of the points beside a range
EXPLAINED = 12  # rows of a table


@dataclass(frozen=True)
class Found:
    """What score found; of a series by point `ranges` has start, end and score of its anomalous ranges."""

    trained: TrainedModel
    record: Record
    run: inference.Run
    scores: inference.Scores
    verdict: Verdict
    truth: NDArray[np.bool_] | None  # whether each sample is anomalous, where it is known
    calibration: NDArray[np.float32]  # scores that were not judged themselves; none where the scores judge each other
    of_table: Columns | None
    ranges: Mapping[str, NDArray[Any]]


def write_report(found: Found, figures: Mapping[str, Any], pca: Mapping[str, float], options: Options) -> str:
    from aekit import reports  # matplotlib takes a second

    record, scores, verdict = found.record, found.scores, found.verdict
    own = {k: figures[k] for k in pca} if pca else {k: v for k, v in figures.items() if k == "auroc"}
    sections = [
        reports.scores_section(
            found.calibration,
            scores.score,
            found.truth,
            verdict.threshold,
            verdict.rule,
            own,
            pca or None,
            verdict.p_values,
            verdict.null,
            record.by_point,
        )
    ]
    if found.of_table is not None:
        sections.append(_contributions(found, found.of_table))
    if record.by_point:
        sections.append(_points(found))
    elif not scores.start:
        sections.append(_examples(found))
    path = Path(str(options.report))
    facts = {
        "recipe": found.trained.recipe,
        **{k: v for k, v in figures.items() if k not in own and not k.startswith("pca_")},
    }
    with whole(path, options.force) as temporary:
        temporary.write_text(reports.page(f"{record.source}, scored", facts, sections))
    return str(path)


def _contributions(found: Found, columns: Columns) -> "Section":
    from aekit import reports

    rows = np.sort(np.argsort(found.scores.score, kind="stable")[-EXPLAINED:])
    shares = np.concatenate(list(contributions.shares(found.trained, found.record, found.run, rows, columns)))
    order = np.argsort(-found.scores.score[rows], kind="stable")
    return reports.contributions_section(rows[order], shares[order], columns.names)


def _points(found: Found) -> "Section":
    """The series whole, and its ranges of the highest scores with what lies around them."""
    from aekit import reports

    record, points = found.record, found.record.sample_shape[-1]
    series = record.to_samples(record.read(0, 1))[0]
    times = formats.times_of(record.header)
    stretches = []
    for i in np.argsort(-found.ranges["score"], kind="stable")[:ENLARGED]:
        start, end = int(found.ranges["start"][i]), int(found.ranges["end"][i])
        around = AROUND * found.trained.sample_shape[-1] + (end - start) // 2
        title = f"Points {start:,} to {end:,} · score {found.ranges['score'][i]:.4g}"
        note = "" if times is None else f"{times[start]} to {times[end]}."
        stretches.append((title, note, slice(max(0, start - around), min(points, end + 1 + around))))
    return reports.points_section(
        series,
        found.scores.score,
        found.verdict.threshold,
        found.verdict.flagged,
        len(found.ranges["score"]),
        stretches,
        found.truth,
        record.sampling_rate,
    )


def _examples(found: Found) -> "Section":
    """The most anomalous rows and typical ones, with their reconstructions."""
    from aekit import reports

    trained, record, scores = found.trained, found.record, found.scores
    order = np.argsort(scores.score)
    middle = order[len(order) // 2 : len(order) // 2 + 4]
    rows = np.unique(np.concatenate([middle, order[-4:]]))
    samples = np.concatenate([record.to_samples(np.array(record.read(int(r), int(r) + 1))) for r in rows])
    x, offset, scale = trained.normalisation.apply(as_tensor(samples))
    result = inference.forward(trained, samples, found.run)
    x_hat = undo(result.output.x_hat.cpu(), offset, scale).numpy()
    pca = None if trained.pca is None else undo(trained.pca.reconstruct(x), offset, scale).numpy()
    names = [f"row {row} · p {found.verdict.p_values[row]:.2g}" for row in rows]
    if record.labels is not None:
        names = [f"{name} · label {label}" for name, label in zip(names, record.labels[rows], strict=True)]
    return reports.reconstruction_section(
        samples,
        x_hat,
        record.kind,
        scores.score[rows],
        np.array(names),
        pca,
        sampling_rate=record.sampling_rate,
        columns=record.columns,
        order_text="Rows of middling score, then those of the highest.",
    )
