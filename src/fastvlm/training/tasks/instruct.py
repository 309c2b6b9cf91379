"""Visual instruction tuning: predict the assistant's words after a picture and a question (paper sections 3 and 4)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from fastvlm.batches import TrainingBatch
from fastvlm.models.vlm import FastVLM, segment_mask
from fastvlm.training.losses import answer_weights, next_token_loss
from fastvlm.training.task import TaskLoss
from fastvlm.training.tasks.dense import DenseHeads

Weighting = Literal["token", "answer"]


class InstructTask:
    """Trains a vision-language model on the supervised tokens of conversations.

    heads: dense supervision of the encoder beside it, weighted by dense_weight, or None. weighting: whether each token
    counts the same, as in LLaVA, or each answer, so that short ones are not drowned by long ones.
    """

    def __init__(
        self,
        model: FastVLM,
        *,
        heads: DenseHeads | None = None,
        dense_weight: float = 0.0,
        weighting: Weighting = "token",
    ) -> None:
        self.model, self.heads, self.dense_weight, self.weighting = model, heads, dense_weight, weighting
        modules: dict[str, nn.Module] = {"model": model}
        if heads is not None:
            modules["heads"] = heads
        self.module = nn.ModuleDict(modules)

    def loss(self, batch: TrainingBatch) -> TaskLoss:
        """Cross-entropy of the supervised tokens, plus the dense losses where there are heads and labels."""
        device = next(self.model.parameters()).device
        maps = self._maps(batch, device)
        supervised = torch.from_numpy(batch.supervised)
        logits = self.model(
            None if maps is None else self.model.project(maps[-1]).flatten(0, 1),
            token_ids=torch.from_numpy(batch.token_ids).to(device),
            is_visual=torch.from_numpy(batch.is_visual),
            positions=torch.from_numpy(batch.positions).to(device),
            mask=segment_mask(torch.from_numpy(batch.segments)).to(device),
            rows=_before(supervised),
        )
        targets = torch.from_numpy(batch.token_ids)[supervised].to(device)
        weights = answer_weights(supervised).to(device) if self.weighting == "answer" else None
        word_loss = next_token_loss(logits, targets, weights)
        accuracy = (logits.argmax(1) == targets).float().mean()
        parts = {"words": word_loss.detach(), "token_accuracy": accuracy}
        if self.heads is None or batch.dense is None or maps is None:
            return TaskLoss(word_loss, parts)
        dense: TaskLoss = self.heads(maps, batch.dense)
        return TaskLoss(word_loss + self.dense_weight * dense.total, {**parts, **dense.parts})

    def _maps(self, batch: TrainingBatch, device: torch.device) -> list[Tensor] | None:
        """The encoder's maps of all pictures; text alone skips it: made-up pictures would disturb its statistics."""
        if not len(batch.pixels):
            return None
        pixels = torch.from_numpy(batch.pixels).to(device, memory_format=torch.channels_last)
        return self.model.vision.forward_stages(pixels)

    def describe(self, batch: TrainingBatch) -> str:
        """The ids of the samples."""
        return ", ".join(batch.sample_ids)


def _before(marks: Tensor) -> Tensor:
    """The positions whose scores predict the marked ones: B x T, each mark moved one position to the left."""
    before = torch.zeros_like(marks)
    before[:, :-1] = marks[:, 1:]
    return before
