"""Several sources of batches as one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from fastvlm.errors import TrainingError
from fastvlm.training.workers import Batches

BatchType = TypeVar("BatchType", covariant=True)


@dataclass(frozen=True)
class Mixture(Batches[BatchType]):
    """Steps that are each taken from one of several sources of as many, each source as often as its share says.

    The same step gives the same batch everywhere, as long as the sources hold to it.
    """

    sources: Sequence[Batches[BatchType]]
    shares: Sequence[float]
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.sources or len(self.sources) != len(self.shares) or min(self.shares) < 0 or not sum(self.shares):
            raise TrainingError(
                f"Expected a share of at least 0 for each source of a mixture, got {len(self.sources)} sources and "
                f"shares of {', '.join(f'{share:g}' for share in self.shares) or 'none'}."
            )

    def __len__(self) -> int:
        return min(len(source) for source in self.sources)

    def __getitem__(self, step: int) -> BatchType:
        if not 0 <= step < len(self):
            raise IndexError(step)
        rng = random.Random(f"mixture/{self.seed}/{step}")
        return rng.choices(self.sources, self.shares)[0][step]
