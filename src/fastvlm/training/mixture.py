"""Several sources of batches as one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

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

    def __len__(self) -> int:
        return min(len(source) for source in self.sources)

    def __getitem__(self, step: int) -> BatchType:
        if not 0 <= step < len(self):
            raise IndexError(step)
        rng = random.Random(f"mixture/{self.seed}/{step}")
        return rng.choices(self.sources, self.shares)[0][step]
