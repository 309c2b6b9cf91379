"""How a conversation is written down for a language model: the templates by name, and a checkpoint's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from fastvlm.errors import CheckpointError, PromptError
from fastvlm.messages import Message
from fastvlm.processing.jinja_template import JinjaTemplate
from fastvlm.processing.pieces import Piece, PieceWriter, check_turns, content_of

__all__ = ["TEMPLATES", "ChatTemplate", "JinjaTemplate", "Template", "template_from_dict"]


@dataclass(frozen=True, kw_only=True)
class Template:
    """A template of fixed strings around the turns of a conversation.

    Control tokens are recognised in these strings only, never in what a person writes.
    opening_token: stands before everything, outside the rendered string. system_opening None: no system message.
    assistant_opening ends the prompt for generation; answer_prefix is the first thing that the model writes.
    answer_closing ends an answer and is supervised; answer_separator comes after it and is not.
    image_separator: stands between an image and the words or image beside it.
    layout: `turns` for a conversation, `caption` for one picture and its caption (paper stage 1; LLaVA's `plain`).
    stop_tokens and stop_strings: what ends a generated answer.
    """

    name: str
    control_tokens: tuple[str, ...]
    stop_tokens: tuple[str, ...]
    stop_strings: tuple[str, ...] = ()
    opening_token: str | None = None
    default_system: str | None = None
    system_opening: str | None
    system_closing: str
    user_opening: str
    user_closing: str
    assistant_opening: str
    answer_prefix: str = ""
    answer_closing: str
    answer_separator: str = ""
    image_separator: str = "\n"
    layout: Literal["turns", "caption"] = "turns"

    def render(self, messages: Sequence[Message]) -> tuple[Piece, ...]:
        """Write the messages down, with the generation prompt unless the last one is the assistant's.

        Raises PromptError on messages that the template has no place for.
        """
        check_turns(messages)
        if self.layout == "caption":
            _check_caption(messages, name=self.name)
        writer = PieceWriter(self.control_tokens)
        if self.opening_token is not None:
            writer.opening(self.opening_token)
        if messages[0].role == "system":
            self._write_system(messages[0].text, writer)
        elif self.default_system is not None:
            self._write_system(self.default_system, writer)
        for message in messages:
            if message.role == "user":
                self._write_user(message, writer)
            elif message.role == "assistant":
                self._write_answer(message.text, writer)
        if messages[-1].role != "assistant":
            writer.frame(self.assistant_opening)
        return writer.pieces()

    def to_dict(self) -> dict[str, Any]:
        """Describe the template as plain JSON values; `template_from_dict` reads them back."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {"kind": "fixed", **values}

    def _write_system(self, text: str, writer: PieceWriter) -> None:
        if self.system_opening is None:
            raise PromptError(
                f"Expected no system message with the template {self.name}, which has no place for one. Remove it."
            )
        writer.frame(self.system_opening)
        writer.words(text)
        writer.frame(self.system_closing)

    def _write_user(self, message: Message, writer: PieceWriter) -> None:
        writer.frame(self.user_opening)
        for part in content_of(message, separator=self.image_separator):
            if isinstance(part, str):
                writer.words(part)
            else:
                writer.image()
        # A caption follows its picture at once in training, so a picture alone must end the same way here.
        if self.layout == "turns" or message.text:
            writer.frame(self.user_closing)

    def _write_answer(self, text: str, writer: PieceWriter) -> None:
        writer.frame(self.assistant_opening)
        writer.words(self.answer_prefix + text, is_answer=True)
        writer.frame(self.answer_closing, is_answer=True)
        writer.frame(self.answer_separator)


ChatTemplate = Template | JinjaTemplate


def template_from_dict(value: str | Mapping[str, Any]) -> ChatTemplate:
    """Read a template from its name or from what `to_dict` wrote. Raises CheckpointError on anything else."""
    if isinstance(value, str):
        if value not in TEMPLATES:
            raise CheckpointError(f"Expected a template of {', '.join(sorted(TEMPLATES))}, got {value!r}.")
        return TEMPLATES[value]
    kinds: dict[object, type[Template] | type[JinjaTemplate]] = {"fixed": Template, "jinja": JinjaTemplate}
    kind = value.get("kind", "fixed")
    if kind not in kinds:
        raise CheckpointError(f"Expected a template of kind fixed or jinja, got {kind!r}.")
    values = {key: tuple(item) if isinstance(item, list) else item for key, item in value.items() if key != "kind"}
    known = {field.name: str(field.type) for field in fields(kinds[kind])}
    if unknown := sorted(set(values) - set(known)):
        raise CheckpointError(f"Expected the template's keys to be among {', '.join(known)}, got {unknown}.")
    if wrong := sorted(key for key, item in values.items() if not _has_type(item, known[key])):
        raise CheckpointError(f"Expected the template's {wrong[0]} to be {known[wrong[0]]}, got {value[wrong[0]]!r}.")
    build: Callable[..., ChatTemplate] = kinds[kind]
    try:
        return build(**values)
    except TypeError as error:
        raise CheckpointError(f"Expected a complete template of kind {kind}: {error}.") from error


def _has_type(value: object, annotation: str) -> bool:
    if annotation == "tuple[str, ...]":
        return isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    if annotation.startswith("Literal"):
        return value in ("turns", "caption")
    return isinstance(value, str) or (value is None and annotation == "str | None")


def _check_caption(messages: Sequence[Message], *, name: str) -> None:
    roles = [message.role for message in messages]
    if roles not in (["user"], ["user", "assistant"]):
        raise PromptError(
            f"Expected one user message and at most one answer with the template {name}, got {', '.join(roles)}. "
            "Choose a template for conversations, such as qwen_2."
        )
    if len(messages) == 2 and (messages[0].text or not messages[0].images):
        raise PromptError(
            f"Expected an image without words before a caption in the template {name}, got {messages[0].text!r}. "
            "Leave the words out, or choose a template for conversations, such as qwen_2."
        )


_CHATML = Template(
    name="chatml",
    control_tokens=("<|im_start|>", "<|im_end|>"),
    stop_tokens=("<|im_end|>", "<|endoftext|>"),
    system_opening="<|im_start|>system\n",
    system_closing="<|im_end|>\n",
    user_opening="<|im_start|>user\n",
    user_closing="<|im_end|>\n",
    assistant_opening="<|im_start|>assistant\n",
    answer_closing="<|im_end|>",
    answer_separator="\n",
)

TEMPLATES: dict[str, Template] = {
    "chatml": _CHATML,
    "qwen_2": replace(_CHATML, name="qwen_2", default_system="You are a helpful assistant."),
    "v1": Template(
        name="v1",
        control_tokens=("</s>",),
        stop_tokens=("</s>",),
        opening_token="<s>",
        default_system=(
            "A chat between a curious user and an artificial intelligence assistant. "
            "The assistant gives helpful, detailed, and polite answers to the user's questions."
        ),
        system_opening="",
        system_closing=" ",
        user_opening="USER: ",
        user_closing=" ",
        assistant_opening="ASSISTANT:",
        answer_prefix=" ",
        answer_closing="</s>",
    ),
    "plain": Template(
        name="plain",
        control_tokens=(),
        stop_tokens=(),
        stop_strings=("\n",),
        system_opening=None,
        system_closing="",
        user_opening="",
        user_closing="\n",
        assistant_opening="",
        answer_closing="\n",
        layout="caption",
    ),
    "compact": Template(
        name="compact",
        control_tokens=("<|user|>", "<|assistant|>", "<|end|>"),
        stop_tokens=("<|end|>",),
        system_opening=None,
        system_closing="",
        user_opening="<|user|>",
        user_closing="",
        assistant_opening="<|assistant|>",
        answer_closing="<|end|>",
        image_separator="",
    ),
}
"""The authors' templates by their names (`qwen_2`, `v1`, `plain`), `chatml`, which is qwen_2 without a default system,
and `compact`: three tokens a turn, for small models whose questions are hardly longer than the frame of ChatML."""
