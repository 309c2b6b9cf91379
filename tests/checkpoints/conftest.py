"""Small models with weights of sane scales, their tokenizer, and checkpoints of each layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fastvlm.checkpoints.config import ModelConfig
from fastvlm.checkpoints.save import save_checkpoint
from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.models.vlm import FastVLM
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tokenizer import Tokenizer, train_byte_level_bpe


class SmallModels:
    """Builds models of some hundred thousand weights, whose signals neither vanish nor explode (no denormals)."""

    vision = FastViTHDConfig(depths=(1, 1, 2, 1, 1), widths=(8, 16, 32, 64, 128), form="train")
    fused = replace(vision, form="fused")
    decoder = DecoderConfig(
        vocabulary_size=320, width=64, num_layers=2, num_heads=4, num_key_value_heads=2, feed_forward_width=96,
        head_dim=16, max_positions=512,
    )  # fmt: skip
    llama = replace(
        decoder, num_key_value_heads=4, has_attention_bias=False, has_tied_head=False, rope_theta=10_000.0,
        norm_epsilon=1e-5,
    )  # fmt: skip

    def build(
        self, vision: FastViTHDConfig | None = None, decoder: DecoderConfig | None = None, *, seed: int = 0
    ) -> FastVLM:
        """Build a model, in train form unless told; the same seed gives the same weights."""
        torch.manual_seed(seed)
        model = FastVLM(VLMConfig(vision=vision or self.vision, decoder=decoder or self.decoder))
        return self.with_sane_weights(model, seed)

    @staticmethod
    @torch.no_grad()
    def with_sane_weights(model: FastVLM, seed: int = 0) -> FastVLM:
        """Give layer scales, biases, statistics and decoder layers values under which everything matters."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            if parameter.ndim == 3:
                parameter.uniform_(0.02, 0.1, generator=generator)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.02, generator=generator)
            elif name.startswith(("vision.", "projector.", "decoder.layers.")) and parameter.ndim > 1:
                # Default weights let a picture fade away in the encoder, and a tied head repeat the last token.
                parameter.normal_(0, (2 / parameter[0].numel()) ** 0.5, generator=generator)
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith("running_mean"):
                buffer.normal_(0, 0.1, generator=generator)
            elif name.endswith("num_batches_tracked"):
                buffer.fill_(7)
        return model.eval()

    @staticmethod
    def config_of(model: FastVLM, **changes: Any) -> ModelConfig:
        """Describe a model, with the changes."""
        config = ModelConfig(
            name="tiny",
            vlm=model.config,
            processing=ProcessingConfig(size_px=128),
            template=TEMPLATES["qwen_2"],
            eos_token_ids=(2, 0),
        )
        return replace(config, **changes)

    @staticmethod
    def edit_json(path: Path, **changes: Any) -> None:
        """Set keys of a JSON file; None removes one."""
        value = json.loads(path.read_text(encoding="utf-8")) | changes
        kept = {key: item for key, item in value.items() if item is not None}
        path.write_text(json.dumps(kept), encoding="utf-8")


@pytest.fixture(scope="session")
def small() -> SmallModels:
    return SmallModels()


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_byte_level_bpe(
        ["what is this? a red circle and two blue squares"] * 3,
        vocabulary_size=300,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    )


@pytest.fixture(scope="session")
def llama_tokenizer() -> Tokenizer:
    return train_byte_level_bpe(["what is this?"] * 3, vocabulary_size=280, special_tokens=["<unk>", "<s>", "</s>"])


@pytest.fixture(scope="session")
def originals(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer, small: SmallModels
) -> Callable[[str], Path]:
    """Write the plain small checkpoint of a layout, once."""
    folder = tmp_path_factory.mktemp("originals")
    model = small.build()

    def original(layout: str) -> Path:
        if not (folder / layout).exists():
            save_checkpoint(folder / layout, model, small.config_of(model), tokenizer, layout=layout)  # type: ignore[arg-type]
        return folder / layout

    return original


@pytest.fixture
def saved(
    tmp_path: Path, tokenizer: Tokenizer, small: SmallModels, originals: Callable[[str], Path]
) -> Callable[..., Path]:
    """Write a small checkpoint in a layout, with changes, and give its folder, which a test may spoil."""

    def save(layout: str = "fastvlm", *, model: FastVLM | None = None, name: str | None = None, **changes: Any) -> Path:
        folder = tmp_path / (name or layout)
        if model is None and not changes:
            return shutil.copytree(originals(layout), folder)
        model = model or small.build()
        options = {key: changes.pop(key) for key in ("dtype", "max_shard_bytes", "derived_from") if key in changes}
        chosen = changes.pop("tokenizer", tokenizer)
        config = small.config_of(model, **changes)
        return save_checkpoint(folder, model, config, chosen, layout=layout, **options)  # type: ignore[arg-type]

    return save


@pytest.fixture(scope="session")
def oracle() -> Callable[[str], Any]:
    """Import transformers or timm, or skip: other implementations to compare with."""

    return pytest.importorskip
