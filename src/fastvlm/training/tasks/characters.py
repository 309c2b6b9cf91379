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
from fastvlm.models.vision.convolution import Convolution
from fastvlm.training.losses import weighted_class_loss
from fastvlm.training.task import TaskLoss


@dataclass(frozen=True, kw_only=True)
class CharacterTargets:
    """What is predicted. num_classes: of characters, the first standing for none.

    grids: by stage of the encoder, the rows and columns of small cells that each place of its map has to know; that of
    the last stage is asked of the visual tokens. background_weight: how much an empty cell that is asked for counts
    beside 1 for a character. cell_width: of the features of a small cell.
    """

    num_classes: int
    grids: Mapping[int, tuple[int, int]] = field(default_factory=lambda: {1: (1, 2), 2: (1, 4), 3: (2, 8), 4: (4, 16)})
    background_weight: float = 0.3
    cell_width: int = 48


class CharacterHeads(nn.Module):
    """Features of each small cell, linear in its place of a map, that of the last stage in the visual tokens; not part
    of the model.

    One linear classifier reads all cells: a character looks the same wherever in a place it stands, and a rare one is
    learned from all of them.
    """

    def __init__(self, widths: Mapping[int, int], targets: CharacterTargets) -> None:
        """Build for maps of these widths, by stage; the last of them is the width of the visual tokens."""
        super().__init__()
        self.targets, self.last = targets, max(widths)
        self.cells = nn.ModuleDict(
            {
                str(stage): Convolution(widths[stage], rows * columns * targets.cell_width, 1, bias=True)
                for stage, (rows, columns) in targets.grids.items()
            }
        )
        self.classes = nn.Linear(targets.cell_width, targets.num_classes)

    @classmethod
    def of(cls, vision: FastViTHDConfig, targets: CharacterTargets) -> CharacterHeads:
        """The heads for a FastViTHD."""
        stages = dict(enumerate(vision.widths[:-1]))
        return cls({**stages, len(stages): vision.output_width}, targets)

    def forward(self, maps: Sequence[Tensor], labels: DenseLabels) -> TaskLoss:
        """Mean cross-entropy of the maps (see FastViTHD.forward_stages) against `labels.class_maps`, over stages.

        Cells of class -1 are left out. The parts are the losses and the shares of characters that the visual tokens
        tell.
        """
        parts: dict[str, Tensor] = {}
        for name, head in self.cells.items():
            stage = int(name)
            # N x K * cell_width x H x W to one row a cell; labels are N x K x H x W.
            cells = head(maps[-1 if stage == self.last else stage]).float()
            cells = cells.permute(0, 2, 3, 1).reshape(-1, self.targets.cell_width)
            wanted = torch.from_numpy(labels.class_maps[stage]).to(cells.device)
            wanted = wanted.permute(0, 2, 3, 1).flatten()
            is_asked = wanted >= 0
            scores, wanted = self.classes(cells[is_asked]), wanted[is_asked]
            parts[f"characters_{stage}"] = weighted_class_loss(
                scores, wanted, background_weight=self.targets.background_weight
            )
            if stage == self.last:
                with torch.no_grad():
                    is_there = wanted > 0
                    parts["told"] = (scores.argmax(1) == wanted)[is_there].float().mean()
        losses = [loss for name, loss in parts.items() if name != "told"]
        return TaskLoss(torch.stack(losses).mean(), {name: part.detach() for name, part in parts.items()})
