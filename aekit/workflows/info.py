"""info, recipes, datasets, doctor: what there is and what to do with it."""

import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import aekit
from aekit import checkpoint, formats, kernels, remote, tables
from aekit.batches import choose_normalisation
from aekit.datasets import DATASETS
from aekit.errors import AekitError, UsageError
from aekit.files import check_free, whole
from aekit.layers import count_parameters
from aekit.recipes import RECIPES
from aekit.records import Record, times
from aekit.workflows import common

SHOWN = 2000


def info(thing: str, labels: str | None = None, report: str | None = None, force: bool = False) -> dict[str, Any]:
    """What a model, a run folder, a data file or a named data set is; with `report`, a page of pictures of the data."""
    place, _ = formats.split_name(thing)
    is_run = place.is_dir() and any((place / name).exists() for name in (common.MODEL_FILE, common.CONFIG_FILE))
    if not is_run and not checkpoint.is_model(place):
        return _data(thing, labels, report, force)
    if labels is not None or report is not None:
        raise UsageError(f"{thing} is a model: --labels and --report go with data")
    return _model(thing)


def _model(thing: str) -> dict[str, Any]:
    trained = common.load_model(thing)
    calibration = trained.calibration
    return {
        "model": thing,
        "recipe": trained.recipe,
        "trained_on": trained.data,
        "sample_shape": times(trained.sample_shape),
        "kind": trained.kind,
        "sampling_rate": trained.sampling_rate,
        "parameters": count_parameters(trained.network),
        "normalisation": trained.normalisation.describe(),
        "error": None if hasattr(trained.network, "phases") else trained.error,
        "corruption": ", ".join(trained.corruption) or None,
        "normal_classes": None if trained.normal is None else ", ".join(trained.normal),
        "calibration_rows": None if calibration is None else len(calibration),
        **{k: v for k, v in trained.figures.items() if k in ("epochs", "val_error", "test_error", "pca_test_error")},
        "next": "; ".join(
            f"aekit {verb} {'FILE ' if verb != 'generate' else ''}--model {thing}"
            for verb in trained.network.verbs  # type: ignore[union-attr]
        ),
    }


def _data(thing: str, labels: str | None, report: str | None, force: bool) -> dict[str, Any]:
    if report is not None:
        check_free(Path(report), force)
    record = common.open_part(thing, "train", labels)
    assert record is not None, "every data set has a training part"
    if not len(record):
        raise AekitError(f"{thing}: no rows")
    words = [f"{name} ({len(w)})" for name, w in zip(record.columns, record.categories, strict=False) if w]
    record = tables.encoded(record)
    samples, _, rows = common.some_rows(record, SHOWN)
    finite = samples[np.isfinite(samples).reshape(len(samples), -1).all(axis=1)]
    facts: dict[str, Any] = {
        "data": remote.without_query(thing),
        "rows": len(record),
        "read_as": "; ".join(record.notes) or None,
        "sample_shape": times(record.sample_shape),
        "kind": record.kind,
        "columns_of_words": ", ".join(words) or None,
        "type": str(record.dtype),
        "sampling_rate": record.sampling_rate,
        **_recorded(record),
        "bytes": record.values_per_row * len(record) * record.dtype.itemsize,
        "rows_looked_at": len(samples),
        "low": float(finite.min()) if finite.size else None,
        "high": float(finite.max()) if finite.size else None,
        "rows_with_missing_values": len(samples) - len(finite),
        "labels": _classes(record),
        "picks": None
        if record.picks is None
        else f"{(record.picks[:, 0] >= 0).sum()} P, {(record.picks[:, 1] >= 0).sum()} S",
        "clean_counterpart": None if record.target is None else "yes",
        "normalisation": _normalisation(finite, record),
        "next": _next(thing, record, len(finite) < len(samples)),
    }
    if report is not None:
        from aekit import reports  # matplotlib takes a second

        section = reports.data_section(
            samples, record.kind, record.labels, record.sampling_rate, record.columns, rows, len(record)
        )
        with whole(Path(report), force) as temporary:
            temporary.write_text(reports.page(record.source, facts, [section]))
        facts["report"] = report
    return facts


def _recorded(record: Record) -> dict[str, Any]:
    """Where and when, for a file that tells it."""
    if record.recorded is None:
        return {}
    stations, starts, gaps, filled = record.recorded
    return {
        "stations": ", ".join(stations[:12]) + (f" and {len(stations) - 12} more" if len(stations) > 12 else "")
        or None,
        "start": None if starts is None else str(np.datetime_as_string(starts.min(), timezone="UTC")),
        "gaps": len(gaps) or None,
        "values_not_recorded": filled or None,
    }


def _classes(record: Record) -> str | None:
    labels = record.point_labels if record.by_point else record.labels
    if labels is None:
        return None
    values, counts = np.unique(np.array(list(map(str, labels))), return_counts=True)
    shown = ", ".join(f"{v} ({c})" for v, c in zip(values[:12], counts[:12], strict=True))
    return shown + (f" and {len(values) - 12} more" if len(values) > 12 else "")


def _normalisation(finite: np.ndarray[Any, Any], record: Record) -> str:
    try:
        return choose_normalisation(finite, record.kind, record.source).describe()
    except (AekitError, ValueError):
        return "none: constant or missing data"


def _next(thing: str, record: Record, has_gaps: bool) -> str:
    """What needs no model, for a file of unlabelled arrivals and no clean counterpart; else what to train."""
    thing = shlex.quote(thing)
    fill = " --missing mean" if has_gaps and record.kind == "table" else ""
    if common.is_dataset(thing) or record.picks is not None or record.target is not None:
        return f"aekit train {common.suggest(record, 'score')} --data {thing}{fill}"
    return f"aekit score {thing}{fill}" + ("" if record.kind == "table" else f"; aekit denoise {thing}")


def list_recipes() -> dict[str, str]:
    return {name: recipe.about for name, recipe in RECIPES.items()}


def list_datasets() -> dict[str, str]:
    return {name: dataset.about for name, dataset in DATASETS.items()}


def doctor() -> dict[str, Any]:
    """Versions, device, and which kernels run here."""
    cuda = torch.cuda.is_available()
    missing = formats.missing_extras()
    gone = [ending for endings in missing.values() for ending in endings]
    return {
        "aekit": aekit.__version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "torch": torch.__version__,
        "triton": kernels.why_no_triton() or "runs",
        "device": common.device_name("cuda" if cuda else "cpu"),
        "bfloat16": _bfloat16(cuda),
        "kernels": kernels.where_kernels_run(),
        "formats": " ".join(ending for ending in formats.ENDINGS if ending not in gone),
        "formats_missing": "; ".join(
            f'{" ".join(endings)}: pip install "aekit[{extra}]"' for extra, endings in missing.items()
        )
        or None,
        "AEKIT_DATA": os.environ.get("AEKIT_DATA", "not set"),
    }


def _bfloat16(cuda: bool) -> str:
    if cuda:
        return "yes" if torch.cuda.is_bf16_supported() else "slow"
    flags = torch.backends.cpu.get_cpu_capability()
    return f"cpu capability {flags}"
