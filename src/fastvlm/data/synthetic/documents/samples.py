"""The stream of documents: every index of every split is one document and its questions, for good.

How they look depends on the typefaces of the machine (`fonts.fonts_digest`): where these are the same, so are the
pixels.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fastvlm.batches import UInt8Array
from fastvlm.data.synthetic.documents.chart import sample_chart
from fastvlm.data.synthetic.documents.degrade import degrade
from fastvlm.data.synthetic.documents.document import Document, Kind, Setting
from fastvlm.data.synthetic.documents.drawing import is_legible, render
from fastvlm.data.synthetic.documents.form import sample_form
from fastvlm.data.synthetic.documents.lines import sample_line
from fastvlm.data.synthetic.documents.page import sample_page, sample_sign
from fastvlm.data.synthetic.documents.questions import DocumentQuestion, Phrasing, sample_document_questions
from fastvlm.data.synthetic.documents.receipt import sample_receipt
from fastvlm.data.synthetic.documents.table import sample_table

DOCUMENTS_VERSION = 4
"""Raised whenever the same split and index would give another picture or another question."""

DocumentSplit = Literal["train", "dev", "test", "unseen", "combined"]
"""`test` has other seeds than `train`. `combined` also has kinds of documents in formats that training shows of other
kinds only: receipts that are wide, charts that are tall. `unseen` has designs of type, words, layouts (of charts:
colours) and ranges of totals, dates, whole numbers and half of the tables' cells that no training shows."""

_SPLIT_KEYS: dict[DocumentSplit, int] = {"train": 0, "dev": 1, "test": 2, "unseen": 3, "combined": 4}

MAKERS: Mapping[Kind, Callable[[Setting], Document]] = {
    "receipt": sample_receipt, "form": sample_form, "table": sample_table, "chart": sample_chart, "sign": sample_sign,
    "line": sample_line, "page": sample_page,
}  # fmt: skip
"""What draws each family."""

FAMILY_WEIGHTS: Mapping[Kind, float] = {
    "receipt": 0.22, "form": 0.14, "table": 0.14, "chart": 0.2, "sign": 0.08, "line": 0.1, "page": 0.12,
}  # fmt: skip
"""Share of each family among the pictures."""

CANVASES: Mapping[Kind, Sequence[tuple[int, int]]] = {
    "receipt": ((256, 384), (256, 512), (320, 448), (320, 512), (384, 512)),
    "form": ((320, 256), (384, 320), (384, 384), (448, 320), (448, 448), (320, 448)),
    "table": ((320, 192), (384, 256), (448, 256), (512, 320), (448, 320)),
    "chart": ((320, 256), (384, 256), (384, 320), (448, 320)),
    "sign": ((192, 128), (256, 128), (256, 192), (192, 192), (320, 128)),
    "line": ((192, 64), (256, 64), (320, 64), (128, 64)),
    "page": ((320, 256), (384, 256), (448, 320), (384, 384), (512, 256)),
}
"""(width, height) of each family in pixels, multiples of 64."""

LARGE_CANVASES: Mapping[Kind, Sequence[tuple[int, int]]] = {
    "receipt": ((320, 704), (384, 768), (448, 832)),
    "form": ((512, 704),),
    "table": ((704, 448),),
    "page": ((576, 640),),
}
"""As long as real receipts and pages are: for training beside the others, nothing is judged on them."""


COMBINED_CANVASES: Mapping[Kind, Sequence[tuple[int, int]]] = {
    "receipt": ((448, 320), (448, 384)),
    "form": ((320, 512), (512, 256)),
    "table": ((320, 448), (384, 384)),
    "chart": ((256, 384), (320, 448)),
    "sign": ((128, 256), (192, 320)),
    "line": ((384, 64), (448, 64)),
    "page": ((256, 384), (320, 448)),
}
"""(width, height) of each family in formats that training shows of other families, never of its own."""


@dataclass(frozen=True)
class DocumentSample:
    """A document, its picture as uint8 [height, width, 3], and questions about it."""

    document: Document
    image: UInt8Array
    questions: tuple[DocumentQuestion, ...]


def family_of(split: DocumentSplit, index: int) -> tuple[Kind, tuple[int, int]]:
    """The family of sample `index` and its canvas, where they are not chosen otherwise (as for a batch of one size)."""
    rng = random.Random(f"{DOCUMENTS_VERSION}/{split}/{index}/family")
    family = rng.choices(list(FAMILY_WEIGHTS), list(FAMILY_WEIGHTS.values()))[0]
    return family, rng.choice((COMBINED_CANVASES if split == "combined" else CANVASES)[family])


def document_sample(
    split: DocumentSplit,
    index: int,
    family: Kind,
    canvas: tuple[int, int],
    *,
    num_questions: int,
    phrasing: Phrasing,
    is_degraded: bool = True,
) -> DocumentSample:
    """Make one document: the same arguments always give the same pixels and texts, on the same typefaces.

    canvas: (width, height) in pixels. is_degraded: False leaves the picture clean, for whoever degrades many at once.
    """
    document_rng, question_rng, generator = _streams(split, index)
    held_out = split == "unseen"
    setting = Setting(
        document_rng,
        *canvas,
        fonts="held_out" if held_out else "train",
        words="held_out" if held_out else "train",
        layouts="held_out" if held_out else "train",
    )
    document = _legible(family, setting)
    image = render(document.drawing)
    if is_degraded:
        image = degrade(image[None], generator, keeps_colors=[keeps_colors(document)])[0]
    questions = sample_document_questions(document, question_rng, num_questions=num_questions, phrasing=phrasing)
    return DocumentSample(document, image, tuple(questions))


_ATTEMPTS = 50


def _legible(family: Kind, setting: Setting) -> Document:
    """Draw until everything written has its place: what is random may be too wide or too long."""
    for _ in range(_ATTEMPTS):
        document = MAKERS[family](setting)
        if is_legible(document.drawing):
            break
    return document


def keeps_colors(document: Document) -> bool:
    """Whether the colours of a document are asked for, and must not fade."""
    return any(fact.intent in ("text_color", "sign_color") for fact in document.facts)


def _streams(split: DocumentSplit, index: int) -> tuple[random.Random, random.Random, np.random.Generator]:
    seeds = np.random.SeedSequence([DOCUMENTS_VERSION, _SPLIT_KEYS[split], index]).generate_state(3, np.uint64)
    return random.Random(int(seeds[0])), random.Random(int(seeds[1])), np.random.default_rng(int(seeds[2]))
