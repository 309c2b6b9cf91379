"""Many questions answered together, each as it would be alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Unpack

from fastvlm.batches import PromptTokens
from fastvlm.errors import GenerationError
from fastvlm.inference.answers import Answer
from fastvlm.inference.assistant import Assistant, Conversation, conversation_of
from fastvlm.inference.generate import generate
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
    **overrides: Unpack[SettingsOverrides],
) -> list[Answer]:
    """Answer conversations in batches, in order; greedy answers are those that `Assistant.ask` gives one by one.

    batch_size: questions at a time. Prompts of different lengths share a batch: the padding is the runtime's affair.
    The timings of each answer are those of its whole batch, and of what a clock that is given had measured before;
    those of a closer look are in the answer it was taken for and in later ones.
    """
    if batch_size < 1:
        raise GenerationError(f"Expected batch_size to be at least 1, got {batch_size}.")
    chosen = assistant.choose_settings(settings, overrides)
    all_messages = [conversation_of(conversation) for conversation in conversations]
    # A batch needs the room.
    assistant.prompt_memory.clear()
    answers: list[Answer] = []
    for start in range(0, len(all_messages), batch_size):
        answers += _answer_together(assistant, all_messages[start : start + batch_size], chosen, clock or Stopwatch())
    return answers


def _answer_together(
    assistant: Assistant, conversations: Sequence[tuple[Message, ...]], settings: GenerationSettings, clock: Stopwatch
) -> list[Answer]:
    prompts: list[PromptTokens] = []
    embeddings: list[Embeddings] = []
    for messages in conversations:
        images = assistant.read_images(messages, clock, started_ms=clock.elapsed_ms)
        visual_tokens = assistant.encode(images, clock)
        prompts.append(assistant.build_prompt(messages, visual_tokens, clock))
        embeddings.append(assistant.embed(prompts[-1], visual_tokens, clock))
    texts = [assistant.growing_answer(settings) for _ in prompts]
    for rows in _rows_that_fit(embeddings, settings.max_new_tokens, assistant.runtime.max_positions):
        stopped: set[int] = set()
        steps = generate(
            assistant.runtime,
            [embeddings[row] for row in rows],
            settings=settings,
            eos_token_ids=assistant.eos_token_ids,
            stopped_rows=stopped,
            first_bias=assistant.first_bias,
        )
        for tokens in clock.steps(steps, compile_ms=lambda: assistant.runtime.compile_ms):
            with clock.phase("decode"):
                for token in tokens:
                    texts[rows[token.row]].push(token)
                    if texts[rows[token.row]].is_finished:
                        stopped.add(token.row)
    timings = clock.timings(assistant.load_timings)
    answers = [text.finish(prompt, timings) for text, prompt in zip(texts, prompts, strict=True)]
    if assistant.closer_look is None:
        return answers
    return [
        assistant.closer_look(messages, settings, answer, clock)
        for messages, answer in zip(conversations, answers, strict=True)
    ]  # fmt: skip


def _rows_that_fit(prompts: Sequence[Embeddings], max_new_tokens: int, max_positions: int) -> Iterator[list[int]]:
    """Split a batch into the rows to run together: all, unless padding could end a short row's answer early."""
    longest = max(prompt.num_positions for prompt in prompts)
    if longest + max_new_tokens <= max_positions:
        yield list(range(len(prompts)))
    else:
        yield from ([row] for row in range(len(prompts)))
