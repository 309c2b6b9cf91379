"""From a model's name to an assistant that answers with it."""

from __future__ import annotations

import time
from pathlib import Path

import fastvlm
from fastvlm.checkpoints.config import CONFIG_FILE
from fastvlm.checkpoints.hub import resolve
from fastvlm.checkpoints.image_modes import processing_in_mode
from fastvlm.checkpoints.stored import read_checkpoint
from fastvlm.inference.assistant import Assistant
from fastvlm.inference.latency import (
    LatencyBudget,
    check_budget,
    kept_profile,
    measure_latency,
)
from fastvlm.inference.timings import LoadTimings
from fastvlm.machine import cache_folder_if_any, describe_processor, num_cores, num_processors
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import template_from_dict
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.runtimes.choice import choose_runtime, open_runtime
from fastvlm.runtimes.protocol import Runtime


def load(
    model: str | Path | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    runtime: str = "auto",
    quantize: str | None = None,
    num_threads: int | None = None,
    template: str | None = None,
    image_mode: str | None = None,
    max_ttft_ms: float | None = None,
    closer_look: bool = True,
) -> Assistant:
    """Load a model and return the assistant that answers with it.

    model: None for the small model inside the package, a checkpoint folder, or a hub id such as
    `apple/FastVLM-0.5B`. device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`. dtype: `auto`, `float32`,
    `bfloat16`, `float16`. runtime: `kernels`, `openvino`, `torch`, or `auto` for torch on GPUs and one of the others
    on processors. quantize: `int8` or `int4` for the decoder's weights, smaller and faster there; with it
    the encoder computes in eight bits where the checkpoint was calibrated, and where a processor has VNNI the
    decoder rounds its inputs to eight bits. num_threads: CPU threads, None for the engine's choice. template: a
    name such as `qwen_2`, and image_mode: `pad`, `crop`, `anyres` or `fit`, each None for what the checkpoint asks
    for. max_ttft_ms: a time to first token to keep by lowering the resolution of pictures, None for full
    resolution; how fast the machine is gets measured the first time, for seconds to a minute. closer_look: whether a
    model that was taught to, as the embedded one was, reads a picture line by line where one look did not make it
    sure, which takes up to some seconds more; never with max_ttft_ms.
    Raises CheckpointError for an unknown template or image mode and for a model that is not there or not whole,
    GenerationError for a device, a precision or a runtime that is not there, MissingExtraError where torch is needed
    and not installed.
    """
    started_s = time.perf_counter()
    folder = resolve(model)
    # A wrong name is told now, and not after gigabytes have been read.
    chosen_template = None if template is None else template_from_dict(template)
    processing_in_mode(ProcessingConfig(), image_mode)
    stored = read_checkpoint(folder)
    name = choose_runtime(runtime, device=device, dtype=dtype, config=stored.config.vlm, quantize=quantize)
    processing = processing_in_mode(stored.config.processing, image_mode)
    if max_ttft_ms is not None:
        check_budget(max_ttft_ms, processing)
    engine = open_runtime(
        stored,
        name=name,
        device=device,
        dtype=dtype,
        num_threads=num_threads,
        quantize=quantize,
        is_any_size=max_ttft_ms is not None,
    )
    budget = None
    if max_ttft_ms is not None:
        budget = _latency_budget(engine, processing, stored.folder, max_ttft_ms=max_ttft_ms, num_threads=num_threads)
    assistant = Assistant(
        runtime=engine,
        tokenizer=stored.tokenizer,
        template=chosen_template or stored.config.template,
        image_processor=ImageProcessor(processing),
        eos_token_ids=stored.config.eos_token_ids,
        load_timings=LoadTimings(load_ms=(time.perf_counter() - started_s) * 1000, load_compile_ms=engine.compile_ms),
        latency_budget=budget,
        calibration=stored.config.calibration,
    )
    can_look_closer = stored.config.calibration is not None and stored.config.calibration.line_question is not None
    if closer_look and can_look_closer and max_ttft_ms is None:
        from fastvlm.inference.closer_look import CloserLook

        assistant.closer_look = CloserLook(assistant)
    return assistant


def _latency_budget(
    runtime: Runtime, processing: ProcessingConfig, folder: Path, *, max_ttft_ms: float, num_threads: int | None
) -> LatencyBudget:
    """Measure the machine, unless it has been before, and run the engine once at the resolution to expect."""
    config = folder / CONFIG_FILE
    key = (
        describe_processor(), num_cores(), num_processors(), num_threads, runtime.name, runtime.version, processing,
        str(config.resolve()), config.stat().st_mtime_ns, fastvlm.__version__,
    )  # fmt: skip
    profile = kept_profile(cache_folder_if_any(), key, lambda: measure_latency(runtime, processing))
    budget = LatencyBudget(profile, max_ttft_ms=max_ttft_ms, processing=processing)
    budget.warm_up(runtime)
    return budget
