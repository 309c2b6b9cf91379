"""Packed weights on disk, mapped from there by every process that reads them."""

from __future__ import annotations

import hashlib
import logging
import mmap
from pathlib import Path
from typing import Any

import numpy as np

from fastvlm.checkpoints.arrays import Weights
from fastvlm.errors import one_line
from fastvlm.files import replacing, samples
from fastvlm.machine import make_room
from fastvlm.runtimes.kernels.packing import DecoderPacking
from fastvlm.runtimes.pages import released

_LOGGER = logging.getLogger(__name__)


def packed_weights(packing: DecoderPacking, weights: Weights, path: Path | None) -> Any:
    """The packed weights of a decoder, from a file where it is whole, else made and kept there; path: None keeps none.

    A file that cannot be written is warned of and done without.
    """
    if path is not None:
        if (kept := _taken(packing, path)) is not None:
            return kept
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _keep(packing, weights, path)
            make_room(path)
            if (kept := _taken(packing, path)) is not None:
                return kept
        except OSError as error:
            _LOGGER.warning(
                "Cannot keep packed weights in %s (%s): the next start will pack them again. "
                "Free some space, or set FASTVLM_CACHE to a folder that can be written to.",
                path.parent,
                one_line(error),
            )
    values = np.zeros(packing.num_bytes, np.uint8)

    def into(offset: int, data: memoryview) -> None:
        piece = np.frombuffer(data, np.uint8)
        values[offset : offset + len(piece)] = piece

    with released(weights.maps):
        packing.write(weights, into)
    return values


def _keep(packing: DecoderPacking, weights: Weights, path: Path) -> None:
    with replacing(path) as temporary:
        with temporary.open("w+b") as stream, released(weights.maps):

            def into(offset: int, data: memoryview) -> None:
                stream.seek(offset)
                stream.write(data)

            packing.write(weights, into)
            stream.truncate(packing.num_bytes)
        digest = _digest(temporary, packing.num_bytes)
        with temporary.open("ab") as end:
            end.write(digest)


def _taken(packing: DecoderPacking, path: Path) -> mmap.mmap | None:
    """The map of a file; None where there is none, or none that is whole."""
    try:
        if not path.is_file():
            return None
        digest = _digest(path, packing.num_bytes)
        with path.open("rb") as stream:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        _LOGGER.info("The packed weights in %s cannot be read and are done without: %s", path, one_line(error))
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
