"""Which token comes next: from the logits of one row to one token id."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from fastvlm.batches import Float32Array, Int64Array
from fastvlm.errors import GenerationError
from fastvlm.inference.settings import GenerationSettings

Float64Array = npt.NDArray[np.float64]


class Sampler:
    """Chooses the tokens of one answer, one after the other.

    The order is that of transformers: repetition penalty, temperature, top-k, top-p, min-p. The penalty counts the
    tokens of the answer and not those of the question, so that an answer may repeat the question's words.
    """

    def __init__(self, settings: GenerationSettings) -> None:
        self._settings = settings
        self._chosen: dict[int, None] = {}

    @cached_property
    def _generator(self) -> np.random.Generator:
        # Made when something is drawn: greedy answers need not wait for numpy.random to be imported.
        return np.random.default_rng(self._settings.seed)

    def choose(self, logits: Float32Array) -> int:
        """Return the next token id for logits of shape (vocabulary,), and remember it for the penalty.

        Raises GenerationError where a logit is not finite.
        """
        if not np.isfinite(logits).all():
            bad = int((~np.isfinite(logits)).sum())
            raise GenerationError(
                f"Expected finite logits, got {bad} of {len(logits)} that are not: "
                "half precision may have overflowed, try dtype='float32' (--dtype float32)."
            )
        settings = self._settings
        penalised = penalise_repetition(logits, list(self._chosen), settings.repetition_penalty)
        if settings.temperature == 0:
            token_id = int(penalised.argmax())
        else:
            token_id = self._draw(distribution(penalised, settings))
        self._chosen[token_id] = None
        return token_id

    def _draw(self, probabilities: Float64Array) -> int:
        """Draw by the inverse of the cumulative distribution, which a zero probability can never win."""
        cumulative = probabilities.cumsum()
        return int(np.searchsorted(cumulative, self._generator.random() * cumulative[-1], side="right"))


def log_probability(logits: Float32Array, token_id: int) -> float:
    """The logarithm of the probability that finite logits of shape (vocabulary,) give to a token."""
    above = float(logits.max())
    return float(logits[token_id]) - above - float(np.log(np.exp(logits - np.float32(above)).sum()))


def mean_log_probabilities(logits: Float32Array, num_views: int) -> Float32Array:
    """The mean log-probability that each `num_views` rows in turn give to a token: B x vocabulary to B / views."""
    scores = logits - logits.max(axis=1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
    mean: Float32Array = scores.reshape(-1, num_views, scores.shape[1]).mean(axis=1)
    return mean


def penalise_repetition(logits: Float32Array, chosen: list[int], penalty: float) -> Float32Array:
    """Make tokens that were already chosen less likely: a positive logit is divided, a negative one multiplied."""
    if penalty == 1 or not chosen:
        return logits
    penalised = logits.copy()
    scores = penalised[chosen]
    penalised[chosen] = np.where(scores < 0, scores * penalty, scores / penalty)
    return penalised


def distribution(logits: Float32Array, settings: GenerationSettings) -> Float64Array:
    """Return the probability of each token after temperature, top-k, top-p and min-p; the temperature must not be 0."""
    # The largest logit becomes 0 before the division, so that a tiny temperature gives infinity only downwards.
    with np.errstate(over="ignore"):
        scores = (logits - logits.max()).astype(np.float64) / settings.temperature
    if 0 < settings.top_k < len(scores):
        kth_largest = np.partition(scores, -settings.top_k)[-settings.top_k]
        scores[scores < kth_largest] = -np.inf
    probabilities: Float64Array = np.exp(scores)
    probabilities /= probabilities.sum()
    if settings.top_p < 1:
        probabilities[_tail(probabilities, 1 - settings.top_p)] = 0.0
        probabilities /= probabilities.sum()
    if settings.min_p > 0:
        probabilities[probabilities < settings.min_p * probabilities.max()] = 0.0
        probabilities /= probabilities.sum()
    return probabilities


def _tail(probabilities: Float64Array, mass: float) -> Int64Array:
    """Return the least likely tokens that have at most `mass` together; the likeliest is never among them."""
    # Tokens below their equal share of the mass are in the tail in any case, and need no sorting.
    is_small = probabilities < mass / len(probabilities)
    others = np.flatnonzero(~is_small)
    ascending = others[np.argsort(probabilities[others], kind="stable")]
    is_tail = probabilities[is_small].sum() + probabilities[ascending].cumsum() <= mass
    is_tail[-1] = False
    return np.concatenate([np.flatnonzero(is_small), ascending[is_tail]])
