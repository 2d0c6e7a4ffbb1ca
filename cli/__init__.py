"""The command line: words, defaults and exit codes. The one place where an AekitError becomes a message."""

import os
import signal
import sys

import typer

from aekit.cli.bench import bench
from aekit.cli.denoise import denoise
from aekit.cli.embed import embed
from aekit.cli.generate import generate
from aekit.cli.info import datasets, doctor, info, recipes
from aekit.cli.merge import merge
from aekit.cli.score import score
from aekit.cli.train import train
from aekit.errors import AekitError, RankError, UsageError
from aekit.remote import told

app = typer.Typer(
    name="aekit",
    help="Train autoencoders and put them to work: remove noise, find anomalies, embed, generate.",
    epilog="Start with: aekit train conv --data digits",
    no_args_is_help=True,
    rich_markup_mode=None,  # halves the time of --help
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (train, denoise, score, embed, generate, merge, info, recipes, datasets, doctor, bench):
    app.command()(verb)


def version(wanted: bool) -> None:
    if wanted:
        from aekit import __version__

        print(f"aekit {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main() -> None:
    """The program: exits 0 done, 1 the user's or the data's fault, 2 wrong usage, 130 after Ctrl-C."""
    is_stopped = False

    def stop(number: int, frame: object) -> None:
        nonlocal is_stopped
        is_stopped = True
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, stop)
    try:
        app()
    except SystemExit as stopped:
        sys.exit(130 if is_stopped and stopped.code else stopped.code)  # a library's fault while it was stopped
    except AekitError as error:
        if is_stopped:  # a library took Ctrl-C for a fault of what it was reading
            sys.exit(130)
        if os.environ.get("LOCAL_RANK", "0") == "0" or isinstance(error, RankError):  # all of a machine find the same
            print(f"aekit: {told(str(error))}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except MemoryError:
        print("aekit: out of memory; try a smaller --batch-size", file=sys.stderr)
        sys.exit(1)
    except RuntimeError as error:
        if "out of memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        print("aekit: out of memory; try a smaller --batch-size", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"aekit: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
