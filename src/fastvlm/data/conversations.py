"""Conversations that people bring to training: LLaVA's JSON, messages as OpenAI and transformers write them, turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastvlm.data.caption_questions import caption_conversation
from fastvlm.errors import DataError, PromptError
from fastvlm.messages import ImagePart, Message, Part, Role, TextPart, as_messages, images_of
from fastvlm.processing.pieces import IMAGE_MARK

_ROLES: Mapping[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}


_TURN_KEYS = frozenset({"conversations", "messages", "texts"})


@dataclass(frozen=True)
class Conversation:
    """One conversation of a training set. Its images are paths, bytes or PIL images, and are read when needed."""

    sample_id: str
    messages: tuple[Message, ...]

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """The images in the order of their slots."""
        return images_of(self.messages)


def conversation_from(record: Mapping[str, Any], *, sample_id: str, image_folder: Path | None = None) -> Conversation:
    """Read one record of a data set.

    Its turns are `conversations` (LLaVA: `from` and `value`), `messages` (OpenAI, transformers, TRL, ms-swift: `role`
    and `content`) or `texts` (nanoVLM, The Cauldron: `user` and `assistant`); its images are `image` or `images`, or
    stand in the messages themselves. A mark `<image>` in a text, or an image part without a source, takes the next of
    them; images without any mark stand before the first question where there are no marks at all. Paths are relative
    to image_folder. `id` names the sample, otherwise sample_id does. A record with a `caption` and no turns is asked
    for it in one of 300 ways (paper appendix D).
    Raises DataError, naming the sample, on anything else and where marks and images differ in number.
    """
    given_id = record.get("id")
    sample_id = str(given_id) if isinstance(given_id, str | int) else sample_id
    images = _images(record, sample_id)
    if isinstance(caption := record.get("caption"), str) and len(images) == 1 and not _TURN_KEYS & record.keys():
        asked = caption_conversation(images[0], caption, sample_id=sample_id)
        return Conversation(sample_id, tuple(_located(message, image_folder, sample_id) for message in asked))
    try:
        messages = tuple(_turns(record, sample_id))
        if images or _has_open_marks(messages):
            messages = _with_images(messages, images, sample_id)
    except PromptError as error:
        raise DataError(f"{sample_id}: {error}") from error
    return Conversation(sample_id, tuple(_located(message, image_folder, sample_id) for message in messages))


def captioned(conversation: Conversation) -> Conversation:
    """What is left of a conversation for learning to caption: its first image, and the first answer to it.

    Raises DataError for one without an image or an answer.
    """
    answers = [message for message in conversation.messages if message.role == "assistant"]
    if not conversation.images or not answers:
        raise DataError(f"Expected an image and an answer in sample {conversation.sample_id} to learn a caption from.")
    return Conversation(conversation.sample_id, (Message("user", conversation.images[:1]), answers[0]))


def _images(record: Mapping[str, Any], sample_id: str) -> list[Any]:
    for key in ("images", "image"):
        value = record.get(key)
        if value is None:
            continue
        values = list(value) if isinstance(value, list | tuple) else [value]
        if any(isinstance(image, str) and not image for image in values):
            raise DataError(f"Expected paths in `{key}` of sample {sample_id}, got an empty one. Leave it out.")
        return values
    return []


def _turns(record: Mapping[str, Any], sample_id: str) -> Iterator[Message]:
    if isinstance(turns := record.get("conversations"), list):
        for turn in turns:
            if (
                not isinstance(turn, Mapping)
                or turn.get("from") not in _ROLES
                or not isinstance(turn.get("value"), str)
            ):
                raise DataError(
                    f"Expected turns with `from` ({', '.join(_ROLES)}) and a text `value` in sample {sample_id}, "
                    f"got {turn!r:.80}."
                )
            yield Message(_ROLES[turn["from"]], (TextPart(turn["value"]),))
    elif isinstance(turns := record.get("messages"), list):
        yield from (_message(turn, sample_id) for turn in turns)
    elif isinstance(turns := record.get("texts"), list):
        for turn in turns:
            if not isinstance(turn, Mapping) or not {"user", "assistant"} <= turn.keys():
                raise DataError(f"Expected `user` and `assistant` in the texts of sample {sample_id}.")
            yield Message("user", (TextPart(str(turn["user"])),))
            yield Message("assistant", (TextPart(str(turn["assistant"])),))
    else:
        got = ", ".join(record) or "nothing"
        raise DataError(f"Expected `conversations`, `messages` or `texts` in sample {sample_id}, got {got}.")


def _message(turn: object, sample_id: str) -> Message:
    """Read a message; an image part without a source of its own becomes a mark."""
    if not isinstance(turn, Mapping):
        raise DataError(f"Expected messages with role and content in sample {sample_id}, got {type(turn).__name__}.")
    content = turn.get("content")
    if isinstance(content, list):
        # Tables of one schema fill what a part does not have with None.
        parts = [
            {key: value for key, value in part.items() if value is not None} if isinstance(part, Mapping) else part
            for part in content
        ]
        content = [IMAGE_MARK if part == {"type": "image"} else part for part in parts]
    return as_messages([{"role": turn.get("role"), "content": content}])[0]


def _with_images(messages: Sequence[Message], images: Sequence[Any], sample_id: str) -> tuple[Message, ...]:
    """Put images where the marks are; before the first question where there is no mark and no image at all."""
    num_marks = sum(part.text.count(IMAGE_MARK) for part in _texts(messages))
    if num_marks == 0 and not images_of(messages):
        first = next((index for index, message in enumerate(messages) if message.role == "user"), None)
        if first is None:
            raise DataError(f"Expected a question about the images of sample {sample_id}, got none.")
        shown = tuple(ImagePart(image) for image in images)
        opened = Message("user", (*shown, *messages[first].content))
        return (*messages[:first], opened, *messages[first + 1 :])
    if num_marks != len(images):
        raise DataError(
            f"Expected as many {IMAGE_MARK} as images in sample {sample_id}, got {num_marks} for {len(images)}. "
            "Mark where each image stands, or leave the marks out to show all of them first."
        )
    waiting = iter(images)
    return tuple(
        Message(message.role, tuple(part for given in message.content for part in _split_at_marks(given, waiting)))
        for message in messages
    )


def _has_open_marks(messages: Sequence[Message]) -> bool:
    """Whether a question shows an image that nobody gave."""
    questions = [message for message in messages if message.role == "user"]
    return not images_of(messages) and any(IMAGE_MARK in part.text for part in _texts(questions))


def _texts(messages: Sequence[Message]) -> Iterator[TextPart]:
    return (part for message in messages for part in message.content if isinstance(part, TextPart))


def _split_at_marks(part: Part, images: Iterator[Any]) -> Iterator[Part]:
    """Cut a text at its marks; one line end beside a mark belongs to it, since templates write their own."""
    if not isinstance(part, TextPart) or IMAGE_MARK not in part.text:
        yield part
        return
    texts = part.text.split(IMAGE_MARK)
    for number, text in enumerate(texts):
        if number > 0:
            yield ImagePart(next(images))
            text = text.removeprefix("\n")
        if number + 1 < len(texts):
            text = text.removesuffix("\n")
        if text:
            yield TextPart(text)


def _located(message: Message, folder: Path | None, sample_id: str) -> Message:
    """The message with the paths of its images below the folder; an answer with an image is refused."""
    if message.role != "user" and message.images:
        raise DataError(
            f"Expected images in questions only, got one in a {message.role} message of sample {sample_id}."
        )
    return Message(message.role, tuple(_located_part(part, folder) for part in message.content))


def _located_part(part: Part, folder: Path | None) -> Part:
    if not isinstance(part, ImagePart):
        return part
    source = part.source
    if isinstance(source, Mapping):  # how the library `datasets` stores a picture that it does not decode
        source = source.get("bytes") or source.get("path")
    if isinstance(source, str) and source.startswith("data:"):
        return ImagePart(source)
    if isinstance(source, str | Path):
        path = Path(str(source).removeprefix("file://"))
        return ImagePart(path if folder is None else folder / path)
    return ImagePart(source)
