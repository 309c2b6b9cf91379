"""What comes back: an answer, whole or in pieces."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

from fastvlm.batches import FinishReason, PromptTokens
from fastvlm.errors import GenerationError
from fastvlm.inference.generate import NewToken
from fastvlm.inference.latency import ChosenResolution
from fastvlm.inference.text_stream import TextStream
from fastvlm.inference.timings import Timings, Usage
from fastvlm.processing.text_lines import Box


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model said.

    text: without the end of the turn and without a stop string. finish_reason: `stop` where the model or a stop
    string ended the answer, `length` where `max_new_tokens` or the context did. token_ids: what the model wrote,
    without the end of the turn. confidence: the probability, from 0 to 1, that the model gives to just these tokens
    and, where it ended the answer itself, to that end; of long answers it is small. Tokens of a stop string count too.
    is_unsure: whether answers of so little confidence were more often wrong than right when this model was calibrated,
    which is done with one picture at a time: with several none is sure; False where it was not calibrated. box: where
    on the picture the answer was read, in pixels, if it was looked up on it line by line; token_ids are those of the
    text then, and usage counts every line that was read. resolution: of the pictures where a time to first token was
    to be kept.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    token_ids: tuple[int, ...]
    confidence: float
    is_unsure: bool = False
    box: Box | None = None
    resolution: ChosenResolution | None = None


class AnswerStream(Iterator[str]):
    """Pieces of text as they come; once they have all come, `answer` is the whole.

    The work starts with the first piece and waits between pieces. Leaving a stream early costs nothing.
    """

    def __init__(self, pieces: Generator[str, None, Answer]) -> None:
        self._pieces = pieces
        self._answer: Answer | None = None

    def __next__(self) -> str:
        try:
            return next(self._pieces)
        except StopIteration as end:
            self._answer = end.value or self._answer
            raise

    @property
    def answer(self) -> Answer:
        """The whole answer; what has not been read yet is read now.

        Raises GenerationError where the stream was interrupted and has no end.
        """
        for _ in self:
            pass
        if self._answer is None:
            raise GenerationError("Expected a stream that ran to its end, got an interrupted one. Ask again.")
        return self._answer

    def close(self) -> None:
        """Stop answering."""
        self._pieces.close()


class GrowingAnswer:
    """An answer while its tokens come in."""

    def __init__(
        self, decode: Callable[[Sequence[int]], str], *, stop: Sequence[str], unsure_below: float = 0.0
    ) -> None:
        self._stream = TextStream(decode, stop=stop)
        self._token_ids: list[int] = []
        self._text: list[str] = []
        self._finish_reason: FinishReason | None = None
        self._log_probability = 0.0
        self._unsure_below = unsure_below

    @property
    def is_finished(self) -> bool:
        """Whether this was the last token: the model ended, the length is reached, or a stop string came."""
        return self._finish_reason is not None

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens up to now, without the end of the turn."""
        return tuple(self._token_ids)

    def push(self, token: NewToken) -> str:
        """Add a token; returns the text that is certain now, possibly none."""
        piece = ""
        self._log_probability += token.log_probability
        if token.token_id is not None:
            self._token_ids.append(token.token_id)
            piece = self._stream.push(token.token_id)
        if token.finish_reason is not None:
            piece += self._stream.finish()
        self._finish_reason = "stop" if self._stream.is_stopped else token.finish_reason
        self._text.append(piece)
        return piece

    def finish(self, prompts: Sequence[PromptTokens], timings: Timings, *, num_cached: int = 0) -> Answer:
        """Return the whole answer to the prompts that asked for it; `num_cached` positions had been read before."""
        if self._finish_reason is None:
            raise GenerationError("Expected the end of an answer, got none: the engine gave no further tokens.")
        usage = Usage(
            prompt_tokens=sum(len(prompt) for prompt in prompts),
            visual_tokens=sum(prompt.num_visual_tokens for prompt in prompts),
            completion_tokens=len(self._token_ids),
            cached_tokens=num_cached,
        )
        confidence = math.exp(self._log_probability)
        return Answer(
            text="".join(self._text),
            finish_reason=self._finish_reason,
            usage=usage,
            timings=timings,
            token_ids=tuple(self._token_ids),
            confidence=confidence,
            is_unsure=confidence < self._unsure_below or (self._unsure_below > 0 and _shows_several(prompts)),
        )


def _shows_several(prompts: Sequence[PromptTokens]) -> bool:
    return any(int(prompt.image_index.max(initial=-1)) > 0 for prompt in prompts)
