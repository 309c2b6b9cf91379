"""The kernels as a library of this process, and its functions."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastvlm.compiler import NoLibraryError, compiled_library, reason_against_compiling
from fastvlm.machine import has_instruction
from fastvlm.runtimes.kernels.packing import LARGEST_HEAD, PANEL, POSITIONS
from fastvlm.runtimes.quantization import GROUP_SIZE

_FOLDER = Path(__file__).parent
_SOURCES = [_FOLDER / name for name in ("decoder.cpp", "encoder.cpp")]
_HEADERS = [_FOLDER / f"{name}.hpp" for name in ("attention", "decoder", "maps", "matrices", "pointwise", "threads")]
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
    """See decoder.hpp."""

    _fields_ = (
        ("attention_norm", ctypes.c_void_p),
        ("mixed", Matrix),
        ("mixed_bias", ctypes.c_void_p),
        ("output", Matrix),
        ("feed_forward_norm", ctypes.c_void_p),
        ("gate_and_up", Matrix),
        ("down", Matrix),
    )


class DecoderShape(ctypes.Structure):
    """See decoder.hpp."""

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


class Pointwise(ctypes.Structure):
    """See pointwise.hpp."""

    _fields_ = (
        ("matrix", Matrix),
        ("bias", ctypes.c_void_p),
        ("reach", ctypes.c_float),
    )


class Depthwise(ctypes.Structure):
    """See maps.hpp."""

    _fields_ = (
        ("weights", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("num_in", ctypes.c_int32),
        ("multiplier", ctypes.c_int32),
    )


class Block(ctypes.Structure):
    """See encoder.cpp."""

    _fields_ = (
        ("mixer", Depthwise),
        ("mixed", Pointwise),
        ("attended", Pointwise),
        ("spatial", Depthwise),
        ("expand", Pointwise),
        ("contract", Pointwise),
        ("is_attention", ctypes.c_int32),
    )


class Stage(ctypes.Structure):
    """See encoder.cpp."""

    _fields_ = (
        ("patch", Depthwise),
        ("pointwise", Pointwise),
        ("position", Depthwise),
        ("blocks", ctypes.POINTER(Block)),
        ("width", ctypes.c_int32),
        ("depth", ctypes.c_int32),
        ("has_patch", ctypes.c_int32),
        ("has_position", ctypes.c_int32),
    )


class EncoderShape(ctypes.Structure):
    """See encoder.cpp."""

    _fields_ = (
        ("stem_weights", ctypes.c_void_p),
        ("stem_bias", ctypes.c_void_p),
        ("stem_spatial", Depthwise),
        ("stem_pointwise", Pointwise),
        ("stages", ctypes.POINTER(Stage)),
        ("expansion", Depthwise),
        ("reduce", Pointwise),
        ("restore", Pointwise),
        ("first", Pointwise),
        ("second", Pointwise),
        ("num_stages", ctypes.c_int32),
        ("head_dim", ctypes.c_int32),
        ("norm_epsilon", ctypes.c_float),
    )


_STRUCTURES = (Matrix, Layer, DecoderShape, Sequence, Pointwise, Depthwise, Block, Stage, EncoderShape)


def reason_against() -> str | None:
    """Why the kernels cannot be had here, before anything is compiled; None where nothing speaks against it."""
    return _reason_of_processor() or reason_against_compiling()


def _reason_of_processor() -> str | None:
    missing = [name for name in _INSTRUCTIONS if not has_instruction(name)]
    return f"this processor has no {', '.join(missing)}" if missing else None


@dataclass(frozen=True)
class Library:
    """The kernels' functions, and the milliseconds that went into having them."""

    functions: Any
    load_ms: float


@cache
def load() -> Library:
    """The library, compiled before or now, which takes a few seconds. Raises NoLibraryError."""
    started_s = time.perf_counter()
    # Without a compiler there may still be a library from before.
    reason = _reason_of_processor()
    if reason is not None:
        raise NoLibraryError(reason)
    path = compiled_library(_SOURCES, headers=_HEADERS, flags=["-pthread"])
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise NoLibraryError(str(error)) from error
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    for name, result, arguments in (
        ("sizes", None, [ctypes.POINTER(number)]),
        ("open_decoder", pointer, [ctypes.POINTER(DecoderShape), ctypes.POINTER(Layer), pointer, Matrix, number]),
        ("close_decoder", None, [pointer]),
        ("read", number, [pointer, ctypes.POINTER(Sequence), number, *[pointer] * 4]),
        ("open_encoder", pointer, [ctypes.POINTER(EncoderShape), number]),
        ("close_encoder", None, [pointer]),
        ("prepare", number, [pointer, number, number, number]),
        ("encode", number, [pointer, pointer, pointer, number, number, number]),
        ("project", number, [pointer, pointer]),
    ):
        function = getattr(library, f"fastvlm_{name}")
        function.restype, function.argtypes = result, arguments
    expected = [*map(ctypes.sizeof, _STRUCTURES), PANEL, GROUP_SIZE, LARGEST_HEAD, POSITIONS]
    sizes = (number * len(expected))()
    library.fastvlm_sizes(sizes)
    if [*sizes] != expected:
        raise NoLibraryError("the library lays out its arguments otherwise")
    return Library(library, (time.perf_counter() - started_s) * 1000)
