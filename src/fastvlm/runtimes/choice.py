"""Which runtime answers: torch on GPUs and Apple silicon, our own kernels or OpenVINO on processors, without torch."""

from __future__ import annotations

import importlib.util
import logging
import platform
import re
from pathlib import Path
from typing import Literal, cast, get_args

from fastvlm.checkpoints.stored import StoredCheckpoint
from fastvlm.compiler import NoLibraryError
from fastvlm.errors import GenerationError, require_extra
from fastvlm.machine import cache_folder_if_any, has_instruction
from fastvlm.models.config import VLMConfig
from fastvlm.models.vision.config import Form
from fastvlm.runtimes.protocol import Runtime, WeightFormat

RuntimeName = Literal["torch", "openvino", "kernels"]

_LOGGER = logging.getLogger(__name__)


WEIGHT_FORMATS = get_args(WeightFormat)
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
_DEVICES = r"auto|cpu|mps|cuda(:\d+)?"


def open_runtime(
    stored: StoredCheckpoint,
    *,
    name: RuntimeName,
    device: str,
    dtype: str,
    num_threads: int | None,
    quantize: str | None = None,
    is_any_size: bool = False,
) -> Runtime:
    """Read the weights of a checkpoint into a runtime; device, dtype and num_threads as the runtimes take them.

    quantize: one of WEIGHT_FORMATS on a processor, or None. is_any_size: pictures of a new size must not have to wait
    for a graph of their own.
    """
    if name == "kernels":
        from fastvlm.runtimes.kernels.runtime import KernelRuntime

        return KernelRuntime(
            stored.config.vlm,
            stored.tensors,
            num_threads=num_threads,
            cache_folder=cache_folder_if_any(),
            weight_format=cast(WeightFormat | None, quantize),
            encoder_ranges=stored.encoder_ranges,
        )
    if name == "openvino":
        from fastvlm.runtimes.openvino.runtime import NUM_FIXED_SIZES, OpenVINORuntime

        return OpenVINORuntime(
            stored.config.vlm,
            stored.tensors,
            dtype=dtype,
            num_threads=num_threads,
            cache_folder=cache_folder_if_any(),
            weight_format=cast(WeightFormat | None, quantize),
            encoder_ranges=stored.encoder_ranges,
            num_fixed_sizes=0 if is_any_size else NUM_FIXED_SIZES,
        )
    from fastvlm.checkpoints.load import load_stored
    from fastvlm.runtimes.torch import TorchRuntime

    return TorchRuntime(load_stored(stored).model, device=device, dtype=dtype, num_threads=num_threads)


def choose_runtime(
    name: str, *, device: str, dtype: str, config: VLMConfig, quantize: str | None = None
) -> RuntimeName:
    """The runtime of a name; `auto` is torch where the device, the precision or the encoder's form needs it, else our
    own kernels where they are the fastest, else OpenVINO.

    quantize: one of WEIGHT_FORMATS, which runtimes on processors have, or None.

    A wrong device or precision is told now, and not after gigabytes have been read: raises GenerationError for
    it and for an unknown name, MissingExtraError where torch is needed and not there.
    """
    form = config.vision.form
    if name not in ("auto", *get_args(RuntimeName)):
        raise GenerationError(f"Expected a runtime of auto, {', '.join(get_args(RuntimeName))}, got {name!r}.")
    _check_names(device, dtype)
    if quantize is not None:
        _check_quantize(quantize, name=name, device=device, form=form)
    if name == "auto" and (quantize is not None or (form == "fused" and not _needs_torch(device, dtype))):
        # In this order: nothing is compiled for a machine that is faster without.
        reason = _reason_for_openvino() or _reason_against_kernels(config, device=device, dtype=dtype)
        if reason is None:
            return "kernels"
        _LOGGER.info("OpenVINO answers and not our own kernels: %s", reason)
        name = "openvino"
    if name == "kernels":
        reason = _reason_against_kernels(config, device=device, dtype=dtype)
        if reason is not None:
            raise GenerationError(f"Our own kernels cannot answer: {reason}. Leave out --runtime kernels.")
        return "kernels"
    if name == "openvino":
        from fastvlm.runtimes.openvino.engine import choose_precision

        if device not in ("auto", "cpu"):
            raise GenerationError(
                f"Expected the device cpu for OpenVINO, got {device!r}; leave out --runtime openvino."
            )
        choose_precision(dtype)
        return "openvino"
    require_extra("torch", "torch")
    from fastvlm.runtimes.torch import choose_device, choose_dtype

    choose_dtype(dtype, choose_device(device))
    return "torch"


def _check_names(device: str, dtype: str) -> None:
    if re.fullmatch(_DEVICES, str(device)) is None:
        raise GenerationError(f"Expected a device of auto, cpu, cuda, cuda:1 and so on, or mps, got {device!r}.")
    if dtype not in PRECISIONS:
        raise GenerationError(f"Expected a precision of {', '.join(PRECISIONS)}, got {dtype!r}.")


def _reason_against_kernels(config: VLMConfig, *, device: str, dtype: str) -> str | None:
    """Why our own kernels cannot compute a model, or None; they are compiled for that where they are not yet."""
    from fastvlm.runtimes.kernels import library
    from fastvlm.runtimes.kernels.runtime import suits

    if device not in ("auto", "cpu"):
        return f"they compute on processors, not on {device}"
    if dtype not in ("auto", "bfloat16"):
        return f"they compute in bfloat16, not in {dtype}"
    if config.vision.form != "fused":
        return "its encoder is in the form of training (fuse it with `fastvlm convert SOURCE DESTINATION --fuse`)"
    if not suits(config):
        return "they do not fit a model of this shape"
    try:
        library.load()
    except NoLibraryError as error:
        return str(error)
    return None


def _reason_for_openvino() -> str | None:
    """Why OpenVINO is faster than our own kernels here, or None."""
    return "this processor has a unit for matrices (AMX), which it knows" if has_instruction("amx_int8") else None


def _check_quantize(quantize: str, *, name: str, device: str, form: Form) -> None:
    if quantize not in WEIGHT_FORMATS:
        raise GenerationError(f"Expected weights to be quantised to {', '.join(WEIGHT_FORMATS)}, got {quantize!r}.")
    if name == "torch" or device not in ("auto", "cpu"):
        where = "torch" if name == "torch" else device
        raise GenerationError(
            f"Expected a processor for quantised weights, got {where}; leave out --quantize, or choose "
            "--device cpu and no --runtime."
        )
    if form == "train":
        raise GenerationError(
            "Expected an encoder in its fused form for quantised weights, got one in the form of training. Fuse it "
            "with `fastvlm convert SOURCE DESTINATION --fuse`, or leave out --quantize."
        )


def _needs_torch(device: str, dtype: str) -> bool:
    if device not in ("auto", "cpu") or dtype == "float16":
        return True
    if importlib.util.find_spec("torch") is None:
        return False
    if device == "auto" and _may_have_accelerator() and _has_accelerator():
        return True
    if dtype != "bfloat16" or has_instruction("avx512_bf16"):
        return False
    from fastvlm.runtimes.openvino.engine import has_bfloat16

    # torch computes in bfloat16 on any processor, slowly.
    return not has_bfloat16()


_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""How Linux shows GPUs of NVIDIA, of AMD, and of either below Windows (WSL 2)."""


def _may_have_accelerator() -> bool:
    """Whether it is worth a second to ask torch."""
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    return platform.system() == "Windows" or any(Path(device).exists() for device in _GPU_DEVICES)


def _has_accelerator() -> bool:
    from fastvlm.runtimes.torch import choose_device

    return choose_device("auto").type != "cpu"
