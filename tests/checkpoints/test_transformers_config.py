"""transformers' config.json, preprocessor and chat template: read, refused, and written so that ours comes back."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastvlm.checkpoints.convert.chat_template import jinja_source
from fastvlm.checkpoints.stored import read_checkpoint
from fastvlm.errors import CheckpointError
from fastvlm.messages import ImagePart, Message, TextPart, assistant, system, user
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.prompt import render_text
from fastvlm.processing.templates import TEMPLATES, JinjaTemplate

# A template as it circulates with these checkpoints (pitfall B3): images first, a line end before every text.
CIRCULATING = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ '\n' + part['text'] }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
OTHER = (
    "{% for message in messages %}[{{ message['role'] }}]"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture
def foreign(saved: Callable[..., Path], small: Any) -> Callable[..., Path]:
    """A folder as transformers' converter writes it: without our notes, and with nested changes."""

    def write(**changes: Any) -> Path:
        folder = saved("transformers")
        file = folder / "config.json"
        config = json.loads(file.read_text())
        del config["fastvlm"]
        for key, value in changes.items():
            config[key] = config[key] | value if isinstance(value, dict) else value
        file.write_text(json.dumps(config))
        return folder

    return write


def test_a_converted_folder_is_read(foreign: Callable[..., Path], small: Any) -> None:
    config = read_checkpoint(foreign()).config
    assert config.vlm.vision == small.fused
    assert config.vlm.decoder == small.decoder
    assert config.processing == ProcessingConfig(mode="pad", size_px=128)
    assert config.template is TEMPLATES["qwen_2"]
    assert config.eos_token_ids == (2, 0)


def test_both_spellings_of_the_rotary_base_are_read(foreign: Callable[..., Path]) -> None:
    folder = foreign(text_config={"rope_parameters": None, "rope_theta": 777.0})
    assert read_checkpoint(folder).config.vlm.decoder.rope_theta == 777.0
    config = json.loads((folder / "config.json").read_text())
    del config["text_config"]["rope_theta"]
    config["text_config"]["rope_parameters"] = {"rope_type": "default", "rope_theta": 888.0}
    (folder / "config.json").write_text(json.dumps(config))
    assert read_checkpoint(folder).config.vlm.decoder.rope_theta == 888.0


def test_pitfall_b5_the_statistics_that_timm_tags_the_encoder_with_are_not_taken(
    foreign: Callable[..., Path],
) -> None:
    folder = foreign(
        vision_config={
            "architecture": "fastvit_mci3.apple_mclip2_dfndr2b",
            "pretrained_cfg": {"mean": [0.481, 0.458, 0.408], "std": [0.269, 0.261, 0.276]},
        }
    )
    (folder / "preprocessor_config.json").unlink()
    processing = read_checkpoint(folder).config.processing
    assert (processing.mean, processing.std) == ((0, 0, 0), (1, 1, 1))
    assert processing.size_px == 128, "2 x 2 visual tokens"


@pytest.mark.parametrize("place", ["preprocessor_config.json", "processor_config.json"])
def test_pitfall_b1_a_centre_crop_is_read_and_warned_of(
    place: str, foreign: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = foreign()
    (folder / "preprocessor_config.json").unlink()
    clip = {"crop_size": {"height": 256, "width": 256}, "do_center_crop": True, "size": {"shortest_edge": 256}}
    value = clip if place.startswith("pre") else {"image_processor": clip, "patch_size": 64}
    (folder / place).write_text(json.dumps(value | {"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}))
    with caplog.at_level(logging.WARNING):
        assert read_checkpoint(folder).config.processing == ProcessingConfig(mode="crop", size_px=256)
    assert "centre crop" in caplog.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vision_feature_layer": -2}, "vision_feature_layer"),
        ({"vision_feature_select_strategy": "default"}, "vision_feature_select_strategy"),
        ({"projector_hidden_act": "relu"}, "projector_hidden_act"),
        ({"multimodal_projector_bias": False}, "multimodal_projector_bias"),
        ({"text_config": {"model_type": "gemma"}}, "qwen2 or llama"),
        ({"text_config": {"hidden_size": None}}, "hidden_size"),
        ({"vision_config": {"architecture": "fastvit_mci4"}}, "fastvit_mci4"),
        ({"vision_config": {"model_type": "siglip"}}, "siglip"),
        ({"vision_config": {"hidden_size": 5}}, "hidden_size 256"),
        ({"vision_config": {"model_args": {"layers": [1, 1]}}}, "five layers"),
        ({"vision_config": {"model_args": {"act_layer": "silu"}}}, "act_layer"),
        ({"vision_config": 5}, "vision_config"),
        ({"vision_config": {"model_args": {"layers": 3}}}, "five layers"),
        ({"vision_config": {"model_args": {"embed_dims": [1, 2, 3, 4, "5"]}}}, "five embed_dims"),
        ({"vision_config": {"model_args": [3]}}, "model_args"),
        ({"text_config": {"model_type": ["qwen2"]}}, "qwen2 or llama"),
        ({"text_config": {"rope_parameters": [1]}}, "rope_parameters"),
    ],
)
def test_what_is_not_supported_is_refused_in_one_line(
    changes: dict[str, Any], words: str, foreign: Callable[..., Path]
) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(foreign(**changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": {"shortest_edge": 256}},
        {"size": {"height": 128, "width": 256}, "crop_size": None},
        {"size": None, "crop_size": None},
        {"size": {"shortest_edge": [128]}, "crop_size": None},
        {"size": [128, 128], "crop_size": None},
        {"do_rescale": False},
        {"do_resize": False},
    ],
)
def test_preprocessors_that_we_do_not_compute_are_refused(
    changes: dict[str, Any], foreign: Callable[..., Path]
) -> None:
    folder = foreign()
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(CheckpointError, match=r"size|do_resize"):
        read_checkpoint(folder)


def test_an_image_processor_that_is_no_object_is_refused(foreign: Callable[..., Path]) -> None:
    folder = foreign()
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text('{"image_processor": "CLIPImageProcessor"}')
    with pytest.raises(CheckpointError, match="image_processor"):
        read_checkpoint(folder)


def test_pitfall_b3_the_circulating_template_means_the_one_of_training(foreign: Callable[..., Path]) -> None:
    folder = foreign()
    (folder / "chat_template.jinja").write_text(CIRCULATING)
    assert read_checkpoint(folder).config.template is TEMPLATES["qwen_2"]


@pytest.mark.parametrize("place", ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"])
def test_a_template_of_its_own_is_kept(place: str, foreign: Callable[..., Path]) -> None:
    folder = foreign()
    (folder / "chat_template.jinja").unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    named = [{"name": "default", "template": OTHER}, {"name": "tool_use", "template": "x"}]
    text = {"chat_template.jinja": OTHER, "chat_template.json": json.dumps({"chat_template": OTHER})}
    (folder / place).write_text(text.get(place, json.dumps(settings | {"chat_template": named})))
    template = read_checkpoint(folder).config.template
    assert isinstance(template, JinjaTemplate)
    assert template.source == OTHER
    assert "<|im_end|>" in template.stop_tokens
    assert "<image>" not in template.control_tokens
    assert render_text([user(ImagePart(None), "Hi")], template) == "[user]<image>Hi<|im_end|>[assistant]"


def test_a_template_that_refuses_gives_way_to_the_one_of_training(
    foreign: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = foreign()
    (folder / "chat_template.jinja").write_text("{% if %}")
    with caplog.at_level(logging.WARNING):
        assert read_checkpoint(folder).config.template is TEMPLATES["qwen_2"]
    assert "qwen_2" in caplog.text


CONVERSATIONS: dict[str, list[Message]] = {
    "image and words": [user(ImagePart(None), "What is this?")],
    "words only": [user("What is 2+2?")],
    "words, then an image": [user("What is this?", ImagePart(None))],
    "two images": [user(ImagePart(None), ImagePart(None), "Same?")],
    "separators of one's own": [user(ImagePart(None), "\nWhat?")],
    "system": [system("Be brief."), user(ImagePart(None), "What?")],
    "several turns": [user(ImagePart(None), "Colour?"), assistant("Red."), user("And \"the\" café {{ x }}?")],
    "training": [user(ImagePart(None), "Read."), assistant("OK then.")],
}  # fmt: skip


@pytest.mark.parametrize("conversation", CONVERSATIONS.values(), ids=CONVERSATIONS)
@pytest.mark.parametrize("name", ["qwen_2", "chatml", "v1"])
def test_the_written_jinja_text_renders_what_our_template_renders(name: str, conversation: list[Message]) -> None:
    template = TEMPLATES[name]
    rendered = _render(jinja_source(template, image_token="<image>"), conversation)
    assert rendered == (template.opening_token or "") + render_text(conversation, template)


def _render(source: str, conversation: list[Message]) -> str:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    messages = [{"role": message.role, "content": _content(message)} for message in conversation]
    is_prompt = conversation[-1].role != "assistant"
    return environment.from_string(source).render(messages=messages, add_generation_prompt=is_prompt)


def _content(message: Message) -> str | list[dict[str, str]]:
    if message.role != "user":
        return message.text
    return [
        {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": "image"}
        for part in message.content
    ]
