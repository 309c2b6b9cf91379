"""A tokenizer that is read from the cache is the library's, word for word."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from fastvlm.checkpoints.hub import resolve
from fastvlm.checkpoints.stored import read_checkpoint
from fastvlm.errors import CheckpointError, PromptError
from fastvlm.machine import cache_folder_if_any
from fastvlm.processing import tokenizer as tokenizer_module
from fastvlm.processing.byte_pairs import BytePairs, packed
from fastvlm.processing.tokenizer import Tokenizer

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def of_random_pairs(seed: int, *, prefix_space: bool = False, normalizer: object = None) -> tokenizers.Tokenizer:
    """A tokenizer that nobody trained: pairs in any order, some twice, some of what no pair makes earlier."""
    random_numbers = random.Random(seed)
    words, merges = [*ALPHABET], []
    letters = [*random_numbers.sample(ALPHABET, 6), *"abĠĊ"]
    for _ in range(300):
        left, right = (random_numbers.choice([*letters, *words[256:]]) for _ in range(2))
        if len(left + right) <= 9:
            merges.append((left, right))
            if left + right not in words:
                words.append(left + right)
    random_numbers.shuffle(merges)
    # The library gives special tokens the next ids after as many as there are words.
    reserved = range(len(words), len(words) + len(SPECIAL_TOKENS))
    numbers = random_numbers.sample([number for number in range(1000) if number not in reserved], len(words))
    backend = tokenizers.Tokenizer(models.BPE(dict(zip(words, numbers, strict=True)), merges))
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel()
    backend.enable_truncation(3)
    backend.enable_padding(length=50)
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return backend


def both(backend: tokenizers.Tokenizer) -> tuple[Tokenizer, Tokenizer]:
    data = packed(backend)
    assert data is not None
    return Tokenizer(BytePairs(data)), Tokenizer(backend)


KINDS = [
    both(of_random_pairs(1)),
    both(of_random_pairs(2, prefix_space=True)),
    both(of_random_pairs(3, normalizer=normalizers.NFC())),
]


@settings(max_examples=300, deadline=None)
@given(
    text=st.one_of(st.text(max_size=60), st.text(alphabet="ab \n", max_size=200), st.sampled_from(SPECIAL_TOKENS)),
    kind=st.sampled_from(range(len(KINDS))),
    position=st.sampled_from(["start", "after_control", "after_text"]),
)
def test_every_text_has_the_ids_of_the_library(text: str, kind: int, position: str) -> None:
    ours, librarys = KINDS[kind]
    ids = ours.encode(text, position=position)
    assert ids == librarys.encode(text, position=position)
    assert ours.decode(ids) == librarys.decode(ids)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), text=st.text(alphabet="ab ", max_size=100))
def test_pairs_in_any_order_are_merged_as_the_library_does(seed: int, text: str) -> None:
    ours, librarys = both(of_random_pairs(seed))
    assert ours.encode(text) == librarys.encode(text)


def test_a_long_word_does_not_take_for_ever() -> None:
    ours, librarys = KINDS[0]
    text = "ab" * 50_000
    assert ours.encode(text) == librarys.encode(text)


@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.integers(0, 1200), max_size=20), skip_special=st.booleans())
def test_any_ids_have_the_text_of_the_library(ids: list[int], skip_special: bool) -> None:
    for ours, librarys in KINDS:
        known = [number for number in ids if number < ours.vocabulary_size]
        assert ours.decode(known, skip_special=skip_special) == librarys.decode(known, skip_special=skip_special)
    assert ours.decode([-1, 5_000_000]) == ""


def test_everything_else_is_the_same_too() -> None:
    for ours, librarys in KINDS:
        assert ours.vocabulary_size == librarys.vocabulary_size
        assert dict(ours.special_token_ids) == dict(librarys.special_token_ids) and ours.token_id("<|im_end|>") > 0
        assert ours.to_json() == librarys.to_json()
        with pytest.raises(PromptError, match="valid Unicode"):
            ours.encode("a\ud800b")
        with pytest.raises(CheckpointError, match="special token"):
            ours.token_id("<|nope|>")
        assert pickle.loads(pickle.dumps(ours)).encode("a b") == librarys.encode("a b")


def test_a_special_token_with_an_id_beside_that_of_its_word() -> None:
    backend = of_random_pairs(4)
    described = json.loads(backend.to_str())
    described["model"]["vocab"]["<|im_end|>"] = 2000
    described["added_tokens"][-1]["id"] = 2000
    ours, librarys = both(tokenizers.Tokenizer.from_str(json.dumps(described)))
    assert ours.token_id("<|im_end|>") == librarys.token_id("<|im_end|>")
    assert ours.decode([2000], skip_special=False) == librarys.decode([2000], skip_special=False)
    assert ours.encode("<|im_end|>") == librarys.encode("<|im_end|>")


@pytest.fixture
def small_ones_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_module, "_SMALLEST_KEPT_BYTES", 0)


def _kind(tokenizer: Tokenizer) -> str:
    return type(tokenizer._backend).__name__


def test_a_tokenizer_of_many_words_is_kept_where_its_file_is_whole(
    tmp_path: Path, small_ones_are_kept: None, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tokenizer.json").write_text(of_random_pairs(1).to_str())
    cache = tmp_path / "cache"
    expected = KINDS[0][1].encode("abba ab")

    def read() -> str:
        tokenizer = Tokenizer.from_folder(tmp_path, cache_folder=cache)
        assert tokenizer.encode("abba ab") == expected and tokenizer.to_json() == KINDS[0][1].to_json()
        return _kind(tokenizer)

    assert [read(), read()] == ["_Library", "BytePairs"]
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for damaged in (b"", whole[:-1], whole[:middle], flipped):
        kept.write_bytes(damaged)
        assert [read(), read()] == ["_Library", "BytePairs"] and kept.read_bytes() == whole
    tokenizer = Tokenizer.from_folder(tmp_path, cache_folder=cache)
    (tmp_path / "tokenizer.json").write_text(of_random_pairs(2).to_str())
    assert tokenizer.to_json() == KINDS[0][1].to_json(), "it is what it was when it was read"
    assert Tokenizer.from_folder(tmp_path, cache_folder=cache).to_json() != tokenizer.to_json(), "another file"
    assert not caplog.records


def test_qwen2s_files_are_kept_too(tmp_path: Path, small_ones_are_kept: None) -> None:
    model = json.loads(of_random_pairs(1).to_str())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{' '.join(pair)}\n" for pair in model["merges"]))
    first, second = (Tokenizer.from_folder(tmp_path, cache_folder=tmp_path / "cache") for _ in range(2))
    assert (_kind(first), _kind(second)) == ("_Library", "BytePairs")
    assert first.encode("It's abba. \n\n 12") == second.encode("It's abba. \n\n 12")
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<|im_end|>": 1500}))
    with pytest.raises(CheckpointError, match="at id 1500"):
        Tokenizer.from_folder(tmp_path, cache_folder=tmp_path / "cache")


def test_small_tokenizers_and_other_kinds_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, llama_like: Callable[[str], tokenizers.Tokenizer]
) -> None:
    def read(backend: tokenizers.Tokenizer) -> Tokenizer:
        (tmp_path / "tokenizer.json").write_text(backend.to_str())
        return Tokenizer.from_folder(tmp_path, cache_folder=tmp_path / "cache")

    read(of_random_pairs(1))
    monkeypatch.setattr(tokenizer_module, "_SMALLEST_KEPT_BYTES", 0)
    visible, words = of_random_pairs(1), tokenizers.Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    visible.add_tokens(["abba"])
    without_a_byte = tokenizers.Tokenizer(
        models.BPE({letter: number for number, letter in enumerate(ALPHABET[1:])}, [])
    )
    without_a_byte.pre_tokenizer = pre_tokenizers.ByteLevel()
    no_bytes = of_random_pairs(1)
    no_bytes.pre_tokenizer = pre_tokenizers.Whitespace()
    whole_words = of_random_pairs(1)
    whole_words.model.ignore_merges = True
    spaced, renamed = of_random_pairs(1), of_random_pairs(1, normalizer=normalizers.Lowercase())
    spaced.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="first"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    renamed.add_special_tokens([AddedToken("[END]", special=True, normalized=True)])
    with_gaps = json.loads(of_random_pairs(1).to_str())
    with_gaps["model"]["vocab"]["bb"] = 30_000_000
    far = tokenizers.Tokenizer.from_str(json.dumps(with_gaps))
    kinds = (llama_like("prepend"), visible, words, without_a_byte, no_bytes, whole_words, spaced, renamed, far)
    for backend in kinds:
        read(backend)
    assert not (tmp_path / "cache").exists()
    assert read(visible).encode("abba") == [visible.token_to_id("abba")]


def test_a_cache_that_cannot_be_written_to_is_told_of(
    tmp_path: Path, small_ones_are_kept: None, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tokenizer.json").write_text(of_random_pairs(1).to_str())
    (tmp_path / "cache").write_text("a file")
    assert _kind(Tokenizer.from_folder(tmp_path, cache_folder=tmp_path / "cache")) == "_Library"
    assert "Cannot keep a tokenizer" in caplog.text and "FASTVLM_CACHE" in caplog.text


def test_a_checkpoint_is_read_without_a_home_folder_and_described_without_a_trace(
    tmp_path: Path, small_ones_are_kept: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = resolve(None)
    monkeypatch.setenv("FASTVLM_CACHE", str(tmp_path / "cache"))
    read_checkpoint(folder, only_described=True)
    assert not (tmp_path / "cache").exists()
    read_checkpoint(folder)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".blob"]

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for variable in ("FASTVLM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert read_checkpoint(folder).tokenizer.encode("a") and cache_folder_if_any() is None
