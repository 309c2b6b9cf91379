"""Dense supervision of the encoder: classify every place of a generated picture, count what each token holds.

The paper has no such task; it stands in for image-text pretraining where pictures are generated and know what they
show. Without it a small encoder trained from nothing through the language model alone stays long on a plateau.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastvlm.batches import DenseLabels, TrainingBatch
from fastvlm.errors import DataError
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.models.vision.fastvithd import FastViTHD
from fastvlm.training.losses import class_map_loss, count_loss
from fastvlm.training.task import TaskLoss

CLASS_MAP_STAGE = 2
"""The stage whose map has one cell for every 16 x 16 pixels."""

BACKGROUND_WEIGHT = 0.25
"""Most cells are background; this keeps them from drowning the objects."""

COUNT_WEIGHT = 0.3
"""The sum over many features is large beside the mean of the class maps; this brings them level."""

RARE = -4.0
"""Log rate that the counts start from: most features are absent from most tokens."""


@dataclass(frozen=True, kw_only=True)
class DenseTargets:
    """num_classes: classes of each class map, the background included. num_features: counted features of a token."""

    num_classes: tuple[int, ...]
    num_features: int


class DenseHeads(nn.Module):
    """Linear heads on the map of 16 px cells and on the visual tokens; dropped after training."""

    def __init__(self, vision: FastViTHDConfig, targets: DenseTargets) -> None:
        super().__init__()
        self.class_maps = nn.ModuleList(
            nn.Conv2d(vision.widths[CLASS_MAP_STAGE], num_classes, 1) for num_classes in targets.num_classes
        )
        self.token_counts = nn.Conv2d(vision.output_width, targets.num_features, 1)
        assert self.token_counts.bias is not None
        nn.init.constant_(self.token_counts.bias, RARE)

    def forward(self, maps: Sequence[Tensor], labels: DenseLabels) -> TaskLoss:
        """Loss of the encoder's maps (see FastViTHD.forward_stages) against the labels of the same pictures."""
        device = maps[0].device
        class_maps = torch.from_numpy(labels.class_maps).to(device)
        counts = torch.from_numpy(labels.token_counts).to(device)
        class_losses = [
            class_map_loss(head(maps[CLASS_MAP_STAGE]), class_maps[:, index], background_weight=BACKGROUND_WEIGHT)
            for index, head in enumerate(self.class_maps)
        ]
        class_loss = torch.stack(class_losses).mean()
        token_loss = count_loss(self.token_counts(maps[-1]).flatten(2).transpose(1, 2), counts)
        parts = {"dense_class": class_loss.detach(), "dense_count": token_loss.detach()}
        return TaskLoss(class_loss + COUNT_WEIGHT * token_loss, parts)


class DenseTask:
    """Trains an encoder on dense labels alone."""

    def __init__(self, encoder: FastViTHD, heads: DenseHeads) -> None:
        self.encoder, self.heads = encoder, heads
        self.module = nn.ModuleDict({"vision": encoder, "heads": heads})

    def loss(self, batch: TrainingBatch) -> TaskLoss:
        """Loss of one batch of pictures with dense labels."""
        if batch.dense is None:
            raise DataError(f"Expected dense labels with every picture, {batch.sample_ids[0]} has none.")
        device = next(self.encoder.parameters()).device
        pixels = torch.from_numpy(batch.pixels).to(device, memory_format=torch.channels_last)
        loss: TaskLoss = self.heads(self.encoder.forward_stages(pixels), batch.dense)
        return loss

    def describe(self, batch: TrainingBatch) -> str:
        """The ids of the samples."""
        return ", ".join(batch.sample_ids)
