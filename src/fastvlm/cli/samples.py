"""`fastvlm samples`: look at generated documents and what is asked about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from fastvlm.cli.output import debug_option, note, print_json

if TYPE_CHECKING:
    from fastvlm.data.synthetic.documents.samples import DocumentSample, DocumentSplit

SHEET_PX = 1600


@click.command("samples", short_help="Look at generated documents and what is asked about them.")
@click.option(
    "--family",
    type=click.Choice(["receipt", "form", "table", "chart", "sign", "line", "page"]),
    help="One kind of documents; all by their shares if not given.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "dev", "unseen"]),
    default="train",
    show_default=True,
    help="`unseen` has designs of type, words and layouts that training never shows. The test split is not shown.",
)
@click.option("--count", type=click.IntRange(1, 500), default=24, show_default=True, help="Documents.")
@click.option("--first", type=click.IntRange(min=0), default=0, show_default=True, help="Number of the first one.")
@click.option("--questions", type=click.IntRange(0, 20), default=3, show_default=True, help="Printed for each.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), metavar="PNG", help="Write the pictures, on one contact sheet."
)
@click.option("--force", is_flag=True, help="Let --output replace a file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a document.")
@debug_option
def samples_command(
    family: str | None,
    split: DocumentSplit,
    count: int,
    first: int,
    questions: int,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Look at generated documents and what is asked about them.

    The recipe `documents` trains on such, with a few slips of the finger in the questions. The same number is always
    the same document, on the same typefaces. `unseen` has other amounts too.
    """
    from fastvlm.data.synthetic.documents.contact_sheet import contact_sheet
    from fastvlm.data.synthetic.documents.samples import document_sample, family_of
    from fastvlm.processing.preview import check_place_for, write_picture

    existing: Literal["replace", "refuse"] = "replace" if force else "refuse"
    if output is not None:
        check_place_for(output, existing=existing)
    found: list[DocumentSample] = []
    index = first
    while len(found) < count:
        kind, canvas = family_of(split, index)
        if family in (None, kind):
            sample = document_sample(split, index, kind, canvas, num_questions=questions, phrasing="train")
            found.append(sample)
            _print(f"{split}/{index}", sample, as_json=as_json)
        index += 1
    if output is not None:
        sheet = contact_sheet([sample.image for sample in found], width_px=SHEET_PX)
        write_picture(output, sheet, existing=existing)
        note(f"Written: {output}")


def _print(name: str, sample: DocumentSample, *, as_json: bool) -> None:
    asked = [{"question": question.text, "answer": question.answer} for question in sample.questions]
    document = sample.document
    if as_json:
        print_json(
            {
                "sample": name,
                "kind": document.kind,
                "caption": document.caption,
                "transcript": document.transcript,
                "questions": asked,
            }
        )
        return
    click.echo(click.style(f"{name}  {document.caption}", bold=True))
    for turn in asked:
        click.echo(f"  {turn['question']}  {turn['answer']!r}")
