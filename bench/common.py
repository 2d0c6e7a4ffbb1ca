"""What the benches of quality share: rows of results, and training as a user would."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import aekit
from aekit import workflows
from aekit.datasets import open_dataset

RESULTS = Path(__file__).parent / "results"
Array = NDArray[Any]
Row = dict[str, object]


def row(data: str, model: str, figure: str, value: float, target: str = "", note: str = "", shown: bool = True) -> Row:
    if shown:
        print(f"{data:24} {model:28} {figure:30} {value:.6g} {target} {note}", flush=True)
    return {"data": data, "model": model, "figure": figure, "value": f"{value:.6g}", "target": target, "note": note}


def train(folder: Path, recipe: str, data: str, name: str = "", **options: Any) -> dict[str, Any]:
    return workflows.train(recipe, data, options, out=str(folder / (name or f"{recipe}-run")), force=True)


def rows_of(data: str, part: str) -> Array:
    """All rows of a named data set's part."""
    record = open_dataset(data, part)  # type: ignore[arg-type]
    assert record is not None
    return np.array(record.read(0, len(record)))


def kept(folder: Path, recipe: str, data: str, name: str, **options: Any) -> tuple[Any, str]:
    """A trained model, from `folder` where it lies there, and the seconds and epochs of its training in words."""
    place = folder / name
    if not (place / "report.html").exists():
        train(folder, recipe, data, name, **options)
    with (place / "metrics.csv").open() as file:
        epochs = list(csv.DictReader(file))
    seconds = sum(float(line["seconds"]) for line in epochs)
    return aekit.load(str(place)), f"{seconds:.0f} s, {len(epochs)} epochs"
