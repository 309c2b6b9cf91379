"""Which parts learn: a frozen part keeps its parameters, and its BatchNorm statistics too."""

from __future__ import annotations

from torch import nn


def freeze(module: nn.Module) -> None:
    """Exclude a module from training; `set_training_mode` then keeps its statistics as they are."""
    module.requires_grad_(False)


def set_training_mode(module: nn.Module) -> None:
    """Put what learns into training mode, and every frozen part into evaluation mode.

    A BatchNorm in training mode drifts with every batch even where no gradient reaches it.
    """
    module.train()
    for part in module.modules():
        parameters = list(part.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            part.eval()
