"""Words of English, and which of them are nearest to one that was read.

The list is of SCOWL (Spell Checker Oriented Word Lists), its sizes up to 50 in American and British spelling, with
names of days, months and the like, and of people and places; `python -m fastvlm.processing.english FOLDER` makes
it anew of the folder `final` of SCOWL, or of Debian's package `scowl`.
"""

from __future__ import annotations

import gzip
import itertools
import re
import sys
import unicodedata
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastvlm.files import write_whole

_FILE = "english_words.txt.gz"
_SIZES = (("10",), ("20",), ("35", "40"), ("50",))
_NAMES = len(_SIZES)
"""In place of a size, of names of people and places: too many of them are nearly a word."""

_SPELLINGS = ("english", "american", "british")
_LONGEST = 16

_RARER = 0.15
"""What a word of the next size counts more for, beside what it differs."""

_LIMITS = ((4, 0.5), (6, 1.0), (_LONGEST, 1.6))
"""How many letters a word has at most, and by how much it may differ from one that was read."""

_ALIKE = (
    "ilt1fjr", "ceo", "aeo", "un", "mnh", "gyqs", "vwy", "uw", "ft", "tdc", "hbk", "kx", "pn", "dl",
)  # fmt: skip
"""Letters of which one is read for another."""

_LOOK_ALIKE = {(one, other) for letters in _ALIKE for one in letters for other in letters if one != other}
_READ_FOR_ANOTHER, _DOUBLED, _THIN, _OTHER = 0.5, 0.4, 0.6, 1.0
"""What a word differs by where a letter is read for another, or is missing or too many: doubled, thin, or any other."""

_THIN_LETTERS = frozenset("ijlrste")


class English:
    """A list of words. sizes: of each, 0 for the most common ones; names are known, and no word is taken for one."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self._sizes = sizes
        self._words = [word for word, size in sizes.items() if size != _NAMES and 2 < len(word) <= _LONGEST]
        self._lengths = np.array([len(word) for word in self._words])
        self._counts = _counts(self._words)

    def __contains__(self, word: str) -> bool:
        return word.lower() in self._sizes

    def is_word(self, text: str) -> bool:
        """Whether a text is a word, and no name alone."""
        return self._sizes.get(text.lower(), _NAMES) != _NAMES

    def nearest(self, word: str, most: int) -> list[str]:
        """The words that one may be, as it was read, the likeliest first and in its letters, small or capital.

        None for one that is a word, for one of less than four letters, and for one that is written like no word.
        """
        small = word.lower()
        limit = next((limit for length, limit in _LIMITS if len(word) <= length), None)
        is_written_like_words = word.islower() or word.isupper() or word[1:].islower()
        is_alone = word.isalpha() and word.isascii() and word not in self
        if limit is None or len(word) < 4 or not (is_written_like_words and is_alone):
            return []
        # As many letters of each kind, but for few: a glance at all words before a look at some.
        reach = 2 if limit > 1 else 1
        near = np.flatnonzero(np.abs(self._lengths - len(word)) <= reach)
        near = near[np.abs(self._counts[near] - _counts([small])).sum(axis=1) <= 2 * reach]
        differences = ((_difference(small, self._words[place], limit), self._words[place]) for place in near)
        found = sorted((by + _RARER * self._sizes[other], other) for by, other in differences if by <= limit)
        return [_written_like(word, other) for _, other in found[:most]]


@cache
def english() -> English:
    """The words of the package, read once."""
    text = gzip.decompress((files("fastvlm.processing") / _FILE).read_bytes()).decode()
    return English({word: size for size, words in enumerate(text.split("\n\n")) for word in words.split()})


def _counts(words: Sequence[str]) -> npt.NDArray[np.int8]:
    """How often each word has each letter, N x 26."""
    codes = np.array(words, f"S{_LONGEST}").view(np.uint8).reshape(len(words), _LONGEST).astype(np.int64) - ord("a")
    rows, columns = np.nonzero(codes >= 0)
    places = rows * 26 + codes[rows, columns]
    return np.bincount(places, minlength=26 * len(words)).reshape(len(words), 26).astype(np.int8)


def _difference(read: str, word: str, limit: float) -> float:
    """By how much a word that was read differs from another; infinity where that is more than a limit."""
    above = [0.0]
    for place in range(len(word)):
        above.append(above[-1] + _cost(word, place))
    for row, letter in enumerate(read):
        extra = _cost(read, row)
        here = [above[0] + extra]
        for place, other in enumerate(word):
            changed = 0.0 if letter == other else _READ_FOR_ANOTHER if (letter, other) in _LOOK_ALIKE else _OTHER
            here.append(min(above[place] + changed, above[place + 1] + extra, here[place] + _cost(word, place)))
        if min(here) > limit:
            return np.inf
        above = here
    return above[-1]


def _cost(word: str, place: int) -> float:
    """What it costs to leave out a letter of a word."""
    if place and word[place - 1] == word[place]:
        return _DOUBLED
    return _THIN if word[place] in _THIN_LETTERS else _OTHER


def _written_like(word: str, other: str) -> str:
    return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other


def _of_scowl(folder: Path) -> list[list[str]]:
    """The words of each size in SCOWL's files, and then names, without accents, each once."""
    known: set[str] = set()
    found = []
    kinds: list[tuple[tuple[str, ...], tuple[str, ...]]] = [(("words", "upper"), sizes) for sizes in _SIZES[:-1]]
    kinds.append((("words",), _SIZES[-1]))
    kinds.append((("upper", "proper-names"), tuple(itertools.chain(*_SIZES))))
    for of_one, sizes in kinds:
        names = [f"{spelling}-{kind}.{size}" for spelling in _SPELLINGS for kind in of_one for size in sizes]
        lines = [line for name in names if (folder / name).is_file() for line in _lines(folder / name)]
        words = {word for word in lines if re.fullmatch("[a-z]{2,}", word)} - known
        known |= words
        found.append(sorted(words))
    return found


def _lines(path: Path) -> list[str]:
    text = unicodedata.normalize("NFKD", path.read_text("latin-1"))
    return "".join(character for character in text if not unicodedata.combining(character)).lower().split()


if __name__ == "__main__":
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "english-words.10").is_file():
        sys.exit("Expected the folder of SCOWL that has english-words.10 in it, got something else.")
    lists = "\n\n".join("\n".join(words) for words in _of_scowl(Path(sys.argv[1])))
    write_whole(Path(__file__).with_name(_FILE), gzip.compress(lists.encode(), mtime=0))
