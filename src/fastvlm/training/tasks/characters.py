"""Dense reading: which character stands in each small cell of every map of the encoder.

The paper has no such task; it stands in for pretraining on pictures of the world. A small encoder that is trained to
read through the language model alone stays long on a plateau, since a whole answer has to be right by chance first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fastvlm.batches import DenseLabels
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.training.losses import class_map_loss
from fastvlm.training.task import TaskLoss


@dataclass(frozen=True, kw_only=True)
class CharacterTargets:
    """What is predicted. num_classes: of characters, the first standing for none.

    grids: by stage of the encoder, the rows and columns of small cells that each place of its map has to know; that of
    the last stage is asked of the visual tokens. background_weight: how much an empty cell counts beside 1 for a
    character.
    """

    num_classes: int
    grids: Mapping[int, tuple[int, int]] = field(default_factory=lambda: {1: (1, 2), 2: (1, 4), 3: (2, 8), 4: (4, 16)})
    background_weight: float = 0.1


class CharacterHeads(nn.Module):
    """A linear head on the map of each stage, that of the last on the visual tokens; not part of the model."""

    def __init__(self, vision: FastViTHDConfig, targets: CharacterTargets) -> None:
        super().__init__()
        self.targets, self.last = targets, len(vision.widths) - 1
        widths = {stage: vision.output_width if stage == self.last else vision.widths[stage] for stage in targets.grids}
        self.heads = nn.ModuleDict(
            {
                str(stage): nn.Conv2d(widths[stage], rows * columns * targets.num_classes, 1)
                for stage, (rows, columns) in targets.grids.items()
            }
        )

    def forward(self, maps: Sequence[Tensor], labels: DenseLabels) -> TaskLoss:
        """Mean cross-entropy of the maps (see FastViTHD.forward_stages) against `labels.class_maps`, over stages.

        The parts are the losses and the shares of characters, cells without any left out, that the visual tokens tell.
        """
        parts: dict[str, Tensor] = {}
        for name, head in self.heads.items():
            stage = int(name)
            scores = (
                head(maps[-1 if stage == self.last else stage]).float().unflatten(1, (-1, self.targets.num_classes))
            )
            wanted = torch.from_numpy(labels.class_maps[stage]).to(scores.device)
            # N x K x C x H x W to one picture of K times the height, as the loss takes classes in second place.
            loss = class_map_loss(
                scores.transpose(1, 2).flatten(2, 3),
                wanted.flatten(1, 2),
                background_weight=self.targets.background_weight,
            )
            parts[f"characters_{stage}"] = loss
            if stage == self.last:
                with torch.no_grad():
                    is_there = wanted > 0
                    parts["told"] = (scores.argmax(2) == wanted)[is_there].float().mean()
        losses = [loss for name, loss in parts.items() if name != "told"]
        return TaskLoss(torch.stack(losses).mean(), {name: part.detach() for name, part in parts.items()})
