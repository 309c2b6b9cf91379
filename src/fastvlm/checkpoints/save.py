"""Weights go: a whole checkpoint folder in our layout, the authors' or transformers', or nothing at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastvlm.checkpoints.config import CONFIG_FILE, ModelConfig, config_to_dict
from fastvlm.checkpoints.convert import apple, apple_config, transformers, transformers_config
from fastvlm.checkpoints.convert.chat_template import jinja_source
from fastvlm.checkpoints.licence import licence_files
from fastvlm.checkpoints.names import NameTable
from fastvlm.checkpoints.precision import DTYPES, fuse_in_float32
from fastvlm.checkpoints.stored import RANGES_FILE, Layout
from fastvlm.checkpoints.strict import CLIP_HEAD
from fastvlm.checkpoints.tensors import INDEX_FILE, SINGLE_FILE
from fastvlm.checkpoints.tokenizer_files import ImageToken, json_text, tokenizer_files, with_image_token
from fastvlm.checkpoints.write import write_tensors
from fastvlm.errors import CheckpointError, one_line
from fastvlm.files import is_free, new_folder
from fastvlm.models.config import VLMConfig
from fastvlm.models.vlm import FastVLM
from fastvlm.processing.tokenizer import Tokenizer

MAX_SHARD_BYTES = 5_000_000_000

_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def save_checkpoint(
    folder: str | Path,
    model: FastVLM,
    config: ModelConfig,
    tokenizer: Tokenizer,
    *,
    layout: Layout = "fastvlm",
    dtype: torch.dtype | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    derived_from: str | Path | None = None,
    encoder_ranges: Mapping[str, float] | None = None,
) -> Path:
    """Write a model into a new folder, which appears whole or not at all.

    config: its `vlm` gives way to what the model is. layout: `fastvlm` keeps an encoder's form; the foreign ones hold
    the fused form and no CLIP head in `transformers`. dtype: of all weights, None keeps each. derived_from: a folder
    whose licence files come along. encoder_ranges: of a calibration, for the layout `fastvlm`.
    Raises CheckpointError for a folder that is not empty, and where writing fails.
    """
    folder = Path(folder)
    if not is_free(folder):
        raise CheckpointError(f"Expected a new or empty folder, got {folder} with content. Choose another one.")
    with torch.no_grad(), _appearing_whole(folder) as target:
        state, vlm = _state_and_shape(model, layout, dtype)
        config = replace(config, vlm=vlm)
        image_token = None
        if layout == "transformers":
            tokenizer, image_token = with_image_token(tokenizer)
            state, config = _with_image_row(state, config, image_token)
        stored_dtype = _write_tensors(target, _renamed(state, layout), dtype=dtype, max_shard_bytes=max_shard_bytes)
        texts = _json_files(config, tokenizer, layout=layout, image_token=image_token, dtype=stored_dtype)
        if encoder_ranges is not None:
            texts[RANGES_FILE] = json_text(encoder_ranges)
        texts |= licence_files(config, Path(derived_from) if derived_from is not None else None)
        tokenizer.save(target / "tokenizer.json")
        for name, text in texts.items():
            (target / name).write_text(text, encoding="utf-8")
    return folder


@contextmanager
def _appearing_whole(folder: Path) -> Iterator[Path]:
    """Give a folder to write into that takes its place when all of it is there; OSError becomes CheckpointError."""
    try:
        with new_folder(folder) as target:
            yield target
    except OSError as error:
        raise CheckpointError(
            f"Expected to write a checkpoint to {folder}, got: {one_line(error)}. Nothing was left there; "
            "free some space or choose another place."
        ) from error


def _state_and_shape(model: FastVLM, layout: Layout, dtype: torch.dtype | None) -> tuple[dict[str, Tensor], VLMConfig]:
    """The tensors by our names, with the encoder in the form that the layout holds."""
    vision = model.vision if layout == "fastvlm" else fuse_in_float32(model.vision, dtype=dtype)
    shape = vision.config if layout != "transformers" else replace(vision.config, clip_dim=None)
    parts = {"vision": vision, "projector": model.projector, "decoder": model.decoder}
    state = {
        f"{part}.{name}": tensor.detach()
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }
    if shape.clip_dim is None:
        state = {name: tensor for name, tensor in state.items() if not name.startswith(CLIP_HEAD)}
    return state, VLMConfig(vision=shape, decoder=model.decoder.config)


def _with_image_row(
    state: dict[str, Tensor], config: ModelConfig, token: ImageToken
) -> tuple[dict[str, Tensor], ModelConfig]:
    """Give transformers' image token a row in the vocabulary: it is looked up there before its slot is filled.

    A new row is the mean of the others, whose score is never the highest, so greedy answers stay the same.
    """
    decoder = config.vlm.decoder
    num_new = token.number + 1 - decoder.vocabulary_size
    if num_new <= 0:
        return state, config
    grown = dict(state)
    for name in ("decoder.embed_tokens.weight", "decoder.head.weight"):
        if name in state:
            mean = state[name].float().mean(0, keepdim=True).to(state[name].dtype)
            grown[name] = torch.cat([state[name], mean.expand(num_new, -1)])
    decoder = replace(decoder, vocabulary_size=token.number + 1)
    return grown, replace(config, vlm=replace(config.vlm, decoder=decoder))


def _renamed(state: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    if layout == "fastvlm":
        return dict(state)
    table: NameTable = apple.TABLE if layout == "apple" else transformers.TABLE
    renamed = {table.to_theirs(name): tensor for name, tensor in state.items()}
    if None in renamed or len(renamed) != len(state):
        unknown = sorted(name for name in state if table.to_theirs(name) is None)
        raise CheckpointError(f"Expected a name for every tensor in the {layout} layout, got none for {unknown[:3]}.")
    return {name: tensor for name, tensor in renamed.items() if name is not None}


def _write_tensors(
    folder: Path, state: Mapping[str, Tensor], *, dtype: torch.dtype | None, max_shard_bytes: int
) -> torch.dtype:
    """Write one file, or shards with an index; each shard is cast and released before the next."""
    shards = _shards(state, dtype=dtype, max_shard_bytes=max_shard_bytes)
    weight_map: dict[str, str] = {}
    num_bytes = 0
    for number, names in enumerate(shards, start=1):
        file = SINGLE_FILE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = _plain({name: state[name] for name in names}, dtype)
        write_tensors(folder / file, tensors)
        weight_map |= dict.fromkeys(names, file)
        num_bytes += sum(tensor.nbytes for tensor in tensors.values())
    if len(shards) > 1:
        index = {"metadata": {"total_size": num_bytes}, "weight_map": dict(sorted(weight_map.items()))}
        (folder / INDEX_FILE).write_text(json_text(index), encoding="utf-8")
    return dtype or next(tensor.dtype for tensor in state.values() if tensor.is_floating_point())


def _shards(state: Mapping[str, Tensor], *, dtype: torch.dtype | None, max_shard_bytes: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    size = 0
    for name in sorted(state):
        tensor = state[name]
        item_size = dtype.itemsize if dtype is not None and tensor.is_floating_point() else tensor.element_size()
        num_bytes = tensor.numel() * item_size
        if shards[-1] and size + num_bytes > max_shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += num_bytes
    return shards


def _plain(state: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Contiguous tensors on the host, each with memory of its own, so that shared ones are written as they look."""
    plain: dict[str, Tensor] = {}
    used: set[int] = set()
    for name, tensor in state.items():
        value = tensor.to(device="cpu", dtype=dtype if tensor.is_floating_point() else None).contiguous()
        plain[name] = value.clone() if value.untyped_storage().data_ptr() in used else value
        used.add(plain[name].untyped_storage().data_ptr())
    return plain


def _json_files(
    config: ModelConfig, tokenizer: Tokenizer, *, layout: Layout, image_token: ImageToken | None, dtype: torch.dtype
) -> dict[str, str]:
    if layout == "fastvlm":
        return {CONFIG_FILE: json_text(config_to_dict(config))}
    values: dict[str, Any]
    ends = list(config.eos_token_ids)
    generation: dict[str, Any] = {"eos_token_id": ends, "bos_token_id": config.bos_token_id, "do_sample": False}
    values = {"generation_config.json": generation}
    name = _DTYPE_NAMES.get(dtype, "float32")
    if image_token is None:
        values[CONFIG_FILE] = apple_config.write_config(config) | {"torch_dtype": name}
        values["preprocessor_config.json"] = apple_config.write_preprocessor(config)
    else:
        values[CONFIG_FILE] = transformers_config.write_config(config, image_token_id=image_token.number)
        values[CONFIG_FILE]["dtype"] = name
        values["preprocessor_config.json"] = transformers_config.write_preprocessor(config)
        values["processor_config.json"] = transformers_config.write_processor()
        generation["suppress_tokens"] = [image_token.number]
    if ends:
        generation["pad_token_id"] = ends[-1]
    texts = {file: json_text(value) for file, value in values.items()}
    if image_token is not None:
        texts[transformers_config.TEMPLATE_FILE] = jinja_source(config.template, image_token=image_token.text)
    return texts | tokenizer_files(tokenizer, config, image_token=image_token)
