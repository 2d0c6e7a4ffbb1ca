"""bench: how quick the kernels are on this machine, and what they take of a GPU that need not be here."""

import csv
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import IO, Any

from aekit import inference, kernels
from aekit.errors import AekitError, UsageError
from aekit.files import check_free, whole
from aekit.kernels import _bench, _cells
from aekit.kernels._gpus import GPUS
from aekit.workflows import common
from aekit.workflows.common import Clock, Talk


def bench(
    names: Collection[str] = (),
    device: str = "auto",
    out: str | None = None,
    force: bool = False,
    talk: Talk | None = None,
) -> dict[str, Any]:
    """Times these kernels (all by default) beside torch: `rows`, also written to `out` ("-" is stdout).

    A cell that fails parity has no row; `failed` tells what is wrong with it.
    """
    talk, clock = talk or Talk(), Clock()
    chosen = _choose(names, out, force)
    where = inference.pick_device(device).type
    if where == "cuda" and (why := kernels.why_no_triton()):
        raise AekitError(f"--device cuda: {why}, and without it nothing is timed there; --device cpu times torch")
    cells = _bench.cells_for(where, chosen)
    if where == "cpu":
        talk.say(f"cells that move more than {_bench.LARGE >> 20} MiB are left out on a CPU")
    for provider, reason in _bench.left_out(where).items():
        talk.say(f"{provider} is left out: {reason}")
    machine = _bench.look_at(where)
    rows: list[_bench.Row] = []
    failed: list[str] = []
    with talk.track("measuring", len(cells)) as advance:
        for done, cell in enumerate(cells, 1):
            found, wrong = _bench.measure(cell, machine)
            rows += found
            if wrong:
                failed.append(f"{' '.join(filter(None, cell.words))}: {'; '.join(wrong)}")
            advance(done)
    _write(rows, _bench.Row, out, force)
    return {
        "device": common.device_name(where),
        "copy_gb_per_s": machine.copy_gb_per_s,
        "product_tflop_per_s": machine.product_tflop_per_s,
        "cells": len(cells),
        "rows": [asdict(row) for row in rows],
        "failed": failed,
        "out": out,
        "seconds": clock.seconds,
    }


def bench_static(
    names: Collection[str] = (),
    gpu: str = "h200",
    out: str | None = None,
    force: bool = False,
    talk: Talk | None = None,
) -> dict[str, Any]:
    """Compiles these kernels (all by default) for the GPU: `rows`, also written to `out` ("-" is stdout)."""
    talk, clock = talk or Talk(), Clock()
    chosen = _choose(names, out, force)
    if gpu not in GPUS:
        raise UsageError(f"--gpu: {gpu!r} is none of {', '.join(GPUS)}")
    if why := kernels.why_no_static():
        raise AekitError(f"--static: {why}")
    from aekit.kernels import _static  # it needs triton

    cells = _cells.cells(chosen)
    rows: list[_static.Row] = []
    with talk.track("compiling", len(cells)) as advance:
        for done, cell in enumerate(cells, 1):
            rows += _static.compile_cell(cell, GPUS[gpu])
            advance(done)
    _write(rows, _static.Row, out, force)
    return {
        "gpu": gpu,
        **asdict(GPUS[gpu]),
        "cells": len(cells),
        "rows": [asdict(row) for row in rows],
        "out": out,
        "seconds": clock.seconds,
    }


def _choose(names: Collection[str], out: str | None, force: bool) -> list[str]:
    """The kernels of these names, all where there is none; raises AekitError for a wrong name or output."""
    for name in names:
        if name not in kernels.KERNELS:
            raise UsageError(f"--kernel: {name!r} is none of {', '.join(kernels.KERNELS)}")
    if out is not None and out != "-":
        if Path(out).suffix != ".csv":
            raise AekitError(f"{out}: the rows are a table; name a .csv file with -o")
        check_free(Path(out), force)
    return [name for name in kernels.KERNELS if not names or name in names]


def _write(rows: Sequence[Any], kind: type[Any], out: str | None, force: bool) -> None:
    def write(file: IO[str]) -> None:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(kind))
        for row in rows:
            writer.writerow(f"{x:.6g}" if isinstance(x, float) else x for x in asdict(row).values())

    if out == "-":
        write(sys.stdout)
    elif out is not None:
        with whole(Path(out), force) as temporary, temporary.open("w", newline="") as file:
            write(file)
