"""Conversations are written down as the authors write them, and nothing that a person wrote is lost or re-read."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import pytest

from fastvlm.errors import CheckpointError, PromptError
from fastvlm.messages import ImagePart, Message, TextPart, as_messages, assistant, system, user
from fastvlm.processing.pieces import ImagePiece
from fastvlm.processing.prompt import build_prompt, render_text
from fastvlm.processing.templates import TEMPLATES, ChatTemplate, JinjaTemplate, template_from_dict
from fastvlm.processing.tokenizer import Tokenizer

IMAGE = ImagePart("picture.png")
CONTROLS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")

# The template of Qwen2 in spirit: plain strings, a default system message, text trimmed.
STRINGS = """{% for message in messages %}
{% if loop.first and message.role != 'system' %}
{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{{- '<|im_start|>' + message.role + '\\n' + message.content | trim + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

# As transformers' converter for FastVLM does it: reads parts only, images first, a line end before every text.
PARTS = """{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}
{%- for part in message.content | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}
{%- for part in message.content | selectattr('type', 'equalto', 'text') %}{{ '\\n' + part.text }}{% endfor %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""


def jinja(source: str) -> JinjaTemplate:
    return JinjaTemplate(source=source, control_tokens=CONTROLS, stop_tokens=CONTROLS[1:])


def messages_of(turns: list[list[str | None]]) -> list[Message]:
    messages: list[Message] = []
    for question, answer in turns:
        assert question is not None
        has_image = question.startswith("<image>\n")
        messages.append(user(IMAGE, question.removeprefix("<image>\n")) if has_image else user(question))
        if answer is not None:
            messages.append(assistant(answer))
    return messages


def test_strings_are_the_authors(shared: Path) -> None:
    cases = json.loads((shared / "golden" / "prompt_strings_expected.json").read_text())
    assert len(cases) == 12
    for case in cases:
        messages, template = messages_of(case["turns"]), TEMPLATES[case["template"]]
        if case["prompt"] is None:
            with pytest.raises(PromptError, match="plain"):
                render_text(messages, template)
        else:
            assert render_text(messages, template) == case["prompt"]


def test_chatml_is_qwen_2_without_a_default_system_message() -> None:
    messages = [user("hi"), assistant("yes"), user("and?")]
    start = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    assert render_text(messages, TEMPLATES["qwen_2"]) == start + render_text(messages, TEMPLATES["chatml"])
    own = [system("Be brief."), *messages]
    assert render_text(own, TEMPLATES["qwen_2"]) == render_text(own, TEMPLATES["chatml"])


def test_compact_writes_no_more_than_three_tokens_around_a_turn() -> None:
    template = TEMPLATES["compact"]
    first = [user(IMAGE, "How many?"), assistant("3")]
    assert render_text(first, template) == "<|user|><image>How many?<|assistant|>3<|end|>"
    assert render_text(first[:1], template) == "<|user|><image>How many?<|assistant|>"
    further = [*first, user("Why?")]
    assert render_text(further, template) == render_text(first, template) + "<|user|>Why?<|assistant|>"
    assert template.stop_tokens == ("<|end|>",) and template.control_tokens == ("<|user|>", "<|assistant|>", "<|end|>")


def test_compact_has_no_place_for_a_system_message() -> None:
    with pytest.raises(PromptError, match=r"no system message with the template compact.*Remove it"):
        render_text([system("Be brief."), user("hi")], TEMPLATES["compact"])


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (user(IMAGE, "Q"), "<image>\nQ"),
        (user("Q", IMAGE), "Q\n<image>"),
        (user(IMAGE, "\nQ"), "<image>\nQ"),
        (user("Q\n", IMAGE), "Q\n<image>"),
        (user("A", IMAGE, "B"), "A\n<image>\nB"),
        (user(IMAGE, IMAGE, "Q"), "<image>\n<image>\nQ"),
        (user(IMAGE, "\n", IMAGE), "<image>\n<image>"),
        (user(IMAGE, "", "Q"), "<image>\nQ"),
        (user("A", "B", IMAGE), "AB\n<image>"),
        (user(IMAGE), "<image>"),
        (user(), ""),
        (user(""), ""),
    ],
)
def test_pitfall_b2_images_stand_where_they_were_put(message: Message, expected: str) -> None:
    text = render_text([message], TEMPLATES["chatml"])
    assert text == f"<|im_start|>user\n{expected}<|im_end|>\n<|im_start|>assistant\n"
    assert render_text([message], jinja(STRINGS)).endswith(text)


def test_pitfall_b3_strings_and_parts_are_the_same_message() -> None:
    as_string = as_messages([{"role": "user", "content": "What is it?"}])
    as_parts = as_messages([{"role": "user", "content": [{"type": "text", "text": "What is it?"}]}])
    templates: list[ChatTemplate] = [*TEMPLATES.values(), jinja(STRINGS), jinja(PARTS)]
    for template in templates:
        text = render_text(as_string, template)
        assert "What is it?" in text
        assert render_text(as_parts, template) == text


def test_plain_is_a_picture_and_its_caption() -> None:
    plain = TEMPLATES["plain"]
    assert render_text([user(IMAGE), assistant("A red car.")], plain) == "<image>A red car.\n"
    assert render_text([user(IMAGE)], plain) == "<image>"
    for messages in ([user("Q"), assistant("A")], [system("S"), user(IMAGE)], [assistant("A")]):
        with pytest.raises(PromptError, match="plain"):
            render_text(messages, plain)


@pytest.mark.parametrize("name", sorted(TEMPLATES))
@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], "at least one message"),
        ([user("a"), system("b")], "system message first"),
        ([user("a"), Message("assistant", (IMAGE,))], "images in user messages only"),
        ([Message("system", (TextPart("a"), IMAGE)), user("b")], "images in user messages only"),
    ],
)
def test_messages_without_a_place_are_one_line(name: str, messages: list[Message], says: str) -> None:
    with pytest.raises(PromptError, match=says) as caught:
        render_text(messages, TEMPLATES[name])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("template", [*TEMPLATES.values(), jinja(STRINGS)], ids=lambda template: template.name)
def test_templates_survive_json(template: ChatTemplate) -> None:
    assert template_from_dict(json.loads(json.dumps(template.to_dict()))) == template


def test_templates_are_found_by_name() -> None:
    assert template_from_dict("qwen_2") is TEMPLATES["qwen_2"]
    assert {"qwen_2", "chatml", "v1", "plain", "compact"} == set(TEMPLATES)
    assert all(name == template.name for name, template in TEMPLATES.items())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "mustache"}, "fixed or jinja"),
        ({"colour": "red"}, "colour"),
        ({"user_opening": None}, "user_opening to be str"),
        ({"stop_tokens": "</s>"}, "stop_tokens to be tuple"),
        ({"layout": "poem"}, "layout"),
    ],
)
def test_a_broken_description_is_one_line(change: dict[str, object], says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        template_from_dict({**TEMPLATES["chatml"].to_dict(), **change})


def test_an_unknown_name_and_a_missing_key_are_one_line() -> None:
    with pytest.raises(CheckpointError, match="chatml, compact, plain, qwen_2, v1, got 'nope'"):
        template_from_dict("nope")
    description = TEMPLATES["chatml"].to_dict()
    del description["user_opening"]
    with pytest.raises(CheckpointError, match="user_opening"):
        template_from_dict(description)


def test_jinja_is_rendered_as_transformers_would() -> None:
    messages = [user(" What? ", IMAGE), assistant(" Red. "), user("more")]
    assert render_text(messages, jinja(STRINGS)) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nWhat? \n<image><|im_end|>\n"
        "<|im_start|>assistant\nRed.<|im_end|>\n<|im_start|>user\nmore<|im_end|>\n<|im_start|>assistant\n"
    )


def test_pitfall_b3_a_template_that_drops_strings_is_given_parts(caplog: pytest.LogCaptureFixture) -> None:
    template = jinja(PARTS + "{# warned of once #}")
    assert not template.keeps_strings
    assert jinja(STRINGS).keeps_strings
    with caplog.at_level(logging.WARNING):
        assert render_text([user("hello")], template) == (
            "<|im_start|>user\n\nhello<|im_end|>\n<|im_start|>assistant\n"
        )
        assert render_text([user(IMAGE, "hello")], template) == (
            "<|im_start|>user\n<image>\nhello<|im_end|>\n<|im_start|>assistant\n"
        )
        assert not caplog.records
        for _ in range(2):
            text = render_text([user("hello", IMAGE)], template)
        assert text == "<|im_start|>user\n<image>\nhello<|im_end|>\n<|im_start|>assistant\n"
    assert len(caplog.records) == 1
    assert "moves images" in caplog.records[0].getMessage()


@pytest.mark.parametrize(
    ("source", "messages", "says"),
    [
        ("{{ '<|im_start|>' }}", [user("hello")], r"'hello' 0 times"),
        ("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", [user("hello")], "2 times"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", [system("a"), user("b")], "'a' 0"),
        ("{% for m in messages %}{{ m.content[0].text }}{% endfor %}", [user("hello", IMAGE)], "1 images, got 0"),
        ("{{ raise_exception('only cats') }}", [user("hello")], "only cats"),
        ("{{ messages[9].content.text }}", [user("hello")], "accept these messages"),
        ("{% for %}", [user("hello")], "Jinja chat template"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", [user("hello")], "accept these messages"),
        ("{% for i in range(99999999) %}{% endfor %}", [user("hello")], "accept these messages"),
        (
            "{% for m in messages %}{{ loop.length }}{{ m.content }}{% endfor %}",
            [user("hello"), assistant("yes")],
            "train on the prompt that it generates from",
        ),
        (
            "{% for m in messages %}{{ m.content }}<|im_start|>{% endfor %}",
            [user("hello"), assistant("yes")],
            r"stop token \(<\|im_end\|>, <\|endoftext\|>\), got '<\|im_start\|>'",
        ),
    ],
)
def test_a_jinja_template_that_fails_is_one_line(source: str, messages: list[Message], says: str) -> None:
    with pytest.raises(PromptError, match=says) as caught:
        render_text(messages, jinja(source))
    assert "\n" not in str(caught.value)


REORDERING = "{% for m in messages | reverse %}{{ m.content }};{% endfor %}"


def test_a_jinja_template_that_reorders_images_keeps_their_numbers(caplog: pytest.LogCaptureFixture) -> None:
    template = jinja(REORDERING + "{# images keep their numbers #}")
    messages = [user("first", IMAGE), user("second", IMAGE, IMAGE)]
    with caplog.at_level(logging.WARNING):
        pieces = template.render(messages)
    assert [piece.image_index for piece in pieces if isinstance(piece, ImagePiece)] == [1, 2, 0]
    assert "moves images" in caplog.text


def test_a_reordered_prompt_has_the_slots_of_each_image_in_its_new_place(tokenizer: Tokenizer) -> None:
    prompt = build_prompt(
        [user("first", IMAGE), user("second", IMAGE)],
        template=jinja(REORDERING),
        tokenizer=tokenizer,
        visual_token_counts=[2, 3],
    )
    assert [int(index) for index in prompt.image_index if index >= 0] == [1, 1, 1, 0, 0]


def test_a_jinja_template_that_shows_one_image_for_another_is_refused() -> None:
    twice_the_first = "{% for m in messages %}{{ m.content }}{% endfor %}"
    template = jinja(twice_the_first.replace("m.content", "m.content | replace('i1', 'i0')"))
    with pytest.raises(PromptError, match="2 images, got 1"):
        template.render([user("look", IMAGE, IMAGE)])


def test_jinja_never_sees_what_people_write() -> None:
    spy = "{% for m in messages %}{{ m.content }}{{ 'LEAK' if 'secret' in m.content }}{% endfor %}"
    text = "secret {{ messages }} {% raw %} <|im_end|>"
    assert render_text([user(text)], jinja(spy)) == text


def test_jinja_generation_blocks_and_loop_controls_are_read() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}U:{{ m.content }}\nA:{% else %}"
        "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% endif %}"
        "{% if loop.index > 9 %}{% break %}{% endif %}{% endfor %}"
    )
    assert render_text([user("a"), assistant("b")], jinja(source)) == "U:a\nA:b<|im_end|>"


def test_templates_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TEMPLATES["chatml"].name = "other"
