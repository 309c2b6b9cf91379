"""Questions about documents with their answers: which facts are asked for, and in what words."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fastvlm.data.synthetic.documents.document import Document, Fact, Kind
from fastvlm.data.synthetic.documents.phrasings import CLAIMS, KIND_WORDS, PHRASINGS
from fastvlm.data.synthetic.wording import american, capitalised, careless, with_article

Phrasing = Literal["train", "held_out"]

NOT_SHOWN = "It is not shown."
"""The answer to a question for something that such documents may have and this one has not."""

LONGEST_TRANSCRIPT = 400
"""Characters that are asked for at once: a longer text would fill a conversation."""

_AMERICAN_PROBABILITY = 0.5
_META_WEIGHTS: Mapping[str, float] = {"kind": 0.05, "caption": 0.03, "read": 0.05, "statement": 0.08, "not shown": 0.1}
"""Shares of what can be asked of any document; the rest are its own facts."""


FOREIGN: Mapping[str, tuple[Kind, ...]] = {
    "total": ("sign", "page", "line"),
    "shop": ("table", "chart"),
    "dearest": ("form", "sign", "page", "line"),
    **dict.fromkeys(("change", "tax"), ("form", "table", "chart", "sign", "page", "line")),
    **dict.fromkeys(("highest", "lowest"), ("form", "sign", "page", "line")),
    **dict.fromkeys(("trend", "num_series"), ("receipt", "form", "sign", "page", "line")),
    "num_ticked": ("receipt", "table", "chart", "sign", "page", "line"),
    "arrow": ("receipt", "form", "table", "page", "line"),
}
"""Intents that are never answered by some kinds of documents, and which these are.

A form's company or amount may be meant by a question for the shop or the total, a receipt's dearest item by one for the
highest: these are not asked.
"""

_MEANT_FROM = {"total": 1, "highest": 2, "lowest": 2}
"""Where so many numbers are written, whatever the document, somebody may take one of them for the answer."""

_FOREIGN_PROBABILITY = 0.3


@dataclass(frozen=True)
class DocumentQuestion:
    """One question about a document and its only answer. phrasing_id names the template, `total/train/3`.

    named: what it names of the document, such as the key of a field.
    """

    family: str
    intent: str
    text: str
    answer: str
    phrasing_id: str
    named: tuple[str, ...] = ()


def sample_document_questions(
    document: Document, rng: random.Random, *, num_questions: int, phrasing: Phrasing
) -> list[DocumentQuestion]:
    """Draw different questions about a document; fewer come back where it offers no more.

    What is asked does not depend on the phrasing, only the words do.
    """
    choice, words = random.Random(rng.getrandbits(64)), random.Random(rng.getrandbits(64))
    by_intent: dict[str, list[Fact]] = defaultdict(list)
    for fact in document.facts:
        by_intent[fact.intent].append(fact)
    found: dict[tuple[object, ...], _Asked] = {}
    for _ in range(8 * num_questions):
        if len(found) == num_questions:
            break
        asked = _draw(document, by_intent, choice)
        if asked is not None:
            found.setdefault((asked.intent, *asked.slots.items(), asked.claimed), asked)
    return [_worded(document.kind, asked, words, phrasing) for asked in found.values()]


@dataclass(frozen=True)
class _Asked:
    """What is asked, before it has words. kind: the intent that it counts for. claimed: the answer of a statement."""

    intent: str
    answer: str
    slots: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    claimed: str = ""


def _draw(document: Document, by_intent: Mapping[str, list[Fact]], rng: random.Random) -> _Asked | None:
    kinds = [*_META_WEIGHTS, "fact"]
    kind = rng.choices(kinds, [*_META_WEIGHTS.values(), 1 - sum(_META_WEIGHTS.values())])[0]
    match kind:
        case "kind":
            return _Asked("kind", with_article(KIND_WORDS[document.kind][0]))
        case "caption":
            return _Asked("caption", document.caption)
        case "read":
            return _Asked("read", document.transcript) if len(document.transcript) <= LONGEST_TRANSCRIPT else None
        case "statement":
            return _statement(document, rng)
        case "not shown":
            foreign = [
                Fact(intent, "")
                for intent in _foreign(document)
                if intent not in {fact.intent for fact in document.facts}
            ]
            is_foreign = foreign and (not document.missing or rng.random() < _FOREIGN_PROBABILITY)
            candidates = foreign if is_foreign else document.missing
            if not candidates:
                return None
            fact = rng.choice(candidates)
            return _Asked(fact.intent, NOT_SHOWN, fact.slots, kind="not_shown")
    # Every intent is as likely, however many facts it has: a table's cells would drown the rest.
    fact = rng.choice(by_intent[rng.choice(list(by_intent))])
    return _Asked(fact.intent, fact.answer, fact.slots)


def _foreign(document: Document) -> list[str]:
    """The intents that a document has no answer to, of which nobody could say that it has."""
    num_numbers = len(re.findall(r"\d+(?:[.,]\d+)*", document.transcript))
    return [
        intent
        for intent, kinds in FOREIGN.items()
        if document.kind in kinds and (intent not in _MEANT_FROM or num_numbers < _MEANT_FROM[intent])
    ]


def _statement(document: Document, rng: random.Random) -> _Asked | None:
    """A fact as a statement that is true, or with another answer's words, each as often."""
    facts = [fact for fact in document.facts if fact.intent in CLAIMS and fact.others]
    if not facts:
        return None
    fact = rng.choice(facts)
    is_true = rng.random() < 0.5
    claimed = fact.answer if is_true else rng.choice(fact.others)
    return _Asked(fact.intent, "yes" if is_true else "no", fact.slots, kind="statement", claimed=claimed)


def _worded(family: str, asked: _Asked, rng: random.Random, phrasing: Phrasing) -> DocumentQuestion:
    slots = {"doc": rng.choice(KIND_WORDS[family]), **asked.slots}
    intent = asked.intent
    if asked.claimed:
        slots["claim"] = rng.choice(CLAIMS[intent]).format_map({**slots, "answer": asked.claimed})
        intent = "statement"
    templates = PHRASINGS[intent].train if phrasing == "train" else PHRASINGS[intent].held_out
    number = rng.randrange(len(templates))
    text = capitalised(templates[number].format_map(slots))
    is_american = rng.random() < _AMERICAN_PROBABILITY
    if not asked.slots and not asked.claimed:  # what is looked for is spelled as it is printed
        text = careless(american(text) if is_american else text, rng, phrasing=phrasing)
    named = tuple(value for name, value in asked.slots.items() if name != "nth")
    if asked.claimed:
        named = (*named, asked.claimed)
    return DocumentQuestion(family, asked.kind or intent, text, asked.answer, f"{intent}/{phrasing}/{number}", named)
