"""When an answer is right, and how sure a share of right answers is."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

Z_95 = 1.959963984540054
"""Standard deviations on both sides of the mean that hold 95 % of a normal distribution."""

_NUMBER_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBER_WORDS)} | {"none": "0"}
_WORD = re.compile(r"[a-z]+")
_AMERICAN = (("color", "colour"), ("gray", "grey"), ("center", "centre"))
_LEADING_ARTICLE = re.compile(r"(?:a|an|the) ")


def normalize_answer(text: str) -> str:
    """Write an answer in the one form in which answers are compared.

    Lower case, single spaces, no final full stop, no leading article, British spelling, and digits for number words
    from zero to twenty. Nothing else is forgiven: a sentence around the answer is not the answer.
    """
    text = " ".join(text.casefold().split()).rstrip(". ")
    for american, british in _AMERICAN:
        text = text.replace(american, british)
    text = _LEADING_ARTICLE.sub("", text, count=1) if _LEADING_ARTICLE.match(text) else text
    return _WORD.sub(lambda word: _DIGITS.get(word[0], word[0]), text)


def exact_match(answer: str, expected: str) -> bool:
    """Whether an answer says what is expected, spelling and final full stop aside."""
    return normalize_answer(answer) == normalize_answer(expected)


@dataclass(frozen=True)
class Interval:
    """Both ends of a confidence interval, as shares from 0 to 1."""

    low: float
    high: float


def wilson_interval(num_correct: int, num_questions: int) -> Interval:
    """Give the 95 % interval of a share by Wilson's score method (1927), which stays inside 0 and 1.

    Without any question nothing is known: 0 to 1.
    """
    if num_questions == 0:
        return Interval(0.0, 1.0)
    share = num_correct / num_questions
    spread = Z_95**2 / num_questions
    middle = (share + spread / 2) / (1 + spread)
    half = Z_95 * math.sqrt((share * (1 - share) + spread / 4) / num_questions) / (1 + spread)
    # Rounding could leave the ends of 0 or all correct a hair outside of the share itself.
    return Interval(0.0 if num_correct == 0 else middle - half, 1.0 if num_correct == num_questions else middle + half)


@dataclass(frozen=True)
class Accuracy:
    """Right answers out of all."""

    num_correct: int
    num_questions: int

    @property
    def share(self) -> float:
        """Share of right answers, 0 to 1; 0 without any question."""
        return self.num_correct / self.num_questions if self.num_questions else 0.0

    @property
    def interval(self) -> Interval:
        """The 95 % interval of the share."""
        return wilson_interval(self.num_correct, self.num_questions)
