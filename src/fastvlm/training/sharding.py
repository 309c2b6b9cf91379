"""A model and its optimizer in pieces, one for each process (torch's `fully_shard`, FSDP2), and their state on disk.

Layers of a decoder or a text tower are put together one at a time while they compute. Everything else, the encoder
above all, is whole from the beginning of a step to its end, so that its BatchNorm sees whole maps and whole channels;
only between steps, and in the optimizer, is it in pieces too.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from fastvlm.errors import TrainingError, one_line
from fastvlm.files import write_whole
from fastvlm.models.language.decoder import DecoderLayer
from fastvlm.models.text.transformer import TextLayer
from fastvlm.training.average import WeightAverage
from fastvlm.training.determinism import arithmetic, restore_arithmetic
from fastvlm.training.optimizer import JointOptimizer
from fastvlm.training.parallel import is_first, is_parallel, num_processes, own_device
from fastvlm.training.parts import learning_state
from fastvlm.training.resume import Identity, Progress, cannot_save, has_state, require_same

PROGRESS_FILE = "shards.json"
"""Names the folder of the last complete state."""


def is_begun(folder: Path) -> bool:
    """Whether a run has saved a state in `folder`, whole or in pieces."""
    return has_state(folder) or (folder / PROGRESS_FILE).is_file()


def require_several() -> None:
    """Raise TrainingError where there is one process only."""
    if not is_parallel():
        raise TrainingError(
            "Expected several processes to cut the model into pieces for, got one. Start them with torchrun, or leave "
            "--shard out."
        )


def shard(network: nn.Module) -> nn.Module:
    """Cut the parameters of a network into a piece for each process, in place; gradients are the mean over processes.

    Raises TrainingError where there is one process only.
    """
    require_several()
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # as torch documents it
    # As DistributedDataParallel does: what was drawn at random is the first process's everywhere.
    for tensor in itertools.chain(network.parameters(), network.buffers()):
        dist.broadcast(tensor.detach(), 0)
    mesh = init_device_mesh(own_device().type, (num_processes(),))
    for part in network.modules():
        if isinstance(part, DecoderLayer | TextLayer):
            fully_shard(part, mesh=mesh)
    fully_shard(network, mesh=mesh)
    return network


def nothing_of_all(network: nn.Module) -> Tensor | float:
    """Zero, as a sum over what is whole in this step: a batch of text alone gives the encoder gradients of zero then.

    Processes exchange gradients of all that learns, and would wait for ever for what one of them has no gradient of.
    """
    whole = (one for one in network.parameters() if one.requires_grad and not isinstance(one, DTensor))
    return 0.0 * sum(one.reshape(-1)[0] for one in whole)


@contextmanager
def whole(network: nn.Module) -> Iterator[None]:
    """Have outside of a step, too, what is whole within one: for losses of other data."""
    if not isinstance(network, FSDPModule):
        yield
        return
    network.unshard()
    try:
        yield
    finally:
        network.reshard()


@torch.no_grad()
def put_together(module: nn.Module) -> None:
    """Give the first process the whole module for good, on the processor; the others keep their pieces."""
    for owner in module.modules():
        for name, parameter in list(owner.named_parameters(recurse=False)):
            if not isinstance(parameter, DTensor):
                continue
            value = parameter.full_tensor()
            if is_first():
                setattr(owner, name, nn.Parameter(value.cpu(), requires_grad=parameter.requires_grad))
        for name, buffer in list(owner.named_buffers(recurse=False)):
            setattr(owner, name, buffer.cpu())


def save_shards(
    folder: Path, module: nn.Module, optimizer: JointOptimizer, progress: Progress, *, average: WeightAverage | None
) -> None:
    """Write a run's state, each process its pieces; the last complete state stays until this one is.

    Raises TrainingError where it cannot be written.
    """
    place = folder / f"shards-{progress.step}"
    try:
        save(_state(module, optimizer, average), checkpoint_id=place)
        if is_first():
            write_whole(
                folder / PROGRESS_FILE,
                json.dumps(
                    {
                        "folder": place.name,
                        "step": progress.step,
                        "run": dict(progress.run),
                        "best_loss": progress.best_loss,
                        "machine": arithmetic(),
                    }
                ),
            )
            for other in folder.glob("shards-*"):
                if other != place:
                    shutil.rmtree(other, ignore_errors=True)
    except (OSError, CheckpointException) as error:
        if is_first():
            shutil.rmtree(place, ignore_errors=True)
        is_saved = (folder / PROGRESS_FILE).is_file()
        raise cannot_save(f"the training state in {folder}", _cause(error), is_saved=is_saved) from error


def _cause(error: OSError | CheckpointException) -> BaseException:
    """What went wrong in the first process in which something did."""
    if not isinstance(error, CheckpointException) or not error.failures:
        return error
    cause: BaseException = next(iter(error.failures.values()))[0]
    return cause


def load_shards(
    folder: Path, module: nn.Module, optimizer: JointOptimizer, *, run: Identity, average: WeightAverage | None
) -> Progress:
    """Take over what `save_shards` wrote. Raises TrainingError where it is another run's or cannot be read."""
    try:
        found = json.loads((folder / PROGRESS_FILE).read_text(encoding="utf-8"))
        require_same(found["run"], run, folder)
        progress = Progress(step=found["step"], run=run, best_loss=found["best_loss"])
        state = _state(module, optimizer, average)
        load(state, checkpoint_id=folder / found["folder"])
    except (OSError, ValueError, KeyError, CheckpointException) as error:
        told = one_line(error, max_length=200)
        raise TrainingError(
            f"Cannot read the training state in {folder}: {told}. Start again in a new folder."
        ) from error
    module.load_state_dict(state["module"], strict=False)
    set_optimizer_state_dict(module, only_one(optimizer), state["optimizer"], options=_ONLY_WHAT_LEARNS)
    if average is not None:
        average.restore(state["average"])
    restore_arithmetic(found["machine"])
    return progress


_ONLY_WHAT_LEARNS = StateDictOptions(ignore_frozen_params=True, strict=False)


def _state(module: nn.Module, optimizer: JointOptimizer, average: WeightAverage | None) -> dict[str, Any]:
    """Everything that is saved, or the places to load it into."""
    state: dict[str, Any] = {
        "module": learning_state(module),
        "optimizer": get_optimizer_state_dict(module, only_one(optimizer), options=_ONLY_WHAT_LEARNS),
    }
    return state if average is None else {**state, "average": average.state()}


def only_one(optimizer: JointOptimizer) -> torch.optim.Optimizer:
    """The optimizer of a model in pieces. Raises TrainingError where there is another beside AdamW."""
    if len(optimizer.optimizers) > 1:
        raise TrainingError("Expected AdamW alone for a model in pieces, got Muon too, which needs whole matrices.")
    return optimizer.optimizers[0]
