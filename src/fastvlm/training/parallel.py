"""Several processes that train one model together, started by torch's own launcher (`torchrun`)."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from fastvlm.errors import FastVLMError, TrainingError

Value = TypeVar("Value")

_WORLD_SIZE = "WORLD_SIZE"
_LOCAL_RANK = "LOCAL_RANK"
"""How torch's launcher tells a process how many there are, and which one it is on its machine."""

_PATIENCE = timedelta(hours=12)
"""So long processes wait for the first one, which may be encoding images for all."""


@contextmanager
def processes() -> Iterator[None]:
    """Find the other processes inside, where torch's launcher started several; by itself one process stays alone.

    Raises TrainingError where another process ends before its time.
    """
    if not _are_started_together() or dist.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(own_device())
    # Most batches leave nothing out of what may be left out, which is no reason for advice.
    warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    try:
        yield
        # A process that ends while others still write would take its connections from them.
        wait_for_all()
    except (dist.DistError, RuntimeError) as error:
        if not _is_of_connection(error):
            raise
        raise TrainingError(
            "Another process has stopped, and this one cannot go on alone. What it said comes first; the last state "
            "that was saved is unharmed."
        ) from error
    finally:
        dist.destroy_process_group()


def refuse_several(what: str) -> None:
    """Raise TrainingError where torch's launcher started several processes for `what`, which is for one."""
    if _are_started_together():
        raise TrainingError(f"Expected one process for {what}, got several. Start it without torchrun.")


def _are_started_together() -> bool:
    return int(os.environ.get(_WORLD_SIZE, "1")) > 1


def _is_of_connection(error: BaseException) -> bool:
    """Whether an exchange failed because the other end is gone: gloo has no kind of error of its own for it."""
    return isinstance(error, dist.DistError) or "gloo" in str(error) or "Connection" in str(error)


def own_device() -> torch.device:
    """Where this process trains: on its own GPU, where there are any, or on the processor."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get(_LOCAL_RANK, "0")))


def num_processes() -> int:
    """How many processes train together; one where none were started together."""
    return dist.get_world_size() if is_parallel() else 1


def process_number() -> int:
    """The number of this process among them, from 0."""
    return dist.get_rank() if is_parallel() else 0


def is_parallel() -> bool:
    """Whether this process is one of several that have found each other."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def is_first() -> bool:
    """Whether this process is the one that writes files and tells a person what happens."""
    return process_number() == 0


def wait_for_all() -> None:
    """Go on once every process has come here."""
    if is_parallel():
        dist.barrier()


def together(do: Callable[[], None]) -> None:
    """Do what can fail in one process alone, such as writing a file, and go on once it is done in every process.

    Raises its FastVLMError, and a TrainingError in the processes where it did not fail.
    """
    failure: FastVLMError | None = None
    try:
        do()
    except FastVLMError as error:
        failure = error
    has_failed = total(float(failure is not None)) > 0
    if failure is not None:
        raise failure
    if has_failed:
        raise TrainingError(_OTHER_STOPPED)


def from_first(find: Callable[[], Value]) -> Value:
    """Have the first process find a value, or write a file, while the others wait, and give the value to all.

    Raises its FastVLMError, and a TrainingError in the other processes.
    """
    if not is_parallel():
        return find()
    failure: FastVLMError | None = None
    outcome: list[tuple[Value] | None] = [None]
    if is_first():
        try:
            outcome = [(find(),)]
        except FastVLMError as error:
            failure = error
    dist.broadcast_object_list(outcome, 0)
    if failure is not None:
        raise failure
    if outcome[0] is None:
        raise TrainingError(_OTHER_STOPPED)
    return outcome[0][0]


_OTHER_STOPPED = "Another process could not go on, and says why."


def synchronised(module: nn.Module) -> nn.Module:
    """Have the gradients of a module be the mean over all processes (DistributedDataParallel)."""
    # A batch of text alone leaves the encoder's parameters without gradients.
    return DistributedDataParallel(module, find_unused_parameters=True) if is_parallel() else module


def without_exchange(module: nn.Module) -> AbstractContextManager[None]:
    """Keep the gradients of one batch to this process inside: others are to be added before they are exchanged."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()


def gather(values: Tensor) -> Tensor:
    """The rows of all processes, in their order; gradients flow back to where the rows came from.

    Every process must bring as many rows.
    """
    if not is_parallel():
        return values
    gathered: Tensor = _Gather.apply(values)  # type: ignore[no-untyped-call]
    return gathered


def total(value: float) -> float:
    """The sum of a number over all processes."""
    if not is_parallel():
        return value
    summed = torch.tensor(value, dtype=torch.float64, device=own_device())
    dist.all_reduce(summed)
    return float(summed)


def totals(values: dict[str, float]) -> dict[str, float]:
    """The sums over all processes of numbers by name; a process need not have all of them."""
    if not is_parallel():
        return values
    everywhere: list[dict[str, float]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(everywhere, values)
    names = dict.fromkeys(name for one in everywhere for name in one)
    return {name: math.fsum(one.get(name, 0.0) for one in everywhere) for name in names}


def to_whole(tensor: Tensor) -> Tensor:
    """A tensor of which each process holds a piece, put together in each; another one as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def take_over(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load whole tensors by name into what a process holds of them."""
    own = module.state_dict()
    pieces = {
        name: distribute_tensor(tensor.to(value.device), value.device_mesh, value.placements)
        if isinstance(value := own[name], DTensor)
        else tensor
        for name, tensor in tensors.items()
    }
    module.load_state_dict(pieces, strict=False)


class _Gather(torch.autograd.Function):
    """All-gather, whose gradient is the sum of what all processes found for these rows."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        summed = gradients[0].contiguous().clone()
        dist.all_reduce(summed)
        return summed.chunk(dist.get_world_size())[dist.get_rank()]
