"""Prefill once, decode until every row has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastvlm.errors import GenerationError, PromptError
from fastvlm.inference.generate import generate
from fastvlm.inference.settings import GenerationSettings
from fastvlm.runtimes.protocol import Embeddings

Build = Callable[..., Any]
EOS = 9


def prompt_of(runtime: Any, *token_ids: int) -> Embeddings:
    return Embeddings(runtime.table[list(token_ids)], len(token_ids))


def rows_of(steps: Any, num_rows: int) -> list[tuple[list[int], str | None]]:
    ids: list[list[int]] = [[] for _ in range(num_rows)]
    reasons: list[str | None] = [None] * num_rows
    for step in steps:
        for token in step:
            assert reasons[token.row] is None, "a row went on after its end"
            if token.token_id is not None:
                ids[token.row].append(token.token_id)
            reasons[token.row] = token.finish_reason
    return list(zip(ids, reasons, strict=True))


def test_stops_at_an_end_of_turn_and_leaves_it_out(scripted_runtime: Build) -> None:
    runtime = scripted_runtime(10, script=[[4, 5, EOS, 6]])
    steps = list(generate(runtime, [prompt_of(runtime, 1, 2)], settings=GenerationSettings(), eos_token_ids={EOS, 8}))
    assert [(one.token_id, one.finish_reason) for (one,) in steps] == [(4, None), (5, None), (None, "stop")]
    assert all(one.log_probability <= 0 for (one,) in steps)
    assert runtime.num_decoded == 2


def test_stops_at_max_new_tokens_without_a_needless_decode(scripted_runtime: Build) -> None:
    runtime = scripted_runtime(10, script=[[4, 5, 6, 7]])
    settings = GenerationSettings(max_new_tokens=3)
    steps = generate(runtime, [prompt_of(runtime, 1)], settings=settings, eos_token_ids={EOS})
    assert rows_of(steps, 1) == [([4, 5, 6], "length")]
    assert runtime.num_decoded == 2


def test_end_of_turn_on_the_last_token_is_a_stop(scripted_runtime: Build) -> None:
    runtime = scripted_runtime(10, script=[[4, EOS]])
    settings = GenerationSettings(max_new_tokens=2)
    steps = generate(runtime, [prompt_of(runtime, 1)], settings=settings, eos_token_ids={EOS})
    assert rows_of(steps, 1) == [([4], "stop")]


@pytest.mark.parametrize("num_prompt", [1, 5, 7])
def test_stops_at_the_end_of_the_context(scripted_runtime: Build, num_prompt: int) -> None:
    runtime = scripted_runtime(10, max_positions=8, script=[[4]])
    steps = generate(
        runtime, [prompt_of(runtime, *range(num_prompt))], settings=GenerationSettings(), eos_token_ids={EOS}
    )
    assert rows_of(steps, 1) == [([4] * (8 - num_prompt), "length")]


@pytest.mark.parametrize("num_prompt", [8, 30])
def test_pitfall_b22_prompt_longer_than_the_context_is_refused(toy_runtime: Build, num_prompt: int) -> None:
    runtime = toy_runtime(50, max_positions=8)
    steps = generate(
        runtime, [prompt_of(runtime, *range(num_prompt))], settings=GenerationSettings(), eos_token_ids={EOS}
    )
    with pytest.raises(PromptError, match=rf"takes {num_prompt} tokens.*context is 8") as caught:
        next(steps)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rows_of_a_batch_say_what_they_say_alone(toy_runtime: Build, temperature: float) -> None:
    settings = GenerationSettings(max_new_tokens=30, temperature=temperature, seed=3)
    texts = [(1, 2, 3), (4,), (5, 6, 7, 8, 2, 1), (1, 2, 4)]
    # Every fifth token ends a turn, so that rows end at different steps.
    eos = set(range(0, 100, 12))

    def answers(*rows: tuple[int, ...]) -> list[tuple[list[int], str | None]]:
        runtime = toy_runtime(100)
        prompts = [prompt_of(runtime, *row) for row in rows]
        return rows_of(generate(runtime, prompts, settings=settings, eos_token_ids=eos), len(rows))

    together = answers(*texts)
    assert together == [answers(row)[0] for row in texts]
    assert len({len(ids) for ids, _ in together}) > 1


def test_a_row_that_the_caller_stops_does_not_stop_the_others(scripted_runtime: Build) -> None:
    runtime = scripted_runtime(10, script=[[4], [5]])
    stopped: set[int] = set()
    prompts = [prompt_of(runtime, 1), prompt_of(runtime, 2)]
    settings = GenerationSettings(max_new_tokens=6)
    counts = [0, 0]
    for step in generate(runtime, prompts, settings=settings, eos_token_ids={EOS}, stopped_rows=stopped):
        for token in step:
            counts[token.row] += 1
        if counts[0] == 2:
            stopped.add(0)
    assert counts == [2, 6]


def test_non_finite_logits_end_in_one_line(toy_runtime: Build) -> None:
    runtime = toy_runtime(10)
    prompt = Embeddings(np.full((2, runtime.table.shape[1]), np.nan, dtype=np.float32), 2)
    with pytest.raises(GenerationError, match="float32"):
        list(generate(runtime, [prompt], settings=GenerationSettings(), eos_token_ids={EOS}))


def test_a_bias_counts_where_an_answer_begins_and_nowhere_else(scripted_runtime: Build) -> None:
    """The script gives its token a score of 10 and all others 0."""
    runtime = scripted_runtime(10, script=[[4, 5, EOS]])
    settings = GenerationSettings()
    for bias, first in ((9.0, 4), (11.0, 7)):
        prompts = [prompt_of(runtime, 1, 2)]
        steps = list(generate(runtime, prompts, settings=settings, eos_token_ids={EOS}, first_bias={7: bias}))
        assert [one.token_id for (one,) in steps] == [first, 5, None]
        plain = list(generate(runtime, prompts, settings=settings, eos_token_ids={EOS}))
        is_same = steps[0][0].log_probability == plain[0][0].log_probability
        assert is_same == (first == 4), "the probability is the model's own"


def test_views_share_an_answer_of_the_highest_mean_log_probability(toy_runtime: Build) -> None:
    runtime = toy_runtime(30)
    prompts = [prompt_of(runtime, *ids) for ids in ((1, 2), (3,), (5, 6, 7), (2, 2))]
    settings = GenerationSettings(max_new_tokens=5)
    steps = list(generate(runtime, prompts, settings=settings, eos_token_ids=set(), num_views=2))
    for row, views in enumerate((prompts[:2], prompts[2:])):
        said: list[int] = []
        for step in steps:
            # What each view alone would give to the next token, after what was said together.
            alone = [[*prompt.data, *runtime.table[said]] for prompt in views]
            logits = np.concatenate([runtime.prefill([Embeddings(np.stack(one), len(one))])[0] for one in alone])
            expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            mean = expected.mean(axis=0)
            (token,) = (one for one in step if one.row == row)
            assert token.token_id == int(mean.argmax())
            assert token.log_probability == pytest.approx(float(mean.max() - np.log(np.exp(mean).sum())), abs=1e-4)
            said.append(int(token.token_id))
    assert [len(step) for step in steps] == [2] * 5


def test_equal_views_say_what_one_of_them_says(toy_runtime: Build) -> None:
    runtime = toy_runtime(30)
    prompt = prompt_of(runtime, 4, 1)
    settings = GenerationSettings(max_new_tokens=6)
    (alone,) = rows_of(generate(runtime, [prompt], settings=settings, eos_token_ids={EOS}), 1)
    (together,) = rows_of(generate(runtime, [prompt] * 3, settings=settings, eos_token_ids={EOS}, num_views=3), 1)
    assert together == alone
