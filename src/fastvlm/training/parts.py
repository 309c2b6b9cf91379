"""Which parts learn: a frozen part keeps its parameters, and its BatchNorm statistics too."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from fastvlm.errors import TrainingError
from fastvlm.models.vlm import FastVLM
from fastvlm.training.lora import LoraSettings, add_lora

Parts = Literal["projector", "language", "all"]
"""What learns of a model: the projector, projector and decoder, or everything."""

MIN_PICTURES = 3
"""Statistics of fewer pictures say more about these pictures than about what the model will see."""

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def learning_state(module: nn.Module) -> dict[str, Tensor]:
    """The state of everything but frozen parts, by name: what training can have changed."""
    frozen = {
        f"{name}." if name else ""
        for name, part in module.named_modules()
        if (parameters := list(part.parameters())) and not any(parameter.requires_grad for parameter in parameters)
    }
    return {name: tensor for name, tensor in module.state_dict().items() if not any(map(name.startswith, frozen))}


def freeze(module: nn.Module) -> None:
    """Exclude a module from training; `set_training_mode` then keeps its statistics as they are."""
    module.requires_grad_(False)


def choose_parts(model: FastVLM, parts: Parts, *, lora: LoraSettings | None = None) -> None:
    """Freeze what does not learn; with `lora`, projector and low-rank changes of the decoder do.

    Raises TrainingError and MissingExtraError as `add_lora` does.
    """
    if lora is not None:
        add_lora(model, lora)
        model.projector.requires_grad_(True)
        return
    if parts != "all":
        freeze(model.vision)
    if parts == "projector":
        freeze(model.decoder)


def set_training_mode(module: nn.Module, *, keeps_statistics: bool = False) -> None:
    """Put what learns into training mode, and every frozen part into evaluation mode.

    A BatchNorm in training mode drifts with every batch even where no gradient reaches it. One that learns refuses
    batches that are too small to normalise by, with a TrainingError. keeps_statistics: BatchNorm normalises by the
    statistics that it has and keeps them, for batches of few pictures; its scales and offsets still learn.
    """
    module.train()
    for part in module.modules():
        parameters = list(part.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            part.eval()
        if isinstance(part, _BATCH_NORMS) and keeps_statistics:
            part.eval()
        elif isinstance(part, _BATCH_NORMS) and _require_enough not in part._forward_pre_hooks.values():
            part.register_forward_pre_hook(_require_enough)


def _require_enough(part: nn.Module, inputs: tuple[Any, ...]) -> None:
    if part.training and len(inputs[0]) < MIN_PICTURES:
        raise TrainingError(
            f"Expected at least {MIN_PICTURES} pictures in a batch that BatchNorm learns from, got {len(inputs[0])}. "
            "Make the batches larger, or freeze the encoder."
        )
