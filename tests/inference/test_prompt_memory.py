"""A second question about a picture, and the next turn of a chat, read only what is new."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastvlm.batches import PromptTokens
from fastvlm.inference.assistant import Assistant
from fastvlm.inference.prompt_memory import PromptMemory
from fastvlm.messages import user

Draw = Callable[..., Image.Image]
FIRST, SECOND = "How many red circles are there?", "Is there a blue square?"


def without_memory(assistant: Assistant, *questions: Any, **arguments: Any) -> list[tuple[int, ...]]:
    answers = []
    for question in questions:
        assistant.prompt_memory = PromptMemory()
        answers.append(assistant.ask(question, **arguments).token_ids)
    return answers


def test_a_second_question_about_a_picture_reads_its_own_words(assistant: Assistant, picture: Draw) -> None:
    expected = without_memory(assistant, FIRST, SECOND, images=picture(1), max_new_tokens=12)
    assistant.prompt_memory = PromptMemory()
    first = assistant.ask(FIRST, images=picture(1), max_new_tokens=12)
    second = assistant.ask(SECOND, images=picture(1), max_new_tokens=12)
    assert [first.token_ids, second.token_ids] == expected
    assert first.usage.cached_tokens == 0
    assert second.usage.visual_tokens < second.usage.cached_tokens < second.usage.prompt_tokens
    again = assistant.ask(SECOND, images=picture(1), max_new_tokens=12)
    assert again.token_ids == second.token_ids
    assert again.usage.cached_tokens == again.usage.prompt_tokens - 1


def test_another_picture_is_read_anew(assistant: Assistant, picture: Draw) -> None:
    expected = without_memory(assistant, FIRST, images=picture(2), max_new_tokens=12)
    assistant.ask(FIRST, images=picture(1), max_new_tokens=12)
    other = assistant.ask(FIRST, images=picture(2), max_new_tokens=12)
    assert [other.token_ids] == expected
    assert other.usage.cached_tokens <= other.usage.prompt_tokens - other.usage.visual_tokens


def test_the_next_turn_of_a_chat_reads_what_was_not_said_yet(assistant: Assistant, picture: Draw) -> None:
    chat = assistant.chat()
    chat.ask(FIRST, images=picture(1), max_new_tokens=6)
    (expected,) = without_memory(assistant, [*chat.messages, user(SECOND)], max_new_tokens=6)
    assistant.prompt_memory = PromptMemory()
    chat = assistant.chat()
    chat.ask(FIRST, images=picture(1), max_new_tokens=6)
    second = chat.ask(SECOND, max_new_tokens=6)
    assert second.token_ids == expected
    assert second.usage.cached_tokens > second.usage.visual_tokens


def test_two_answers_at_a_time_do_not_share_a_cache(assistant: Assistant, picture: Draw) -> None:
    expected = without_memory(assistant, FIRST, SECOND, images=picture(1), max_new_tokens=12)
    assistant.prompt_memory = PromptMemory()
    first = assistant.stream(FIRST, images=picture(1), max_new_tokens=12)
    next(first, None)
    second = assistant.stream(SECOND, images=picture(1), max_new_tokens=12)
    next(second, None)
    assert [first.answer.token_ids, second.answer.token_ids] == expected


def test_an_answer_that_is_broken_off_leaves_what_was_read(assistant: Assistant, picture: Draw) -> None:
    (expected,) = without_memory(assistant, SECOND, images=picture(1), max_new_tokens=12)
    assistant.prompt_memory = PromptMemory()
    stream = assistant.stream(FIRST, images=picture(1), max_new_tokens=12)
    next(stream, None)
    stream.close()
    second = assistant.ask(SECOND, images=picture(1), max_new_tokens=12)
    assert second.token_ids == expected
    assert second.usage.cached_tokens > second.usage.visual_tokens


def test_a_prompt_that_could_not_be_read_is_not_remembered(
    assistant: Assistant, picture: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    assistant.ask(FIRST, images=picture(1), max_new_tokens=4)

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as broken:
        broken.setattr(assistant.runtime, "resume", fail)
        with pytest.raises(MemoryError):
            assistant.ask(SECOND, images=picture(1), max_new_tokens=4)
    assert assistant.ask(SECOND, images=picture(1), max_new_tokens=4).usage.cached_tokens == 0


@pytest.mark.parametrize(("num_alike", "num_kept"), [(7, 0), (14, 0), (24, 0), (25, 25), (60, 60)])
def test_a_small_share_of_a_prompt_is_read_again(num_alike: int, num_kept: int) -> None:
    """A template's words before another picture are no reason to take up a cache."""
    memory = PromptMemory()
    first, second = (np.arange(100) + offset for offset in (0, 1000))
    second[:num_alike] = first[:num_alike]
    nothing = np.full(100, -1), np.zeros(100, bool)
    reading = memory.start(PromptTokens(first, *nothing), [])
    reading.cache, reading.is_read = FullCache(), True
    memory.keep(reading, [])
    assert memory.start(PromptTokens(second, *nothing), []).num_kept == num_kept


class FullCache:
    num_positions = 100
