"""The kernels as a library of this process, and its functions."""

from __future__ import annotations

import ctypes
import re
from functools import cache
from pathlib import Path
from typing import Any

from fastvlm.compiler import CannotCompileError, compiled_library, reason_against_compiling
from fastvlm.machine import describe_processor

_FOLDER = Path(__file__).parent
_SOURCES = [_FOLDER / name for name in ("decoder.cpp", "attention.hpp", "matrices.hpp", "threads.hpp")]
_INSTRUCTIONS = ("avx512_vnni", "avx512_bf16")


class Matrix(ctypes.Structure):
    """See matrices.hpp."""

    _fields_ = (
        ("numbers", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("num_out", ctypes.c_int32),
        ("num_in", ctypes.c_int32),
        ("num_bits", ctypes.c_int32),
    )


class Layer(ctypes.Structure):
    """See decoder.cpp."""

    _fields_ = (
        ("attention_norm", ctypes.c_void_p),
        ("mixed", Matrix),
        ("mixed_bias", ctypes.c_void_p),
        ("output", Matrix),
        ("feed_forward_norm", ctypes.c_void_p),
        ("gate_and_up", Matrix),
        ("down", Matrix),
    )


class Shape(ctypes.Structure):
    """See decoder.cpp."""

    _fields_ = (
        ("width", ctypes.c_int32),
        ("feed_forward_width", ctypes.c_int32),
        ("num_layers", ctypes.c_int32),
        ("num_heads", ctypes.c_int32),
        ("num_key_value_heads", ctypes.c_int32),
        ("head_dim", ctypes.c_int32),
        ("vocabulary_size", ctypes.c_int32),
        ("norm_epsilon", ctypes.c_float),
    )


class Sequence(ctypes.Structure):
    """See attention.hpp."""

    _fields_ = (
        ("keys", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("capacity", ctypes.c_int32),
        ("num_held", ctypes.c_int32),
        ("num_new", ctypes.c_int32),
    )


def reason_against() -> str | None:
    """Why the kernels cannot be had here, before anything is compiled; None where nothing speaks against it."""
    found = re.findall(r"\w+", describe_processor())
    missing = [name for name in _INSTRUCTIONS if name not in found]
    return f"this processor has no {', '.join(missing)}" if missing else reason_against_compiling()


@cache
def load() -> Any:
    """The library, compiled before or now (a few seconds). Raises CannotCompileError."""
    reason = reason_against()
    if reason is not None:
        raise CannotCompileError(reason)
    # GCC takes its own intrinsics for variables that are read before they are set.
    path = compiled_library(_SOURCES, flags=["-pthread", "-Wno-maybe-uninitialized"])
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise CannotCompileError(str(error)) from error
    library.fastvlm_open.restype = ctypes.c_void_p
    library.fastvlm_open.argtypes = [
        ctypes.POINTER(Shape), ctypes.POINTER(Layer), ctypes.c_void_p, ctypes.POINTER(Matrix), ctypes.c_int32,
    ]  # fmt: skip
    library.fastvlm_close.restype, library.fastvlm_close.argtypes = None, [ctypes.c_void_p]
    library.fastvlm_read.restype = ctypes.c_int32
    library.fastvlm_read.argtypes = [
        ctypes.c_void_p, ctypes.POINTER(Sequence), ctypes.c_int32, *[ctypes.c_void_p] * 4,
    ]  # fmt: skip
    return library
