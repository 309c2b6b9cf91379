"""Texts for a tokenizer that is to read: how people ask and how a model answers, without what documents say.

Merges learned from the words of documents would let a tokenizer write whole words that the encoder saw as letters.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator

from fastvlm.data.synthetic.documents.phrasings import CLAIMS, KIND_WORDS, PHRASINGS
from fastvlm.data.synthetic.documents.questions import NOT_SHOWN
from fastvlm.data.synthetic.wording import american, careless, with_article

_ANSWERS = (
    "yes", "no", NOT_SHOWN, "bar chart", "line chart", "pie chart", "up", "down", "left", "right",
    *(with_article(words[0]) for words in KIND_WORDS.values()),
    "A receipt from with a total of", "A form titled with fields", "A table of rows and columns",
    "A bar chart titled with categories", "A page of text titled with lines", "A sign that says", "A line of text",
)  # fmt: skip


def document_corpus(num: int) -> Iterator[str]:
    """Yield `num` texts: questions in training phrasings with nothing in their slots, statements, and answers."""
    rng = random.Random(0)
    intents = list(PHRASINGS)
    for number in range(num):
        kind = number % 4
        if kind == 3:
            yield rng.choice(_ANSWERS)
            continue
        intent = rng.choice(intents)
        slots: dict[str, str] = defaultdict(str)
        slots["doc"] = rng.choice(rng.choice(list(KIND_WORDS.values())))
        if intent == "statement":
            slots["claim"] = rng.choice(rng.choice(list(CLAIMS.values()))).format_map(slots)
        text = rng.choice(PHRASINGS[intent].train).format_map(slots)
        yield careless(american(text) if kind else text, rng, phrasing="train")
