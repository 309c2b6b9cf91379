"""What a rendered conversation is made of: words, control tokens and image slots, in order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fastvlm.errors import PromptError
from fastvlm.messages import ImagePart, Message, TextPart

IMAGE_MARK = "<image>"
"""How an image slot is shown in a rendered string; a user's own `<image>` stays text."""


@dataclass(frozen=True)
class TextPiece:
    """Ordinary words. is_answer: the assistant's, which training supervises."""

    text: str
    is_answer: bool = False


@dataclass(frozen=True)
class ControlPiece:
    """One control token of the template.

    is_answer: the assistant writes it (the end of its turn, above all), so training supervises it.
    is_written: False for a token that stands before the text without being part of the rendered string (`<s>`).
    """

    token: str
    is_answer: bool = False
    is_written: bool = True


@dataclass(frozen=True)
class ImagePiece:
    """The slot of one image. image_index: its number in the conversation, from 0."""

    image_index: int


Piece = TextPiece | ControlPiece | ImagePiece


class PieceWriter:
    """Collects pieces; neighbouring words of one kind are joined into one run."""

    def __init__(self, control_tokens: Sequence[str]) -> None:
        longest_first = sorted(control_tokens, key=len, reverse=True)
        self._controls = frozenset(longest_first)
        self._split = re.compile("(" + "|".join(re.escape(token) for token in longest_first) + ")")
        self._pieces: list[Piece] = []
        self._num_images = 0

    def frame(self, text: str, *, is_answer: bool = False) -> None:
        """Add text of the template, in which control tokens are control tokens."""
        if not self._controls:
            self.words(text, is_answer=is_answer)
            return
        for part in self._split.split(text):
            if part in self._controls:
                self._pieces.append(ControlPiece(part, is_answer=is_answer))
            else:
                self.words(part, is_answer=is_answer)

    def words(self, text: str, *, is_answer: bool = False) -> None:
        """Add text that somebody wrote, in which nothing is a control token."""
        if not text:
            return
        last = self._pieces[-1] if self._pieces else None
        if isinstance(last, TextPiece) and last.is_answer == is_answer:
            self._pieces[-1] = TextPiece(last.text + text, is_answer)
        else:
            self._pieces.append(TextPiece(text, is_answer))

    def opening(self, token: str) -> None:
        """Add a control token that is not part of the rendered string."""
        self._pieces.append(ControlPiece(token, is_written=False))

    def image(self, index: int | None = None) -> None:
        """Add the slot of the image with this number, or of the one after all before."""
        self._pieces.append(ImagePiece(self._num_images if index is None else index))
        self._num_images += 1

    def pieces(self) -> tuple[Piece, ...]:
        """What was collected."""
        return tuple(self._pieces)


def content_of(message: Message, *, separator: str) -> list[str | ImagePart]:
    """List the words and images of a message, with exactly one `separator` between an image and its neighbour.

    Words that already bring the separator at that side get no second one; neighbouring words are joined.
    """
    content: list[str | ImagePart] = []
    for part in message.content:
        value = part.text if isinstance(part, TextPart) else part
        if value == "":
            continue
        last = content[-1] if content else None
        if isinstance(value, ImagePart):
            if isinstance(last, str):
                content[-1] = last if last.endswith(separator) else last + separator
            elif last is not None and separator:
                content.append(separator)
            content.append(value)
        elif isinstance(last, str):
            content[-1] = last + value
        elif last is not None and not value.startswith(separator):
            content.append(separator + value)
        else:
            content.append(value)
    return content


def check_turns(messages: Sequence[Message]) -> None:
    """Raise PromptError unless there are messages, the system's is first, and only users show images."""
    if not messages:
        raise PromptError("Expected at least one message, got none. Give a question.")
    for number, message in enumerate(messages, start=1):
        if message.role == "system" and number > 1:
            raise PromptError(f"Expected the system message first, got it as message {number}. Move it to the front.")
        if message.role != "user" and message.images:
            raise PromptError(
                f"Expected images in user messages only, got one in message {number} of role {message.role}. "
                "Move it into a user message."
            )
