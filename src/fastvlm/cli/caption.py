"""`fastvlm caption`: a sentence for each of many pictures and pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

import click

from fastvlm.cli.inputs import Work, input_options, run_over_pages, text_work
from fastvlm.cli.options import ModelOptions, model_options
from fastvlm.cli.output import debug_option


@click.command("caption", short_help="Describe pictures and pages in a sentence.")
@input_options
@model_options
@debug_option
def caption_command(
    words: tuple[str, ...],
    output: Path | None,
    resume: bool,
    as_json: bool,
    max_tokens: int,
    **options: Unpack[ModelOptions],
) -> None:
    """Describe pictures and pages in a sentence.

    Folders are read with all that is below them, PDFs and TIFF files page by page. A file that cannot be read is told
    and passed over; the exit code is 1 then.
    """
    from fastvlm.inference.reading import CAPTION_QUESTION

    def work_of(assistant: Any) -> Work:
        return text_work(assistant, CAPTION_QUESTION, max_tokens=max_tokens)

    run_over_pages(
        words, output, work_of, options, wanted="caption", max_tokens=max_tokens, resume=resume, as_json=as_json
    )
