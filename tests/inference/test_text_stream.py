"""Text comes in whole characters, loses nothing, and ends before a stop string wherever the tokens are cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from fastvlm.inference.text_stream import REPLACEMENT, TextStream

Decode = Callable[[Sequence[int]], str]


def pieces_of(decode: Decode, token_ids: Sequence[int], stop: Sequence[str] = ()) -> list[str]:
    stream = TextStream(decode, stop=stop)
    pieces = []
    for token_id in token_ids:
        pieces.append(stream.push(token_id))
        if stream.is_stopped:
            return pieces
    return [*pieces, stream.finish()]


def split_bytes(text: str, cuts: Sequence[int]) -> tuple[list[bytes], Decode]:
    """Cut the UTF-8 bytes of a text at any place, also inside a character; token k is the k-th piece."""
    data = text.encode()
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    tokens = [data[start:end] for start, end in pairwise(places)]
    return tokens, lambda ids: b"".join(tokens[token_id] for token_id in ids).decode("utf-8", "replace")


unicode_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
cuts = st.lists(st.integers(min_value=0, max_value=400), max_size=120)


@given(text=unicode_text, cuts=cuts)
def test_pieces_join_to_the_whole_and_never_show_half_a_character(text: str, cuts: list[int]) -> None:
    tokens, decode = split_bytes(text, cuts)
    pieces = pieces_of(decode, range(len(tokens)))
    assert "".join(pieces) == text
    assert sum(piece.count(REPLACEMENT) for piece in pieces) == text.count(REPLACEMENT)


@given(data=st.binary(max_size=60))
def test_bytes_that_are_no_text_equal_the_whole_decode(data: bytes) -> None:
    def decode(ids: Sequence[int]) -> str:
        return bytes(ids).decode("utf-8", "replace")

    assert "".join(pieces_of(decode, data)) == decode(data)


@given(
    text=st.text("abc€", max_size=40),
    stop=st.lists(st.text("abc€", min_size=1, max_size=4), min_size=1, max_size=3),
    cuts=cuts,
)
def test_stop_strings_cut_alike_however_the_tokens_are_split(text: str, stop: list[str], cuts: list[int]) -> None:
    ends = [(text.find(word) + len(word), text.find(word)) for word in stop if word in text]
    expected = text[: min(ends)[1]] if ends else text
    tokens, decode = split_bytes(text, cuts)
    assert "".join(pieces_of(decode, range(len(tokens)), stop)) == expected


def test_a_stop_string_is_held_back_from_its_first_character() -> None:
    words = ["One", " tw", "o. E", "N", "D and more"]
    decode = lambda ids: "".join(words[token_id] for token_id in ids)  # noqa: E731
    assert pieces_of(decode, range(5), ["END"]) == ["One", " tw", "o. ", "", ""]
    assert pieces_of(decode, range(4), ["END"]) == ["One", " tw", "o. ", "", "EN"]


SAMPLE = (
    "Three red circles – naïve façade, 大きな赤い円が三つあります。 Ευχαριστώ! 👩‍👩‍👧 🇯🇵 "
    "and words   with  spaces\n\nand lines. " * 6
)


@pytest.mark.parametrize("text", [SAMPLE, " leading space", "x" * 300, "😀" * 40])
def test_byte_level_tokenizer_streams_its_own_decoding(text: str) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(["three red circles and words"], trainer)
    ids = tokenizer.encode(text).ids
    pieces = pieces_of(tokenizer.decode, ids)
    assert "".join(pieces) == tokenizer.decode(ids) == text
    assert not any(REPLACEMENT in piece for piece in pieces)


@pytest.mark.parametrize("text", ["Hello brave new world €5 😀 and on " * 10, "😀€" * 30])
def test_sentencepiece_decoder_keeps_its_spaces_and_its_byte_tokens(text: str) -> None:
    """Llama's decoder drops the first space of what it decodes, so a window must not lose one between words."""
    words = ["▁Hello", "▁brave", "▁new", "▁world", "▁", "5", "▁and", "▁on"]
    vocabulary = {word: index for index, word in enumerate(words)}
    vocabulary.update({f"<0x{byte:02X}>": len(words) + byte for byte in range(256)})
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    ids: list[int] = []
    rest = ("▁" + text.replace(" ", "▁")).rstrip("▁")
    while rest:
        word = max((word for word in words if rest.startswith(word)), key=len, default="")
        ids += [vocabulary[word]] if word else [vocabulary[f"<0x{byte:02X}>"] for byte in rest[0].encode()]
        rest = rest[max(len(word), 1) :]
    pieces = pieces_of(tokenizer.decode, ids)
    assert "".join(pieces) == tokenizer.decode(ids) == text.rstrip()
    assert not any(REPLACEMENT in piece for piece in pieces)


def test_long_answers_decode_a_window_and_not_everything_again() -> None:
    longest = 0

    def decode(ids: Sequence[int]) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return "".join(chr(97 + token_id % 26) for token_id in ids)

    pieces = pieces_of(decode, range(2000))
    assert "".join(pieces) == decode(range(2000)) and longest == 2000
    longest = 0
    pieces_of(decode, range(2000))
    assert longest <= 40
