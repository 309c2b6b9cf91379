"""`fastvlm convert`: rewrite a checkpoint in another layout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from fastvlm.cli.output import debug_option
from fastvlm.errors import CheckpointError, require_extra
from fastvlm.files import is_free, pictures_in


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
@click.option(
    "--calibrate",
    "pictures",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Typical pictures, on which to measure what an encoder in eight bits (--quantize) has to know.",
)
@click.option("--fuse", is_flag=True, help="Write the encoder in its fused form: it answers, and learns no more.")
@debug_option
def convert_command(
    source: str,
    destination: Path,
    layout: Literal["fastvlm", "apple", "transformers"],
    dtype: str | None,
    pictures: Path | None,
    fuse: bool,
) -> None:
    """Rewrite a checkpoint in another layout.

    SOURCE is a folder, a hub id or `embedded`; DESTINATION is a new folder, which appears whole or not at all. The
    layouts are our own, that of the authors' code (apple), and that of transformers.
    """
    if not is_free(destination):
        raise CheckpointError(f"Expected a new or empty folder, got {destination}. Choose another one.")
    if pictures is not None and layout != "fastvlm":
        raise click.UsageError(
            "Only our own layout holds a calibration: leave out '--to'.", click.get_current_context()
        )
    if pictures is not None and fuse:
        raise click.UsageError("Fuse first, then calibrate what was written.", click.get_current_context())
    require_extra("torch", "torch")
    from fastvlm.checkpoints.rewrite import rewrite_checkpoint

    ranges = None if pictures is None else _calibrated(source, pictures)
    click.echo(rewrite_checkpoint(source, destination, layout=layout, dtype=dtype, encoder_ranges=ranges, fuse=fuse))


def _calibrated(source: str, folder: Path) -> dict[str, float]:
    """Measure the ranges of a model's encoder on the pictures of a folder, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    from fastvlm.checkpoints.hub import resolve
    from fastvlm.checkpoints.stored import read_checkpoint
    from fastvlm.runtimes.openvino.calibration import calibrate

    pictures = pictures_in(folder)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("calibrating", total=None)
        return calibrate(
            read_checkpoint(resolve(source)),
            pictures,
            report=lambda done, total: progress.update(bar, completed=done, total=total),
        )
