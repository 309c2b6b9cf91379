"""Answers given together are the answers given one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fastvlm.errors import GenerationError, ImageError, PromptError
from fastvlm.inference.assistant import Assistant
from fastvlm.inference.batching import ask_batch
from fastvlm.inference.image_cache import ImageCache
from fastvlm.inference.timings import PHASES
from fastvlm.messages import ImagePart, Message, user

Build = Callable[..., Any]


@pytest.fixture
def conversations(picture: Build) -> list[Message]:
    """Questions of different lengths about none, one and several images."""
    return [
        user(ImagePart(picture(1)), "How many red circles are there?"),
        user("Yes?"),
        user(ImagePart(picture(2)), ImagePart(picture(3)), "What is this? And what is that?"),
        user(ImagePart(picture(1, width_px=300)), "There are three red circles and a blue square. Are there not?"),
        user(ImagePart(picture(2)), "No."),
    ]


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_batched_equals_single(assistant: Assistant, conversations: list[Message], batch_size: int) -> None:
    together = ask_batch(assistant, conversations, batch_size=batch_size, max_new_tokens=24)
    alone = [assistant.ask(conversation, max_new_tokens=24) for conversation in conversations]
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    assert [answer.usage for answer in together] == [answer.usage for answer in alone]
    assert [answer.finish_reason for answer in together] == [answer.finish_reason for answer in alone]


def test_rows_end_on_their_own(assistant: Assistant, conversations: list[Message]) -> None:
    """A stop string of one row, and the lengths of all, are the same as alone."""
    alone = [assistant.ask(conversation, max_new_tokens=24) for conversation in conversations]
    stop = next(text for text in (answer.text[8:10] for answer in alone) if text)
    cut = [assistant.ask(conversation, max_new_tokens=24, stop=stop) for conversation in conversations]
    together = ask_batch(assistant, conversations, max_new_tokens=24, stop=stop)
    assert [(answer.text, answer.finish_reason) for answer in together] == [
        (answer.text, answer.finish_reason) for answer in cut
    ]
    assert [answer.text for answer in cut] != [answer.text for answer in alone]


def test_sampled_rows_draw_as_they_do_alone(toy_runtime: Build, assistant_with: Build) -> None:
    assistant = assistant_with(toy_runtime(320))
    questions = ["What is this?", "Yes?", "How many red circles are there?"]
    together = ask_batch(assistant, questions, temperature=1.0, seed=4, max_new_tokens=24)
    alone = [assistant.ask(question, temperature=1.0, seed=4, max_new_tokens=24) for question in questions]
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]


def test_padding_never_shortens_an_answer(toy_runtime: Build, assistant_with: Build) -> None:
    assistant = assistant_with(toy_runtime(320, max_positions=64))
    questions = ["Yes?", "How many red circles are there? " * 3]
    together = ask_batch(assistant, questions, max_new_tokens=1000)
    alone = [assistant.ask(question, max_new_tokens=1000) for question in questions]
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]
    assert len({len(answer.token_ids) for answer in alone}) == 2


def test_nothing_to_answer_and_nonsense_to_answer(assistant: Assistant, conversations: list[Message]) -> None:
    assert ask_batch(assistant, []) == []
    with pytest.raises(GenerationError, match="batch_size"):
        ask_batch(assistant, conversations, batch_size=0)
    for num_views in (0, 2):
        with pytest.raises(GenerationError, match="num_views"):
            ask_batch(assistant, conversations[:3], num_views=num_views)
    with pytest.raises(ImageError):
        ask_batch(assistant, [user("fine"), user(ImagePart("missing.png"), "not fine")])
    with pytest.raises(PromptError):
        ask_batch(assistant, [3])  # type: ignore[list-item]


def test_timings_are_those_of_the_batch(assistant: Assistant, conversations: list[Message]) -> None:
    together = ask_batch(assistant, conversations, max_new_tokens=24)
    timings = together[0].timings
    assert all(answer.timings == timings for answer in together)
    phases = sum(getattr(timings, f"{name}_ms") for name in PHASES)
    assert phases == pytest.approx(timings.total_ms, rel=0.1)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 16])
def test_views_of_one_question_are_given_one_answer(
    assistant: Assistant, conversations: list[Message], batch_size: int
) -> None:
    first, second = conversations[0], conversations[3]
    answers = ask_batch(assistant, [first, first, first, second], batch_size=batch_size, max_new_tokens=12, num_views=2)
    alone = assistant.ask(first, max_new_tokens=12)
    assert len(answers) == 2 and answers[0].token_ids == alone.token_ids
    assert answers[0].usage.prompt_tokens == 2 * alone.usage.prompt_tokens
    assert answers[0].usage.visual_tokens == 2 * alone.usage.visual_tokens
    assert answers[0].usage.completion_tokens == alone.usage.completion_tokens
    assert answers[0].confidence == pytest.approx(alone.confidence, rel=1e-3)


def test_where_nothing_is_kept_pictures_are_encoded_together(
    assistant: Assistant, conversations: list[Message]
) -> None:
    expected = [answer.token_ids for answer in ask_batch(assistant, conversations, max_new_tokens=12)]
    assistant.image_cache = ImageCache(max_images=0)
    together = ask_batch(assistant, conversations, max_new_tokens=12)
    assert [answer.token_ids for answer in together] == expected
    assert len(assistant.image_cache) == 0
