"""Sampling agrees with transformers' processors and with the distributions it claims to draw from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastvlm.batches import Float32Array
from fastvlm.errors import GenerationError
from fastvlm.inference.sampling import Sampler, distribution, log_probability, penalise_repetition
from fastvlm.inference.settings import GenerationSettings


def random_logits(seed: int, size: int = 1000) -> Float32Array:
    return (4 * np.random.default_rng(seed).normal(size=size)).astype(np.float32)


def test_temperature_zero_is_greedy_whatever_the_other_settings() -> None:
    logits = random_logits(0)
    for seed in range(3):
        settings = GenerationSettings(temperature=0.0, top_p=0.1, top_k=3, seed=seed)
        assert Sampler(settings).choose(logits) == int(logits.argmax())


@pytest.mark.parametrize("shift", [0.0, 300.0, -300.0])
def test_a_token_has_the_probability_that_the_logits_give_it(shift: float) -> None:
    logits = random_logits(1) + np.float32(shift)
    exact = logits.astype(np.float64)
    exact -= exact.max() + np.log(np.exp(exact - exact.max()).sum())
    for token_id in (0, int(logits.argmax()), 999):
        assert log_probability(logits, token_id) == pytest.approx(exact[token_id], abs=1e-4)


def test_greedy_takes_the_first_of_equals() -> None:
    assert Sampler(GenerationSettings()).choose(np.array([1, 5, 5, 0], dtype=np.float32)) == 1


@pytest.mark.golden
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "chosen_settings",
    [
        {"temperature": 0.7},
        {"temperature": 1.0, "top_k": 17},
        {"temperature": 1.3, "top_p": 0.8},
        {"temperature": 0.9, "top_k": 50, "top_p": 0.6, "repetition_penalty": 1.4},
        {"temperature": 2.0, "top_p": 0.001},
        {"temperature": 30.0, "top_p": 0.999},
        {"temperature": 1.0, "repetition_penalty": 0.7},
        {"temperature": 1.5, "min_p": 0.03},
        {"temperature": 1.2, "top_k": 60, "top_p": 0.9, "min_p": 0.1},
    ],
)
def test_probabilities_are_those_of_transformers(seed: int, chosen_settings: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    settings = GenerationSettings(**chosen_settings)
    logits = random_logits(seed)
    chosen = [3, 999, 500, 3]

    processors = [transformers.RepetitionPenaltyLogitsProcessor(settings.repetition_penalty)]
    processors.append(transformers.TemperatureLogitsWarper(settings.temperature))
    if settings.top_k:
        processors.append(transformers.TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1:
        processors.append(transformers.TopPLogitsWarper(settings.top_p))
    if settings.min_p > 0:
        processors.append(transformers.MinPLogitsWarper(settings.min_p))
    expected = torch.from_numpy(logits)[None]
    for processor in processors:
        expected = processor(torch.tensor([chosen]), expected)
    expected = expected.softmax(-1)[0].numpy()

    ours = distribution(penalise_repetition(logits, list(dict.fromkeys(chosen)), settings.repetition_penalty), settings)
    assert ((ours > 0) == (expected > 0)).all()
    np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize(
    "chosen_settings", [{}, {"top_k": 4}, {"top_p": 0.8}, {"min_p": 0.2}, {"top_k": 5, "top_p": 0.9}]
)
def test_draws_follow_the_distribution(chosen_settings: dict[str, Any]) -> None:
    logits = np.array([2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -9.0], dtype=np.float32)
    settings = GenerationSettings(temperature=1.0, seed=5, **chosen_settings)
    sampler = Sampler(settings)
    num_draws = 20_000
    counts = np.bincount([sampler.choose(logits) for _ in range(num_draws)], minlength=len(logits))
    expected = distribution(logits, settings) * num_draws
    possible = expected > 0
    assert counts[~possible].sum() == 0
    chi_square = ((counts[possible] - expected[possible]) ** 2 / expected[possible]).sum()
    # The 99.9 % quantile of chi-square with 7 degrees of freedom.
    assert chi_square < 24.3


def test_same_seed_same_draws_and_none_differs() -> None:
    logits = random_logits(1)

    def draws(seed: int | None) -> list[int]:
        sampler = Sampler(GenerationSettings(temperature=1.5, seed=seed))
        return [sampler.choose(logits) for _ in range(50)]

    assert draws(7) == draws(7)
    assert draws(7) != draws(8)
    assert draws(None) != draws(None)


def test_repetition_penalty_counts_the_answer_so_far() -> None:
    logits = np.array([1.0, 0.9, -1.0], dtype=np.float32)
    sampler = Sampler(GenerationSettings(repetition_penalty=2.0))
    assert [sampler.choose(logits) for _ in range(3)] == [0, 1, 0]
    np.testing.assert_allclose(penalise_repetition(logits, [0, 2], 2.0), [0.5, 0.9, -2.0])
    np.testing.assert_allclose(logits, [1.0, 0.9, -1.0])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("temperature", [1e-6, 1e-50, 1e-320])
def test_tiny_temperature_does_not_overflow(temperature: float) -> None:
    logits = random_logits(2)
    settings = GenerationSettings(temperature=temperature, top_k=5, top_p=0.5)
    assert Sampler(settings).choose(logits) == int(logits.argmax())


def test_top_k_above_the_vocabulary_keeps_all() -> None:
    logits = random_logits(3, size=10)
    settings = GenerationSettings(temperature=1.0, top_k=50)
    assert (distribution(logits, settings) > 0).all()


def test_min_p_keeps_tokens_by_their_share_of_the_likeliest_one() -> None:
    """The definition: after the temperature, at least min_p times the largest probability; the rest is rescaled."""
    logits = np.log(np.array([0.5, 0.26, 0.14, 0.1], dtype=np.float64)).astype(np.float32)

    def kept(**settings: Any) -> list[float]:
        return [round(float(value), 5) for value in distribution(logits, GenerationSettings(**settings))]

    assert kept(temperature=1.0, min_p=0.25) == [round(share / 0.9, 5) for share in (0.5, 0.26, 0.14)] + [0]
    assert kept(temperature=1.0, min_p=0.5) == [round(share / 0.76, 5) for share in (0.5, 0.26)] + [0, 0]
    assert kept(temperature=1.0, min_p=1.0) == [1, 0, 0, 0]
    # A higher temperature brings the others nearer to the likeliest one.
    assert kept(temperature=2.0, min_p=0.5)[2] > 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_pitfall_b15_non_finite_logits_say_what_to_try(bad: float, temperature: float) -> None:
    logits = random_logits(4)
    logits[17] = bad
    with pytest.raises(GenerationError, match="float32"):
        Sampler(GenerationSettings(temperature=temperature)).choose(logits)
