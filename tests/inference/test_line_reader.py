"""Lines are read in one view, in several where that leaves doubt, and word by word where that still does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

import fastvlm
from fastvlm.batches import UInt8Array
from fastvlm.data.synthetic.documents.samples import document_sample
from fastvlm.inference import line_reader, spelling
from fastvlm.inference.assistant import Assistant
from fastvlm.inference.line_reader import LineReader
from fastvlm.inference.page import ReadLine, joined_line
from fastvlm.inference.timings import NOTHING_USED, Stopwatch, Usage
from fastvlm.processing.text_lines import Box, find_text_lines


@pytest.fixture(scope="module")
def embedded() -> Assistant:
    return fastvlm.load(closer_look=False)


@pytest.fixture
def reader(embedded: Assistant) -> LineReader:
    assert embedded.calibration is not None and embedded.calibration.line_question is not None
    return LineReader(embedded, embedded.calibration.line_question)


@pytest.fixture
def rounds(reader: LineReader, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """How many lines each round of reading had, and in how many views."""
    seen: list[tuple[int, int]] = []
    read = reader._read

    def counted(picture: Any, boxes: Sequence[Box], views: Sequence[Any], clock: Stopwatch, *said: Any) -> Any:
        seen.append((len(boxes), len(views)))
        return read(picture, boxes, views, clock, *said)

    monkeypatch.setattr(reader, "_read", counted)
    return seen


def drawn(*texts: str, letter_px: int = 24, ground: int = 250, ink: int = 20) -> tuple[UInt8Array, list[Box]]:
    image = Image.new("RGB", (420, 60 * len(texts)), (ground,) * 3)
    font = ImageFont.load_default(letter_px)
    for row, text in enumerate(texts):
        ImageDraw.Draw(image).text((30, 60 * row + 16), text, (ink,) * 3, font)
    picture = np.asarray(image)
    return picture, find_text_lines(picture)


@pytest.mark.parametrize(("ground", "ink"), [(250, 20), (40, 225), (150, 110)])
def test_clear_lines_are_read_in_their_order(reader: LineReader, ground: int, ink: int) -> None:
    texts = ("Coffee", "12.40", "Room 402")
    picture, boxes = drawn(*texts, ground=ground, ink=ink)
    lines, usage = reader.read(picture, boxes, Stopwatch())
    assert [line.text for line in lines] == list(texts)
    assert [line.box for line in lines] == boxes
    assert usage.visual_tokens > 0 and usage.completion_tokens > 0


def test_only_doubtful_lines_are_read_again(
    reader: LineReader, rounds: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture, boxes = drawn("Coffee", "Room")
    monkeypatch.setattr(line_reader, "_SURE", 0.0)
    sure, used = reader.read(picture, boxes, Stopwatch())
    assert rounds == [(2, 1), (0, 4), (0, 4), (0, 4)]
    rounds.clear()
    monkeypatch.setattr(line_reader, "_SURE", 1.1)
    doubtful, used_more = reader.read(picture, boxes, Stopwatch())
    assert rounds == [(2, 1), (2, 4), (0, 4), (0, 4)]  # neither has several words, and both are English
    assert [line.text for line in doubtful] == [line.text for line in sure]
    assert used_more.visual_tokens >= 4 * used.visual_tokens


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([("Order", 0.6), ("date", 0.5)], ("Order date", 0.3)),
        ([("Order", 0.4), ("date", 0.4)], ("Ordrdate", 0.2)),
        ([("Order", 0.9), ("I see no picture here.", 0.9)], ("Ordrdate", 0.2)),
        ([("Order", 0.9), ("", 0.9)], ("Ordrdate", 0.2)),
        ([("Ordrdat", 0.9), ("e", 0.9)], ("Ordrdate", 0.2)),  # one word, set wide
    ],
)
def test_words_count_where_they_are_surer_than_their_line(
    reader: LineReader,
    monkeypatch: pytest.MonkeyPatch,
    words: list[tuple[str, float]],
    expected: tuple[str, float],
) -> None:
    picture, boxes = drawn("Order date")
    assert len(boxes) == 1
    rounds = iter([[("Ordate", 0.1)], [("Ordrdate", 0.2)], words])

    def read(
        _picture: Any, asked: Sequence[Box], _views: Any, _clock: Stopwatch, said: Sequence[str] = ()
    ) -> tuple[list[ReadLine], Usage]:
        # What it may say instead is not at all likely.
        texts = [(text, 0.5 if number == 0 else 1e-9) for number, text in enumerate(said)] if said else next(rounds, [])
        assert len(texts) == len(asked)
        return [ReadLine(text, box, sure) for (text, sure), box in zip(texts, asked, strict=True)], NOTHING_USED

    monkeypatch.setattr(reader, "_read", read)
    (line,), _ = reader.read(picture, boxes, Stopwatch())
    assert (line.text, line.confidence) == (expected[0], pytest.approx(expected[1]))


@pytest.mark.parametrize(
    ("likelihoods", "expected"),
    [
        ({"Caplain Doctor": 0.01}, "Captain Doctor"),
        ({"Caplain Doctor": 0.9, "Captain Doctor": 1e-6}, "Caplain Doctor"),
        ({"Captain Doctor": 1e-9, "Chaplain Doctor": 0.02}, "Chaplain Doctor"),
    ],
)
def test_of_words_that_are_none_what_they_may_be_is_chosen_by_what_is_seen(
    reader: LineReader, monkeypatch: pytest.MonkeyPatch, likelihoods: dict[str, float], expected: str
) -> None:
    picture, boxes = drawn("Captain Doctor")

    def read(
        _picture: Any, asked: Sequence[Box], _views: Any, _clock: Stopwatch, said: Sequence[str] | None = None
    ) -> tuple[list[ReadLine], Usage]:
        texts = ["Caplain Doctor"] * len(asked) if said is None else said
        sure = 0.1 if said is None else 0.01
        return [
            ReadLine(text, box, likelihoods.get(text, sure)) for text, box in zip(texts, asked, strict=True)
        ], NOTHING_USED

    monkeypatch.setattr(reader, "_read", read)
    (line,), _ = reader.read(picture, boxes, Stopwatch())
    assert line.text == expected


def test_of_very_many_doubtful_lines_the_ones_nearest_to_being_read_are_read_again(
    reader: LineReader, rounds: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_reader, "_SURE", 1.1)
    monkeypatch.setattr(line_reader, "_MOST_DOUBTFUL", 2)
    picture, boxes = drawn("Coffee", "Room", "Tea")
    lines, _ = reader.read(picture, boxes, Stopwatch())
    assert rounds[:2] == [(3, 1), (2, 4)] and len(lines) == 3


def test_several_views_read_more_lines_right(reader: LineReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Receipts of the split dev: of what is written on them, more is read to the letter."""
    found = {False: 0, True: 0}
    for index in (5001, 5008, 5012, 5020):
        sample = document_sample("dev", index, "receipt", (256, 384), num_questions=0, phrasing="train")
        written = {text.text for text in sample.document.drawing.texts}
        boxes = find_text_lines(sample.image)
        for is_once in (False, True):
            monkeypatch.setattr(line_reader, "_SURE", 0.0 if is_once else 0.7)
            lines, _ = reader.read(sample.image, boxes, Stopwatch())
            found[is_once] += sum(line.text in written for line in lines)
    assert found[False] > 1.05 * found[True] > 30


def test_no_lines_are_no_work(reader: LineReader) -> None:
    assert reader.read(np.zeros((64, 64, 3), np.uint8), [], Stopwatch()) == ([], NOTHING_USED)


def test_joined_lines_are_as_likely_as_all_of_them() -> None:
    words = [
        ReadLine("Start", Box(10, 20, 60, 40), 0.8),
        ReadLine("date", Box(70, 18, 110, 41), 0.5, is_cut=True),
    ]
    assert joined_line(words) == ReadLine("Start date", Box(10, 18, 110, 41), 0.4, is_cut=True)


def test_usages_add_up() -> None:
    one = Usage(prompt_tokens=5, visual_tokens=2, completion_tokens=3, cached_tokens=1)
    assert one + NOTHING_USED == one
    assert one + one == Usage(prompt_tokens=10, visual_tokens=4, completion_tokens=6, cached_tokens=2)


def test_words_of_english_are_read_right_more_often(reader: LineReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of small print in three sizes, with how they are spelled and without."""
    lines = (
        "captain of the summer garden", "yellow kitchen doctor", "winter market", "silver bottle",
        "letter from the island", "Monday travel", "orange hammer", "paper window", "Captain Planet",
        "bridge over the river", "Summer doctor", "quantity and amount", "mineral water", "tomato salad", "department",
        "maximum attention", "correct written letters",
    )  # fmt: skip
    right = {True: 0, False: 0}
    for letter_px in (11, 12, 13):
        picture, boxes = drawn(*lines, letter_px=letter_px, ground=235, ink=60)
        assert len(boxes) == len(lines)
        for is_spelled in (False, True):
            with monkeypatch.context() as patched:
                if not is_spelled:
                    patched.setattr(spelling, "respellings", lambda _text, **_others: [])
                read, _ = reader.read(picture, boxes, Stopwatch())
            right[is_spelled] += sum(line.text == text for line, text in zip(read, lines, strict=True))
    assert right[True] > 1.1 * right[False] > 10, right


def test_a_sign_that_is_one_stays_among_amounts_without(reader: LineReader) -> None:
    texts = ("4.10", "12.40", "120.00", "3.50", "0.99", "$149.00")
    picture, boxes = drawn(*texts)
    lines, _ = reader.read(picture, boxes, Stopwatch())
    assert [line.text for line in lines] == list(texts)


def test_a_sign_among_amounts_without_is_read_again_as_what_it_looks_like(
    reader: LineReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ("4.10", "12.40", "120.00", "3.50", "0.99", "55.10")
    picture, boxes = drawn(*texts)
    read, asked = reader._read, []

    def misread(*args: Any) -> tuple[list[ReadLine], Usage]:
        """The first digit of the last amount as a sign, surely."""
        if len(args) > 4:
            asked.extend(args[4])
            return read(*args)
        lines, usage = read(*args)
        return [replace(line, text=line.text.replace("55.10", "$5.10")) for line in lines], usage

    monkeypatch.setattr(reader, "_read", misread)
    lines, _ = reader.read(picture, boxes, Stopwatch())
    assert lines[-1].text == "55.10" and {"$5.10", "55.10", "15.10"} <= set(asked)
