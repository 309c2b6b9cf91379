"""One way to train in a process of its own: `python -m fastvlm.benchmarks.training_worker`, a request in, a reply out.

Everything is as `recipes/finetune` has it: float32 weights, products in the machine's fastest precision,
BatchNorm that keeps its statistics. Only the pictures, the words and the weights are random.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from fastvlm.batches import TrainingBatch
from fastvlm.benchmarks.commands import leave_when_asked
from fastvlm.benchmarks.questions import Question
from fastvlm.benchmarks.shapes import shape_config, tensors_of
from fastvlm.benchmarks.training_memory import MeasuredSteps, TrainingPlan, TrainingWay
from fastvlm.benchmarks.worker import reply_stream
from fastvlm.checkpoints.load import build_model
from fastvlm.data.collate import batch_of, pack
from fastvlm.errors import FastVLMError, one_line
from fastvlm.inference.timings import peak_memory_mb
from fastvlm.models.vision import kernels
from fastvlm.models.vlm import FastVLM
from fastvlm.training.lora import LoraSettings
from fastvlm.training.optimizer import JointOptimizer, OptimizerSettings, build_optimizer
from fastvlm.training.parallel import own_device
from fastvlm.training.parts import choose_parts, set_training_mode
from fastvlm.training.precision import has_fast_bfloat16
from fastvlm.training.tasks.instruct import InstructTask

_OPTIMIZER = OptimizerSettings(learning_rate=1e-5, warmup_steps=0, betas=(0.9, 0.999), weight_decay=0.0)


def main() -> None:
    """Measure what the request on stdin asks for."""
    leave_when_asked()
    replies = reply_stream()
    _be_killed_first()
    request = json.load(sys.stdin)
    try:
        plan = TrainingPlan(**request["plan"] | {"folder": Path(request["plan"]["folder"])})
        reply = asdict(measure_steps(plan, TrainingWay(**request["way"])))
    except FastVLMError as error:
        reply = {"error": one_line(error, max_length=300)}
    except Exception as error:  # whatever it is becomes a row, and the other rows are measured
        reply = {"error": f"{type(error).__name__}: {one_line(error, max_length=300)}"}
    replies.write(json.dumps(reply))


def measure_steps(plan: TrainingPlan, way: TrainingWay) -> MeasuredSteps:
    """Train in a way for so many steps, after some to warm up, on a GPU where there is one.

    Raises TrainingError and MissingExtraError where peft is wanted and cannot be had.
    """
    torch.set_num_threads(plan.num_threads)
    device = own_device()
    if device.type == "cpu":
        kernels.load()
    task = InstructTask(build_learner(plan, way, device=device))
    loaded_memory_mb = _peak_memory_mb(device)
    set_training_mode(task.module, keeps_statistics=True)
    optimizer = build_optimizer(task.module, _OPTIMIZER)
    batch = random_batch(plan, way)
    times_s = [_step_s(task, batch, optimizer) for _ in range(plan.num_warm_ups + plan.num_runs)]
    return MeasuredSteps(
        num_learning=sum(parameter.numel() for parameter in task.module.parameters() if parameter.requires_grad),
        times_s=times_s[plan.num_warm_ups :],
        loaded_memory_mb=loaded_memory_mb,
        peak_memory_mb=_peak_memory_mb(device),
        device="the processor" if device.type == "cpu" else torch.cuda.get_device_name(device),
        products="bfloat16" if has_fast_bfloat16(device) else "float32",
    )


def build_learner(plan: TrainingPlan, way: TrainingWay, *, device: torch.device) -> FastVLM:
    """The model of the plan's checkpoint in float32, of which only the way's parts learn.

    Raises TrainingError and MissingExtraError where peft is wanted and cannot be had.
    """
    model = build_model(
        shape_config(plan.shape),
        tensors_of(plan.folder),
        folder=plan.folder,
        device=device,
        dtype=torch.float32,
        vision_dtype=torch.float32,
    )
    model.recompute_activations(way.activations == "recomputed")
    if way.parts == "lora":
        choose_parts(model, "language", lora=LoraSettings())
    else:
        choose_parts(model, way.parts)
    return model


def random_batch(plan: TrainingPlan, way: TrainingWay) -> TrainingBatch:
    """Rows of a picture amid words, the later half of which is learned."""
    question, config = Question(plan.size_px, plan.num_text_tokens), shape_config(plan.shape)
    prompt = question.prompt(vocabulary_size=config.decoder.vocabulary_size)
    is_learned = np.arange(len(prompt)) >= len(prompt) - plan.num_text_tokens // 2
    rows = [pack([replace(prompt, supervised=is_learned)])] * plan.batch_size
    sample_ids = [str(number) for number in range(plan.batch_size)]
    if way.pictures == "features":
        shape = (plan.batch_size * question.num_visual_tokens, config.vision.output_width)
        features = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        return batch_of(rows, sample_ids=sample_ids, features=features)
    pixels = np.concatenate([question.pixels().pixels] * plan.batch_size)
    return batch_of(rows, sample_ids=sample_ids, pixels=pixels)


def _step_s(task: InstructTask, batch: TrainingBatch, optimizer: JointOptimizer) -> float:
    """Seconds of a step: forward, backward, and every parameter that learns moved once."""
    device = own_device()
    started_s = time.perf_counter()
    optimizer.zero_grad()
    task.loss(batch).total.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started_s


def _peak_memory_mb(device: torch.device) -> float | None:
    """The most that this process has held until now: of the GPU's memory where it has one, else of the machine's."""
    return torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else peak_memory_mb()


def _be_killed_first() -> None:
    """Where memory runs out on Linux, let it be this process that ends, and no other of the machine."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


if __name__ == "__main__":
    main()
