"""What a checkpoint folder holds, whoever wrote it: its configuration, tokenizer and tensors by our names.

Nothing here needs torch, and nothing is ever written but to the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from fastvlm.checkpoints.adapter import is_adapter, read_adapter
from fastvlm.checkpoints.config import CONFIG_FILE, MODEL_TYPE, ModelConfig, config_from_dict
from fastvlm.checkpoints.convert import apple, apple_config, transformers, transformers_config
from fastvlm.checkpoints.convert.foreign import HEAD_NAME, ForeignFolder, is_tied
from fastvlm.checkpoints.names import NameTable
from fastvlm.checkpoints.strict import COUNTER
from fastvlm.checkpoints.tensors import FLOAT_DTYPES, StoredTensor, read_json, read_tensors, some
from fastvlm.errors import CheckpointError
from fastvlm.machine import cache_folder_if_any
from fastvlm.processing.tokenizer import Tokenizer

Layout = Literal["fastvlm", "apple", "transformers"]

RANGES_FILE = "encoder_ranges.json"
"""How far the inputs of the encoder's layers reach, for computing in eight bits; only our layout has it."""


@dataclass(frozen=True)
class StoredCheckpoint:
    """A model on disk. tensors: by our names, with the output head only where it is untied.

    encoder_ranges: of a calibrated checkpoint in our layout, else None; see `runtimes/openvino/calibration`.
    """

    folder: Path
    layout: Layout
    config: ModelConfig
    tokenizer: Tokenizer
    tensors: Mapping[str, StoredTensor]
    encoder_ranges: Mapping[str, float] | None = None


@dataclass(frozen=True)
class _Foreign:
    layout: Layout
    table: NameTable
    read_config: Callable[[ForeignFolder], ModelConfig]


_FOREIGN = {
    apple_config.QWEN2: _Foreign("apple", apple.TABLE, apple_config.read_config),
    apple_config.LLAMA: _Foreign("apple", apple.TABLE, apple_config.read_config),
    transformers_config.FAST_VLM: _Foreign("transformers", transformers.TABLE, transformers_config.read_config),
}


def read_checkpoint(folder: str | Path, *, only_described: bool = False) -> StoredCheckpoint:
    """Read everything of a folder but the tensors' values: ours, the authors' or transformers'.

    The folder of an adapter is read as its base model with the adapter merged into it. only_described: as the base
    itself, which has the same shapes: nothing is fetched or written then.
    Raises CheckpointError, in one line, for a folder that is none of these, or not whole.
    """
    folder = Path(folder)
    if is_adapter(folder):
        read_base = partial(read_checkpoint, only_described=only_described)
        return read_adapter(folder, read_base, only_described=only_described)
    kept_in = None if only_described else cache_folder_if_any()
    raw = _read_config_file(folder)
    kind = raw.get("model_type")
    if kind == MODEL_TYPE:
        return _read_own(folder, raw, kept_in=kept_in)
    if isinstance(kind, str) and kind in _FOREIGN:
        return _read_foreign(folder, raw, _FOREIGN[kind], kept_in=kept_in)
    supported = ", ".join((MODEL_TYPE, *_FOREIGN))
    raise CheckpointError(f"Expected model_type in {folder / CONFIG_FILE} to be one of {supported}, got {kind!r}.")


def _read_config_file(folder: Path) -> dict[str, Any]:
    if folder.is_file():
        raise CheckpointError(f"Expected a model folder, got the file {folder}. Give the folder that it is in.")
    if not folder.is_dir():
        raise CheckpointError(f"Expected a model folder at {folder}, found none. Check the path.")
    if not (folder / CONFIG_FILE).is_file():
        raise CheckpointError(f"Expected {CONFIG_FILE} in {folder}, found none. Give the folder of a whole checkpoint.")
    return read_json(folder / CONFIG_FILE)


def _read_own(folder: Path, raw: Mapping[str, Any], *, kept_in: Path | None) -> StoredCheckpoint:
    where = str(folder / CONFIG_FILE)
    config = config_from_dict(raw, where=where)
    tensors = read_tensors(folder)
    _refuse_quantised(tensors, folder)
    tokenizer = Tokenizer.from_folder(folder, cache_folder=kept_in)
    if is_tied(tensors, declared=config.vlm.decoder.has_tied_head, where=where) != config.vlm.decoder.has_tied_head:
        word = "no" if config.vlm.decoder.has_tied_head else "a"
        raise CheckpointError(f"Expected {word} {HEAD_NAME} of its own in {folder}, as {CONFIG_FILE} says.")
    _check_ends(config, tokenizer, where)
    tensors = {name: tensor for name, tensor in tensors.items() if name != HEAD_NAME or not _is_tied(config)}
    return StoredCheckpoint(folder, "fastvlm", config, tokenizer, tensors, _read_ranges(folder))


def _read_ranges(folder: Path) -> dict[str, float] | None:
    path = folder / RANGES_FILE
    if not path.is_file():
        return None
    ranges = read_json(path)
    for name, value in ranges.items():
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise CheckpointError(f"Expected numbers from 0 in {path}, got {value!r} for {name}. Calibrate again.")
    return {name: float(value) for name, value in ranges.items()}


def _read_foreign(folder: Path, raw: Mapping[str, Any], foreign: _Foreign, *, kept_in: Path | None) -> StoredCheckpoint:
    stored = read_tensors(folder)
    _refuse_quantised(stored, folder)
    tensors = _renamed(stored, foreign, folder)
    tokenizer = Tokenizer.from_folder(folder, cache_folder=kept_in)
    config = foreign.read_config(ForeignFolder(folder, raw, tensors, tokenizer))
    if _is_tied(config):
        tensors.pop(HEAD_NAME, None)
    return StoredCheckpoint(folder, foreign.layout, config, tokenizer, tensors)


def _renamed(stored: Mapping[str, StoredTensor], foreign: _Foreign, folder: Path) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    unexpected = []
    for name, tensor in stored.items():
        ours = foreign.table.to_ours(name)
        if ours is not None:
            tensors[ours] = tensor
        elif not foreign.table.is_ignored(name):
            unexpected.append(name)
    if unexpected:
        raise CheckpointError(
            f"Expected only tensors of the {foreign.layout} layout in {folder}, got {some(sorted(unexpected))}. "
            "This is another architecture, or weights of another program beside the right config.json."
        )
    return tensors


def _refuse_quantised(tensors: Mapping[str, StoredTensor], folder: Path) -> None:
    found = sorted(
        tensor.name
        for tensor in tensors.values()
        if tensor.dtype not in FLOAT_DTYPES and not tensor.name.endswith(COUNTER)
    )
    if found:
        kind = tensors[found[0]].dtype
        raise CheckpointError(
            f"Expected weights in bfloat16, float16 or float32 in {folder}, got {kind} in {some(found)}. "
            "Use the original, unquantised checkpoint."
        )


def _check_ends(config: ModelConfig, tokenizer: Tokenizer, where: str) -> None:
    """Assert the end of a turn before anything is generated (pitfall B12)."""
    for token in config.template.stop_tokens[:1]:
        if tokenizer.token_id(token) not in config.eos_token_ids:
            raise CheckpointError(
                f"Expected eos_token_ids in {where} to hold {tokenizer.token_id(token)}, the {token} that ends a turn "
                f"of the template {config.template.name}, got {list(config.eos_token_ids)}. Add it."
            )
    if not config.eos_token_ids and not config.template.stop_strings:
        raise CheckpointError(f"Expected eos_token_ids in {where} to name a token that ends an answer, got none.")


def _is_tied(config: ModelConfig) -> bool:
    return config.vlm.decoder.has_tied_head
