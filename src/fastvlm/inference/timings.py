"""Where the time of an answer went, and how many tokens it took."""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

Phase = Literal["image_read", "preprocess", "compile", "encode", "project", "tokenize", "embed", "prefill", "decode"]
"""In the order of an answer."""

PHASES: tuple[Phase, ...] = get_args(Phase)

_TAIL_SHARE = 0.95

Step = TypeVar("Step", bound=Sized)


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Milliseconds of one answer; of a whole batch where several questions were answered together.

    load_ms: loading the model, once and before the question. load_compile_ms: the part of it that went into compiling
    and packing, or into taking what came of it from the cache. image_read_ms: opening and decoding pictures.
    preprocess_ms: resizing and normalising. compile_ms: compiling what a picture of a new size, or a long new part of a
    prompt, needs.
    encode_ms: pixels to the encoder's features, next to nothing for an image that is in the cache. project_ms:
    features to visual tokens. tokenize_ms: messages to token ids. embed_ms: token ids and visual tokens to
    embeddings. prefill_ms: reading the prompt and choosing the first token. decode_ms: all later tokens, and text
    from tokens.
    The phases from image_read_ms to decode_ms add up to total_ms; first_token_ms runs from the start to the first
    token, or to the whole answer where that was held back for a closer look. decode_per_token_ms is decode_ms over all
    tokens that came after the first of their answer, or of their line in a closer look; several may come in one step.
    decode_tail_ms is what 19 of 20 of these steps stay within; both are 0 where no such token came. Time that a reader
    of the stream takes for itself is not counted.
    peak_memory_mb: the most that this process has held until the end of the answer, in MB of 10^6 bytes; None where the
    system does not tell.
    """

    load_ms: float
    load_compile_ms: float
    image_read_ms: float
    preprocess_ms: float
    compile_ms: float
    encode_ms: float
    project_ms: float
    tokenize_ms: float
    embed_ms: float
    prefill_ms: float
    first_token_ms: float
    decode_ms: float
    decode_per_token_ms: float
    decode_tail_ms: float
    total_ms: float
    peak_memory_mb: float | None


@dataclass(frozen=True, kw_only=True)
class LoadTimings:
    """Milliseconds that loading a model took, and those of it that went into compiling and packing."""

    load_ms: float = 0.0
    load_compile_ms: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens of one answer; prompt_tokens includes visual_tokens, completion_tokens leaves out the end of the turn.

    cached_tokens: those of the prompt that did not have to be read again.
    """

    prompt_tokens: int
    visual_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        """Tokens of both."""
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            visual_tokens=self.visual_tokens + other.visual_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
        )


NOTHING_USED = Usage(prompt_tokens=0, visual_tokens=0, completion_tokens=0)


class Stopwatch:
    """Measures one answer; it starts when it is made and stands still while the reader of a stream has control.

    What little happens between two phases belongs to the later one, so that the phases leave no time out.
    """

    def __init__(self) -> None:
        self._started_s = time.perf_counter()
        self._lap_started_s = self._started_s
        self._paused_s = 0.0
        self._first_token_s: float | None = None
        self._decode_steps_s: list[float] = []
        self._num_decoded = 0
        self._phases_s: dict[Phase, float] = {}

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Count the time from the end of the last phase or pause to the end of the block for a phase."""
        try:
            yield
        finally:
            self.note(name)

    def note(self, name: Phase) -> None:
        """Count the time since the last phase or pause for a phase that ends now."""
        ended_s = time.perf_counter()
        self._phases_s[name] = self._phases_s.get(name, 0.0) + ended_s - self._lap_started_s
        self._lap_started_s = ended_s

    def answered(self) -> None:
        """Count now as the time of the first token: an answer that was held back comes as a whole."""
        self._first_token_s = self._elapsed_s()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time inside the block out of the total."""
        started_s = time.perf_counter()
        try:
            yield
        finally:
            ended_s = time.perf_counter()
            self._paused_s += ended_s - started_s
            self._lap_started_s = ended_s

    def steps(self, steps: Iterator[Step], *, compile_ms: Callable[[], float] = lambda: 0.0) -> Iterator[Step]:
        """Pass the steps of a generation, the tokens of each, on; the first is the prefill, all others are decoding.

        compile_ms: tells how much was compiled until now, which the prefill may do too.
        """
        name: Phase = "prefill"
        compiled_ms = compile_ms()
        while True:
            started_s, counted_s = time.perf_counter(), self._phases_s.get(name, 0.0)
            with self.phase(name):
                step = next(steps, None)
            if step is None:
                return
            if name == "prefill":
                # No more than this step took: other threads compile too.
                taken_s = self._phases_s[name] - counted_s
                self._move(min(taken_s, (compile_ms() - compiled_ms) / 1000), source="prefill", target="compile")
            if self._first_token_s is None:
                self._first_token_s = self._elapsed_s()
            elif name == "decode":
                self._decode_steps_s.append(time.perf_counter() - started_s)
                self._num_decoded += len(step)
            name = "decode"
            yield step

    def _move(self, seconds: float, *, source: Phase, target: Phase) -> None:
        """Count time of one phase for another."""
        self._phases_s[source] -= seconds
        self._phases_s[target] = self._phases_s.get(target, 0.0) + seconds

    def timings(self, load: LoadTimings) -> Timings:
        """Return what has been measured until now, beside what loading took."""
        phases_ms = {f"{name}_ms": self._phases_s.get(name, 0.0) * 1000 for name in PHASES}
        steps_s = sorted(self._decode_steps_s)
        return Timings(
            load_ms=load.load_ms,
            load_compile_ms=load.load_compile_ms,
            **phases_ms,
            first_token_ms=(self._first_token_s or 0.0) * 1000,
            decode_per_token_ms=phases_ms["decode_ms"] / self._num_decoded if self._num_decoded else 0.0,
            decode_tail_ms=1000 * steps_s[math.ceil(_TAIL_SHARE * len(steps_s)) - 1] if steps_s else 0.0,
            total_ms=self.elapsed_ms,
            peak_memory_mb=peak_memory_mb(),
        )

    @property
    def elapsed_ms(self) -> float:
        """Milliseconds since the start, without pauses."""
        return self._elapsed_s() * 1000

    def _elapsed_s(self) -> float:
        return time.perf_counter() - self._started_s - self._paused_s


def peak_memory_mb() -> float | None:
    """The most memory that this process has held, in MB of 10^6 bytes; None where the system does not tell."""
    try:
        # Linux tells getrusage the peak of the parent too, from before this program took the process over.
        found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        found = None
    if found:
        return int(found[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak if sys.platform == "darwin" else peak * 1024) / 1e6
