"""What every runtime refuses before it computes, in the same words."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import numpy as np

from fastvlm.batches import Int64Array, PixelTiles, PromptTokens, VisualTokens
from fastvlm.errors import GenerationError, PromptError
from fastvlm.runtimes.protocol import Embeddings
from fastvlm.tiles import ENCODER_STRIDE_PX


def check_pixels(image: PixelTiles) -> None:
    """Raise PromptError for pixels that are not what the layout says, or not what an encoder takes."""
    layout = image.layout
    if layout.tile_height_px % ENCODER_STRIDE_PX or layout.tile_width_px % ENCODER_STRIDE_PX:
        raise PromptError(
            f"Expected tiles whose sides are multiples of {ENCODER_STRIDE_PX} px, got {layout.tile_width_px} x "
            f"{layout.tile_height_px}; prepare the image with the checkpoint's own processing."
        )
    expected = (layout.num_tiles, layout.tile_height_px, layout.tile_width_px, 3)
    if image.levels.shape != expected or image.levels.dtype != np.uint8:
        raise PromptError(
            f"Expected pixels of uint8 and shape {expected} from the tile layout, got {image.levels.dtype} and "
            f"{image.levels.shape}; "
            "prepare the image with the checkpoint's own processing."
        )
    if image.table.shape != (3, 256):
        raise PromptError(
            f"Expected a table of 3 channels and 256 levels for pixels, got {image.table.shape}; "
            "prepare the image with the checkpoint's own processing."
        )
    if not np.isfinite(image.table).all():
        raise PromptError(
            "Expected a finite value for each level of a pixel, got others; prepare the image with the checkpoint's "
            "own processing."
        )


def checked_num_threads(num_threads: int | None) -> int | None:
    """Return a number of threads, None for the engine's choice. Raises GenerationError for what is none."""
    if num_threads is None:
        return None
    is_number = isinstance(num_threads, Integral) and not isinstance(num_threads, bool)
    if not (is_number and num_threads >= 1):
        raise GenerationError(
            f"Expected a whole number of at least 1 thread, got {num_threads!r}; leave it out for the default."
        )
    return int(num_threads)


def check_visual_tokens(*, is_finite: bool, runtime: str) -> None:
    """Raise GenerationError where the numbers of an encoder overflowed."""
    if not is_finite:
        raise GenerationError(
            f"Expected finite visual tokens, got infinite or undefined ones in {runtime}; "
            "use bfloat16 or float32, and check the pixels and the weights."
        )


def check_slots(prompt: PromptTokens, images: Sequence[VisualTokens]) -> None:
    """Raise PromptError unless every image fills its slots exactly."""
    num_numbered = int(prompt.image_index.max(initial=-1)) + 1
    if num_numbered > len(images):
        raise PromptError(
            f"Expected {num_numbered} images, as the prompt asks for, got {len(images)}; give all of them."
        )
    num_slots = np.bincount(prompt.image_index[prompt.image_index >= 0], minlength=len(images))
    for number, image in enumerate(images):
        if num_slots[number] != image.num_tokens:
            raise PromptError(
                f"Expected {num_slots[number]} visual tokens for image {number + 1}, as the prompt has slots, "
                f"got {image.num_tokens}; build the prompt from the same images."
            )


def check_token_ids(token_ids: Int64Array, *, vocabulary_size: int) -> None:
    """Raise PromptError for ids outside the vocabulary."""
    is_outside = (token_ids < 0) | (token_ids >= vocabulary_size)
    if is_outside.any():
        raise PromptError(
            f"Expected token ids from 0 to {vocabulary_size - 1}, got {int(token_ids[is_outside][0])}; "
            "use the tokenizer that came with the checkpoint."
        )


def check_prompts(prompts: Sequence[Embeddings], *, max_positions: int) -> Int64Array:
    """Return the lengths of prompts. Raises PromptError for none, an empty one, or one without room for an answer."""
    lengths = np.array([prompt.num_positions for prompt in prompts], dtype=np.int64)
    if lengths.size == 0 or lengths.min() < 1:
        raise PromptError("Expected at least one prompt of at least one token, got none; write a question.")
    if (longest := int(lengths.max())) >= max_positions:
        raise PromptError(
            f"Expected a prompt of fewer than {max_positions} tokens, the model's context, "
            f"got {longest}; shorten the text or use fewer or smaller images."
        )
    return lengths


def check_resumed(prompt: Embeddings, *, num_kept: int, num_held: int, batch_size: int, max_positions: int) -> None:
    """Raise PromptError where a cache of `num_held` positions cannot stand for the first ones of a prompt."""
    check_prompts([prompt], max_positions=max_positions)
    if batch_size != 1 or not 0 < num_kept <= min(num_held, prompt.num_positions - 1):
        raise PromptError(
            f"Expected to keep 1 to {min(num_held, prompt.num_positions - 1)} positions of a cache of one row, got "
            f"{num_kept} of {batch_size} rows; read the whole prompt."
        )


def check_step(token_ids: Int64Array, *, batch_size: int, num_positions: int, max_positions: int) -> None:
    """Raise GenerationError where tokens do not fit the rows of a cache, or the cache has no room for them."""
    if token_ids.shape != (batch_size,):
        raise GenerationError(f"Expected one token for each of {batch_size} rows, got shape {token_ids.shape}.")
    if num_positions >= max_positions:
        raise GenerationError(
            f"Expected at most {max_positions} tokens, the model's context, got {num_positions + 1}; "
            "ask for a shorter answer or shorten the prompt."
        )


def order_of_slots(prompt: PromptTokens) -> Int64Array | None:
    """Where slots stand in another order than the images: for each slot, the number of its visual token; else None."""
    in_slots = prompt.image_index[prompt.image_index >= 0]
    if not np.any(np.diff(in_slots) < 0):
        return None
    return np.argsort(np.argsort(in_slots, kind="stable"), kind="stable")
