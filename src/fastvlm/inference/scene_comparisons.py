"""Answers questions that compare shapes of a drawn scene: their numbers, sizes, attributes and places."""

from __future__ import annotations

import re
from collections.abc import Callable

from fastvlm.inference.scene_facts import SceneFacts, described, is_larger, is_towards, main_direction
from fastvlm.inference.scene_question import SceneQuestion
from fastvlm.inference.scene_words import Mention

Answers = Callable[[SceneQuestion, SceneFacts], str | None]
"""Answers a question by the facts of a scene; None where these do not tell."""

COLOUR, SHAPE = re.compile(r"\bcolou?r(?:s|ed|ing)?\b|\bpainted\b"), re.compile(r"\b(?:shape|shaped|form|formed)\b")
"""Words that ask for a colour, or a shape."""

NOT = re.compile(r"\b(?:no|not|nowhere|missing|none|cannot|nothing|lacks|without|neither)\b")

_SAME = re.compile(
    r"\b(?:same|identical|alike|shares?|match(?:es)?|agree|equals?)\b|\bhas (?:the )?(?:colour|shape) of\b"
)
_AS_MANY = re.compile(r"\bas (?:many|numerous)\b|\bequally many\b|\bequals?\b|\bsame\b|\bidentical\b|\bmatch(?:es)?\b")
_AMOUNT = re.compile(r"\b(?:number|many|count|total|numerous|quantity)\b")
_LARGER, _SMALLER = re.compile(r"\b(?:larger|bigger)\b"), re.compile(r"\bsmaller\b")
_MORE = re.compile(r"\b(?:more|larger|bigger|greater|higher|exceeds?|outnumbers?|majority|above|most|often|mostly)\b")
_FEWER = re.compile(r"\b(?:fewer|less|smaller|lower|outnumbered|below|minority)\b")
_COMPARED_WITH = re.compile(r"\b(?:compared (?:with|to)|regarding|than) (?:the )?$")
_IS_ABOUT_SECOND = re.compile(r"\bis the second\b|\bsecond\b.*\bfirst\b")
_WHERE = re.compile(r"\b(?:where|whereabouts|position|location)\b")
_WHICH_SIDE = re.compile(r"\b(?:side|direction|which way)\b|\bleft(?: of)? right(?: of)? above\b")
_SEEN_FROM = re.compile(
    r"\b(?:relative to|compared (?:with|to)|from|relation to|respect to|regarding|side of) (?:the )?$"
)
_SIDE_OF_IT = re.compile(r"\bside of it\b")
_OF_IT = re.compile(r" it\b")
_WHICH = re.compile(r"\bwhich\b")
_ASKS_WHAT = re.compile(r"\b(?:what|which|name|identify|describe|something)\b")


def how_compared(asked: SceneQuestion) -> Answers | None:
    """How a question that compares shapes is answered; None of others."""
    if len(asked.groups) == 1 and asked.named and len(asked.directions) == 1 and asked.has(_ASKS_WHAT):
        return _what_is_towards
    if len(asked.groups) != 2:
        return None
    if asked.has(_AS_MANY) and asked.has(_AMOUNT):
        return _are_as_many
    if asked.has(_SAME) and (asked.has(COLOUR) or asked.has(SHAPE)):
        return _have_same
    if all(mention.is_plural for mention in asked.groups) and (asked.has(_MORE) or asked.has(_FEWER)):
        return _numbers_compared(asked)
    if asked.has(_LARGER) or asked.has(_SMALLER):
        return _is_larger
    return _places_compared(asked)


def yes(*, so: bool) -> str:
    """The answer to whether something is so."""
    return "yes" if so else "no"


def what_is_missing(mention: Mention, facts: SceneFacts) -> str | None:
    """That there is nothing of what is asked about; None where there is."""
    return None if facts.meant(mention) else f"There is no {mention.name}."


def _numbers_compared(asked: SceneQuestion) -> Answers | None:
    one, other = asked.groups
    if " or " in asked.text[one.end : other.start] or asked.has(_WHICH):
        return _which_are_more
    return None if asked.is_open or asked.has(NOT) else _are_more


def _places_compared(asked: SceneQuestion) -> Answers | None:
    if asked.has(_WHICH_SIDE) or (asked.has(_WHERE) and not asked.directions):
        return _on_which_side
    return _is_towards if len(asked.directions) == 1 and not asked.is_open else None


def _are_as_many(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    one, other = (len(facts.meant(mention)) for mention in asked.groups)
    return yes(so=one == other)


def _have_same(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    one, other = (facts.only(mention) for mention in asked.groups)
    if one is None or other is None:
        return None
    return yes(so=one.colour == other.colour if asked.has(COLOUR) else one.name == other.name)


def _which_are_more(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    one, other = asked.groups
    more = len(facts.meant(one)) - len(facts.meant(other))
    if not more:
        return None
    found = one if (more > 0) is not asked.has(_FEWER) else other
    return asked.text[found.start : found.end]


def _are_more(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    one, other = asked.groups
    word = (_FEWER if asked.has(_FEWER) else _MORE).search(asked.text)
    follows = [mention for mention in asked.named if word is not None and mention.start == word.end() + 1]
    if _COMPARED_WITH.search(asked.text[: one.start]) or (follows and follows[0].key == other.key):
        one, other = other, one
    more = len(facts.meant(one)) - len(facts.meant(other))
    return yes(so=more < 0 if asked.has(_FEWER) else more > 0)


def _is_larger(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    one, other = (facts.only(mention) for mention in asked.groups)
    if _COMPARED_WITH.search(asked.text[: asked.groups[0].start]) or asked.has(_IS_ABOUT_SECOND):
        one, other = other, one
    larger = None if one is None or other is None else is_larger(one, other)
    return None if larger is None else yes(so=larger is asked.has(_LARGER))


def _on_which_side(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    one, other = asked.groups
    if asked.has(_SIDE_OF_IT) or _SEEN_FROM.search(asked.text[: one.start]):
        one, other = other, one
    for mention in (one, other):
        missing = what_is_missing(mention, facts)
        if missing is not None:
            return missing
    shape, reference = facts.only(one), facts.only(other)
    return None if shape is None or reference is None else main_direction(shape, reference)


def _is_towards(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    one, other = asked.groups
    direction, start, end = asked.directions[0]
    is_of_first = start > other.end and _OF_IT.match(asked.text, end) is not None
    if start < one.start or is_of_first or asked.has(_IS_ABOUT_SECOND):
        one, other = other, one
    shape, reference = facts.only(one), facts.only(other)
    if shape is None or reference is None:
        return None
    return yes(so=is_towards(shape, direction, reference) is not asked.has(NOT))


def _what_is_towards(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    mention = asked.groups[0]
    reference = facts.only(mention)
    if reference is None:
        return what_is_missing(mention, facts)
    found = facts.only_towards(asked.directions[0][0], reference)
    if found is None:
        return None
    return found.colour if asked.has(COLOUR) else described(found)
