"""VQA accuracy: an answer counts as far as people gave it (Antol et al. 2015; TextVQA and VQA v2 are scored so).

Answers are compared in the form that the challenge's server gives them. Its rules are kept where they surprise, since
published numbers follow them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
} | {"none": "0"}
_ARTICLES = frozenset({"a", "an", "the"})
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_STOP = re.compile(r"\.(?!\d)")
_MAX_STOPS = 32
"""The server hands a flag to the place of a count, and so removes no more full stops than this."""

_SHORTENED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd
    he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've
    needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've
    somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll
    that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've
    we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's
    who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've
    you'll you're you've
    """.split()  # noqa: SIM905 - a list of so many words is read more easily so
"""Short forms that are recognised with some of their apostrophes missing."""


_CONTRACTIONS = {
    word[:place] + word[place + 1 :]: word for word in _SHORTENED for place, letter in enumerate(word) if letter == "'"
}
_CONTRACTIONS["somebody'd"] = "somebodyd"  # which the server's table has the wrong way round


def vqa_normalized(answer: str) -> str:
    """An answer as the server compares it: lower case, no punctuation, no articles, digits for numbers up to ten."""
    text = answer.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = text.replace("\n", " ").replace("\t", " ").strip()
    cleaned = text
    for mark in _PUNCTUATION:
        # Between two words it separates them; beside a space anywhere in the answer, it is dropped everywhere.
        is_beside_space = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if is_beside_space else " ")
    cleaned = _STOP.sub("", cleaned, count=_MAX_STOPS)
    words = [_NUMBERS.get(word, word) for word in cleaned.split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(answer: str, answers_of_people: Sequence[str]) -> float:
    """How far people agree with an answer, 0 to 1: the mean, over leaving out each of them, of min(1, agreeing / 3)."""
    normalized = vqa_normalized(answer)
    agreeing = [vqa_normalized(other) == normalized for other in answers_of_people]
    shares = [min(1.0, (sum(agreeing) - own) / 3) for own in agreeing]
    return sum(shares) / len(shares) if shares else 0.0
