"""Trains a task for some steps in one of several processes, or alone, and writes what came of it: for test_parallel.

Arguments: task, folder, batches that make a step in one process, whether the model is in pieces, after how many steps
the run is interrupted and gone on with in a new loop (0 for not at all), and the largest file, in bytes, that it may
write (0 for any).
"""

from __future__ import annotations

import resource
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from fastvlm.batches import CaptionBatch
from fastvlm.data.captioned_scenes import CaptionedScenes, caption_texts
from fastvlm.data.collate import Collator
from fastvlm.data.sources import SceneBatches
from fastvlm.data.synthetic import COLORS, NUM_PAIRS, NUM_TOKEN_FEATURES, SHAPES
from fastvlm.models.clip import CLIP, CLIPConfig
from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.text.config import TextConfig
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.models.vlm import FastVLM
from fastvlm.processing.captions import END, START
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.processing.tokenizer import train_byte_level_bpe
from fastvlm.training import precision
from fastvlm.training.loop import LoopSettings, train
from fastvlm.training.optimizer import OptimizerSettings
from fastvlm.training.parallel import is_first, processes
from fastvlm.training.tasks.contrastive import ContrastiveTask
from fastvlm.training.tasks.dense import DenseHeads, DenseTargets, DenseTask
from fastvlm.training.tasks.instruct import InstructTask, SymbolTask

NUM_STEPS = 3
VISION = FastViTHDConfig(depths=(1, 1, 1, 1, 1), widths=(8, 8, 16, 32, 32), layer_scale_init=0.1, form="train")
DECODER = DecoderConfig(
    vocabulary_size=320, width=32, num_layers=2, num_heads=2, num_key_value_heads=1, feed_forward_width=64, head_dim=16,
    max_positions=256,
)  # fmt: skip
TARGETS = DenseTargets(
    class_maps={2: ((len(SHAPES) + 1, 0.25), (len(COLORS) + 1, 0.25)), 3: ((NUM_PAIRS + 1, 0.08),)},
    num_features=NUM_TOKEN_FEATURES,
)


def scene_batches(*, is_drawn: bool) -> SceneBatches:
    tokenizer = train_byte_level_bpe(
        ["Is there a red star? yes no a blue circle left of the square"] * 9,
        vocabulary_size=300,
        special_tokens=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    )
    collator = Collator(
        processor=ImageProcessor(ProcessingConfig(mode="fit", max_visual_tokens=4)),
        tokenizer=tokenizer,
        template=TEMPLATES["chatml"],
        max_positions=256,
    )
    return SceneBatches(
        collator=collator, num_steps=2 * NUM_STEPS, batch_size=3, canvases=((64, 64),), questions_per_picture=2,
        is_drawn=is_drawn,
    )  # fmt: skip


class Joined:
    """Two contrastive batches as one: what two processes have to see together."""

    def __init__(self, batches: CaptionedScenes) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches) // 2

    def __getitem__(self, step: int) -> CaptionBatch:
        parts = [self.batches[2 * step], self.batches[2 * step + 1]]
        arrays = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("pixels", "token_ids", "teacher_pictures", "teacher_words")
        }
        return CaptionBatch(sample_ids=parts[0].sample_ids + parts[1].sample_ids, **arrays)


def contrastive(*, is_joined: bool) -> tuple[Any, Any]:
    tokenizer = train_byte_level_bpe(caption_texts(), vocabulary_size=330, special_tokens=(START, END))
    text = TextConfig(
        vocabulary_size=tokenizer.vocabulary_size, width=32, num_layers=1, num_heads=2, feed_forward_width=64,
        context_length=20, output_width=16, end_token_id=tokenizer.token_id(END),
    )  # fmt: skip
    model = CLIP(CLIPConfig(vision=replace(VISION, clip_dim=16), text=text))
    batches = CaptionedScenes(
        tokenizer=tokenizer, context_length=20, batch_size=4, size_px=64, num_steps=2 * NUM_STEPS
    )  # fmt: skip
    return ContrastiveTask(model, contrastive_weight=0.5), Joined(batches) if is_joined else batches


def build(name: str, *, is_joined: bool) -> tuple[Any, Any]:
    """A task with its batches."""
    if name == "contrastive":
        return contrastive(is_joined=is_joined)
    model = FastVLM(VLMConfig(vision=VISION, decoder=DECODER))
    if name == "mixed":
        return InstructTask(model), WordsAlone(scene_batches(is_drawn=True))
    if name == "instruct":
        return InstructTask(model, answer_exponent=0.5), scene_batches(is_drawn=True)
    if name == "dense":
        return DenseTask(model.vision, DenseHeads(VISION, TARGETS)), scene_batches(is_drawn=True)
    return SymbolTask(model, nn.Linear(NUM_TOKEN_FEATURES, DECODER.width)), scene_batches(is_drawn=False)


class WordsAlone:
    """The pictures left out of every second batch: there the encoder gets no gradient."""

    def __init__(self, batches: SceneBatches) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, step: int) -> Any:
        batch = self.batches[step]
        if step % 2 == 0:
            return batch
        return replace(batch, pixels=batch.pixels[:0], is_visual=np.zeros_like(batch.is_visual), dense=None)


def main(name: str, folder: Path, num_accumulated: int, is_sharded: bool, interrupted_after: int) -> None:
    """Train and write the weights that came of it."""
    torch.set_num_threads(1)
    # Rounding to bfloat16 depends on how many rows are multiplied at once.
    precision.has_fast_bfloat16 = lambda _: False
    torch.manual_seed(0)
    task, batches = build(name, is_joined=num_accumulated > 1 and name == "contrastive")
    accumulated = 1 if name == "contrastive" else num_accumulated
    optimizer = OptimizerSettings(learning_rate=1e-3, warmup_steps=0, clip_norm=0.5)
    settings = LoopSettings(
        optimizer=optimizer, num_workers=0, num_accumulated=accumulated, keeps_statistics=True, log_every=1,
        is_sharded=is_sharded, ema_decay=0.5 if name == "instruct" else None,
    )  # fmt: skip
    with processes():
        if interrupted_after:
            train(task, batches, settings, folder / "state", max_steps=interrupted_after)
            torch.manual_seed(0)
            task, batches = build(name, is_joined=False)
        train(task, batches, settings, folder / "state")
        if is_first():
            weights = {name: value.detach().contiguous() for name, value in task.module.named_parameters()}
            save_file(weights, folder / "weights.safetensors")


if __name__ == "__main__":
    if int(sys.argv[6]):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[6]),) * 2)
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "pieces", int(sys.argv[5]))
