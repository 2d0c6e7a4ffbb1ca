"""aekit merge."""

from typing import Annotated

import typer

from aekit.cli import _options as shared


def merge(
    out: Annotated[
        str, typer.Argument(metavar="OUT", help="The output that was named to the shards; OUT.parts is read.")
    ],
    threshold: Annotated[
        str | None, typer.Option(help="Another rule for scores than the shards were given, as in fdr=0.05.")
    ] = None,
    device: shared.Device = "auto",
    as_json: shared.Json = False,
    force: shared.Force = False,
    quiet: shared.Quiet = False,
) -> None:
    """Join the parts that --shard left, when each row is there once: the same bytes as without --shard."""
    from aekit import workflows

    options = shared.options(device=device, force=force)
    shared.report(workflows.merge(out, threshold, options, shared.talk(quiet)), as_json, quiet)
