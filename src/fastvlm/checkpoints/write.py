"""Tensors to one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from fastvlm.errors import one_line
from fastvlm.files import umask


def write_tensors(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write contiguous tensors on the host. Raises OSError where writing fails, a full disk included."""
    try:
        save_file(dict(state), path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(one_line(error)) from error
    # The library writes with owner-only permissions on some systems.
    path.chmod(0o666 & ~umask())
