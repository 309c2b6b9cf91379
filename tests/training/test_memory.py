"""Memory that is freed stays with the process."""

import ctypes
import platform
import subprocess
import sys

import pytest

from fastvlm.training.memory import keep_freed_memory

_SIZE_BYTES = 2**26
_COUNT_FAULTS = f"""
import resource
import sys
import numpy as np
from fastvlm.training.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
np.ones({_SIZE_BYTES}, dtype=np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones({_SIZE_BYTES}, dtype=np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _page_faults(how: str) -> int:
    """How many pages an array asks of the system where one of its size has just been freed."""
    # No huge pages: numpy asks for them where it may, and they hide most faults.
    environment = {"NUMPY_MADVISE_HUGEPAGE": "0"}
    command = [sys.executable, "-c", _COUNT_FAULTS, how]
    return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library's malloc")
def test_a_step_does_not_ask_again_for_the_memory_of_the_last() -> None:
    assert _page_faults("given back") > _SIZE_BYTES // 4096 // 2
    assert _page_faults("kept") < 100


def test_another_malloc_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not keep_freed_memory()
