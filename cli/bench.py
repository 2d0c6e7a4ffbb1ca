"""aekit bench."""

import sys
from collections.abc import Callable
from itertools import groupby
from typing import Annotated, Any

import typer

from aekit.cli import _options as shared
from aekit.errors import AekitError

WIDTH = 120  # of a table in a file or a pipe
MEASURED: dict[str, Callable[[dict[str, Any]], str]] = {
    "dtype": lambda row: row["dtype"],
    "direction": lambda row: row["direction"],
    "provider": lambda row: row["provider"],
    "p20 ms": lambda row: f"{row['p20_ms']:.4f}",
    "p50 ms": lambda row: f"{row['p50_ms']:.4f}",
    "p80 ms": lambda row: f"{row['p80_ms']:.4f}",
    "GB/s": lambda row: f"{row['gb_per_s']:,.2f}",
    "of copy": lambda row: f"{row['share_of_copy']:.0%}",
    "TFLOP/s": lambda row: "-" if row["tflop_per_s"] is None else f"{row['tflop_per_s']:.3f}",
    "of product": lambda row: "-" if row["share_of_product"] is None else f"{row['share_of_product']:.0%}",
}
STATIC: dict[str, Callable[[dict[str, Any]], str]] = {
    "dtype": lambda row: row["dtype"],
    "direction": lambda row: row["direction"],
    "regs": lambda row: str(row["registers"]),
    "shared B": lambda row: f"{row['shared_bytes']:,}",
    "spilled": lambda row: f"{row['spilled_bytes']:,}",
    "tensor cores": lambda row: _tensor_cores(row),
    "MB": lambda row: f"{row['bytes'] / 1e6:,.3f}",
    "MFLOP": lambda row: f"{row['operations'] / 1e6:,.1f}" if row["operations"] else "-",
    "floor us": lambda row: f"{row['floor_us']:,.3f}",
    "by": lambda row: row["bound"],
}
WORDS = ("dtype", "direction", "provider", "tensor cores", "by")  # these columns start at the left


def bench(
    kernel: Annotated[
        list[str] | None,
        typer.Option("--kernel", metavar="NAME", help="Of this kernel alone; may be given several times."),
    ] = None,
    static: Annotated[
        bool, typer.Option("--static", help="Measure nothing: what the compiled kernels take of a GPU.")
    ] = False,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", help="With --static: a100, h100, h200 (default) or b200; it need not be here."),
    ] = None,
    device: shared.Device = "auto",
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Also write the rows to this CSV file; - is stdout, and no table.")
    ] = None,
    as_json: shared.Json = False,
    force: shared.Force = False,
    quiet: shared.Quiet = False,
) -> None:
    """Time the kernels beside torch, as shares of a copy and of a matrix product on this machine."""
    if out == "-" and as_json:
        raise typer.BadParameter("CSV and JSON cannot both go to stdout; leave one off", param_hint="--json")
    if gpu is not None and not static:
        raise typer.BadParameter("goes with --static", param_hint="--gpu")
    if static and device != "auto":
        raise typer.BadParameter("--static runs on no device; name a GPU with --gpu", param_hint="--device")
    shared.check_choice("--device", device, ("auto", "cpu", "cuda"))
    from aekit import workflows

    talk = shared.talk(quiet)
    if static:
        figures = workflows.bench_static(kernel or (), gpu or "h200", out, force, talk)
    else:
        figures = workflows.bench(kernel or (), device, out, force, talk)
    if as_json:
        shared.report(figures, as_json, quiet)
    elif out != "-":
        _show(_headline(figures), figures["rows"], STATIC if static else MEASURED)
        shared.report({name: figures[name] for name in ("cells", "out", "seconds")}, as_json, quiet)
    if failed := figures.get("failed"):
        raise AekitError(_complaint(failed, figures["cells"]))


def _complaint(failed: list[str], cells: int) -> str:
    more = f"; and {len(failed) - 1} more, which --json lists" if len(failed) > 1 else ""
    return f"{len(failed)} of {cells} cells fail parity and have no figures: {failed[0]}{more}"


def _headline(figures: dict[str, Any]) -> str:
    """What the shares, or the floors, are of."""
    speeds = figures["tflop_per_s"] if "gpu" in figures else figures["product_tflop_per_s"]
    products = ", ".join(f"{speed:,.4g} in {dtype}" for dtype, speed in speeds.items())
    if "gpu" in figures:
        return f"{figures['gpu']}, sm_{figures['architecture']}: {figures['gb_per_s']:,.0f} GB/s; TFLOP/s: {products}"
    copy = figures["copy_gb_per_s"]
    return f"{figures['device']}: a copy moves {copy:,.0f} GB/s, a matrix product makes TFLOP/s: {products}"


def _title(row: dict[str, Any]) -> str:
    return "  ".join(filter(None, (row["kernel"], row["variant"], row["shape"])))


def _tensor_cores(row: dict[str, Any]) -> str:
    found = (f"{row[name]} {name.replace('_', '.')}" for name in ("wgmma", "mma_sync", "tcgen05") if row[name])
    return f"{', '.join(found) or '-':21}"


def _show(headline: str, rows: list[dict[str, Any]], columns: dict[str, Callable[[dict[str, Any]], str]]) -> None:
    """A table for each kernel, variant and shape on stdout."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    console.print(headline)
    for title, cell in groupby(rows, _title):
        console.print(f"\n{title}", style="bold")
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1))
        for name in columns:
            table.add_column(name, justify="left" if name in WORDS else "right", min_width=7, no_wrap=True)
        for _, of_dtype in groupby(cell, lambda row: row["dtype"]):
            for row in of_dtype:
                table.add_row(*(show(row) for show in columns.values()))
            table.add_section()
        console.print(table)
