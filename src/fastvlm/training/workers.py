"""Batches prepared ahead in other processes, which end when they are no longer wanted, whatever happened."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fastvlm.errors import FastVLMError

BatchType = TypeVar("BatchType", covariant=True)

_NICENESS = 19  # the most there is
_PARENT_CHECK_S = 1.0
_CAN_WAIT_FOR_SIGNALS = hasattr(signal, "sigtimedwait")  # not on macOS


class Batches(Protocol[BatchType]):
    """Batches by step number: the same number gives the same batch, in any process, at any time."""

    def __len__(self) -> int:
        """Number of steps in the run."""

    def __getitem__(self, step: int) -> BatchType:
        """The batch of one step."""


@contextmanager
def prepared(batches: Batches[Any], numbers: range, num_workers: int) -> Iterator[Iterator[Any]]:
    """The batches of these numbers in order, made in so many worker processes, or in this one where that is 0.

    A FastVLMError of a worker is raised here as it is. The workers end with the context.
    """
    if num_workers == 0:
        yield (batches[number] for number in numbers)
        return
    loader = DataLoader(
        _Attempts(batches),
        batch_size=None,
        sampler=numbers,
        num_workers=num_workers,
        prefetch_factor=4,
        worker_init_fn=_settle,
        collate_fn=_packed if torch.cuda.is_available() else _as_it_is,
        generator=torch.Generator(),  # of its own: drawing from the global one would change what a resumed run draws
    )
    with _stop_requests_held():
        attempts = _Closing(iter(loader))
    try:
        yield map(_result_of, attempts)
    finally:
        attempts.close()


@contextmanager
def _stop_requests_held() -> Iterator[None]:
    """Processes that are started meanwhile never take a SIGTERM unasked (see `_settle`)."""
    if not _CAN_WAIT_FOR_SIGNALS:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Closing:
    """An iterator that is let go when it is closed, also where a traceback still holds this object.

    A loader's workers end when its iterator is collected. One that is only collected at the end of the interpreter
    never ends them.
    """

    def __init__(self, items: Iterator[Any]) -> None:
        self._items: Iterator[Any] | None = items

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> object:
        if self._items is None:
            raise StopIteration
        return next(self._items)

    def close(self) -> None:
        self._items = None


class _Attempts(Dataset[object]):
    """Batches, or the error that one ended with: a loader's process would tell it over many lines."""

    def __init__(self, batches: Batches[Any]) -> None:
        self._batches = batches

    def __getitem__(self, number: int) -> object:
        try:
            return self._batches[number]
        except FastVLMError as error:
            return error


def _result_of(attempt: object) -> object:
    if isinstance(attempt, _Packed):
        attempt = attempt.open()
    if isinstance(attempt, FastVLMError):
        raise attempt
    return attempt


def _as_it_is(batch: object) -> object:
    """Batches are numpy; the loader must not turn them into tensors."""
    return batch


def _settle(_: int) -> None:
    """Work when the parent does not, and leave stop requests to it, which saves before it ends its workers.

    A SIGTERM that all processes of a job get must not end a worker; one that the parent sends must. A worker whose
    parent was killed ends too: it would wait for ever for somebody to take its batches.
    """
    _work_when_idle()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _CAN_WAIT_FOR_SIGNALS:  # by itself only a forked process holds back what its parent does
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _work_when_idle() -> None:
    """Take what of the processors nobody wants, above all while the parent waits for a batch.

    Where training has a thread on each core, a worker beside it makes all threads wait for the one that it slows down.
    """
    if hasattr(os, "SCHED_IDLE"):
        with suppress(OSError):  # some sandboxes refuse it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            return
    if hasattr(os, "nice"):
        os.nice(_NICENESS)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()  # not getppid: some processes are forked by a server for their parent
    assert parent is not None
    while parent.is_alive():
        if not _CAN_WAIT_FOR_SIGNALS:
            time.sleep(_PARENT_CHECK_S)
            continue
        request = signal.sigtimedwait({signal.SIGTERM}, _PARENT_CHECK_S)
        if request is not None and request.si_pid == parent.pid:
            break
    os._exit(0)


_SHARED_MEMORY = Path("/dev/shm")
_LEAST_SHARED = 2**30
"""Bytes of it that have to be free: containers often have a sixteenth of that, and who finds none is killed."""


def _has_room(num_bytes: int) -> bool:
    """Whether so much more can be shared, and a reserve is left for what others share at the same time."""
    return not _SHARED_MEMORY.is_dir() or shutil.disk_usage(_SHARED_MEMORY).free >= num_bytes + _LEAST_SHARED


@dataclass(frozen=True)
class _Packed:
    """A batch whose arrays lie in memory that both processes see.

    A GPU takes batches faster than a pipe gives them; elsewhere they go through the pipe.
    """

    frame: bytes
    arrays: Tensor
    places: tuple[tuple[int, int], ...]

    def open(self) -> object:
        """The batch; its arrays stay where they lie."""
        memory = memoryview(self.arrays.numpy())  # type: ignore[arg-type]  # an array is a buffer
        buffers = [memory[start:stop] for start, stop in self.places]
        return pickle.loads(self.frame, buffers=buffers)


_ALIGNMENT = 64


def _packed(batch: object) -> object:
    """A batch for a GPU's process, through shared memory where there is room."""
    buffers: list[pickle.PickleBuffer] = []
    frame = pickle.dumps(batch, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    places, end = [], 0
    for view in views:
        places.append((end, end + view.nbytes))
        end = -(-(end + view.nbytes) // _ALIGNMENT) * _ALIGNMENT
    if not _has_room(end):
        return batch
    arrays = torch.empty(max(1, end), dtype=torch.uint8)
    arrays.share_memory_()  # type: ignore[no-untyped-call]  # torch does not say
    whole = arrays.numpy()
    for view, (start, stop) in zip(views, places, strict=True):
        whole[start:stop] = np.frombuffer(view, np.uint8)
    return _Packed(frame, arrays, tuple(places))
