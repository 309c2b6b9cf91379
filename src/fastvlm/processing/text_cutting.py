"""How a tokenizer of the `tokenizers` library cuts text into words, before it looks any of them up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import tokenizers

_PARTS = ("normalizer", "pre_tokenizer")


def without_leading_space(backend: tokenizers.Tokenizer) -> tuple[tokenizers.Tokenizer, bool]:
    """Return the tokenizer for text that goes on from other text, and whether a leading space follows controls.

    Llama's tokenizers put a space before the first word: as a normaliser (`Prepend`, before every stretch of text),
    as `Metaspace` (before every stretch, or before the first only), or as `add_prefix_space` of `ByteLevel`.
    """
    found: list[str] = []
    # Of these parts alone: to describe a large vocabulary takes longer than to read it.
    stripped = {part: _strip_prefix(_described(backend, part), found) for part in _PARTS}
    if not found:
        return backend, True
    continuing = tokenizers.Tokenizer.from_str(json.dumps(json.loads(backend.to_str()) | stripped))
    continuing.encode_special_tokens = True
    return continuing, "first" not in found


def is_byte_level(backend: tokenizers.Tokenizer) -> bool:
    """Whether words are looked up as letters that stand for bytes, wherever in the text they are."""
    kinds = [part["type"] for part in _parts(_described(backend, "pre_tokenizer"))]
    # `Metaspace` may treat the beginning of a text in another way.
    return bool(kinds) and kinds[-1] == "ByteLevel" and "Metaspace" not in kinds


def _parts(described: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if described is None:
        return
    if described["type"] == "Sequence":
        for child in described["pretokenizers"]:
            yield from _parts(child)
    else:
        yield described


def _described(backend: tokenizers.Tokenizer, part: str) -> dict[str, Any] | None:
    component = getattr(backend, part)
    return None if component is None else json.loads(component.__getstate__())


def _strip_prefix(part: dict[str, Any] | None, found: list[str]) -> dict[str, Any] | None:
    if part is None:
        return None
    kind = part["type"]
    if kind == "Sequence":
        key = "normalizers" if "normalizers" in part else "pretokenizers"
        kept = [_strip_prefix(child, found) for child in part[key]]
        return {**part, key: [child for child in kept if child is not None]}
    if kind == "Prepend":
        found.append("always")
        return None
    if kind == "Metaspace" and part.get("prepend_scheme") != "never":
        found.append(part.get("prepend_scheme", "always"))
        return {**part, "prepend_scheme": "never"}
    if kind == "ByteLevel" and part.get("add_prefix_space"):
        found.append("always")
        return {**part, "add_prefix_space": False}
    return part
