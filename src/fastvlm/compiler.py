"""The system's C++ compiler, where there is one: libraries are compiled where they are first wanted, and kept."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from fastvlm.files import replacing
from fastvlm.machine import cache_folder, describe_processor

SWITCH = "FASTVLM_KERNELS"
"""An environment variable: `off` does without anything that is compiled."""

_COMPILERS = ("c++", "g++", "clang++")
_PATIENCE_S = 300


class CannotCompileError(Exception):
    """Says why there is no library; whoever wanted one does without."""


def reason_against_compiling() -> str | None:
    """Why nothing is to be compiled: it is switched off, or there is no compiler; None where it can be."""
    if os.environ.get(SWITCH, "").lower() in ("off", "0", "no"):
        return f"{SWITCH} says so"
    return None if _compiler() else f"no C++ compiler was found ({os.environ.get('CXX') or ', '.join(_COMPILERS)})"


def compiled_library(
    sources: Sequence[Path],
    *,
    headers: Sequence[Path] = (),
    flags: Sequence[str],
    libraries: Sequence[str] = (),
    depends_on: str = "",
) -> Path:
    """Compile sources, which include the headers, for this very processor, or take the library from the cache.

    depends_on: what else the library must be made anew for. Raises CannotCompileError.
    """
    compiler, reason = _compiler(), reason_against_compiling()
    if reason is not None or compiler is None:
        raise CannotCompileError(reason)
    tuning = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    command = [compiler, "-O3", tuning, "-std=c++20", "-shared", "-fPIC", *flags, *map(str, sources), *libraries]
    names = (*(source.read_text() for source in (*sources, *headers)), depends_on, describe_processor(), *command)
    try:
        library = cache_folder() / "kernels" / f"{hashlib.sha256(repr(names).encode()).hexdigest()[:24]}.so"
        if not library.is_file():
            library.parent.mkdir(parents=True, exist_ok=True)
            with replacing(library) as temporary:
                subprocess.run(
                    [*command, "-o", str(temporary)], check=True, capture_output=True, text=True, timeout=_PATIENCE_S
                )
    except subprocess.CalledProcessError as error:
        told = next((line for line in error.stderr.splitlines() if "error" in line), error)
        raise CannotCompileError(f"{compiler} failed: {told}") from error
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:  # RuntimeError: a user without a home folder
        raise CannotCompileError(str(error)) from error
    return library


def _compiler() -> str | None:
    named = os.environ.get("CXX")
    return next(filter(shutil.which, [named] if named else _COMPILERS), None)
