"""What a pretrained encoder is worth: how soon a vision-language model learns on it, and how soon on a fresh one.

Both arms start from the same decoder, the embedded model's, and the same fresh projector, see the same pictures and
learn all their weights; only the encoder's first weights differ.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from fastvlm.batches import TrainingBatch
from fastvlm.benchmarks.report import FORMAT_VERSION, saved_figure
from fastvlm.checkpoints.load import LoadedCheckpoint, load_checkpoint
from fastvlm.checkpoints.tower import load_tower
from fastvlm.data.captioned_scenes import classes
from fastvlm.data.collate import Collator
from fastvlm.data.examples import Example
from fastvlm.data.synthetic.draw import draw_scene
from fastvlm.data.synthetic.sampling import sample_single
from fastvlm.messages import ImagePart, assistant, user
from fastvlm.models.config import VLMConfig
from fastvlm.models.vision.fastvithd import FastViTHD
from fastvlm.models.vlm import FastVLM
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.training.loop import LoopSettings, train
from fastvlm.training.optimizer import OptimizerSettings
from fastvlm.training.parts import set_training_mode
from fastvlm.training.tasks.instruct import InstructTask

QUESTIONS = ("Name the color.", "Name the shape.")
_SIDE_PX = 64
_NUM_VALIDATION_BATCHES = 10
_TARGET = 0.8
"""The share that the first step is told for."""


@dataclass(frozen=True, kw_only=True)
class SingleObjects:
    """Pictures of one object, asked for its colour and its shape; the same step gives the same batch everywhere."""

    collator: Collator
    num_steps: int
    batch_size: int
    stream: str

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> TrainingBatch:
        if not 0 <= step < self.num_steps:
            raise IndexError(step)
        generator = random.Random(f"{self.stream}/{step}")
        return self.collator(
            [self._example(generator, f"{self.stream}/{step}/{row}") for row in range(self.batch_size)]
        )

    def _example(self, generator: random.Random, sample_id: str) -> Example:
        one = generator.choice(classes(is_held_out=False) + classes(is_held_out=True))
        scene = sample_single(generator, shape=one.shape, color=one.color, side_px=_SIDE_PX)
        image = draw_scene(scene, generator)
        answers = zip(QUESTIONS, (one.color, one.shape), strict=True)
        talks = tuple((user(ImagePart(image), question), assistant(answer)) for question, answer in answers)
        return Example(sample_id=sample_id, images=(image,), conversations=talks)


@dataclass(frozen=True)
class TowerReport:
    """Share of right answers on unseen pictures after so many steps, with the tower and with fresh weights."""

    steps: list[int]
    pretrained: list[float]
    fresh: list[float]
    num_answers: int
    machine: str
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Describe it as JSON values."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}

    def first_step(self, accuracies: list[float], *, target: float) -> int | None:
        """After how many steps a share was reached first, or None."""
        return next((step for step, value in zip(self.steps, accuracies, strict=True) if value >= target), None)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(title=f"Right answers on {self.num_answers} questions, per cent")
        for heading in ("steps", "pretrained tower", "fresh encoder"):
            table.add_column(heading, justify="right")
        for step, own, other in zip(self.steps, self.pretrained, self.fresh, strict=True):
            table.add_row(str(step), f"{100 * own:.1f}", f"{100 * other:.1f}")
        yield table
        for name, values in (("the pretrained tower", self.pretrained), ("a fresh encoder", self.fresh)):
            first = self.first_step(values, target=_TARGET)
            reached = "not yet" if first is None else f"after {first} steps"
            yield f"{100 * _TARGET:.0f} % on {name}: {reached}"
        yield f"{self.machine}; " + ", ".join(f"{name} {version}" for name, version in self.versions.items())


def compare(
    tower: Path,
    folder: Path,
    *,
    num_steps: int,
    every: int,
    machine: str,
    versions: dict[str, str],
    batch_size: int = 16,
    learning_rate: float = 1e-3,
    report: Callable[[str], None] = lambda _: None,
) -> TowerReport:
    """Train both arms, in runs of `folder`, and ask them every so many steps. Raises CheckpointError for no tower."""
    vision, processing = load_tower(tower)
    embedded = load_checkpoint(None, dtype=torch.float32, form="stored")
    collator = Collator(
        processor=ImageProcessor(replace(processing, mode="pad", size_px=_SIDE_PX)),
        tokenizer=embedded.tokenizer,
        template=embedded.template,
        max_positions=embedded.config.vlm.decoder.max_positions,
    )
    curves: dict[str, list[float]] = {}
    steps = [*range(0, num_steps, every), num_steps]
    num_answers = _NUM_VALIDATION_BATCHES * batch_size * len(QUESTIONS)
    for name in ("pretrained", "fresh"):
        task = InstructTask(_model(vision if name == "pretrained" else None, vision, embedded))
        held_out = SingleObjects(
            collator=collator, num_steps=_NUM_VALIDATION_BATCHES, batch_size=batch_size, stream="validation"
        )
        batches = SingleObjects(collator=collator, num_steps=num_steps, batch_size=batch_size, stream="train")
        settings = LoopSettings(
            optimizer=OptimizerSettings(learning_rate=learning_rate, warmup_steps=num_steps // 20),
            save_every=num_steps,
        )
        curves[name] = [_accuracy(task, held_out)]
        for before, step in pairwise(steps):
            report(f"{name} encoder, step {step} of {num_steps}")
            train(task, batches, settings, folder / name, max_steps=step - before)
            curves[name].append(_accuracy(task, held_out))
    return TowerReport(steps, curves["pretrained"], curves["fresh"], num_answers, machine, versions)


def _model(given: FastViTHD | None, like: FastViTHD, embedded: LoadedCheckpoint) -> FastVLM:
    """A model with the embedded decoder, a fresh projector, and a tower, or a fresh encoder of its shape."""
    torch.manual_seed(0)
    model = FastVLM(VLMConfig(vision=like.config, decoder=embedded.config.vlm.decoder))
    if given is not None:
        model.vision.load_state_dict(given.state_dict())
    model.decoder.load_state_dict(embedded.model.decoder.state_dict())
    placed: FastVLM = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


@torch.no_grad()
def _accuracy(task: InstructTask, batches: SingleObjects) -> float:
    """Share of answers whose every token is the likeliest, with the pictures' statistics as learned so far."""
    task.module.eval()
    right = total = 0
    for step in range(len(batches)):
        batch = batches[step]
        found = task.right_answers(batch)
        right, total = right + int(found.sum()), total + len(found)
    set_training_mode(task.module)
    return right / total


def write_plot(report: TowerReport, path: Path) -> None:
    """Draw the curves. Raises MissingExtraError without matplotlib."""
    with saved_figure(path, machine=report.machine) as axes:
        for label, values in (("pretrained tower", report.pretrained), ("fresh encoder", report.fresh)):
            axes.plot(report.steps, [100 * value for value in values], marker="o", label=label)
        axes.set(
            title="A vision-language model learns colours and shapes", xlabel="steps of 16 pictures",
            ylabel="right answers on unseen pictures, %", ylim=(0, 100),
        )  # fmt: skip
        axes.legend()
