"""Visual instruction tuning: predict the assistant's words after a picture and a question (paper sections 3 and 4)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastvlm.batches import TrainingBatch
from fastvlm.errors import TrainingError
from fastvlm.models.vision.fastvithd import FastViTHD
from fastvlm.models.vlm import FastVLM, segment_mask
from fastvlm.training.losses import answer_numbers, answer_weights, next_token_loss
from fastvlm.training.precision import encoder_precision, mixed_precision
from fastvlm.training.task import TaskLoss
from fastvlm.training.tasks.characters import CharacterHeads
from fastvlm.training.tasks.dense import DenseHeads, require_labels
from fastvlm.training.tasks.grounding import GroundingHeads, LayerInput, reading_loss, watch
from fastvlm.training.tasks.shown import shown


@dataclass(frozen=True)
class Grounding:
    """Heads that teach where words point, and how much their losses count beside that of the words."""

    heads: GroundingHeads
    weight: float


class InstructTask:
    """Trains a vision-language model on the supervised tokens of conversations.

    Pictures come as pixels, or, where the encoder does not learn, as what it made of them.

    resting: what computes in place of an encoder that does not learn, its fused form, since that is faster; or None.
    Raises TrainingError where the encoder does learn.
    heads: dense supervision of the encoder beside it (`DenseHeads`, `CharacterHeads`), weighted by dense_weight, or
    None. passed: heads that read the same characters in what the projector makes of them, weighted alike, or None: it
    learns to pass on what the encoder knows. grounding: what words point at, likewise. answer_exponent: 0 lets each
    token count the same, as in LLaVA, 1 each answer, so that short ones are not drowned by long ones.
    """

    def __init__(
        self,
        model: FastVLM,
        *,
        resting: FastViTHD | None = None,
        heads: nn.Module | None = None,
        passed: CharacterHeads | None = None,
        dense_weight: float = 0.0,
        grounding: Grounding | None = None,
        answer_exponent: float = 0.0,
    ) -> None:
        if resting is not None and any(parameter.requires_grad for parameter in model.vision.parameters()):
            raise TrainingError("Expected an encoder that does not learn beside its fused form. Freeze it first.")
        self.model, self.heads, self.passed, self.grounding = model, heads, passed, grounding
        self.resting, self.dense_weight, self.answer_exponent = resting, dense_weight, answer_exponent
        modules: dict[str, nn.Module] = {"model": model}
        if heads is not None:
            modules["heads"] = heads
        if passed is not None:
            modules["passed"] = passed
        if grounding is not None:
            modules["grounding"] = grounding.heads
        self.module = nn.ModuleDict(modules)

    def loss(self, batch: TrainingBatch) -> TaskLoss:
        """Cross-entropy of the supervised tokens, plus dense losses and those of grounding, with heads and labels."""
        maps = self._maps(batch)
        with mixed_precision(_device(self.model)):
            visual_tokens = self._visual_tokens(batch, maps)
            words = word_loss(
                self.model, visual_tokens, batch, answer_exponent=self.answer_exponent, grounding=self.grounding
            )
        if maps is None or visual_tokens is None:
            return words
        total, parts = words.total, dict(words.parts)
        if self.heads is not None:
            dense: TaskLoss = self.heads(maps, require_labels(batch))
            total, parts = total + self.dense_weight * dense.total, {**parts, **dense.parts}
        if self.passed is not None and batch.dense is not None and batch.dense.content == "characters":
            passed: TaskLoss = self.passed([_as_map(visual_tokens, maps[-1])], batch.dense)
            total = total + self.dense_weight * passed.total
            parts |= {f"passed_{name}": part for name, part in passed.parts.items()}
        return TaskLoss(total, parts)

    @torch.no_grad()
    def right_answers(self, batch: TrainingBatch) -> Tensor:
        """Whether every token of an answer is the likeliest where the words before it are right: one bool for each."""
        maps = self._maps(batch)
        with mixed_precision(_device(self.model)):
            logits = word_logits(self.model, self._visual_tokens(batch, maps), batch)
        supervised = torch.from_numpy(batch.supervised)
        is_right = logits.argmax(1).cpu() == torch.from_numpy(batch.token_ids)[supervised]
        answers = answer_numbers(supervised)
        wrong = torch.zeros(int(answers.max()) + 1).index_add_(0, answers, (~is_right).float())
        return wrong == 0

    def _visual_tokens(self, batch: TrainingBatch, maps: list[Tensor] | None) -> Tensor | None:
        """The decoder's input for all slots, M x width, in their order."""
        if batch.features is not None:
            features = torch.from_numpy(batch.features).to(_device(self.model))
            return self.model.projector(features) if len(features) else None
        return None if maps is None else self.model.project(maps[-1]).flatten(0, 1)

    def _maps(self, batch: TrainingBatch) -> list[Tensor] | None:
        """The encoder's maps of all pictures; text alone skips it: made-up pictures would disturb its statistics."""
        if batch.features is not None or not len(batch.pixels):
            return None
        device = _device(self.model)
        encoder = self.model.vision if self.resting is None else self.resting
        with encoder_precision(encoder, device):
            maps = encoder.forward_stages(shown(batch.pixels, device))
        return [one.float() for one in maps]

    def weight(self, batch: TrainingBatch) -> float:
        """The sum of the weights of its supervised tokens."""
        return float(answer_weights(torch.from_numpy(batch.supervised), exponent=self.answer_exponent).sum())

    def describe(self, batch: TrainingBatch) -> str:
        """The ids of the samples."""
        return ", ".join(batch.sample_ids)


class SymbolTask:
    """Trains the decoder on what each visual token should know, given as numbers: it learns to reason before it sees.

    `symbols` takes the place of the projector's first layer, on the numbers of `DenseLabels.token_features`; the second
    layer is trained with the decoder. No encoder runs, so a step costs a fraction of one with pictures.
    """

    def __init__(
        self,
        model: FastVLM,
        symbols: nn.Linear,
        *,
        grounding: Grounding | None = None,
        answer_exponent: float = 0.0,
    ) -> None:
        self.model, self.symbols, self.grounding, self.answer_exponent = model, symbols, grounding, answer_exponent
        modules = {"decoder": model.decoder, "connector": model.projector.linear_2, "symbols": symbols}
        if grounding is not None:
            modules["grounding"] = grounding.heads
        self.module = nn.ModuleDict(modules)

    def loss(self, batch: TrainingBatch) -> TaskLoss:
        """Cross-entropy of the supervised tokens, plus the losses of grounding."""
        device = _device(self.symbols)
        with mixed_precision(device):
            visual_tokens = None
            if batch.dense is not None:
                features = torch.from_numpy(batch.dense.token_features).to(device)
                visual_tokens = self.model.projector.linear_2(F.gelu(self.symbols(features))).flatten(0, 1)
            return word_loss(
                self.model, visual_tokens, batch, answer_exponent=self.answer_exponent, grounding=self.grounding
            )

    def weight(self, batch: TrainingBatch) -> float:
        """The sum of the weights of its supervised tokens."""
        return float(answer_weights(torch.from_numpy(batch.supervised), exponent=self.answer_exponent).sum())

    def describe(self, batch: TrainingBatch) -> str:
        """The ids of the samples."""
        return ", ".join(batch.sample_ids)


@torch.no_grad()
def connect(model: FastVLM, heads: DenseHeads, symbols: nn.Linear) -> None:
    """Give the projector's first layer the weights that feed `symbols` with what the encoder's head predicts.

    Two linear layers in a row are one, so nothing is approximated.
    """
    first, predicted = model.projector.linear_1, heads.token_features
    first.weight.copy_(symbols.weight @ predicted.weight)
    first.bias.copy_(symbols.weight @ predicted.bias + symbols.bias)


def word_loss(
    model: FastVLM,
    visual_tokens: Tensor | None,
    batch: TrainingBatch,
    *,
    answer_exponent: float,
    grounding: Grounding | None = None,
) -> TaskLoss:
    """Cross-entropy of a batch's supervised tokens after these visual tokens, M x width in the order of their slots.

    With `grounding`, and labels in the batch of what words mean or of where they stand, those losses are added.
    """
    device = _device(model.decoder)
    supervised = torch.from_numpy(batch.supervised)
    watching: AbstractContextManager[dict[int, LayerInput]]
    watching = nullcontext({}) if grounding is None else watch(model.decoder)
    with watching as inputs:
        logits = word_logits(model, visual_tokens, batch)
    targets = torch.from_numpy(batch.token_ids)[supervised].to(device)
    weights = answer_weights(supervised, exponent=answer_exponent).to(device)
    loss = next_token_loss(logits, targets, weights)
    accuracy = (logits.argmax(1) == targets).float().mean()
    parts = {"words": loss.detach(), "token_accuracy": accuracy}
    if grounding is None:
        return TaskLoss(loss, parts)
    found: list[TaskLoss] = []
    if batch.grounding is not None:
        found.append(grounding.heads(model.decoder, inputs, batch))
    if batch.reading is not None:
        found.append(reading_loss(grounding.heads, model.decoder, inputs, batch))
    for pointing in found:
        loss, parts = loss + grounding.weight * pointing.total, {**parts, **pointing.parts}
    return TaskLoss(loss, parts)


def word_logits(model: FastVLM, visual_tokens: Tensor | None, batch: TrainingBatch) -> Tensor:
    """Scores of a batch's supervised tokens, R x vocabulary in row-major order, each after the words before it."""
    device = _device(model.decoder)
    logits: Tensor = model(
        None if visual_tokens is None else visual_tokens.float(),
        token_ids=torch.from_numpy(batch.token_ids).to(device),
        is_visual=torch.from_numpy(batch.is_visual),
        positions=torch.from_numpy(batch.positions).to(device),
        mask=segment_mask(torch.from_numpy(batch.segments).to(device)),
        rows=_before(torch.from_numpy(batch.supervised)),
    )
    return logits


def _as_map(visual_tokens: Tensor, like: Tensor) -> Tensor:
    """Visual tokens of pictures, in their order, as maps: N * h * w x C to N x C x h x w."""
    num, _, height, width = like.shape
    return visual_tokens.float().view(num, height * width, -1).transpose(1, 2).reshape(num, -1, height, width)


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _before(marks: Tensor) -> Tensor:
    """The positions whose scores predict the marked ones: B x T, each mark moved one position to the left."""
    before = torch.zeros_like(marks)
    before[:, :-1] = marks[:, 1:]
    return before
