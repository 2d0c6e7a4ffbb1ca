"""Times kernels beside eager and compiled torch on one device, and beside them a copy and a matrix product.

On a CPU torch alone is timed, in the cells that move little: Triton's interpreter is there to be exact.
"""

import os
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from aekit.kernels._cells import DTYPES, Cell, as_tuple, cells, leaves, precision
from aekit.kernels._parity import strays
from aekit.kernels._registry import KERNELS, Inputs, Kernel

LARGE = 64 * 2**20  # bytes moved, from which on memory and not the launch decides
QUANTILES = [0.5, 0.2, 0.8]
LOST_IN_TF32 = 2**-9  # of a product whose factors each keep 10 bits, the rest cut off
REPEAT_SECONDS = 0.2  # at least, for a figure on a CPU


@dataclass(frozen=True)
class Machine:
    """What this device gives today."""

    device: str  # cpu or cuda
    copy_gb_per_s: float  # read and written
    product_tflop_per_s: dict[str, float]  # by dtype


@dataclass(frozen=True)
class Row:
    kernel: str
    variant: str
    shape: str
    dtype: str
    direction: str
    provider: str
    timer: str
    p20_ms: float
    p50_ms: float
    p80_ms: float
    gb_per_s: float
    share_of_copy: float
    tflop_per_s: float | None  # where the operation makes products
    share_of_product: float | None


def cells_for(device: str, names: Iterable[str]) -> list[Cell]:
    """The cells of these kernels that are measured on the device."""
    found = cells(names)
    if device == "cuda":
        return found
    return [c for c in found if c.dtype != "tf32" and c.work["forward+backward"].bytes <= LARGE]


def look_at(device: str) -> Machine:
    """Measures a copy (2 GiB on a GPU) and square matrix products in every dtype that the cells have."""
    x = torch.empty(2**31 if device == "cuda" else 2**28, dtype=torch.uint8, device=device).random_()
    y = torch.empty_like(x)
    copy = 2 * x.nbytes / milliseconds(partial(y.copy_, x), x.nbytes, device)[1][0] / 1e6
    size, products = 8192 if device == "cuda" else 1024, {}
    for dtype in DTYPES if device == "cuda" else ("float32", "bfloat16"):
        a, b = (torch.randn(size, size, device=device).to(DTYPES[dtype]) for _ in range(2))
        with precision(dtype):
            products[dtype] = 2 * size**3 / milliseconds(partial(torch.mm, a, b), LARGE, device)[1][0] / 1e9
    return Machine(device, copy, products)


def left_out(device: str) -> dict[str, str]:
    """The providers that cannot be timed on the device, with the reason."""
    if device == "cuda":
        return {}
    reasons = {"triton": "it needs a CUDA device"}
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        reasons["compiled"] = f"torch.compile needs a C++ compiler, and there is no {compiler}"
    elif not Path(sysconfig.get_path("include"), "Python.h").exists():
        reasons["compiled"] = "torch.compile needs Python's headers, and there is no Python.h"
    return reasons


def measure(cell: Cell, machine: Machine) -> tuple[list[Row], list[str]]:
    """A row for each direction and provider, and no complaint; or no row, and what fails parity."""
    torch.manual_seed(0)
    kernel, rows = KERNELS[cell.kernel], []
    with precision(cell.dtype):
        inputs = cell.inputs(machine.device)
        if wrong := strays(kernel, inputs, LOST_IN_TF32 if cell.dtype == "tf32" else 0.0):
            return [], wrong
        for direction, run in _directions(kernel, inputs).items():
            work = cell.work[direction]
            for provider, function in _providers(kernel, machine.device).items():
                timer, (p50, p20, p80) = milliseconds(partial(run, function), work.bytes, machine.device)
                rate = work.bytes / p50 / 1e6
                speed = work.operations / p50 / 1e9 if work.operations else None
                share = speed and speed / machine.product_tflop_per_s[cell.dtype]
                shares = rate, rate / machine.copy_gb_per_s, speed, share
                rows.append(Row(*cell.words, direction, provider, timer, p20, p50, p80, *shares))
    return rows, []


def milliseconds(function: Callable[[], Any], size: int, device: str) -> tuple[str, list[float]]:
    """The timer's name, and p50, p20, p80 of a function that moves `size` bytes.

    On a GPU small cells run inside a CUDA graph, as in training, for a launch from Python takes longer than they do;
    large ones by do_bench, which clears the cache before each run.
    """
    function()  # compiles
    if device == "cpu":
        return "repeat", _repeat(function)
    from triton.testing import do_bench, do_bench_cudagraph

    if size < LARGE:
        return "graph", do_bench_cudagraph(function, quantiles=QUANTILES)
    return "do_bench", do_bench(function, quantiles=QUANTILES)


def _repeat(function: Callable[[], Any]) -> list[float]:
    times: list[float] = []
    while len(times) < 5 or sum(times) < 1e3 * REPEAT_SECONDS:
        start = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - start))
    return torch.tensor(times, dtype=torch.float64).quantile(torch.tensor(QUANTILES, dtype=torch.float64)).tolist()


def _directions(kernel: Kernel, inputs: Inputs) -> dict[str, Callable[..., Any]]:
    with torch.no_grad():
        grads = [torch.randn_like(y) for y in as_tuple(kernel.op(*inputs))]

    def forward(function: Callable[..., Any]) -> Any:
        with torch.no_grad():
            return function(*inputs)

    def both(function: Callable[..., Any]) -> Any:
        return torch.autograd.grad(as_tuple(function(*inputs)), leaves(inputs), grads)

    return {"forward": forward, "forward+backward": both}


def _providers(kernel: Kernel, device: str) -> dict[str, Callable[..., Any]]:
    """Name -> the operation; compiled without torch's own CUDA graphs, which would time copies into them as well."""
    missing = left_out(device)
    found = {"triton": kernel.op, "eager": kernel.reference}
    if "compiled" not in missing:
        torch.compiler.reset()  # or the limit on recompiling one function turns later cells into eager ones
        mode = "max-autotune-no-cudagraphs" if device == "cuda" else "default"
        found["compiled"] = torch.compile(kernel.reference, dynamic=False, mode=mode)
    return {provider: function for provider, function in found.items() if provider not in missing}
