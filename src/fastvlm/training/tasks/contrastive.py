"""Contrastive pretraining of the encoder, with distillation from stored teachers (paper section 3.2, MobileCLIP)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastvlm.batches import CaptionBatch, Float32Array
from fastvlm.errors import DataError
from fastvlm.models.clip import CLIP
from fastvlm.training.losses import TeacherEmbeddings, contrastive_loss, similarity_distillation_loss
from fastvlm.training.parallel import gather, process_number
from fastvlm.training.precision import mixed_precision
from fastvlm.training.task import TaskLoss


class ContrastiveTask:
    """Trains both towers; the losses of the K captions of a picture are added up.

    contrastive_weight, distillation_weight: MobileCLIP gives 0 and 1 to its convolutional encoders. Distillation needs
    teachers in every batch: raises DataError for one without.
    """

    def __init__(self, model: CLIP, *, contrastive_weight: float = 0.0, distillation_weight: float = 1.0) -> None:
        self.model = model
        self.contrastive_weight, self.distillation_weight = contrastive_weight, distillation_weight
        self.module = nn.ModuleDict({"model": model})

    def loss(self, batch: CaptionBatch) -> TaskLoss:
        """Compare each picture with the captions of all, those of other processes included."""
        device = self.model.log_scale.device
        pixels = torch.from_numpy(batch.pixels).to(device, memory_format=torch.channels_last)
        pictures = self.model.embed_pictures(pixels)
        ids = torch.from_numpy(batch.token_ids).to(device)
        with mixed_precision(device):
            # All captions in one pass: B x K x T to K x B x width.
            words = self.model.embed_words(ids.transpose(0, 1).flatten(0, 1)).view(ids.shape[1], ids.shape[0], -1)
        all_pictures = gather(pictures)
        first, parts, total = process_number() * len(pictures), {}, pictures.new_zeros(())
        for caption, own in enumerate(words):
            all_words = gather(own)
            if caption == 0:
                places = torch.arange(first, first + len(pictures), device=device)
                parts["found"] = ((pictures @ all_words.T).argmax(1) == places).float().mean()
            if self.contrastive_weight:
                loss = contrastive_loss(
                    pictures, own, self.model.scale, all_pictures=all_pictures, all_words=all_words, first=first
                )
                total = total + self.contrastive_weight * loss
                parts[f"contrastive_{caption}"] = loss.detach()
            if self.distillation_weight:
                teachers = _teachers(batch, caption, device)
                loss = similarity_distillation_loss(
                    pictures, own, self.model.scale, teachers, all_pictures=all_pictures, all_words=all_words
                )
                total = total + self.distillation_weight * loss
                parts[f"distillation_{caption}"] = loss.detach()
        return TaskLoss(total, {**parts, "scale": self.model.scale.detach()})

    def weight(self, batch: CaptionBatch) -> float:
        """The number of pictures."""
        return float(len(batch.pixels))

    def describe(self, batch: CaptionBatch) -> str:
        """The ids of the samples."""
        return ", ".join(batch.sample_ids)


def _teachers(batch: CaptionBatch, caption: int, device: torch.device) -> TeacherEmbeddings:
    """What the teachers made of a batch's pictures and of one caption of each."""
    if batch.teacher_pictures is None or batch.teacher_words is None:
        raise DataError(
            f"Expected embeddings of teachers beside {batch.sample_ids[0]} to distil from, got none. "
            "Leave them out with --no-teachers, or add them to the shards."
        )
    pictures = _unit(batch.teacher_pictures, device)
    words = _unit(batch.teacher_words[:, caption], device)
    return TeacherEmbeddings(pictures, words, gather(pictures), gather(words))


def _unit(values: Float32Array, device: torch.device) -> Tensor:
    return nn.functional.normalize(torch.from_numpy(values).to(device), dim=-1)
