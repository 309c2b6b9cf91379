"""What the words of a question about a drawn scene mean: which shapes are meant, where, and of which attributes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from fastvlm.inference.questions import ASIDES
from fastvlm.processing.shape_names import SHAPES

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "black", "white", "pink", "brown", "grey")
SIZES = ("small", "medium", "large")
NUMBERS = (
    "none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
"""Number words, by the number that they stand for."""

_SIZE_WORDS = {
    "small": "small",
    "little": "small",
    "tiny": "small",
    "medium": "medium",
    "large": "large",
    "big": "large",
}
_SHAPE_WORDS = {word: shape for shape in SHAPES for word in (shape, f"{shape}s", f"{shape}es")}
_GENERIC = ("object", "shape", "thing", "item", "figure")
_GENERIC_WORDS = frozenset(word for name in (*_GENERIC, "one") for word in (name, f"{name}s"))
_EXTREMES = {
    "leftmost": "left", "rightmost": "right", "topmost": "above", "uppermost": "above", "highest": "above",
    "lowest": "below", "bottommost": "below", "lowermost": "below",
    "largest": "largest", "biggest": "largest", "smallest": "smallest",
}  # fmt: skip

_SAID = """
about above across add advance against agree ahead alike all along am among an another any anyone anything appear
appears are as ask asked asking asks at background be been beginning behind below beneath beside between bigger both
bottom brief briefly by call called can cannot caption case cases center centre check claim claimed class classes
color colored colors colour coloured colouring colours come comes common compare compared comparing considering
contain contained contains corner correct could count counted counting counts curious describe description did differ
different direction distinct do does done down draw drawing drawn each either else equal equally equals every
everything exactly exceed exceeds except exception expect false farther fewer fewest find finding finds first follow
for form formed forms found frequent frequently friend from further get gets give given gives go goes going got great
greater greatest group grouped groups had halfway has have having hear here hey hi high higher hold holds how however
i identical identify if image in into is it item its just keep kind kinds know known large larger largest least left
less let lie lies like likewise list little locate located location look looked looking looks low lower majority make
makes many mark match matched matches me mean means medium middle might missing more most mostly much my name named
names need needs neither next no nobody none nor not note nothing notice noticed now nowhere number numbers numerous
observe occur occurs of off often on only or order other others otherwise out outnumber outnumbered outnumbers over
paint painted part particular pick picture pictured place placed places point position positioned positions possible
present put quantity question quick quite regard regarding relation relative respect right same say says scene second
see seem seems seen sees shape shaped share shared shares short should show showing shown shows side sides simply
single sit sits situated size sized sizes smaller so some somebody someone something somewhere sort sorts spot stand
standing stands start starting state stated statement still summarise summarize sure take taken takes tell tells than
thank thanks that the their them there these they think thinks this those to together top total totals true try trying
type types under underneath up upper upside use used verify view viewed visible want wanted wants was way we were what
whatever where whereabouts whether which whichever who whoever whole whose will wins wish with within without wonder
would write wrong yes you your
"""
_SPELLED = {
    "color": "colour", "colors": "colours", "colored": "coloured", "gray": "grey", "center": "centre", "sized": "",
    "summarize": "summarise",
}  # fmt: skip
_WORDS = (
    frozenset((*_SAID.split(), *COLOURS, *NUMBERS, *_SIZE_WORDS, *_SHAPE_WORDS, *_EXTREMES, *_SPELLED))
    | _GENERIC_WORDS | ASIDES | {"s", "m", "d", "ve"}
)  # fmt: skip
"""All words of a question that is understood; of one with another word something else may be meant."""

_ASIDE = re.compile(
    r"\b(?:one more thing|another thing|yes or no|(?:true|right) or (?:false|wrong|not)|or not|let me ask|"
    r"tell me(?=[:,])|(?:an?|another|my|one|quick) question(?: is\b| about the (?:image|picture|scene))?|question(?=:)|"
    r"about (?:this|the) (?:picture|image|scene|drawing)|when you look at the (?:drawing|picture|image)|"
    r"answer briefly|be brief|keep it short|thank you|thanks(?: in advance)?)"
)
"""What says nothing about shapes, though its words might."""

_ASKED_NEGATIVELY = re.compile(
    r"((?:^|[.,:;!?])\s*)((?:is|are|was|were|does|did|has|have|ca|could|would)n't(?=\s)|don't(?=\s(?:you|they|we|i|the)\b))"
)
"""`Isn't there a star?` asks whether there is one."""

_TAG = re.compile(r"(?:n't|\bno|\bnot)\b.*,\s*(?:is|are|can|do|does|has|have)\s+(?:it|there|they|you|we)\s*\?*\s*$")
"""`The star isn't red, is it?` is answered by yes and by no where it isn't."""

_LEAST_SWAPPED = 4


def _one_of(words: Iterable[str]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


_MENTION = re.compile(
    rf"\b(?:(?P<extreme>{_one_of(_EXTREMES)})\b ?)?(?:\b(?P<size>{_one_of(_SIZE_WORDS)})\b ?)?"
    rf"(?:\b(?P<colour>{_one_of(COLOURS)})\b ?)?(?:\bcoloured )?"
    rf"(?:\b(?P<noun>{_one_of((*_SHAPE_WORDS, *_GENERIC_WORDS))})\b)?"
)
_SIZES_OFFERED = re.compile(r"\bsmall (?:or )?medium (?:or )?large\b")


@dataclass(frozen=True)
class Mention:
    """Words that mean shapes. start, end: where they stand in the plain text.

    noun: the last word, empty where there is none. extreme: a direction, `largest` or `smallest`.
    """

    start: int
    end: int
    noun: str
    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    extreme: str | None = None

    @property
    def key(self) -> tuple[str | None, ...]:
        """What is the same in two mentions of the same shapes."""
        return self.shape, self.colour, self.size, self.extreme

    @property
    def is_plain(self) -> bool:
        """Whether any object is meant."""
        return self.shape is None and self.colour is None and self.size is None and self.extreme is None

    @property
    def is_colour(self) -> bool:
        """Whether nothing but a colour is told."""
        return self.colour is not None and not self.noun and self.size is None and self.extreme is None

    @property
    def is_plural(self) -> bool:
        """Whether several shapes are named."""
        return self.noun.endswith("s") and self.noun != "cross"

    @property
    def name(self) -> str:
        """The words as an answer repeats them."""
        size = "medium-sized" if self.size == "medium" else self.size
        return " ".join(word for word in (size, self.colour, self.shape or "object") if word)


def plain_text(question: str) -> str | None:
    """The words of a question in lower case with single spaces, spelled one way; None where some are not known."""
    words = []
    text = _ASIDE.sub(" ", question.lower().replace("’", "'"))
    if _TAG.search(text):
        return None
    text = (
        _ASKED_NEGATIVELY.sub(lambda match: match[1] + match[2][:-3], text)
        .replace("can't", "cannot")
        .replace("n't", " not")
    )
    for word in re.findall(r"\w+|[&%+=<>]", text.replace("can not", "cannot")):
        known = word if word in _WORDS or word.isdecimal() else _with_letters_swapped_back(word)
        if known is None:
            return None
        words.append(_SPELLED.get(known, known))
    return " ".join(filter(None, words))


def _with_letters_swapped_back(word: str) -> str | None:
    """The word that is meant by one with two neighbouring letters in the wrong order."""
    if len(word) < _LEAST_SWAPPED:
        return None
    swapped = (word[:at] + word[at + 1] + word[at] + word[at + 2 :] for at in range(len(word) - 1))
    return next((other for other in swapped if other in _WORDS), None)


def find_mentions(text: str) -> list[Mention]:
    """The mentions of shapes and colours in a plain text, in their order.

    A lone `shape` asks for one, and a lone `one` repeats or counts.
    """
    found = []
    offered = [match.span() for match in _SIZES_OFFERED.finditer(text)]
    for match in _MENTION.finditer(text):
        extreme, size, colour, noun = match.groups()
        if any(start <= match.start() < end for start, end in offered) or not (extreme or colour or noun):
            continue
        if noun in ("shape", "one", "ones") and not (extreme or size or colour):
            continue
        found.append(
            Mention(
                match.start(),
                match.start() + len(match[0].rstrip()),
                noun or "",
                _SHAPE_WORDS.get(noun or ""),
                colour,
                _SIZE_WORDS.get(size or ""),
                _EXTREMES.get(extreme or ""),
            )
        )
    return found
