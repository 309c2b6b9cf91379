"""When an answer is right, and how sure a share of right answers is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fastvlm.inference.reading import is_refusal

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


def edit_distance(first: str, second: str) -> int:
    """Fewest insertions, deletions and replacements of characters that make one string the other (Levenshtein)."""
    distances = list(range(len(second) + 1))
    for row, letter in enumerate(first, start=1):
        diagonal, distances[0] = distances[0], row
        for column, other in enumerate(second, start=1):
            diagonal, distances[column] = (
                distances[column],
                min(distances[column] + 1, distances[column - 1] + 1, diagonal + (letter != other)),
            )
    return distances[-1]


ANLS_THRESHOLD = 0.5
"""An answer that is less similar than this counts as wrong."""


def anls(answer: str, expected: Sequence[str]) -> float:
    """Normalised Levenshtein similarity to the nearest of several right answers, 0 below 0.5 (Biten et al. 2019).

    Case and outer spaces do not count, a similarity of exactly 0.5 does: as in ST-VQA's evaluation of the code of M4C.
    DocVQA's script makes one space of several between words too.
    """
    similarities = [_similarity(answer.strip().lower(), right.strip().lower()) for right in expected]
    best = max(similarities, default=0.0)
    return best if best >= ANLS_THRESHOLD else 0.0


def _similarity(first: str, second: str) -> float:
    longest = max(len(first), len(second))
    return 1.0 if longest == 0 else 1 - edit_distance(first, second) / longest


def relaxed_match(answer: str, expected: str, *, tolerance: float = 0.05) -> bool:
    """Whether a number is within 5 % of what is expected, and anything else the same but for case (ChartQA).

    As in the official script, `%` divides by 100, and where 0 or no number is expected the words are compared.
    """
    given, wanted = _as_number(answer), _as_number(expected)
    if given is not None and wanted:
        return abs(given - wanted) / abs(wanted) <= tolerance
    return answer.lower() == expected.lower()


def _as_number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def refusal_match(answer: str, _expected: str) -> bool:
    """Whether an answer begins as the embedded model says that there is none (`inference.reading.REFUSALS`)."""
    return is_refusal(answer)


ScoreName = Literal["exact", "relaxed", "refusal"]

SCORES: Mapping[ScoreName, Callable[[str, str], bool]] = {
    "exact": exact_match,
    "relaxed": relaxed_match,
    "refusal": refusal_match,
}
"""What decides whether an answer is right: called with it and with what is expected."""


def character_error_rate(answers: Sequence[str], expected: Sequence[str]) -> float:
    """Edits that make answers what is expected, over the characters that are expected; above 1 where much is added."""
    edits = sum(edit_distance(answer, right) for answer, right in zip(answers, expected, strict=True))
    return edits / max(1, sum(map(len, expected)))


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


_NUM_RESAMPLES = 2000


def bootstrap_interval(values: Sequence[float], weights: Sequence[float] | None = None) -> Interval:
    """Give the 95 % interval of sum(values) / sum(weights) over questions, by 2000 resamples of them (Efron 1979).

    Without weights that is their mean; for a character error rate values are edits and weights characters. The
    resamples are always the same ones. Without any question nothing is known: 0 to 1.
    """
    if not values:
        return Interval(0.0, 1.0)
    numerators = np.asarray(values, dtype=np.float64)
    denominators = np.ones_like(numerators) if weights is None else np.asarray(weights, dtype=np.float64)
    generator = np.random.default_rng(0)
    ratios = []
    for _ in range(_NUM_RESAMPLES):
        chosen = generator.integers(len(numerators), size=len(numerators))
        ratios.append(numerators[chosen].sum() / max(denominators[chosen].sum(), 1e-12))
    low, high = np.quantile(ratios, (0.025, 0.975))
    return Interval(float(low), float(high))


@dataclass(frozen=True)
class Similarity:
    """How near answers come to what is expected: mean ANLS, and character error rate, each with its 95 % interval."""

    anls: float
    anls_interval: Interval
    character_error_rate: float
    error_interval: Interval


def similarity(answers: Sequence[str], expected: Sequence[str]) -> Similarity:
    """Compare answers with what is expected, letter by letter."""
    nearness = [anls(answer, [right]) for answer, right in zip(answers, expected, strict=True)]
    edits = [float(edit_distance(answer, right)) for answer, right in zip(answers, expected, strict=True)]
    return Similarity(
        anls=sum(nearness) / max(1, len(nearness)),
        anls_interval=bootstrap_interval(nearness),
        character_error_rate=character_error_rate(answers, expected),
        error_interval=bootstrap_interval(edits, [float(len(right)) for right in expected]),
    )


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
