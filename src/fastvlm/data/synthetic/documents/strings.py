"""Short strings that documents are full of: amounts, dates, times, codes, telephone numbers, addresses.

The split `held_out` has words and ranges of numbers that training never shows.
"""

from __future__ import annotations

import calendar
import random
import string
from collections.abc import Callable, Mapping

from fastvlm.data.synthetic.documents.words import WordSplit, any_word, common_word, invented_word, name

SYMBOLS = "!#$%&'()*+,-./:;<=>?@[]_\"£€"
"""What is written beside letters and digits."""

CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase + SYMBOLS
"""Every character that documents are written in, but the space."""

_CODE_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_CURRENCIES = ("$", "£", "€", "", "", "")


def amount(rng: random.Random, split: WordSplit) -> str:
    """A price without a currency: below 1000 in training, above in what judges."""
    cents = rng.randrange(100_000, 1_000_000) if split == "held_out" else rng.randrange(5, 10 ** rng.choice((3, 4, 5)))
    whole = f"{cents // 100:,}" if rng.random() < 0.3 else str(cents // 100)
    return f"{whole}.{cents % 100:02d}"


def price(rng: random.Random, split: WordSplit) -> str:
    """A price, perhaps with a currency."""
    return rng.choice(_CURRENCIES) + amount(rng, split)


def number(rng: random.Random, split: WordSplit) -> str:
    """A whole number of up to five digits, of six and seven in what judges."""
    digits = rng.choice((6, 7)) if split == "held_out" else rng.randint(1, 5)
    return str(rng.randrange(10 ** (digits - 1), 10**digits))


def date(rng: random.Random, split: WordSplit) -> str:
    """A date in one of many forms; of years from 1995 to 2029, of 2030 to 2049 in what judges."""
    year = rng.randint(2030, 2049) if split == "held_out" else rng.randint(1995, 2029)
    month = rng.randint(1, 12)
    day = rng.randint(1, calendar.monthrange(year, month)[1])
    short, long = calendar.month_abbr[month], calendar.month_name[month]
    forms = (
        f"{day:02d}/{month:02d}/{year}", f"{month:02d}/{day:02d}/{year}", f"{day:02d}-{month:02d}-{year}",
        f"{year}-{month:02d}-{day:02d}", f"{day:02d}.{month:02d}.{year}", f"{day:02d}/{month:02d}/{year % 100:02d}",
        f"{day} {short} {year}", f"{short} {day}, {year}", f"{day} {long} {year}", f"{day:02d}-{short.upper()}-{year}",
    )  # fmt: skip
    return rng.choice(forms)


def time_of_day(rng: random.Random, _split: WordSplit) -> str:
    """A time of day."""
    hour, minute, second = rng.randrange(24), rng.randrange(60), rng.randrange(60)
    half = f"{hour % 12 or 12}:{minute:02d} {'PM' if hour >= 12 else 'AM'}"
    return rng.choice((f"{hour:02d}:{minute:02d}", f"{hour:02d}:{minute:02d}:{second:02d}", half))


def code(rng: random.Random, _split: WordSplit) -> str:
    """A reference of letters and digits, such as an order's."""
    blocks = rng.choice(((2, 5), (3, 3), (1, 7), (0, 8), (0, 6), (4, 4)))
    letters = "".join(rng.choices(_CODE_LETTERS, k=blocks[0]))
    digits = "".join(rng.choices(string.digits, k=blocks[1]))
    return letters + rng.choice(("", "-", "/")) * bool(letters) + digits


def mixed(rng: random.Random, _split: WordSplit) -> str:
    """Letters, digits and signs without any sense: what no language model can guess."""
    alphabet = rng.choice(
        (CHARACTERS, string.ascii_letters + string.digits, string.ascii_uppercase, string.ascii_lowercase)
    )
    return "".join(rng.choices(alphabet, k=rng.randint(2, 9)))


def phone(rng: random.Random, _split: WordSplit) -> str:
    """A telephone number."""
    digits = "".join(rng.choices(string.digits, k=7))
    forms = (f"{digits[:3]}-{digits[3:]}", f"({digits[:2]}) {digits[2:]}", f"0{digits[:2]} {digits[2:]}", f"+{digits}")
    return rng.choice(forms)


def email(rng: random.Random, split: WordSplit) -> str:
    """An address of electronic mail at an invented place."""
    return f"{any_word(rng, split)}@{invented_word(rng, split)}.{rng.choice(('com', 'org', 'net', 'shop'))}"


def percentage(rng: random.Random, _split: WordSplit) -> str:
    """A share in per cent."""
    return f"{rng.randint(0, 100)}%" if rng.random() < 0.6 else f"{rng.randint(0, 99)}.{rng.randrange(10)}%"


def word(rng: random.Random, split: WordSplit) -> str:
    """One word in one of the ways that words are written."""
    return rng.choice((str.lower, str.capitalize, str.upper, str.lower))(any_word(rng, split))


def words(rng: random.Random, split: WordSplit) -> str:
    """Two or three words, written alike."""
    plain = " ".join(any_word(rng, split) for _ in range(rng.choice((2, 2, 3))))
    return rng.choice((str.lower, str.capitalize, str.upper, str.title))(plain)


def full_name(rng: random.Random, split: WordSplit) -> str:
    """An invented person."""
    return f"{name(rng, split)} {name(rng, split)}"


def street(rng: random.Random, split: WordSplit) -> str:
    """An invented address, of one line."""
    kind = rng.choice(("Street", "Road", "Lane", "Avenue", "Square", "St", "Rd", "Ave"))
    return f"{rng.randint(1, 199)} {name(rng, split)} {kind}"


def goods(rng: random.Random, split: WordSplit) -> str:
    """Something that is sold."""
    first = common_word(rng, split) if rng.random() < 0.7 else invented_word(rng, split)
    return f"{first} {common_word(rng, split)}" if rng.random() < 0.4 else first


KINDS: Mapping[str, tuple[Callable[[random.Random, WordSplit], str], float]] = {
    "word": (word, 5.0), "words": (words, 2.0), "number": (number, 2.0), "price": (price, 2.0), "date": (date, 1.5),
    "time": (time_of_day, 0.7), "code": (code, 1.5), "mixed": (mixed, 4.0), "phone": (phone, 0.5),
    "email": (email, 0.5), "percentage": (percentage, 0.5), "name": (full_name, 1.0), "street": (street, 0.5),
}  # fmt: skip
"""What lines of text alone show, and how often."""


def any_string(rng: random.Random, split: WordSplit) -> str:
    """A short string of any kind."""
    makers = list(KINDS.values())
    (make, _), *_ = rng.choices(makers, [weight for _, weight in makers])
    return make(rng, split)
