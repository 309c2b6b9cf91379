"""One question, answered: the six steps from pictures and words to text."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, Unpack

from fastvlm.batches import PixelTiles, PromptTokens, UInt8Array, VisualTokens
from fastvlm.errors import CheckpointError, GenerationError, PromptError
from fastvlm.inference.answers import Answer, AnswerStream, GrowingAnswer
from fastvlm.inference.generate import NO_BIAS, generate
from fastvlm.inference.image_cache import ImageCache
from fastvlm.inference.latency import ChosenResolution, LatencyBudget
from fastvlm.inference.prompt_memory import PromptMemory
from fastvlm.inference.reading import ReadsLines
from fastvlm.inference.settings import GenerationSettings, SettingsOverrides
from fastvlm.inference.timings import LoadTimings, Stopwatch, Timings, Usage
from fastvlm.messages import ImagePart, Message, TextPart, as_messages, assistant, images_of, user
from fastvlm.processing.calibration import Calibration
from fastvlm.processing.images import read_image
from fastvlm.processing.prompt import build_prompt
from fastvlm.processing.templates import ChatTemplate
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.processing.tokenizer import Tokenizer
from fastvlm.runtimes.protocol import Embeddings, Runtime, ignore

__all__ = [
    "Answer",
    "AnswerStream",
    "Assistant",
    "Chat",
    "Conversation",
    "GenerationSettings",
    "Timings",
    "Usage",
]

Conversation = str | Message | Sequence[Message | Mapping[str, Any]]
"""A question as a string, or messages: fastvlm's own, or dictionaries in the style of OpenAI and transformers."""

END_OF_TEXT = "<|endoftext|>"
"""Ends a text in Qwen2's vocabulary; models write it now and then in place of the end of their turn."""


class LooksCloser(ReadsLines, Protocol):
    """Whoever may know better than one look at a picture did. max_tokens: of answers that it looks at."""

    max_tokens: int

    def __call__(
        self, messages: Sequence[Message], settings: GenerationSettings, first: Answer, clock: Stopwatch
    ) -> Answer:
        """Return a better answer, or the first one."""


class Assistant:
    """A loaded model that answers questions about pictures.

    settings: used where a question brings no others. eos_token_ids: the checkpoint's own end tokens; the template's
    and the tokenizer's are added. load_timings: how long loading took, for the timings of each answer. latency_budget:
    chooses the resolution of a question's pictures, in place of image_processor. calibration: when the model says that
    it cannot tell. closer_look, an attribute, None at first: what an answer about a picture is handed to before it is
    given; up to then short answers are held back.
    Raises CheckpointError where nothing could ever end an answer.
    """

    def __init__(
        self,
        *,
        runtime: Runtime,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        image_processor: ImageProcessor,
        eos_token_ids: Iterable[int] = (),
        settings: GenerationSettings | None = None,
        load_timings: LoadTimings | None = None,
        latency_budget: LatencyBudget | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.runtime = runtime
        self.tokenizer = tokenizer
        self.template = template
        self.image_processor = image_processor
        self.eos_token_ids = end_token_ids(template, tokenizer, eos_token_ids)
        self.settings = settings or GenerationSettings()
        self.image_cache = ImageCache()
        self.prompt_memory = PromptMemory()
        self.latency_budget = latency_budget
        self.load_timings = load_timings or LoadTimings()
        self.calibration = calibration
        self.closer_look: LooksCloser | None = None

    def ask(
        self,
        question: Conversation,
        *,
        images: object = (),
        settings: GenerationSettings | None = None,
        **overrides: Unpack[SettingsOverrides],
    ) -> Answer:
        """Answer a question.

        question: a string, or messages. images: one image or a list of them, put before a question that is a string;
        each is a path, the bytes of a file, an open file, a PIL image or a uint8 array of height x width x 3. Messages
        carry their own images. settings, and single settings by name such as `temperature=0.7`: how the answer is
        chosen.
        Raises a FastVLMError, whose text is one line, for whatever cannot be answered.
        """
        return self.stream(question, images=images, settings=settings, **overrides).answer

    def stream(
        self,
        question: Conversation,
        *,
        images: object = (),
        settings: GenerationSettings | None = None,
        **overrides: Unpack[SettingsOverrides],
    ) -> AnswerStream:
        """Answer a question in pieces of text, as they come; takes what `ask` takes."""
        messages = conversation_of(question, images)
        return AnswerStream(self._answer(messages, self.choose_settings(settings, overrides)))

    def chat(self, *, system: str | None = None) -> Chat:
        """Start a conversation that remembers its turns and their images."""
        return Chat(self, system=system)

    def _answer(
        self, messages: Sequence[Message], settings: GenerationSettings, clock: Stopwatch | None = None
    ) -> Generator[str, None, Answer]:
        """One look at all pictures, and a closer one where that is wanted and helps."""
        clock = clock or Stopwatch()
        pieces = self._one_look(messages, settings, clock)
        if self.closer_look is None or not images_of(messages):
            return (yield from pieces)
        held: list[str] = []
        try:
            # A longer answer is no short one that could be looked up.
            while len(held) <= self.closer_look.max_tokens:
                held.append(next(pieces))
        except StopIteration as end:
            first: Answer = end.value
            timings = replace(first.timings, first_token_ms=first.timings.total_ms)
            answer = self.closer_look(messages, settings, replace(first, timings=timings), clock)
            if answer.text:
                yield answer.text
            return answer
        clock.answered()
        # The clock stands still already: the last of these pieces is being handed over.
        yield "".join(held)
        return (yield from pieces)

    def _one_look(
        self, messages: Sequence[Message], settings: GenerationSettings, clock: Stopwatch
    ) -> Generator[str, None, Answer]:
        resolutions: list[ChosenResolution] = []
        images = self.read_images(messages, clock, note=resolutions.append)
        visual_tokens = self.encode(images, clock)
        prompt = self.build_prompt(messages, visual_tokens, clock)
        embeddings = self.embed(prompt, visual_tokens, clock)
        reading = self.prompt_memory.start(prompt, visual_tokens)
        steps = generate(
            self.runtime,
            [embeddings],
            settings=settings,
            eos_token_ids=self.eos_token_ids,
            read=lambda: reading.read(self.runtime, embeddings),
            first_bias=self.first_bias,
        )
        text = self.growing_answer(settings)
        try:
            for (token,) in clock.steps(steps, compile_ms=lambda: self.runtime.compile_ms):
                with clock.phase("decode"):
                    piece = text.push(token)
                if piece:
                    with clock.paused():
                        yield piece
                if text.is_finished:
                    break
        finally:
            self.prompt_memory.keep(reading, text.token_ids)
        answer = text.finish([prompt], clock.timings(self.load_timings), num_cached=reading.num_kept)
        return replace(answer, resolution=resolutions[0]) if resolutions else answer

    @property
    def first_bias(self) -> Mapping[int, float]:
        """What is added to the scores of tokens where an answer begins."""
        known = self.calibration
        return NO_BIAS if known is None else {known.refusal_token_id: known.refusal_bias}

    def growing_answer(self, settings: GenerationSettings) -> GrowingAnswer:
        """An answer that has not begun."""
        unsure_below = 0.0 if self.calibration is None else self.calibration.unsure_below
        return GrowingAnswer(self.tokenizer.decode, stop=settings.stop, unsure_below=unsure_below)

    def read_images(
        self,
        messages: Sequence[Message],
        clock: Stopwatch,
        *,
        started_ms: float = 0.0,
        note: Callable[[ChosenResolution], None] = ignore,
    ) -> list[PixelTiles]:
        """Step 1: every image of the messages becomes tiles of pixels. started_ms: when, by the clock, they came.

        note: is given the resolution that was chosen, where a time to first token is to be kept.
        """
        sources = [part.source for part in images_of(messages)]
        if self.latency_budget is None or not sources:
            return [_tiles(self._picture(source, clock), self.image_processor, clock) for source in sources]
        # What reading takes is known before a resolution is chosen; only then are all pictures held at once.
        pictures = [self._picture(source, clock) for source in sources]
        with clock.phase("preprocess"):
            prompt = self._prompt(messages, [1] * len(pictures))
            chosen, reported = self.latency_budget.choose(
                pictures, text_tokens=len(prompt) - len(pictures), spent_ms=clock.elapsed_ms - started_ms
            )
            note(reported)
            processors = map(self.latency_budget.processor, chosen)
        return [_tiles(picture, processor, clock) for picture, processor in zip(pictures, processors, strict=True)]

    def read_image(self, source: object) -> UInt8Array:
        """Read one image, no finer than this model looks at it where its file allows that; raises ImageError."""

        def reduction(width_px: int, height_px: int) -> int:
            # As soon as its size is known: what its encoding needs is made while it is decoded.
            if self.latency_budget is None:
                self.runtime.prepare(self.image_processor.layout(width_px, height_px))
            return self.image_processor.reduction(width_px, height_px)

        return read_image(source, reduction=reduction)

    def _picture(self, source: object, clock: Stopwatch) -> UInt8Array:
        with clock.phase("image_read"):
            return self.read_image(source)

    def encode(self, images: Sequence[PixelTiles], clock: Stopwatch) -> list[VisualTokens]:
        """Step 2: tiles become visual tokens; an image that was encoded lately is not encoded again."""
        with clock.phase("encode"):
            return self.image_cache.get_or_encode(images, partial(self.runtime.encode, note=clock.note))

    def build_prompt(
        self, messages: Sequence[Message], visual_tokens: Sequence[VisualTokens], clock: Stopwatch
    ) -> PromptTokens:
        """Step 3: messages become token ids with slots for exactly these visual tokens, and room for an answer."""
        with clock.phase("tokenize"):
            return self._prompt(messages, [image.num_tokens for image in visual_tokens])

    def _prompt(self, messages: Sequence[Message], visual_token_counts: Sequence[int]) -> PromptTokens:
        """The messages as token ids; one position is left, for the first token of an answer."""
        return build_prompt(
            messages,
            template=self.template,
            tokenizer=self.tokenizer,
            visual_token_counts=visual_token_counts,
            max_positions=self.runtime.max_positions - 1,
        )

    def embed(self, prompt: PromptTokens, visual_tokens: Sequence[VisualTokens], clock: Stopwatch) -> Embeddings:
        """Step 4: token ids and visual tokens become the decoder's input."""
        with clock.phase("embed"):
            return self.runtime.embed(prompt, visual_tokens)

    def choose_settings(self, settings: GenerationSettings | None, overrides: SettingsOverrides) -> GenerationSettings:
        """Return the settings of one question: the given or the assistant's own, changed where a name says so.

        The template's stop strings always count.
        """
        if settings is not None and not isinstance(settings, GenerationSettings):
            raise GenerationError(
                f"Expected settings as GenerationSettings, got {type(settings).__name__}; or give them by name."
            )
        chosen = (settings or self.settings).with_overrides(overrides)
        return chosen.with_overrides({"stop": [*chosen.stop, *self.template.stop_strings]})


def _tiles(picture: UInt8Array, processor: ImageProcessor, clock: Stopwatch) -> PixelTiles:
    with clock.phase("preprocess"):
        return processor(picture)


class Chat:
    """A conversation over several turns; each turn may bring images, and all earlier ones stay in view.

    Images are read once, when their turn starts, and remembered as uint8 pixels. A turn is remembered once its answer
    is complete: one that fails or is interrupted leaves no trace. One turn at a time.
    """

    def __init__(self, assistant: Assistant, *, system: str | None = None) -> None:
        self._assistant = assistant
        self._messages: tuple[Message, ...] = ()
        if system is not None:
            self._messages = (Message("system", (TextPart(system),)),)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation up to now."""
        return self._messages

    def ask(
        self,
        question: Conversation,
        *,
        images: object = (),
        settings: GenerationSettings | None = None,
        **overrides: Unpack[SettingsOverrides],
    ) -> Answer:
        """Answer the next question; takes what `Assistant.ask` takes."""
        return self.stream(question, images=images, settings=settings, **overrides).answer

    def stream(
        self,
        question: Conversation,
        *,
        images: object = (),
        settings: GenerationSettings | None = None,
        **overrides: Unpack[SettingsOverrides],
    ) -> AnswerStream:
        """Answer the next question in pieces of text, as they come.

        The turn starts with the first piece. Raises PromptError where another turn ended before this one did.
        """
        chosen = self._assistant.choose_settings(settings, overrides)
        return AnswerStream(self._turn(conversation_of(question, images), chosen))

    def _turn(self, question: tuple[Message, ...], settings: GenerationSettings) -> Generator[str, None, Answer]:
        history = self._messages
        clock = Stopwatch()
        with clock.phase("image_read"):
            messages = (*history, *(self._with_pixels(message) for message in question))
        answer = yield from self._assistant._answer(messages, settings, clock)
        if self._messages is not history:
            raise PromptError(
                "Expected one turn of a conversation at a time, but another one ended during this answer. "
                "Read a stream to its end, or close it, before the next question."
            )
        self._messages = (*messages, assistant(answer.text))
        return answer

    def _with_pixels(self, message: Message) -> Message:
        """Return the message with its images read, so that later turns see the same whatever becomes of a file."""
        parts = (self._read_only(part) if isinstance(part, ImagePart) else part for part in message.content)
        return Message(message.role, tuple(parts))

    def _read_only(self, part: ImagePart) -> ImagePart:
        assistant = self._assistant
        # A closer look wants every pixel that there is.
        pixels = assistant.read_image(part.source) if assistant.closer_look is None else read_image(part.source)
        pixels.flags.writeable = False
        return ImagePart(pixels)


def end_token_ids(template: ChatTemplate, tokenizer: Tokenizer, from_config: Iterable[int]) -> frozenset[int]:
    """Collect every token that ends an answer: the template's, `<|endoftext|>`, and the checkpoint's own.

    None is enough where the template has stop strings: they end an answer, or its length does. Raises CheckpointError
    where the tokenizer lacks what the template writes, or where nothing would ever end an answer.
    """
    for token in template.control_tokens:
        tokenizer.token_id(token)
    special = tokenizer.special_token_ids
    names = (*template.stop_tokens, END_OF_TEXT)
    found = frozenset(special[name] for name in names if name in special) | frozenset(from_config)
    if not found and not template.stop_strings:
        raise CheckpointError(
            f"Expected a token that ends an answer ({', '.join(names)}, or eos_token_id in the configuration), got "
            f"none in this checkpoint. Choose the template that it was trained with (--template), or add eos_token_ids."
        )
    return found


def conversation_of(question: Conversation, images: object = ()) -> tuple[Message, ...]:
    """Read a question into messages; images stand before a question that is a string.

    Raises PromptError for images beside messages, which carry their own, and for what is neither.
    """
    several = () if images is None else images
    sources = tuple(several) if isinstance(several, list | tuple) else (several,)
    if isinstance(question, str):
        return (user(*(ImagePart(source) for source in sources), question),)
    if sources:
        raise PromptError(
            f"Expected images inside the messages, got {len(sources)} beside them. "
            "Put them into the content of a message, or ask with a string."
        )
    if not isinstance(question, Message | Sequence):
        raise PromptError(f"Expected a question as text or messages, got {type(question).__name__}.")
    messages = as_messages(question)
    if messages and messages[-1].role != "user":
        raise PromptError(
            f"Expected the last message to be the user's question, got one of role {messages[-1].role}. Add a question."
        )
    return messages
