"""Checks what a question claims of a page against what stands there: yes or no."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from fastvlm.inference.line_lookup import look_up
from fastvlm.inference.mentions import FUNCTION_WORDS
from fastvlm.inference.page import Found, Page, ReadLine, differ_by_one, likeness, number_of
from fastvlm.inference.receipt_lookup import asks_for_total, dates_of, is_time
from fastvlm.inference.receipt_rows import amount_of
from fastvlm.inference.tick_lookup import look_up_tick

_FRAME = re.compile(
    r"^.*?\b(?:true or false|is (?:this|it) (?:true|right|correct)|yes or no|check this|statement correct)\b\s*"
    r"(?::|,|that\b)|"
    r"^.*?\b(?:is (?:this|it) (?:true|right|correct) that|can it be true that|(?:say|agree|see|show|shows|know) that|"
    r"(?:say|tell|see|confirm|check|verify) (?:that|if|whether)|check:|verify:)(?=\s)|"
    r"^(?:please )?(?:check|verify|confirm)(?=\s)|^(?:[^\s:]+ ){1,8}[^\s:]+:(?=\s)",
    re.I,
)
"""What stands before a claim."""

_TAG = re.compile(
    r"[\s,.]*\b(?:(?:is (?:that|this|it) )?(?:true|right|correct|so)|true or false|(?:is|does)n't it|please|"
    r"(?:please )?(?:answer )?(?:with )?yes or no(?: only)?|dollars|euros|pounds|"
    r"(?:on|in) (?:this|the) (?:picture|receipt|bill|invoice|form|table|chart|document))\W*$|[\s.?!]+$",
    re.I,
)
"""What stands behind a claim."""

_DENIED = re.compile(r"\b(not|never|neither|nor|without|false|wrong|incorrect|untrue|no more|no less)\b|n't\b", re.I)
_SEVERAL = re.compile(r"\b(and|or|but|nor|both|either)\b", re.I)
_UNCLEAR = re.compile(
    r"\b(about|after|almost|approximately|around|at least|at most|before|between|close to|different|exactly|exceeds?|"
    r"nearly|other than|roughly|same|since|until|up to)\b",
    re.I,
)
_PREPOSITION = re.compile(r"\b(at|by|for|from|in|into|near|of|on|to|under|with)$", re.I)
_OF_ANOTHER = re.compile(r"\b(?:for|of)\s+(?!(?:the )?(?:grand |final )?(?:total|sum)\b)", re.I)
"""Of a total: that of one thing is another number than that of a receipt."""

_NAMES_NOTHING = re.compile(r"\W*(there|this|that|it|these|those|i|you|we|they)\b", re.I)
_DOES = re.compile(
    r"^\W*(?:does|do|did)\s+(?P<a>.+?)\s+(?P<verb>cost|say|show|come to|amount to|have|read)\s+(?P<b>.+)$", re.I
)
_HAS = re.compile(r"^\W*(?:has|have)\s+(?P<a>.+?)\s+(?P<b>(?:the|an?)\s+.+)$", re.I)
_IS = re.compile(r"^\W*(?:is|are|was|were)\s+(?P<rest>.+)$", re.I)
_EXTREME = re.compile(
    r"(?P<a>.+?) the (?:(?P<b>highest|largest|lowest|smallest)(?: (?:one|bar|value))?|"
    r"(?P<c>most expensive item|dearest item))",
    re.I,
)
_VERBS = {
    "cost": "costs", "say": "says", "show": "shows", "come to": "comes to", "amount to": "comes to", "have": "has",
    "read": "reads",
}  # fmt: skip

_CLAIMS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.I), question)
    for pattern, question in (
        (r"(?P<a>.+?) (?:has|have) the (?P<b>highest|largest|lowest|smallest) (?P<c>.+)", "Which has the {b} {c}?|a"),
        (r"the (?:row|line) with (?:a|an|the) (?P<a>.+) of (?P<b>\S+) is (?P<c>.+)", "Which row has {b} in {a}?|c"),
        (r"the (?:field|entry) with (?P<a>.+) is (?P<b>.+?)", "Which field is {a}?|b"),
        (r"the item for (?P<a>\S+) is (?P<b>.+)", "Which item costs {a}?|b"),
        (r"(?P<a>.+?) (?:has|have) (?:a|an|the) (?P<b>.+) of (?P<c>\S+)", "What is the {b} of {a}?|c"),
        (r"(?P<a>.+?) is (?P<b>\S+) for (?P<c>.+)", "What is {a} for {c}?|b"),
        (
            r"(?:the )?(?:receipt|bill|slip|invoice|total|everything|sum|it) (?:comes|amounts) to (?P<a>.+)",
            "What is the total?|a",
        ),
        (r"(?P<a>.+?) costs? (?P<b>.+)", "What is the price of {a}?|b"),
        (r"(?P<a>.+?) (?:is|are|was|were|says?|shows?|reads?|comes to) (?P<b>.+)", "What is the value of {a}?|b"),
    )
)
"""How facts are claimed, with the question that asks for them, and which part of the claim is the answer to that."""

_SIGN = re.compile(
    r"\b(higher|larger|greater|bigger|more(?! expensive)|over|above|lower|smaller|less|fewer|under|below|cheaper)\b",
    re.I,
)
_THAN = re.compile(r"\bthan\b", re.I)
_LOWER = frozenset({"lower", "smaller", "less", "fewer", "under", "below", "cheaper"})
_BARE_SIGNS = frozenset({"over", "above", "under", "below"})
"""Of comparisons with a number that have no *than*."""

_BEFORE_NAME = re.compile(
    r"^(?:\W|(?:a|an|amount|are|bar|can|check|confirm|could|did|do|does|false|for|has|have|if|is|it|number|of|one|or|"
    r"right|say|see|tell|that|the|there|true|value|verify|was|whether|would|you)\b)+",
    re.I,
)
_BEHIND_NAME = re.compile(r"(?:\W|\b(?:is|are|was|has|have|a|an|the)\b)+$", re.I)

_WORD = r"\w+(?:['-]\w+)*"
_QUOTED = rf"['\"]?(?P<word>{_WORD})['\"]?"
_TEXT = r"(?:the |this )?(?:text|page|document|it)"
_WORD_QUESTIONS = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        rf"\bthe words? {_QUOTED}(?:$| (?:appears?|be found|in|on|written|there)\b)",
        rf"^(?:(?:does|do) )?{_TEXT} (?:contains?|says?|mentions?) {_QUOTED}(?: anywhere)?$",
        rf"^(?:(?:is|can|was) )?{_QUOTED} (?:(?:be found|found|written|mentioned) )?(?:here|(?:in|on) {_TEXT})$",
    )
)
_NO = "anything english it letters lines number numbers people something text that there this what word words"
_NO_WORDS = frozenset(_NO.split())
"""Of which it is not asked whether they stand there as words."""

_LIKE_WORD, _UNLIKE_WORD, _LEAST_LETTERS = 0.8, 0.65, 5
"""Of a word that was read to one that is asked for: from which it is that one, and up to which it is another; a shorter
one is compared to the letter."""

_SURE_OF_NO_WORD = 0.6
_SURE_OF_READING = 0.9
"""A text that was read with so much is another one where it differs from what is claimed."""

_SAME_TEXT, _OTHER_TEXT = 0.85, 0.6
"""Likeness of a text that was read to what is claimed, from which it is that, and up to which it is another one."""

_NEAR = 0.05
"""By which share a number that was measured, and not read, may differ from a claimed one."""

_SURE_OF_NUMBER = 0.5
"""A number that was read with less and differs in one digit is taken for a misread one."""

_MEASURE = re.compile(
    r"\s*(?P<sign>[$€£¥]|[A-Z]{2,3}(?=\s?\d))?\s?(?P<number>\S*\d)\s?(?P<unit>%|[a-z]{1,3})?\W*", re.I
)
"""A number with a currency before it, or with a unit behind it."""


class Verdict(NamedTuple):
    """Whether something is so, how likely that is right, from 0 to 1, and the line that tells it."""

    is_so: bool
    confidence: float
    line: ReadLine | None


class _Word(NamedTuple):
    """A word, and whether a question marks it as one: *the word oats*, not *oats*."""

    text: str
    is_marked: bool


class _Measure(NamedTuple):
    """A number and what it is counted in, nothing for a bare one."""

    value: float
    unit: str


class _Claim(NamedTuple):
    """A question, and what a statement says that its answer is."""

    question: str
    answer: str


def check_statement(question: str, page: Page) -> Verdict | None:
    """Tell whether what a question claims is so; None where that is not known.

    What is denied, but for a tick, or several claims at once, are not taken apart. Something is said not to be so only
    where another thing of its kind was found: another number, date or name.
    """
    statement = _without_frame(" ".join(question.split()))
    ticked = look_up_tick(statement, page)
    if ticked is not None:
        return Verdict(ticked.text == "yes", ticked.confidence, ticked.line)
    if _DENIED.search(statement):
        return None
    word = _word(statement)
    if word is not None:
        return _has_word(word, page)
    sides = _sides(statement)
    if sides is not None:
        return _compared(*sides, page)
    if _SEVERAL.search(statement) or _UNCLEAR.search(statement) or _SIGN.search(statement):
        return None
    verdicts = [_verdict(claim, page) for one in _as_statements(statement) for claim in _claims(one)]
    known = [verdict for verdict in verdicts if verdict is not None]
    return next((verdict for verdict in known if verdict.is_so), known[0] if known else None)


def _verdict(claim: _Claim, page: Page) -> Verdict | None:
    is_part = asks_for_total(claim.question) and _OF_ANOTHER.search(claim.question)
    found = None if is_part or _NAMES_NOTHING.match(claim.answer) else look_up(claim.question, page)
    is_so = None if found is None else _agrees(found, claim.answer, page)
    return None if found is None or is_so is None else Verdict(is_so, found.confidence, found.line)


def _without_frame(text: str) -> str:
    while (shorter := _TAG.sub("", text)) != text:
        text = shorter
    without = _FRAME.sub("", text, count=1).strip()
    return without or text


def _as_statements(text: str) -> list[str]:
    """A question as a statement: *is the total 5.20* as *the total is 5.20*; as several where names may end earlier."""
    does = _DOES.fullmatch(text)
    has = _HAS.fullmatch(text)
    is_ = _IS.fullmatch(text)
    if does is not None:
        statements = [f"{does['a']} {_VERBS[does['verb'].lower()]} {does['b']}"]
    elif has is not None:
        statements = [f"{has['a']} has {has['b']}"]
    elif is_ is not None:
        statements = list(_with_is_inside(is_["rest"]))
    else:
        statements = [text]
    return [statement for statement in statements if not _NAMES_NOTHING.match(statement)]


def _with_is_inside(text: str) -> Iterator[str]:
    """What stands behind *is*, with it between what is named and what it is said to be."""
    words = text.split()
    extreme = _EXTREME.fullmatch(text)
    if extreme is not None:
        named = extreme["a"]
        yield f"{named} has the {extreme['b']} value" if extreme["b"] else f"the {extreme['c']} is {named}"
    elif words[0][:1].isdigit() and words[1:2] == ["the"]:
        yield f"{' '.join(words[1:])} is {words[0]}"
    else:
        start = len(words)
        while start > 1 and _is_part_of_value(words[start - 1], words[start - 2]):
            start -= 1
        for end in range(start, len(words)):
            if _PREPOSITION.search(words[end - 1]):
                continue  # `paid by Visa` is no value of what is paid
            yield f"{' '.join(words[:end])} is {' '.join(words[end:])}"


def _is_part_of_value(word: str, before: str) -> bool:
    """Whether a word begins as names and numbers do, or is the unit of a number."""
    return word[0].isupper() or bool(re.search(r"[\d@]", word)) or (before[-1:].isdigit() and len(word) <= 3)


def _claims(statement: str) -> Iterator[_Claim]:
    if statement.partition(" ")[0].lower() in FUNCTION_WORDS:
        statement = statement[0].lower() + statement[1:]  # it began a sentence, and is no name
    for pattern, template in _CLAIMS:
        found = pattern.fullmatch(statement)
        if found:
            question, answer = template.split("|")
            yield _Claim(question.format(**found.groupdict()), found[answer])


def _sides(statement: str) -> tuple[str, bool, str] | None:
    """What is compared, whether it is said to be the lower one, and with what; None where nothing is."""
    sign = _SIGN.search(statement)
    if sign is None:
        return None
    word = sign[0].lower()
    than = _THAN.search(statement, sign.end())
    is_bare = than is None and word in _BARE_SIGNS and _measure(statement[sign.end() :]) is not None
    end = than.end() if than is not None else sign.end() if is_bare else None
    if end is None:
        return None
    middle = statement[sign.end() : end].removesuffix("than")
    # `A has a higher value than B`, or `there is a higher value for A than for B`
    return _name(statement[: sign.start()]) or _name(middle), word in _LOWER, _name(statement[end:])


def _compared(first: str, is_lower: bool, second: str, page: Page) -> Verdict | None:
    """Whether a number that is named is higher, or lower, than another one that is named or given."""
    if not first or not second or _SEVERAL.search(f"{first} {second}") or re.search(r"[a-z] \d+$", first, re.I):
        return None
    one = look_up(f"What is the value of {first}?", page)
    other = look_up(f"What is the value of {second}?", page)
    number = None if one is None else _measure(one.text)
    limit = _measure(second if other is None else other.text)
    if one is None or number is None or limit is None or not _may_be_same_unit(number.unit, limit.unit):
        return None
    confidence = one.confidence if other is None else min(one.confidence, other.confidence)
    return Verdict(number.value < limit.value if is_lower else number.value > limit.value, confidence, one.line)


def _name(text: str) -> str:
    return _BEHIND_NAME.sub("", _BEFORE_NAME.sub("", text)).strip()


def _word(statement: str) -> _Word | None:
    """The word of which a question asks whether it stands on a page."""
    found = next((one for pattern in _WORD_QUESTIONS if (one := pattern.search(statement)) is not None), None)
    if found is None or found["word"].lower() in _NO_WORDS:
        return None
    is_marked = found["word"][0].isupper() or bool(re.search(r"['\"]|\bwords?\b", found[0]))
    return _Word(found["word"].lower(), is_marked)


def _has_word(word: _Word, page: Page) -> Verdict | None:
    """Whether a word stands on a page; None where one that is a little like it does."""
    said = [(other, line) for line in page.lines for other in re.findall(_WORD, line.text.lower())]
    if not said:
        return None
    alike = [likeness(word.text, other) for other, _ in said]
    best = max(alike)
    if best >= (_LIKE_WORD if len(word.text) >= _LEAST_LETTERS else 1.0):
        return Verdict(True, best, said[alike.index(best)][1])
    # Several things are asked for more often than a word for them.
    is_thing = word.text.endswith("s") and not word.is_marked
    return Verdict(False, _SURE_OF_NO_WORD, None) if best <= _UNLIKE_WORD and not is_thing else None


def _agrees(found: Found, claimed: str, page: Page) -> bool | None:
    """Whether what was found is what is claimed, as far as it was read right; None where they are of two kinds."""
    measure, expected = _measure(found.text), _measure(claimed)
    if measure is not None and expected is not None:
        return _is_number(found, measure, expected) if _may_be_same_unit(measure.unit, expected.unit) else None
    if measure is not None or expected is not None:
        return None
    if dates_of(claimed) or dates_of(found.text):
        return _is_date(found.text, claimed)
    has_digits = [bool(re.search(r"\d", text)) for text in (found.text, claimed)]
    return _is_text(found, claimed, page) if has_digits[0] == has_digits[1] else None


def _is_text(found: Found, claimed: str, page: Page) -> bool | None:
    """Whether a name or a code is the one that is claimed; None where one is a part of the other, or they are near."""
    text, other = (re.sub(r"[\W_]", "", one.lower()) for one in (found.text, claimed))
    digits, claimed_digits = (re.sub(r"\D", "", one) for one in (text, other))
    alike = likeness(text, other)
    if text == other or (digits and digits == claimed_digits and text.endswith(other)):
        return True
    if text in other or other in text:
        return None
    is_sure = found.confidence >= _SURE_OF_READING
    if digits == claimed_digits and not is_sure and alike > _OTHER_TEXT:
        return True if alike >= _SAME_TEXT else None
    # A word in small letters is said of things more often than it stands beside them.
    stands_there = any(likeness(line.text.lower(), claimed.lower()) >= _SAME_TEXT for line in page.lines)
    return False if claimed[0].isupper() or claimed_digits or stands_there else None


def _is_date(written: str, claimed: str) -> bool | None:
    """Whether a date is the one that is claimed; None where one of them is no date."""
    dates, claimed_dates = dates_of(written), dates_of(claimed)
    if not dates or not claimed_dates:
        return None
    if any(re.search("[a-z]", text, re.I) for text in (written, claimed)):
        return bool(dates & claimed_dates)
    # Written alike, day and month stand in the same order.
    return re.findall(r"\d+", written) == re.findall(r"\d+", claimed)


def _is_number(found: Found, measure: _Measure, expected: _Measure) -> bool:
    difference = abs(measure.value - expected.value)
    if difference <= (_NEAR * abs(expected.value) if found.is_measured else 1e-9):
        return True
    texts = (f"{measure.value:.2f}", f"{expected.value:.2f}")
    return not found.is_measured and found.confidence < _SURE_OF_NUMBER and differ_by_one(*texts)


def _measure(text: str) -> _Measure | None:
    """A number with what it is counted in; None for other texts, for times and for codes that begin with 0."""
    written = _MEASURE.fullmatch(text)
    if written is None or is_time(text) or re.match(r"0\d+$", written["number"]):
        return None
    value = amount_of(written["number"])
    value = number_of(written["number"]) if value is None else value
    return None if value is None else _Measure(value, (written["sign"] or written["unit"] or "").lower())


def _may_be_same_unit(first: str, second: str) -> bool:
    """Whether two numbers may be counted in the same; a bare one in anything but shares."""
    return first == second or ("%" not in (first, second) and not (first and second))
