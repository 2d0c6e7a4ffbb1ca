"""What several verbs share: options, the talk on stderr, and the one JSON object on stdout."""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aekit import remote

if TYPE_CHECKING:  # these load torch, and --help must stay instant
    from aekit.workflows import Options, Talk

Data = Annotated[
    str,
    typer.Argument(metavar="INPUT", help="A file, a folder, a 'pattern*' or an address of files, or a named data set."),
]
Model = Annotated[
    str | None, typer.Option("--model", help="Model file or run folder; else the newest run under runs/ that fits.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Kernels = Annotated[
    str,
    typer.Option(
        "--kernels",
        help="auto is Triton on a GPU where it is known to be quicker, else torch; triton or torch asks for one.",
    ),
]
Precision = Annotated[
    str | None, typer.Option("--precision", help="fp32, tf32 or bf16; else the one the model was trained with.")
]
BatchSize = Annotated[int | None, typer.Option("--batch-size", min=1, help="Samples the model takes at a time.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of all that is drawn.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite outputs that exist.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Train on the input itself, whatever lies under runs/.")]
Report = Annotated[str | None, typer.Option("--report", help="Also write this one-file HTML report.")]
Labels = Annotated[
    str | None, typer.Option("--labels", help="Name of the labels in the file, or a file with one label per row.")
]
Normal = Annotated[
    str | None, typer.Option("--normal", help="Classes that count as normal, as in 1 or 1,2; all others are anomalies.")
]

Shard = Annotated[
    str | None,
    typer.Option(
        "--shard", metavar="I/N", help="Only the I-th of N parts of the rows, written to OUT.parts, for aekit merge."
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="local|ray",
        help="ray: by all GPUs, or CPUs, of the Ray cluster of RAY_ADDRESS, or of here.",
    ),
]
Missing = Annotated[
    str | None,
    typer.Option(
        "--missing",
        help="Of tables: error where a value is missing, or mean, the column's in the training data; else as the model "
        "was trained.",
    ),
]

SECONDS_BETWEEN_LINES = 10.0  # of progress in a log
SECONDS_OF_TRAINING = 30.0  # likewise, for epochs have lines of their own


def is_ray(engine: str, shard: str | None, whole: dict[str, object]) -> bool:
    """Whether Ray is to do it; a usage error beside --shard, and beside flags that take all rows at once."""
    check_choice("--engine", engine, ("local", "ray"))
    if engine == "local":
        return False
    for flag, value in {"--shard": shard, **whole}.items():
        if value is not None and value is not False:
            raise typer.BadParameter(f"ray goes without {flag}", param_hint="--engine")
    return True


def check_choice(flag: str, value: str | None, choices: tuple[str, ...]) -> None:
    """Ends with usage error 2 where the value is none of the choices."""
    if value is not None and value not in choices:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(choices)}", param_hint=flag)


def options(
    model: str | None = None,
    device: str = "auto",
    kernels: str = "auto",
    precision: str | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    force: bool = False,
    report: str | None = None,
    fresh: bool = False,
    missing: str | None = None,
) -> "Options":
    from aekit.workflows import Options

    check_where(device, kernels)
    check_choice("--missing", missing, ("error", "mean"))
    check_choice("--precision", precision, ("fp32", "tf32", "bf16"))
    if fresh and model is not None:
        raise typer.BadParameter("trains a model, --model names one; leave one off", param_hint="--fresh")
    return Options(model, device, kernels, precision, batch_size, seed, force, report, fresh, missing)


def check_where(device: str, kernels: str) -> None:
    check_choice("--device", device, ("auto", "cpu", "cuda"))
    check_choice("--kernels", kernels, ("auto", "triton", "torch"))


def talk(quiet: bool) -> "Talk":
    """Lines on stderr, and progress: a bar on a terminal, a line every ten seconds or thirty in a log."""
    made = _talk(quiet)
    remote.talk_by(made.say, made.track)
    return made


def _talk(quiet: bool) -> "Talk":
    from aekit.workflows import Talk

    if quiet:
        return Talk()
    if not sys.stderr.isatty():
        return Talk(lambda line: print(remote.told(line), file=sys.stderr, flush=True), _plain_track)
    from rich.console import Console

    console = Console(stderr=True, highlight=False)

    @contextlib.contextmanager
    def track(description: str, total: int) -> Iterator[Callable[[int], None]]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as TimeLeftColumn

        counts = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        columns = (*counts, TimeElapsedColumn(), TextColumn("so far,"), TimeLeftColumn(), TextColumn("left"))
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(description, total=total)
            yield lambda done: progress.update(task, completed=done)

    return Talk(lambda line: console.print(remote.told(line), markup=False, soft_wrap=True), track)


@contextlib.contextmanager
def _plain_track(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """A line every so many seconds: what is done, how fast, and the time left as it has gone since the first call."""
    last = time.monotonic()
    pause = SECONDS_OF_TRAINING if description == "training" else SECONDS_BETWEEN_LINES
    first: tuple[float, int] | None = None  # a run that is resumed does not begin at 0

    def advance(done: int) -> None:
        nonlocal last, first
        now = time.monotonic()
        first = first or (now, done)
        if now - last >= pause:
            last = now
            line = progress_line(description, done, total, now - first[0], done - first[1])
            print(line, file=sys.stderr, flush=True)

    yield advance


def progress_line(description: str, done: int, total: int, seconds: float, since: int) -> str:
    """As in "rows: 120,000 of 2,000,000, 4,000 a second, 8 min left", where `since` were done in so many seconds."""
    line = f"{description}: {done:,} of {total:,}"
    if not (seconds > 0 and since > 0):
        return line
    rate = since / seconds
    left = (total - done) / rate
    told = f"{left:.0f} s" if left < 100 else f"{left / 60:.0f} min" if left < 6000 else f"{left / 3600:.1f} h"
    return f"{line}, {rate:,.{0 if rate >= 10 else 2}f} a second, {told} left"


def report(figures: dict[str, Any], as_json: bool, quiet: bool) -> None:
    """The figures as one JSON object on stdout, or as lines on stderr, which leave out what is a table of its own."""
    if as_json:
        print(remote.told(json.dumps(figures, allow_nan=False)))
    elif not quiet:
        figures = {name: value for name, value in figures.items() if not isinstance(value, dict | list)}
        width = max(map(len, figures))
        for name, value in figures.items():
            number = f"{value:,}" if isinstance(value, int) else f"{value:.6g}" if isinstance(value, float) else None
            shown = "-" if value is None else number or value
            print(f"{name.replace('_', ' '):{width}}  {remote.told(str(shown))}", file=sys.stderr)


def show(facts: dict[str, Any], as_json: bool) -> None:
    """Facts that were asked for, on stdout: one JSON object, or a line each."""
    if as_json:
        print(remote.told(json.dumps(facts, allow_nan=False)))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        if value is not None:
            print(f"{name.replace('_', ' '):{width}}  {remote.told(str(value))}")
