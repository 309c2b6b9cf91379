"""An adapter: low-rank changes to a base model's decoder, with the projector that was trained beside them.

Its folder holds `adapter_config.json` and `adapter_model.safetensors`, as adapters of the library peft do, under our
names. Loading merges it into the base's weights once and keeps the changed ones in the cache; torch is not needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fastvlm.batches import Float32Array
from fastvlm.checkpoints.arrays import Weights
from fastvlm.checkpoints.hub import Fetch, resolve
from fastvlm.checkpoints.tensors import StoredTensor, read_header, read_json, some
from fastvlm.errors import CheckpointError, one_line
from fastvlm.files import replacing
from fastvlm.machine import cache_folder, make_room

if TYPE_CHECKING:
    from fastvlm.checkpoints.stored import StoredCheckpoint

ADAPTER_CONFIG, ADAPTER_FILE = "adapter_config.json", "adapter_model.safetensors"
LORA_A, LORA_B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class AdapterConfig:
    """What an adapter belongs to. base: as `resolve` takes it. scale: of the product of the two low-rank matrices."""

    base: str
    rank: int
    scale: float


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and not a whole model."""
    return (folder / ADAPTER_CONFIG).is_file()


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Read what an adapter belongs to. Raises CheckpointError for one of another kind or from another program."""
    path = folder / ADAPTER_CONFIG
    raw = read_json(path)
    base, rank, alpha = raw.get("base_model_name_or_path"), raw.get("r"), raw.get("lora_alpha")
    if raw.get("peft_type") != "LORA" or raw.get("use_rslora") or raw.get("use_dora"):
        raise CheckpointError(f"Expected a plain LORA adapter in {path}, got {raw.get('peft_type')!r}.")
    if not isinstance(base, str) or not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise CheckpointError(f"Expected base_model_name_or_path, r and lora_alpha in {path}. Copy the adapter again.")
    return AdapterConfig(base, rank, alpha / rank)


def read_adapter(
    folder: Path, read_base: Callable[[Path], StoredCheckpoint], *, only_described: bool = False
) -> StoredCheckpoint:
    """Read the base model of an adapter with the adapter's changes in its tensors.

    only_described: leave the changes out, and fetch no base from the hub. Raises CheckpointError where the base is not
    there, is of another shape, or the merged weights cannot be kept.
    """
    config = read_adapter_config(folder)
    try:
        base = read_base(base_folder(folder, fetch="never" if only_described else "missing"))
    except CheckpointError as error:
        raise CheckpointError(
            f"{error} It is the base model of the adapter {folder}; "
            f"base_model_name_or_path in {ADAPTER_CONFIG} says where it is."
        ) from error
    changes = read_header(folder / ADAPTER_FILE)
    _check(changes, base.tensors, folder)
    if only_described:
        return base
    merged = cache_folder() / f"adapter-{_key(folder, base.tensors)}.safetensors"
    if not merged.is_file():
        _write_merged(merged, base.tensors, changes, config.scale)
    tensors = {**base.tensors, **read_header(merged)}
    # What the base was measured to need is not what the adapter needs.
    return replace(base, tensors=tensors, config=replace(base.config, calibration=None))


def base_folder(folder: Path, *, fetch: Fetch = "missing") -> Path:
    """Where the base of an adapter is; a relative path may be meant from the adapter's own folder.

    fetch: as in `resolve`. Raises CheckpointError where it is not there.
    """
    base = read_adapter_config(folder).base
    beside = folder / base
    return beside if not Path(base).is_absolute() and beside.is_dir() else resolve(base, fetch=fetch)


def _check(changes: Mapping[str, StoredTensor], base: Mapping[str, StoredTensor], folder: Path) -> None:
    """Raise CheckpointError unless every change has a place in the base, and its shape."""
    wrong = []
    for name, tensor in changes.items():
        target = base.get(_target(name))
        if target is None:
            wrong.append(name)
        elif name.endswith(LORA_A):
            pair = changes.get(name.removesuffix(LORA_A) + LORA_B)
            fits = pair is not None and (pair.shape[0], tensor.shape[1]) == target.shape
            wrong += [] if fits and pair is not None and pair.shape[1] == tensor.shape[0] else [name]
        elif name.endswith(LORA_B):
            wrong += [] if name.removesuffix(LORA_B) + LORA_A in changes else [name]
        elif tensor.shape != target.shape:
            wrong.append(name)
    if wrong or not changes:
        raise CheckpointError(
            f"Expected an adapter whose weights fit its base model in {folder}, got {some(sorted(wrong)) or 'none'}. "
            "Give it the base model that it was trained on."
        )


def _target(name: str) -> str:
    """The base's tensor that a change is for."""
    for ending in (LORA_A, LORA_B):
        if name.endswith(ending):
            return name.removesuffix(ending) + ".weight"
    return name


def merged_values(
    base: Mapping[str, StoredTensor], changes: Mapping[str, StoredTensor], scale: float
) -> dict[str, Float32Array]:
    """The changed tensors of the base, in float32: W + scale * B A, or the adapter's own where it has a whole one."""
    base_weights, adapter = Weights(base), Weights(changes)
    merged: dict[str, Float32Array] = {}
    for name in changes:
        if name.endswith(LORA_B):
            continue
        if not name.endswith(LORA_A):
            merged[name] = adapter.exact(name)
            continue
        low = adapter.exact(name.removesuffix(LORA_A) + LORA_B)
        merged[_target(name)] = base_weights.exact(_target(name)) + scale * (low @ adapter.exact(name))
    return merged


def _write_merged(
    path: Path, base: Mapping[str, StoredTensor], changes: Mapping[str, StoredTensor], scale: float
) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            save_file(merged_values(base, changes, scale), temporary)
        make_room(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"Expected to keep the merged weights of an adapter in {path.parent}, got: {one_line(error)}. "
            "Free some space, or merge it elsewhere with `fastvlm convert`."
        ) from error


def _key(folder: Path, base: Mapping[str, StoredTensor]) -> str:
    """A digest of the adapter, and of its base by place, size and time."""
    digest = hashlib.sha256()
    for name in (ADAPTER_CONFIG, ADAPTER_FILE):
        digest.update((folder / name).read_bytes())
    for file in sorted({tensor.file for tensor in base.values()}):
        status = file.stat()
        digest.update(repr((str(file.resolve()), status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()[:24]
