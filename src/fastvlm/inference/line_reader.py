"""Reads lines of text of a picture, each cut out by itself, and in several views where one leaves doubt."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from fastvlm.batches import UInt8Array
from fastvlm.inference.answers import Answer
from fastvlm.inference.assistant import Assistant
from fastvlm.inference.batching import ask_batch
from fastvlm.inference.image_cache import ImageCache
from fastvlm.inference.page import ReadLine, joined_line, likeness
from fastvlm.inference.reading import is_text
from fastvlm.inference.timings import NOTHING_USED, Stopwatch, Usage
from fastvlm.messages import ImagePart, user
from fastvlm.processing.text_lines import Box, gaps_of, words_of
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.tiles import ENCODER_STRIDE_PX

_STRIPS_AT_A_TIME = 64
_MAX_LINE_TOKENS = 64

_SURE = 0.7
"""Of lines that one view gives so much confidence, more views read hardly one better."""

_MOST_DOUBTFUL = 150
_MOST_WORDS = 8
"""So many lines are read again at most, and word by word those of no more words: a texture has hundreds, of no text."""

_TOO_WIDE, _LEAST_LINES, _LEAST_LETTERS = 1.6, 5, 3
"""Letters that are so much wider than usual on a page of so many lines, each of so many letters."""

_SAME_BEGINNING = 0.6
"""Likeness of the beginnings of a line that was read at once, and word by word."""

_MOST_PUT_RIGHT = 40
"""Lines whose words are looked up, of a page: the ones that are nearest to being read."""

_CLIPPED_PERCENT = 1
"""Of the darkest and of the lightest pixels, beyond which greys are stretched."""

_AROUND = 0.3
"""What is shown on both sides of a line, by its height; farther away may stand what does not belong to it."""

_CELLS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Lengths of strips, in cells of the encoder: strips of few lengths are many of each, and soon encoded together."""

_BICUBIC = Image.Resampling.BICUBIC


class _View(NamedTuple):
    """How a line is laid on a strip as high as a cell of the encoder: how high, and with how much ground before it."""

    line_px: int
    ground_px: int


_VIEWS = (_View(40, 8), _View(34, 8), _View(48, 2), _View(40, 36))
"""In each, letters fall differently into the cells that the encoder makes tokens of; the first one serves alone."""


class LineReader:
    """Reads lines with a model that was taught to. question: what it is asked about each line."""

    def __init__(self, assistant: Assistant, question: str) -> None:
        processing = assistant.image_processor.config
        if processing.mode == "fit":
            processing = replace(processing, max_enlargement=1.0)  # strips are as large as they should be
        # Apart from the assistant's own: lines would push the picture out of its caches.
        self._reader = Assistant(
            runtime=assistant.runtime,
            tokenizer=assistant.tokenizer,
            template=assistant.template,
            image_processor=ImageProcessor(processing),
            eos_token_ids=assistant.eos_token_ids,
            calibration=assistant.calibration,
        )
        self._reader.image_cache = ImageCache(max_images=0)
        self._question = question

    def read(self, picture: UInt8Array, boxes: Sequence[Box], clock: Stopwatch) -> tuple[list[ReadLine], Usage]:
        """Read the lines in boxes of a picture, in their order, and tell what that took.

        Each in one view first; in all of them where that leaves doubt; and word by word where that still does. Words
        that are none of English, in lines that leave doubt, are then put right where that is likelier, and so are signs
        of a currency where most amounts have none.
        """
        lines, used = self._read(picture, boxes, _VIEWS[:1], clock)
        doubtful = _doubtful(lines)
        again, used_again = self._read(picture, [boxes[place] for place in doubtful], _VIEWS, clock)
        for place, line in zip(doubtful, again, strict=True):
            lines[place] = line
        with clock.phase("preprocess"):
            parts = {place: words_of(boxes[place], gaps_of(picture, boxes[place])) for place in _doubtful(lines)}
        parts = {place: words for place, words in parts.items() if 1 < len(words) <= _MOST_WORDS}
        words, used_for_words = self._read(picture, list(itertools.chain(*parts.values())), _VIEWS, clock)
        rest, too_short = iter(words), _too_short(lines)
        for place, of_one in parts.items():
            read = [next(rest) for _ in of_one]
            joined = joined_line(read)
            is_surer = joined.confidence > lines[place].confidence
            if (is_surer or (place in too_short and _goes_on(joined, lines[place]))) and _are_words(read, lines[place]):
                lines[place] = joined
        used_to_spell = self._put_right(picture, lines, clock)
        return lines, used + used_again + used_for_words + used_to_spell

    def _put_right(self, picture: UInt8Array, lines: list[ReadLine], clock: Stopwatch) -> Usage:
        """Spell lines that leave doubt as the model would rather read them, of what their words may be."""
        # Only now: a command whose one look is enough starts that much sooner.
        from fastvlm.inference import spelling

        with clock.phase("preprocess"):
            doubtful = [place for place in _doubtful(lines) if not lines[place].is_cut]
            unusual = spelling.are_signs_unusual(line.text for line in lines)
            if unusual:
                signed = [place for place, line in enumerate(lines) if spelling.has_sign(line.text)]
                doubtful = list(dict.fromkeys([*signed, *doubtful]))
            others = {
                place: found
                for place in doubtful[:_MOST_PUT_RIGHT]
                if (found := spelling.respellings(lines[place].text, has_other_amounts=unusual))
            }
        texts = [
            (place, text)
            for place, found in others.items()
            for text in (lines[place].text, *(one.text for one in found))
        ]
        said, used = self._read(
            picture, [lines[place].box for place, _ in texts], _VIEWS, clock, [text for _, text in texts]
        )
        likelihoods = iter(line.confidence for line in said)
        for place, found in others.items():
            text = spelling.chosen(lines[place].text, found, [next(likelihoods) for _ in range(1 + len(found))])
            lines[place] = replace(lines[place], text=text)
        return used

    def _read(
        self,
        picture: UInt8Array,
        boxes: Sequence[Box],
        views: Sequence[_View],
        clock: Stopwatch,
        said: Sequence[str] | None = None,
    ) -> tuple[list[ReadLine], Usage]:
        """Read lines; or, where it is known what they are to say, tell how likely that is."""
        # Lines of about one length end together, and a batch runs until its longest has ended.
        order = sorted(range(len(boxes)), key=lambda place: boxes[place].width / boxes[place].height)
        answers: list[Answer] = []
        at_a_time = _STRIPS_AT_A_TIME // len(views)
        for start in range(0, len(order), at_a_time):
            with clock.phase("preprocess"):
                places = order[start : start + at_a_time]
                strips = [_strip(picture, boxes[place], view) for place in places for view in views]
            answers += ask_batch(
                self._reader,
                [user(ImagePart(strip), self._question) for strip in strips],
                batch_size=len(strips),
                clock=clock,
                num_views=len(views),
                said=None if said is None else [said[place] for place in places],
                max_new_tokens=_MAX_LINE_TOKENS,
            )
        by_place = {place: _line(answer, boxes[place]) for place, answer in zip(order, answers, strict=True)}
        return [by_place[place] for place in range(len(boxes))], _sum(answer.usage for answer in answers)


def _doubtful(lines: Sequence[ReadLine]) -> list[int]:
    """Lines that leave doubt; of very many the ones that are nearest to being read."""
    too_short = _too_short(lines)
    doubtful = [place for place, line in enumerate(lines) if line.confidence < _SURE or place in too_short]
    return sorted(doubtful, key=lambda place: -lines[place].confidence)[:_MOST_DOUBTFUL]


def _too_short(lines: Sequence[ReadLine]) -> set[int]:
    """Lines of which only the beginning was read: so much wider are their letters than those of the page."""
    widths = {
        place: line.box.width / (line.box.height * len(line.text))
        for place, line in enumerate(lines)
        if len(line.text) >= _LEAST_LETTERS
    }
    if len(widths) < _LEAST_LINES:
        return set()
    usual = median(widths.values())
    return {place for place, width in widths.items() if width > _TOO_WIDE * usual}


def _goes_on(joined: ReadLine, whole: ReadLine) -> bool:
    """Whether what was read word by word begins as what was read at once does, and says more."""
    longer, shorter = (line.text.replace(" ", "") for line in (joined, whole))
    return len(longer) > len(shorter) and likeness(longer[: len(shorter)], shorter) >= _SAME_BEGINNING


def _are_words(parts: Sequence[ReadLine], whole: ReadLine) -> bool:
    """Whether parts of a line that was read as a whole are its words.

    What is no word to the model is part of no line; and a single letter is rather one of a word that is set wide, where
    nothing but one word was read before.
    """
    is_set_wide = whole.text.isalnum() and any(len(part.text) == 1 for part in parts)
    return not is_set_wide and all(is_text(part.text) for part in parts)


def _line(answer: Answer, box: Box) -> ReadLine:
    return ReadLine(answer.text.strip(), box, answer.confidence, is_cut=answer.finish_reason == "length")


def _sum(usages: Iterable[Usage]) -> Usage:
    return sum(usages, NOTHING_USED)


def _strip(picture: UInt8Array, box: Box, view: _View) -> UInt8Array:
    """Lay a line on a strip, in greys from black to white, with the ground that it stands on around it."""
    scale = view.line_px / box.height
    above = round((ENCODER_STRIDE_PX - view.line_px) / 2 / scale)
    beside = max(1, round(_AROUND * box.height))
    top = max(0, box.top - above)
    part = picture[top : box.bottom + above, max(0, box.left - beside) : box.right + beside]
    grey = ImageOps.autocontrast(Image.fromarray(np.ascontiguousarray(part)).convert("L"), cutoff=_CLIPPED_PERCENT)
    ground = int(np.median(np.asarray(grey)))
    grey = grey.resize((max(1, round(grey.width * scale)), max(1, round(grey.height * scale))), _BICUBIC)
    num_cells = -(-(view.ground_px + grey.width) // ENCODER_STRIDE_PX)
    num_cells = next((cells for cells in _CELLS if cells >= num_cells), num_cells)
    strip = Image.new("L", (num_cells * ENCODER_STRIDE_PX, ENCODER_STRIDE_PX), ground)
    strip.paste(grey, (view.ground_px, round((top - box.top + above) * scale)))
    return np.asarray(strip.convert("RGB"))
