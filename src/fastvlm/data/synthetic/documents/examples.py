"""The documents at the root of the repository, for people to ask about.

`python -m fastvlm.data.synthetic.documents.examples examples` writes them anew; how they look depends on the typefaces
of the machine.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from fastvlm.data.synthetic.documents.document import Fact, Kind
from fastvlm.data.synthetic.documents.phrasings import CLAIMS, KIND_WORDS, PHRASINGS
from fastvlm.data.synthetic.documents.samples import DocumentSample, document_sample
from fastvlm.data.synthetic.wording import capitalised
from fastvlm.files import replacing, write_whole

PAGE = "documents.md"
_NUM_QUESTIONS = 8


@dataclass(frozen=True)
class ExampleDocument:
    """Document `index` of the test split: its kind, and its canvas as (width, height) in pixels."""

    kind: Kind
    index: int
    canvas: tuple[int, int]

    def sample(self) -> DocumentSample:
        """The document as it was set, not worsened."""
        return document_sample(
            "test",
            self.index,
            self.kind,
            self.canvas,
            num_questions=0,
            phrasing="train",
            is_degraded=False,
        )

    def questions(self) -> list[tuple[str, str]]:
        """Of every sort of fact the first, asked for in plain words, so many at most; then a claim, true and false."""
        slots = {"doc": KIND_WORDS[self.kind][0]}
        facts: dict[str, Fact] = {}
        for fact in self.sample().document.facts:
            facts.setdefault(fact.intent, fact)
        asked = [
            (capitalised(PHRASINGS[fact.intent].train[0].format_map({**slots, **fact.slots})), fact.answer)
            for fact in facts.values()
        ]
        return asked[:_NUM_QUESTIONS] + _verified(list(facts.values()))


EXAMPLES: tuple[ExampleDocument, ...] = (
    ExampleDocument("receipt", 28, (320, 448)),
    ExampleDocument("form", 3, (384, 320)),
    ExampleDocument("table", 13, (384, 256)),
    ExampleDocument("chart", 38, (384, 256)),
    ExampleDocument("sign", 2, (256, 192)),
    ExampleDocument("page", 4, (384, 256)),
)
"""One of each kind that the embedded model knows."""


def _verified(facts: list[Fact]) -> list[tuple[str, str]]:
    """The first fact that is said as "... is ...", asked as "Is ...?": as it is, and with an answer that is wrong."""
    for fact in facts:
        subject, is_said, answer = CLAIMS.get(fact.intent, ("",))[0].partition(" is ")
        if is_said and answer == "{answer}" and fact.others:
            subject = subject.format_map(fact.slots)
            return [
                (f"Is {subject} {claimed}?", verdict)
                for claimed, verdict in ((fact.answer, "yes"), (fact.others[0], "no"))
            ]
    return []


def write_examples(folder: Path) -> None:
    """Write the pictures as PNG, and a page that lists questions with their true answers."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        "# Documents",
        "",
        "Of the test split, which no model was trained on, and chosen to be easy. Made by "
        "`python -m fastvlm.data.synthetic.documents.examples`; every answer is what is true of the picture; "
        "the embedded model gets some of them wrong.",
    ]
    for example in EXAMPLES:
        name = f"{example.kind}.png"
        with replacing(folder / name) as temporary:
            Image.fromarray(example.sample().image).save(temporary, format="PNG", optimize=True)
        lines += ["", f"## {name}", "", f"![{example.kind}]({name})", "", "| question | answer |", "|---|---|"]
        lines += [f"| {_cell(question)} | {_cell(answer)} |" for question, answer in example.questions()]
    write_whole(folder / PAGE, "\n".join(lines) + "\n")


def _cell(text: str) -> str:
    """A text as it stands in a cell of a table of Markdown."""
    return " / ".join(text.splitlines()).replace("|", "\\|")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Expected the folder of the examples, got something else.")
    write_examples(Path(sys.argv[1]))
