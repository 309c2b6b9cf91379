"""What generated pictures of all kinds teach an encoder: to read, to know colours and places, to know objects."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastvlm.batches import DenseLabels
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.training.losses import feature_loss
from fastvlm.training.task import TaskLoss
from fastvlm.training.tasks.characters import CharacterHeads, CharacterTargets
from fastvlm.training.tasks.dense import DenseHeads, DenseTargets


class SightHeads(nn.Module):
    """Heads for batches of documents and for batches of scenes; which of them learn depends on a batch's labels.

    num_looks: numbers that each visual token of a document should know beside its text. Not part of the model.
    """

    def __init__(
        self, vision: FastViTHDConfig, characters: CharacterTargets, objects: DenseTargets, *, num_looks: int
    ) -> None:
        super().__init__()
        self.characters = CharacterHeads.of(vision, characters)
        self.looks = nn.Linear(vision.output_width, num_looks)
        self.objects = DenseHeads(vision, objects)

    def forward(self, maps: Sequence[Tensor], labels: DenseLabels) -> TaskLoss:
        """Loss of the encoder's maps (see FastViTHD.forward_stages) against the labels of the same pictures."""
        if labels.content == "objects":
            objects: TaskLoss = self.objects(maps, labels)
            return objects
        reading: TaskLoss = self.characters(maps, labels)
        if not labels.token_features.size:
            return reading
        predicted = self.looks(maps[-1].flatten(2).transpose(1, 2)).float()
        wanted, weights = (
            torch.from_numpy(numbers).to(predicted.device) for numbers in (labels.token_features, labels.token_weights)
        )
        looks = feature_loss(predicted, wanted, weights)
        return TaskLoss(reading.total + looks, {**reading.parts, "looks": looks.detach()})
