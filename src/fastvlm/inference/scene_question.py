"""A question about a drawn scene: the shapes that it names, places, directions and numbers, and what else it says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from fastvlm.inference.scene_words import NUMBERS, SIZES, Mention, find_mentions, plain_text

_MIDDLE = r"(?:middle|centre)"
_PLACES = {
    "top left": r"(?:top|upper) left",
    "top right": r"(?:top|upper) right",
    "bottom left": r"(?:bottom|lower) left",
    "bottom right": r"(?:bottom|lower) right",
    "top": rf"top (?:(?:in )?(?:the )?{_MIDDLE}|halfway across)",
    "bottom": rf"bottom (?:(?:in )?(?:the )?{_MIDDLE}|halfway across)",
    "left": rf"left (?:(?:in )?(?:the )?{_MIDDLE}|halfway (?:up|down))|{_MIDDLE} left",
    "right": rf"right (?:(?:in )?(?:the )?{_MIDDLE}|halfway (?:up|down))|{_MIDDLE} right",
    "centre": rf"(?:(?:at|in)|^(?:look at )?) ?(?:the )?{_MIDDLE}(?! (?:left|right))",
}
PLACE = re.compile(
    "|".join(rf"(?P<{name.replace(' ', '_')}>\b(?:{words})\b(?: corner\b)?)" for name, words in _PLACES.items())
)
_DIRECTIONS = {
    "left": r"(?:(?:to|on|at) )?(?:the )?left (?:side )?of",
    "right": r"(?:(?:to|on|at) )?(?:the )?right (?:side )?of",
    "above": r"above|over|(?:higher|farther|further) up than|higher than",
    "below": r"below|under|underneath|beneath|(?:lower|farther|further) down than|lower than",
}
DIRECTION = re.compile("|".join(rf"(?P<{name}>\b(?:{words})\b)" for name, words in _DIRECTIONS.items()))
OPEN = re.compile(
    r"\b(?:what|which|whichever|where|whereabouts|how|name|give|state|describe|description|identify|hear)\b|"
    r"\b(?:asks?|asking|know|tell me|need|look up)\b(?!.*\b(?:whether|if|that)\b)|"
    r"^(?:the )?(?:colour|shape|form|size|position) of\b(?!.* (?:is|are)\b)"
)
NUMBER = re.compile(rf"\b(\d+|{'|'.join(NUMBERS[1:])})\b")
_BEFORE_A_MENTION = re.compile(r" (?:or (?:more|fewer|less) )?(?:different )?(?=\||kinds?\b|colours?\b|shapes?\b)")
_BEFORE_A_NUMBER = re.compile(r"\b(?:is|are|least|most|exactly|than|exceed|above|below|gives|get) $")
_AMOUNT = re.compile(r"\b(?:number|count|counting|total)\b")

_SAYS_NOTHING = """
a advance altogether am an and answer are at be been being brief briefly by can closely could curious d did do does
drawing drawn find found friend from give gives good had has have hello help here hey hi i if image in into is it its
keep let lie lies located look looking looks m may me might morning my now of ok on one out painted picture placed
please position positioned quick regarding s say scene see seem seems seen sees short show shown shows sit sits so
sorry state stated tell thank thanks that the their them there these they this those to use used ve view was way we
well were will with wonder write you your
"""
_FILLERS = frozenset(_SAYS_NOTHING.split())
_PHRASES = re.compile(
    r"\b(?:did|do|has|have) (?:they|you|we|somebody|someone) (?:draw|paint|put|placed?|got)\b|\bput (?:in )?here\b|"
    r"\b(?:would|might|should) (?:you|i|one|we) (?:say|call|find|see|locate|expect)\b|\bi (?:would|d) expect\b|"
    r"\b(?:look|looking|asks?|asking|wait|try|trying to|searching) (?:for|find)\b|^for (?=(?:all )?(?:the )?\|)|"
    r"\bi (?:want|need) (?:a number|to know)\b|\b(?:drawn|shaped) as\b|\blook up\b|\bi need the\b|"
    r"\bmight there\b|\bwould (?:it|they) be\b"
)
"""What says nothing of its own, whatever else is asked."""

_QUESTION_WORD = re.compile(r"\b(?:what|which|where|how)\b")
_IS_NO_QUESTION = re.compile(
    r"^(?:please )?(?:put|place|show|do not|have an?|here have|let me see|paint|add|draw)\b|\b(?:why|who)\b|"
    r"\b(?:can|could|may) .*be (?:drawn|placed|put|added|painted)\b|\b(?:you|i|we|they) colour\b|"
    r"\bform(?:ed by)? (?:an? |the )?\||"
    r"\| form(?:ed)?\b"
)
"""What asks for something to be done, or for what no picture tells."""


def any_of(*phrases: str) -> re.Pattern[str]:
    """A pattern that finds each of some words or phrases, themselves patterns, the first of them first."""
    return re.compile(rf"\b(?:{'|'.join(phrases)})\b")


class Direction(NamedTuple):
    """The side of something, and where its words start and end in a text."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class SceneQuestion:
    """A question in plain words, as `scene_words.plain_text` gives them."""

    text: str

    def has(self, words: re.Pattern[str]) -> bool:
        """Whether some words are there that name no shapes themselves."""
        return words.search(self.between) is not None

    def says_only(self, *patterns: re.Pattern[str]) -> bool:
        """Whether nothing else is said than what is mentioned, what patterns find, and words that ask for nothing."""
        text = self.between
        for pattern in (_PHRASES, *patterns):
            text = pattern.sub(" ", text)
        return all(word in _FILLERS for word in text.replace("|", " ").split())

    @cached_property
    def between(self) -> str:
        """The text with a stroke for each mention, as long as it."""
        text = self.text
        for mention in self.mentions:
            text = text[: mention.start] + "|" * (mention.end - mention.start) + text[mention.end :]
        return text

    @cached_property
    def mentions(self) -> list[Mention]:
        """All that is mentioned, in its order."""
        return find_mentions(self.text)

    @cached_property
    def named(self) -> list[Mention]:
        """The mentions of some shapes, not of any, nor of a colour alone."""
        return [mention for mention in self.mentions if not mention.is_plain and not mention.is_colour]

    @cached_property
    def colours(self) -> list[Mention]:
        """The mentions of a colour alone, which something is said to have."""
        return [mention for mention in self.mentions if mention.is_colour]

    @cached_property
    def groups(self) -> list[Mention]:
        """The shapes that are named, each group once; any shapes where none are named."""
        mentions = self.named or [mention for mention in self.mentions if mention.is_plain][:1]
        first = {mention.key: mention for mention in reversed(mentions)}
        return sorted(first.values(), key=lambda mention: mention.start)

    @cached_property
    def size(self) -> str | None:
        """The one size that something is said to have, apart from those that a mention tells."""
        sizes = [word for word in self.between.split() if word in SIZES]
        return sizes[0] if len(sizes) == 1 else None

    @cached_property
    def place(self) -> str | None:
        """The one of nine places that is named."""
        match = PLACE.search(self.between)
        return None if match is None or match.lastgroup is None else match.lastgroup.replace("_", " ")

    @cached_property
    def directions(self) -> list[Direction]:
        """The directions that are named."""
        found = DIRECTION.finditer(self.between)
        return [Direction(match.lastgroup or "", match.start(), match.end()) for match in found]

    @cached_property
    def is_open(self) -> bool:
        """Whether more than yes or no is asked for."""
        return self.has(OPEN)

    @cached_property
    def number(self) -> int | None:
        """The number of shapes that a claim tells: `four stars`, or `the number of stars is four`."""
        for match in NUMBER.finditer(self.between):
            before, after = self.between[: match.start()], self.between[match.end() :]
            is_before = _BEFORE_A_MENTION.match(after) is not None and not before.endswith(("not ", "of the "))
            if is_before or (self.has(_AMOUNT) and _BEFORE_A_NUMBER.search(before)):
                return int(match[1]) if match[1].isdigit() else NUMBERS.index(match[1])
        return None


def understood_words(question: str) -> SceneQuestion | None:
    """A question all of whose words may be about a drawn scene; None of others."""
    text = plain_text(question)
    asked = SceneQuestion(text) if text else None
    return None if asked is None or asked.has(_IS_NO_QUESTION) or len(_QUESTION_WORD.findall(asked.text)) > 1 else asked
