"""What kinds of questions there are about a page, whatever they ask for."""

from __future__ import annotations

import re

MOST_CHARACTERS = 300
"""Of a question that is looked up; longer ones ask for more than a page says in one place."""

_ASIDES = """
a altogether and answer briefly can closely could drawing exactly good have hello help hey hi image in is it just keep
let look looking me morning now of ok on please question quick see short so sorry tell thank thanks the this to well
what when who why would you
"""
ASIDES = frozenset(_ASIDES.split())
"""What people say beside what they ask."""

_YES_OR_NO = re.compile(
    r"(^|[:,.;])\W*(is|are|was|were|does|do|did|has|have)(n't)?\b|\b(true|false|yes or no|correct)\b|"
    r"\b(right|isn't it|doesn't it|is that so)\?|(^|[:,.;])\W*(check|verify|confirm)( that| if| whether| this|:)|"
    r"\b(agree|say|tell|see|confirm) (that|if|whether)\b",
    re.I,
)
_NUMBER_QUESTION = re.compile(r"\b(?:how many|number of|count|total of|quantity of)\b", re.I)
_UP, _DOWN = r"(?:up|ris(?:e|es|en|ing)|increas(?:e|es|ed|ing))", r"(?:down|fall(?:s|en|ing)?|decreas(?:e|es|ed|ing))"
_UP_OR_DOWN = re.compile(rf"\b(?:{_UP} or {_DOWN}|{_DOWN} or {_UP})\b", re.I)
_KIND_QUESTION = re.compile(
    r"\b(?:what|which) (?:kind|sort|type) of (?:document|paper|picture|image) (?:is|are) (?:this|it|that)\W*$|"
    r"\bwhat (?:document|paper) is (?:this|it)\W*$|^\W*what is (?:this|it)\W*$|"
    r"^\W*(?:the )?(?:kind|sort|type) of (?:document|picture|image)\W*$",
    re.I,
)
_COMPARES = re.compile(r"\bthan\b.*\?", re.I | re.S)
_ASKS_FOR_OTHER = re.compile(r"\b(which|what|who|whose|where|when|how|list|name|show)\b", re.I)


def is_yes_or_no(question: str) -> bool:
    """Whether a question is answered by yes or no."""
    if offers_up_or_down(question):
        return False
    return bool(_YES_OR_NO.search(question) or (_COMPARES.search(question) and not _ASKS_FOR_OTHER.search(question)))


def asks_for_number(question: str) -> bool:
    """Whether a question asks how many there are of something."""
    return bool(_NUMBER_QUESTION.search(question))


def offers_up_or_down(question: str) -> bool:
    """Whether a question asks to choose between up and down, or words for these, which is no yes or no."""
    return bool(_UP_OR_DOWN.search(question))


def asks_for_kind(question: str) -> bool:
    """Whether a question asks what kind of document there is."""
    return bool(_KIND_QUESTION.search(question))
