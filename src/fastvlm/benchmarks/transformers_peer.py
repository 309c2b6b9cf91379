"""transformers, beside what is measured of ours: its FastVLM and `generate`, and encoders as it ships them."""

from __future__ import annotations

import sys
import time
import types
from pathlib import Path
from typing import Any, Literal

from fastvlm.benchmarks.encoders import EncoderShape, ViTShape
from fastvlm.benchmarks.questions import Answered, Question

TransformersForm = Literal["as it comes", "channels last", "compiled"]


def transformers_library() -> Any:
    """transformers, quiet, and able to import a torchvision that does not match torch."""
    # torchvision asks for operators that no wheel of torch for processors has; none of them is used.
    sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("torchvision._meta_registrations"))
    import transformers

    transformers.logging.set_verbosity_error()
    return transformers


class TransformersSystem:
    """transformers' own FastVLM and its `generate`.

    form: as it comes, with its channels innermost, or with its encoder compiled besides, which happens during the first
    question of a size, one to warm up.
    """

    def __init__(self, folder: Path, *, precision: str, form: TransformersForm) -> None:
        import torch

        transformers = transformers_library()
        self._torch = torch
        self._dtype = getattr(torch, precision)
        model = transformers.FastVlmForConditionalGeneration.from_pretrained(folder, dtype=self._dtype)
        self._has_channels_last = form != "as it comes"
        self._model = model.to(memory_format=torch.channels_last) if self._has_channels_last else model
        if form == "compiled":
            self._model.model.vision_tower.compile()
        self._model.generation_config.eos_token_id = None

    def answer(self, question: Question, *, num_tokens: int) -> Answered:
        """Generate with a streamer that looks at the clock."""
        torch = self._torch
        vocabulary_size = self._model.config.text_config.vocab_size
        token_ids = torch.from_numpy(question.prompt(vocabulary_size=vocabulary_size).token_ids)[None]
        pixels = torch.from_numpy(question.pixels().pixels).to(self._dtype)
        if self._has_channels_last:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        clock = _Clock()
        with torch.inference_mode():
            self._model.generate(
                input_ids=token_ids,
                attention_mask=torch.ones_like(token_ids),
                pixel_values=pixels,
                do_sample=False,
                max_new_tokens=num_tokens,
                min_new_tokens=num_tokens,
                streamer=clock,
            )
        return Answered(clock.times_ms)


class _Clock:
    """A streamer of transformers: it is given the prompt first, then each token."""

    def __init__(self) -> None:
        self._started_s = time.perf_counter()
        self.times_ms: list[float] = []
        self._has_prompt = False

    def put(self, _: object) -> None:
        """Note the time of a token."""
        if self._has_prompt:
            self.times_ms.append((time.perf_counter() - self._started_s) * 1000)
        self._has_prompt = True

    def end(self) -> None:
        """Nothing is left to note."""


def encoder_module(shape: EncoderShape, *, size_px: int) -> Any:
    """A torch module with random weights."""
    transformers = transformers_library()
    if not isinstance(shape, ViTShape):
        stages = {"num_stages": len(shape.depths), "depths": [*shape.depths], "hidden_sizes": [*shape.widths]}
        return transformers.ConvNextModel(transformers.ConvNextConfig(**stages)).eval()
    given = {
        "hidden_size": shape.width,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "intermediate_size": shape.feed_forward_width,
        "patch_size": shape.patch_px,
        "image_size": size_px,
    }
    if shape.has_class_token:
        return transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**given)).eval()
    return transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**given, vision_use_head=False)).eval()
