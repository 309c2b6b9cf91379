"""Settings that make sense are taken, all others are refused in one line."""

from __future__ import annotations

from typing import Any

import pytest

from fastvlm.errors import GenerationError
from fastvlm.inference.settings import GenerationSettings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 0),
        ("max_new_tokens", 2.5),
        ("max_new_tokens", True),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", "warm"),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("top_k", -1),
        ("top_k", 1.0),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("repetition_penalty", 0.0),
        ("seed", -1),
        ("seed", "x"),
        ("stop", ("",)),
        ("stop", ("end", 3)),
    ],
)
def test_refuses_what_makes_no_sense(name: str, value: Any) -> None:
    settings = GenerationSettings()
    for build in (lambda: GenerationSettings(**{name: value}), lambda: settings.with_overrides({name: value})):  # type: ignore[misc]
        with pytest.raises(GenerationError) as caught:
            build()
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_overrides_replace_only_what_they_name() -> None:
    settings = GenerationSettings(temperature=0.5, seed=None)
    changed = settings.with_overrides({"stop": "END", "max_new_tokens": 3})
    assert changed == GenerationSettings(temperature=0.5, seed=None, stop=("END",), max_new_tokens=3)
    assert settings.with_overrides({"stop": ["a", "b"]}).stop == ("a", "b")
    assert settings.with_overrides({}) == settings


def test_unknown_setting_names_the_known_ones() -> None:
    with pytest.raises(GenerationError, match=r"Unknown setting 'temprature'.*temperature"):
        GenerationSettings().with_overrides({"temprature": 1.0})  # type: ignore[typeddict-unknown-key]
