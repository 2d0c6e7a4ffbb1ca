"""Imports point down the steps of the layout, never up or sideways; modules inside one package may know each other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STEPS = [
    ["cli", "sklearn"],
    ["workflows"],
    ["filling"],
    ["generation", "diagnostics"],
    ["inference"],
    ["training", "recipes", "checkpoint", "reports", "thresholds", "latents", "whiteness"],
    ["trained"],
    ["models", "baseline"],
    ["layers", "objectives", "corruptions", "datasets"],
    ["windows", "tables", "streaming"],
    ["batches"],
    ["formats", "synthetic", "optimisers", "graphs", "ranks", "transfers", "stft", "picks"],
    ["kernels", "records", "files", "settings", "empirical_null"],
    ["remote"],
    ["errors"],
]
STEP = {name: i for i, step in enumerate(STEPS) for name in step}
FILES = [p for folder in ("aekit", "kernels", "cli") for p in sorted((ROOT / folder).rglob("*.py"))]


def part_of(path: Path) -> str:
    """aekit/models/dense.py -> models; cli/train.py -> cli."""
    relative = path.relative_to(ROOT)
    return relative.parts[0] if relative.parts[0] != "aekit" else relative.parts[1].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The parts of aekit that a module imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "aekit":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("aekit."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("aekit.")}
    return found & set(STEP)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    part = part_of(path)
    if part in ("__init__", "__main__"):
        return
    assert part in STEP, f"{part} has no step in the layout"
    for other in imported(path) - {part}:
        assert STEP[other] > STEP[part], f"{path.relative_to(ROOT)} imports {other}, which is not below {part}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_kernels_know_nothing_of_aekit_but_kernels(path: Path) -> None:
    if part_of(path) == "kernels":
        assert imported(path) <= {"kernels"}


def test_library_never_prints() -> None:
    for path in FILES:
        if part_of(path) != "cli":
            calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
            assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"], path
