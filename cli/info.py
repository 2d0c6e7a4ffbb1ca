"""aekit info, recipes, datasets and doctor: what there is."""

from typing import Annotated

import typer

from aekit.cli import _options as shared


def info(
    thing: Annotated[
        str, typer.Argument(metavar="FILE|MODEL|DATA", help="A data file, a model, a run folder or a data set.")
    ],
    labels: shared.Labels = None,
    report: shared.Report = None,
    as_json: shared.Json = False,
    force: shared.Force = False,
) -> None:
    """Tell what this is, its shape, and what to do with it."""
    from aekit import workflows

    figures = workflows.info(thing, labels, report, force)
    shared.show(figures, as_json)


def recipes(as_json: shared.Json = False) -> None:
    """List what can be trained."""
    from aekit import workflows

    shared.show(workflows.list_recipes(), as_json)


def datasets(as_json: shared.Json = False) -> None:
    """List the named data sets."""
    from aekit import workflows

    shared.show(workflows.list_datasets(), as_json)


def doctor(as_json: shared.Json = False) -> None:
    """Tell versions, device, and which kernels run here."""
    from aekit import workflows

    shared.show(workflows.doctor(), as_json)
