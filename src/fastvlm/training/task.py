"""What the loop knows of what it trains: a module, and a loss for each batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from torch import Tensor, nn

Batch = TypeVar("Batch", contravariant=True)


@dataclass(frozen=True)
class TaskLoss:
    """total: the scalar to differentiate. parts: named scalars for the log, detached."""

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


class Task(Protocol[Batch]):
    """Something to learn. The loop optimises the parameters of `module` that require gradients."""

    @property
    def module(self) -> nn.Module:
        """Everything that is trained or saved."""

    def loss(self, batch: Batch) -> TaskLoss:
        """Compute the loss of one batch."""

    def weight(self, batch: Batch) -> float:
        """How much a batch counts beside others of the same step: what its loss is a mean over, such as its answers."""

    def describe(self, batch: Batch) -> str:
        """Name the samples of a batch, for the message of a loss that is not finite."""
