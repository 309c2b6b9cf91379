"""What a page says as text: a short one as a whole, a line by its number, its title, the word after another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from fastvlm.inference.page import Found, Page, ReadLine, joined_line, likeness
from fastvlm.inference.reading import READ_QUESTION

LEAST_LINES = 3
"""With fewer there is nothing to look up on a page but what they say."""

MOST_ROWS_OF_A_SHORT_TEXT = 3
"""A picture with more of them is a page, of which nobody asks what it says and means a short answer."""

SURE_OF_LETTER = 0.4
"""A single letter that is read with less below a text is none."""

_THING = r"(?:the |this )?(?:line|text|sign|label|plate)"
_ASKS_FOR_ALL = re.compile(
    rf"\bwhat (?:does|do) (?:it|{_THING}) say\b|\bwhat {_THING} says\b|"
    rf"\bwhat (?:is |can be |was )?(?:written|read|printed)(?: here| on {_THING})?\W*(?:$|[,.?!])|"
    rf"\bwhat (?:is )?on {_THING}\b|\bread (?:out )?(?:it|{_THING})\b|"
    rf"(?:^|[:,.!])\W*(?:what is )?(?:the )?text (?:of|on) {_THING}\b|\bwhich words (?:are )?on {_THING}\b",
    re.I,
)
"""Questions for the whole, and not for a part, a colour or a word of it."""

_ENTRY_OF_LEGEND = re.compile(r"\d\s?%$")
"""A pie without a title begins with the first of its shares."""

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_ASKS_FOR_LINE = re.compile(rf"\b({'|'.join(_ORDINALS)}|(?<!to )last) line\b", re.I)
_ASKS_ABOUT_LINE = re.compile(r"\b(how many|number of|words? (?:of|in)|letters?|colou?r|long)\b", re.I)
_ASKS_FOR_TITLE = re.compile(r"\b(title[ds]?|heading|headline)\b", re.I)
_ASKS_FOR_NEXT_WORD = re.compile(
    r"(?:\bword (?:that )?(?:comes |stands |is )?(?:after|behind|following|right of)|"
    r"\b(?:what|which word) (?:comes|stands) (?:next )?(?:after|behind)|\bfollows) (?:the )?(?:word )?"
    r"([^\s?.!,]+)\W*(?:$|[.?!,])|\bafter ([^\s?.!,]+), what comes next\b",
    re.I,
)
_NO_MORE_ALIKE = 0.74
"""Is a word, as it was read, that is another one than a question names; of four letters one may be misread."""


def asks_for_text(question: str) -> bool:
    """Whether a question asks for all that a short text says."""
    return bool(_ASKS_FOR_ALL.search(question))


def asks_by_place(question: str) -> bool:
    """Whether a question asks for a line by its number, or for the word behind another."""
    is_about = bool(_ASKS_FOR_LINE.search(question)) and not _ASKS_ABOUT_LINE.search(question)
    return is_about or bool(_ASKS_FOR_NEXT_WORD.search(question))


def look_up_text(question: str, page: Page) -> Found | None:
    """Answer a question for text by where it stands; None for others, and where there is none."""
    by_number = _ASKS_FOR_LINE.search(question)
    if by_number:
        return None if _ASKS_ABOUT_LINE.search(question) else _line(by_number[1].lower(), page)
    word = _ASKS_FOR_NEXT_WORD.search(question)
    if word:
        return _next_word(next(part for part in word.groups() if part), page)
    if asks_for_text(question) and 0 < len(page.rows) <= MOST_ROWS_OF_A_SHORT_TEXT:
        whole = _joined(_without_drawing(page.lines))
        # Who reads a page wants its lines; who asks what a sign says, an answer.
        return replace(whole, text=page.text) if question.strip() == READ_QUESTION else whole
    return None


def _without_drawing(lines: Sequence[ReadLine]) -> Sequence[ReadLine]:
    """Lines without the last one where that is hardly a letter: an arrow below the text of a sign is read as one."""
    last = lines[-1]
    is_drawing = len(lines) > 1 and len(last.text.strip()) == 1 and last.confidence < SURE_OF_LETTER
    return lines[:-1] if is_drawing else lines


def look_up_title(question: str, page: Page) -> Found | None:
    """Answer a question for the title of a page, which stands alone above everything else."""
    return _joined(page.rows[0]) if _ASKS_FOR_TITLE.search(question) and page.rows and _has_title(page) else None


def asks_for_missing_title(question: str, page: Page) -> bool:
    """Whether a question asks for the title of a page that begins with something else."""
    is_other = bool(page.rows) and (page.rows[0][0].is_number or _begins_with_legend(page))
    return bool(_ASKS_FOR_TITLE.search(question)) and is_other


def _has_title(page: Page) -> bool:
    return len(page.rows[0]) == 1 and not page.rows[0][0].is_number and not _begins_with_legend(page)


def _begins_with_legend(page: Page) -> bool:
    """Whether the first two rows are entries of the legend of a pie."""
    return len(page.rows) > 1 and all(_ENTRY_OF_LEGEND.search(row[0].text) for row in page.rows[:2])


def _line(ordinal: str, page: Page) -> Found | None:
    place = len(page.rows) - 1 if ordinal == "last" else _ORDINALS.index(ordinal)
    return _joined(page.rows[place]) if 0 <= place < len(page.rows) else None


def _joined(lines: Sequence[ReadLine]) -> Found:
    line = joined_line(lines)
    return Found(line.text, line, line.confidence)


def _next_word(named: str, page: Page) -> Found | None:
    """The word behind one that is named, on its line; None where that is the last one there."""
    best: tuple[float, Found | None] = (_NO_MORE_ALIKE, None)
    for line in page.lines:
        words = line.text.split()
        for word, following in zip(words, [*words[1:], None], strict=True):
            alike = likeness(word.lower(), named.lower())
            if alike > best[0]:
                found = None if following is None else Found(following, line, alike * line.confidence)
                best = (alike, found)
    return best[1]
