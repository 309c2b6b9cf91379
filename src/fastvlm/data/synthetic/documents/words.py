"""Words that documents are made of: common ones by hand, and names, streets and goods invented by rule.

A fifth of all words, by their digests, is never written in training.
"""

from __future__ import annotations

import hashlib
import random
from typing import Literal

WordSplit = Literal["train", "held_out"]

HELD_OUT_SHARE = 5

COMMON = tuple(
    """
    about above across action after again air all also amount animal answer apple area arm art ask autumn away baby back
    bag ball band bank bar base basket bath beach bear beat bed bell best big bird bit black blood blue board boat body
    bone book bottle bottom bowl box boy branch bread break bridge bright bring brother brown brush build bus busy
    butter button buy cake call camp car card care carry case castle cat catch chain chair chalk chance change check
    cheese child circle city class clean clear climb clock close cloth cloud coat coffee coin cold color come cook cool
    copper corn corner cost cotton count country course cover cow crowd cup current cut dance dark day deal deep desk
    dinner dish distance doctor dog door double down draw dream dress drink drive drop dry dust duty ear early earth
    east easy edge egg eight engine enough evening event every eye face fact fall family farm fast father feather field
    figure fill film find fine finger finish fire first fish five flag flat floor flower fly fold food foot force
    forest fork form four frame free fresh friend front fruit full garden gate ghost gift girl give glass goat gold
    good grain grass great green grey ground group grow guest guide hair half hall hammer hand happy harbour hard hat
    head health heart heat heavy help hill history hold hole holiday home honey hope horse hospital hot hour house
    ice idea inch iron island jacket jam jewel join jump keep kettle key king kitchen knee knife knot ladder lake lamp
    land large last late laugh law lead leaf learn leather left leg lemon length letter level library light line lion
    list little live lock long look lost low lunch machine mail main make man map mark market match meal meat meet
    metal middle milk mind minute mirror money month moon morning mother motion mountain mouth move music nail name
    narrow near neck need needle nest net new next night nine noise north nose note number nut ocean office oil old
    open orange order oven owner page paint pair paper park part party past path pen pencil people pepper person phone
    piano picture piece pig pin pipe place plan plane plant plate play pocket point pool poor port pot potato powder
    present price print prize public pull pump push queen question quick quiet radio rail rain reach read red rest
    rice right ring river road rock roof room root rope rose round rule run safe sail salt sand school science sea
    season seat second see seed sell send seven shade shape sheep sheet shelf ship shirt shoe shop short shoulder show
    side sign silk silver sing sister six size skin sky sleep slow small smile smoke snake snow soap sock soft song
    sort sound soup south space spade spoon sport spring square stage stamp star start station steam steel step stick
    still stone stop store storm story street string strong sugar summer sun supper sure sweet swim table tail take
    talk tall taste tea teach team ten tent test thank thick thin thread three throat thumb ticket time tin toe
    together tomato tongue tool tooth top touch towel tower town toy track trade train tree trip truck true try turn
    twelve two uncle under unit upper use valley value view village visit voice wait walk wall warm wash watch water
    wave way weather week weight west wheel white wide wild wind window wine winter wire wise woman wonder wood wool
    word work world yard year yellow young zebra
    """.split()  # noqa: SIM905 - a list of so many words is read more easily so
)
"""Short English words, written down for this purpose."""

_ONSETS = (
    "b", "br", "c", "ch", "cl", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "pl", "qu", "r",
    "s", "sh", "sk", "st", "t", "th", "tr", "v", "w", "y", "z", "",
)  # fmt: skip
_VOWELS = ("a", "e", "i", "o", "u", "a", "e", "i", "o", "ai", "ea", "io", "oa", "ou", "y")
_CODAS = ("", "", "", "l", "m", "n", "nd", "ng", "nt", "r", "rd", "rn", "s", "st", "t", "ck", "x", "ff", "ld", "mp")


_AVOIDED = frozenset(
    """
    anal anus arse ass bitch bum butt cock coon crap cum cunt damn dick dyke fag fart fat fuck gay gook hoe hell jap jew
    jerk kill kike lesbo nazi nig nigger piss poof poop porn prick pube puss queer rape semen sex shit slag slut snatch
    spic suck tit tits turd twat vag wank whore
    """.split()  # noqa: SIM905
)
"""What may come about by rule and should not stand in a picture."""


def is_held_out(word: str) -> bool:
    """Whether a word, however it is capitalised, belongs to those that only judge."""
    return int(hashlib.sha256(word.lower().encode()).hexdigest()[:12], 16) % HELD_OUT_SHARE == 0


_COMMON: dict[WordSplit, tuple[str, ...]] = {
    "train": tuple(word for word in COMMON if not is_held_out(word)),
    "held_out": tuple(word for word in COMMON if is_held_out(word)),
}


def common_word(rng: random.Random, split: WordSplit) -> str:
    """A word of English."""
    return rng.choice(_COMMON[split])


def invented_word(rng: random.Random, split: WordSplit, *, num_syllables: int | None = None) -> str:
    """A word that can be spoken and means nothing, in lower case."""
    while True:
        count = num_syllables or rng.choice((1, 2, 2, 2, 3, 3, 4))
        syllables = [rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(count)]
        word = "".join(syllables) + rng.choice(_CODAS)
        is_fit = len(word) > 1 and not any(avoided in word for avoided in _AVOIDED)
        if is_fit and is_held_out(word) == (split == "held_out"):
            return word


def any_word(rng: random.Random, split: WordSplit) -> str:
    """A word of either kind."""
    return common_word(rng, split) if rng.random() < 0.5 else invented_word(rng, split)


def name(rng: random.Random, split: WordSplit) -> str:
    """An invented name of a person or a place, of one word."""
    return invented_word(rng, split, num_syllables=rng.choice((1, 2, 2, 3))).capitalize()
