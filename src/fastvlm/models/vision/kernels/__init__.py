"""Passes over maps that torch is slow at on processors, in C++: compiled where they are first wanted, and kept.

They only make training faster: whatever uses them has the same sums in torch. See docs/decisions/0015.
"""

from __future__ import annotations

import logging
import platform
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from fastvlm.compiler import NoLibraryError, compiled_library

LANES = 16
"""Numbers of one vector in the kernels: maps have a multiple of it as channels, or a divisor."""

_SOURCE = Path(__file__).with_name("kernels.cpp")
_LOGGER = logging.getLogger(__name__)


@cache
def load(*, warns: bool = True) -> None:
    """Have the kernels from now on, in this process; where they cannot be had, say why in one line of the log, once."""
    reason = _failure()
    if reason is not None and warns:
        _LOGGER.warning("Training goes on without the compiled kernels, more slowly: %s", reason)


def are_loaded() -> bool:
    """Whether this process has the kernels."""
    return hasattr(torch.ops.fastvlm, "normalised_sum")


def suit(map_: Tensor) -> bool:
    """Whether the kernels are there and take this map: B x C x H x W in float32 with its channels innermost."""
    channels = map_.shape[1]
    return (
        are_loaded()
        and map_.device.type == "cpu"
        and map_.dtype == torch.float32
        and map_.is_contiguous(memory_format=torch.channels_last)
        and map_.numel() > channels
        and (channels % LANES == 0 or (LANES % channels == 0 and map_.numel() % LANES == 0))
        and not torch.compiler.is_compiling()
    )


def _failure() -> str | None:
    """Load the kernels, compiled before or now; returns why that cannot be done, or None."""
    try:
        library = compiled_library([_SOURCE], flags=_flags(), libraries=_libraries(), depends_on=torch.__version__)
        torch.ops.load_library(library)  # type: ignore[no-untyped-call]
    except (NoLibraryError, OSError, RuntimeError) as error:
        return str(error)
    return None


def _flags() -> list[str]:
    """The declarations of the torch that is imported."""
    folder = Path(torch.__file__).parent / "include"
    return [
        *(["-fopenmp"] if _has_openmp() else []),
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
        f"-I{folder}",
        f"-I{folder / 'torch' / 'csrc' / 'api' / 'include'}",
    ]


def _libraries() -> list[str]:
    """torch's, its OpenMP among them: another one's threads would not be those that torch counts, and would compete."""
    folder = Path(torch.__file__).parent
    own = [*folder.glob("lib/libgomp*.so*"), *folder.parent.glob("torch.libs/libgomp*.so*")]
    openmp = ["-Wl,--as-needed", *map(str, own[:1])] if _has_openmp() else []
    return [*openmp, f"-L{folder / 'lib'}", "-ltorch_cpu", "-lc10"]


def _has_openmp() -> bool:
    """Apple's compiler comes without: there the kernels use one thread."""
    return platform.system() != "Darwin"
