"""score by a classifier: the class of each sample and its probability instead of an anomaly score."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from aekit import formats, inference
from aekit.files import whole
from aekit.records import Record
from aekit.trained import TrainedModel
from aekit.workflows import common
from aekit.workflows.common import Options, Talk
from aekit.workflows.training_data import class_places


def write_classes(
    trained: TrainedModel, run: inference.Run, record: Record, path: Path | None, options: Options, talk: Talk
) -> dict[str, Any]:
    """Writes a row per sample (or window) to `path`, None is stdout, and the report; returns the figures."""
    assert trained.classes is not None, "a classifier was trained on classes"
    seen = inference.Seen()
    with talk.track("rows", len(record)) as bar:
        probabilities = inference.class_probabilities(trained, record, run, seen, bar)
    common.warn(seen, trained, talk)
    found, probability = probabilities.argmax(axis=1), probabilities.max(axis=1)
    row = np.repeat(np.arange(len(record)), len(found) // len(record))
    names = np.array(trained.classes)
    counts = np.bincount(found, minlength=len(names))
    figures: dict[str, Any] = {
        "count": len(found),
        "classes": {str(name): int(count) for name, count in zip(names, counts, strict=True)},
        "mean_probability": round(float(probability.mean()), 4),
        "model": trained.source,
        "out": "-" if path is None else str(path),
    }
    places = class_places(record, trained.classes)
    truth = None if places is None else places[row]
    if truth is not None and (truth >= 0).any():
        known = truth >= 0
        figures["accuracy"] = round(float((found == truth)[known].mean()), 4)
    if truth is not None and (truth < 0).any():
        known_names = ", ".join(trained.classes[:20])
        talk.say(f"{(truth < 0).sum()} samples have a label that training had not ({known_names}): not judged")
    columns: dict[str, Any] = {"row": row, "class": names[found], "probability": np.round(probability, 6)}
    if record.labels is not None:
        columns["label"] = record.labels[row]
    if path is None:
        formats.write_csv(sys.stdout, columns)
    else:
        formats.write_columns(path, columns, options.force)
    if options.report is not None:
        from aekit import reports  # matplotlib takes a second

        figures["report"] = options.report
        section = reports.classes_section(trained.classes, found, probability, truth)
        facts = {"recipe": trained.recipe, **{k: v for k, v in figures.items() if k != "classes"}}
        with whole(Path(options.report), options.force) as temporary:
            temporary.write_text(reports.page(f"{record.source}, classified", facts, [section]))
    return figures
