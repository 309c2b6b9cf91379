"""`fastvlm convert`: rewrite a checkpoint in another layout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from fastvlm.cli.output import debug_option
from fastvlm.errors import CheckpointError, require_extra


@click.command("convert", short_help="Rewrite a checkpoint in another layout.")
@click.argument("source")
@click.argument("destination", type=click.Path(path_type=Path))
@click.option(
    "--to", "layout", type=click.Choice(["fastvlm", "apple", "transformers"]), default="fastvlm", show_default=True
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Precision of the weights; kept if not given.",
)
@debug_option
def convert_command(
    source: str, destination: Path, layout: Literal["fastvlm", "apple", "transformers"], dtype: str | None
) -> None:
    """Rewrite a checkpoint in another layout.

    SOURCE is a folder, a hub id or `embedded`; DESTINATION is a new folder, which appears whole or not at all. The
    layouts are our own, that of the authors' code (apple), and that of transformers.
    """
    if destination.is_file() or (destination.is_dir() and any(destination.iterdir())):
        raise CheckpointError(f"Expected a new or empty folder, got {destination}. Choose another one.")
    require_extra("torch", "torch")
    from fastvlm.checkpoints.rewrite import rewrite_checkpoint

    click.echo(rewrite_checkpoint(source, destination, layout=layout, dtype=dtype))
