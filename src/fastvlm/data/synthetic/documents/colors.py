"""Ink and paper that go together: what is written can be read."""

from __future__ import annotations

import random

from fastvlm.data.synthetic.palette import RGB

LEAST_CONTRAST = 110
"""Between the brightness of ink and paper, of 255."""


def brightness(color: RGB) -> float:
    """Between 0 and 255, as people see it (ITU-R BT.601)."""
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


def grey(level: int) -> RGB:
    """A colour without colour."""
    return level, level, level


def paper_and_ink(rng: random.Random, *, colored_share: float = 0.25) -> tuple[RGB, RGB]:
    """Paper and ink of a document: dark on light mostly, grey mostly."""
    if rng.random() < colored_share:
        return _colored(rng)
    light, dark = rng.randint(200, 255), rng.randint(0, 100)
    return (grey(light), grey(dark)) if rng.random() < 0.9 else (grey(dark), grey(light))


def _colored(rng: random.Random) -> tuple[RGB, RGB]:
    while True:
        paper, ink = _any_color(rng), _any_color(rng)
        if abs(brightness(paper) - brightness(ink)) >= LEAST_CONTRAST:
            return paper, ink


def _any_color(rng: random.Random) -> RGB:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)
