"""The `config.json` of the authors' checkpoints, read and written."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Mapping
from typing import Any

from fastvlm.checkpoints.config import ModelConfig
from fastvlm.checkpoints.convert.decoder import decoder_keys, read_decoder, whole_number
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
    vision_as_stored,
    warn_of_crop,
)
from fastvlm.checkpoints.tensors import read_json_if_present
from fastvlm.errors import CheckpointError
from fastvlm.models.config import VLMConfig
from fastvlm.models.vision.config import PRESETS
from fastvlm.processing.config import ImageMode, ProcessingConfig
from fastvlm.processing.templates import TEMPLATES, ChatTemplate

QWEN2, LLAMA = "llava_qwen2", "llava_llama"

_LOGGER = logging.getLogger(__name__)
_TOWER = re.compile(r"mobileclip_l_([1-9][0-9]*)")
_TEMPLATES = {QWEN2: "qwen_2", LLAMA: "v1"}
_MODES: dict[str | None, ImageMode] = {"pad": "pad", "anyres": "anyres", "square": "crop", None: "crop"}


def read_config(folder: ForeignFolder) -> ModelConfig:
    """Read the authors' configuration. Raises CheckpointError on anything that our network does not compute.

    `mm_vision_select_layer` is not looked at: their tower ignores it too and always returns its last map (pitfall
    B25). `unfreeze_mm_vision_tower` is not looked at either: the encoder's weights are always read (pitfall B4).
    """
    raw, where = folder.raw, folder.where
    _refuse_unsupported(raw, where)
    vision = vision_as_stored(folder.noted_vision(), folder.tensors)
    if whole_number(raw, "mm_hidden_size", where, default=vision.output_width) != vision.output_width:
        raise CheckpointError(
            f"Expected mm_hidden_size {vision.output_width} in {where}, the encoder's width, got "
            f"{raw['mm_hidden_size']!r}. Towers other than FastViTHD are not supported."
        )
    decoder = read_decoder(
        raw,
        has_attention_bias=raw["model_type"] == QWEN2 or bool(raw.get("attention_bias")),
        vocabulary_size=folder.vocabulary_size,
        has_tied_head=is_tied(folder.tensors, declared=raw.get("tie_word_embeddings"), where=where),
        where=where,
    )
    template = _template(folder)
    return ModelConfig(
        name=folder.name,
        vlm=VLMConfig(vision=vision, decoder=decoder),
        processing=folder.noted_processing() or _processing(folder),
        template=template,
        eos_token_ids=end_token_ids(folder.path, [raw], tokenizer=folder.tokenizer, template=template),
        bos_token_id=first_token_id(raw, tokenizer=folder.tokenizer),
        licence=folder.noted_licence() or read_licence(folder.path),
        calibration=folder.noted_calibration(),
    )


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Describe a model as the authors' `config.json`; their loader needs every key (pitfalls B4, B13, B25)."""
    vision, decoder, processing = config.vlm.vision, config.vlm.decoder, config.processing
    require_plain_encoder(vision, layout="apple")
    kind = QWEN2 if decoder.has_attention_bias else LLAMA
    if processing.mode == "fit":
        _LOGGER.warning("The apple layout has no image mode 'fit': other programs will pad pictures to a square.")
    extension = extension_of(
        config,
        needs_vision=(vision.depths, vision.widths) != (PRESETS["fastvithd"].depths, PRESETS["fastvithd"].widths),
        needs_processing=processing.mode == "fit",
        needs_template=config.template != TEMPLATES[_TEMPLATES[kind]],
    )
    return {
        "architectures": ["LlavaQwen2ForCausalLM" if kind == QWEN2 else "LlavaLlamaForCausalLM"],
        "model_type": kind,
        **decoder_keys(decoder),
        "attention_dropout": 0.0,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_ids[0] if config.eos_token_ids else None,
        "freeze_mm_mlp_adapter": False,
        "image_aspect_ratio": {"pad": "pad", "anyres": "anyres", "crop": "square", "fit": "pad"}[processing.mode],
        "image_grid_pinpoints": [list(pair) for pair in processing.pinpoints] or None,
        "initializer_range": 0.02,
        "mm_hidden_size": vision.output_width,
        "mm_patch_merge_type": "flat",
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": f"mobileclip_l_{native_size_px(processing)}",
        "tokenizer_model_max_length": min(8192, decoder.max_positions),
        "tokenizer_padding_side": "right",
        "tune_mm_mlp_adapter": False,
        "unfreeze_mm_vision_tower": True,
        "use_mm_proj": True,
        "use_sliding_window": False,
        EXTENSION: extension,
    }


def write_preprocessor(config: ModelConfig) -> dict[str, Any]:
    """Describe size, mean and std as `preprocessor_config.json`; padding stands in `config.json`."""
    size_px = native_size_px(config.processing)
    return {
        "image_processor_type": "CLIPImageProcessor",
        "crop_size": {"height": size_px, "width": size_px},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(config.processing.mean),
        "image_std": list(config.processing.std),
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": size_px},
    }


def _template(folder: ForeignFolder) -> ChatTemplate:
    noted = folder.noted_template()
    if noted is not None:
        return noted
    # Both words are in use for the name that LLaVA's training takes as --version.
    version = folder.raw.get("conv_version", folder.raw.get("version"))
    if version is not None and not isinstance(version, str):
        raise CheckpointError(
            f"Expected conv_version or version in {folder.where} to be a template's name, got {version!r}. "
            f"Write one of {', '.join(TEMPLATES)}, or remove it."
        )
    return TEMPLATES[version if version in TEMPLATES else _TEMPLATES[folder.raw["model_type"]]]


def _processing(folder: ForeignFolder) -> ProcessingConfig:
    raw, where = folder.raw, folder.where
    aspect = raw.get("image_aspect_ratio")
    if not isinstance(aspect, str | None) or aspect not in _MODES:
        raise CheckpointError(
            f"Expected image_aspect_ratio in {where} to be pad, anyres or square, got {aspect!r}. "
            "Other ways of cutting a picture are not supported."
        )
    mode = _MODES[aspect]
    if mode == "crop":
        warn_of_crop(folder.name)
    preprocessor = folder.path / "preprocessor_config.json"
    mean, std = image_statistics(read_json_if_present(preprocessor), where=str(preprocessor))
    return ProcessingConfig(
        mode=mode,
        size_px=_size_px(raw, where),
        mean=mean,
        std=std,
        pinpoints=_pinpoints(raw.get("image_grid_pinpoints"), where) if mode == "anyres" else (),
    )


def _size_px(raw: Mapping[str, Any], where: str) -> int:
    # The resolution is part of the tower's name, and of the name only (pitfall B16).
    tower = raw.get("mm_vision_tower", raw.get("vision_tower"))
    match = _TOWER.fullmatch(tower) if isinstance(tower, str) else None
    if match is None:
        raise CheckpointError(
            f"Expected mm_vision_tower in {where} to be mobileclip_l_ and a size in pixels, as in mobileclip_l_1024, "
            f"got {tower!r}. Other vision towers are not supported."
        )
    return int(match[1])


def _pinpoints(value: object, where: str) -> tuple[tuple[int, int], ...]:
    pairs = value
    if isinstance(value, str):
        try:
            pairs = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            pairs = None
    if not isinstance(pairs, list | tuple) or not pairs or not all(_is_size(pair) for pair in pairs):
        raise CheckpointError(
            f"Expected image_grid_pinpoints in {where} to be a list of [width, height] for anyres, got {value!r}."
        )
    return tuple((pair[0], pair[1]) for pair in pairs)


def _is_size(pair: object) -> bool:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return False
    return all(isinstance(side, int) and side > 0 for side in pair)


def _refuse_unsupported(raw: Mapping[str, Any], where: str) -> None:
    _size_px(raw, where)
    expected = {"mm_projector_type": "mlp2x_gelu", "mm_patch_merge_type": "flat", "mm_use_im_start_end": False}
    for key, value in expected.items():
        found = raw.get(key)
        if found is not None and found != value:
            raise CheckpointError(f"Expected {key} = {value!r} in {where}, got {found!r}. Only {value!r} is supported.")
