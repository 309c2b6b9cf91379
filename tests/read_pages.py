"""Pages that were read, for tests of what is looked up on them."""

from __future__ import annotations

from fastvlm.inference.page import Page, ReadLine
from fastvlm.processing.text_lines import Box

LETTER_PX = 10


def page(*rows: str, sure: float = 0.9) -> Page:
    """A page whose rows are on lines of their own; a line stands where it does in its row, ten pixels a character.

    Two spaces or more are between lines of one row.
    """
    lines = []
    for number, row in enumerate(rows):
        start = 0
        for part in row.split("  "):
            if part.strip():
                left = start + len(part) - len(part.lstrip())
                box = Box(
                    left * LETTER_PX, 30 * number, (left + len(part.strip())) * LETTER_PX, 30 * number + 2 * LETTER_PX
                )
                lines.append(ReadLine(part.strip(), box, sure))
            start += len(part) + 2
    return Page(lines)


TABLE = page(
    "Sales by town",
    "Town      Apples    Pears",
    "Oslo      12        7",
    "Bergen    5         31",
    "Tromso    40        9",
)
CHART = page("kg", "   52         17         34", "  Jam        Tea        Salt")
