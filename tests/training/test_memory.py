"""Memory that is freed stays with the process."""

import ctypes
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from fastvlm.training.memory import keep_freed_memory

_SIZE_BYTES = 2**26
_NUM_PAGES = _SIZE_BYTES // 4096
_PR_SET_THP_DISABLE = 41
_COUNT_FAULTS = f"""
import ctypes
import resource
import sys
import numpy as np
from fastvlm.training.memory import keep_freed_memory

ctypes.CDLL(None).prctl({_PR_SET_THP_DISABLE}, 1, 0, 0, 0)  # a huge page is one fault for 512 pages
if sys.argv[1] == "kept":
    keep_freed_memory()
np.ones({_SIZE_BYTES}, dtype=np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones({_SIZE_BYTES}, dtype=np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _page_faults(how: str) -> int:
    """How many pages an array asks of the system where one of its size has just been freed."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))
    }
    command = [sys.executable, "-c", _COUNT_FAULTS, how]
    return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or tuple(map(int, platform.libc_ver()[1].split("."))) < (2, 35),
    reason="another malloc, or one that does not keep so much",
)
def test_a_step_does_not_ask_again_for_the_memory_of_the_last() -> None:
    assert _page_faults("given back") > _NUM_PAGES // 2
    assert _page_faults("kept") < 100


class _Malloc:
    """Takes thresholds up to `largest`, and remembers what it was asked."""

    def __init__(self, largest: int) -> None:
        self.largest, self.asked = largest, list[tuple[int, int]]()

    def __call__(self, name: int, value: int) -> int:
        self.asked.append((name, value))
        return int(name == -1 or value <= self.largest)


@pytest.mark.parametrize(
    ("largest", "expected", "names"),
    [(2**31, True, [-3, -1]), (2**25, True, [-3, -3, -1]), (0, False, [-3, -3])],
)
def test_what_malloc_does_by_itself_is_ended_only_where_more_is_kept(
    monkeypatch: pytest.MonkeyPatch, largest: int, expected: bool, names: list[int]
) -> None:
    malloc = _Malloc(largest)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=malloc))
    assert keep_freed_memory() is expected
    assert [name for name, _ in malloc.asked] == names


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    assert not keep_freed_memory()
