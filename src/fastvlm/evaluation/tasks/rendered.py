"""Questions about documents of other programs and another author: no model was trained on their like."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from fastvlm.batches import UInt8Array
from fastvlm.data.synthetic.documents.phrasings import KIND_WORDS, PHRASINGS
from fastvlm.data.synthetic.documents.questions import NOT_SHOWN, Phrasing
from fastvlm.data.synthetic.wording import capitalised, with_article
from fastvlm.evaluation.questions import EvaluationQuestion, Picture
from fastvlm.evaluation.rendered.documents import KINDS, RenderedDocument, RenderedFact, rendered_document
from fastvlm.evaluation.scores import ScoreName
from fastvlm.evaluation.tasks.documents import FAMILIES, FAMILY_OF, NOT_SHOWN_FAMILY, RELAXED_FAMILY

RENDERED_FAMILIES = tuple(
    family for family, pairs in FAMILIES.items() if family != "statement" and any(kind in KINDS for kind, _ in pairs)
)
"""Families of questions about the kinds of documents that are rendered."""


def rendered_questions(*, limit_per_family: int, phrasing: Phrasing) -> list[EvaluationQuestion]:
    """Ask about the first rendered documents until every family has its questions, one of each for a document.

    Both phrasings ask the same. Raises MissingExtraError without the programs that render.
    """
    missing = dict.fromkeys(RENDERED_FAMILIES, limit_per_family)
    questions: list[EvaluationQuestion] = []
    index = -1
    while missing:
        index += 1
        kind = KINDS[index % len(KINDS)]
        if not any(kind == own and FAMILY_OF[own, intent] in missing for own, intent in FAMILY_OF):
            continue
        document = rendered_document(index)
        name = f"rendered/{index}"
        picture = Picture(name, "resized", partial(_pixels, index))
        rng = random.Random(name)
        for family in RENDERED_FAMILIES:
            fact = _fact(document, family, rng)
            words = random.Random(f"{name}/{family}/{phrasing}")
            if fact is None or family not in missing:
                continue
            score: ScoreName = "relaxed" if family == RELAXED_FAMILY else "exact"
            intent = "not_shown" if family == NOT_SHOWN_FAMILY else fact.intent
            questions.append(
                EvaluationQuestion(
                    f"{name}/{family}/{phrasing}", picture, family, intent, _worded(kind, fact, words, phrasing),
                    fact.answer or NOT_SHOWN, score,
                )
            )  # fmt: skip
            missing[family] -= 1
            if not missing[family]:
                del missing[family]
    return questions


def _fact(document: RenderedDocument, family: str, rng: random.Random) -> RenderedFact | None:
    """One fact of a family, each of its intents as likely; None where the document has none."""
    if family == NOT_SHOWN_FAMILY:
        return _one_of(document.missing, rng)
    if family == "kind of document":
        return RenderedFact("kind", with_article(KIND_WORDS[document.kind][0]))
    return _one_of([fact for fact in document.facts if FAMILY_OF.get((document.kind, fact.intent)) == family], rng)


def _one_of(facts: Sequence[RenderedFact], rng: random.Random) -> RenderedFact | None:
    by_intent: dict[str, list[RenderedFact]] = {}
    for fact in facts:
        by_intent.setdefault(fact.intent, []).append(fact)
    return rng.choice(by_intent[rng.choice(sorted(by_intent))]) if by_intent else None


def _worded(kind: str, fact: RenderedFact, rng: random.Random, phrasing: Phrasing) -> str:
    phrasings = PHRASINGS[fact.intent]
    template = rng.choice(phrasings.train if phrasing == "train" else phrasings.held_out)
    return capitalised(template.format_map({"doc": rng.choice(KIND_WORDS[kind]), **fact.slots}))


def _pixels(index: int) -> UInt8Array:
    return rendered_document(index).image
