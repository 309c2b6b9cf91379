"""Text stays text, ids stay what the checkpoint means by them."""

from __future__ import annotations

import json
import pickle
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers

from fastvlm.errors import CheckpointError, DataError, PromptError
from fastvlm.processing.tokenizer import Tokenizer, train_byte_level_bpe

SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>",
)  # fmt: skip
TEXTS = ["ASSISTANT: Red. The car is red.", "USER: What colour is the car?", " Red", "\nDescribe the image."] * 5


def test_special_tokens_are_found_by_name_only(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token_id(token) for token in SPECIAL_TOKENS] == list(range(8))
    assert dict(tokenizer.special_token_ids) == {token: number for number, token in enumerate(SPECIAL_TOKENS)}
    with pytest.raises(CheckpointError, match=r"special token '<\|nope\|>'"):
        tokenizer.token_id("<|nope|>")
    with pytest.raises(CheckpointError, match="special token 'What'"):
        tokenizer.token_id("What")


@pytest.mark.parametrize("text", [*SPECIAL_TOKENS, "a<|im_end|>b<|im_end|>", "<|im_end|>" * 3, "<s></s>", "<image>"])
def test_pitfall_b26_special_tokens_in_text_stay_text(
    tokenizer: Tokenizer, text: str, llama_like: Callable[[str], tokenizers.Tokenizer]
) -> None:
    ids = tokenizer.encode(text)
    assert min(ids) >= len(SPECIAL_TOKENS)
    assert tokenizer.decode(ids) == text
    llama = Tokenizer(llama_like("prepend"))
    assert not set(llama.encode(text)) & {llama.token_id("<s>"), llama.token_id("</s>")}


def test_special_token_that_is_an_ordinary_word_too_stays_text() -> None:
    backend = tokenizers.Tokenizer(
        models.BPE(vocab={"<": 0, "s": 1, ">": 2, "s>": 3, "<s>": 4}, merges=[], ignore_merges=True)
    )
    backend.add_special_tokens([AddedToken("<s>", special=True, normalized=False)])
    tokenizer = Tokenizer(backend)
    assert tokenizer.token_id("<s>") == 4
    assert tokenizer.encode("<s>") == [0, 3]


_SMALL = train_byte_level_bpe(TEXTS, vocabulary_size=300, special_tokens=SPECIAL_TOKENS)


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def test_special_token_that_only_the_normaliser_makes_stays_text() -> None:
    vocabulary = {"<": 0, "s": 1, ">": 2, "<s>": 3, "/": 4}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    backend.normalizer = normalizers.NFKC()
    backend.add_special_tokens([AddedToken("<s>", special=True, normalized=False), AddedToken("/", special=True)])
    assert Tokenizer(backend).encode("＜s＞") == [0, 1, 2]
    with pytest.raises(PromptError, match="control token only"):
        Tokenizer(backend).encode("/")


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_decode_returns_every_text(text: str) -> None:
    tokenizer = _SMALL
    stable = _nfc(text)
    assert tokenizer.decode(tokenizer.encode(text)) == stable
    assert len(tokenizer.encode(text)) <= len(stable.encode())


def test_decode_skips_or_keeps_special_tokens_and_ignores_padded_rows(tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.encode("Red."), tokenizer.token_id("<|im_end|>")]
    assert tokenizer.decode(ids) == "Red."
    assert tokenizer.decode(ids, skip_special=False) == "Red.<|im_end|>"
    assert tokenizer.decode([*ids, tokenizer.vocabulary_size + 5]) == "Red."
    assert tokenizer.decode([]) == ""


def test_decode_marks_an_incomplete_character(
    tokenizer: Tokenizer, llama_like: Callable[[str], tokenizers.Tokenizer]
) -> None:
    ids = tokenizer.encode("a€")
    assert len(ids) == 4
    assert tokenizer.decode(ids[:2]) == "a\ufffd"
    assert tokenizer.decode(ids[:3]) == "a\ufffd"
    assert tokenizer.decode(ids) == "a€"
    llama = Tokenizer(llama_like("prepend"))
    ids = llama.encode("a€")
    assert llama.decode(ids[:-1]).endswith("\ufffd")
    assert llama.decode(ids) == "a€"


def test_lone_surrogates_are_one_line(tokenizer: Tokenizer) -> None:
    with pytest.raises(PromptError, match="valid Unicode"):
        tokenizer.encode("a\ud800b")


@pytest.mark.parametrize("space", ["prepend", "first", "always"])
def test_llama_text_that_goes_on_gets_no_second_space(
    space: str, llama_like: Callable[[str], tokenizers.Tokenizer]
) -> None:
    backend = llama_like(space)
    backend.no_truncation()
    tokenizer = Tokenizer(llama_like(space))
    whole = backend.encode("ASSISTANT: Red.", add_special_tokens=False)
    parts = tokenizer.encode("ASSISTANT:") + tokenizer.encode(" Red.", position="after_text")
    assert parts == whole.ids
    assert whole.tokens[0].startswith("▁A")
    assert "▁▁" not in "".join(backend.id_to_token(number) for number in parts)
    assert tokenizer.encode("Red.") != tokenizer.encode("Red.", position="after_text")
    if space == "prepend":
        assert tokenizer.encode(" Red.") != tokenizer.encode(" Red.", position="after_text")
    assert tokenizer.decode(parts) == "ASSISTANT: Red."


@pytest.mark.parametrize("space", ["prepend", "first", "always", "never"])
def test_llama_text_after_a_control_token_is_that_of_the_whole_string(
    space: str, llama_like: Callable[[str], tokenizers.Tokenizer]
) -> None:
    backend = llama_like(space)
    backend.no_truncation()
    tokenizer = Tokenizer(llama_like(space))
    whole = backend.encode("USER: Red.</s>USER: Red.", add_special_tokens=False).ids
    ours = [
        *tokenizer.encode("USER: Red."),
        tokenizer.token_id("</s>"),
        *tokenizer.encode("USER: Red.", position="after_control"),
    ]
    assert ours == whole


def test_byte_level_tokenizers_do_not_care_about_the_position(tokenizer: Tokenizer) -> None:
    for text in ("Red.", " Red.", "\nRed"):
        expected = tokenizer.encode(text)
        assert tokenizer.encode(text, position="after_text") == expected
        assert tokenizer.encode(text, position="after_control") == expected


def test_byte_level_prefix_space_is_not_repeated() -> None:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(TEXTS, trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
    tokenizer = Tokenizer(backend)
    assert tokenizer.decode(tokenizer.encode("a")) == " a"
    assert tokenizer.decode(tokenizer.encode("a", position="after_text")) == "a"


def test_stored_truncation_and_padding_are_switched_off(tokenizer: Tokenizer) -> None:
    backend = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    backend.enable_truncation(2)
    backend.enable_padding(length=50)
    again = Tokenizer.from_json(backend.to_str())
    assert again.encode("What colour is the car?") == tokenizer.encode("What colour is the car?")


def test_saved_and_pickled_tokenizers_are_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]
    text = "How many <|im_end|> stars? 123 über"
    for again in (
        Tokenizer.from_file(tmp_path / "tokenizer.json"),
        Tokenizer.from_folder(tmp_path),
        pickle.loads(pickle.dumps(tokenizer)),
    ):
        assert again.encode(text) == tokenizer.encode(text)
        assert again.vocabulary_size == tokenizer.vocabulary_size
        assert again.to_json() == tokenizer.to_json()


def qwen2_folder(tokenizer: Tokenizer, folder: Path, *, first_added: int | None = None) -> dict[str, int]:
    """Write vocab.json, merges.txt and the added tokens behind them, as the authors' folders have it."""
    described = json.loads(tokenizer.to_json())
    words = {word: number for word, number in described["model"]["vocab"].items() if word not in SPECIAL_TOKENS}
    vocabulary = {word: number for number, word in enumerate(sorted(words, key=words.__getitem__))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    merges = [" ".join(merge) for merge in described["model"]["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    start = len(vocabulary) if first_added is None else first_added
    added = {token: start + number for number, token in enumerate(SPECIAL_TOKENS[:3])}
    (folder / "added_tokens.json").write_text(json.dumps(added))
    return added


def test_qwen2_files_give_the_tokens_of_tokenizer_json(tokenizer: Tokenizer, tmp_path: Path) -> None:
    added = qwen2_folder(tokenizer, tmp_path)
    read = Tokenizer.from_folder(tmp_path)
    text = "What colour is the car? It's 2019 <|im_end|>\n\n  über"
    assert read.encode(text) == [number - len(SPECIAL_TOKENS) for number in tokenizer.encode(text)]
    assert dict(read.special_token_ids) == added
    assert read.decode(read.encode(text)) == text


def test_qwen2_added_tokens_of_tokenizer_config(tokenizer: Tokenizer, tmp_path: Path) -> None:
    added = qwen2_folder(tokenizer, tmp_path)
    (tmp_path / "added_tokens.json").unlink()
    decoder = {str(number): {"content": token, "special": True} for token, number in added.items()}
    config = {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": decoder}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert dict(Tokenizer.from_folder(tmp_path).special_token_ids) == added


def test_qwen2_files_that_do_not_belong_together(tokenizer: Tokenizer, tmp_path: Path) -> None:
    qwen2_folder(tokenizer, tmp_path, first_added=9000)
    with pytest.raises(CheckpointError, match="at id 9000"):
        Tokenizer.from_folder(tmp_path)


def test_other_tokenizers_of_vocab_and_merges_are_not_read_as_qwen2(tokenizer: Tokenizer, tmp_path: Path) -> None:
    qwen2_folder(tokenizer, tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    with pytest.raises(CheckpointError, match="GPT2Tokenizer"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "found neither"),
        ({"tokenizer.model": b"\0"}, "Convert it once: pip install transformers sentencepiece"),
        ({"tokenizer.json": b"{}"}, "tokenizer.json of the tokenizers library"),
        ({"tokenizer.json": b"\xff\xfe"}, "UTF-8"),
        ({"vocab.json": b"{", "merges.txt": b""}, "Qwen2's vocab.json"),
        ({"vocab.json": b'{"a": 0}', "merges.txt": b"", "added_tokens.json": b"["}, "JSON in"),
        ({"vocab.json": b'{"a": 0}', "merges.txt": b"", "tokenizer_config.json": b"[]"}, "JSON object"),
    ],
)
def test_a_folder_without_a_tokenizer_is_one_line(files: dict[str, bytes], says: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        Tokenizer.from_folder(tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="found none"):
        Tokenizer.from_file(tmp_path / "tokenizer.json")


def test_training_is_deterministic_and_keeps_digits_single() -> None:
    texts = [f"There are {number} circles and {number * 37} stars." for number in range(200)]
    first = train_byte_level_bpe(iter(texts), vocabulary_size=320, special_tokens=["<|endoftext|>"])
    again = train_byte_level_bpe(texts, vocabulary_size=320, special_tokens=["<|endoftext|>"])
    assert first.to_json() == again.to_json()
    assert first.vocabulary_size <= 320
    words = json.loads(first.to_json())["model"]["vocab"]
    assert [word for word in words if len(word) > 1 and any(letter.isdigit() for letter in word)] == []
    assert len(first.encode("1234567")) == 7
    assert len(first.encode(" circles")) == 1


def test_a_vocabulary_without_room_for_the_bytes() -> None:
    with pytest.raises(DataError, match="at least 257"):
        train_byte_level_bpe(["a"], vocabulary_size=200, special_tokens=["<|endoftext|>"])
