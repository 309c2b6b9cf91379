"""Low-rank adaptation of the decoder (LoRA, Hu et al. 2021), through the library peft."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from fastvlm.checkpoints.adapter import ADAPTER_CONFIG, ADAPTER_FILE
from fastvlm.checkpoints.write import write_tensors
from fastvlm.errors import TrainingError, one_line, require_extra
from fastvlm.files import new_folder
from fastvlm.models.vlm import FastVLM

TARGETS = ("query", "key", "value", "output", "gate", "up", "down")
"""All matrices of a decoder layer."""

_TARGET_NAMES = rf".*decoder\.layers\.\d+\.(?:attention|feed_forward)\.(?:{'|'.join(TARGETS)})"
_ADAPTER = "default"
"""What peft calls an adapter that has no name."""


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """rank: of each change. alpha: a change is scaled by alpha / rank. dropout: of its input, in training."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0


def add_lora(model: FastVLM, settings: LoraSettings) -> None:
    """Put a low-rank change beside every matrix of the decoder's layers; only these learn from then on.

    Raises MissingExtraError where peft is not installed, TrainingError where it does not load.
    """
    require_extra("peft", "train")
    try:
        import peft
    except Exception as error:  # what it imports beside torch may not fit it, and says so in many ways
        raise TrainingError(
            f"Expected peft to load, got: {one_line(error, max_length=200)}. Install versions of it and of torchvision "
            "that fit torch."
        ) from error

    config = peft.LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout, target_modules=_TARGET_NAMES
    )
    peft.inject_adapter_in_model(config, model)


def save_adapter(folder: Path, model: FastVLM, settings: LoraSettings, *, base: str) -> Path:
    """Write everything of `model` that learned as an adapter to `base`, into a new folder.

    Raises TrainingError where it cannot be written.
    """
    tensors = {
        name.replace(f".{_ADAPTER}.", "."): parameter.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": list(TARGETS),
        "modules_to_save": ["projector"],
        "bias": "none",
        "inference_mode": True,
    }
    try:
        with new_folder(folder) as target:
            write_tensors(target / ADAPTER_FILE, tensors)
            (target / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            (target / "README.md").write_text(_card(folder.name, settings, base), encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"Cannot write the adapter to {folder}: {error}. Free some space and resume.") from error
    return folder


def _card(name: str, settings: LoraSettings, base: str) -> str:
    """What a person who finds an adapter has to know of it."""
    return (
        f"# {name}\n\nAn adapter to the vision-language model `{base}`: low-rank changes of its decoder (LoRA, "
        f"rank {settings.rank}, alpha {settings.alpha}), and a projector. It is of no use without that model, whose "
        "licence holds for it too.\n\n"
        '```\nfastvlm ask IMAGE "question" --model ADAPTER\nfastvlm convert ADAPTER FOLDER  # a whole model\n```\n'
    )
