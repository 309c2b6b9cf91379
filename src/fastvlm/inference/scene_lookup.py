"""Answers questions about a drawn scene by its shapes: what there is, how many, of which colour, size and place."""

from __future__ import annotations

import re
from collections.abc import Callable

from fastvlm.inference.questions import asks_for_number
from fastvlm.inference.scene_comparisons import COLOUR, NOT, SHAPE, Answers, how_compared, what_is_missing, yes
from fastvlm.inference.scene_facts import SceneFacts, described, most_common
from fastvlm.inference.scene_question import SceneQuestion, understood_words
from fastvlm.processing.shapes import Drawing, Shape

_PICTURE = r"(?:the |this )?(?:picture|image|scene|drawing)"
_DESCRIBE = re.compile(
    rf"\bdescribe (?:what\b|{_PICTURE})|\bdescription of {_PICTURE}|\bcaption\b|\bsummarise\b|"
    rf"\blist (?:all )?(?:the )?objects\b|\bwhat you see\b|\bwhat {_PICTURE} shows\b|"
    rf"\bwhat (?:can |do )?(?:you )?see\b|\bwhat (?:is |s )?(?:in {_PICTURE}|shown\b)|"
    rf"\bwhat (?:does |do )?{_PICTURE} show\b|\bwhich objects (?:are )?in\b|\bwhat did they draw\b"
)
_BACKGROUND = re.compile(r"\b(?:background|behind)\b")
_MOST = re.compile(r"\bmost\b|\bhighest count\b|\blargest number\b|\bwins\b")
_ALL = re.compile(
    r"\b(?:all|every|each|(?:without|no) exception|no other colour)\b|"
    r"\b(?:not one|no|none)\b.*\b(?:an)?other\b.*\bthan\b"
)
_SIZE = re.compile(r"\bsize\b|\bhow (?:large|big|small)\b|\bsmall (?:or )?medium (?:or )?large\b")
_WHERE = re.compile(r"\b(?:where|whereabouts|location|position|part|which place|what place)\b")
_KINDS = re.compile(r"\b(?:different|distinct|kinds?|sorts|types)\b")
_EXACTLY = re.compile(r"\bno more and no (?:fewer|less)\b|\bexactly\b")
_AT_LEAST = re.compile(r"\bat least\b|\b(?:no|not) (?:fewer|less) than\b|\bnot below\b|\b(?:or|if not) more\b")
_AT_MOST = re.compile(r"\bat most\b|\b(?:no|not) more than\b|\b(?:or|if not) (?:fewer|less)\b|\bnot (?:exceed|above)\b")
_ASKS_WHAT = re.compile(r"\b(?:what|which|name|identify|describe|description|pick)\b")
_SAYS_MORE = re.compile(
    r"\b(?:than|more|fewer|larger|bigger|smaller|same|equals?|identical|most|least common|between|next|beside|"
    r"different|others?|except|either|both|only|just|size|position|first|second)\b"
)
_DEFINITE = re.compile(r"\bthe (?:object|thing|shape|item)s?\b")
_AMERICAN, _BRITISH = re.compile(r"color|gray|center", re.I), re.compile(r"colour|grey|centre", re.I)
_OR = re.compile(r"\b(?:or|and)\b")
_IS_ONE = re.compile(r"\b(?:is|are) (?:an? )?$")


def asks_about_shapes(question: str) -> bool:
    """Whether a question asks for what the shapes of a drawn scene tell, and nothing else."""
    return _understood(question) is not None


def look_up_in_scene(question: str, drawing: Drawing) -> str | None:
    """Answer such a question; None for others, or where the shapes do not tell."""
    understood = _understood(question)
    if understood is None:
        return None
    asked, answers = understood
    found = answers(asked, SceneFacts(drawing))
    return None if found is None else _spelled(found, question)


def _understood(question: str) -> tuple[SceneQuestion, Answers] | None:
    asked = understood_words(question)
    if asked is None:
        return None
    answers = _how_answered(asked)
    return None if answers is None else (asked, answers)


def _spelled(answer: str, question: str) -> str:
    """An answer in the spelling of its question."""
    if _AMERICAN.search(question) and not _BRITISH.search(question):
        return answer.replace("grey", "gray").replace("centre", "center")
    return answer


def _how_answered(asked: SceneQuestion) -> Answers | None:
    if not asked.named and not asked.place and not asked.directions:
        of_all = _how_all_answered(asked)
        if of_all is not None:
            return of_all
    if not asked.mentions:
        return _how_nothing_answered(asked)
    if asked.number is not None and not asked.is_open:
        return _is_number if len({mention.key for mention in asked.mentions}) == 1 else None
    compared = how_compared(asked)
    if compared is not None or asked.directions:
        return compared
    if asked.place is not None:
        return _how_placed(asked)
    if asks_for_number(asked.text):
        return _how_counted(asked)
    return _how_attributed(asked)


def _how_all_answered(asked: SceneQuestion) -> Answers | None:
    """How a question about a whole scene is answered, which names no shapes."""
    if asked.has(_BACKGROUND):
        return _background
    if _DESCRIBE.search(asked.text) and not asked.colours:
        return _caption
    if asked.has(_MOST) and (asked.has(COLOUR) or asked.has(SHAPE)):
        return _most_common
    return None


def _how_nothing_answered(asked: SceneQuestion) -> Answers | None:
    """How a question is answered that mentions nothing: `how many kinds of shape are there`, `what is at the top`."""
    if asks_for_number(asked.text) and asked.has(_KINDS):
        return _count
    return None if asked.place is None or not asked.has(_ASKS_WHAT) else _what_is_at


def _how_placed(asked: SceneQuestion) -> Answers | None:
    if not asked.is_open:
        return _is_at
    return _what_is_at if not asked.named and asked.has(_ASKS_WHAT) else None


def _how_counted(asked: SceneQuestion) -> Answers | None:
    if len(asked.groups) > 1 or len(asked.colours) > 1:
        return None
    if not asked.groups or not asked.colours:
        return _count
    # `How many circles are red?`, but not `How many red and blue circles are there?`
    return _count_of_colour if _IS_ONE.search(asked.text[: asked.colours[0].start]) else None


def _how_attributed(asked: SceneQuestion) -> Answers | None:
    """How a question about an attribute of some shapes is answered, or whether there are any."""
    is_one, is_told = len(asked.groups) == 1, bool(asked.colours)
    if asked.has(_ALL) and not asked.is_open:
        return _all_are
    if _claims_colour(asked):
        return _is_of_colour
    if is_one and not is_told:
        if asked.has(COLOUR):
            return _colour_of
        if asked.has(SHAPE):
            return _shape_of
        if asked.has(_SIZE):
            return _size_of
        if asked.has(_WHERE):
            return _place_of
        if asked.is_open:
            return _which_is_extreme if asked.groups[0].extreme and asked.has(_ASKS_WHAT) else None
    is_known = len(asked.named or asked.mentions) == 1 or is_one
    is_clear = is_known and not (is_told and asked.groups)
    return _exists if is_clear and not asked.is_open and not asked.has(_SAYS_MORE) else None


def _claims_colour(asked: SceneQuestion) -> bool:
    """Whether some shapes are said to be of a colour: `the ring is brown`, `the ring is a brown one`."""
    if asked.is_open or asked.has(_SAYS_MORE):
        return False
    if asked.colours:
        is_definite = bool(asked.named) or asked.has(_DEFINITE)
        return len(asked.groups) == 1 and len(asked.colours) == 1 and is_definite and not asked.has(_OR)
    is_repeated = len(asked.groups) == 2 and asked.groups[1].shape is None and asked.groups[1].colour is not None
    return is_repeated and _IS_ONE.search(asked.text[: asked.groups[1].start]) is not None


def _background(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    if facts.ground is None:
        return None
    return yes(so=asked.colours[0].colour == facts.ground) if asked.colours else facts.ground


def _caption(_asked: SceneQuestion, facts: SceneFacts) -> str | None:
    return facts.caption()


def _most_common(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    return most_common(shape.colour if asked.has(COLOUR) else shape.name for shape in facts.shapes)


def _is_at(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    there = [shape for shape in facts.shapes if facts.place(shape) == asked.place]
    so = any(all(shape in facts.meant(mention) for mention in asked.mentions) for shape in there)
    return yes(so=so is not asked.has(NOT))


def _what_is_at(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    there = [shape for shape in facts.shapes if facts.place(shape) == asked.place]
    if len(there) != 1:
        return None
    return there[0].colour if asked.has(COLOUR) else described(there[0])


def _count(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    if asked.has(_KINDS):
        meant = facts.meant(asked.named[0]) if asked.named else facts.shapes
        return str(len({shape.colour if asked.has(COLOUR) else shape.name for shape in meant}))
    return str(_number(asked, facts))


def _count_of_colour(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    return str(sum(shape.colour == asked.colours[0].colour for shape in facts.meant(asked.groups[0])))


def _number(asked: SceneQuestion, facts: SceneFacts) -> int:
    return len(facts.meant((asked.named or asked.colours or asked.mentions)[0]))


def _is_number(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    found, number = _number(asked, facts), asked.number or 0
    if asked.has(_EXACTLY):
        return yes(so=found == number)
    if asked.has(_AT_LEAST):
        return yes(so=found >= number)
    if asked.has(_AT_MOST):
        return yes(so=found <= number)
    return yes(so=(found == number) is not asked.has(NOT))


def _all_are(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    """Whether all of a group have a colour, or are of a shape."""
    if asked.colours:
        meant = facts.meant(asked.groups[0]) if asked.groups else list(facts.shapes)
        return yes(so=all(shape.colour == asked.colours[0].colour for shape in meant)) if meant else None
    are_any = [mention for mention in asked.mentions if mention.is_plain]
    if not are_any or len(asked.named) != 1 or not facts.shapes:
        return None
    return yes(so=len(facts.meant(asked.named[0])) == len(facts.shapes))


def _is_of_colour(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    colour = (asked.colours or asked.groups[1:])[0].colour
    meant = facts.meant(asked.groups[0])
    so = bool(meant) and all(shape.colour == colour for shape in meant)
    return yes(so=so is not asked.has(NOT))


def _colour_of(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    return _common(asked, facts, lambda shape: shape.colour)


def _shape_of(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    return _common(asked, facts, lambda shape: shape.name)


def _size_of(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    return _common(asked, facts, facts.size)


def _place_of(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    return _common(asked, facts, facts.place)


def _common(asked: SceneQuestion, facts: SceneFacts, attribute: Callable[[Shape], str]) -> str | None:
    """What all of the shapes that are meant have in common."""
    found = {attribute(shape) for shape in facts.meant(asked.groups[0])}
    return found.pop() if len(found) == 1 else what_is_missing(asked.groups[0], facts)


def _which_is_extreme(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    found = facts.only(asked.groups[0])
    return what_is_missing(asked.groups[0], facts) if found is None else described(found)


def _exists(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    mention = (asked.named or asked.mentions)[0]
    return yes(so=bool(facts.meant(mention)) is not asked.has(NOT))
