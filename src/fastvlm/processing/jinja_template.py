"""A checkpoint's own chat template, run in a sandbox on marks that stand for what people wrote."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from fastvlm.errors import PromptError, one_line
from fastvlm.messages import ImagePart, Message
from fastvlm.processing.pieces import Piece, PieceWriter, check_turns, content_of

if TYPE_CHECKING:
    import jinja2

_LOGGER = logging.getLogger(__name__)
_WARNED: set[str] = set()
# A mark is padded with a space that no template writes, which tells whether the template trims what it is given.
_PAD = "\u2003"
_MARK = re.compile(f"({_PAD}?)\ue000([ti])([0-9]+)\ue001({_PAD}?)")


@dataclass(frozen=True, kw_only=True)
class JinjaTemplate:
    """The `chat_template` of a checkpoint (transformers' convention), rendered without ever parsing what users wrote.

    Every text and image is replaced by a mark before rendering, so the places of words, images and answers are known.
    source: the Jinja text. control_tokens: the tokenizer's special tokens. stop_tokens: what ends an answer.
    image_token: what the template writes for an image part. bos_token and eos_token: offered to the template.
    """

    name: str = "chat_template"
    source: str
    control_tokens: tuple[str, ...]
    stop_tokens: tuple[str, ...]
    stop_strings: tuple[str, ...] = ()
    image_token: str = "<image>"
    bos_token: str = ""
    eos_token: str = ""
    image_separator: str = "\n"

    def render(self, messages: Sequence[Message]) -> tuple[Piece, ...]:
        """Write the messages down, with the generation prompt unless the last one is the assistant's.

        Words between the generation prompt and the answer belong to the answer: the model has to write them.
        Raises PromptError where the template refuses, loses words, or trains on what it does not generate from.
        """
        check_turns(messages)
        is_training = messages[-1].role == "assistant"
        marked = _MarkedMessages(self, messages)
        rendered = self._run(marked.conversation, add_generation_prompt=not is_training)
        marked.check(rendered)
        if marked.moved_images(rendered):
            self._warn_of_moved_images()
        writer = PieceWriter(self.control_tokens)
        position = 0
        for start, end in self._answer_spans(rendered, marked, is_training=is_training):
            marked.write(rendered[position:start], writer, is_answer=False)
            marked.write(rendered[start:end], writer, is_answer=True)
            position = end
        marked.write(rendered[position:], writer, is_answer=False)
        return writer.pieces()

    def to_dict(self) -> dict[str, Any]:
        """Describe the template as plain JSON values; `template_from_dict` reads them back."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {"kind": "jinja", **values}

    @cached_property
    def keeps_strings(self) -> bool:
        """Whether the template shows a user's content that is a plain string (pitfall B3)."""
        try:
            return _mark("t", 0).strip(_PAD) in self._run([{"role": "user", "content": _mark("t", 0)}])
        except PromptError:
            return False

    @cached_property
    def _compiled(self) -> jinja2.Template:
        from jinja2 import TemplateError, nodes
        from jinja2.ext import Extension, loopcontrols
        from jinja2.parser import Parser
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        class GenerationBlock(Extension):
            """Reads transformers' `{% generation %}` as its content: the answers are known from their marks."""

            tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

            def parse(self, parser: Parser) -> list[nodes.Node]:
                next(parser.stream)
                return parser.parse_statements(("name:endgeneration",), drop_needle=True)

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, GenerationBlock]
        )
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _today
        try:
            return environment.from_string(self.source)
        except TemplateError as error:
            raise PromptError(
                f"Expected a Jinja chat template in {self.name}, got: {one_line(error)}. "
                "Choose a template by name (--template)."
            ) from error

    def _run(self, conversation: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = False) -> str:
        compiled = self._compiled
        try:
            return compiled.render(
                messages=list(conversation),
                add_generation_prompt=add_generation_prompt,
                bos_token=self.bos_token,
                eos_token=self.eos_token,
            )
        except Exception as error:  # a foreign program may fail in any way
            raise PromptError(
                f"Expected the chat template {self.name} to accept these messages, got: {one_line(error)}. "
                "Change the messages, or choose a template by name."
            ) from error

    def _answer_spans(self, rendered: str, marked: _MarkedMessages, *, is_training: bool) -> Iterator[tuple[int, int]]:
        # Whatever follows the generation prompt is for the model to write, so the answer starts right there.
        closing = re.compile(r"\s*(?:" + "|".join(re.escape(token) for token in self.stop_tokens) + ")")
        for number, mark_number in marked.answers.items():
            words = marked.find(rendered, mark_number)
            prefix = self._run(marked.conversation[:number], add_generation_prompt=True) if number else ""
            is_prefix = bool(prefix) and rendered.startswith(prefix) and len(prefix) <= words.start()
            if is_training and number and not is_prefix:
                raise PromptError(
                    f"Expected the chat template {self.name} to train on the prompt that it generates from, "
                    f"got another one before message {number + 1}. Choose a template by name (--template)."
                )
            end = closing.match(rendered, words.end()) if self.stop_tokens else None
            if is_training and end is None:
                raise PromptError(
                    f"Expected the chat template {self.name} to end an answer with a stop token "
                    f"({', '.join(self.stop_tokens) or 'none is known'}), got {rendered[words.end() :][:20]!r}. "
                    "Correct the stop tokens, or choose a template by name."
                )
            yield len(prefix) if is_prefix else words.start(), end.end() if end else words.end()

    def _warn_of_moved_images(self) -> None:
        if self.source not in _WARNED:
            _WARNED.add(self.source)
            _LOGGER.warning(
                "The chat template %s moves images away from where they stand in the message (to the front, mostly). "
                "Choose a template by name to keep them in place.",
                self.name,
            )


class _MarkedMessages:
    """A conversation with marks in place of words and images, and what the marks stand for."""

    def __init__(self, template: JinjaTemplate, messages: Sequence[Message]) -> None:
        self._template = template
        self._uses_parts = not template.keeps_strings
        self._texts: list[str] = []
        self._num_images = 0
        self._order: list[str] = []
        self.answers: dict[int, int] = {}
        """Number of the message -> number of the mark, for each answer."""
        self.conversation: list[dict[str, Any]] = []
        """What the template sees."""
        for number, message in enumerate(messages):
            content = content_of(message, separator="" if self._uses_parts else template.image_separator) or [""]
            if message.role == "assistant":
                self.answers[number] = len(self._texts)
            parts = [self._part(part) for part in content]
            self.conversation.append({"role": message.role, "content": self._content(parts)})

    def check(self, rendered: str) -> None:
        """Raise PromptError unless every text and every image was rendered exactly once."""
        for number, text in enumerate(self._texts):
            if (count := rendered.count(_mark("t", number).strip(_PAD))) != 1:
                raise PromptError(
                    f"Expected the chat template {self._template.name} to show every text once, got {text[:40]!r} "
                    f"{count} times. Choose a template by name (--template)."
                )
        shown = [kind for kind in self._order_in(rendered) if kind[0] == "i"]
        if sorted(shown) != sorted(kind for kind in self._order if kind[0] == "i"):
            count = len(set(shown)) if len(shown) == self._num_images else len(shown)
            raise PromptError(
                f"Expected the chat template {self._template.name} to show {self._num_images} images, got {count}. "
                "Choose a template by name (--template)."
            )

    def moved_images(self, rendered: str) -> bool:
        """Whether words and images come in another order than they were given."""
        return self._order_in(rendered) != self._order

    def find(self, rendered: str, number: int) -> re.Match[str]:
        """Where the text of mark `number` stands."""
        return next(match for match in _MARK.finditer(rendered) if match[2] == "t" and int(match[3]) == number)

    def write(self, rendered: str, writer: PieceWriter, *, is_answer: bool) -> None:
        """Turn a stretch of the rendered string into pieces."""
        position = 0
        for match in _MARK.finditer(rendered):
            self._write_frame(rendered[position : match.start()], writer, is_answer=is_answer)
            position = match.end()
            if match[2] == "i":
                writer.image(int(match[3]))
                continue
            text = self._texts[int(match[3])]
            text = text if match[1] else text.lstrip()
            writer.words(text if match[4] else text.rstrip(), is_answer=is_answer)
        self._write_frame(rendered[position:], writer, is_answer=is_answer)

    def _write_frame(self, text: str, writer: PieceWriter, *, is_answer: bool) -> None:
        for number, part in enumerate(text.split(self._template.image_token) if self._uses_parts else [text]):
            if number:
                writer.image()
            writer.frame(part, is_answer=is_answer)

    def _order_in(self, rendered: str) -> list[str]:
        found = [(match.start(), f"{match[2]}{match[3]}") for match in _MARK.finditer(rendered)]
        if self._uses_parts:
            found += [(match.start(), "i") for match in re.finditer(re.escape(self._template.image_token), rendered)]
        return [kind for _, kind in sorted(found)]

    def _part(self, part: str | ImagePart) -> dict[str, str]:
        if isinstance(part, ImagePart):
            self._num_images += 1
            # Where the template writes the same token for every image, nothing tells them apart but their order.
            self._order.append("i" if self._uses_parts else f"i{self._num_images - 1}")
            return {"type": "image", "text": _mark("i", self._num_images - 1)}
        self._texts.append(part)
        self._order.append(f"t{len(self._texts) - 1}")
        return {"type": "text", "text": _mark("t", len(self._texts) - 1)}

    def _content(self, parts: list[dict[str, str]]) -> str | list[dict[str, str]]:
        if not self._uses_parts:
            return "".join(part["text"] for part in parts)
        return [part if part["type"] == "text" else {"type": "image"} for part in parts]


def _mark(kind: str, number: int) -> str:
    return f"{_PAD}\ue000{kind}{number}\ue001{_PAD}"


def _refuse(message: str) -> NoReturn:
    raise PromptError(message)


def _today(form: str) -> str:
    from datetime import datetime

    return datetime.now().strftime(form)
