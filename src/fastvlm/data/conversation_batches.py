"""Batches of conversations that people bring: checked once, grouped by length, the same for a step in any process."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np

from fastvlm.batches import Float32Array, PixelTiles, TrainingBatch
from fastvlm.data.collate import NO_PIXELS, Collator, PackedRow, batch_of, pack
from fastvlm.data.conversations import Conversation, captioned
from fastvlm.data.feature_store import FeatureStore
from fastvlm.errors import DataError, ImageError, PromptError, one_line
from fastvlm.messages import ImagePart, Message, images_of
from fastvlm.processing.images import image_size, read_image
from fastvlm.processing.prompt import build_prompt
from fastvlm.processing.templates import Template
from fastvlm.tiles import TileLayout

Item = TypeVar("Item")

_TELL_EVERY_S = 10.0
_IMAGES_AT_A_TIME = 64
_POOL_BATCHES = 64
"""Conversations are sorted by length within so many batches at a time, so that a batch needs little padding."""


@dataclass(frozen=True)
class PreparedConversation:
    """A conversation that is known to fit.

    layouts, image_keys: of its images, in order; the keys are those of the files as they were when it was prepared.
    num_positions: of its prompt. is_shortened: whether its last turns did not fit.
    """

    conversation: Conversation
    layouts: tuple[TileLayout, ...]
    image_keys: tuple[str, ...]
    num_positions: int
    is_shortened: bool = False

    @property
    def sample_id(self) -> str:
        """The sample's name."""
        return self.conversation.sample_id

    @property
    def visual_token_counts(self) -> list[int]:
        """Visual tokens of each image."""
        return [layout.num_visual_tokens for layout in self.layouts]


@dataclass(frozen=True)
class PreparedData:
    """What a data set became. num_shortened: conversations whose last turns did not fit."""

    conversations: tuple[PreparedConversation, ...]
    num_shortened: int = 0


def prepare(
    conversations: Sequence[Conversation],
    collator: Collator,
    *,
    left_out: list[str] | None = None,
) -> PreparedData:
    """Check every conversation: its images are there, its turns have a place in the template, and it fits.

    Turns at the end that do not fit into `collator.max_positions` are left out together with their images; nothing is
    ever cut in the middle. left_out: is told of samples that cannot be used, which are then left out; None raises
    DataError, with the id of the first of them and their number. Raises DataError where nothing is left.
    """
    kept: list[PreparedConversation] = []
    refused: list[str] = []
    num_shortened = 0
    for conversation in conversations:
        try:
            prepared = _prepared(conversation, collator)
        except DataError as error:
            refused.append(str(error))
            continue
        kept.append(prepared)
        num_shortened += prepared.is_shortened
    _account_for(refused, left_out, num_kept=len(kept))
    return PreparedData(tuple(kept), num_shortened)


def unreadable_images(
    conversations: Sequence[PreparedConversation], *, tell: Callable[[str], None] = lambda _: None
) -> dict[str, str]:
    """Decode every image once, several at a time; returns what is wrong with those that cannot be read, by their key.

    Training needs every image at some time, hours after it started. tell: is told how many are done, now and then.
    """
    sources = {
        key: image.source
        for one in conversations
        for key, image in zip(one.image_keys, one.conversation.images, strict=True)
    }
    wrong: dict[str, str] = {}
    done, told_s = 0, time.monotonic()
    with ThreadPoolExecutor() as pool:
        # A piece at a time: what is asked to stop waits for all that has been handed over.
        for piece in _cut(list(sources), _IMAGES_AT_A_TIME):
            found = pool.map(_what_is_wrong, [sources[key] for key in piece])
            wrong |= {key: reason for key, reason in zip(piece, found, strict=True) if reason is not None}
            done += len(piece)
            if time.monotonic() - told_s > _TELL_EVERY_S:
                told_s = time.monotonic()
                tell(f"looked at {done} of {len(sources)} images")
    return wrong


def _what_is_wrong(source: object) -> str | None:
    try:
        read_image(source)
    except ImageError as error:
        return str(error)
    return None


def without_unreadable(
    conversations: Sequence[PreparedConversation], unreadable: Mapping[str, str], *, left_out: list[str] | None = None
) -> tuple[PreparedConversation, ...]:
    """The conversations all of whose images can be read. left_out, errors: as in `prepare`."""
    kept, refused = [], []
    for one in conversations:
        reasons = [unreadable[key] for key in one.image_keys if key in unreadable]
        if reasons:
            refused.append(f"{one.sample_id}: {reasons[0]}")
        else:
            kept.append(one)
    _account_for(refused, left_out, num_kept=len(kept))
    return tuple(kept)


def _account_for(refused: Sequence[str], left_out: list[str] | None, *, num_kept: int) -> None:
    """Tell `left_out` what was refused. Raises DataError where it is None, or where nothing is left."""
    if left_out is not None:
        left_out += refused
    elif refused:
        more = f" And {len(refused) - 1} more that cannot be used." if len(refused) > 1 else ""
        raise DataError(f"{refused[0]}{more}")
    if not num_kept:
        raise DataError(f"Expected at least one sample that can be used, got none. {left_out[0] if left_out else ''}")


def _prepared(conversation: Conversation, collator: Collator) -> PreparedConversation:
    if isinstance(collator.template, Template) and collator.template.layout == "caption":
        conversation = captioned(conversation)
    layouts = tuple(_layout(image, conversation.sample_id, collator) for image in conversation.images)
    whole = messages = _without_open_question(conversation.messages)
    while True:
        counts = [layout.num_visual_tokens for layout in layouts[: len(images_of(messages))]]
        shorter = _without_last_turn(messages)
        if not shorter or _fits(messages, counts, collator, conversation.sample_id):
            break
        messages = shorter
    prompt = collator.prompt(messages, sample_id=conversation.sample_id, visual_token_counts=counts)
    kept = replace(conversation, messages=messages)
    keys = tuple(_key_of(kept, number) for number in range(len(counts)))
    return PreparedConversation(kept, layouts[: len(counts)], keys, len(prompt), is_shortened=messages is not whole)


def _key_of(conversation: Conversation, number: int) -> str:
    try:
        return image_key(conversation, number)
    except OSError as error:
        raise DataError(f"{conversation.sample_id}: {one_line(error)}") from error


def _fits(messages: Sequence[Message], counts: Sequence[int], collator: Collator, sample_id: str) -> bool:
    try:
        prompt = build_prompt(
            messages, template=collator.template, tokenizer=collator.tokenizer, visual_token_counts=counts
        )
    except PromptError as error:
        raise DataError(f"{sample_id}: {error}") from error
    return len(prompt) <= collator.max_positions


def _without_open_question(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Questions at the end that nobody answers teach nothing."""
    end = len(messages)
    while end and messages[end - 1].role != "assistant":
        end -= 1
    return messages[:end] or messages


def _without_last_turn(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The conversation up to the answer before the last one; nothing where there is none."""
    answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
    return messages[: answers[-2] + 1] if len(answers) > 1 else ()


def _layout(image: ImagePart, sample_id: str, collator: Collator) -> TileLayout:
    """How an image will be cut, from its header alone."""
    try:
        return collator.processor.layout(*image_size(image.source))
    except ImageError as error:
        raise DataError(f"{sample_id}: {error}") from error


def image_key(conversation: Conversation, number: int) -> str:
    """What an image of a conversation is known by: a file by its path, size and time, others by what they hold.

    Raises OSError for a file that is no longer there.
    """
    source = conversation.images[number].source
    if isinstance(source, str | Path) and not str(source).startswith("data:"):
        status = Path(source).stat()
        return f"{source}|{status.st_size}|{status.st_mtime_ns}"
    if isinstance(source, str | bytes):
        return hashlib.sha256(source.encode() if isinstance(source, str) else source).hexdigest()
    pixels = np.ascontiguousarray(source)
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def read_tiles(conversation: Conversation, number: int, collator: Collator) -> PixelTiles:
    """Read an image of a conversation. Raises DataError, with the sample's id, where it cannot be read."""
    try:
        return collator.processor(read_image(conversation.images[number].source))
    except ImageError as error:
        raise DataError(f"{conversation.sample_id}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class ConversationBatches:
    """Epochs over prepared conversations; the same step gives the same batch everywhere.

    features: of all their images, which then are not read; None reads them, and puts only pictures of one size into a
    batch. is_shuffled: False keeps the order, for validation.
    Raises DataError for images of several sizes in one conversation where features are not given.
    """

    conversations: Sequence[PreparedConversation]
    collator: Collator
    batch_size: int
    num_epochs: int = 1
    seed: int = 0
    features: FeatureStore | None = None
    is_shuffled: bool = True

    def __post_init__(self) -> None:
        _ = self._groups  # what cannot be batched is told before a run starts

    def __len__(self) -> int:
        return self.num_epochs * self.num_steps_per_epoch

    @property
    def num_steps_per_epoch(self) -> int:
        """Batches that hold every conversation once."""
        return sum(-(-len(group) // self.batch_size) for group in self._groups)

    def __getitem__(self, step: int) -> TrainingBatch:
        if not 0 <= step < len(self):
            raise IndexError(step)
        epoch, number = divmod(step, self.num_steps_per_epoch)
        chosen = [self.conversations[index] for index in self._epoch(epoch)[number]]
        rows = [self._row(one) for one in chosen]
        sample_ids = [one.sample_id for one in chosen]
        if self.features is not None:
            return batch_of(rows, sample_ids=sample_ids, features=self._features(chosen, self.features))
        tiles = [
            read_tiles(one.conversation, number, self.collator).pixels
            for one in chosen
            for number in range(len(one.layouts))
        ]
        return batch_of(rows, sample_ids=sample_ids, pixels=np.concatenate(tiles) if tiles else NO_PIXELS)

    def _row(self, one: PreparedConversation) -> PackedRow:
        prompt = self.collator.prompt(
            one.conversation.messages, sample_id=one.sample_id, visual_token_counts=one.visual_token_counts
        )
        return pack([prompt])

    def _features(self, chosen: Sequence[PreparedConversation], store: FeatureStore) -> Float32Array:
        found = [store[key] for one in chosen for key in one.image_keys]
        return np.concatenate(found) if found else np.zeros((0, store.width), np.float32)

    def _epoch(self, epoch: int) -> list[list[int]]:
        return _epoch_of(self._groups, self.batch_size, self.seed if self.is_shuffled else None, epoch)

    @cached_property
    def _groups(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """(index, length) of conversations that may share a batch."""
        groups: dict[tuple[int, int] | None, list[tuple[int, int]]] = {}
        for index, one in enumerate(self.conversations):
            sizes = {(layout.tile_height_px, layout.tile_width_px) for layout in one.layouts}
            if self.features is None and len(sizes) > 1:
                raise DataError(
                    f"Expected images of one size in sample {one.sample_id} to train the encoder with, got several. "
                    "Leave the encoder as it is, choose the image mode pad, or leave the sample out."
                )
            key = None if self.features is not None or not sizes else next(iter(sizes))
            groups.setdefault(key, []).append((index, one.num_positions))
        return tuple(tuple(group) for group in groups.values())


@lru_cache(maxsize=4)
def _epoch_of(
    groups: tuple[tuple[tuple[int, int], ...], ...], batch_size: int, seed: int | None, epoch: int
) -> list[list[int]]:
    """The conversations of each batch of an epoch, by their numbers; in order where there is no seed."""
    if seed is None:
        ordered = [[index for index, _ in group] for group in groups]
        return [batch for group in ordered for batch in _cut(group, batch_size)]
    generator = np.random.default_rng([seed, epoch])
    batches: list[list[int]] = []
    for group in groups:
        shuffled = [group[place] for place in generator.permutation(len(group))]
        for pool in _cut(shuffled, batch_size * _POOL_BATCHES):
            pool.sort(key=lambda entry: entry[1])
            batches += _cut([index for index, _ in pool], batch_size)
    return [batches[place] for place in generator.permutation(len(batches))]


def _cut(items: list[Item], size: int) -> list[list[Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
