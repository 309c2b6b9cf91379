"""What reading a foreign checkpoint needs, whoever wrote it: how it ends an answer, its licence, its image numbers.

What a foreign layout has no key for stands under `fastvlm` in its `config.json`, which other programs skip.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastvlm.checkpoints.config import (
    ModelConfig,
    calibration_from,
    section_from_dict,
    section_to_dict,
    template_to_value,
    vision_from_dict,
)
from fastvlm.checkpoints.licence import RESEARCH_LICENCE, model_card_values
from fastvlm.checkpoints.tensors import StoredTensor, read_json_if_present, same_values
from fastvlm.errors import CheckpointError
from fastvlm.models.vision.config import PRESETS, FastViTHDConfig
from fastvlm.processing.calibration import Calibration
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import ChatTemplate, template_from_dict
from fastvlm.processing.tokenizer import Tokenizer
from fastvlm.tiles import ENCODER_STRIDE_PX

ChannelValues = tuple[float, float, float]

EXTENSION = "fastvlm"
TABLE_NAME = "decoder.embed_tokens.weight"
HEAD_NAME = "decoder.head.weight"

_LOGGER = logging.getLogger(__name__)
_CLIP_HEAD_NAME = "vision.clip_head.projection"


@dataclass(frozen=True)
class ForeignFolder:
    """A folder that someone else's program wrote. raw: its `config.json`; tensors: by our names."""

    path: Path
    raw: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]
    tokenizer: Tokenizer

    @property
    def where(self) -> str:
        """The configuration file, for errors."""
        return str(self.path / "config.json")

    @property
    def extension(self) -> Mapping[str, Any]:
        """What fastvlm itself noted in a file that it wrote for others."""
        value = self.raw.get(EXTENSION)
        return value if isinstance(value, Mapping) else {}

    @property
    def vocabulary_size(self) -> int:
        """Rows of the embedding table, which may be more than the tokenizer has tokens."""
        return self.tensors[TABLE_NAME].shape[0] if TABLE_NAME in self.tensors else 1

    @property
    def name(self) -> str:
        """A name to show; nothing depends on it (pitfall B14)."""
        owner = self.path.parent.parent.name
        if self.path.parent.name == "snapshots" and owner.startswith("models--"):
            return owner.removeprefix("models--").replace("--", "/", 1)
        return str(self.extension.get("name") or self.path.name)

    def noted_template(self) -> ChatTemplate | None:
        """The template under our own key, if it is there."""
        value = self.extension.get("template")
        return template_from_dict(value) if isinstance(value, str | Mapping) else None

    def noted_processing(self) -> ProcessingConfig | None:
        """The preprocessing under our own key, if it is there."""
        value = self.extension.get("processing")
        if value is None:
            return None
        return section_from_dict(ProcessingConfig, value, where=f"{EXTENSION}.processing in {self.where}")

    def noted_vision(self) -> FastViTHDConfig:
        """The encoder under our own key, else the paper's."""
        value = self.extension.get("vision")
        if value is None:
            return PRESETS["fastvithd"]
        return vision_from_dict(value, where=f"{EXTENSION}.vision in {self.where}")

    def noted_calibration(self) -> Calibration | None:
        """How the model was calibrated, under our own key, if it is there."""
        return calibration_from(self.extension.get("calibration"), where=f"{EXTENSION}.calibration in {self.where}")

    def noted_licence(self) -> str | None:
        """The licence under our own key, if it is there."""
        value = self.extension.get("licence")
        return value if isinstance(value, str) else None


def vision_as_stored(vision: FastViTHDConfig, tensors: Mapping[str, StoredTensor]) -> FastViTHDConfig:
    """Let the tensors say whether an encoder is in train form or fused, and whether it has a CLIP head."""
    head = tensors.get(_CLIP_HEAD_NAME)
    clip_dim = head.shape[1] if head is not None and len(head.shape) == 2 else None
    is_fused = "vision.stem.blocks.0.fused.weight" in tensors
    return replace(vision, form="fused" if is_fused else "train", clip_dim=clip_dim)


def is_tied(tensors: Mapping[str, StoredTensor], *, declared: object, where: str) -> bool:
    """Decide from the weights whether the output head is the embedding table (pitfall B13).

    Absent, or equal to the table to the last bit: tied, whatever the configuration declares.
    """
    head, table = tensors.get(HEAD_NAME), tensors.get(TABLE_NAME)
    tied = head is None or (table is not None and same_values(head, table))
    if declared is not None and declared != tied:
        _LOGGER.info(
            "%s says tie_word_embeddings = %s, but the weights are %s: the weights decide.",
            where, declared, "tied" if tied else "untied",
        )  # fmt: skip
    return tied


def end_token_ids(
    folder: Path, raw: Iterable[Mapping[str, Any]], *, tokenizer: Tokenizer, template: ChatTemplate
) -> tuple[int, ...]:
    """Collect the tokens that end an answer: the template's, and what the folder's files name (pitfall B12).

    Ids that are ordinary words of this tokenizer are not believed. Raises CheckpointError where the template's own
    end of turn is unknown to the tokenizer, or where nothing would ever end an answer.
    """
    special = tokenizer.special_token_ids
    found = [tokenizer.token_id(template.stop_tokens[0])] if template.stop_tokens else []
    found += [special[token] for token in template.stop_tokens[1:] if token in special]
    declared = special_token_text(folder, "eos_token")
    if declared in special:
        found.append(special[declared])
    for source in (*raw, read_json_if_present(folder / "generation_config.json")):
        value = source.get("eos_token_id")
        ids = value if isinstance(value, list) else [value]
        found += [number for number in ids if isinstance(number, int) and number in special.values()]
    if not found and not template.stop_strings:
        raise CheckpointError(
            f"Expected the tokenizer of {folder} to name a token that ends an answer, found none. "
            "Add eos_token_id to generation_config.json."
        )
    return tuple(dict.fromkeys(found))


def first_token_id(raw: Mapping[str, Any], *, tokenizer: Tokenizer) -> int | None:
    """The id of the token that starts a text, where the configuration names a real one."""
    value = raw.get("bos_token_id")
    return value if isinstance(value, int) and value in tokenizer.special_token_ids.values() else None


def special_token_text(folder: Path, key: str) -> str:
    """The text of a special token, as `tokenizer_config.json` names it; empty where it does not."""
    value = read_json_if_present(folder / "tokenizer_config.json").get(key)
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def image_statistics(preprocessor: Mapping[str, Any], *, where: str) -> tuple[ChannelValues, ChannelValues]:
    """Mean and std of a preprocessor file; 0 and 1 where it has none, as the authors' code (pitfall B5)."""
    standard = ProcessingConfig()
    if preprocessor.get("do_normalize") is False:
        return standard.mean, standard.std
    return (
        _channel_values(preprocessor.get("image_mean"), f"image_mean in {where}", default=standard.mean),
        _channel_values(preprocessor.get("image_std"), f"image_std in {where}", default=standard.std),
    )


def warn_of_crop(name: str) -> None:
    """Tell that pictures lose their edges, because the checkpoint says so (pitfall B1)."""
    _LOGGER.warning(
        "%s asks for a centre crop: what lies outside the middle square of a picture is not seen. "
        "FastVLM was trained with padding; load it with image_mode='pad' (--image-mode pad) to see whole pictures.",
        name,
    )


def read_licence(folder: Path) -> str | None:
    """The licence that a folder's model card names, or the authors' where its licence file is theirs."""
    named = model_card_values(folder).get("license")
    if named is not None and named != "other":
        return named
    for path in sorted(path for path in folder.glob("LICENSE*") if path.is_file()):
        text = path.read_text(encoding="utf-8", errors="replace").lower()
        if "apple" in text and "research" in text:
            return RESEARCH_LICENCE
    return None


def extension_of(config: ModelConfig, *, needs_vision: bool, needs_processing: bool, needs_template: bool) -> Any:
    """Note what the foreign layout has no key for."""
    noted: dict[str, Any] = {"name": config.name, "licence": config.licence}
    if needs_vision:
        noted["vision"] = section_to_dict(config.vlm.vision)
    if needs_processing:
        noted["processing"] = section_to_dict(config.processing)
    if needs_template:
        noted["template"] = template_to_value(config.template)
    if config.calibration is not None:
        noted["calibration"] = section_to_dict(config.calibration)
    return {key: value for key, value in noted.items() if value is not None}


def native_size_px(processing: ProcessingConfig) -> int:
    """The side of a square tile for layouts that only know squares; for `fit`, of equally many tokens."""
    return (
        ENCODER_STRIDE_PX * max(1, round(processing.max_visual_tokens**0.5))
        if processing.mode == "fit"
        else processing.size_px
    )


def require_plain_encoder(vision: FastViTHDConfig, *, layout: str) -> None:
    """Raise CheckpointError for encoders that a foreign layout cannot name."""
    standard = replace(PRESETS["fastvithd"], depths=vision.depths, widths=vision.widths)
    same = replace(vision, form=standard.form, clip_dim=None, layer_scale_init=standard.layer_scale_init)
    if same != standard or len(vision.depths) != len(PRESETS["fastvithd"].depths):
        raise CheckpointError(
            f"Expected an encoder in FastViTHD's shape for the {layout} layout, got {vision}. "
            "Only depths and widths may differ there; save it in the fastvlm layout."
        )


def _channel_values(value: object, where: str, *, default: ChannelValues) -> ChannelValues:
    if value is None:
        return default
    if not isinstance(value, list) or len(value) != 3 or not all(isinstance(part, int | float) for part in value):
        raise CheckpointError(f"Expected {where} to be three numbers, got {value!r}. Correct the file.")
    return float(value[0]), float(value[1]), float(value[2])
