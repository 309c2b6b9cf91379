"""What a checkpoint says about itself, and how it is written down in our own format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import UnionType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from fastvlm.errors import CheckpointError
from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.processing.calibration import Calibration
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import TEMPLATES, ChatTemplate, template_from_dict
from fastvlm.tiles import ENCODER_STRIDE_PX

CONFIG_FILE = "config.json"
MODEL_TYPE = "fastvlm"
FORMAT_VERSION = 1

Section = TypeVar("Section", FastViTHDConfig, DecoderConfig, ProcessingConfig, Calibration)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything about a model but its weights and its tokenizer's table.

    eos_token_ids: tokens that end an answer. licence: an identifier of the weights' licence, where one is known.
    calibration: where the model was measured for it. Raises CheckpointError where that names a token that is not there.
    """

    name: str
    vlm: VLMConfig
    processing: ProcessingConfig
    template: ChatTemplate
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None = None
    licence: str | None = None
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        size = self.vlm.decoder.vocabulary_size
        if self.calibration is not None and self.calibration.refusal_token_id >= size:
            raise CheckpointError(
                f"Expected the refusal_token_id of a calibration to be one of {size} tokens, got "
                f"{self.calibration.refusal_token_id}. Calibrate the model anew."
            )


def config_to_dict(config: ModelConfig) -> dict[str, Any]:
    """Describe a model as the JSON values of our own `config.json`."""
    described: dict[str, Any] = {
        "model_type": MODEL_TYPE,
        "format_version": FORMAT_VERSION,
        "name": config.name,
        "licence": config.licence,
        "vision": section_to_dict(config.vlm.vision),
        "decoder": section_to_dict(config.vlm.decoder),
        "processing": section_to_dict(config.processing),
        "template": template_to_value(config.template),
        "eos_token_ids": list(config.eos_token_ids),
        "bos_token_id": config.bos_token_id,
    }
    if config.calibration is not None:
        described["calibration"] = section_to_dict(config.calibration)
    return described


def config_from_dict(raw: Mapping[str, Any], *, where: str) -> ModelConfig:
    """Read our own `config.json`; `where` names it in errors. Raises CheckpointError on what it does not know."""
    version = raw.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"Expected format_version {FORMAT_VERSION} in {where}, got {version!r}. Upgrade fastvlm to read this model."
        )
    known = {"model_type", "format_version", "name", "licence", "vision", "decoder", "processing", "template"}
    known |= {"eos_token_ids", "bos_token_id", "calibration"}
    _refuse_unknown(set(raw), known, where)
    template = raw.get("template")
    if not isinstance(template, str | Mapping):
        raise CheckpointError(f"Expected template in {where} to be a name or a description, got {template!r}.")
    return ModelConfig(
        name=value_of(str, raw.get("name", "unnamed"), f"name in {where}"),
        vlm=VLMConfig(
            vision=vision_from_dict(raw.get("vision"), where=f"vision in {where}"),
            decoder=section_from_dict(DecoderConfig, raw.get("decoder"), where=f"decoder in {where}"),
        ),
        processing=section_from_dict(ProcessingConfig, raw.get("processing"), where=f"processing in {where}"),
        template=template_from_dict(template),
        eos_token_ids=value_of(tuple[int, ...], raw.get("eos_token_ids"), f"eos_token_ids in {where}"),
        bos_token_id=value_of(int | None, raw.get("bos_token_id"), f"bos_token_id in {where}"),
        licence=value_of(str | None, raw.get("licence"), f"licence in {where}"),
        calibration=calibration_from(raw.get("calibration"), where=f"calibration in {where}"),
    )


def calibration_from(raw: Any, *, where: str) -> Calibration | None:
    """Read how a model was calibrated, None where it was not."""
    return None if raw is None else section_from_dict(Calibration, raw, where=where)


def template_to_value(template: ChatTemplate) -> str | dict[str, Any]:
    """Write a template as its name, where that says all, or as its description."""
    return template.name if TEMPLATES.get(template.name) == template else template.to_dict()


def section_to_dict(section: FastViTHDConfig | DecoderConfig | ProcessingConfig | Calibration) -> dict[str, Any]:
    """Write one of the composed configurations as JSON values."""
    return cast(dict[str, Any], _plain(asdict(section)))


def section_from_dict(kind: type[Section], raw: Any, *, where: str) -> Section:
    """Read one of the composed configurations; absent keys keep their defaults, unknown ones are errors."""
    if not isinstance(raw, Mapping):
        raise CheckpointError(f"Expected {where} to be a JSON object, got {type(raw).__name__}. Fetch the file again.")
    hints = get_type_hints(kind)
    _refuse_unknown(set(raw), {field.name for field in fields(kind)}, where)
    values = {key: value_of(hints[key], value, f"{key} of {where}") for key, value in raw.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise CheckpointError(f"Expected {where} to be complete: {error}. Fetch the file again.") from error


def vision_from_dict(raw: Any, *, where: str) -> FastViTHDConfig:
    """Read an encoder's configuration; only the stride that pictures are cut for is accepted."""
    vision = section_from_dict(FastViTHDConfig, raw, where=where)
    if vision.stride_px != ENCODER_STRIDE_PX:
        raise CheckpointError(
            f"Expected {where} to have as many stages as make one visual token of {ENCODER_STRIDE_PX} px (five), got "
            f"{len(vision.depths)} stages and {vision.stride_px} px. Encoders of another stride are not supported."
        )
    return vision


def value_of(kind: Any, value: Any, where: str) -> Any:
    """Check a JSON value against a type of a configuration, and turn lists into tuples."""
    origin, arguments = get_origin(kind), get_args(kind)
    is_right: bool
    if origin is tuple and isinstance(value, list):
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) == len(value):
            return tuple(value_of(item, part, where) for item, part in zip(kinds, value, strict=True))
        is_right = False
    elif origin is Literal:
        is_right = value in arguments
    elif origin is UnionType:
        if value is None and type(None) in arguments:
            return None
        return value_of(next(argument for argument in arguments if argument is not type(None)), value, where)
    elif kind is float:
        is_right = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        is_right = isinstance(kind, type) and isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if not is_right:
        wanted = " or ".join(map(repr, arguments)) if origin is Literal else getattr(kind, "__name__", str(kind))
        raise CheckpointError(f"Expected {where} to be {wanted}, got {value!r}. Correct it, or fetch the file again.")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _refuse_unknown(found: set[str], known: set[str], where: str) -> None:
    unknown = sorted(found - known)
    if unknown:
        raise CheckpointError(f"Expected the keys of {where} to be among {', '.join(sorted(known))}, got {unknown}.")
