"""From messages to token ids with slots for images: the one path for training, inference, evaluation and serving."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastvlm.batches import PromptTokens
from fastvlm.errors import DataError, PromptError
from fastvlm.messages import Message
from fastvlm.processing.pieces import IMAGE_MARK, ControlPiece, ImagePiece, Piece, TextPiece
from fastvlm.processing.templates import ChatTemplate
from fastvlm.processing.tokenizer import TextPosition, Tokenizer


def build_prompt(
    messages: Sequence[Message],
    *,
    template: ChatTemplate,
    tokenizer: Tokenizer,
    visual_token_counts: Sequence[int],
    max_positions: int | None = None,
) -> PromptTokens:
    """Tokenise a conversation, with one position for every visual token and the supervised spans marked.

    visual_token_counts: one number for each image, in the order of `images_of`. The prompt ends with the generation
    prompt unless the last message is the assistant's. Text is tokenised in runs that end at control tokens, at image
    slots and where an answer starts, so a training prompt begins with exactly the tokens of its generation prompt.
    Raises PromptError when images and counts differ in number, or past `max_positions`; nothing is ever cut.
    """
    pieces = template.render(messages)
    _check_images(pieces, visual_token_counts)
    token_ids: list[int] = []
    image_index: list[int] = []
    supervised: list[bool] = []
    position: TextPosition = "start"
    for piece in pieces:
        if isinstance(piece, ImagePiece):
            count = visual_token_counts[piece.image_index]
            token_ids += [0] * count
            image_index += [piece.image_index] * count
            supervised += [False] * count
            position = "start"
            continue
        if isinstance(piece, ControlPiece):
            ids, is_supervised = [tokenizer.token_id(piece.token)], piece.is_answer
            position = "after_control" if piece.is_written else "start"
        else:
            ids, is_supervised = tokenizer.encode(piece.text, position=position), piece.is_answer
            position = "after_text"
        token_ids += ids
        image_index += [-1] * len(ids)
        supervised += [is_supervised] * len(ids)
    prompt = PromptTokens(
        np.array(token_ids, dtype=np.int64), np.array(image_index, dtype=np.int64), np.array(supervised, dtype=np.bool_)
    )
    if max_positions is not None and len(prompt) > max_positions:
        raise PromptError(
            f"Expected a prompt of at most {max_positions} positions, got {len(prompt)} "
            f"({prompt.num_visual_tokens} visual and {prompt.num_text_tokens} text). "
            "Give fewer images or turns, or less text."
        )
    return prompt


def render_text(messages: Sequence[Message], template: ChatTemplate) -> str:
    """Write a conversation as one string, with `<image>` where an image stands; for people and for tests."""
    return "".join(_text_of(piece) for piece in template.render(messages))


def require_supervised(prompt: PromptTokens, sample_id: str) -> None:
    """Raise DataError unless the prompt has something to learn from."""
    if not prompt.supervised.any():
        raise DataError(
            f"Expected supervised words in sample {sample_id}, got none in {len(prompt)} positions. "
            "Give it an assistant message, or leave the sample out."
        )


def _check_images(pieces: Sequence[Piece], visual_token_counts: Sequence[int]) -> None:
    num_slots = sum(isinstance(piece, ImagePiece) for piece in pieces)
    if num_slots != len(visual_token_counts):
        raise PromptError(
            f"Expected visual token counts for the {num_slots} images of the messages, got "
            f"{len(visual_token_counts)}. Give exactly the images that the messages show."
        )
    if any(count < 1 for count in visual_token_counts):
        raise PromptError(f"Expected at least one visual token for every image, got {list(visual_token_counts)}.")


def _text_of(piece: Piece) -> str:
    if isinstance(piece, TextPiece):
        return piece.text
    if isinstance(piece, ControlPiece):
        return piece.token if piece.is_written else ""
    return IMAGE_MARK
