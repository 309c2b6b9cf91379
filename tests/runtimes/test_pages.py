"""What weights are packed from is let go: pages leave, nothing is lost, and no thread stays."""

from __future__ import annotations

import mmap
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from fastvlm.runtimes.pages import released
from support.pages import resident_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pages are let go on Linux alone")

SIZE = 64 << 20


@pytest.fixture
def mapped(tmp_path: Path) -> mmap.mmap:
    path = tmp_path / "weights.bin"
    path.write_bytes(np.random.default_rng(0).integers(256, size=SIZE, dtype=np.uint8).tobytes())
    with path.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)


def test_pages_leave_while_a_block_runs_and_come_back_as_they_were(mapped: mmap.mmap) -> None:
    values = np.frombuffer(mapped, np.uint8)
    expected = int(values.sum(dtype=np.int64))
    assert resident_bytes("weights.bin") == SIZE
    with released((mapped,)):
        deadline = time.monotonic() + 10
        while resident_bytes("weights.bin") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert resident_bytes("weights.bin") == 0
        assert int(values.sum(dtype=np.int64)) == expected
    assert resident_bytes("weights.bin") == 0
    assert int(values.sum(dtype=np.int64)) == expected


def test_a_block_that_fails_leaves_no_thread(mapped: mmap.mmap) -> None:
    with pytest.raises(KeyboardInterrupt), released((mapped,)):
        raise KeyboardInterrupt
    assert "fastvlm-pages" not in {thread.name for thread in threading.enumerate()}


def test_nothing_is_started_for_small_maps(tmp_path: Path) -> None:
    path = tmp_path / "small.bin"
    path.write_bytes(bytes(1 << 20))
    with path.open("rb") as stream:
        small = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    with released((small,)):
        assert "fastvlm-pages" not in {thread.name for thread in threading.enumerate()}


PROGRAM = """
import sys
from pathlib import Path
from fastvlm.benchmarks.shapes import random_checkpoint, shape_config, tensors_of
from fastvlm.benchmarks.questions import Question
from fastvlm.benchmarks.systems import OurSystem
from fastvlm.inference.timings import peak_memory_mb
from fastvlm.runtimes.openvino.runtime import OpenVINORuntime

class AnyRange(dict):
    def __contains__(self, name):
        return True

    def __getitem__(self, name):
        return 6.0

config, quantize = shape_config("fastvlm-0.5b"), sys.argv[3]
runtime = OpenVINORuntime(
    config,
    tensors_of(Path(sys.argv[1])),
    cache_folder=Path(sys.argv[2]),
    weight_format=None if quantize == "none" else quantize,
    encoder_ranges=AnyRange(),
)
system = OurSystem(runtime, vocabulary_size=config.decoder.vocabulary_size)
for _ in range(2):
    system.answer(Question(1024, 30), num_tokens=4)
print(runtime.name, peak_memory_mb())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quantize", "largest_mb"), [("none", (2500, 2200)), ("int8", (1600, 1600)), ("int4", (1600, 1600))]
)
def test_weights_are_held_once(tmp_path: Path, quantize: str, largest_mb: tuple[int, int]) -> None:
    """The 0.5B shape has 620 million parameters: in bfloat16 1.24 GB. Beside them are graphs, pictures and Python."""
    from fastvlm.benchmarks.shapes import random_checkpoint

    folder = random_checkpoint("fastvlm-0.5b", tmp_path / "model")
    command = [sys.executable, "-c", PROGRAM, str(folder), str(tmp_path / "cache"), quantize]
    for start, limit in zip(("cold", "warm"), largest_mb, strict=True):
        finished = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        name, peak_mb = " ".join(finished[:-1]), float(finished[-1])
        print(f"{start}, {name}: {peak_mb:.0f} MB at most")
        if not name.startswith("openvino cpu bfloat16"):
            pytest.skip(f"this processor answers in {name}")
        assert peak_mb < limit
