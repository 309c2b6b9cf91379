"""Questions about generated documents, in families that say what a person would use the model for."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial

from fastvlm.batches import UInt8Array
from fastvlm.data.synthetic.documents.questions import Phrasing, sample_document_questions
from fastvlm.data.synthetic.documents.samples import (
    DOCUMENTS_VERSION,
    DocumentSplit,
    document_sample,
    family_of,
)
from fastvlm.evaluation.questions import EvaluationQuestion, Picture
from fastvlm.evaluation.scores import ScoreName

NOT_SHOWN_FAMILY = "not shown"
RELAXED_FAMILY = "chart value"

FAMILIES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "short line": (("line", "says"),),
    "receipt total, date, number": (("receipt", "total"), ("receipt", "date"), ("receipt", "number")),
    "receipt items": tuple(("receipt", intent) for intent in ("price", "quantity", "costs", "dearest", "num_items")),
    "receipt, other": tuple(
        ("receipt", intent) for intent in ("time", "phone", "address", "shop", "subtotal", "tax", "payment", "change")
    ),
    "form value": (("form", "value"),),
    "form, other": tuple(("form", intent) for intent in ("key", "title", "ticked", "num_ticked", "num_fields")),
    "table cell": (("table", "cell"),),
    "table, other": tuple(
        ("table", intent) for intent in ("largest_row", "smallest_row", "row_of", "num_rows", "num_columns", "title")
    ),
    RELAXED_FAMILY: (("chart", "bar_value"), ("chart", "group_value")),
    "chart highest": (("chart", "highest"),),
    "chart, other": tuple(
        ("chart", intent)
        for intent in (
            "title",
            "axis",
            "num_bars",
            "num_categories",
            "num_points",
            "chart_kind",
            "lowest",
            "higher",
            "trend",
            "num_series",
        )
    ),
    "sign": tuple(("sign", intent) for intent in ("says", "line", "arrow", "text_color", "sign_color")),
    "page": tuple(("page", intent) for intent in ("line", "after", "has_word", "num_lines", "title")),
    "kind of document": tuple((kind, "kind") for kind in ("receipt", "form", "table", "chart", "sign", "line", "page")),
    "statement": tuple((kind, "statement") for kind in ("receipt", "form", "table", "chart", "sign")),
    NOT_SHOWN_FAMILY: tuple((kind, "not_shown") for kind in ("receipt", "form", "table", "chart", "sign", "page")),
}
"""By name, the kinds of documents and the intents that count for each."""

SHORT_LINE_CHARACTERS = 12

FAMILY_OF: Mapping[tuple[str, str], str] = {pair: family for family, pairs in FAMILIES.items() for pair in pairs}
"""The family that a kind of document with an intent counts for."""

_QUESTIONS_PER_DOCUMENT = 14


def document_questions(split: DocumentSplit, *, limit_per_family: int, phrasing: Phrasing) -> list[EvaluationQuestion]:
    """Ask about the first documents of a split until every family has its questions, one of each for a document.

    Both phrasings ask about the same documents. Which documents there are depends on the typefaces of the machine.
    """
    missing = dict.fromkeys(FAMILIES, limit_per_family)
    questions: list[EvaluationQuestion] = []
    index = -1
    while missing:
        index += 1
        kind, canvas = family_of(split, index)
        wanted = [family for pair, family in FAMILY_OF.items() if pair[0] == kind and family in missing]
        if not wanted:
            continue
        name = f"documents-{DOCUMENTS_VERSION}/{split}/{index}"
        picture = Picture(name, "resized", partial(_pixels, split, index))
        document = document_sample(
            split, index, kind, canvas, num_questions=0, phrasing="train", is_degraded=False
        ).document
        asked = sample_document_questions(
            document, random.Random(name), num_questions=_QUESTIONS_PER_DOCUMENT, phrasing=phrasing
        )
        for question in asked:
            family = FAMILY_OF.get((kind, question.intent))
            if family not in wanted or (family == "short line" and len(question.answer) > SHORT_LINE_CHARACTERS):
                continue
            wanted = [other for other in wanted if other != family]
            score: ScoreName = "relaxed" if family == RELAXED_FAMILY else "exact"
            question_id = f"{name}/{family}/{phrasing}"
            questions.append(
                EvaluationQuestion(
                    question_id,
                    picture,
                    family,
                    question.intent,
                    question.text,
                    question.answer,
                    score,
                )
            )
            missing[family] -= 1
            if not missing[family]:
                del missing[family]
    return questions


def _pixels(split: DocumentSplit, index: int) -> UInt8Array:
    kind, canvas = family_of(split, index)
    return document_sample(split, index, kind, canvas, num_questions=0, phrasing="train").image
