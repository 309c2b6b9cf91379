"""A training run's state on disk: one safetensors file, replaced as a whole, from which a run goes on exactly.

It holds the module, the optimizer, the random state, the step and the number of threads; data positions follow from the
step. A kill at any moment leaves the last complete file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fastvlm.errors import TrainingError
from fastvlm.files import replacing, write_whole
from fastvlm.training.determinism import arithmetic, restore_arithmetic
from fastvlm.training.optimizer import JointOptimizer

STATE_FILE = "state.safetensors"


@dataclass(frozen=True)
class Progress:
    """step: the number of finished steps. run: fingerprint of everything that the numbers depend on."""

    step: int
    run: str


def save_state(folder: Path, module: nn.Module, optimizer: JointOptimizer, progress: Progress) -> None:
    """Write the state atomically; a full disk raises TrainingError and leaves the previous state as it was."""
    tensors = {f"module.{name}": tensor.contiguous() for name, tensor in module.state_dict().items()}
    for index, state in optimizer.states().items():
        tensors |= {f"optimizer.{index}.{key}": value.contiguous() for key, value in state.items()}
    tensors["random"] = torch.get_rng_state()
    metadata = {"step": str(progress.step), "run": progress.run, **arithmetic()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / STATE_FILE) as temporary:
            save_file(tensors, temporary, metadata=metadata)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"Cannot save the training state in {folder}: {error}. Free some space and resume; "
            "the last complete state is unharmed."
        ) from error


def load_state(folder: Path, module: nn.Module, optimizer: JointOptimizer, *, run: str) -> Progress:
    """Restore module, optimizer, random state and, for the whole process, the number of threads.

    Raises TrainingError when the state is of another run.
    """
    path = folder / STATE_FILE
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"Cannot read the training state {path}: {error}. Start again in a new folder.") from error
    if metadata["run"] != run:
        raise TrainingError(
            f"The state in {folder} belongs to a run with other settings. Resume with the same settings, "
            "or start again in a new folder."
        )
    module.load_state_dict({name[7:]: tensor for name, tensor in tensors.items() if name.startswith("module.")})
    optimizer.restore(_optimizer_states(tensors))
    torch.set_rng_state(tensors["random"])
    restore_arithmetic(metadata)
    return Progress(step=int(metadata["step"]), run=run)


def has_state(folder: Path) -> bool:
    """Whether a run in this folder can be resumed."""
    return (folder / STATE_FILE).is_file()


def truncate_log(path: Path, *, num_steps: int) -> None:
    """Drop the lines of a metrics log that a kill left behind, from step `num_steps` on."""
    if not path.is_file():
        return
    kept = [line for line in path.read_text().splitlines() if _logged_step(line) < num_steps]
    write_whole(path, "".join(f"{line}\n" for line in kept))


def _logged_step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _optimizer_states(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            states.setdefault(int(index), {})[key] = tensor
    return states
