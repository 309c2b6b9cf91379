"""Pages of mapped files that weights are packed from: held beside what is packed, they would double it."""

from __future__ import annotations

import contextlib
import mmap
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_INTERVAL_S = 0.02

_SMALLEST_BYTES = 50_000_000
"""Maps that hold less are left to the system: a thread for each run of a small model would cost more than they do."""


@contextmanager
def released(maps: Sequence[mmap.mmap]) -> Iterator[None]:
    """Release the pages of maps that nothing writes to, again and again, while a block runs that reads from them.

    What packs weights reads all of them once. Later runs of a graph read small constants, and the system may map 2 MB
    of the file around each. A page that is read again comes back from the system's cache of files. Only Linux is known
    to keep to that.
    """
    if sum(map(len, maps)) < _SMALLEST_BYTES or sys.platform != "linux":
        yield
        return
    is_over = threading.Event()

    def release() -> None:
        while not is_over.wait(_INTERVAL_S):
            _release(maps)

    thread = threading.Thread(target=release, name="fastvlm-pages", daemon=True)
    with contextlib.suppress(RuntimeError):  # of a system that has no more threads
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        if thread.ident is not None:
            thread.join()
        _release(maps)


def _release(maps: Sequence[mmap.mmap]) -> None:
    for mapped in maps:
        mapped.madvise(mmap.MADV_DONTNEED)
