"""Answers questions that compare shapes of a drawn scene: their numbers, sizes, attributes and places."""

from __future__ import annotations

import re
from collections.abc import Callable

from fastvlm.inference.scene_facts import SceneFacts, described, is_larger, is_towards, main_direction
from fastvlm.inference.scene_question import DIRECTION, OPEN, SceneQuestion, any_of
from fastvlm.inference.scene_words import Mention

Answers = Callable[[SceneQuestion, SceneFacts], str | None]
"""Answers a question by the facts of a scene; None where these do not tell."""

COLOUR, SHAPE = any_of("colour(?:s|ed|ing)?", "painted"), any_of("shapes?", "shaped", "form", "formed")
"""Words that ask for a colour, or a shape."""

WHERE = any_of(
    "(?:at )?which place", "where", "whereabouts", "locate", "location", "position", "part", "spot", "stand", "stands"
)
ASKS_WHAT = any_of(
    "what", "which", "name", "identify", "describe", "description", "pick", "something", "like", "object", "notice"
)
CLAIM = any_of(
    "true", "correct", "am i right", "is (?:this|that|it) right", "right wrong", "(?<![hertu] )right$", "agree",
    "claim", "claimed", "statement", "whether", "check", "verify", "holds?", "think", "say yes", "find out",
)  # fmt: skip
"""Words around a claim, which do not change it."""

_IS_SAME = any_of(
    "same", "identical", "alike", "shares?", "match(?:es)?", "agree", "equals?", "has (?:the )?(?:colour|shape) of"
)
_SAYS_SAME = any_of("to", "as", "compare")
_AS_MANY = any_of("as (?:many|numerous)", "equally many", "equals?", "same", "identical", "match(?:es)?")
_SAYS_AS_MANY = any_of(
    "just", "exactly", "equally", "many", "numerous", "equals?", "same", "identical", "match(?:es)?", "number", "count",
    "total", "comparing", "compare", "come", "get", "as", "for",
)  # fmt: skip
_AMOUNT = any_of(
    "number", "many", "count", "counting", "total", "numerous", "quantity", "group", "frequent", "majority"
)
_MORE, _FEWER = any_of("more", "exceeds?", "outnumbers?", "majority"), any_of("fewer", "less", "outnumbered")
_HIGHER, _LOWER = any_of("larger", "bigger", "greater", "higher", "above"), any_of("smaller", "lower", "below")
_SAYS_MORE = any_of(
    "more", "fewer", "less", "than", "number", "count", "counting", "total", "numerous", "quantity", "group",
    "frequent", "often", "exceeds?", "majority", "first", "outnumber(?:s|ed)?", "compared?", "comparing", "between",
    "larger", "bigger", "greater", "higher", "above", "smaller", "lower", "below", "get", "other", "or", "form",
    "appears?",
)  # fmt: skip
_OF_PLACES, _NUMBER = any_of("higher", "above", "lower", "below"), any_of("number", "count", "total", "quantity")
_LARGER, _SMALLER = any_of("larger", "bigger"), any_of("smaller")
_SAYS_LARGER = any_of(
    "larger", "bigger", "smaller", "than", "size", "compared?", "first", "second", "two", "next", "put", "appear"
)
_COMPARES = any_of("than", "compared?", "first", "second", "would it be")
_COMPARED_WITH = re.compile(r"\b(?:compared (?:with|to)|regarding|than) (?:the )?$")
_IS_ABOUT_SECOND = any_of("is the second", "second .*first")
_ASKS_WHERE = any_of("where", "whereabouts", "position", "location")
_WHICH_SIDE = any_of("side", "direction", "which way", "left(?: of)? right(?: of)? (?:or )?above")
_SAYS_WHERE = any_of(
    "relative", "compared", "relation", "respect", "side", "direction", "left", "right", "above", "below", "or",
    "going", "starting", "takes?", "stand", "where", "whereabouts", "location", "appear", "come",
)  # fmt: skip
_SEEN_FROM = re.compile(
    r"\b(?:relative to|compared (?:with|to)|from|relation to|respect to|regarding|side of) (?:the )?$"
)
_SIDE_OF_IT, _OF_IT = any_of("side of it"), re.compile(r" it\b")
_IS_INSIDE = any_of("something", "anything")
_SAYS_TOWARDS = any_of("compared", "first", "second", "appears?", "put", "standing", "situated")


def how_compared(asked: SceneQuestion) -> Answers | None:
    """How a question that compares shapes is answered; None of others."""
    if len(asked.groups) == 1 and asked.named and len(asked.directions) == 1:
        says_what = asked.has(ASKS_WHAT) and asked.says_only(DIRECTION, OPEN, ASKS_WHAT, COLOUR, SHAPE, _SAYS_TOWARDS)
        return _what_is_towards if says_what and not asked.colours else None
    if len(asked.groups) != 2 or asked.colours or asked.place or asked.size:
        return None
    if asked.has(_AS_MANY) and asked.has(_AMOUNT):
        return _are_as_many if asked.says_only(_SAYS_AS_MANY, CLAIM) and not asked.is_open else None
    if asked.has(_IS_SAME) and (asked.has(COLOUR) or asked.has(SHAPE)):
        is_of_one = asked.has(COLOUR) is not asked.has(SHAPE)
        says_so = is_of_one and asked.says_only(_IS_SAME, _SAYS_SAME, COLOUR, SHAPE, CLAIM)
        return _have_same if says_so and not asked.is_open else None
    if all(mention.is_plural for mention in asked.groups):
        return _numbers_compared(asked)
    if asked.has(_LARGER) is not asked.has(_SMALLER):
        says_so = asked.has(_COMPARES) and asked.says_only(_SAYS_LARGER, CLAIM)
        return _is_larger if says_so and not asked.is_open else None
    return _places_compared(asked)


def yes(*, so: bool) -> str:
    """The answer to whether something is so."""
    return "yes" if so else "no"


def what_is_missing(mention: Mention, facts: SceneFacts) -> str | None:
    """That there is nothing of what is asked about; None where there is."""
    return f"There is no {mention.name}." if facts.is_missing(mention) else None


def _numbers_compared(asked: SceneQuestion) -> Answers | None:
    # `Are the circles larger than the squares?` does not ask for their numbers.
    is_of_places = asked.has(_OF_PLACES) and not asked.has(_NUMBER)
    is_of_numbers = asked.has(_MORE) or asked.has(_FEWER) or (asked.has(_AMOUNT) and not is_of_places)
    if not is_of_numbers or not asked.says_only(_SAYS_MORE, OPEN, CLAIM) or _is_more(asked) is None:
        return None
    # `More circles above the squares` are other ones, and `blue ones` are of the shape that was named before.
    if (asked.has(_MORE) and asked.directions) or any(mention.noun == "ones" for mention in asked.groups):
        return None
    one, other = asked.groups
    if " or " in asked.text[one.end : other.start] or asked.is_open:
        return _which_are_more
    return _are_more


def _is_more(asked: SceneQuestion) -> bool | None:
    """Whether more is asked for, and not less; None where both are, or neither."""
    more, fewer = (asked.has(one) or asked.has(other) for one, other in ((_MORE, _HIGHER), (_FEWER, _LOWER)))
    if asked.has(_FEWER) and not asked.has(_HIGHER):
        return False  # `less numerous`, `in the majority` besides
    return None if more == fewer else more


def _places_compared(asked: SceneQuestion) -> Answers | None:
    if asked.has(_WHICH_SIDE) or (asked.has(_ASKS_WHERE) and not asked.directions):
        return _on_which_side if asked.says_only(DIRECTION, _SAYS_WHERE, OPEN) else None
    is_of_two = len(asked.directions) == 1 and not asked.has(_IS_INSIDE) and not asked.is_open
    return _is_towards if is_of_two and asked.says_only(DIRECTION, _SAYS_TOWARDS, CLAIM) else None


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
    found = one if (more > 0) is _is_more(asked) else other
    return asked.text[found.start : found.end]


def _are_more(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    one, other = asked.groups
    word = (_MORE if _is_more(asked) else _FEWER).search(asked.between)
    follows = [mention for mention in asked.named if word is not None and mention.start == word.end() + 1]
    if _COMPARED_WITH.search(asked.text[: one.start]) or (follows and follows[0].key == other.key):
        one, other = other, one
    more = len(facts.meant(one)) - len(facts.meant(other))
    return yes(so=more > 0 if _is_more(asked) else more < 0)


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
    direction = asked.directions[0]
    is_of_first = direction.start > other.end and _OF_IT.match(asked.text, direction.end) is not None
    if direction.start < one.start or is_of_first or asked.has(_IS_ABOUT_SECOND):
        one, other = other, one
    shape, reference = facts.only(one), facts.only(other)
    so = None if shape is None or reference is None else is_towards(shape, direction.name, reference)
    return None if so is None else yes(so=so)


def _what_is_towards(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    mention = asked.groups[0]
    reference = facts.only(mention)
    if reference is None:
        return what_is_missing(mention, facts)
    found = facts.only_towards(asked.directions[0].name, reference)
    if found is None:
        return None
    return found.colour if asked.has(COLOUR) else described(found)
