"""Questions about a scene with their answers: families, mixture, wording."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from fastvlm.data.synthetic.balance import ACCEPTANCE, ATTEMPTS
from fastvlm.data.synthetic.comparisons import COMPARISON_BUILDERS
from fastvlm.data.synthetic.directions import RELATIONS
from fastvlm.data.synthetic.facts import DIRECTIONS, SceneFacts
from fastvlm.data.synthetic.intents import ATTRIBUTE_BUILDERS, Builder, Draft
from fastvlm.data.synthetic.outside import OUTSIDE_ANSWER, outside_question
from fastvlm.data.synthetic.phrasings import MORE_PHRASINGS, PHRASINGS, PhrasingSet
from fastvlm.data.synthetic.scene import Scene
from fastvlm.data.synthetic.statements import STATEMENT_FRAMES, STATEMENTS
from fastvlm.data.synthetic.wording import american, capitalised, careless, fill, spelled_like

Phrasing = Literal["train", "held_out"]

FAMILY_WEIGHTS: dict[str, float] = {
    "existence": 0.12,
    "color": 0.10,
    "shape": 0.08,
    "count": 0.17,
    "relation": 0.13,
    "comparison": 0.11,
    "size": 0.05,
    "position": 0.05,
    "background": 0.02,
    "statement": 0.05,
    "absent": 0.03,
    "description": 0.03,
    "outside": 0.06,
}
"""The mixture: share of each family among the questions; hard ones (count, relation, comparison) weigh more."""

FAMILY_INTENTS: dict[str, dict[str, float]] = {
    "existence": {"exist_pair": 4, "exist_color": 2, "exist_shape": 2, "exist_size": 1.5, "all_are": 1},
    "color": {"color_of_shape": 3, "color_of_extreme": 2, "color_of_all": 1},
    "shape": {"shape_of_color": 3, "shape_of_extreme": 2, "shape_of_all": 1},
    "count": {"count_all": 3, "count_color": 3, "count_shape": 3, "count_pair": 2, "count_kinds": 0.5},
    "relation": {"relation_is": 4, "relation_where": 2, "relation_what": 1.5, "extreme_what": 1.5},
    "comparison": {
        "more": 3,
        "as_many": 1.5,
        "which_more": 1.5,
        "larger": 2,
        "same_attribute": 1.5,
        "most_common": 1,
    },
    "size": {"size_of": 3, "size_extreme_color": 2, "size_extreme_shape": 1, "size_extreme_what": 1},
    "position": {"position_of": 3, "position_what": 1, "position_is": 1.5},
    "background": {"background_color": 2, "background_is": 1},
    "statement": {
        "state_exist": 2,
        "state_none": 1,
        "state_count": 2.5,
        "state_at_least": 1,
        "state_at_most": 0.5,
        "state_relation": 2,
        "state_more": 1,
        "state_color": 1,
        "state_all": 1,
    },
    "absent": {"absent": 1},
    "description": {"describe": 1},
    "outside": {"outside": 1},
}
"""Intents of each family and their relative weights."""

FAMILIES: tuple[str, ...] = tuple(FAMILY_WEIGHTS)
"""Names of the families, in the order of reports."""

BUILDERS: dict[str, Builder] = {**ATTRIBUTE_BUILDERS, **COMPARISON_BUILDERS}
"""What draws the questions of each intent; `outside` needs no scene and has none."""

_FAMILY_OF: dict[str, str] = {intent: family for family, intents in FAMILY_INTENTS.items() for intent in intents}
_MAX_ATTEMPTS_PER_QUESTION = 40
_AMERICAN_PROBABILITY = 0.5


ASKED: tuple[str, ...] = (
    "", *DIRECTIONS, "larger", "smaller", "more", "as many", "same colour", "same shape",
)  # fmt: skip
"""What a question may want to know of its subject and another thing; the first stands for nothing of the kind."""

_UNNAMED = {"background_color": "the background", "background_is": "the background"}
"""What questions without a slot for it are about."""

_DIRECTION_OF = {word: direction for direction, words in RELATIONS.items() for word in words}


@dataclass(frozen=True)
class Question:
    """One question about a scene and its only answer. `phrasing_id` names the template, `count/train/3`.

    subject, other: the phrases for what it is about and for what that is compared with, where it has such, whatever
    their order in the text. asked: one of ASKED.
    """

    family: str
    intent: str
    text: str
    answer: str
    phrasing_id: str
    subject: str = ""
    other: str = ""
    asked: str = ""


def sample_questions(
    scene: Scene,
    rng: random.Random,
    *,
    num_questions: int,
    phrasing: Phrasing,
    families: Sequence[str] | None = None,
    emphasis: Mapping[str, float] = MappingProxyType({}),
    has_further_phrasings: bool = False,
) -> list[Question]:
    """Draw different questions about a scene, of all families by their weights or of the `families` given.

    emphasis: intents that are tried more often than the mixture has them, and how many times as often.
    has_further_phrasings: as in `ask`.
    Fewer than `num_questions` come back where the scene offers no more (an empty one has no relations).
    Answers that would be too frequent are drawn again (`balance.py`).
    """
    facts = SceneFacts(scene)
    intents = [intent for intent, family in _FAMILY_OF.items() if families is None or family in families]
    weights = [intent_share(intent) * ATTEMPTS.get(intent, 1.0) * emphasis.get(intent, 1.0) for intent in intents]
    questions: dict[str, Question] = {}
    for _ in range(_MAX_ATTEMPTS_PER_QUESTION * num_questions):
        if len(questions) == num_questions:
            break
        intent = rng.choices(intents, weights)[0]
        question = ask(facts, rng, intent=intent, phrasing=phrasing, has_further_phrasings=has_further_phrasings)
        if question is not None:
            questions.setdefault(question.text, question)
    return list(questions.values())


def intent_share(intent: str) -> float:
    """Share of an intent in the mixture: that of its family, divided by the weights within it."""
    family = _FAMILY_OF[intent]
    weights = FAMILY_INTENTS[family]
    return FAMILY_WEIGHTS[family] * weights[intent] / sum(weights.values())


def ask(
    facts: SceneFacts, rng: random.Random, *, intent: str, phrasing: Phrasing, has_further_phrasings: bool = False
) -> Question | None:
    """Draw one question of an intent, or None where the scene offers none or its answer would be too frequent.

    has_further_phrasings: whether training phrasings include those of `further_phrasings.py`.
    """
    family = _FAMILY_OF[intent]
    if intent == "outside":
        text, index = outside_question(rng, phrasing=phrasing)
        return Question(family, intent, _worded(text, rng, phrasing), OUTSIDE_ANSWER, f"outside/{phrasing}/{index}")
    draft = BUILDERS[intent](facts, rng)
    if draft is None or rng.random() >= ACCEPTANCE.get(intent, {}).get(draft.answer, 1.0):
        return None
    text, phrasing_id = _phrase(draft, rng, phrasing, has_further_phrasings=has_further_phrasings)
    text = _worded(text, rng, phrasing)
    slots = draft.slots
    return Question(
        family,
        intent,
        text,
        spelled_like(draft.answer, text),
        phrasing_id,
        subject=slots.get("the") or slots.get("things") or _UNNAMED.get(intent, ""),
        other=slots.get("b") or slots.get("others", ""),
        asked=_asked(draft),
    )


def _asked(draft: Draft) -> str:
    kind, slots = draft.kind.removeprefix("statement:"), draft.slots
    if "rel" in slots:
        return _DIRECTION_OF[slots["rel"]]
    if kind == "larger":
        return "smaller" if slots["larger"] == "smaller" else "larger"
    if kind == "same_attribute":
        return f"same {slots['attribute']}"
    return {"more": "more", "as_many": "as many"}.get(kind, "")


def _worded(text: str, rng: random.Random, phrasing: Phrasing) -> str:
    text = american(text) if rng.random() < _AMERICAN_PROBABILITY else text
    return careless(text, rng, phrasing=phrasing)


def _phrase(draft: Draft, rng: random.Random, phrasing: Phrasing, *, has_further_phrasings: bool) -> tuple[str, str]:
    if not draft.kind.startswith("statement:"):
        phrasings = MORE_PHRASINGS if has_further_phrasings else PHRASINGS
        return _pick(phrasings[draft.kind], draft, rng, phrasing, draft.kind)
    kind = draft.kind.removeprefix("statement:")
    statement, phrasing_id = _pick(STATEMENTS[kind], draft, rng, phrasing, f"statement_{kind}")
    frames = STATEMENT_FRAMES.train if phrasing == "train" else STATEMENT_FRAMES.held_out
    index = rng.randrange(len(frames))
    text = frames[index].format(s=statement, S=capitalised(statement))
    return text, f"{phrasing_id}/{index}"


def _pick(phrasings: PhrasingSet, draft: Draft, rng: random.Random, phrasing: Phrasing, name: str) -> tuple[str, str]:
    templates = phrasings.train if phrasing == "train" else phrasings.held_out
    index = rng.randrange(len(templates))
    return fill(templates[index], dict(draft.slots), rng), f"{name}/{phrasing}/{index}"
