"""Times every kernel beside eager and compiled torch on the GPU of this machine: kernels-<gpu>.csv.

    python bench/kernels.py        # into $OUT, or bench/results; see bench/README.md for the columns

A kernel that fails parity on a cell gets no number there, and the exit status is 1.
"""

import csv
import os
import subprocess
import sys
from dataclasses import astuple, fields
from pathlib import Path

import torch

from aekit.kernels import KERNELS, layer_name, use
from aekit.kernels._bench import Row, cells_for, look_at, measure
from aekit.kernels._cells import Cell

DEVICE = "cuda"


def print_gains(measured: list[tuple[Cell, list[Row]]]) -> None:
    """For each layer, how many times faster than the best of torch its kernel is, by cell: what belongs in WINS."""
    gains: dict[str, list[str]] = {}
    for cell, rows in measured:
        tensors = [x for x in cell.inputs("meta") if isinstance(x, torch.Tensor)]
        c_in, c_out = tensors[0].shape[1], tensors[1].shape[cell.kernel != "conv"] if tensors[1].dim() > 2 else 0
        for direction in ("forward", "forward+backward"):
            times = {row.provider: row.p50_ms for row in rows if row.direction == direction}
            if own := times.pop("triton", None):
                text = f"{cell.shape[0]} {cell.dtype} {direction} {min(times.values()) / own:.2f}"
                gains.setdefault(layer_name(cell.kernel, c_in, c_out), []).append(text)
    for layer, texts in gains.items():
        print(f"{layer}: {', '.join(texts)}")


def main() -> int:
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured")
        return 0
    use("triton")
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    gpu = torch.cuda.get_device_name().lower().replace(" ", "-")
    machine = look_at(DEVICE)
    products = ", ".join(f"{dtype} {speed:.0f}" for dtype, speed in machine.product_tflop_per_s.items())
    print(f"{gpu}: a copy moves {machine.copy_gb_per_s:.0f} GB/s, a product makes TFLOP/s: {products}")
    folder = Path(os.environ.get("OUT", Path(__file__).parent / "results"))
    folder.mkdir(parents=True, exist_ok=True)
    failures, rows_of = [], []
    with (folder / f"kernels-{gpu}.csv").open("w", newline="", buffering=1) as file:  # a run cut short keeps its rows
        writer = csv.writer(file)
        writer.writerow(["commit", *(field.name for field in fields(Row))])
        for cell in cells_for(DEVICE, KERNELS):
            rows, wrong = measure(cell, machine)
            if wrong:
                failures.append("  ".join([*cell.words, "not timed, for it fails parity:", *wrong]))
            rows_of.append((cell, rows))
            for row in rows:
                shown = (
                    f"{row.p50_ms:.4f} ms  {row.share_of_copy:.0%} of copy  {row.share_of_product or 0:.0%} of product"
                )
                print(*cell.words, row.direction, row.provider, shown, sep="  ")
                values = (f"{x:.6g}" if isinstance(x, float) else x for x in astuple(row))
                writer.writerow([git.stdout.strip(), *values])
    print(*failures, sep="\n")
    print_gains(rows_of)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
