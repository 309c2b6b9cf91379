"""`fastvlm bench start`: from the command to the first token."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from click.core import ParameterSource

from fastvlm.cli.bench_options import (
    check_files,
    json_option,
    markdown_option,
    progress,
    shape_option,
    threads_option,
)
from fastvlm.cli.output import debug_option, finish
from fastvlm.files import write_whole

_FORMATS = ("none", "int8", "int4")


@click.command("start", short_help="Measure the whole command, from its start to its first token.")
@shape_option
@click.option("-m", "--model", metavar="MODEL", help="A folder, a hub id or `embedded`, instead of a shape.")
@click.option(
    "--quantize",
    type=click.Choice(_FORMATS),
    multiple=True,
    default=_FORMATS,
    help="A format of the decoder's weights, several times for several; all if not given.",
)
@click.option("--starts", type=click.IntRange(min=1), default=7, show_default=True, help="In each format.")
@click.option(
    "--empty", "num_empty", type=click.IntRange(min=0), default=1, show_default=True, help="Starts with an empty cache."
)
@threads_option
@json_option
@markdown_option
@debug_option
@click.pass_context
def start_command(
    context: click.Context,
    shape: str,
    model: str | None,
    quantize: tuple[str, ...],
    starts: int,
    num_empty: int,
    threads: int,
    json_file: Path | None,
    markdown_file: Path | None,
) -> None:
    """Measure the whole command, from its start to its first token.

    Runs `fastvlm ask` for one token so often in each format, in turn, with everything kept from an earlier start, and
    some times with nothing kept. A shape is written as a calibrated checkpoint with random weights and a tokenizer of
    as many words as its decoder knows; the picture is a JPEG file of 1600 x 1200 pixels.
    """
    from fastvlm.benchmarks.askable import askable_checkpoint
    from fastvlm.benchmarks.report import write_json
    from fastvlm.benchmarks.starts import measure_starts, starts_markdown

    if model is not None and context.get_parameter_source("shape") is ParameterSource.COMMANDLINE:
        raise click.UsageError("Expected --shape or --model, got both. Leave one of them out.")
    check_files(json_file, None, markdown_file)
    with tempfile.TemporaryDirectory(prefix="fastvlm-bench-") as folder, progress() as report:
        if model is None:
            report(f"drawing random weights of the shape {shape}")
            asked = str(askable_checkpoint(shape, Path(folder) / shape, layout="fastvlm"))
        else:
            asked = model
        result = measure_starts(
            asked,
            name=model or shape,
            quantize=[None if chosen == "none" else chosen for chosen in dict.fromkeys(quantize)],
            num_starts=starts,
            num_empty_starts=num_empty,
            num_threads=threads,
            report=report,
        )
    finish(
        result,
        {
            json_file: lambda path: write_json(result, path),
            markdown_file: lambda path: write_whole(path, starts_markdown(result)),
        },
    )
