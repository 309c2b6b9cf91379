"""Packed weights on disk, mapped from there by every process that reads them."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import logging
import mmap
import threading
from pathlib import Path
from typing import Any

import numpy as np

from fastvlm.checkpoints.arrays import StoredArray, Weights
from fastvlm.errors import GenerationError
from fastvlm.files import replacing, samples
from fastvlm.machine import keep
from fastvlm.runtimes.kernels import library
from fastvlm.runtimes.kernels.packing import Packing
from fastvlm.runtimes.pages import released

_FETCHED_AT_ONCE_BYTES = 2 << 20

_POPULATE_READ = 22
"""What Linux calls MADV_POPULATE_READ, since 5.14; others say that they do not know it."""

_LOGGER = logging.getLogger(__name__)


class Packed:
    """The packed weights of a decoder or an encoder in memory, for the kernels."""

    def __init__(self, packing: Packing, weights: Weights, path: Path | None, *, num_threads: int) -> None:
        self._packing, self._values = packing, packed_weights(packing, weights, path, num_threads=num_threads)
        self._address = np.frombuffer(self._values, np.uint8).ctypes.data

    def fetch(self) -> None:
        """Have all pages in this process's reach, while others decode a picture: one by one they take longer."""
        if not isinstance(self._values, mmap.mmap):
            return
        with contextlib.suppress(OSError, AttributeError):  # of systems that do not know of it
            libc = ctypes.CDLL(None)
            for start in range(0, self._packing.num_bytes, _FETCHED_AT_ONCE_BYTES):
                length = min(_FETCHED_AT_ONCE_BYTES, self._packing.num_bytes - start)
                libc.madvise(ctypes.c_void_p(self._address + start), ctypes.c_size_t(length), _POPULATE_READ)

    def place(self, name: str) -> int:
        """Where a section begins."""
        return self._address + self._packing.places[name]

    def matrix(self, name: str) -> library.Matrix:
        """One matrix."""
        shape = self._packing.matrices[name]
        scales = self.place(f"{name}.scales") if shape.num_bits < 16 else None
        return library.Matrix(self.place(name), scales, shape.num_out, shape.num_in, shape.num_bits)

    def pointwise(self, name: str) -> library.Pointwise:
        """One layer of 1 x 1."""
        reach = self._packing.matrices[name].reach
        return library.Pointwise(self.matrix(name), self.place(f"{name}.bias"), reach or 0.0)

    def depthwise(self, name: str, num_in: int, multiplier: int = 1) -> library.Depthwise:
        """One depthwise convolution."""
        return library.Depthwise(self.place(f"{name}.weights"), self.place(f"{name}.bias"), num_in, multiplier)


def check_opened(handle: object, num_threads: int) -> None:
    """Raise GenerationError where the kernels could not open something."""
    if handle is None:
        raise GenerationError(f"Expected memory and {num_threads} threads, the system has not as many. Take fewer.")


def packed_weights(packing: Packing, weights: Weights, path: Path | None, *, num_threads: int) -> Any:
    """Packed weights from a file where it is whole, else made and kept there; path: None keeps none.

    weights: what they are packed from, by so many threads.

    A file that cannot be written is warned of and done without.
    """
    if path is not None:
        if (kept := _taken(packing, path)) is not None:
            return kept
        keep(path, lambda: _write(packing, weights, path, num_threads), what="packed weights")
        if (kept := _taken(packing, path)) is not None:
            return kept
    values = np.zeros(packing.num_bytes, np.uint8)

    def into(offset: int, piece: StoredArray) -> None:
        values[offset : offset + piece.nbytes] = piece.reshape(-1).view(np.uint8)

    with released(weights.maps):
        packing.write(into, num_threads=num_threads)
    return values


def _write(packing: Packing, weights: Weights, path: Path, num_threads: int) -> None:
    with replacing(path) as temporary:
        with temporary.open("w+b") as stream, released(weights.maps):
            lock = threading.Lock()

            def into(offset: int, piece: StoredArray) -> None:
                with lock:
                    stream.seek(offset)
                    stream.write(piece.data)

            packing.write(into, num_threads=num_threads)
            stream.truncate(packing.num_bytes)
        digest = _digest(temporary, packing.num_bytes)
        with temporary.open("ab") as end:
            end.write(digest)


def _taken(packing: Packing, path: Path) -> mmap.mmap | None:
    """The map of a file; None where there is none, or none that is whole."""
    try:
        if not path.is_file():
            return None
        digest = _digest(path, packing.num_bytes)
        with path.open("rb") as stream:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        _LOGGER.info("The packed weights in %s cannot be read and are made anew: %s", path, error)
        return None
    if len(mapped) == packing.num_bytes + len(digest) and mapped[packing.num_bytes :] == digest:
        return mapped
    _LOGGER.info("The packed weights in %s are not whole and are made anew.", path)
    return None


def _digest(path: Path, num_bytes: int) -> bytes:
    """Of samples: to read all of it at every start would take longer than to use it."""
    digest = hashlib.sha256(str(num_bytes).encode())
    for sample in samples(path, num_bytes):
        digest.update(sample)
    return digest.digest()
