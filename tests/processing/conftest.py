"""Small tokenizers of both kinds, trained in a moment: byte-level as Qwen2's, and with spaces as letters as Llama's."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from fastvlm.processing.tokenizer import Tokenizer, train_byte_level_bpe

SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>",
)  # fmt: skip
TEXTS = (
    "system\nYou are a helpful assistant.",
    "user\nWhat colour is the car? How many stars are there? Describe the image.",
    "assistant\nRed. There are 12 stars and 3 circles. A green square is left of a blue triangle.",
    "A chat between a curious user and an artificial intelligence assistant. USER: hello ASSISTANT: yes",
)
LLAMA_TEXTS = ("ASSISTANT: Red. The car is red.", "USER: What colour is the car?", " Red", "Describe the image.") * 5


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_byte_level_bpe(TEXTS * 3, vocabulary_size=403, special_tokens=SPECIAL_TOKENS)


@pytest.fixture(scope="session")
def llama_like() -> Callable[[str], tokenizers.Tokenizer]:
    return build_llama_like


def build_llama_like(space: str) -> tokenizers.Tokenizer:
    """A Llama-like tokenizer: spaces are letters, and one is put before the first word in the way of `space`."""
    backend = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    if space == "prepend":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=space, split=False)
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1, right=0),
        ]
    )
    bytes_of_fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<unk>", "<s>", "</s>", *bytes_of_fallback], show_progress=False
    )
    backend.train_from_iterator([word for text in LLAMA_TEXTS for word in text.split()], trainer)
    described = json.loads(backend.to_str())
    described["added_tokens"] = [token for token in described["added_tokens"] if not token["content"].startswith("<0x")]
    described["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    return tokenizers.Tokenizer.from_str(json.dumps(described))
