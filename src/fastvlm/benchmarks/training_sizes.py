"""What a GPU needs for pictures of a new size, with cuDNN and without: `python -m fastvlm.benchmarks.training_sizes`.

FastViTHD in the shape `nano` learns from random pictures, forward and backward, in bfloat16. Of each size,
the first step is told by itself, since that is when cuDNN prepares.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch

from fastvlm.errors import FastVLMError, TrainingError, one_line
from fastvlm.evaluation.provenance import describe_machine
from fastvlm.models.vision import gpu_convolution
from fastvlm.models.vision.config import PRESETS
from fastvlm.models.vision.fastvithd import FastViTHD
from fastvlm.training.parallel import own_device
from fastvlm.training.parts import set_training_mode
from fastvlm.training.precision import encoder_precision

SIZES = ((64, 512, 768), (63, 512, 768), (64, 576, 576), (64, 768, 512))
"""Pictures in a batch, their height and their width."""

_SHAPE = replace(PRESETS["fastvithd-nano"], form="train")

WAYS = ("cuDNN", "many sizes")


@dataclass(frozen=True)
class SizeTimes:
    """One size in one way. first_s: seconds of its first step. later_ms: those after it, milliseconds."""

    way: str
    size: tuple[int, int, int]
    first_s: float
    later_ms: tuple[float, ...]


def measure(
    device: torch.device, *, sizes: Sequence[tuple[int, int, int]] = SIZES, num_steps: int = 9
) -> Iterator[SizeTimes]:
    """Time every size in both ways, one way after the other: a preparation serves all steps after it."""
    for way in WAYS:
        ways: AbstractContextManager[None] = gpu_convolution.many_sizes() if way == WAYS[1] else nullcontext()
        with ways:
            torch.manual_seed(0)
            layout = gpu_convolution.memory_format(device)
            encoder = FastViTHD(_SHAPE).to(device=device, memory_format=layout)  # type: ignore[call-overload]  # as torch documents it
            set_training_mode(encoder, keeps_statistics=True)
            seconds = [[_step(encoder, size, device) for _ in range(1 + num_steps)] for size in sizes]
        for size, (first, *later) in zip(sizes, seconds, strict=True):
            yield SizeTimes(way, size, first, tuple(1000 * one for one in later))


def _step(encoder: FastViTHD, size: tuple[int, int, int], device: torch.device) -> float:
    num, height_px, width_px = size
    pixels = torch.rand(num, 3, height_px, width_px, device=device)
    pixels = pixels.contiguous(memory_format=gpu_convolution.memory_format(device))
    _wait(device)
    begin = time.perf_counter()
    with encoder_precision(encoder, device):
        maps = encoder.forward_stages(pixels)
    torch.stack([one.float().mean() for one in maps]).sum().backward()  # type: ignore[no-untyped-call]  # torch's own
    _wait(device)
    return time.perf_counter() - begin


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> int:
    """Print a line for each size and way; returns the exit code."""
    try:
        device = own_device()
        if device.type != "cuda":
            raise TrainingError("Expected an NVIDIA GPU, whose sizes this measures, got a processor alone.")
        print(f"{torch.cuda.get_device_name(device)}; {describe_machine()}")
        for found in measure(device):
            low, median, high = statistics.quantiles(found.later_ms, n=4)
            num, height_px, width_px = found.size
            print(
                f"{found.way}: {num} of {height_px} x {width_px} px, first {found.first_s:.1f} s, then {median:.0f} ms "
                f"({low:.0f} to {high:.0f}, n {len(found.later_ms)})"
            )
    except FastVLMError as error:
        print(one_line(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
