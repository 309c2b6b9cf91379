"""Two verbs: prefill once, then decode token by token. Sees arrays and ids, never strings or images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from fastvlm.batches import FinishReason, Float32Array
from fastvlm.errors import PromptError
from fastvlm.inference.sampling import Sampler, log_probability, mean_log_probabilities
from fastvlm.inference.settings import GenerationSettings
from fastvlm.runtimes.protocol import Cache, Embeddings, Runtime

NO_BIAS: Mapping[int, float] = MappingProxyType({})


@dataclass(frozen=True)
class NewToken:
    """What one step added to one row.

    token_id: None where the row ended with an end-of-turn token, which is no part of the answer.
    finish_reason: set on the last token of the row. log_probability: of the token, the end of the turn included, as the
    model gives it, whatever the settings made of it.
    """

    row: int
    token_id: int | None
    finish_reason: FinishReason | None = None
    log_probability: float = 0.0


def generate(
    runtime: Runtime,
    prompts: Sequence[Embeddings],
    *,
    settings: GenerationSettings,
    eos_token_ids: Set[int],
    stopped_rows: Set[int] = frozenset(),
    read: Callable[[], tuple[Float32Array, Cache]] | None = None,
    first_bias: Mapping[int, float] = NO_BIAS,
    num_views: int = 1,
    said: Sequence[Sequence[int]] | None = None,
) -> Iterator[tuple[NewToken, ...]]:
    """Continue B prompts together; each step gives one new token for every row that has not ended.

    A row ends at a token of `eos_token_ids` ("stop"), at `max_new_tokens` or at the end of the context ("length"),
    or when the caller adds its number to `stopped_rows`. Every row has a sampler of its own, so that a row draws the
    same tokens as it would alone. read: does what `runtime.prefill(prompts)` would, in another way. first_bias: what is
    added to the scores of tokens where an answer begins. said: the tokens of every row, where none are chosen and only
    their probabilities are asked for; the end of the turn comes behind them.
    Raises PromptError where a prompt leaves no room for an answer.
    """
    num_positions = max(prompt.num_positions for prompt in prompts)
    if num_positions >= runtime.max_positions:
        raise PromptError(
            f"The prompt takes {num_positions} tokens and leaves no room for an answer: "
            f"the model's context is {runtime.max_positions}. Ask for less, or show fewer or smaller images."
        )
    if len(prompts) % num_views:
        raise PromptError(f"Expected {num_views} prompts for each answer, got {len(prompts)} in all.")
    num_rows = len(prompts) // num_views
    samplers = [Sampler(settings) if said is None else _Said(said[row], eos_token_ids) for row in range(num_rows)]
    logits, cache = runtime.prefill(prompts) if read is None else read()
    last_step = min(settings.max_new_tokens, runtime.max_positions - num_positions)
    # Rows that have ended go on in the batch with token 0 or their last one; nobody looks at what comes of it.
    latest = np.zeros(num_rows, dtype=np.int64)
    alive = list(range(num_rows))
    for step in range(1, last_step + 1):
        if num_views > 1:
            logits = mean_log_probabilities(logits, num_views)
        tokens = tuple(
            _next_token(
                row,
                logits[row],
                samplers[row],
                eos_token_ids,
                bias=first_bias if step == 1 else NO_BIAS,
                is_last=step == last_step,
            )
            for row in alive
        )
        latest[alive] = [token.token_id or 0 for token in tokens]
        yield tokens
        alive = [token.row for token in tokens if token.finish_reason is None and token.row not in stopped_rows]
        if not alive:
            return
        logits = runtime.decode(np.repeat(latest, num_views), cache)


class _Said:
    """Chooses tokens that are known, and then the likeliest end of the turn."""

    def __init__(self, token_ids: Sequence[int], eos_token_ids: Set[int]) -> None:
        self._rest, self._ends = list(token_ids), sorted(eos_token_ids)

    def choose(self, logits: Float32Array) -> int:
        return self._rest.pop(0) if self._rest else max(self._ends, key=lambda end: float(logits[end]))


def _next_token(
    row: int,
    logits: Float32Array,
    sampler: Sampler | _Said,
    eos_token_ids: Set[int],
    *,
    bias: Mapping[int, float],
    is_last: bool,
) -> NewToken:
    scores = logits
    if bias:
        scores = logits.copy()
        scores[list(bias)] += np.array(list(bias.values()), np.float32)
    token_id = sampler.choose(scores)
    likelihood = log_probability(logits, token_id)
    if token_id in eos_token_ids:
        return NewToken(row, None, "stop", likelihood)
    return NewToken(row, token_id, "length" if is_last else None, likelihood)
