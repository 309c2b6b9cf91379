"""How an answer is chosen: length, randomness and where to stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypedDict, cast

from fastvlm.errors import GenerationError


class SettingsOverrides(TypedDict, total=False):
    """The settings by name, as `ask`, `stream` and `chat` take them; what is left out keeps its value."""

    max_new_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    seed: int | None
    stop: str | Sequence[str]


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """How an answer is chosen, token by token.

    max_new_tokens: longest answer. temperature: 0 always takes the likeliest token, higher is more varied.
    top_p: keep the likeliest tokens that together have this probability. top_k: keep so many likeliest tokens,
    0 for all. min_p: keep tokens of at least this share of the likeliest one's probability, 0 for all.
    repetition_penalty: above 1 makes what the answer already said less likely. seed: the same seed gives
    the same answer, None a new one each time. stop: texts that end the answer and are not part of it.
    Raises GenerationError for a value that makes no sense.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require("max_new_tokens", self.max_new_tokens, "a whole number of at least 1", _is_count_from(1))
        _require("temperature", self.temperature, "a number of at least 0", _is_number(lambda value: value >= 0))
        _require("top_p", self.top_p, "a number above 0 and at most 1", _is_number(lambda value: 0 < value <= 1))
        _require("top_k", self.top_k, "a whole number of at least 0 (0 keeps all)", _is_count_from(0))
        _require("min_p", self.min_p, "a number from 0 (keeps all) to 1", _is_number(lambda value: 0 <= value <= 1))
        _require("repetition_penalty", self.repetition_penalty, "a number above 0", _is_number(lambda value: value > 0))
        if self.seed is not None:
            _require("seed", self.seed, "a whole number of at least 0, or None", _is_count_from(0))
        _require("stop", self.stop, "texts of at least one character", _are_texts)

    def with_overrides(self, overrides: SettingsOverrides) -> GenerationSettings:
        """Return these settings with some of them replaced; raises GenerationError for an unknown name."""
        known = {field.name for field in fields(self)}
        unknown = sorted(set(overrides) - known)
        if unknown:
            raise GenerationError(f"Unknown setting {unknown[0]!r}: expected one of {', '.join(sorted(known))}.")
        values: dict[str, Any] = dict(overrides)
        stop = values.get("stop", self.stop)
        if isinstance(stop, str | list):
            values["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
        return replace(self, **values)


def _is_count_from(smallest: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= smallest


def _is_number(is_allowed: Callable[[float], bool]) -> Callable[[object], bool]:
    def accepts(value: object) -> bool:
        is_real = isinstance(value, int | float) and not isinstance(value, bool)
        return is_real and math.isfinite(cast(float, value)) and is_allowed(cast(float, value))

    return accepts


def _are_texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(text, str) and text for text in value)


def _require(name: str, value: object, expected: str, accepts: Callable[[object], bool]) -> None:
    if not accepts(value):
        raise GenerationError(f"Expected {name} to be {expected}, got {value!r}.")
