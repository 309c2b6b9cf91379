"""Checks what a question claims of a page against what stands there: yes or no."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import NamedTuple

from fastvlm.inference.line_lookup import look_up
from fastvlm.inference.page import Found, Page, number_of
from fastvlm.inference.receipt_rows import amount_of

_FRAME = re.compile(
    r"^.*\b(?:true or false|is (?:this|it) (?:true|right|correct)|(?:yes or no|check this|statement correct)\b[^:]*)"
    r"\s*(?::|,|that\b)|^.*\b(?:that|check|verify)\s*:?(?=\s)|^.*:(?=\s)",
    re.I,
)
"""What stands before a claim."""

_TAG = re.compile(r"[\s,]*\b(?:true|right|correct|yes or no|isn't it|true or false)\W*$|[\s.?!]+$", re.I)
"""What stands behind a claim."""

_DIRECT = re.compile(r"^\W*(?:is|are|was|were)\s+(.+)\s+(\S+)$", re.I)
_DIRECT_DOES = re.compile(r"^\W*(?:does|do|did)\s+(.+?)\s+(cost|say|come to|show)\s+(.+)$", re.I)
_NAMES_NOTHING = re.compile(r"\W*(there|this|that|it|these|those)\b", re.I)

_CLAIMS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.I), question)
    for pattern, question in (
        (r"(?P<a>.+?) (?:has|have) the (?P<b>highest|largest|lowest|smallest) (?P<c>.+)", "Which has the {b} {c}?|a"),
        (r"the (?:row|line) with (?:a|an|the) (?P<a>.+) of (?P<b>\S+) is (?P<c>.+)", "Which row has {b} in {a}?|c"),
        (r"the (?:field|entry) with (?P<a>.+) is (?P<b>.+?)", "Which field is {a}?|b"),
        (r"the item for (?P<a>\S+) is (?P<b>.+)", "Which item costs {a}?|b"),
        (r"(?P<a>.+?) (?:has|have) (?:a|an|the) (?P<b>.+) of (?P<c>\S+)", "What is the {b} of {a}?|c"),
        (r"(?P<a>.+?) is (?P<b>\S+) for (?P<c>.+)", "What is {a} for {c}?|b"),
        (r"the (?:\w+ )?(?:comes|amounts) to (?P<a>.+)", "What is the total?|a"),
        (r"(?P<a>.+?) costs? (?P<b>.+)", "What is the price of {a}?|b"),
        (r"(?P<a>.+?) (?:is|are|was|were|says?|shows?|reads?) (?P<b>.+)", "What is {a}?|b"),
    )
)
"""How facts are claimed, with the question that asks for them, and which part of the claim is the answer to that."""

_LEAST_LIKENESS = 0.7
"""Of a name that was read to the one that is claimed."""

_NEAR = 0.05
"""By which share a number that was measured, and not read, may differ from a claimed one."""

_SURE_OF_NUMBER = 0.5
"""A number that was read with less and differs in one digit is taken for a misread one."""

_COMPARED = re.compile(
    r"(?P<a>.+?)\s+(?P<sign>higher|larger|greater|bigger|more|lower|smaller|less|fewer)\b(?P<middle>.*?)\bthan\b\s*"
    r"(?P<b>.+)",
    re.I,
)
_BEFORE_NAME = re.compile(
    r"^(?:\W|(?:a|an|amount|are|bar|can|check|confirm|could|did|do|does|false|for|has|have|if|is|it|number|of|one|or|"
    r"right|say|see|tell|that|the|there|true|value|verify|was|whether|would|you)\b)+",
    re.I,
)
_BEHIND_NAME = re.compile(r"(?:\W|\b(?:is|are|was|has|have|a|an|the))+$", re.I)
_LOWER = frozenset({"lower", "smaller", "less", "fewer"})

_WORD_QUESTION = re.compile(r"\b(words?|contains?|in the text|written|anywhere|appears?|found|mentions?)\b", re.I)
_ABOUT = """
a anywhere appear appears be can contain contains does find found here in is it mention mentioned mentions on page
picture say says text the there this word words written you
"""
_ABOUT_WORDS = frozenset(_ABOUT.split())
"""What questions for a word say beside it."""

_LIKE_WORD, _UNLIKE_WORD = 0.8, 0.65
"""Of a word that was read to one that is asked for: from which it is that one, and up to which it is another."""

_SURE_OF_NO_WORD = 0.6

_STATE = re.compile(
    r"\b(ticked|checked|selected|marked|chosen|filled|shown|given|visible|there|empty|paid|black|white|grey|gray|red|"
    r"green|blue|yellow|orange|brown|purple|pink)\W*$",
    re.I,
)
"""What is said of things and stands nowhere beside them."""


class _Claim(NamedTuple):
    """A question, and what a statement says that its answer is."""

    question: str
    answer: str


def check_statement(question: str, page: Page) -> Found | None:
    """Answer yes or no to what a question claims; None where it claims nothing that could be looked up."""
    compared = _COMPARED.search(question)
    if compared is not None:
        return _compared(compared, page)
    statement = _statement(question)
    found = _has_word(question, page)
    if found is not None:
        return found
    claim = None if _NAMES_NOTHING.match(statement) else next(_claims(statement), None)
    found = None if claim is None or _STATE.search(claim.answer) else look_up(claim.question, page)
    if claim is None or found is None:
        return None
    return Found("yes" if _agree(found, claim.answer) else "no", found.line, found.confidence)


def _statement(question: str) -> str:
    """A claim without what frames it."""
    text = question.strip()
    while (shorter := _TAG.sub("", text)) != text:
        text = shorter
    text = _FRAME.sub("", text, count=1).strip()
    does = _DIRECT_DOES.fullmatch(text)
    if does:
        return f"{does[1]} {does[2]}s {does[3]}" if does[2] != "come to" else f"{does[1]} comes to {does[3]}"
    direct = _DIRECT.fullmatch(text)
    return f"{direct[1]} is {direct[2]}" if direct else text


def _claims(statement: str) -> Iterator[_Claim]:
    for pattern, template in _CLAIMS:
        found = pattern.fullmatch(statement)
        if found:
            question, answer = template.split("|")
            yield _Claim(question.format(**found.groupdict()), found[answer])


def _compared(compared: re.Match[str], page: Page) -> Found | None:
    """Whether a number that is named is higher, or lower, than another one that is named or given."""
    # `A has a higher value than B`, or `there is a higher value for A than for B`
    first = look_up(f"What is the value of {_name(compared['a']) or _name(compared['middle'])}?", page)
    second = look_up(f"What is the value of {_name(compared['b'])}?", page)
    number = None if first is None else _value_of(first.text)
    limit = _value_of(_name(compared["b"]) if second is None else second.text)
    if first is None or number is None or limit is None:
        return None
    confidence = first.confidence if second is None else min(first.confidence, second.confidence)
    is_so = number < limit if compared["sign"].lower() in _LOWER else number > limit
    return Found("yes" if is_so else "no", first.line, confidence)


def _name(text: str) -> str:
    return _BEHIND_NAME.sub("", _BEFORE_NAME.sub("", text)).strip()


def _has_word(question: str, page: Page) -> Found | None:
    """Whether a word stands on a page; None where that is not asked, or where a word is a little like it."""
    words = [word for word in re.findall(r"[^\W_]+", question.lower()) if word not in _ABOUT_WORDS]
    if len(words) != 1 or not _WORD_QUESTION.search(question):
        return None
    said = [(word, line) for line in page.lines for word in re.findall(r"[^\W_]+", line.text.lower())]
    likeness = [SequenceMatcher(None, words[0], word, autojunk=False).ratio() for word, _ in said]
    best = max(likeness, default=0.0)
    if not said or _UNLIKE_WORD < best < _LIKE_WORD:
        return None
    line = said[likeness.index(best)][1]
    return Found("yes", line, best) if best >= _LIKE_WORD else Found("no", line, _SURE_OF_NO_WORD)


def _agree(found: Found, claimed: str) -> bool:
    """Whether what was found is what is claimed, as far as it was read right."""
    number, expected = _value_of(found.text), _value_of(claimed)
    if number is not None and expected is not None:
        is_measured = found.text != found.line.text and found.text not in found.line.text
        if abs(number - expected) <= (_NEAR * abs(expected) if is_measured else 1e-9):
            return True
        return found.confidence < _SURE_OF_NUMBER and _differ_by_one(found.text, claimed)
    return SequenceMatcher(None, found.text.lower(), claimed.lower(), autojunk=False).ratio() >= _LEAST_LIKENESS


def _value_of(text: str) -> float | None:
    amount = amount_of(text)
    return number_of(text) if amount is None else amount


def _differ_by_one(first: str, second: str) -> bool:
    return len(first) == len(second) and sum(one != other for one, other in zip(first, second, strict=True)) == 1
