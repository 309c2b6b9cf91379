"""Memory that a step frees stays with the process, so that the next step need not ask for it again.

A step allocates and frees the same tensors as the one before. glibc by default gives large ones back to the system at
once, which has to clear every page of them anew.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_HELD_BYTES, _LARGEST_HEAP_TOP_BYTES = 2**30, 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process hold what it frees, whether for a tensor or at the heap's end; False where malloc can't."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # other C libraries: musl, macOS, Windows
        return False
    are_set = [
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_HELD_BYTES),
        mallopt(_M_TRIM_THRESHOLD, _LARGEST_HEAP_TOP_BYTES),
    ]
    return all(are_set)
