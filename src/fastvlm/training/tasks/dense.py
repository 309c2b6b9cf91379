"""Dense supervision of the encoder: classify every place of a generated picture, know what each token should.

The paper has no such task; it stands in for image-text pretraining where pictures are generated and know what they
show. Without it a small encoder trained from nothing through the language model alone stays long on a plateau.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastvlm.batches import DenseLabels, TrainingBatch
from fastvlm.errors import DataError
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.models.vision.convolution import Convolution
from fastvlm.models.vision.fastvithd import FastViTHD
from fastvlm.training.losses import feature_loss, weighted_class_loss
from fastvlm.training.precision import encoder_precision
from fastvlm.training.task import TaskLoss
from fastvlm.training.tasks.shown import shown


@dataclass(frozen=True, kw_only=True)
class DenseTargets:
    """What is predicted. num_features: numbers that each visual token should know.

    class_maps: by stage of the encoder, for each of its class maps the number of classes, the background included, and
    how much a cell of background counts beside 1 for the others, so that the many do not drown the few.
    """

    class_maps: Mapping[int, tuple[tuple[int, float], ...]]
    num_features: int


class DenseHeads(nn.Module):
    """Linear heads on maps of the stages and on the visual tokens; not part of the model."""

    def __init__(self, vision: FastViTHDConfig, targets: DenseTargets) -> None:
        super().__init__()
        self.places = [
            (stage, index, weight)
            for stage, kinds in targets.class_maps.items()
            for index, (_, weight) in enumerate(kinds)
        ]
        self.class_maps = nn.ModuleList(
            Convolution(vision.widths[stage], num_classes, 1, bias=True)
            for stage, kinds in targets.class_maps.items()
            for num_classes, _ in kinds
        )
        self.token_features = nn.Linear(vision.output_width, targets.num_features)

    def forward(self, maps: Sequence[Tensor], labels: DenseLabels) -> TaskLoss:
        """Loss of the encoder's maps (see FastViTHD.forward_stages) against the labels of the same pictures."""
        device = maps[0].device
        class_maps = {stage: torch.from_numpy(classes).to(device) for stage, classes in labels.class_maps.items()}
        class_losses = [
            weighted_class_loss(head(maps[stage]).float(), class_maps[stage][:, index], background_weight=weight)
            for head, (stage, index, weight) in zip(self.class_maps, self.places, strict=True)
        ]
        class_loss = torch.stack(class_losses).sum()
        token_loss = feature_loss(
            self.token_features(maps[-1].flatten(2).transpose(1, 2)).float(),
            torch.from_numpy(labels.token_features).to(device),
            torch.from_numpy(labels.token_weights).to(device),
        )
        parts = {"dense_class": class_loss.detach(), "dense_token": token_loss.detach()}
        return TaskLoss(class_loss + token_loss, parts)


class DenseTask:
    """Trains an encoder on dense labels alone."""

    def __init__(self, encoder: FastViTHD, heads: nn.Module) -> None:
        self.encoder, self.heads = encoder, heads
        self.module = nn.ModuleDict({"vision": encoder, "heads": heads})

    def loss(self, batch: TrainingBatch) -> TaskLoss:
        """Loss of one batch of pictures with dense labels."""
        labels = require_labels(batch)
        device = next(self.encoder.parameters()).device
        with encoder_precision(self.encoder, device):
            maps = self.encoder.forward_stages(shown(batch.pixels, device))
        loss: TaskLoss = self.heads([one.float() for one in maps], labels)
        return loss

    def weight(self, batch: TrainingBatch) -> float:
        """The number of pictures."""
        return float(len(batch.pixels))

    def describe(self, batch: TrainingBatch) -> str:
        """The ids of the samples."""
        return ", ".join(batch.sample_ids)


def require_labels(batch: TrainingBatch) -> DenseLabels:
    """The dense labels of a batch; raises DataError where it has none."""
    if batch.dense is None:
        raise DataError(f"Expected dense labels with every picture, {batch.sample_ids[0]} has none.")
    return batch.dense
