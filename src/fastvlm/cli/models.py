"""`fastvlm models`: what can be named to --model."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from fastvlm.cli.output import debug_option, print_json

if TYPE_CHECKING:
    from fastvlm.checkpoints.catalogue import KnownModel

PLACES = {"package": "inside the package", "hub": "on the hub", "cache": "in the hub's cache"}
LICENCE_NOTES = {"apple-amlr": "research only"}


@click.command("models", short_help="List the models at hand.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@debug_option
def models_command(as_json: bool) -> None:
    """List the models at hand.

    The embedded model, the authors' releases on the hub, and what the hub's cache on this machine holds. A folder of
    your own can be named to --model as well. Nothing is downloaded.
    """
    from fastvlm.checkpoints.catalogue import list_models

    models = list_models()
    if as_json:
        print_json({"models": [asdict(model) for model in models]})
        return
    rows = [("MODEL", "WHERE", "PARAMETERS", "ON DISK", "LICENCE"), *map(_row, models)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        line = "  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
        click.echo(click.style(line, bold=number == 0))


def _row(model: KnownModel) -> tuple[str, str, str, str, str]:
    licence = model.licence or "see its page"
    licence_note = LICENCE_NOTES.get(licence)
    return (
        model.name,
        PLACES[model.place],
        _short(model.num_parameters) if model.num_parameters else "",
        f"{model.num_bytes / 1e6:,.1f} MB" if model.num_bytes else "",
        f"{licence} ({licence_note})" if licence_note else licence,
    )


def _short(num_parameters: int) -> str:
    return f"{num_parameters / 1e9:.2f} B" if num_parameters >= 1e8 else f"{num_parameters / 1e6:.1f} M"
