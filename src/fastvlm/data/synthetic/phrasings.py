"""How people ask: hand-written phrasings of every kind of question, split for good into training and held-out ones.

Slots: {a} `a red star`, {the} and {b} `the red star`, {things} and {others} `red stars`, {where} nothing or
` in the picture`, {rel} `to the left of`, {sup} `leftmost`, {larger} `larger` or `smaller`, {place} `at the top left`,
{color} `red`, {a_color} `a red`, {attribute} `colour` or `shape`; {The}, {A}, {Things} and {Place} begin a sentence.
No held-out phrasing shares its first three words with a training phrasing of any kind, but each of its words occurs in
some training phrasing: what is unseen is the sentence, not the word.
All are spelled the British way; `wording.py` turns half of the questions into American spelling.
"""

from __future__ import annotations

from dataclasses import replace

from fastvlm.data.synthetic.attribute_phrasings import ATTRIBUTE_PHRASINGS
from fastvlm.data.synthetic.comparison_phrasings import COMPARISON_PHRASINGS
from fastvlm.data.synthetic.further_phrasings import FURTHER_PHRASINGS
from fastvlm.data.synthetic.phrasing_set import PhrasingSet

__all__ = ["MORE_PHRASINGS", "PHRASINGS", "PhrasingSet"]

PHRASINGS: dict[str, PhrasingSet] = {**ATTRIBUTE_PHRASINGS, **COMPARISON_PHRASINGS}
"""Phrasings by kind of question. Several intents share a kind: they differ only in their slots."""

MORE_PHRASINGS: dict[str, PhrasingSet] = {
    name: replace(kind, train=kind.train + FURTHER_PHRASINGS.get(name, ())) for name, kind in PHRASINGS.items()
}
"""The same, with further ones for training alone."""
