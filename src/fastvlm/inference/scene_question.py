"""A question about a drawn scene: the shapes that it names, and the places, directions and numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from fastvlm.inference.scene_words import NUMBERS, Mention, find_mentions, plain_text

_MIDDLE = r"(?:middle|centre)"
_PLACES = {
    "top left": r"(?:top|upper) left",
    "top right": r"(?:top|upper) right",
    "bottom left": r"(?:bottom|lower) left",
    "bottom right": r"(?:bottom|lower) right",
    "top": rf"top (?:(?:in )?(?:the )?{_MIDDLE}|halfway across)",
    "bottom": rf"bottom (?:(?:in )?(?:the )?{_MIDDLE}|halfway across)",
    "left": rf"left (?:(?:in )?(?:the )?{_MIDDLE}|halfway (?:up|down))",
    "right": rf"right (?:(?:in )?(?:the )?{_MIDDLE}|halfway (?:up|down))",
    "centre": rf"(?:at|in) (?:the )?{_MIDDLE}|^(?:look at )?(?:the )?{_MIDDLE}",
}
_PLACE = re.compile("|".join(rf"(?P<{name.replace(' ', '_')}>\b(?:{words})\b)" for name, words in _PLACES.items()))
_DIRECTIONS = {
    "left": r"(?:(?:to|on|at) )?(?:the )?left (?:side )?of",
    "right": r"(?:(?:to|on|at) )?(?:the )?right (?:side )?of",
    "above": r"above|over|(?:higher|farther|further)(?: up) than|higher than",
    "below": r"below|under|underneath|beneath|(?:lower|farther|further)(?: down) than|lower than",
}
_DIRECTION = re.compile("|".join(rf"(?P<{name}>\b(?:{words})\b)" for name, words in _DIRECTIONS.items()))
_ASKS_OPENLY = re.compile(
    r"\b(?:what|which|whichever|where|whereabouts|how|name|give|state|describe|description|identify|hear)\b"
)
_NUMBER = re.compile(rf"\b(\d+|{'|'.join(NUMBERS[1:])})\b")
_BEFORE_A_NUMBER = re.compile(r"\b(?:is|are|least|most|exactly|than|exceed|above|below|gives|get) $")
_AMOUNT = re.compile(r"\b(?:number|count|counting|total)\b")


@dataclass(frozen=True)
class SceneQuestion:
    """A question in plain words, as `scene_words.plain_text` gives them."""

    text: str

    def has(self, words: re.Pattern[str]) -> bool:
        """Whether some words are there that name no shapes themselves."""
        return words.search(self.between) is not None

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
    def place(self) -> str | None:
        """The one of nine places that is named."""
        match = _PLACE.search(self.text)
        return None if match is None or match.lastgroup is None else match.lastgroup.replace("_", " ")

    @cached_property
    def directions(self) -> list[tuple[str, int, int]]:
        """The directions that are named, each with where its words begin and end."""
        return [(match.lastgroup or "", match.start(), match.end()) for match in _DIRECTION.finditer(self.text)]

    @cached_property
    def is_open(self) -> bool:
        """Whether more than yes or no is asked for."""
        return self.has(_ASKS_OPENLY)

    @cached_property
    def number(self) -> int | None:
        """The number that a claim tells."""
        for match in _NUMBER.finditer(self.text):
            is_named = any(mention.start <= match.start() < mention.end for mention in self.mentions)
            if is_named or self.text[: match.start()].endswith("of the "):
                continue
            if match[1] != "one" or self._is_number(match):
                return int(match[1]) if match[1].isdigit() else NUMBERS.index(match[1])
        return None

    def _is_number(self, one: re.Match[str]) -> bool:
        """Whether a `one` counts, as in `one star` and `the number is one`, and does not stand for something."""
        before = self.text[: one.start()]
        if before.endswith("not "):
            return False
        if any(mention.start == one.end() + 1 for mention in self.mentions):
            return True
        return self.has(_AMOUNT) and _BEFORE_A_NUMBER.search(before) is not None


def understood_words(question: str) -> SceneQuestion | None:
    """A question all of whose words may be about a drawn scene; None of others."""
    text = plain_text(question)
    return SceneQuestion(text) if text else None
