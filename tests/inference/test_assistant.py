"""A question from its picture to its text, with the six steps and what they promise."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastvlm.errors import CheckpointError, FastVLMError, GenerationError, ImageError, PromptError
from fastvlm.inference.assistant import Answer, Assistant, conversation_of, end_token_ids
from fastvlm.inference.batching import ask_batch
from fastvlm.inference.image_cache import ImageCache
from fastvlm.inference.settings import GenerationSettings
from fastvlm.inference.timings import PHASES, LoadTimings, Stopwatch, Timings
from fastvlm.messages import ImagePart, Message, TextPart, system, user
from fastvlm.messages import assistant as said
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tokenizer import Tokenizer, train_byte_level_bpe

Build = Callable[..., Any]
QUESTION = "How many red circles are there?"


def said_of(answer: Answer) -> tuple[str, tuple[int, ...], str]:
    return answer.text, answer.token_ids, answer.finish_reason


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_streamed_equals_whole(assistant: Assistant, picture: Build, temperature: float) -> None:
    settings = GenerationSettings(max_new_tokens=40, temperature=temperature)
    whole = assistant.ask(QUESTION, images=picture(1), settings=settings)
    stream = assistant.stream(QUESTION, images=picture(1), settings=settings)
    pieces = list(stream)
    assert all(pieces) and len(pieces) > 5
    assert "".join(pieces) == whole.text == stream.answer.text
    assert said_of(stream.answer) == said_of(whole)
    assert whole.text == assistant.tokenizer.decode(whole.token_ids)


def test_the_answer_depends_on_the_picture_and_the_question(assistant: Assistant, picture: Build) -> None:
    first = assistant.ask(QUESTION, images=picture(1), max_new_tokens=20)
    assert said_of(first) == said_of(assistant.ask(QUESTION, images=picture(1), max_new_tokens=20))
    assert said_of(first) != said_of(assistant.ask(QUESTION, images=picture(2), max_new_tokens=20))
    assert said_of(first) != said_of(assistant.ask("What is this?", images=picture(1), max_new_tokens=20))
    assert said_of(first) != said_of(assistant.ask(QUESTION, max_new_tokens=20))


def test_usage_counts_words_and_visual_tokens(assistant: Assistant, picture: Build) -> None:
    answer = assistant.ask(QUESTION, images=picture(1), max_new_tokens=7)
    without = assistant.ask(QUESTION, max_new_tokens=7)
    assert answer.usage.visual_tokens == assistant.image_processor.layout(96, 64).num_visual_tokens > 1
    assert without.usage.visual_tokens == 0
    # The words are the same but for the line end between the picture and the question.
    assert 0 <= answer.usage.prompt_tokens - answer.usage.visual_tokens - without.usage.prompt_tokens <= 1
    assert answer.usage.completion_tokens == len(answer.token_ids)


def test_every_form_of_a_question_is_the_same_question(assistant: Assistant, picture: Build, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    picture(1).save(path)
    expected = said_of(assistant.ask(QUESTION, images=picture(1), max_new_tokens=12))
    for images in (path, str(path), path.read_bytes(), [path], (picture(1),)):
        assert said_of(assistant.ask(QUESTION, images=images, max_new_tokens=12)) == expected
    parts = [{"type": "image", "path": str(path)}, {"type": "text", "text": QUESTION}]
    forms: list[Any] = [
        user(ImagePart(path), QUESTION),
        [user(ImagePart(path), QUESTION)],
        [{"role": "user", "content": parts}],
    ]
    for form in forms:
        assert said_of(assistant.ask(form, max_new_tokens=12)) == expected


def test_images_beside_messages_are_refused(assistant: Assistant, picture: Build) -> None:
    with pytest.raises(PromptError, match="inside the messages"):
        assistant.ask([user(QUESTION)], images=picture(1))
    with pytest.raises(PromptError, match="text or messages"):
        assistant.ask(3)  # type: ignore[arg-type]


def test_a_conversation_ends_with_a_question(assistant: Assistant) -> None:
    for messages in ([user("What is this?"), said("A square.")], [system("Be brief.")]):
        with pytest.raises(PromptError, match="last message"):
            assistant.ask(messages)
    for nothing in ([], [3], {"role": "user", "content": "x"}):
        with pytest.raises(PromptError):
            assistant.ask(nothing)  # type: ignore[arg-type]


def test_messages_keep_the_places_of_their_images() -> None:
    messages = conversation_of([{"role": "user", "content": ["a", {"type": "image", "path": "x.png"}, "b"]}])
    assert messages == (Message("user", (TextPart("a"), ImagePart("x.png"), TextPart("b"))),)
    assert conversation_of("q", ["x.png", "y.png"]) == (user(ImagePart("x.png"), ImagePart("y.png"), "q"),)


def test_cached_image_equals_fresh_image(assistant: Assistant, picture: Build, assistant_with: Build) -> None:
    first = assistant.ask(QUESTION, images=picture(1), max_new_tokens=20)
    again = assistant.ask(QUESTION, images=picture(1), max_new_tokens=20)
    fresh = assistant_with(assistant.runtime)
    fresh.image_cache = ImageCache(max_images=0)
    assert len(assistant.image_cache) == 1
    assert said_of(first) == said_of(again) == said_of(fresh.ask(QUESTION, images=picture(1), max_new_tokens=20))
    assert len(fresh.image_cache) == 0


def test_what_a_picture_needs_is_prepared_as_soon_as_its_size_is_known(
    toy_runtime: Build, assistant_with: Build, picture: Build, tmp_path: Path
) -> None:
    runtime = toy_runtime(320)
    assistant = assistant_with(runtime)
    path = tmp_path / "picture.png"
    picture(1).save(path)
    assistant.ask(QUESTION, images=path, max_new_tokens=1)
    assert runtime.prepared == [assistant.image_processor.layout(96, 64)]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ImageError):
        assistant.ask(QUESTION, images=path, max_new_tokens=1)
    assert len(runtime.prepared) == 2 and runtime.num_encoded == 1


def test_an_image_is_encoded_once_for_all_questions(
    toy_runtime: Build, assistant_with: Build, picture: Build, tmp_path: Path
) -> None:
    runtime = toy_runtime(320)
    assistant = assistant_with(runtime)
    path = tmp_path / "picture.png"
    picture(1).save(path)
    for question, images in [(QUESTION, path), ("What is this?", picture(1)), (QUESTION, [picture(1), path])]:
        assistant.ask(question, images=images, max_new_tokens=2)
    assert runtime.num_encoded == 1
    chat = assistant.chat()
    chat.ask(QUESTION, images=path, max_new_tokens=2)
    chat.ask("And this?", images=picture(2), max_new_tokens=2)
    chat.ask("Both?", max_new_tokens=2)
    assert runtime.num_encoded == 2


def test_several_images_are_all_seen_in_their_order(assistant: Assistant, picture: Build) -> None:
    def ask(*seeds: int) -> Answer:
        return assistant.ask(QUESTION, images=[picture(seed) for seed in seeds], max_new_tokens=20)

    both = ask(1, 2)
    assert both.usage.visual_tokens == ask(1).usage.visual_tokens + ask(2).usage.visual_tokens
    assert said_of(both) != said_of(ask(2, 1))
    assert said_of(both) != said_of(ask(1, 3))


def test_pitfall_b8_a_surplus_or_missing_image_is_an_error(
    torch_runtime: Any, assistant_with: Build, picture: Build
) -> None:
    """The prompt asks for exactly the images of its messages, and the runtime compares both counts."""
    assistant = assistant_with(torch_runtime)
    messages = conversation_of(QUESTION, [picture(1), picture(2)])
    clock = Stopwatch()
    visual_tokens = assistant.encode(assistant.read_images(messages, clock), clock)
    prompt = assistant.build_prompt(messages, visual_tokens, clock)
    assert assistant.embed(prompt, visual_tokens, clock).num_positions == len(prompt)
    for wrong in (visual_tokens[:1], [*visual_tokens, visual_tokens[0]]):
        with pytest.raises(PromptError):
            assistant.embed(prompt, wrong, clock)
        with pytest.raises(PromptError):
            assistant.build_prompt(messages, wrong, clock)


def test_stop_strings_end_the_answer_before_them(assistant: Assistant, picture: Build) -> None:
    whole = assistant.ask(QUESTION, images=picture(1), max_new_tokens=60)
    stop = whole.text[12:15]
    assert len(stop) == 3
    cut = assistant.ask(QUESTION, images=picture(1), max_new_tokens=60, stop=stop)
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"
    assert len(cut.token_ids) < len(whole.token_ids)
    assert cut.usage.completion_tokens == len(cut.token_ids)
    stream = assistant.stream(QUESTION, images=picture(1), max_new_tokens=60, stop=["never said", stop])
    assert "".join(stream) == cut.text


def test_the_templates_stop_strings_always_count(scripted_assistant: Build) -> None:
    answer = scripted_assistant("two\nlines", template=TEMPLATES["plain"]).ask("caption")
    assert (answer.text, answer.finish_reason) == ("two", "stop")


def test_max_new_tokens_and_the_context_end_an_answer(toy_runtime: Build, assistant_with: Build) -> None:
    assistant = assistant_with(toy_runtime(320, max_positions=60))
    answer = assistant.ask(QUESTION, max_new_tokens=5)
    assert (len(answer.token_ids), answer.finish_reason) == (5, "length")
    answer = assistant.ask(QUESTION, max_new_tokens=1000)
    assert answer.finish_reason == "length"
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens == 60


@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_seeds_decide_what_is_drawn(assistant: Assistant, temperature: float) -> None:
    def text(seed: int | None) -> str:
        return assistant.ask(QUESTION, temperature=temperature, seed=seed, max_new_tokens=30).text

    assert text(1) == text(1)
    assert len({text(seed) for seed in range(5)}) > 1
    assert len({text(None) for _ in range(5)}) > 1


@pytest.mark.parametrize("ending", ["<|im_end|>", "<|endoftext|>"])
def test_pitfall_b12_every_end_of_turn_stops_and_is_not_shown(
    scripted_assistant: Build, tokenizer: Tokenizer, ending: str
) -> None:
    answer = scripted_assistant("Yes.", ending=ending).ask(QUESTION)
    assert (answer.text, answer.finish_reason) == ("Yes.", "stop")
    assert tokenizer.token_id(ending) not in answer.token_ids


def test_pitfall_b12_the_end_tokens_are_collected_and_asserted() -> None:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<|eot|>"]
    full = train_byte_level_bpe(["x"], vocabulary_size=300, special_tokens=special)
    number = full.special_token_ids
    expected = {number["<|im_end|>"], number["<|endoftext|>"], 299}
    assert end_token_ids(TEMPLATES["qwen_2"], full, [299]) == expected
    assert end_token_ids(TEMPLATES["v1"], full, []) == {number["</s>"], number["<|endoftext|>"]}

    without_text_end = train_byte_level_bpe(["x"], vocabulary_size=300, special_tokens=special[1:])
    assert end_token_ids(TEMPLATES["chatml"], without_text_end, []) == {without_text_end.token_id("<|im_end|>")}
    with pytest.raises(CheckpointError, match="ends an answer") as caught:
        end_token_ids(replace(TEMPLATES["plain"], stop_strings=()), without_text_end, [])
    assert "\n" not in str(caught.value)
    assert end_token_ids(TEMPLATES["plain"], without_text_end, [7]) == {7}
    assert end_token_ids(TEMPLATES["plain"], without_text_end, []) == frozenset(), "a stop string is an end too"


def test_pitfall_b12_a_template_of_another_model_is_refused_at_load(
    toy_runtime: Build, assistant_with: Build, tokenizer: Tokenizer
) -> None:
    with pytest.raises(CheckpointError, match="</s>"):
        assistant_with(toy_runtime(tokenizer.vocabulary_size), template=TEMPLATES["v1"])


@pytest.mark.parametrize("max_positions", [8, 16])
def test_pitfall_b22_a_prompt_longer_than_the_context_is_one_clear_line(
    toy_runtime: Build, assistant_with: Build, picture: Build, max_positions: int
) -> None:
    runtime = toy_runtime(320, max_positions=max_positions)
    assistant = assistant_with(runtime)
    with pytest.raises(PromptError, match=rf"{max_positions - 1}.*visual") as caught:
        assistant.ask(QUESTION, images=[picture(seed) for seed in range(4)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("when", ["before", "during"])
def test_ctrl_c_leaves_the_assistant_usable(assistant: Assistant, picture: Build, when: str) -> None:
    expected = said_of(assistant.ask(QUESTION, images=picture(1), max_new_tokens=20))
    chat = assistant.chat()
    stream = chat.stream(QUESTION, images=picture(1), max_new_tokens=20)
    with pytest.raises(KeyboardInterrupt):
        for number, _ in enumerate(stream):
            if when == "before" or number == 3:
                raise KeyboardInterrupt
    assert chat.messages == ()
    assert said_of(assistant.ask(QUESTION, images=picture(1), max_new_tokens=20)) == expected
    assert said_of(chat.ask(QUESTION, images=picture(1), max_new_tokens=20)) == expected


def test_ctrl_c_inside_the_numbers_leaves_the_assistant_usable(
    toy_runtime: Build, assistant_with: Build, picture: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = toy_runtime(320)
    assistant = assistant_with(runtime)
    expected = said_of(assistant.ask(QUESTION, images=picture(1), max_new_tokens=9))
    for verb in ("encode", "embed", "prefill", "decode"):

        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(runtime, verb, interrupt)
        assistant.prompt_memory.clear()
        stream = assistant.stream(QUESTION, images=picture(2), max_new_tokens=9)
        with pytest.raises(KeyboardInterrupt):
            list(stream)
        with pytest.raises(GenerationError, match="interrupted"):
            _ = stream.answer
        monkeypatch.undo()
        assistant.prompt_memory.clear()
        assert said_of(assistant.ask(QUESTION, images=picture(1), max_new_tokens=9)) == expected
        assistant.image_cache.clear()


def test_a_closed_stream_has_no_answer(assistant: Assistant) -> None:
    stream = assistant.stream(QUESTION, max_new_tokens=20)
    next(stream)
    stream.close()
    assert list(stream) == []
    with pytest.raises(GenerationError, match="interrupted"):
        _ = stream.answer


def test_a_half_read_stream_still_gives_its_whole_answer(assistant: Assistant) -> None:
    stream = assistant.stream(QUESTION, max_new_tokens=20)
    next(stream)
    assert said_of(stream.answer) == said_of(assistant.ask(QUESTION, max_new_tokens=20))
    assert stream.answer is stream.answer


def test_bad_pictures_and_settings_are_one_line(assistant: Assistant, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    for images in (broken, tmp_path / "missing.png", b"", 3):
        with pytest.raises(ImageError) as caught:
            assistant.ask(QUESTION, images=images)
        assert "\n" not in str(caught.value)
    with pytest.raises(GenerationError):
        assistant.stream(QUESTION, temperature=-1)
    with pytest.raises(FastVLMError):
        assistant.stream(QUESTION, temprature=1)  # type: ignore[call-arg]


def phases_of(timings: Timings) -> list[float]:
    return [getattr(timings, f"{name}_ms") for name in PHASES]


def test_timings_add_up(torch_runtime: Any, assistant_with: Build, picture: Build, tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    picture(1, width_px=1600, height_px=1200).save(path)
    assistant = assistant_with(torch_runtime, max_visual_tokens=64, load_timings=LoadTimings(load_ms=12.5))
    # Of several runs the one that the machine disturbed least outside all phases, where hardly anything happens.
    measured = []
    for _ in range(4):
        measured.append(assistant.ask(QUESTION, images=path, max_new_tokens=30).timings)
        assistant.image_cache.clear()
    timings = min(measured, key=lambda timings: abs(timings.total_ms - sum(phases_of(timings))) / timings.total_ms)
    before_first = phases_of(timings)[:-1]
    assert timings.compile_ms == 0 and sum(milliseconds > 0 for milliseconds in before_first) == len(before_first) - 1
    assert sum(phases_of(timings)) == pytest.approx(timings.total_ms, rel=0.01)
    assert sum(before_first) == pytest.approx(timings.first_token_ms, rel=0.01)
    assert timings.decode_per_token_ms == pytest.approx(timings.decode_ms / 29, rel=1e-6)
    assert 0 < timings.decode_tail_ms <= timings.decode_ms
    assert timings.load_ms == 12.5
    assert timings.peak_memory_mb is not None and timings.peak_memory_mb > 50


def test_time_between_phases_belongs_to_the_later_one_and_pauses_to_none() -> None:
    clock = Stopwatch()
    time.sleep(0.02)
    with clock.phase("tokenize"):
        pass
    with clock.paused():
        time.sleep(0.05)
    with clock.phase("embed"):
        time.sleep(0.01)
    timings = clock.timings(LoadTimings())
    assert timings.tokenize_ms >= 20
    assert timings.embed_ms >= 10
    assert timings.total_ms == pytest.approx(timings.tokenize_ms + timings.embed_ms, abs=20)


def test_what_is_compiled_while_a_prompt_is_read_is_told_apart() -> None:
    clock, compiled_ms = Stopwatch(), [5.0]

    def steps() -> Iterator[str]:
        time.sleep(0.03)
        compiled_ms[0] += 20
        yield "ab"
        compiled_ms[0] += 20
        yield "cd"

    assert list(clock.steps(steps(), compile_ms=lambda: compiled_ms[0])) == ["ab", "cd"]
    timings = clock.timings(LoadTimings())
    assert timings.compile_ms == pytest.approx(20)
    assert timings.prefill_ms == pytest.approx(timings.first_token_ms - 20, abs=5)
    assert timings.prefill_ms + timings.compile_ms + timings.decode_ms == pytest.approx(timings.total_ms, abs=5)


def test_tokens_of_one_step_share_its_time() -> None:
    clock = Stopwatch()

    def steps() -> Iterator[str]:
        for tokens in ("abc", "abc", "a"):
            time.sleep(0.01)
            yield tokens

    assert len(list(clock.steps(steps()))) == 3
    timings = clock.timings(LoadTimings())
    assert timings.decode_per_token_ms == pytest.approx(timings.decode_ms / 4)
    assert timings.decode_tail_ms >= 10


def test_one_token_has_no_rate() -> None:
    clock = Stopwatch()
    list(clock.steps(iter("a")))
    with clock.phase("decode"):
        time.sleep(0.001)
    timings = clock.timings(LoadTimings())
    assert timings.decode_ms >= 1 and (timings.decode_per_token_ms, timings.decode_tail_ms) == (0, 0)


def test_timings_leave_out_what_the_reader_does(toy_runtime: Build, assistant_with: Build) -> None:
    stream = assistant_with(toy_runtime(320)).stream(QUESTION, max_new_tokens=10)
    started_s = time.perf_counter()
    for _ in stream:
        time.sleep(0.02)
    elapsed_ms = (time.perf_counter() - started_s) * 1000
    assert stream.answer.timings.total_ms < elapsed_ms - 60


@pytest.mark.parametrize("temperature", [0.0, 0.01])
def test_confidence_is_the_probability_of_the_whole_answer(
    scripted_assistant: Build, tokenizer: Tokenizer, temperature: float
) -> None:
    """Each scripted token has the logit 10 where all others have 0, whatever the temperature makes of them."""
    answer = scripted_assistant("Yes.").ask(QUESTION, temperature=temperature)
    each = math.exp(10) / (math.exp(10) + tokenizer.vocabulary_size - 1)
    assert answer.text == "Yes."
    assert answer.confidence == pytest.approx(each ** (len(answer.token_ids) + 1), rel=1e-4), "with the end of the turn"


def test_confidence_is_that_of_the_answer_alone_in_a_batch_too(assistant: Assistant, picture: Build) -> None:
    conversations = [user(ImagePart(picture(seed)), f"Question {seed}?") for seed in range(3)]
    together = ask_batch(assistant, conversations, max_new_tokens=4)
    alone = [assistant.ask(conversation, max_new_tokens=4) for conversation in conversations]
    assert [one.confidence for one in together] == pytest.approx([one.confidence for one in alone], rel=1e-4)
    assert all(0 < one.confidence < 1 for one in alone)


def test_an_open_file_is_an_image_and_none_is_no_image(
    toy_runtime: Build, assistant_with: Build, picture: Build, tmp_path: Path
) -> None:
    picture(1).save(tmp_path / "picture.png")
    asked = assistant_with(toy_runtime(320))
    expected = asked.ask(QUESTION, images=tmp_path / "picture.png")
    with (tmp_path / "picture.png").open("rb") as file:
        assert asked.ask(QUESTION, images=file).token_ids == expected.token_ids
    assert asked.ask(QUESTION, images=None).usage.visual_tokens == 0
    (tmp_path / "text.txt").write_text("no picture")
    with (tmp_path / "text.txt").open() as file, pytest.raises(PromptError, match="mode 'rb'"):
        asked.ask(QUESTION, images=file)
    with pytest.raises(PromptError, match=r"Expected an open file as an image, got: .*closed"):
        asked.ask(QUESTION, images=file)


def test_what_are_no_settings_is_told(toy_runtime: Build, assistant_with: Build) -> None:
    with pytest.raises(GenerationError, match="as GenerationSettings, got dict; or give them by name"):
        assistant_with(toy_runtime(320)).ask(QUESTION, settings={"temperature": 1})
