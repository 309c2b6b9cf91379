"""What a person says: messages made of text and images in any order. No pixels are read here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from fastvlm.errors import PromptError, one_line

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class TextPart:
    """A piece of text inside a message."""

    text: str


@dataclass(frozen=True)
class ImagePart:
    """An image inside a message: a path, the bytes of a file, an open file, a PIL image or a uint8 array of H x W x 3.

    An open file is read to its end at once, since an image may be looked at several times. Raises PromptError for one
    that cannot be read, or not as bytes.
    """

    source: Any

    def __post_init__(self) -> None:
        read = getattr(self.source, "read", None)
        if not callable(read):
            return
        try:
            data = read()
        except (OSError, ValueError) as error:
            raise PromptError(f"Expected an open file as an image, got: {one_line(error)}.") from error
        if not isinstance(data, bytes | bytearray | memoryview):
            raise PromptError("Expected a file of bytes as an image, got one of text. Open it with the mode 'rb'.")
        object.__setattr__(self, "source", bytes(data))


Part = TextPart | ImagePart


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; an assistant message is what training supervises."""

    role: Role
    content: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """The images in the order in which they stand."""
        return tuple(part for part in self.content if isinstance(part, ImagePart))


def user(*parts: str | Part) -> Message:
    """Build a user message from strings and parts."""
    return _message("user", parts)


def assistant(text: str) -> Message:
    """Build an assistant message."""
    return _message("assistant", (text,))


def system(text: str) -> Message:
    """Build a system message."""
    return _message("system", (text,))


def images_of(messages: Iterable[Message]) -> tuple[ImagePart, ...]:
    """All images of a conversation in the order in which their slots appear in the prompt."""
    return tuple(image for message in messages for image in message.images)


def as_messages(value: str | Message | Sequence[Message | Mapping[str, Any]]) -> tuple[Message, ...]:
    """Read a conversation from a string, messages, or dictionaries in the style of OpenAI and transformers.

    A dictionary has `role` and `content`; the content is a string or a list of parts
    `{"type": "text", "text": ...}` and `{"type": "image" | "image_url", ...}`. Plain strings and lists of parts
    are both accepted everywhere. Raises PromptError on anything else.
    """
    if isinstance(value, str):
        return (user(value),)
    if isinstance(value, Message):
        return (value,)
    return tuple(item if isinstance(item, Message) else _from_mapping(item) for item in value)


def _message(role: Role, parts: Sequence[str | Part]) -> Message:
    return Message(role, tuple(TextPart(part) if isinstance(part, str) else part for part in parts))


def _from_mapping(item: object) -> Message:
    if not isinstance(item, Mapping):
        raise PromptError(f"Expected a message with role and content, got {type(item).__name__}.")
    role = item.get("role")
    if role not in get_args(Role):
        raise PromptError(f"Expected a message role of {', '.join(get_args(Role))}, got {role!r}.")
    content = item.get("content")
    if isinstance(content, str):
        return Message(cast(Role, role), (TextPart(content),))
    if not isinstance(content, Sequence):
        raise PromptError(f"Expected message content to be text or a list of parts, got {type(content).__name__}.")
    return Message(cast(Role, role), tuple(_part(part) for part in content))


def _part(part: object) -> Part:
    if isinstance(part, str):
        return TextPart(part)
    if not isinstance(part, Mapping):
        raise PromptError(f"Expected a part of type text or image with its content, got {type(part).__name__}.")
    kind = part.get("type")
    if kind in ("text", "input_text") and isinstance(part.get("text"), str):
        return TextPart(part["text"])
    if kind in ("image", "image_url", "input_image"):
        for key in ("image", "path", "url", "image_url"):
            source = part.get(key)
            if isinstance(source, Mapping):
                source = source.get("url")
            if source is not None:
                return ImagePart(source)
    raise PromptError(f"Expected a part of type text or image with its content, got {dict(part)!r}.")
