"""A conversation is the same prompt as its messages asked at once, and only complete turns are remembered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastvlm.errors import ImageError, PromptError
from fastvlm.inference.assistant import Assistant
from fastvlm.messages import Message, TextPart, images_of, system, user
from fastvlm.messages import assistant as said

Build = Callable[..., Any]


def test_several_turns_equal_their_messages_asked_at_once(assistant: Assistant, picture: Build) -> None:
    chat = assistant.chat(system="Be brief.")
    first = chat.ask("How many?", images=picture(1), max_new_tokens=10)
    second = chat.ask("And in this one?", images=[picture(2), picture(3)], max_new_tokens=10)
    third = chat.ask("Why?", max_new_tokens=10)
    assert len(images_of(chat.messages)) == 3
    assert [message.role for message in chat.messages] == ["system", *["user", "assistant"] * 3]
    assert chat.messages[2] == said(first.text)
    assert assistant.ask(chat.messages[:2], max_new_tokens=10).text == first.text
    assert assistant.ask(chat.messages[:4], max_new_tokens=10).token_ids == second.token_ids
    assert assistant.ask(chat.messages[:6], max_new_tokens=10).token_ids == third.token_ids
    assert third.usage.visual_tokens == second.usage.visual_tokens > first.usage.visual_tokens


def test_streamed_turns_are_remembered_at_their_end(assistant: Assistant) -> None:
    chat = assistant.chat()
    stream = chat.stream("What is this?", max_new_tokens=8)
    next(stream)
    assert chat.messages == ()
    rest = list(stream)
    assert chat.messages == (user("What is this?"), said(stream.answer.text))
    assert rest
    same = assistant.chat()
    assert same.ask("What is this?", max_new_tokens=8).token_ids == stream.answer.token_ids
    assert same.messages == chat.messages


def test_a_failed_turn_leaves_no_trace(assistant: Assistant, picture: Build, tmp_path: Path) -> None:
    chat = assistant.chat(system="Be brief.")
    chat.ask("What is this?", images=picture(1), max_new_tokens=5)
    before = chat.messages
    with pytest.raises(ImageError):
        chat.ask("And this?", images=tmp_path / "missing.png")
    with pytest.raises(PromptError):
        chat.ask("x " * 2000, max_new_tokens=5)
    assert chat.messages == before
    chat.ask("Still there?", max_new_tokens=5)
    assert len(chat.messages) == len(before) + 2


def test_a_turn_may_be_messages(assistant: Assistant) -> None:
    chat = assistant.chat()
    chat.ask([system("Be brief."), user("What is this?")], max_new_tokens=3)
    assert chat.messages[0] == Message("system", (TextPart("Be brief."),))
    with pytest.raises(PromptError, match="system"):
        chat.ask([system("Be long.")], max_new_tokens=3)


def test_overlapping_turns_lose_nothing_and_are_told(assistant: Assistant) -> None:
    chat = assistant.chat()
    overtaken = chat.stream("What is this?", max_new_tokens=12)
    next(overtaken)
    chat.ask("How many?", max_new_tokens=3)
    remembered = chat.messages
    with pytest.raises(PromptError, match="one turn of a conversation at a time"):
        _ = overtaken.answer
    assert chat.messages == remembered
    assert [message.role for message in remembered] == ["user", "assistant"]


def test_a_turn_starts_with_its_first_piece(assistant: Assistant) -> None:
    """Two streams made at once and read one after the other are two turns."""
    chat, same = assistant.chat(), assistant.chat()
    streams = [chat.stream(question, max_new_tokens=6) for question in ("What is this?", "Why?")]
    answers = [stream.answer.token_ids for stream in streams]
    assert answers == [same.ask(question, max_new_tokens=6).token_ids for question in ("What is this?", "Why?")]
    assert chat.messages == same.messages
    assert len(chat.messages) == 4


def test_images_stay_as_they_were_when_their_turn_started(assistant: Assistant, picture: Build, tmp_path: Path) -> None:
    path = tmp_path / "seen.png"
    picture(1).save(path)
    array = np.asarray(picture(2)).copy()
    chat, same = assistant.chat(), assistant.chat()
    chat.ask("What is this?", images=[path, array], max_new_tokens=5)
    same.ask("What is this?", images=[picture(1), picture(2)], max_new_tokens=5)
    array[:] = 0
    picture(3).save(path)
    changed = chat.ask("And the first?", max_new_tokens=5)
    path.unlink()
    gone = chat.ask("Why?", max_new_tokens=5)
    assert changed.token_ids == same.ask("And the first?", max_new_tokens=5).token_ids
    assert gone.token_ids == same.ask("Why?", max_new_tokens=5).token_ids
    assert all(part.source.dtype == np.uint8 for part in images_of(chat.messages))
    with pytest.raises(ValueError, match="read-only"):
        images_of(chat.messages)[0].source[0] = 0


def test_reading_the_images_of_a_turn_is_timed(assistant: Assistant, picture: Build, tmp_path: Path) -> None:
    picture(1, width_px=2000, height_px=1500).save(tmp_path / "large.png")
    timings = assistant.chat().ask("What is this?", images=tmp_path / "large.png", max_new_tokens=1).timings
    assert timings.image_read_ms > 1
    assert timings.total_ms >= timings.image_read_ms
