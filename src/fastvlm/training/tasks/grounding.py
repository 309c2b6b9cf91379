"""Auxiliary losses that show a decoder where to look: each phrase at what it means, each answer at its phrases.

A decoder left to find this out from answers alone needs many more of them (docs/decisions/0009). The idea is that of
MDETR (Kamath et al. 2021); here attention itself is taught, so nothing is added to the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastvlm.batches import Float32Array, Int64Array, TrainingBatch
from fastvlm.errors import DataError, TrainingError
from fastvlm.models.language.decoder import Decoder, DecoderLayer, rotary_angles
from fastvlm.models.vlm import segment_mask
from fastvlm.training.losses import attention_loss, known_class_loss, known_mark_loss
from fastvlm.training.task import TaskLoss


@dataclass(frozen=True, kw_only=True)
class GroundingTargets:
    """What is taught and where. num_classes, num_marks, num_kinds, num_comparisons: as the labels have them; none where
    there are no scenes.

    num_spots: where in a visual token a letter stands, columns and rows; none where nothing is read.
    phrase_layer: the layer (from 0) in which phrases point at what fits their words; the next points at what they mean,
    the one after it lets answers point at phrases. A phrase knows what it means before that one, an answer after it.
    """

    num_classes: tuple[int, ...] = ()
    num_marks: int = 0
    num_kinds: int = 0
    num_comparisons: tuple[int, ...] = ()
    num_spots: tuple[int, ...] = ()
    phrase_layer: int = 1


POINTING_WEIGHTS: Mapping[str, float] = {
    "point_candidates": 1.0,
    "point_tally": 6.0,
    "point_referents": 1.0,
    "point_subject": 0.5,
    "point_other": 0.5,
    "know_classes": 1.0,
    "know_marks": 4.0,
    "know_kinds": 4.0,
    "know_comparisons": 0.5,
}
"""How much each loss counts beside the others; each of the many marks is easy, so that their mean is small, and a tally
that is a little wrong is another number."""

NUMBER_EVENNESS = 0.5
"""Most phrases mean one object, and questions for a number ask for all numbers alike (see `known_class_loss`)."""


def grounding_identity() -> dict[str, str]:
    """What the numbers of a run with grounding depend on beside its targets."""
    return {"pointing_weights": repr(dict(POINTING_WEIGHTS)), "number_evenness": repr(NUMBER_EVENNESS)}


class GroundingHeads(nn.Module):
    """Teaches attention of a decoder; its linear heads, which read what a position knows, are not part of the model."""

    def __init__(self, decoder: Decoder, targets: GroundingTargets) -> None:
        super().__init__()
        if decoder.config.num_layers <= targets.phrase_layer + 3:
            raise TrainingError(
                f"Expected a decoder of at least {targets.phrase_layer + 4} layers to teach where words point, got "
                f"{decoder.config.num_layers}. Take more layers, or leave grounding out."
            )
        self.targets = targets
        width = decoder.config.width
        if targets.num_classes:
            self.classes = nn.Linear(width, sum(targets.num_classes))
            self.marks = nn.Linear(width, targets.num_marks)
            self.kinds = nn.Linear(width, targets.num_kinds)
            self.comparisons = nn.Linear(width, sum(targets.num_comparisons))
        self.spots = nn.Linear(width, sum(targets.num_spots)) if targets.num_spots else None

    def forward(self, decoder: Decoder, inputs: Mapping[int, LayerInput], batch: TrainingBatch) -> TaskLoss:
        """Losses of one pass of `decoder` over a batch with grounding labels; `inputs` as `watch` gives them."""
        labels = batch.grounding
        if labels is None:
            raise DataError(f"Expected labels of what words mean, {batch.sample_ids[0]} has none.")
        if not self.targets.num_classes:
            raise DataError(f"Expected what is read alone, got labels of a scene: {batch.sample_ids[0]}.")
        first_layer, first_head, last_head = self.targets.phrase_layer, *_first_and_last(decoder.config.num_heads)
        attention = _Attention(decoder, inputs, batch)
        rows, ends = _columns(labels.phrases, attention.device)
        answer_rows, starts, subjects, others = _columns(labels.answers, attention.device)
        parts: dict[str, Tensor] = {}
        for name, layer, head, shares in (
            ("point_candidates", first_layer, first_head, labels.candidates),
            ("point_tally", first_layer, last_head, labels.tallies),
            ("point_referents", first_layer + 1, first_head, labels.referents),
        ):
            parts[name] = attention_loss(attention(layer, head, rows, ends), attention.spread(rows, shares))
        for name, head, places in (("point_subject", first_head, subjects), ("point_other", last_head, others)):
            log_shares = attention(first_layer + 2, head, answer_rows, starts)
            parts[name] = attention_loss(log_shares, F.one_hot(places, log_shares.shape[1]).float())
        phrase = _known(inputs[first_layer + 2].raw, rows, ends)
        answer = _known(inputs[first_layer + 3].raw, answer_rows, starts)
        parts["know_classes"] = _class_losses(
            self.classes(phrase), labels.classes, self.targets.num_classes, evenness=(NUMBER_EVENNESS,)
        )
        for name, reader, marks in (("know_marks", self.marks, labels.marks), ("know_kinds", self.kinds, labels.kinds)):
            parts[name] = known_mark_loss(reader(phrase), torch.from_numpy(marks).to(phrase.device))
        parts["know_comparisons"] = _class_losses(
            self.comparisons(answer), labels.comparisons, self.targets.num_comparisons
        )
        total = torch.stack([weight * parts[name] for name, weight in POINTING_WEIGHTS.items()]).sum()
        return TaskLoss(total, {name: part.detach() for name, part in parts.items()})


@dataclass(frozen=True)
class LayerInput:
    """What a decoder layer was given, B x T x width: as it is, and normalised for attention."""

    raw: Tensor
    normalised: Tensor


@contextmanager
def watch(decoder: Decoder) -> Iterator[dict[int, LayerInput]]:
    """Note the input of every layer, by its number, while the decoder runs inside."""
    inputs: dict[int, LayerInput] = {}

    def note(layer: int, _module: nn.Module, given: tuple[Any, ...], normalised: Tensor) -> None:
        inputs[layer] = LayerInput(given[0], normalised)

    handles = [
        cast("DecoderLayer", layer).attention_norm.register_forward_hook(partial(note, index))
        for index, layer in enumerate(decoder.layers)
    ]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


NAMING_LAYERS, ASKING_LAYERS, READING_LAYERS = (0, 1), (1, 2), (2, 3)
"""After the layer of phrases: what is named is looked for twice, and each time an answer then takes over where that is,
before it looks there, which it does twice as well."""


def _first_and_last(num_heads: int) -> tuple[range, range]:
    return range(1), range(num_heads - 1, num_heads)


def reading_heads(num_heads: int) -> range:
    """All but the first and the last, which are taught with scenes.

    One head's keys and values are too few numbers, to find a name by its letters and to carry those of a visual token.
    """
    return range(1, num_heads - 1)


def reading_loss(
    heads: GroundingHeads, decoder: Decoder, inputs: Mapping[int, LayerInput], batch: TrainingBatch
) -> TaskLoss:
    """Loss of where a decoder looks when a question names what is written, and before it writes what it reads.

    What is named is looked for in the layer of phrases and the next, what is read in the two after these; before that a
    position knows where in its visual token the letter stands that comes next. Each token of an answer points at
    what its question names, with the heads by which it does so with scenes: it cannot know where the last one was read
    before it looks for itself. Where an answer begins, which is the hardest to find, counts as much as all other
    letters together.
    """
    places = batch.reading
    if places is None:
        raise DataError(f"Expected the places of what is written, {batch.sample_ids[0]} has none.")
    num_heads = decoder.config.num_heads
    by_heads = reading_heads(num_heads)
    if not by_heads:
        raise TrainingError(
            f"Expected a decoder of at least 3 heads to teach where to read, got {decoder.config.num_heads}. "
            "Take more heads, or leave grounding out."
        )
    attention, first_layer = _Attention(decoder, inputs, batch), heads.targets.phrase_layer
    parts: dict[str, Tensor] = {}
    for name, layers, points, shares in (
        ("point_named", NAMING_LAYERS, places.named, places.named_shares),
        ("point_begun", READING_LAYERS, places.read[places.read_first], places.read_shares[places.read_first]),
        ("point_read", READING_LAYERS, places.read, places.read_shares),
    ):
        rows, positions = _columns(points, attention.device)
        wanted = attention.spread(rows, shares).repeat_interleave(len(by_heads), 0)
        parts[name] = torch.stack(
            [attention_loss(attention(first_layer + layer, by_heads, rows, positions), wanted) for layer in layers]
        ).mean()
    rows, positions, *ends = _columns(places.asked, attention.device)
    pointed = [
        attention_loss(
            attention(first_layer + layer, head, rows, positions), F.one_hot(end, attention.mask.shape[1]).float()
        )
        for layer in ASKING_LAYERS
        for head, end in zip(_first_and_last(num_heads), ends, strict=True)
    ]
    parts["point_asked"] = torch.stack(pointed).mean()
    if heads.spots is not None:
        reading = _known(inputs[first_layer + READING_LAYERS[0]].raw, *_columns(places.read, attention.device))
        parts["know_spots"] = _class_losses(heads.spots(reading), places.read_spots, heads.targets.num_spots)
    return TaskLoss(torch.stack(list(parts.values())).sum(), {name: part.detach() for name, part in parts.items()})


class _Attention:
    """Shares of attention of single positions of a batch."""

    def __init__(self, decoder: Decoder, inputs: Mapping[int, LayerInput], batch: TrainingBatch) -> None:
        self.decoder, self.inputs = decoder, inputs
        self.device = inputs[0].raw.device
        positions = torch.from_numpy(batch.positions).to(self.device)
        config = decoder.config
        self.angles = rotary_angles(positions, head_dim=config.head_dim, theta=config.rope_theta)
        self.mask = segment_mask(torch.from_numpy(batch.segments).to(self.device))[:, 0]
        self.first_visual = torch.from_numpy(batch.is_visual).to(self.device).float().argmax(1)

    def __call__(self, layer: int, heads: range, rows: Tensor, positions: Tensor) -> Tensor:
        """Logarithms of the shares of all T positions in the attention of K positions: K * heads x T."""
        attention = cast("DecoderLayer", self.decoder.layers[layer]).attention
        scores = attention.scores(
            self.inputs[layer].normalised, angles=self.angles, heads=heads, rows=rows, positions=positions
        )
        allowed = self.mask[rows, positions][:, None]
        log_shares: Tensor = scores.float().masked_fill(~allowed, -torch.inf).log_softmax(-1)
        return log_shares.flatten(0, 1)

    def spread(self, rows: Tensor, shares: Float32Array) -> Tensor:
        """Put K x (1 + V) shares where they belong, the row's first position and its visual tokens: K x T."""
        given = torch.from_numpy(shares).to(self.device)
        spread = given.new_zeros(len(rows), self.mask.shape[1])
        places = self.first_visual[rows][:, None] + torch.arange(given.shape[1] - 1, device=self.device)
        # A row of fewer visual tokens than V has no shares beyond them, wherever these would fall.
        spread.scatter_add_(1, places.clamp(max=spread.shape[1] - 1), given[:, 1:])
        spread[:, 0] += given[:, 0]
        return spread


def _columns(numbers: Int64Array, device: torch.device) -> tuple[Tensor, ...]:
    return torch.from_numpy(numbers).to(device).unbind(1)


def _known(hidden: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
    """What K positions know: K x width of a root mean square of one, since later layers have longer vectors."""
    chosen = hidden.flatten(0, 1).index_select(0, rows * hidden.shape[1] + positions)
    return F.rms_norm(chosen.float(), chosen.shape[-1:])


def _class_losses(
    logits: Tensor, classes: Int64Array, num_classes: tuple[int, ...], *, evenness: tuple[float, ...] = ()
) -> Tensor:
    """Sum over the kinds of classes of their mean cross-entropy where they are known; evenness: of the first kinds."""
    kinds = torch.from_numpy(classes).to(logits.device).unbind(1)
    parts = torch.split(logits, list(num_classes), 1)
    each = (*evenness, *(0.0,) * (len(kinds) - len(evenness)))
    return torch.stack(
        [known_class_loss(part, kind, evenness=own) for part, kind, own in zip(parts, kinds, each, strict=True)]
    ).sum()
