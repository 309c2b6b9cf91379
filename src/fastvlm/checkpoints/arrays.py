"""The values of a checkpoint's tensors as arrays of numpy, mapped from its files; torch is not needed for that."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastvlm.batches import Float32Array
from fastvlm.checkpoints.tensors import StoredTensor
from fastvlm.errors import CheckpointError, one_line

UInt16Array = npt.NDArray[np.uint16]
StoredArray = npt.NDArray[np.generic]
"""Float32 or float16 values, or the bits of bfloat16 ones as uint16, which numpy has no type for."""

_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}


class Weights:
    """Reads the tensors of a checkpoint by name."""

    def __init__(self, tensors: Mapping[str, StoredTensor]) -> None:
        self._tensors = tensors
        self._maps: dict[Path, mmap.mmap] = {}

    def stored(self, name: str) -> StoredArray:
        """A view of the file itself, in the precision that it is stored in."""
        tensor = self._tensors[name]
        dtype = np.dtype(_DTYPES[tensor.dtype])
        values = np.frombuffer(self._map(tensor.file), dtype, tensor.num_bytes // dtype.itemsize, tensor.offset)
        return values.reshape(tensor.shape)

    @property
    def maps(self) -> tuple[mmap.mmap, ...]:
        """The maps of all files."""
        return tuple(self._map(file) for file in sorted({tensor.file for tensor in self._tensors.values()}))

    def exact(self, name: str) -> Float32Array:
        """The values as float32, which holds every one of float16 and bfloat16 exactly."""
        return to_float32(self.stored(name))

    def finite(self, name: str) -> Float32Array:
        """The same; in eight bits nobody would see later that some values are not finite. Raises CheckpointError."""
        values = self.exact(name)
        if not np.isfinite(values).all():
            raise CheckpointError(
                f"Expected finite weights, got infinite or undefined ones in {name}. Fetch the checkpoint again."
            )
        return values

    def _map(self, file: Path) -> mmap.mmap:
        if file not in self._maps:
            try:
                with file.open("rb") as stream:
                    # A private copy: OpenVINO takes no memory that must not be written to. Nothing is ever copied.
                    self._maps[file] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
            except (OSError, ValueError) as error:
                raise CheckpointError(f"Expected to read {file}, got: {one_line(error)}.") from error
        return self._maps[file]


def to_float32(values: StoredArray) -> Float32Array:
    """Float32 values of any stored array; float32 itself is returned as it is."""
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(values, np.float32)


def to_bfloat16(values: Float32Array) -> UInt16Array:
    """The bits of the nearest bfloat16 values, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
