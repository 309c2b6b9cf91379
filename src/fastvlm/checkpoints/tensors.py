"""What the safetensors files of a folder hold, read from their headers alone; torch is not needed for that."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastvlm.errors import CheckpointError, one_line

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
FLOAT_DTYPES = frozenset({"F64", "F32", "F16", "BF16"})

BYTES_PER_NUMBER = {"float32": 4, "bfloat16": 2, "float16": 2}
"""The precisions that weights can be asked for in, by name; `checkpoints.precision` has them as torch's."""

_BYTES_PER_VALUE = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_LARGEST_HEADER = 100_000_000
_BYTES_PER_STEP = 1 << 22


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a safetensors file. offset: of its first byte in the file; dtype: in safetensors' words."""

    name: str
    file: Path
    shape: tuple[int, ...]
    dtype: str
    offset: int
    num_bytes: int


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file. Raises CheckpointError, in one line, where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"Expected the file {path}, found none. Fetch or copy it again.") from error
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"Expected JSON in {path}, got: {one_line(error)}. Fetch the file again.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"Expected a JSON object in {path}, got {type(value).__name__}. Fetch the file again.")
    return value


def read_json_if_present(path: Path) -> dict[str, Any]:
    """Read a JSON object, empty where the file does not exist."""
    return read_json(path) if path.exists() else {}


def read_tensors(folder: Path) -> dict[str, StoredTensor]:
    """List the tensors of `model.safetensors`, or of the shards that its index names.

    Raises CheckpointError for missing, truncated or corrupt files, and where only pickled weights are found.
    """
    index_file = folder / INDEX_FILE
    if index_file.is_file():
        return _read_shards(folder, index_file)
    if (folder / SINGLE_FILE).is_file():
        return read_header(folder / SINGLE_FILE)
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    if others:
        raise CheckpointError(
            f"Expected {SINGLE_FILE} or {INDEX_FILE} in {folder}, found only {some(others)}. Fetch the index again."
        )
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    if pickles:
        raise CheckpointError(
            f"Expected weights as {SINGLE_FILE} in {folder}, found only {some(pickles)}; pickles can run code and are "
            "never read. Save the weights as safetensors where they come from."
        )
    raise CheckpointError(f"Expected {SINGLE_FILE} or {INDEX_FILE} in {folder}, found neither. Fetch the weights.")


def read_header(file: Path) -> dict[str, StoredTensor]:
    """List the tensors of one safetensors file, after checking that the file is whole."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            header_size = int.from_bytes(stream.read(8), "little")
            text = stream.read(header_size) if size >= 8 and header_size <= min(_LARGEST_HEADER, size - 8) else None
    except OSError as error:
        raise CheckpointError(f"Expected to read {file}, got: {one_line(error)}.") from error
    if text is None:
        raise CheckpointError(_corrupt(file, f"its {size} bytes end inside the header"))
    try:
        header = json.loads(text)
        tensors = {
            name: _stored(name, file, entry, data_start=8 + header_size)
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(_corrupt(file, f"its header does not parse ({one_line(error)})")) from error
    end = max((tensor.offset + tensor.num_bytes for tensor in tensors.values()), default=8 + header_size)
    if end > size:
        raise CheckpointError(_corrupt(file, f"it has {size} of {end} bytes"))
    return tensors


def same_values(first: StoredTensor, second: StoredTensor) -> bool:
    """Whether two stored tensors are equal to the last bit; stops reading at the first difference."""
    if (first.shape, first.dtype) != (second.shape, second.dtype):
        return False
    return all(a == b for a, b in zip(_chunks(first), _chunks(second), strict=True))


def some(names: list[str], *, limit: int = 3) -> str:
    """Name the first few of many."""
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")


def _read_shards(folder: Path, index_file: Path) -> dict[str, StoredTensor]:
    weight_map = read_json(index_file).get("weight_map")
    if not isinstance(weight_map, Mapping) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise CheckpointError(f"Expected weight_map in {index_file} to name a file for each tensor. Fetch it again.")
    shards = sorted(set(weight_map.values()))
    outside = [shard for shard in shards if Path(shard).name != shard]
    if outside:
        raise CheckpointError(f"Expected plain file names in {index_file}, got {some(outside)}. Do not use this index.")
    absent = [shard for shard in shards if not (folder / shard).is_file()]
    if absent:
        raise CheckpointError(
            f"Expected {len(shards)} shards in {folder}, {some(absent)} not found. Fetch the missing files again."
        )
    tensors: dict[str, StoredTensor] = {}
    for shard in shards:
        tensors |= read_header(folder / shard)
    lost = sorted(set(weight_map) - set(tensors))
    if lost:
        raise CheckpointError(
            f"Expected the shards of {folder} to hold what {INDEX_FILE} lists, {some(lost)} not found. "
            "Index and shards do not belong together; fetch both again."
        )
    return tensors


def _stored(name: str, file: Path, entry: Mapping[str, Any], *, data_start: int) -> StoredTensor:
    begin, end = (int(offset) for offset in entry["data_offsets"])
    shape = tuple(int(size) for size in entry["shape"])
    dtype = str(entry["dtype"])
    num_values = 1
    for size in shape:
        num_values *= size
    if begin < 0 or end < begin or min(shape, default=0) < 0:
        raise ValueError(f"{name} lies at bytes {begin} to {end}")
    if dtype in _BYTES_PER_VALUE and end - begin != num_values * _BYTES_PER_VALUE[dtype]:
        raise ValueError(f"{name} of shape {list(shape)} and type {dtype} has {end - begin} bytes")
    return StoredTensor(name, file, shape, dtype, data_start + begin, end - begin)


def _chunks(tensor: StoredTensor) -> Iterator[bytes]:
    with tensor.file.open("rb") as stream:
        stream.seek(tensor.offset)
        for start in range(0, tensor.num_bytes, _BYTES_PER_STEP):
            yield stream.read(min(_BYTES_PER_STEP, tensor.num_bytes - start))


def _corrupt(file: Path, what: str) -> str:
    return f"Expected a whole safetensors file at {file}, but {what}. Fetch the file again."
