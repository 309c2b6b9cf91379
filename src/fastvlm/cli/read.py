"""`fastvlm read`: the text, or the fields, of many pictures and pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

import click

from fastvlm.cli.inputs import Work, fields_work, input_options, page_work, run_over_pages
from fastvlm.cli.options import ModelOptions, model_options
from fastvlm.cli.output import debug_option


def _fields_asked(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for value in values:
        name, equals, question = value.partition("=")
        if not (name.strip() and equals and question.strip()):
            raise click.BadParameter(f"{value!r} is no NAME=QUESTION.")
        if name.strip() in found:
            raise click.BadParameter(f"There are two questions for {name.strip()!r}. Leave one out.")
        found[name.strip()] = question.strip()
    return found


@click.command("read", short_help="Read the text, or the fields, of pictures and PDFs.")
@input_options
@click.option(
    "--fields", is_flag=True, help="Usual fields of a receipt or form as JSON, null where not shown or unsure."
)
@click.option(
    "--field",
    "questions",
    multiple=True,
    metavar="NAME=QUESTION",
    callback=_fields_asked,
    help="A field of your own, by the question for it; may be repeated.",
)
@model_options
@debug_option
def read_command(
    words: tuple[str, ...],
    output: Path | None,
    resume: bool,
    as_json: bool,
    max_tokens: int,
    fields: bool,
    questions: dict[str, str],
    **options: Unpack[ModelOptions],
) -> None:
    """Read the text, or the fields, of pictures and PDFs.

    Folders are read with all that is below them, PDFs and TIFF files page by page. A file that cannot be read is told
    and passed over; the exit code is 1 then. What can be read depends on the model: the embedded one reads a few lines
    of clean type at one look, and pages line by line, where words are often misread.
    """
    if fields and questions:
        raise click.UsageError("Expected --fields, or questions of your own by --field, got both. Leave one out.")
    own = ", ".join(f"{name}={question}" for name, question in questions.items())
    wanted = own or ("fields" if fields else "text")

    def work_of(assistant: Any) -> Work:
        if fields or questions:
            return fields_work(assistant, questions or None, max_tokens=max_tokens)
        return page_work(assistant, max_tokens=max_tokens)

    run_over_pages(
        words, output, work_of, options, wanted=wanted, max_tokens=max_tokens, resume=resume, as_json=as_json
    )
