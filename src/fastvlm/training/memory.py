"""Memory that a step frees stays with the process, so that the next step need not ask for it again.

A step allocates and frees the same tensors as the one before. glibc by default gives large ones back to the system at
once, which has to clear every page of them anew.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_HELD_BYTES = (2**30, 2**25)
"""Up to which size what is freed is kept, the second where a glibc before 2.35 takes no more."""
_LARGEST_HEAP_TOP_BYTES = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process hold what it frees, until it ends; False, and nothing is changed, where malloc can't.

    For small models alone: what is kept is in pieces, so that the peak may rise.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # other C libraries: musl, macOS, Windows
        return False
    # The heap's end is held only where this is: it would switch off what glibc does by itself.
    is_held = any(mallopt(_M_MMAP_THRESHOLD, size) for size in _LARGEST_HELD_BYTES)
    return is_held and bool(mallopt(_M_TRIM_THRESHOLD, _LARGEST_HEAP_TOP_BYTES))
