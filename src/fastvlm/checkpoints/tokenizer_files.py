"""The tokenizer's files as other programs expect them beside `tokenizer.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fastvlm.checkpoints.config import ModelConfig
from fastvlm.checkpoints.convert.transformers_config import IMAGE_TOKEN
from fastvlm.processing.tokenizer import Tokenizer


@dataclass(frozen=True)
class ImageToken:
    """The token that stands for one visual token in transformers' prompts."""

    text: str
    number: int


def with_image_token(tokenizer: Tokenizer) -> tuple[Tokenizer, ImageToken]:
    """Return a tokenizer that knows the image token, and the token's id: its own, or the first free one."""
    known = tokenizer.special_token_ids
    if IMAGE_TOKEN in known:
        return tokenizer, ImageToken(IMAGE_TOKEN, known[IMAGE_TOKEN])
    number = tokenizer.vocabulary_size
    description = json.loads(tokenizer.to_json())
    description["added_tokens"].append(_added_token(IMAGE_TOKEN, number))
    return Tokenizer.from_json(json.dumps(description)), ImageToken(IMAGE_TOKEN, number)


def tokenizer_files(tokenizer: Tokenizer, config: ModelConfig, *, image_token: ImageToken | None) -> dict[str, str]:
    """Describe the special tokens, and for the authors' loader the vocabulary too.

    The authors' own program does not read `tokenizer.json` but Qwen2's `vocab.json` and `merges.txt`.
    """
    vocabulary = _vocabulary_files(tokenizer) if image_token is None and config.vlm.decoder.has_attention_bias else {}
    settings = _settings(tokenizer, config, image_token=image_token)
    settings["tokenizer_class"] = "Qwen2Tokenizer" if vocabulary else "PreTrainedTokenizerFast"
    return vocabulary | {"tokenizer_config.json": json_text(settings)}


def json_text(value: Any) -> str:
    """Write JSON as the hub's files have it."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _settings(tokenizer: Tokenizer, config: ModelConfig, *, image_token: ImageToken | None) -> dict[str, Any]:
    texts = {number: token for token, number in tokenizer.special_token_ids.items()}
    ends = [texts[number] for number in config.eos_token_ids if number in texts]
    settings: dict[str, Any] = {
        "added_tokens_decoder": {
            str(number): {key: value for key, value in _added_token(token, number).items() if key != "id"}
            for number, token in sorted(texts.items())
        },
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": texts.get(config.bos_token_id) if config.bos_token_id is not None else None,
        "clean_up_tokenization_spaces": False,
        "eos_token": ends[0] if ends else None,
        "model_max_length": config.vlm.decoder.max_positions,
        "pad_token": ends[-1] if ends else None,
        "padding_side": "left" if image_token is not None else "right",
    }
    if image_token is not None:
        settings |= {"image_token": image_token.text, "processor_class": "LlavaProcessor"}
        settings["extra_special_tokens"] = {"image_token": image_token.text}
    return settings


def _vocabulary_files(tokenizer: Tokenizer) -> dict[str, str]:
    model = json.loads(tokenizer.to_json())["model"]
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        return {}
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    return {
        "vocab.json": json.dumps(model["vocab"], ensure_ascii=False),
        "merges.txt": "#version: 0.2\n" + "".join(f"{pair}\n" for pair in merges),
        "added_tokens.json": json_text(dict(tokenizer.special_token_ids)),
    }


def _added_token(text: str, number: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": text, **flags, "special": True}
