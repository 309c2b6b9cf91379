"""Answers questions about a drawn scene by its shapes: what there is, how many, of which colour, size and place."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from fastvlm.inference.questions import asks_for_number
from fastvlm.inference.scene_comparisons import (
    ASKS_WHAT,
    CLAIM,
    COLOUR,
    SHAPE,
    WHERE,
    Answers,
    how_compared,
    what_is_missing,
    yes,
)
from fastvlm.inference.scene_facts import SceneFacts, described, most_common
from fastvlm.inference.scene_question import NUMBER, OPEN, PLACE, SceneQuestion, any_of, understood_words
from fastvlm.inference.scene_words import SIZES
from fastvlm.processing.shapes import Drawing, Shape

_PICTURE = "(?:the |this )?(?:picture|image|scene|drawing)"
_DESCRIBE = any_of(
    f"describe (?:what (?:you see|{_PICTURE} shows?)|{_PICTURE})", f"(?:short )?description of {_PICTURE}",
    f"(?:give(?: me)?|write|make|suggest) (?:an? |one )?(?:short )?caption(?: (?:for|of) {_PICTURE})?",
    f"summarise(?: what you see| {_PICTURE})?", "list (?:all )?(?:the )?objects", "write down (?=what)",
    "what (?:can |do )?(?:you |we |i )?see", f"what (?:is |s )?(?:in {_PICTURE}|shown|here)",
    f"what (?:does |do )?{_PICTURE} shows?", "which objects (?:are )?in", "what did they draw",
)  # fmt: skip
_BACKGROUND = re.compile(r"\bbackground\b|\bbehind (?:the )?(?=\|)")
_MOST = any_of("most", "highest count", "largest number", "wins")
_SAYS_MOST = re.compile(
    r"\b(?:appears?|occurs?|comes up|seen|used|find|shared by) (?:the )?most\b(?: often)?|"
    r"\b(?:do )?(?:the |that )?most (?=\|)|\bthe largest number of\b|"
    r"\b(?:most (?:common|frequent|often)|highest count|shared by|wins|appears?|occurs?|counting|among|common|share)\b"
)
_ALL = any_of("all", "every", "each", "(?:without|with no) exception", "of no other colour than", "in every case")
_NONE_OTHER = re.compile(r"\b(?:no|not one) (?:of the )?(?=\|).*\b(?:an)?other (?:colour )?than\b")
_SIZE = any_of("size", "how (?:large|big|small)", "small (?:or )?medium (?:or )?large")
_SIZE_WORD = any_of(*SIZES)
_COUNT_KINDS = any_of(
    "(?:how many|count|number of|total of|quantity of) (?:the |all )?(?:different|distinct|kinds?|sorts?|types?)"
)
_ASKS_WHETHER = re.compile(r"^(?:is|are|does|did|has|have|do(?! you))\b")
_PLACE_OF = re.compile(rf"(?:{PLACE.pattern}) of (?:the |an? )?\|")
_ANY = any_of("any", "some", "there")
_ASKS_TO_GIVE = re.compile(r"^(?:give|name) (?!.*\b(?:colours?|shapes?|form|size|position|place) of\b)")
_ARE = re.compile(r"\| (?:here |there |shown )?(?:are|is) (?:an? )?\|")
_OF_SOME = re.compile(r"\b(?:one|some|any|none|most|many|half|two|either|both|neither) of the $")
_AMONG = any_of("among", "is there", "are there", "there is", "there are")
_ASKS_TO_FIND = re.compile(r"^(?:please )?(?:(?:can|could|do) (?:you|i|we|one)|find)\b")
_KINDS = any_of("different", "distinct", "(?:kinds?|sorts?|types?)(?: of)?")
_COUNT = re.compile(
    r"\b(?:how (?:many|numerous|often)(?: (?:are|is))?|(?:total )?(?:number|quantity|amount|count|total) of|"
    r"count(?: up)?)(?: all)?(?: of)?(?: the)? (?=\||different|kinds)|(?<=\|) how many\b|"
    r"\b(?:what|the) (?:number|quantity|total) of\b"
)
_SAYS_COUNT = any_of(
    "total", "number", "quantity", "(?:do )?(?:you|i|we) (?:get|arrive at)", "(?:when|if) (?:you|i|we) count(?: them)?",
    "in all", "all together", "all told", "(?:add|count)(?:ing)?(?: them)?(?: all)? up", "count", "counting", "visible",
    "appear", "many", "present",
)  # fmt: skip
_EXACTLY = any_of("no more and no (?:fewer|less)", "exactly")
_AT_LEAST = any_of("at least", "(?:no|not) (?:fewer|less) than", "not below", "(?:or|if not) more")
_AT_MOST = any_of("at most", "(?:no|not) more than", "(?:or|if not) (?:fewer|less)", "(?:does )?not (?:exceed|above)")
_MORE_THAN, _FEWER_THAN = any_of("more than"), any_of("(?:fewer|less) than")
_SAYS_NUMBER = any_of("number", "count", "counting", "total", "quantity", "when", "get", "gives")
_EXISTS = any_of(
    "is there", "are there", "there is", "there are", "see", "sees", "seen", "spot", "notice", "expect", "visible",
    "present", "shown", "drawn", "appears?", "contains?", "shows?",
    "(?:picture|image|scene|drawing|it|we) (?:have|has)",
    "got", "among", "finds?", "found", "any", "here", "there", "make out",
)  # fmt: skip
_SAYS_EXISTS = any_of(
    "any", "some", "anything", "something", "anyone", "anybody", "somebody", "whoever", "at least one", "at least",
    "try", "trying", "put", "with all",
)  # fmt: skip
_ANYTHING = any_of("anything", "something")
_NONE = re.compile(
    r"\b(?:no|not (?:any|a single|one of the|one)) (?=\|)|\b(?:does|do) not (?:contain|show|have|appear)\b|"
    r"\bcannot (?:find|see|be seen|be found)\b|\bnowhere(?: to be found)?\b|\b(?:missing|lacks?|none of)\b"
)
_DEFINITE = re.compile(r"\bthe $")
_OF_ANOTHER = re.compile(
    r"\b(?:in|into|on|as|by|to|like|of|with|than|around|under|inside|from|the|all|every|each|another) (?:an? |the )?$"
)
_IS_ONE = re.compile(r"\b(?:is|are) (?:an? )?$")
_IS_NOT = any_of("(?:is|are) not")
_SAYS_CLAIMED = any_of("whoever", "looks", "has", "share", "common", "of")
_SAYS_SHARED = any_of(
    "share(?: the same)?", "common", "have the same", "call", "called", "each", "all", "shaped like", "like what",
    "kind of", "comes?", "for",
)  # fmt: skip
_ASKS_WHICH = any_of(
    "what", "which", "name", "identify", "describe", "description", "pick", "among", "like", "objects?", "all",
    "compare",
)  # fmt: skip
_AMERICAN, _BRITISH = re.compile(r"color|gray|center", re.I), re.compile(r"colour|grey|centre", re.I)


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


@lru_cache(maxsize=64)
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
    of_all = _how_all_answered(asked)
    if of_all is not None:
        return of_all
    if asked.place is not None:
        return _how_placed(asked)
    if not asked.mentions:
        return _count if asks_for_number(asked.text) and _says_kinds(asked) else None
    if asked.number is not None and not asked.is_open:
        return _is_number if _claims_number(asked) else None
    compared = how_compared(asked)
    if compared is not None or asked.directions:
        return compared
    if asks_for_number(asked.text):
        return _how_counted(asked)
    return _how_attributed(asked)


def _how_all_answered(asked: SceneQuestion) -> Answers | None:
    """How a question about a whole scene is answered, which names no shapes."""
    if asked.named:
        return None
    if asked.has(_BACKGROUND):
        says_so = asked.says_only(_BACKGROUND, COLOUR, *((CLAIM,) if asked.colours else (OPEN,)))
        is_of_colour = bool(asked.colours) is not asked.is_open and (asked.has(COLOUR) or len(asked.colours) == 1)
        return _background if says_so and is_of_colour and len(asked.colours) < 2 else None
    if _DESCRIBE.search(asked.text):
        rest = SceneQuestion(_DESCRIBE.sub(" ", asked.text))
        return _caption if not rest.mentions and rest.says_only(OPEN) else None
    if asked.has(_MOST) and asked.has(COLOUR) is not asked.has(SHAPE) and not asked.colours:
        says_so = asked.says_only(_SAYS_MOST, COLOUR, SHAPE, OPEN)
        return _most_common if says_so and not _ASKS_WHETHER.search(asked.text) else None
    return None


def _how_placed(asked: SceneQuestion) -> Answers | None:
    is_of_one = len(PLACE.findall(asked.between)) == 1 and not asked.has(_PLACE_OF) and not asked.has(_ANYTHING)
    if asked.directions or not is_of_one:
        return None
    if not asked.is_open:
        # `Are the stars at the top left?` asks for all of them.
        is_of_all = any(mention.is_plural for mention in asked.mentions) and not asked.has(_ANY)
        says_so = asked.says_only(PLACE, _EXISTS, _SAYS_EXISTS, CLAIM) and len(asked.named) < 2 and not is_of_all
        is_claim = bool(asked.mentions) and len(asked.colours) < 2 and not _is_request(asked)
        return _is_at if says_so and is_claim else None
    says_what = asked.has(ASKS_WHAT) and asked.says_only(PLACE, ASKS_WHAT, OPEN, COLOUR, SHAPE, _EXISTS)
    is_plain = not asked.named and not asked.colours and not (asked.has(COLOUR) and asked.has(SHAPE))
    return _what_is_at if says_what and is_plain else None


def _is_request(asked: SceneQuestion) -> bool:
    """Whether something is to be found, as in `find a star`, and nothing is asked."""
    return asked.text.startswith("find ") and not asked.has(CLAIM)


def _says_kinds(asked: SceneQuestion) -> bool:
    """Whether the number of colours or shapes is asked for."""
    is_of_one = asked.has(COLOUR) is not asked.has(SHAPE) or (not asked.has(COLOUR) and bool(asked.mentions))
    # `How many kinds of circles` there are is not told by the names of shapes.
    is_of_one = is_of_one and (asked.has(COLOUR) or not any(mention.shape for mention in asked.named))
    says_so = asked.says_only(_COUNT, _KINDS, COLOUR, SHAPE, OPEN, _SAYS_COUNT)
    return asked.has(_COUNT_KINDS) and is_of_one and says_so and len(asked.groups) < 2 and not asked.colours


def _how_counted(asked: SceneQuestion) -> Answers | None:
    if asked.has(_KINDS):
        return _count if _says_kinds(asked) else None
    says_so = asked.has(_COUNT) and asked.says_only(_COUNT, OPEN, _SAYS_COUNT) and not _ASKS_WHETHER.search(asked.text)
    # `How many objects are in the ring?` asks for others than the ring.
    is_of_two = bool(asked.named) and any(mention.is_plain for mention in asked.mentions) and not asked.has(_ARE)
    if not says_so or is_of_two or len({mention.key for mention in asked.named}) > 1 or len(asked.colours) > 1:
        return None
    if not asked.groups or not asked.colours:
        return _count
    # `How many circles are red?`, but not `How many red and blue circles are there?`
    return _count_of_colour if _IS_ONE.search(asked.text[: asked.colours[0].start]) else None


def _claims_number(asked: SceneQuestion) -> bool:
    """Whether a number of some shapes is claimed, and nothing else of them."""
    is_of_one = len({mention.key for mention in asked.mentions}) == 1
    bounds = (_EXACTLY, _AT_LEAST, _AT_MOST, _MORE_THAN, _FEWER_THAN)
    says_so = asked.says_only(*bounds, NUMBER, _SAYS_NUMBER, _EXISTS, _SAYS_EXISTS, CLAIM)
    # `Can you find two stars?` means two or more.
    is_of_one = is_of_one and (any(asked.has(bound) for bound in bounds) or not _ASKS_TO_FIND.search(asked.text))
    return is_of_one and says_so and len(NUMBER.findall(_EXACTLY.sub(" ", asked.between))) == 1


def _how_attributed(asked: SceneQuestion) -> Answers | None:
    """How a question about an attribute of some shapes is answered, or whether there are any."""
    if not asked.is_open:
        return _how_claimed(asked)
    if len(asked.groups) != 1 or asked.colours:
        return None
    attributes = (
        (_SIZE, _size_of, (_SIZE, _SIZE_WORD)), (COLOUR, _colour_of, (COLOUR, _SAYS_SHARED)),
        (SHAPE, _shape_of, (SHAPE, _SAYS_SHARED)), (WHERE, _place_of, (WHERE,)),
    )  # fmt: skip
    asks_for = [(answers, patterns) for words, answers, patterns in attributes if asked.has(words)]
    if asks_for:
        answers, patterns = asks_for[0]
        is_request = _ASKS_TO_GIVE.search(asked.text) is not None
        return answers if len(asks_for) == 1 and not is_request and asked.says_only(*patterns, OPEN) else None
    is_extreme = asked.groups[0].extreme is not None and asked.has(_ASKS_WHICH)
    return _which_is_extreme if is_extreme and asked.says_only(_ASKS_WHICH, OPEN) else None


def _how_claimed(asked: SceneQuestion) -> Answers | None:
    """How a claim about the colour or size of some shapes, or that there are any, is answered."""
    if asked.has(_NONE_OTHER):
        is_one = len(asked.colours) == 1 and len(asked.groups) == 1
        return _all_are if is_one and asked.says_only(_NONE_OTHER, _ALL, CLAIM, COLOUR) else None
    if asked.has(_ALL):
        shared = (COLOUR, _SAYS_SHARED) if asked.colours else ()
        return _all_are if asked.says_only(_ALL, CLAIM, *shared) and _claims_of_all(asked) else None
    if _claims_colour(asked):
        return _is_of_colour
    if asked.has(_SIZE) and len(asked.groups) == 1 and not asked.colours:
        # `Is it small, medium or large?` is no claim.
        return _size_of if asked.says_only(_SIZE, _SIZE_WORD) and len(_SIZE_WORD.findall(asked.between)) == 3 else None
    if asked.size is not None and len(asked.groups) == 1 and not asked.colours:
        return _is_of_size if _is_definite(asked) and asked.says_only(_SIZE_WORD, CLAIM) else None
    return _exists if _claims_existence(asked) else None


def _claims_of_all(asked: SceneQuestion) -> bool:
    if asked.colours:
        return len(asked.colours) == 1 and len(asked.groups) == 1
    is_inside = _OF_ANOTHER.search(asked.text[: asked.named[-1].start]) is not None if asked.named else True
    return len(asked.named) == 1 and len(asked.mentions) == 2 and asked.mentions[0].is_plain and not is_inside


def _claims_colour(asked: SceneQuestion) -> bool:
    """Whether shapes are said to be of a colour: `the ring is brown`, `the rings are not`, `it is a brown one`."""
    if not asked.groups or not _is_definite(asked):
        return False
    if asked.colours:
        is_one = len(asked.groups) == 1 and len(asked.colours) == 1
        return is_one and asked.says_only(_IS_NOT, COLOUR, _SAYS_CLAIMED, CLAIM)
    is_repeated = len(asked.groups) == 2 and asked.groups[1].shape is None and asked.groups[1].colour is not None
    is_said = is_repeated and _IS_ONE.search(asked.text[: asked.groups[1].start]) is not None
    return is_said and asked.says_only(CLAIM)


def _is_definite(asked: SceneQuestion) -> bool:
    is_named, before = asked.groups[0].extreme is not None, asked.text[: asked.groups[0].start]
    return is_named or (_DEFINITE.search(before) is not None and _OF_SOME.search(before) is None)


def _claims_existence(asked: SceneQuestion) -> bool:
    """Whether shapes are said to be there, or not to be, wherever that is."""
    kept = asked.named or asked.mentions
    if len(kept) != 1 or (asked.named and asked.colours) or (asked.colours and not asked.has(_ANYTHING)):
        return False
    before = asked.text[: kept[0].start]
    is_inside = _OF_ANOTHER.search(before) is not None and not _NONE.search(asked.between)
    is_of_all = any(mention.start < kept[0].start for mention in asked.mentions) and not asked.has(_AMONG)
    if (is_of_all and not asked.has(_NONE)) or _is_request(asked) or len(_NONE.findall(asked.between)) > 1:
        return False
    return asked.has(_EXISTS) and not is_inside and asked.says_only(_NONE, _EXISTS, _SAYS_EXISTS, CLAIM)


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
    return yes(so=any(all(shape in facts.meant(mention) for mention in asked.mentions) for shape in there))


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
    ways = (
        (_EXACTLY, found == number), (_AT_LEAST, found >= number), (_AT_MOST, found <= number),
        (_MORE_THAN, found > number), (_FEWER_THAN, found < number),
    )  # fmt: skip
    return yes(so=next((so for words, so in ways if asked.has(words)), found == number))


def _all_are(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    """Whether all of a group have a colour, or are of a shape."""
    meant = facts.meant(asked.groups[0] if asked.colours else asked.mentions[0])
    if not meant:
        return None
    if asked.colours:
        return yes(so=all(shape.colour == asked.colours[0].colour for shape in meant))
    return yes(so=all(shape in facts.meant(asked.named[0]) for shape in meant))


def _is_of_colour(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    colour = (asked.colours or asked.groups[1:])[0].colour
    meant = facts.meant(asked.groups[0])
    if not meant:
        return yes(so=False) if facts.is_missing(asked.groups[0]) else None
    num_so = sum(shape.colour == colour for shape in meant)
    # `The star` is one of them, and of some that are so and some that aren't neither is told.
    is_clear = len(meant) == 1 or (asked.groups[0].is_plural and not (asked.has(_IS_NOT) and 0 < num_so < len(meant)))
    return yes(so=(num_so == len(meant)) is not asked.has(_IS_NOT)) if is_clear else None


def _is_of_size(asked: SceneQuestion, facts: SceneFacts) -> str | None:
    meant = facts.meant(asked.groups[0])
    is_clear = len(meant) == 1 or (bool(meant) and asked.groups[0].is_plural)
    return yes(so=all(facts.size(shape) == asked.size for shape in meant)) if is_clear else None


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
    return yes(so=bool(facts.meant(mention)) is not asked.has(_NONE))
