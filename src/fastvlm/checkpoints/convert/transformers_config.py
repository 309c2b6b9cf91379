"""The `config.json`, preprocessor and chat template of transformers' `fast_vlm` checkpoints, read and written."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastvlm.checkpoints.config import ModelConfig
from fastvlm.checkpoints.convert.decoder import decoder_keys, optional_section, read_decoder, whole_number
from fastvlm.checkpoints.convert.foreign import (
    EXTENSION,
    ForeignFolder,
    end_token_ids,
    extension_of,
    first_token_id,
    image_statistics,
    is_tied,
    native_size_px,
    read_licence,
    require_plain_encoder,
    special_token_text,
    vision_as_stored,
    warn_of_crop,
)
from fastvlm.checkpoints.tensors import read_json_if_present
from fastvlm.errors import CheckpointError, PromptError
from fastvlm.messages import ImagePart, Message, user
from fastvlm.models.config import VLMConfig
from fastvlm.models.vision.config import PRESETS, FastViTHDConfig
from fastvlm.processing.config import ImageMode, ProcessingConfig
from fastvlm.processing.prompt import render_text
from fastvlm.processing.templates import TEMPLATES, ChatTemplate, JinjaTemplate, Template

FAST_VLM = "fast_vlm"
IMAGE_TOKEN = "<image>"
TEMPLATE_FILE = "chat_template.jinja"

_LOGGER = logging.getLogger(__name__)
_ARCHITECTURE = "fastvit_mci3"
_BICUBIC = 3
_DEFAULT_TEMPLATES = {"qwen2": "qwen_2", "llama": "v1"}


def read_config(folder: ForeignFolder) -> ModelConfig:
    """Read transformers' configuration. Raises CheckpointError on anything that our network does not compute."""
    raw, where = folder.raw, folder.where
    _refuse_unsupported(raw, where)
    text = _section(raw, "text_config", where)
    kind = text.get("model_type")
    if not isinstance(kind, str) or kind not in _DEFAULT_TEMPLATES:
        raise CheckpointError(f"Expected text_config.model_type in {where} to be qwen2 or llama, got {kind!r}.")
    vision = _read_vision(_section(raw, "vision_config", where), where)
    declared = raw.get("tie_word_embeddings") or text.get("tie_word_embeddings", raw.get("tie_word_embeddings"))
    decoder = read_decoder(
        text,
        has_attention_bias=kind == "qwen2" or bool(text.get("attention_bias")),
        vocabulary_size=folder.vocabulary_size,
        has_tied_head=is_tied(folder.tensors, declared=declared, where=where),
        where=f"text_config of {where}",
    )
    template = folder.noted_template() or _read_template(folder, default=TEMPLATES[_DEFAULT_TEMPLATES[kind]])
    return ModelConfig(
        name=folder.name,
        vlm=VLMConfig(vision=vision_as_stored(vision, folder.tensors), decoder=decoder),
        processing=folder.noted_processing() or _read_processing(folder),
        template=template,
        eos_token_ids=end_token_ids(folder.path, [raw, text], tokenizer=folder.tokenizer, template=template),
        bos_token_id=first_token_id(text, tokenizer=folder.tokenizer),
        licence=folder.noted_licence() or read_licence(folder.path),
        calibration=folder.noted_calibration(),
    )


def write_config(config: ModelConfig, *, image_token_id: int) -> dict[str, Any]:
    """Describe a model as transformers' `config.json`."""
    vision, decoder, processing = config.vlm.vision, config.vlm.decoder, config.processing
    require_plain_encoder(vision, layout="transformers")
    if processing.mode in ("fit", "anyres"):
        _LOGGER.warning(
            "The transformers layout has no image mode %r: other programs will pad pictures to a square.",
            processing.mode,
        )
    kind = "qwen2" if decoder.has_attention_bias else "llama"
    text = decoder_keys(decoder)
    rope_theta = text.pop("rope_theta")
    eos_token_id = config.eos_token_ids[0] if config.eos_token_ids else None
    extension = extension_of(
        config,
        needs_vision=False,
        needs_processing=processing.mode in ("fit", "anyres"),
        needs_template=not _is_recognisable(config.template),
    )
    return {
        "architectures": ["FastVlmForConditionalGeneration"],
        "model_type": FAST_VLM,
        "image_seq_length": (native_size_px(processing) // 64) ** 2,
        "image_token_index": image_token_id,
        "multimodal_projector_bias": True,
        "projector_hidden_act": "gelu",
        "text_config": {
            "model_type": kind,
            **text,
            "attention_dropout": 0.0,
            "bos_token_id": config.bos_token_id,
            "eos_token_id": eos_token_id,
            # Both spellings: the newer one is read by transformers 5, the older by 4.
            "rope_parameters": {"rope_theta": rope_theta, "rope_type": "default"},
            "rope_theta": rope_theta,
        },
        "tie_word_embeddings": decoder.has_tied_head,
        "vision_config": _vision_keys(vision),
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        EXTENSION: extension,
    }


def write_preprocessor(config: ModelConfig) -> dict[str, Any]:
    """Describe the preprocessing as `preprocessor_config.json`: LLaVA's processor knows padding to a square."""
    processing = config.processing
    size_px = native_size_px(processing)
    return {
        "image_processor_type": "LlavaImageProcessor",
        "processor_class": "LlavaProcessor",
        "crop_size": {"height": size_px, "width": size_px},
        "do_center_crop": processing.mode == "crop",
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_pad": processing.mode != "crop",
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(processing.mean),
        "image_std": list(processing.std),
        "resample": _BICUBIC,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": size_px},
    }


def write_processor() -> dict[str, Any]:
    """Describe transformers' processor, which repeats the image token once for each visual token."""
    return {
        "image_token": IMAGE_TOKEN,
        "num_additional_image_tokens": 0,
        "patch_size": 64,
        "processor_class": "LlavaProcessor",
        "vision_feature_select_strategy": "full",
    }


def _read_vision(raw: Mapping[str, Any], where: str) -> FastViTHDConfig:
    architecture = str(raw.get("architecture", _ARCHITECTURE)).split(".")[0]
    if raw.get("model_type", "timm_wrapper") != "timm_wrapper" or architecture != _ARCHITECTURE:
        raise CheckpointError(
            f"Expected vision_config in {where} to be timm_wrapper with {_ARCHITECTURE}, got "
            f"{raw.get('model_type')!r} with {raw.get('architecture')!r}. Other encoders are not supported."
        )
    arguments = optional_section(raw, "model_args", f"vision_config of {where}")
    unknown = sorted(set(arguments) - {"inference_mode", "layers", "embed_dims"})
    if unknown:
        raise CheckpointError(
            f"Expected model_args of vision_config in {where} to be inference_mode, layers and embed_dims, "
            f"got also {unknown}. Other variants of the encoder are not supported."
        )
    preset = PRESETS["fastvithd"]
    depths = _five_sizes(arguments.get("layers", preset.depths), f"layers in vision_config of {where}")
    widths = _five_sizes(arguments.get("embed_dims", preset.widths), f"embed_dims in vision_config of {where}")
    vision = replace(preset, depths=depths, widths=widths)
    if raw.get("hidden_size", vision.output_width) != vision.output_width:
        raise CheckpointError(
            f"Expected hidden_size {vision.output_width} in vision_config of {where}, got {raw['hidden_size']!r}."
        )
    return vision


def _five_sizes(value: object, where: str) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or len(value) != 5 or not all(_is_size(size) for size in value):
        raise CheckpointError(f"Expected five {where}, all positive whole numbers, got {value!r}. Correct the file.")
    return tuple(value)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _vision_keys(vision: FastViTHDConfig) -> dict[str, Any]:
    arguments: dict[str, Any] = {"inference_mode": True}
    preset = PRESETS["fastvithd"]
    if (vision.depths, vision.widths) != (preset.depths, preset.widths):
        arguments |= {"layers": list(vision.depths), "embed_dims": list(vision.widths)}
    return {
        "model_type": "timm_wrapper",
        "architecture": _ARCHITECTURE,
        "do_pooling": True,
        "global_pool": "avg",
        "hidden_size": vision.output_width,
        "initializer_range": 0.02,
        "model_args": arguments,
        "num_features": vision.output_width,
    }


def _read_processing(folder: ForeignFolder) -> ProcessingConfig:
    file = folder.path / "preprocessor_config.json"
    raw: Mapping[str, Any] = read_json_if_present(file)
    if not raw:
        file = folder.path / "processor_config.json"
        raw = optional_section(read_json_if_present(file), "image_processor", str(file))
    where = str(file)
    if not raw:
        num_tokens = whole_number(folder.raw, "image_seq_length", folder.where, default=256)
        return ProcessingConfig(size_px=64 * math.isqrt(num_tokens))
    if raw.get("do_resize") is False or raw.get("do_rescale") is False:
        raise CheckpointError(f"Expected do_resize and do_rescale in {where} to be true. Correct the file.")
    if raw.get("resample", _BICUBIC) != _BICUBIC:
        _LOGGER.warning("%s asks for resample = %s; pictures are resized bicubically.", where, raw["resample"])
    # Padding comes first and leaves a square, of which a centre crop takes everything.
    mode: ImageMode = "crop" if raw.get("do_center_crop", True) and not raw.get("do_pad") else "pad"
    if mode == "crop":
        warn_of_crop(folder.name)
    mean, std = image_statistics(raw, where=where)
    return ProcessingConfig(mode=mode, size_px=_side_px(raw, where), mean=mean, std=std)


def _side_px(raw: Mapping[str, Any], where: str) -> int:
    values: list[object] = []
    for key in ("size", "crop_size"):
        value = raw.get(key)
        values += value.values() if isinstance(value, Mapping) else [value]
    # Compared one by one: what stands in a file need not be hashable.
    sides = [value for value in values if value is not None]
    side = sides[0] if sides and all(other == sides[0] for other in sides) else None
    if not isinstance(side, int) or isinstance(side, bool) or side < 1:
        raise CheckpointError(
            f"Expected size and crop_size in {where} to name one and the same side in pixels, got {raw.get('size')!r} "
            f"and {raw.get('crop_size')!r}. Other sizes are not supported."
        )
    return side


def _read_template(folder: ForeignFolder, *, default: ChatTemplate) -> ChatTemplate:
    """The checkpoint's own template, or the known one that it is a spelling of.

    The template that circulates with these checkpoints moves images and adds line ends (pitfall B3). Where the
    main case, one picture and then words, reads as in training, the template of training is meant.
    """
    source = _template_source(folder)
    if source is None:
        return default
    tokens = folder.tokenizer.special_token_ids
    image_id = folder.raw.get("image_token_index", folder.raw.get("image_token_id"))
    image_token = next((token for token, number in tokens.items() if number == image_id), IMAGE_TOKEN)
    eos_token = special_token_text(folder.path, "eos_token")
    template = JinjaTemplate(
        source=source,
        control_tokens=tuple(token for token in tokens if token != image_token),
        stop_tokens=tuple(token for token in (*default.stop_tokens, eos_token) if token in tokens),
        image_token=image_token,
        bos_token=special_token_text(folder.path, "bos_token"),
        eos_token=eos_token,
    )
    probe = [user(ImagePart(None), "What is this?")]
    try:
        rendered = render_text(probe, template)
    except PromptError as error:
        _LOGGER.warning("%s: %s Using the template %s instead.", folder.path, error, default.name)
        return default
    return next((known for known in TEMPLATES.values() if _reads_as(known, probe, rendered)), template)


def _is_recognisable(template: ChatTemplate) -> bool:
    """Whether reading the written chat template gives this template back."""
    return isinstance(template, JinjaTemplate) or (template.layout == "turns" and template in TEMPLATES.values())


def _reads_as(template: Template, probe: Sequence[Message], rendered: str) -> bool:
    if template.layout != "turns":
        return False
    return rendered.removeprefix(template.opening_token or "") == render_text(probe, template)


def _template_source(folder: ForeignFolder) -> str | None:
    file = folder.path / TEMPLATE_FILE
    if file.is_file():
        return file.read_text(encoding="utf-8", errors="replace")
    for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        value = read_json_if_present(folder.path / name).get("chat_template")
        if isinstance(value, list):
            named = [item for item in value if isinstance(item, Mapping) and item.get("name") == "default"]
            value = named[0].get("template") if named else None
        if isinstance(value, str):
            return value
    return None


def _refuse_unsupported(raw: Mapping[str, Any], where: str) -> None:
    expected = {
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": True,
    }
    for key, value in expected.items():
        if raw.get(key, value) != value:
            raise CheckpointError(
                f"Expected {key} = {value!r} in {where}, got {raw[key]!r}. Only {value!r} is supported."
            )


def _section(raw: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = raw.get(key)
    if not isinstance(value, Mapping):
        raise CheckpointError(f"Expected {key} in {where} to be a JSON object, got {type(value).__name__}.")
    return value
