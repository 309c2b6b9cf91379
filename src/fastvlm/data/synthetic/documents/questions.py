"""Questions about documents with their answers: which facts are asked for, and in what words."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fastvlm.data.synthetic.documents.document import Document, Fact
from fastvlm.data.synthetic.documents.phrasings import CLAIMS, KIND_WORDS, PHRASINGS
from fastvlm.data.synthetic.wording import american, capitalised, careless, spelled_like, with_article

Phrasing = Literal["train", "held_out"]

NOT_SHOWN = "It is not shown."
"""The answer to a question for something that such documents may have and this one has not."""

_AMERICAN_PROBABILITY = 0.5
_META_WEIGHTS: Mapping[str, float] = {"kind": 0.05, "caption": 0.03, "read": 0.05, "statement": 0.08, "not shown": 0.1}
"""Shares of what can be asked of any document; the rest are its own facts."""


@dataclass(frozen=True)
class DocumentQuestion:
    """One question about a document and its only answer. phrasing_id names the template, `total/train/3`."""

    family: str
    intent: str
    text: str
    answer: str
    phrasing_id: str


def sample_document_questions(
    document: Document, rng: random.Random, *, num_questions: int, phrasing: Phrasing
) -> list[DocumentQuestion]:
    """Draw different questions about a document; fewer come back where it offers no more."""
    found: dict[str, DocumentQuestion] = {}
    by_intent: dict[str, list[Fact]] = defaultdict(list)
    for fact in document.facts:
        by_intent[fact.intent].append(fact)
    for _ in range(8 * num_questions):
        if len(found) == num_questions:
            break
        question = _draw(document, by_intent, rng, phrasing)
        if question is not None:
            found.setdefault(question.text, question)
    return list(found.values())


def _draw(
    document: Document, by_intent: Mapping[str, list[Fact]], rng: random.Random, phrasing: Phrasing
) -> DocumentQuestion | None:
    kinds = [*_META_WEIGHTS, "fact"]
    kind = rng.choices(kinds, [*_META_WEIGHTS.values(), 1 - sum(_META_WEIGHTS.values())])[0]
    family = document.kind
    match kind:
        case "kind":
            return _ask(family, "kind", {}, with_article(KIND_WORDS[family][0]), rng, phrasing)
        case "caption":
            return _ask(family, "caption", {}, document.caption, rng, phrasing)
        case "read":
            return _ask(family, "read", {}, document.transcript, rng, phrasing)
        case "statement":
            return _statement(document, rng, phrasing)
        case "not shown":
            if not document.missing:
                return None
            fact = rng.choice(document.missing)
            return _ask(family, fact.intent, fact.slots, NOT_SHOWN, rng, phrasing, kind="not_shown")
    # Every intent is as likely, however many facts it has: a table's cells would drown the rest.
    fact = rng.choice(by_intent[rng.choice(list(by_intent))])
    return _ask(family, fact.intent, fact.slots, fact.answer, rng, phrasing)


def _statement(document: Document, rng: random.Random, phrasing: Phrasing) -> DocumentQuestion | None:
    """A fact as a statement that is true, or with another answer's words, each as often."""
    facts = [fact for fact in document.facts if fact.intent in CLAIMS and fact.others]
    if not facts:
        return None
    fact = rng.choice(facts)
    is_true = rng.random() < 0.5
    words = {
        **fact.slots,
        "answer": fact.answer if is_true else rng.choice(fact.others),
        "doc": _doc(document.kind, rng),
    }
    claim = rng.choice(CLAIMS[fact.intent]).format_map(words)
    return _ask(document.kind, "statement", {"claim": claim}, "yes" if is_true else "no", rng, phrasing)


def _doc(kind: str, rng: random.Random) -> str:
    return rng.choice(KIND_WORDS[kind])


def _ask(
    family: str,
    intent: str,
    slots: Mapping[str, str],
    answer: str,
    rng: random.Random,
    phrasing: Phrasing,
    *,
    kind: str | None = None,
) -> DocumentQuestion:
    templates = PHRASINGS[intent].train if phrasing == "train" else PHRASINGS[intent].held_out
    number = rng.randrange(len(templates))
    text = capitalised(templates[number].format_map({"doc": _doc(family, rng), **slots}))
    if rng.random() < _AMERICAN_PROBABILITY and not slots:
        text = american(text)
    if not slots:  # what is looked for is spelled as it is printed
        text = careless(text, rng, phrasing=phrasing)
    if intent in ("text_color", "sign_color"):
        answer = spelled_like(answer, text)
    return DocumentQuestion(family, kind or intent, text, answer, f"{intent}/{phrasing}/{number}")
