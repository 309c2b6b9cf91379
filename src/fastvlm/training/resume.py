"""A training run's state on disk: one safetensors file, replaced as a whole, from which a run goes on exactly.

It holds the module, the optimizer, the random state, the step and the number of threads; data positions follow from the
step. A kill at any moment leaves the last complete file.
"""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fastvlm.errors import TrainingError, one_line
from fastvlm.files import replacing, write_whole
from fastvlm.training.average import WeightAverage
from fastvlm.training.determinism import arithmetic, restore_arithmetic
from fastvlm.training.optimizer import JointOptimizer
from fastvlm.training.parallel import is_first, take_over, to_whole
from fastvlm.training.parts import learning_state

STATE_FILE = "state.safetensors"

Identity = Mapping[str, str]
"""Everything that the numbers of a run depend on, by name: settings in words, digests of data."""

_MAX_NAMED = 3
"""Of settings that differ so many are named."""

_MAX_SHOWN, _CONTEXT = 40, 12
"""Characters of a value that are shown, and of them before the first difference."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    step: the number of finished steps. run: what they depend on. best_loss: the lowest on validation data so far.
    seconds: that they took.
    """

    step: int
    run: Identity
    best_loss: float = math.inf
    seconds: float = 0.0


def identity_of(settings: Any, *, without: tuple[str, ...] = ()) -> dict[str, str]:
    """The fields of a dataclass, and of those in it, as part of an identity; `without` names what changes no number."""
    found: dict[str, str] = {}
    for name in (field.name for field in fields(settings)):
        value = getattr(settings, name)
        if name in without:
            continue
        if is_dataclass(value):
            found |= {f"{name}.{inner}": told for inner, told in identity_of(value).items()}
        else:
            found[name] = repr(value)
    return found


def require_same(kept: object, wanted: Identity, folder: Path) -> None:
    """Raise TrainingError, naming what differs, where a state in `folder` is of another run than the one wanted."""
    if kept == wanted:
        return
    if not isinstance(kept, dict):
        raise TrainingError(f"The state in {folder} is of another version of fastvlm. Start again in a new folder.")
    names = [name for name in (*wanted, *kept) if kept.get(name) != wanted.get(name)]
    differing = list(dict.fromkeys(names))
    told = ", ".join(_difference(name, kept.get(name), wanted.get(name)) for name in differing[:_MAX_NAMED])
    more = f" and {len(differing) - _MAX_NAMED} more" if len(differing) > _MAX_NAMED else ""
    raise TrainingError(
        f"The state in {folder} belongs to a run with other settings: {told}{more}. Resume with the same settings, "
        "or start again in a new folder."
    )


def _difference(name: str, kept: str | None, wanted: str | None) -> str:
    """Two values of a setting from a little before where they begin to differ."""
    kept, wanted = kept or "none", wanted or "none"
    pairs = enumerate(zip(kept, wanted, strict=False))
    common = next((place for place, (one, other) in pairs if one != other), min(len(kept), len(wanted)))
    start = max(0, common - _CONTEXT) if max(len(kept), len(wanted)) > _MAX_SHOWN else 0
    shown = [("..." if start else "") + one_line(value[start:], max_length=_MAX_SHOWN) for value in (kept, wanted)]
    return f"{name} {shown[0]} instead of {shown[1]}"


def cannot_save(what: str, error: BaseException, *, is_saved: bool) -> TrainingError:
    """What to tell a person where `what` cannot be written. is_saved: whether an earlier state is there."""
    text = one_line(error, max_length=200)
    is_full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or f"os error {errno.ENOSPC}" in text
    advice = "Free some space and resume" if is_full else "See that the folder can be written to and resume"
    left = "the last complete state is unharmed" if is_saved else "no state was saved before"
    return TrainingError(f"Cannot write {what}: {text}. {advice}; {left}.")


def save_state(
    folder: Path,
    module: nn.Module,
    optimizer: JointOptimizer,
    progress: Progress,
    *,
    average: WeightAverage | None = None,
) -> None:
    """Write the state atomically; a full disk raises TrainingError and leaves the previous state as it was.

    Frozen parts, which are as they were when the run started, are left out.
    """
    tensors = {f"module.{name}": tensor.contiguous() for name, tensor in learning_state(module).items()}
    for index, state in optimizer.states().items():
        tensors |= {f"optimizer.{index}.{key}": value.contiguous() for key, value in state.items()}
    if average is not None:
        tensors |= {f"average.{name}": tensor.contiguous() for name, tensor in average.state().items()}
    tensors["random"] = torch.get_rng_state()
    metadata = {
        "step": str(progress.step),
        "run": json.dumps(dict(progress.run)),
        "best_loss": repr(progress.best_loss),
        "seconds": repr(progress.seconds),
        **arithmetic(),
    }
    _write(folder / STATE_FILE, tensors, metadata)


def save_weights(path: Path, module: nn.Module) -> None:
    """Write what training can have changed, atomically, in the first process; all put pieces together for it.

    Raises TrainingError as `save_state` does.
    """
    tensors = {name: to_whole(tensor).contiguous() for name, tensor in learning_state(module).items()}
    if is_first():
        _write(path, tensors, {})


def load_weights(path: Path, module: nn.Module) -> None:
    """Take over what `save_weights` wrote. Raises TrainingError where it is not there or of another module."""
    _take_over(module, _read(path)[1], path)


def load_state(
    folder: Path,
    module: nn.Module,
    optimizer: JointOptimizer,
    *,
    run: Identity,
    average: WeightAverage | None = None,
) -> Progress:
    """Restore module, optimizer, random state and, for the whole process, the number of threads.

    Raises TrainingError when the state is of another run.
    """
    path = folder / STATE_FILE
    metadata, tensors = _read(path)
    require_same(_run_of(metadata), run, folder)
    _take_over(module, _below("module.", tensors), path)
    optimizer.restore(_optimizer_states(tensors))
    if average is not None:
        average.restore(_below("average.", tensors))
    torch.set_rng_state(tensors["random"])
    restore_arithmetic(metadata)
    best_loss, seconds = float(metadata["best_loss"]), float(metadata["seconds"])
    return Progress(step=int(metadata["step"]), run=run, best_loss=best_loss, seconds=seconds)


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata=metadata)
    except (OSError, SafetensorError) as error:
        raise cannot_save(f"the training state in {path.parent}", error, is_saved=path.exists()) from error


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"Cannot read the training state {path}: {error}. Start again in a new folder.") from error


def _run_of(metadata: Mapping[str, str]) -> object:
    try:
        return json.loads(metadata["run"])
    except (KeyError, ValueError):
        return None


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _take_over(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    if tensors.keys() != learning_state(module).keys():
        raise TrainingError(f"The state {path} belongs to a run of other parts. Start again in a new folder.")
    take_over(module, tensors)


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
            # A copy: what is read is a view of the file, whose space a replaced one would keep until the run ends.
            states.setdefault(int(index), {})[key] = tensor.clone()
    return states
