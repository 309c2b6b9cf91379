"""Many questions answered together, each as it would be alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Unpack

from fastvlm.batches import PixelTiles, PromptTokens, VisualTokens
from fastvlm.errors import GenerationError
from fastvlm.inference.answers import Answer
from fastvlm.inference.assistant import Assistant, Conversation, conversation_of
from fastvlm.inference.generate import generate
from fastvlm.inference.latency import ChosenResolution
from fastvlm.inference.settings import GenerationSettings, SettingsOverrides
from fastvlm.inference.timings import Stopwatch
from fastvlm.messages import Message
from fastvlm.runtimes.protocol import Embeddings


def ask_batch(
    assistant: Assistant,
    conversations: Sequence[Conversation],
    *,
    batch_size: int = 16,
    settings: GenerationSettings | None = None,
    clock: Stopwatch | None = None,
    num_views: int = 1,
    said: Sequence[str] | None = None,
    **overrides: Unpack[SettingsOverrides],
) -> list[Answer]:
    """Answer conversations in batches, in order; greedy answers are those that `Assistant.ask` gives one by one.

    batch_size: conversations at a time. Prompts of different lengths share one: the padding is the runtime's affair.
    num_views: so many conversations in turn ask one question, each about another view of a picture, and are given one
    answer, whose tokens have the highest mean of their log-probabilities. said: what the answers are, where only their
    confidence is asked for, one for each `num_views` conversations.
    The timings of each answer are those of its whole batch, and of what a clock that is given had measured before;
    those of a closer look are in the answer it was taken for and in later ones.
    """
    if batch_size < 1:
        raise GenerationError(f"Expected batch_size to be at least 1, got {batch_size}.")
    if said is not None and not assistant.eos_token_ids:
        raise GenerationError("Expected a model with a token that ends an answer, to tell how likely one is, got none.")
    if said is not None and len(said) * num_views != len(conversations):
        raise GenerationError(f"Expected an answer for each question, got {len(said)} for {len(conversations)}.")
    if num_views < 1 or len(conversations) % num_views:
        raise GenerationError(
            f"Expected num_views to be at least 1 and conversations for all views of each question, got {num_views} "
            f"and {len(conversations)}."
        )
    chosen = assistant.choose_settings(settings, overrides)
    all_messages = [conversation_of(conversation) for conversation in conversations]
    # A batch needs the room.
    assistant.prompt_memory.clear()
    answers: list[Answer] = []
    step = max(1, batch_size // num_views) * num_views
    for start in range(0, len(all_messages), step):
        batch = all_messages[start : start + step]
        known = None if said is None else said[start // num_views : (start + len(batch)) // num_views]
        answers += _answer_together(assistant, batch, chosen, clock or Stopwatch(), num_views, known)
    return answers


def _answer_together(
    assistant: Assistant,
    conversations: Sequence[tuple[Message, ...]],
    settings: GenerationSettings,
    clock: Stopwatch,
    num_views: int,
    said: Sequence[str] | None,
) -> list[Answer]:
    prompts: list[PromptTokens] = []
    embeddings: list[Embeddings] = []
    resolutions: dict[int, ChosenResolution] = {}
    seen = _seen(assistant, conversations, clock, note=resolutions.__setitem__)
    for messages, visual_tokens in zip(conversations, seen, strict=True):
        prompts.append(assistant.build_prompt(messages, visual_tokens, clock))
        embeddings.append(assistant.embed(prompts[-1], visual_tokens, clock))
    views = [range(first, first + num_views) for first in range(0, len(prompts), num_views)]
    texts = [assistant.growing_answer(settings) for _ in views]
    lengths = [max(embeddings[place].num_positions for place in places) for places in views]
    for rows in _rows_that_fit(lengths, settings.max_new_tokens, assistant.runtime.max_positions):
        stopped: set[int] = set()
        steps = generate(
            assistant.runtime,
            [embeddings[place] for row in rows for place in views[row]],
            settings=settings,
            eos_token_ids=assistant.eos_token_ids,
            stopped_rows=stopped,
            first_bias=assistant.first_bias,
            num_views=num_views,
            said=None if said is None else [assistant.tokenizer.encode(said[row]) for row in rows],
        )
        for tokens in clock.steps(steps, compile_ms=lambda: assistant.runtime.compile_ms):
            with clock.phase("decode"):
                for token in tokens:
                    texts[rows[token.row]].push(token)
                    if texts[rows[token.row]].is_finished:
                        stopped.add(token.row)
    timings = clock.timings(assistant.load_timings)
    answers = [
        replace(text.finish([prompts[place] for place in places], timings), resolution=resolutions.get(places[0]))
        for text, places in zip(texts, views, strict=True)
    ]
    if assistant.closer_look is None:
        return answers
    return [
        assistant.closer_look(conversations[places[0]], settings, answer, clock)
        for places, answer in zip(views, answers, strict=True)
    ]  # fmt: skip


def _seen(
    assistant: Assistant,
    conversations: Sequence[tuple[Message, ...]],
    clock: Stopwatch,
    *,
    note: Callable[[int, ChosenResolution], None],
) -> Iterator[list[VisualTokens]]:
    """The visual tokens of each conversation; all encoded together where an assistant keeps none of them for later.

    note: is given the place of a conversation and the resolution that was chosen for it, if one was.
    """

    def read(place: int) -> list[PixelTiles]:
        return assistant.read_images(
            conversations[place], clock, started_ms=clock.elapsed_ms, note=partial(note, place)
        )

    if assistant.image_cache.max_images:
        # One conversation after the other, so that the pixels of no more than one are held.
        for place in range(len(conversations)):
            yield assistant.encode(read(place), clock)
        return
    pictures = [read(place) for place in range(len(conversations))]
    tokens = iter(assistant.encode([image for images in pictures for image in images], clock))
    for images in pictures:
        yield [next(tokens) for _ in images]


def _rows_that_fit(lengths: Sequence[int], max_new_tokens: int, max_positions: int) -> Iterator[list[int]]:
    """Split a batch into the rows to run together: all, unless padding could end a short row's answer early."""
    if max(lengths) + max_new_tokens <= max_positions:
        yield list(range(len(lengths)))
    else:
        yield from ([row] for row in range(len(lengths)))
