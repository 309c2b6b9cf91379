"""Byte-level tokenizers of many words, ready to be used as soon as their file is read.

To parse Qwen2's takes the `tokenizers` library a quarter of a second, at every start. It still cuts text into words
here and turns bytes into letters and back; what it would put into tables of its own stays in the file, and letters are
merged from there.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers
from tokenizers import pre_tokenizers

from fastvlm.processing.text_cutting import is_byte_level, without_leading_space

FORMAT_VERSION = 2
"""Raised whenever the file changes; what was kept before is not taken then."""

_DIGEST_BYTES = 32
_LENGTH_BYTES = 8
_ALIGNMENT_BYTES = 8
_MOST_IDS_PER_WORD = 8
"""With larger gaps between ids, texts by id would take memory for nothing."""

_PAIRS, _NUMBERS = "Q", "I"


class BytePairs:
    """A tokenizer from what `packed` made of it. Raises ValueError where the bytes are not whole."""

    def __init__(self, data: bytes) -> None:
        body = memoryview(data)[:-_DIGEST_BYTES]
        if hashlib.sha256(body).digest() != data[-_DIGEST_BYTES:]:
            raise ValueError("its digest is another")
        start = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
        head = json.loads(data[_LENGTH_BYTES:start])
        sections = {}
        for name, (kind, num_bytes) in head["sections"].items():
            start += -start % _ALIGNMENT_BYTES
            sections[name] = body[start : start + num_bytes].cast(kind)
            start += num_bytes
        self._pairs, self._ranks, self._merged = (sections[name] for name in ("pairs", "ranks", "merged"))
        self._starts, self._texts = sections["starts"], sections["texts"]
        self.size: int = len(self._starts) - 1
        self._described: dict[str, Any] = head["described"]
        self._added_ids: frozenset[int] = frozenset(head["added_ids"])
        self.special_ids = {str(token["content"]): int(token["id"]) for token in self._described["added_tokens"]}
        self._letters: dict[str, int] = head["letters"]
        frame = {**self._described, "added_tokens": [], "post_processor": None}
        self._frame = tokenizers.Tokenizer.from_str(json.dumps(frame))
        self._continuing, self.prefixes_after_control = without_leading_space(self._frame)

    def encode(self, text: str, *, goes_on: bool) -> list[int]:
        """Turn text into ids. goes_on: whether other text is before it."""
        frame = self._continuing if goes_on else self._frame
        if frame.normalizer is not None:
            text = frame.normalizer.normalize_str(text)
        return [number for word, _ in frame.pre_tokenizer.pre_tokenize_str(text) for number in self._merge(word)]

    def decode(self, ids: Sequence[int], *, skip_special: bool) -> str:
        """Turn ids into text, as far as they are known."""
        hidden = self.special_ids if skip_special else ()
        words = [self._word(number) for number in ids if 0 <= number < self.size]
        words = [word for word in words if word and word not in hidden]
        decoder = self._frame.decoder
        return " ".join(words) if decoder is None else str(decoder.decode(words))

    def to_json(self) -> str:
        """The text of a `tokenizer.json`."""
        vocabulary = {self._word(number): number for number in range(self.size) if number not in self._added_ids}
        vocabulary.pop("", None)  # an id that there is no word for
        merges = [
            (self._word(self._pairs[place] >> 32), self._word(self._pairs[place] & 0xFFFFFFFF))
            for place in sorted(range(len(self._pairs)), key=self._ranks.__getitem__)
        ]
        model = {**self._described["model"], "vocab": vocabulary, "merges": merges}
        backend = tokenizers.Tokenizer.from_str(json.dumps({**self._described, "model": model}))
        return str(backend.to_str(pretty=False))

    def _word(self, number: int) -> str:
        return str(self._texts[self._starts[number] : self._starts[number + 1]], "utf-8")

    def _merge(self, word: str) -> list[int]:
        """Merge letters to tokens: of all neighbours that can be merged the pair that was learnt first, the first such
        in the word, and so on."""
        numbers = [self._letters[letter] for letter in word]
        places = range(len(numbers))
        before, after = [place - 1 for place in places], [place + 1 for place in places]
        is_there = [True] * len(numbers)

        def consider(left: int, right: int) -> None:
            found = self._find(numbers[left], numbers[right])
            if found is not None:
                heapq.heappush(waiting, (self._ranks[found], left, right, found))

        waiting: list[tuple[int, int, int, int]] = []
        for place in places[1:]:
            consider(place - 1, place)
        while waiting:
            _, left, right, found = heapq.heappop(waiting)
            # One of the two may have become part of another pair, or not be a neighbour any more.
            if not (is_there[left] and is_there[right]) or self._find(numbers[left], numbers[right]) != found:
                continue
            numbers[left], is_there[right] = self._merged[found], False
            after[left] = after[right]
            if after[left] < len(numbers):
                before[after[left]] = left
                consider(left, after[left])
            if before[left] >= 0:
                consider(before[left], left)
        return [number for number, there in zip(numbers, is_there, strict=True) if there]

    def _find(self, left: int, right: int) -> int | None:
        """The place of a pair that can be merged."""
        pair = left << 32 | right
        place = bisect_left(self._pairs, pair)
        return place if place < len(self._pairs) and self._pairs[place] == pair else None


def packed(backend: tokenizers.Tokenizer) -> bytes | None:
    """The bytes of a tokenizer for `BytePairs`; None for one of another kind."""
    if not _is_plain(backend):
        return None
    described = json.loads(backend.to_str()) | {"truncation": None, "padding": None}
    model = described["model"]
    vocabulary: dict[str, int] = model["vocab"]
    special_ids = {token["content"]: token["id"] for token in described["added_tokens"]}
    words = [*vocabulary.items(), *special_ids.items()]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    has_gaps = max(number for _, number in words) > _MOST_IDS_PER_WORD * len(words)
    if has_gaps or not vocabulary.keys() >= {*alphabet}:
        return None
    head = {
        "described": described | {"model": model | {"vocab": {}, "merges": []}},
        "added_ids": sorted({*special_ids.values()} - {*vocabulary.values()}),
        "letters": {letter: vocabulary[letter] for letter in alphabet},
    }
    return _with_sections(head, _merges(model) | _texts(words))


def _is_plain(backend: tokenizers.Tokenizer) -> bool:
    """Whether letters that stand for bytes are merged, and nothing else is done."""
    model, added = backend.model, backend.get_added_tokens_decoder().values()
    return (
        isinstance(model, tokenizers.models.BPE)
        and not (model.dropout or model.unk_token or model.continuing_subword_prefix or model.end_of_word_suffix)
        and not (model.byte_fallback or model.ignore_merges)
        # What a normaliser may change is known by another text than the one that it is called by.
        and all(token.special and not (token.normalized and backend.normalizer) for token in added)
        and is_byte_level(backend)
    )


def _merges(model: Mapping[str, Any]) -> dict[str, tuple[str, bytes]]:
    vocabulary: Mapping[str, int] = model["vocab"]
    halves = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    numbers = np.array([(vocabulary[left], vocabulary[right], vocabulary[left + right]) for left, right in halves])
    numbers = numbers.astype(np.uint64).reshape(-1, 3)
    pairs = numbers[:, 0] << np.uint64(32) | numbers[:, 1]
    # Of a pair that is there twice the library takes the last: in reverse, the first.
    pairs, places = np.unique(pairs[::-1], return_index=True)
    ranks = len(numbers) - 1 - places
    return {
        "pairs": (_PAIRS, pairs.tobytes()),
        "ranks": (_NUMBERS, ranks.astype(np.uint32).tobytes()),
        "merged": (_NUMBERS, numbers[ranks, 2].astype(np.uint32).tobytes()),
    }


def _texts(words: Sequence[tuple[str, int]]) -> dict[str, tuple[str, bytes]]:
    texts = [b""] * (1 + max(number for _, number in words))
    for text, number in words:
        texts[number] = text.encode()
    starts = np.cumsum([0, *map(len, texts)])
    return {"starts": (_NUMBERS, starts.astype(np.uint32).tobytes()), "texts": ("B", b"".join(texts))}


def _with_sections(head: Mapping[str, Any], sections: Mapping[str, tuple[str, bytes]]) -> bytes:
    written = json.dumps({**head, "sections": {name: (kind, len(data)) for name, (kind, data) in sections.items()}})
    parts = [len(written.encode()).to_bytes(_LENGTH_BYTES, "little"), written.encode()]
    for _, data in sections.values():
        parts += [bytes(-sum(map(len, parts)) % _ALIGNMENT_BYTES), data]
    body = b"".join(parts)
    return body + hashlib.sha256(body).digest()
