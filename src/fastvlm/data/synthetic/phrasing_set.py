"""What a set of phrasings is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PhrasingSet:
    """Templates of one kind of question: those to learn from, and those that only judge."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]
