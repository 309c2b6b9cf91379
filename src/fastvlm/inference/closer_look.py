"""A closer look at a picture: its lines of text are cut out and read, and the answer is looked up among them."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastvlm.batches import UInt8Array
from fastvlm.errors import CheckpointError, ImageError
from fastvlm.files import is_pipe
from fastvlm.inference.answers import Answer
from fastvlm.inference.arrow_lookup import asks_for_arrow
from fastvlm.inference.assistant import Assistant
from fastvlm.inference.colour_lookup import asks_for_colour
from fastvlm.inference.line_reader import LineReader
from fastvlm.inference.page import Found, Page
from fastvlm.inference.questions import MOST_CHARACTERS, asks_for_kind, is_yes_or_no
from fastvlm.inference.reading import NOT_SHOWN, is_refusal, is_text
from fastvlm.inference.settings import GenerationSettings
from fastvlm.inference.text_lookup import LEAST_LINES, MOST_ROWS_OF_A_SHORT_TEXT, asks_by_place, asks_for_text
from fastvlm.inference.timings import NOTHING_USED, Stopwatch, Usage
from fastvlm.messages import Message, TextPart, images_of
from fastvlm.processing.images import read_image
from fastvlm.processing.text_lines import Box, find_text_lines, rows_of
from fastvlm.processing.tick_boxes import without_tick_boxes

if TYPE_CHECKING:
    from fastvlm.processing.shapes import Drawing

MOST_LINES = 400
"""More would take many seconds; a page of a book has about 40 lines, a long receipt 120."""

_LEAST_SMALL_LINES = 12
"""Of small letters, for a picture to be taken for a page; a texture may look like some."""

_LEAST_CONFIDENCE = 0.001
"""What was found with less says nothing that the first answer did not."""

_SMALL_PX = 18
"""Lines of text that a model sees no higher than this are not told apart at one look, nor whether there are any."""

_SURE_OF_FIRST = 0.8
"""What one look tells with less is looked up, too: what is found is the righter one then, where they differ."""

_SURE = 0.2
"""What is found with so much confidence counts more than such an answer, or than a refusal."""

_MISSING_BELOW, _SURE_OF_MISSING = 0.25, 0.6
"""What is answered with less to a question for something of which nothing is read is made up, about so often."""

_SURE_OF_TEXT = 0.7
"""Of a text that one look reads with less, several views are the surer ones where they say another thing."""


_SURE_OF_SHAPES = 0.95
"""How often the shapes of a drawn scene tell the right answer, by about."""

_ASKS_FOR_SOMETHING, _HARDLY_RIGHT = re.compile(r"\s*(?:how|what|which|where|when|who)\b", re.I), 0.01
"""How a question begins that is not answered by yes or no, and how likely such an answer to it is right."""

_LETTERS_OF_SHAPES = 2
"""As many letters at most as rings and crosses are read as."""

_FORM, _MISTAKEN_FOR_FORM = "a form", "a receipt"
"""Scans of receipts look like forms at one look, however sure it is."""

_CURRENCY_SIGNS = ("$", "€", "£", "¥")
_BARE_AMOUNT = re.compile(r"\d[\d,]*\.\d\d")

_MAX_PAGES = 20
_MAX_PAGE_BYTES = 256_000_000
"""Pages, and bytes of their pictures, that are remembered, so that further questions about one need no reading."""


_Worth = Callable[[Sequence[Box], UInt8Array], bool]
"""Whether lines in some boxes of a picture are worth reading."""


class CloserLook:
    """Looks closer where one look at a whole picture left a model unsure, or hardly sure of its answer.

    The lines of text are found by their ink, cut out at the picture's full resolution, each read by itself in batches
    (`line_reader`), and the question is looked up among them (`line_lookup`). For questions about one picture only.
    max_tokens: of a first answer, which is no short one that could be looked up where it is longer.
    Raises CheckpointError for a model that was not taught to read lines: its calibration has no line_question.
    """

    max_tokens = 48

    def __init__(self, assistant: Assistant) -> None:
        calibration = assistant.calibration
        if calibration is None or calibration.line_question is None:
            raise CheckpointError(
                "Expected a model whose calibration has a line_question, as the embedded one has, got none. "
                "Ask it without a closer look."
            )
        self._calibration = calibration
        self._assistant = assistant
        self._reader = LineReader(assistant, calibration.line_question)
        self._pages: OrderedDict[str, Page] = OrderedDict()
        self._drawings: OrderedDict[str, Drawing | None] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(
        self, messages: Sequence[Message], settings: GenerationSettings, first: Answer, clock: Stopwatch
    ) -> Answer:
        """Return an answer that was looked up, or the first one where that is sure or nothing better was found."""
        asked = _asked_about_one_picture(messages)
        is_short = first.finish_reason == "stop" and len(first.token_ids) <= self.max_tokens
        if asked is None or not is_short:
            return first
        source, question = asked
        first = _doubted(first, question)
        try:
            looked = self._look(source, question, first, clock)
        except ImageError:
            return first  # what was there for one look may be gone
        if looked is None:
            return first
        found, usage = looked
        text = "" if found is None else _ended(found.text, settings.stop)
        token_ids = tuple(self._assistant.tokenizer.encode(text))
        with clock.phase("decode"):
            clock.answered()
        timings = clock.timings(self._assistant.load_timings)
        timings = replace(timings, load_ms=first.timings.load_ms, load_compile_ms=first.timings.load_compile_ms)
        total = first.usage + usage
        if found is None or not 0 < len(token_ids) <= settings.max_new_tokens:
            return replace(first, timings=timings, usage=total)
        return replace(
            first,
            text=text,
            timings=timings,
            usage=total,
            token_ids=token_ids,
            confidence=found.confidence,
            is_unsure=self.is_unsure(found.confidence),
            box=found.box,
        )

    def _look(
        self, source: object, question: str, first: Answer, clock: Stopwatch
    ) -> tuple[_LookedUp | None, Usage] | None:
        """What is found, nothing where that is less likely than it should be; None where no closer look is needed."""
        if len(question) <= MOST_CHARACTERS:
            seen = self._seen_in_scene(source, question, clock)
            if seen is not None:
                return seen, NOTHING_USED
        wanted = self._wanted(question, first)
        if wanted is None:
            return None
        least, worth = wanted
        page, usage = self._read(source, clock, worth)
        found = _looked_up(question, page, first)
        return (found if found is not None and found.confidence >= least else None), usage

    def _seen_in_scene(self, source: object, question: str, clock: Stopwatch) -> _LookedUp | None:
        """What the shapes of a drawn scene tell; None for other questions and other pictures."""
        # Only now: a command whose one look is enough starts that much sooner.
        from fastvlm.inference.scene_lookup import asks_about_shapes, look_up_in_scene

        if not asks_about_shapes(question):
            return None
        with clock.phase("image_read"):
            picture = read_image(source)
        with clock.phase("preprocess"):
            drawing = self._drawing_of(picture)
            found = None if drawing is None else look_up_in_scene(question, drawing)
        return None if found is None else _LookedUp(found, _SURE_OF_SHAPES, None)

    def _drawing_of(self, picture: UInt8Array) -> Drawing | None:
        """The shapes of a drawn scene, which further questions about it need not search again; None of others."""
        from fastvlm.processing.shapes import find_drawing

        key = _key_of(picture)
        with self._lock:
            if key in self._drawings:
                return self._drawings[key]
        drawing = find_drawing(picture)
        with self._lock:
            self._drawings[key] = drawing
            while len(self._drawings) > _MAX_PAGES:
                self._drawings.popitem(last=False)
        return drawing

    def _wanted(self, question: str, first: Answer) -> tuple[float, _Worth] | None:
        """How likely must be what is found, and which lines are worth reading; None where a first answer stays."""
        if len(question) > MOST_CHARACTERS:
            return None
        if asks_for_kind(question):
            is_in_doubt = first.is_unsure or first.text.strip(" .").lower() == _FORM
            return (_LEAST_CONFIDENCE, _are_several) if is_in_doubt else None
        has_few = any(asks(question) for asks in (asks_for_text, asks_by_place, asks_for_colour, asks_for_arrow))
        are_enough = _are_any if has_few else _are_several
        if first.is_unsure:
            return _LEAST_CONFIDENCE, are_enough
        if asks_for_text(question):
            return (first.confidence, _are_a_short_text) if first.confidence < _SURE_OF_TEXT else None
        if first.confidence < _SURE_OF_FIRST:
            # Yes or no is said with half of it where a model can't tell.
            return _LEAST_CONFIDENCE if is_yes_or_no(question) else _SURE, are_enough
        return (_SURE, self._are_small) if is_refusal(first.text) else None

    def read(self, source: object) -> Page:
        """Read all lines of a picture, as an assistant takes it. Raises ImageError.

        Empty where there are more than `MOST_LINES`.
        """
        return self._read(source, Stopwatch(), _are_any)[0]

    def how_sure_of_no_text(self, source: object) -> float | None:
        """Tell how sure it is that a picture shows plain shapes, or nothing, and no text; None where it may have some.

        Raises ImageError.
        """
        picture = read_image(source)
        lines = self.read(picture).lines
        # Of a page with text shapes are not searched for, and its lines are wanted anyway.
        if any(len(line.text) > _LETTERS_OF_SHAPES and not self.is_unsure(line.confidence) for line in lines):
            return None
        return None if self._drawing_of(picture) is None else _SURE_OF_SHAPES

    def is_unsure(self, confidence: float) -> bool:
        """Whether what was found with so much confidence was more often wrong than right."""
        return confidence < self._calibration.found_unsure_below

    def _read(self, source: object, clock: Stopwatch, worth: _Worth) -> tuple[Page, Usage]:
        """Read a page, and tell what that took; what was read lately takes nothing.

        worth: whether lines in such boxes of a picture are worth reading; a page of others is left empty.
        """
        with clock.phase("image_read"):
            picture = read_image(source)
        with clock.phase("preprocess"):
            key = _key_of(picture)
            with self._lock:
                known = self._pages.get(key)
                if known is not None:
                    self._pages.move_to_end(key)
            boxes = [] if known is not None else find_text_lines(picture)
        if known is not None:
            return known, NOTHING_USED
        if not worth(boxes, picture) or len(boxes) > MOST_LINES:
            return Page([]), NOTHING_USED
        with clock.phase("preprocess"):
            boxes = without_tick_boxes(boxes, picture)
        lines, usage = self._reader.read(picture, boxes, clock)
        # Only now: a command whose one look is enough starts that much sooner.
        from fastvlm.inference.doubled_digits import without_doubled_digits
        from fastvlm.inference.receipt_rows import is_receipt

        page = Page([line for line in lines if is_text(line.text)], picture)
        if not is_receipt(page):  # whose amounts have two decimals
            page = Page(without_doubled_digits(page.lines), picture)
        page, used_for_labels = self._with_separate_labels(page, picture, clock)
        with self._lock:
            self._pages[key] = page
            while len(self._pages) > _MAX_PAGES or (len(self._pages) > 1 and self._num_bytes() > _MAX_PAGE_BYTES):
                self._pages.popitem(last=False)
        return page, usage + used_for_labels

    def _with_separate_labels(self, page: Page, picture: UInt8Array, clock: Stopwatch) -> tuple[Page, Usage]:
        """Read labels of a chart one by one that were read as one line."""
        from fastvlm.inference.chart_lookup import separate_labels

        with clock.phase("preprocess"):
            joined = separate_labels(page)
        if not joined:
            return page, NOTHING_USED
        labels, usage = self._reader.read(picture, [box for boxes in joined.values() for box in boxes], clock)
        lines = [line for line in page.lines if line not in joined]
        rest = iter(labels)
        for line, boxes in joined.items():
            separate = [next(rest) for _ in boxes]
            lines += separate if all(is_text(label.text) for label in separate) else [line]
        return Page(lines, picture), usage

    def _num_bytes(self) -> int:
        pictures = (page.picture for page in self._pages.values())
        return sum(picture.nbytes for picture in pictures if picture is not None)

    def _are_small(self, boxes: Sequence[Box], picture: UInt8Array) -> bool:
        """Whether lines are many and small as the model sees them at one look."""
        if len(boxes) < _LEAST_SMALL_LINES:
            return False
        height_px = median(box.height for box in boxes)
        return height_px * self._assistant.image_processor.scale(picture.shape[1], picture.shape[0]) <= _SMALL_PX


class _LookedUp(NamedTuple):
    """What was found, or that there is nothing. box: where it was read, None for nothing."""

    text: str
    confidence: float
    box: Box | None


def _doubted(first: Answer, question: str) -> Answer:
    """An answer by yes or no to a question for something else is hardly right, however sure a model was of it."""
    is_of_other_kind = _ASKS_FOR_SOMETHING.match(question) is not None and not is_yes_or_no(question)
    if not is_of_other_kind or first.text.strip(" .").lower() not in ("yes", "no"):
        return first
    return replace(first, confidence=min(first.confidence, _HARDLY_RIGHT), is_unsure=True)


def _key_of(picture: UInt8Array) -> str:
    """What is the same for the same pixels alone."""
    digest = hashlib.sha256(repr(picture.shape).encode())
    digest.update(np.ascontiguousarray(picture).data)
    return digest.hexdigest()


def _looked_up(question: str, page: Page, first: Answer) -> _LookedUp | None:
    # Only now: a command whose one look is enough starts that much sooner.
    from fastvlm.inference.line_lookup import look_up, names_what_is_missing
    from fastvlm.inference.statement_lookup import check_statement

    if is_yes_or_no(question):
        verdict = check_statement(question, page)
        if verdict is None:
            return None
        box = None if verdict.line is None else verdict.line.box
        return _LookedUp("yes" if verdict.is_so else "no", verdict.confidence, box)
    if asks_for_kind(question):
        return _kind(page, first)
    found = look_up(question, page)
    if found is not None:
        return _LookedUp(_with_sign(found, first.text), found.confidence, found.line.box)
    if first.confidence < _MISSING_BELOW and names_what_is_missing(question, page):
        return _LookedUp(NOT_SHOWN, _SURE_OF_MISSING, None)
    return None


def _kind(page: Page, first: Answer) -> _LookedUp | None:
    """What kind of document a page is by its lines, where one look did not tell or may have been mistaken."""
    from fastvlm.inference.kind_lookup import look_up_kind

    kind = look_up_kind(page)
    if kind is None or not (first.is_unsure or kind.text == _MISTAKEN_FOR_FORM):
        return None
    return _LookedUp(kind.text, kind.confidence, None)


def _with_sign(found: Found, first: str) -> str:
    """An amount with the sign of a currency that its line and the first look both have; either alone misreads it."""
    is_signed = first[:1] in _CURRENCY_SIGNS and first[:1] in found.line.text
    return first[:1] + found.text if is_signed and _BARE_AMOUNT.fullmatch(found.text) else found.text


def _are_any(_boxes: Sequence[Box], _picture: UInt8Array) -> bool:
    return True


def _are_several(boxes: Sequence[Box], _picture: UInt8Array) -> bool:
    return len(boxes) >= LEAST_LINES


def _are_a_short_text(boxes: Sequence[Box], _picture: UInt8Array) -> bool:
    return len(rows_of(boxes, lambda box: box)) <= MOST_ROWS_OF_A_SHORT_TEXT


def _asked_about_one_picture(messages: Sequence[Message]) -> tuple[object, str] | None:
    """The picture and the last question of a conversation that shows one picture; None for other ones.

    A pipe gives its picture only once, so that nothing is left for a closer look.
    """
    pictures = list(images_of(messages))
    text = " ".join(part.text for part in messages[-1].content if isinstance(part, TextPart)) if messages else ""
    if len(pictures) != 1 or not text.strip():
        return None
    source = pictures[0].source
    return None if isinstance(source, str | os.PathLike) and is_pipe(source) else (source, text)


def _ended(text: str, stop: Sequence[str]) -> str:
    """A text without needless space, up to the first of some stop strings."""
    text = "\n".join(" ".join(line.split()) for line in text.splitlines())
    return text[: min((text.index(end) for end in stop if end in text), default=len(text))].rstrip()
