"""Passes over maps that torch is slow at on processors, in C++: compiled where they are first wanted, and kept.

They only make training faster: whatever uses them has the same sums in torch. See docs/decisions/0015.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from fastvlm.files import replacing
from fastvlm.machine import cache_folder, describe_processor

SWITCH = "FASTVLM_KERNELS"
"""An environment variable: `off` trains without them."""

LANES = 16
"""Numbers of one vector in the kernels: maps have a multiple of it as channels, or a divisor."""

_SOURCE = Path(__file__).with_name("kernels.cpp")
_COMPILERS = ("c++", "g++", "clang++")
_PATIENCE_S = 300
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


def reason_against_compiling() -> str | None:
    """Why nothing is to be compiled for training: it is switched off, or there is no compiler; None where it can be."""
    if os.environ.get(SWITCH, "").lower() in ("off", "0", "no"):
        return f"{SWITCH} says so"
    return None if _compiler() else f"no C++ compiler was found ({os.environ.get('CXX') or ', '.join(_COMPILERS)})"


def _compiler() -> str | None:
    named = os.environ.get("CXX")
    return next(filter(shutil.which, [named] if named else _COMPILERS), None)


def _failure() -> str | None:
    """Load the kernels, compiled before or now; returns why that cannot be done, or None."""
    compiler = _compiler()
    reason = reason_against_compiling()
    if reason is not None or compiler is None:
        return reason
    command = [compiler, *_flags(), str(_SOURCE), *_libraries()]
    names = (_SOURCE.read_text(), torch.__version__, describe_processor(), *command)
    try:
        library = cache_folder() / "kernels" / f"{hashlib.sha256(repr(names).encode()).hexdigest()[:24]}.so"
        if not library.is_file():
            library.parent.mkdir(parents=True, exist_ok=True)
            with replacing(library) as temporary:
                subprocess.run(
                    [*command, "-o", str(temporary)], check=True, capture_output=True, text=True, timeout=_PATIENCE_S
                )
        torch.ops.load_library(library)  # type: ignore[no-untyped-call]
    except subprocess.CalledProcessError as error:
        return f"{compiler} failed: {next((line for line in error.stderr.splitlines() if 'error' in line), error)}"
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:  # RuntimeError: a user without a home folder
        return str(error.__cause__ or error)
    return None


def _flags() -> list[str]:
    """For this very processor, with the declarations of the torch that is imported."""
    folder = Path(torch.__file__).parent / "include"
    return [
        "-O3",
        "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native",
        "-std=c++20",
        "-shared",
        "-fPIC",
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
