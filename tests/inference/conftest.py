"""Runtimes small enough to reason about: a recurrent toy that depends on all it saw, and one that plays a script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastvlm.batches import Float32Array, Int64Array, PixelTiles, PromptTokens, VisualTokens
from fastvlm.checkpoints.config import ModelConfig
from fastvlm.checkpoints.save import save_checkpoint
from fastvlm.inference.assistant import Assistant
from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.models.vlm import FastVLM
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.processing.tokenizer import Tokenizer, train_byte_level_bpe
from fastvlm.runtimes.openvino.runtime import OpenVINORuntime
from fastvlm.runtimes.protocol import Embeddings, EncodePhase, Runtime, ignore
from fastvlm.runtimes.torch import TorchRuntime
from fastvlm.tiles import TileLayout
from support.runtimes import stored_tensors

TOY_WIDTH = 24


@dataclass
class ToyCache:
    """The state of each row after all it read, and before that after each position."""

    states: Float32Array
    num_positions: int
    earlier: list[Float32Array] = field(default_factory=list)


@dataclass
class ToyRuntime:
    """A recurrent network with fixed random weights: each row's logits depend on everything it read, in order."""

    vocabulary_size: int
    max_positions: int = 128
    name: str = "toy"
    version: str = "toy 1"
    compile_ms: float = 0.0
    num_encoded: int = 0
    num_decoded: int = 0
    num_resumed: int = 0
    prepared: list[TileLayout] = field(default_factory=list)
    table: Float32Array = field(init=False)

    def __post_init__(self) -> None:
        random = np.random.default_rng(11)
        self.table = random.normal(size=(self.vocabulary_size, TOY_WIDTH)).astype(np.float32)
        self._recurrent = (0.6 * random.normal(size=(TOY_WIDTH, TOY_WIDTH))).astype(np.float32)

    def prepare(self, layout: TileLayout) -> None:
        self.prepared.append(layout)

    def encode(self, image: PixelTiles, *, note: Callable[[EncodePhase], None] = ignore) -> VisualTokens:
        self.num_encoded += 1
        num_tokens = image.layout.num_visual_tokens
        pieces = np.array_split(image.pixels.astype(np.float32).ravel(), num_tokens)
        waves = np.arange(1, TOY_WIDTH + 1, dtype=np.float32)
        tokens = VisualTokens(np.stack([np.sin(piece.mean() * waves) for piece in pieces]), num_tokens)
        note("encode")
        return tokens

    def embed(self, prompt: PromptTokens, images: Sequence[VisualTokens]) -> Embeddings:
        rows = self.table[prompt.token_ids].copy()
        for index, image in enumerate(images):
            rows[prompt.image_index == index] = image.data
        return Embeddings(rows, len(rows))

    def prefill(self, prompts: Sequence[Embeddings]) -> tuple[Float32Array, ToyCache]:
        states, earlier = np.zeros((len(prompts), TOY_WIDTH), dtype=np.float32), []
        for row, prompt in enumerate(prompts):
            assert isinstance(prompt.data, np.ndarray)
            for embedding in prompt.data:
                states[row] = np.tanh(states[row] @ self._recurrent + embedding)
                earlier.append(states.copy())
        cache = ToyCache(states, max(prompt.num_positions for prompt in prompts), earlier=earlier)
        return self._logits(cache), cache

    def resume(self, cache: ToyCache, prompt: Embeddings, *, num_kept: int) -> tuple[Float32Array, ToyCache]:
        assert len(cache.states) == 1 and 0 < num_kept <= min(cache.num_positions, prompt.num_positions - 1)
        assert isinstance(prompt.data, np.ndarray)
        self.num_resumed += 1
        cache.states, cache.earlier = cache.earlier[num_kept - 1].copy(), cache.earlier[:num_kept]
        for embedding in prompt.data[num_kept:]:
            cache.states = np.tanh(cache.states @ self._recurrent + embedding)
            cache.earlier.append(cache.states.copy())
        cache.num_positions = prompt.num_positions
        return self._logits(cache), cache

    def decode(self, token_ids: Int64Array, cache: ToyCache) -> Float32Array:
        assert token_ids.dtype == np.int64
        assert cache.num_positions < self.max_positions
        self.num_decoded += 1
        for row, token_id in enumerate(token_ids):
            cache.states[row] = np.tanh(cache.states[row] @ self._recurrent + self.table[token_id])
        cache.num_positions += 1
        cache.earlier.append(cache.states.copy())
        return self._logits(cache)

    def _logits(self, cache: ToyCache) -> Float32Array:
        return np.stack([state @ self.table.T for state in cache.states]).astype(np.float32)


@dataclass
class ScriptedRuntime(ToyRuntime):
    """Answers with given token ids, row by row, whatever the prompt."""

    script: Sequence[Sequence[int]] = ()
    step: int = 0

    def _logits(self, cache: ToyCache) -> Float32Array:
        logits = np.zeros((len(cache.states), self.vocabulary_size), dtype=np.float32)
        for row in range(len(cache.states)):
            words = self.script[row % len(self.script)]
            logits[row, words[min(self.step, len(words) - 1)]] = 10.0
        self.step += 1
        return logits

    def prefill(self, prompts: Sequence[Embeddings]) -> tuple[Float32Array, ToyCache]:
        self.step = 0
        return super().prefill(prompts)

    def resume(self, cache: ToyCache, prompt: Embeddings, *, num_kept: int) -> tuple[Float32Array, ToyCache]:
        self.step = 0
        return super().resume(cache, prompt, num_kept=num_kept)


@pytest.fixture
def toy_runtime() -> Callable[..., ToyRuntime]:
    """Build a toy runtime."""
    return ToyRuntime


@pytest.fixture
def scripted_runtime() -> Callable[..., ScriptedRuntime]:
    """Build a runtime that plays a script."""
    return ScriptedRuntime


CORPUS = "How many red circles are there? There are three red circles and a blue square. Yes. No. What is this? "


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A byte-level tokenizer with the special tokens of the embedded model."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return train_byte_level_bpe([CORPUS], vocabulary_size=320, special_tokens=special)


@pytest.fixture
def picture() -> Callable[..., Image.Image]:
    """Draw a small picture; each seed gives another one."""

    def draw(seed: int, *, width_px: int = 96, height_px: int = 64) -> Image.Image:
        colours = np.random.default_rng(seed).integers(0, 256, size=(4, 6, 3), dtype=np.uint8)
        return Image.fromarray(colours).resize((width_px, height_px), Image.Resampling.NEAREST)

    return draw


@pytest.fixture
def assistant_with(tokenizer: Tokenizer) -> Callable[..., Assistant]:
    """Build an assistant around a runtime."""

    def build(runtime: Runtime, *, max_visual_tokens: int = 4, **arguments: Any) -> Assistant:
        processing = ProcessingConfig(mode="fit", max_visual_tokens=max_visual_tokens)
        given = {"tokenizer": tokenizer, "template": TEMPLATES["chatml"], **arguments}
        return Assistant(runtime=runtime, image_processor=ImageProcessor(processing), **given)

    return build


@pytest.fixture(scope="session")
def tiny_model(tokenizer: Tokenizer) -> FastVLM:
    """The real thing, tiny and with random weights: it says nonsense, but each word depends on all it read."""
    config = VLMConfig(
        vision=FastViTHDConfig(depths=(1, 1, 1, 1, 1), widths=(8, 16, 32, 32, 64), layer_scale_init=0.5),
        decoder=DecoderConfig(
            vocabulary_size=tokenizer.vocabulary_size,
            width=64,
            num_layers=2,
            num_heads=4,
            num_key_value_heads=2,
            feed_forward_width=96,
            head_dim=16,
            max_positions=2048,
            has_tied_head=False,
        ),
    )
    torch.manual_seed(3)
    model = FastVLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=1.5 * parameter[0].numel() ** -0.5)
    return model.eval()


@pytest.fixture(scope="session")
def torch_runtime(tiny_model: FastVLM) -> Runtime:
    """The tiny model in torch."""
    return TorchRuntime(tiny_model, device="cpu")


@pytest.fixture(scope="session")
def openvino_runtime(tiny_model: FastVLM, tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    """The tiny model in OpenVINO."""
    tensors = stored_tensors(tiny_model, tmp_path_factory.mktemp("weights"))
    return OpenVINORuntime(tiny_model.config, tensors, dtype="float32")


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_model: FastVLM, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a folder in our own format."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    config = ModelConfig(
        name="tiny",
        vlm=tiny_model.config,
        processing=ProcessingConfig(mode="fit", max_visual_tokens=4),
        template=TEMPLATES["chatml"],
        eos_token_ids=(tokenizer.token_id("<|im_end|>"),),
    )
    save_checkpoint(folder, config=config, model=tiny_model, tokenizer=tokenizer)
    return folder


@pytest.fixture(params=["toy", "torch", "openvino"])
def assistant(
    request: pytest.FixtureRequest, tokenizer: Tokenizer, assistant_with: Callable[..., Assistant]
) -> Assistant:
    """An assistant that says varied nonsense, around the toy and around each engine."""
    if request.param == "toy":
        return assistant_with(ToyRuntime(tokenizer.vocabulary_size, max_positions=256))
    return assistant_with(request.getfixturevalue(f"{request.param}_runtime"))


@pytest.fixture
def scripted_assistant(tokenizer: Tokenizer, assistant_with: Callable[..., Assistant]) -> Callable[..., Assistant]:
    """Build an assistant that says a given text and then, for ever, a special token."""

    def build(text: str, *, ending: str = "<|im_end|>", **arguments: Any) -> Assistant:
        script = [*tokenizer.encode(text), tokenizer.token_id(ending)]
        return assistant_with(ScriptedRuntime(tokenizer.vocabulary_size, script=[script]), **arguments)

    return build
