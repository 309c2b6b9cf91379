"""A vision-language model from its parts: a language model, an encoder, and a projector with fresh weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fastvlm.checkpoints.arrays import Weights
from fastvlm.checkpoints.config import CONFIG_FILE, ModelConfig
from fastvlm.checkpoints.convert.decoder import decoder_names, read_decoder
from fastvlm.checkpoints.convert.foreign import HEAD_NAME, TABLE_NAME, is_tied
from fastvlm.checkpoints.hub import resolve
from fastvlm.checkpoints.load import load_checkpoint
from fastvlm.checkpoints.names import NameTable, names
from fastvlm.checkpoints.save import save_checkpoint
from fastvlm.checkpoints.tensors import FLOAT_DTYPES, StoredTensor, read_json, read_tensors, some
from fastvlm.checkpoints.tower import is_tower, load_tower
from fastvlm.errors import CheckpointError, one_line
from fastvlm.files import new_folder
from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.vision.config import PRESETS
from fastvlm.models.vision.fastvithd import FastViTHD
from fastvlm.models.vlm import FastVLM
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tokenizer import Tokenizer

PARTS_FILE = "parts.json"
"""What a checkpoint was put together from."""

_LANGUAGE_TABLE = NameTable(
    (*decoder_names("model"), *names(("decoder.head", "lm_head"))),
    ignored=("model.layers.{i}.self_attn.rotary_emb.inv_freq",),
)
_TEMPLATES = {"qwen2": "qwen_2", "llama": "v1"}
"""How each kind of language model is talked to, as in LLaVA and FastVLM."""


def assemble(folder: Path, *, decoder: str | Path, tower: Path | None, size_px: int, seed: int = 0) -> Path:
    """Write a new checkpoint from a Qwen2 or Llama folder (transformers' layout) and an encoder; returns its folder.

    tower: what `recipes.pretrain` wrote, or a checkpoint of a vision-language model whose encoder is taken; None gives
    FastViTHD fresh weights, which nobody gets without asking (pitfall B4). size_px: side of the pictures.
    Raises CheckpointError for parts that cannot be read.
    """
    parts = {"decoder": str(decoder), "tower": None if tower is None else str(tower), "size_px": size_px, "seed": seed}
    if folder.is_dir():
        if read_json(folder / PARTS_FILE) != parts:
            raise CheckpointError(
                f"Expected the parts that {folder} was made of, got others. Give the same, or another output folder."
            )
        return folder
    source = resolve(decoder)
    config, tensors = _read_language(source)
    torch.manual_seed(seed)
    vision, processing = _vision(tower, size_px=size_px)
    model = FastVLM(VLMConfig(vision=vision.config, decoder=config))
    model.vision = vision
    expected = {name: tuple(value.shape) for name, value in model.decoder.state_dict().items()}
    got = {name: tuple(value.shape) for name, value in tensors.items()}
    if got != expected:
        wrong = sorted(name for name in got.keys() | expected.keys() if got.get(name) != expected.get(name))
        raise CheckpointError(f"Expected the weights of a whole language model in {source}, wrong: {some(wrong)}.")
    model.decoder.load_state_dict(tensors)
    tokenizer = Tokenizer.from_folder(source)
    template = TEMPLATES[_TEMPLATES[_kind(source)]]
    about = ModelConfig(
        name=folder.name,
        vlm=model.config,
        processing=processing,
        template=template,
        eos_token_ids=tuple(tokenizer.token_id(token) for token in template.stop_tokens[:1]),
    )
    try:
        with new_folder(folder) as target:
            save_checkpoint(target, model, about, tokenizer, dtype=None)
            (target / PARTS_FILE).write_text(json.dumps(parts, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"Cannot write {folder}: {one_line(error)}. Free some space.") from error
    return folder


def _kind(folder: Path) -> str:
    kind = read_json(folder / CONFIG_FILE).get("model_type")
    if kind not in _TEMPLATES:
        raise CheckpointError(
            f"Expected a language model of {', '.join(_TEMPLATES)} in {folder}, got {kind!r}. Choose another one."
        )
    return str(kind)


def _read_language(folder: Path) -> tuple[DecoderConfig, dict[str, Tensor]]:
    """The shape and the tensors of a language model by our names, in float32, without the decoder's prefix."""
    kind, where = _kind(folder), str(folder / CONFIG_FILE)
    raw = read_json(folder / CONFIG_FILE)
    stored: dict[str, StoredTensor] = {}
    for name, tensor in read_tensors(folder).items():
        ours = _LANGUAGE_TABLE.to_ours(name)
        if ours is None and not _LANGUAGE_TABLE.is_ignored(name):
            raise CheckpointError(f"Expected only tensors of {kind} in {folder}, got {name}.")
        if ours is not None and tensor.dtype not in FLOAT_DTYPES:
            raise CheckpointError(f"Expected unquantised weights in {folder}, got {tensor.dtype} in {name}.")
        if ours is not None:
            stored[ours] = tensor
    if TABLE_NAME not in stored:
        raise CheckpointError(f"Expected a table of words in {folder}, got none. Fetch the weights again.")
    has_tied_head = is_tied(stored, declared=raw.get("tie_word_embeddings"), where=where)
    config = read_decoder(
        raw,
        has_attention_bias=kind == "qwen2",
        vocabulary_size=stored[TABLE_NAME].shape[0],
        has_tied_head=has_tied_head,
        where=where,
    )
    if has_tied_head:
        stored.pop(HEAD_NAME, None)
    weights = Weights(stored)
    tensors = {name.removeprefix("decoder."): torch.from_numpy(weights.exact(name).copy()) for name in stored}
    return config, tensors


def _vision(tower: Path | None, *, size_px: int) -> tuple[FastViTHD, ProcessingConfig]:
    """An encoder, and how pictures become its pixels."""
    if tower is None:
        config = replace(PRESETS["fastvithd"], form="train")
        return FastViTHD(config), ProcessingConfig(mode="pad", size_px=size_px)
    if is_tower(tower):
        vision, processing = load_tower(tower)
        return vision, replace(processing, size_px=size_px)
    loaded = load_checkpoint(tower, dtype=torch.float32, form="stored")
    return loaded.model.vision, replace(loaded.processing, mode="pad", size_px=size_px)
