"""A picture is read line by line where one look left the model unsure, and only there."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

import fastvlm
from fastvlm.batches import UInt8Array
from fastvlm.errors import CheckpointError
from fastvlm.evaluation.kept import kept_documents
from fastvlm.inference.answers import Answer
from fastvlm.inference.assistant import Assistant
from fastvlm.inference.batching import ask_batch
from fastvlm.inference.closer_look import CloserLook
from fastvlm.inference.settings import GenerationSettings
from fastvlm.inference.timings import PHASES, Stopwatch
from fastvlm.messages import ImagePart, Message, user
from fastvlm.processing.calibration import Calibration

FOUND = {"documents-4/test/175": "0.08", "documents-4/test/72": "153", "documents-4/test/69": "10/03/29"}
"""Kept documents, and the answers to questions about them that one look gets wrong."""


@pytest.fixture(scope="module")
def asked() -> dict[str, tuple[UInt8Array, str]]:
    """Their pictures and questions."""
    return {
        question.picture.picture_id: (question.picture.load(), question.text)
        for question in kept_documents()
        if FOUND.get(question.picture.picture_id) == question.answer
    }


@pytest.fixture(scope="module")
def at_once() -> Assistant:
    return fastvlm.load(closer_look=False)


@pytest.fixture(scope="module")
def shared() -> Assistant:
    return fastvlm.load()


@pytest.fixture
def closely(shared: Assistant) -> Assistant:
    """With nothing that was read before."""
    shared.closer_look = CloserLook(shared)
    shared.prompt_memory.clear()
    return shared


@pytest.mark.parametrize("name", FOUND)
def test_what_one_look_gets_wrong_is_found_among_the_lines(
    name: str, asked: dict[str, tuple[UInt8Array, str]], at_once: Assistant, closely: Assistant
) -> None:
    picture, question = asked[name]
    first = at_once.ask(question, images=picture)
    answer = closely.ask(question, images=picture)
    assert first.is_unsure and first.text != FOUND[name] and first.box is None
    assert answer.text == FOUND[name] and not answer.is_unsure
    assert answer.box is not None
    height_px, width_px = picture.shape[:2]
    assert 0 <= answer.box.left < answer.box.right <= width_px
    assert 0 <= answer.box.top < answer.box.bottom <= height_px
    assert closely.closer_look is not None
    (line,) = (line for line in closely.closer_look.read(picture).lines if line.box == answer.box)
    assert FOUND[name] in line.text


def test_what_it_took_is_counted(
    asked: dict[str, tuple[UInt8Array, str]], at_once: Assistant, closely: Assistant
) -> None:
    picture, question = asked["documents-4/test/175"]
    first = at_once.ask(question, images=picture)
    answer = closely.ask(question, images=picture)
    assert answer.usage.visual_tokens > first.usage.visual_tokens
    assert answer.usage.completion_tokens > first.usage.completion_tokens
    timings = answer.timings
    assert timings.total_ms == pytest.approx(sum(getattr(timings, f"{phase}_ms") for phase in PHASES), rel=0.03)
    # It comes as a whole, and not before the lines were read.
    assert first.timings.total_ms < timings.first_token_ms <= timings.total_ms
    assert timings.first_token_ms == pytest.approx(timings.total_ms, rel=0.03)
    again = closely.ask(question, images=picture)
    assert again.text == answer.text and again.usage.visual_tokens == first.usage.visual_tokens


def test_a_sure_answer_is_the_same(at_once: Assistant, closely: Assistant) -> None:
    sure = 0
    for question in kept_documents()[:60]:
        picture = question.picture.load()
        first = at_once.ask(question.text, images=picture)
        if first.confidence >= 0.8:
            answer = closely.ask(question.text, images=picture)
            assert (answer.text, answer.token_ids, answer.is_unsure) == (first.text, first.token_ids, False)
            assert answer.box is None
            assert answer.usage.visual_tokens == first.usage.visual_tokens
            sure += 1
    assert sure >= 3


def test_streams_and_batches_and_chats_look_closer_too(
    asked: dict[str, tuple[UInt8Array, str]], closely: Assistant
) -> None:
    names = sorted(FOUND)
    stream = closely.stream(asked[names[0]][1], images=asked[names[0]][0])
    assert list(stream) == [FOUND[names[0]]] and stream.answer.box is not None
    conversations = [user(ImagePart(picture), question) for picture, question in map(asked.__getitem__, names)]
    answers = ask_batch(closely, conversations, temperature=0.0)
    assert [answer.text for answer in answers] == [FOUND[name] for name in names]
    chat = closely.chat()
    assert chat.ask(asked[names[1]][1], images=asked[names[1]][0]).text == FOUND[names[1]]
    assert chat.messages[-1].content[0].text == FOUND[names[1]]  # type: ignore[union-attr]


def test_several_pictures_are_looked_at_once(asked: dict[str, tuple[UInt8Array, str]], closely: Assistant) -> None:
    picture, question = asked["documents-4/test/175"]
    answer = closely.ask(question, images=[picture, picture])
    assert answer.box is None


def test_a_page_without_lines_is_empty(closely: Assistant) -> None:
    assert isinstance(closely.closer_look, CloserLook)
    assert closely.closer_look.read(np.full((64, 200, 3), 255, np.uint8)).lines == []


def test_a_short_text_is_read_in_several_views(closely: Assistant, at_once: Assistant) -> None:
    image = Image.new("RGB", (320, 64), (250, 250, 250))
    ImageDraw.Draw(image).text((20, 18), "Room 402", (20, 20, 20), ImageFont.load_default(24))
    messages = (user(ImagePart(np.asarray(image)), "What does the sign say?"),)
    first = replace(at_once.ask(messages), text="Rom 42", confidence=0.3, is_unsure=False, finish_reason="stop")
    assert closely.closer_look is not None
    answer = closely.closer_look(messages, closely.settings, first, Stopwatch())
    assert answer.text == "Room 402" and answer.confidence > 0.3 and answer.box is not None
    # What is as sure as it can be stays; and a question for another thing was answered.
    for kept in (replace(first, confidence=0.95),):
        assert closely.closer_look(messages, closely.settings, kept, Stopwatch()) is kept
    colour = (user(ImagePart(np.asarray(image)), "What colour is the sign?"),)
    first = replace(first, confidence=0.9)
    assert closely.closer_look(colour, closely.settings, first, Stopwatch()) is first


def test_labels_of_a_chart_that_stand_near_each_other_are_read_one_by_one(closely: Assistant) -> None:
    image = Image.new("RGB", (420, 300), (250, 250, 250))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(20)
    for number in range(0, 60, 10):
        draw.text((8, 240 - 4 * number), str(number), (20, 20, 20), font)
    names = ("Coffee", "Bread", "Water")
    for place, name in enumerate(names):
        draw.rectangle((70 + 80 * place, 252 - 4 * (20 + 10 * place), 110 + 80 * place, 252), fill=(40, 90, 160))
        draw.text((90 + 80 * place - 5.5 * len(name), 262), name, (20, 20, 20), font)
    assert isinstance(closely.closer_look, CloserLook)
    page = closely.closer_look.read(np.asarray(image))
    labels = sorted((line.box.left, line.text) for line in page.lines if line.box.top > 255)
    assert len(labels) == len(names)
    answer = closely.ask("Which has the highest value?", images=np.asarray(image))
    assert answer.text == labels[-1][1] and answer.box is not None


def test_scenes_are_not_read(closely: Assistant) -> None:
    """Of a picture with hardly any line only what asks for text is worth reading."""
    image = Image.new("RGB", (320, 64), (250, 250, 250))
    ImageDraw.Draw(image).text((20, 18), "Room 402", (20, 20, 20), ImageFont.load_default(24))
    messages = (user(ImagePart(np.asarray(image)), "Which shape is on the left?"),)
    first = replace(closely.ask("What is this?"), text="circle", is_unsure=True, finish_reason="stop", confidence=0.2)
    assert closely.closer_look is not None
    answer = closely.closer_look(messages, closely.settings, first, Stopwatch())
    assert answer.text == "circle" and answer.usage == first.usage


def test_the_lines_of_a_page_are_read(asked: dict[str, tuple[UInt8Array, str]], closely: Assistant) -> None:
    assert isinstance(closely.closer_look, CloserLook)
    page = closely.closer_look.read(asked["documents-4/test/175"][0])
    assert FOUND["documents-4/test/175"] in [line.text for line in page.lines]
    assert all(0 < line.confidence <= 1 for line in page.lines)


def test_only_a_model_that_was_taught_to_read_lines_looks_closer(
    assistant_with: Callable[..., Assistant], toy_runtime: Callable[..., Any], tokenizer: Any
) -> None:
    plain = assistant_with(toy_runtime(tokenizer.vocabulary_size))
    calibrated = assistant_with(
        toy_runtime(tokenizer.vocabulary_size), calibration=Calibration(refusal_token_id=1, unsure_below=0.5)
    )
    for assistant in (plain, calibrated):
        assert assistant.closer_look is None
        with pytest.raises(CheckpointError, match="Expected a model whose calibration has a line_question"):
            CloserLook(assistant)


def test_a_budget_leaves_no_time_for_a_closer_look() -> None:
    assert fastvlm.load(max_ttft_ms=5000).closer_look is None
    assert fastvlm.load(closer_look=False).closer_look is None
    assert fastvlm.load().closer_look is not None


class Refusing:
    """A closer look that nobody should take."""

    max_tokens = 48

    def __call__(
        self, messages: Sequence[Message], settings: GenerationSettings, first: Answer, clock: Stopwatch
    ) -> Answer:
        raise AssertionError("looked closer")


def test_what_was_asked_for_counts_for_what_is_found(
    asked: dict[str, tuple[UInt8Array, str]], at_once: Assistant, closely: Assistant
) -> None:
    picture, question = asked["documents-4/test/69"]
    assert closely.ask(question, images=picture, stop=["/"]).text == "10"
    # No room for it: what one look gave stays.
    cut = closely.ask(question, images=picture, max_new_tokens=2)
    assert cut.text == at_once.ask(question, images=picture, max_new_tokens=2).text


def test_a_picture_that_comes_by_a_pipe_is_looked_at_once(
    asked: dict[str, tuple[UInt8Array, str]], at_once: Assistant, closely: Assistant, tmp_path: Path
) -> None:
    picture, question = asked["documents-4/test/175"]
    file = tmp_path / "picture.png"
    Image.fromarray(picture).save(file)
    stream = closely.stream(question, images=file)
    first = at_once.ask(question, images=file)
    assert isinstance(closely.closer_look, CloserLook)
    file.unlink()
    again = closely.closer_look((user(ImagePart(file), question),), closely.settings, first, Stopwatch())
    assert again is first
    stream.close()


def test_a_picture_in_a_url_is_looked_at_more_closely(
    asked: dict[str, tuple[UInt8Array, str]], closely: Assistant
) -> None:
    picture, question = asked["documents-4/test/175"]
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "png")
    url = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
    assert closely.ask(question, images=url).text == FOUND["documents-4/test/175"]


def test_a_long_answer_is_not_looked_up_in_a_batch_either(
    asked: dict[str, tuple[UInt8Array, str]], at_once: Assistant, closely: Assistant
) -> None:
    picture, question = asked["documents-4/test/175"]
    first = at_once.ask(question, images=picture)
    long = replace(first, token_ids=(5,) * (CloserLook.max_tokens + 1))
    assert closely.closer_look is not None
    messages = (user(ImagePart(picture), question),)
    assert closely.closer_look(messages, closely.settings, long, Stopwatch()) is long


def test_a_chat_keeps_every_pixel_for_a_closer_look(closely: Assistant, at_once: Assistant, tmp_path: Path) -> None:
    file = tmp_path / "large.jpg"
    Image.new("RGB", (4000, 3000), "white").save(file)
    for assistant, width_px in ((closely, 4000), (at_once, 2000)):
        chat = assistant.chat()
        chat.ask("What is this?", images=file)
        (part,) = chat.messages[0].images
        assert isinstance(part.source, np.ndarray) and part.source.shape[1] == width_px


def test_long_answers_are_not_held_back(
    assistant_with: Callable[..., Assistant],
    scripted_runtime: Callable[..., Any],
    tokenizer: Any,
    picture: Callable[..., Any],
) -> None:
    words = tokenizer.encode("How many red circles are there? " * 20)
    assert len(words) > 60
    assistant = assistant_with(scripted_runtime(tokenizer.vocabulary_size, script=[words], max_positions=400))
    assistant.closer_look = Refusing()
    stream = assistant.stream("What is this?", images=picture(0), max_new_tokens=60)
    pieces = list(stream)
    assert len(pieces) > 5 and "".join(pieces) == stream.answer.text
    # What the reader of the stream takes for itself is left out once, and no more.
    stream = assistant.stream("What is this?", images=picture(0), max_new_tokens=60)
    next(stream)
    time.sleep(0.3)
    timings = stream.answer.timings
    assert timings.total_ms == pytest.approx(sum(getattr(timings, f"{phase}_ms") for phase in PHASES), abs=50)
    # A question without a picture has nothing to be looked at, and is not held back at all.
    assert len(list(assistant.stream("What is this?", max_new_tokens=20))) > 10
    with pytest.raises(AssertionError, match="looked closer"):
        assistant.ask("What is this?", images=picture(0), max_new_tokens=20)


def printed_list(letter_px: int) -> UInt8Array:
    """A page of many lines in letters of some size."""
    image = Image.new("RGB", (560, 32 * letter_px), (250, 250, 250))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(letter_px)
    for row in range(15):
        draw.text((letter_px, 2 * letter_px * row + letter_px), f"Item number {row}", (20, 20, 20), font)
    return np.asarray(image)


@pytest.mark.parametrize(("letter_px", "is_read"), [(12, True), (34, False)])
def test_a_sure_refusal_counts_where_the_letters_are_large_enough(
    letter_px: int, *, is_read: bool, closely: Assistant, at_once: Assistant
) -> None:
    picture = printed_list(letter_px)
    messages = (user(ImagePart(picture), "What is the total?"),)
    sure = replace(at_once.ask(messages), confidence=0.9, is_unsure=False, finish_reason="stop")
    first = replace(sure, text="It is not shown.")
    assert closely.closer_look is not None
    answer = closely.closer_look(messages, closely.settings, first, Stopwatch())
    assert answer.text == "It is not shown."  # there is no total on it
    assert (answer.usage.visual_tokens > first.usage.visual_tokens) == is_read


def test_a_claim_is_checked_against_what_is_read(closely: Assistant, at_once: Assistant) -> None:
    image = Image.new("RGB", (420, 260), (250, 250, 250))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(24)
    for row, (name, value) in enumerate((("Order form", ""), ("Room", "402"), ("Price", "71.50"), ("City", "London"))):
        draw.text((20, 20 + 50 * row), name, (20, 20, 20), font)
        draw.text((240, 20 + 50 * row), value, (20, 20, 20), font)
    picture = np.asarray(image)
    for question, expected in (
        ("Is the Room 402?", "yes"), ("Is it right that the Price is 14.20?", "no"),
        ("True or false: the Room is 402.", "yes"),
    ):  # fmt: skip
        answer = closely.ask(question, images=picture)
        assert (answer.text, answer.is_unsure) == (expected, False)
        assert answer.box is not None
    assert closely.closer_look is not None
    messages = (user(ImagePart(picture), "What is the Room?"),)
    first = replace(at_once.ask(messages), text="71", is_unsure=False, finish_reason="stop")
    # Looked up below 0.8, however sure a model calls that; and not with a question of many words.
    for confidence, expected in ((0.79, "402"), (0.81, "71")):
        kept = replace(first, confidence=confidence)
        assert closely.closer_look(messages, closely.settings, kept, Stopwatch()).text == expected
    long = (user(ImagePart(picture), "What is the Room? " * 20),)
    assert closely.closer_look(long, closely.settings, replace(first, confidence=0.3), Stopwatch()).text == "71"
    # What is named and stands nowhere is not made up.
    messages = (user(ImagePart(picture), "What is the Passport number?"),)
    first = replace(first, text="40217", confidence=0.24, is_unsure=True)
    answer = closely.closer_look(messages, closely.settings, first, Stopwatch())
    assert answer.text == "It is not shown." and answer.box is None and not answer.is_unsure
    kept = replace(first, confidence=0.26)
    assert closely.closer_look(messages, closely.settings, kept, Stopwatch()).text == "40217"
