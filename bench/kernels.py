"""Times every kernel beside eager and compiled torch on the GPU of this machine: kernels-<gpu>.csv.

    python bench/kernels.py        # into $OUT, or bench/results; see bench/README.md for the columns

A kernel that fails parity on a cell gets no number there, and the exit status is 1.
"""

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, fields
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aekit.kernels import KERNELS, Kernel, use
from aekit.kernels._parity import strays
from aekit.kernels._registry import Inputs

DEVICE = "cuda"
DTYPES = (torch.float32, torch.bfloat16)
LARGE = 64 * 2**20  # bytes moved, from which on memory and not the launch decides
QUANTILES = [0.5, 0.2, 0.8]


@dataclass(frozen=True)
class Row:
    commit: str
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


def providers(kernel: Kernel) -> dict[str, Callable[..., Any]]:
    """Name -> the operation; compiled without torch's own CUDA graphs, which would time copies into them as well."""
    torch.compiler.reset()  # or the limit on recompiling one function turns later cells into eager ones
    compiled = torch.compile(kernel.reference, dynamic=False, mode="max-autotune-no-cudagraphs")
    return {"triton": kernel.op, "eager": kernel.reference, "compiled": compiled}


def directions(inputs: Inputs, outputs: tuple[Tensor, ...]) -> dict[str, tuple[Callable[..., Any], int]]:
    """Name -> (what runs, the fewest bytes it can move)."""
    tensors = [x for x in inputs if isinstance(x, Tensor)]
    leaves = [x for x in tensors if x.requires_grad]
    grads = [torch.randn_like(y) for y in outputs]

    def forward(function: Callable[..., Any]) -> Any:
        with torch.no_grad():
            return function(*inputs)

    def both(function: Callable[..., Any]) -> Any:
        result = function(*inputs)
        return torch.autograd.grad(result, leaves, grads if isinstance(result, tuple) else grads[0])

    there = moved(tensors) + moved(outputs)
    back = moved(tensors) + moved(grads) + moved(leaves)
    return {"forward": (forward, there), "forward+backward": (both, there + back)}


def moved(tensors: Any) -> int:
    return sum(x.nbytes for x in tensors)


def milliseconds(function: Callable[[], Any], size: int) -> tuple[str, list[float]]:
    """The timer's name, and p50, p20, p80: small cells inside a CUDA graph, as training runs them, for a launch from
    Python takes longer than they do; large ones by do_bench, which clears the cache before each run."""
    from triton.testing import do_bench, do_bench_cudagraph

    function()  # compiles
    if size < LARGE:
        return "graph", do_bench_cudagraph(function, quantiles=QUANTILES)
    return "do_bench", do_bench(function, quantiles=QUANTILES)


def copy_gb_per_s() -> float:
    """Bytes read and written a second by a copy of 2 GiB: what the memory of this GPU gives today."""
    x = torch.empty(2**31, dtype=torch.uint8, device=DEVICE).random_()
    y = torch.empty_like(x)
    return 2 * x.nbytes / milliseconds(partial(y.copy_, x), x.nbytes)[1][0] / 1e6


def measure(commit: str, copy: float, failures: list[str]) -> Iterator[Row]:
    """A row for each cell, direction and provider; a cell that fails parity gives none, and goes into failures."""
    for name, kernel in KERNELS.items():
        for (variant, shape), dtype in product(kernel.bench, DTYPES):
            inputs = kernel.make_inputs[variant](shape, dtype=dtype, device=DEVICE)
            cell = (name, variant, "x".join(map(str, shape)), str(dtype).removeprefix("torch."))
            if wrong := strays(kernel, inputs):
                failures.append("  ".join([*cell, "not timed, for it fails parity:", *wrong]))
                continue
            with torch.no_grad():
                outputs = kernel.op(*inputs)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            for direction, (run, size) in directions(inputs, outputs).items():
                for provider, function in providers(kernel).items():
                    timer, (p50, p20, p80) = milliseconds(partial(run, function), size)
                    rate = size / p50 / 1e6
                    print(*cell, direction, provider, f"{p50:.4f} ms  {rate / copy:.0%} of copy", sep="  ")
                    yield Row(commit, *cell, direction, provider, timer, p20, p50, p80, rate, rate / copy)


def main() -> int:
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured")
        return 0
    use("triton")
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    gpu = torch.cuda.get_device_name().lower().replace(" ", "-")
    copy = copy_gb_per_s()
    print(f"{gpu}: a copy moves {copy:.0f} GB/s")
    folder = Path(os.environ.get("OUT", Path(__file__).parent / "results"))
    folder.mkdir(parents=True, exist_ok=True)
    failures: list[str] = []
    with (folder / f"kernels-{gpu}.csv").open("w", newline="", buffering=1) as file:  # a run cut short keeps its rows
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(Row))
        for row in measure(git.stdout.strip(), copy, failures):
            writer.writerow(f"{x:.6g}" if isinstance(x, float) else x for x in astuple(row))
    print(*failures, sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
