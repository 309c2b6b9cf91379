"""From a checkpoint folder to a report, with a real model that is too small to be right."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from fastvlm.errors import CheckpointError, DataError
from fastvlm.evaluation import suite
from fastvlm.evaluation.manifest import DOCUMENTS_PATH, frozen_set_name, read_manifest
from fastvlm.evaluation.provenance import identify_model
from fastvlm.evaluation.questions import EvaluationQuestion
from fastvlm.evaluation.runner import AssistantAnswerer, Outcome
from fastvlm.evaluation.suite import QuestionSet, coverage, question_set, run_suite
from fastvlm.evaluation.tasks.scenes import scene_questions
from fastvlm.inference.assistant import Assistant
from fastvlm.inference.loading import load


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of random weights in our own layout."""
    torch = pytest.importorskip("torch")
    from fastvlm.checkpoints.config import ModelConfig
    from fastvlm.checkpoints.save import save_checkpoint
    from fastvlm.models.config import VLMConfig
    from fastvlm.models.language.config import DecoderConfig
    from fastvlm.models.vision.config import FastViTHDConfig
    from fastvlm.models.vlm import FastVLM
    from fastvlm.processing.config import ProcessingConfig
    from fastvlm.processing.templates import TEMPLATES
    from fastvlm.processing.tokenizer import train_byte_level_bpe

    tokenizer = train_byte_level_bpe(
        ["How many red circles are there? Yes. No."],
        vocabulary_size=300,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    )
    config = VLMConfig(
        vision=FastViTHDConfig(depths=(1, 1, 1, 1, 1), widths=(8, 16, 32, 32, 64), layer_scale_init=0.5),
        decoder=DecoderConfig(
            vocabulary_size=tokenizer.vocabulary_size, width=64, num_layers=1, num_heads=2, num_key_value_heads=1,
            feed_forward_width=96, head_dim=32, max_positions=512,
        ),
    )  # fmt: skip
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    save_checkpoint(
        folder,
        FastVLM(config).eval(),
        ModelConfig(
            name="tiny",
            vlm=config,
            processing=ProcessingConfig(mode="fit", max_visual_tokens=4),
            template=TEMPLATES["chatml"],
            eos_token_ids=(tokenizer.token_id("<|im_end|>"),),
        ),
        tokenizer,
    )
    return folder


@pytest.fixture(scope="module")
def assistant(checkpoint: Path) -> Assistant:
    return load(checkpoint, device="cpu")


def test_a_report_from_a_folder(assistant: Assistant, checkpoint: Path) -> None:
    phases: list[str] = []
    report = run_suite(
        assistant,
        task="scenes-dev",
        limit_per_family=2,
        report=lambda phase, _done, _total: phases.append(phase),
        model=checkpoint,
    )
    assert report.task == "scenes-dev"
    assert report.overall.accuracy.num_questions == 2 * len(report.families)
    assert list(dict.fromkeys(phases)) == ["answers", "grey pictures", "shuffled pictures"]
    assert report.conditions.runtime == assistant.runtime.name
    weights = (checkpoint / "model.safetensors").read_bytes()
    assert [(file.name, file.sha256) for file in report.model.weights] == [
        ("model.safetensors", hashlib.sha256(weights).hexdigest())
    ]


def test_one_picture_has_no_other_to_be_shuffled_with(
    assistant: Assistant, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def about_the_first_picture(*arguments: Any, **options: Any) -> list[EvaluationQuestion]:
        questions = scene_questions(*arguments, **options)
        return [question for question in questions if question.picture.picture_id == questions[0].picture.picture_id]

    monkeypatch.setattr("fastvlm.evaluation.suite.scene_questions", about_the_first_picture)
    report = run_suite(assistant, task="scenes-dev", limit_per_family=1, model=checkpoint)
    assert report.overall.accuracy.num_questions > 5
    assert report.overall.shuffled is None
    assert report.overall.blind is not None


def test_an_answer_is_what_a_person_would_get(assistant: Assistant) -> None:
    questions = scene_questions("dev", limit_per_family=1, phrasing="train")[:3]
    images = [question.picture.load() for question in questions]
    texts = [question.text for question in questions]
    together = AssistantAnswerer(assistant, batch_size=2).answer(images, texts)
    alone = [assistant.ask(text, images=image, max_new_tokens=96) for image, text in zip(images, texts, strict=True)]
    assert [reply.text for reply in together] == [answer.text for answer in alone]
    assert [reply.confidence for reply in together] == pytest.approx([answer.confidence for answer in alone], rel=1e-3)
    assert len({answer.text for answer in alone}) > 1 or alone[0].text


def test_the_default_questions_are_the_frozen_ones() -> None:
    questions = question_set("scenes", data=None, limit_per_family=25)
    names = {entry.questions_sha256: name for name, entry in read_manifest().sets.items()}
    from fastvlm.evaluation.questions import questions_digest

    assert names[questions_digest(questions.asked)] == frozen_set_name(25, "train")
    assert names[questions_digest(questions.unseen)] == frozen_set_name(25, "held_out")


def test_what_cannot_be_asked_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data"):
        question_set("boxes", data=None, limit_per_family=5)
    with pytest.raises(DataError, match="--data"):
        question_set("receipts", data=None, limit_per_family=5)
    with pytest.raises(DataError, match="Leave --data out"):
        question_set("scenes", data=tmp_path, limit_per_family=5)
    with pytest.raises(DataError, match="scenes, scenes-dev, boxes"):
        question_set("weather", data=None, limit_per_family=5)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="at least 1"):
        question_set("scenes", data=None, limit_per_family=0)
    with pytest.raises(CheckpointError):
        identify_model(tmp_path / "nowhere")


def test_a_frozen_set_of_documents_has_its_typefaces(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = read_manifest(DOCUMENTS_PATH)
    digest = manifest.sets["documents-test-25-train"].questions_sha256
    monkeypatch.setattr(suite, "questions_digest", lambda _: digest)
    for fonts, name in ((manifest.fonts_sha256, "documents-test-25-train"), ("others", None)):
        monkeypatch.setattr(suite, "fonts_digest", lambda found=fonts: found)
        found = suite._frozen_set(QuestionSet([], [], {}, ""))
        assert found == (None if name is None else f"{name} and {name}")


def test_coverage_tells_how_right_confident_answers_are() -> None:
    question = scene_questions("dev", limit_per_family=1, phrasing="train")[0]
    answers = ((True, 0.9), (False, 0.4), (True, 0.3))
    points = {
        point.confidence: (round(point.share, 3), point.accuracy.num_correct)
        for point in coverage([Outcome(question, "", *answer) for answer in answers])
    }
    assert points[0.0] == points[0.3] == (1.0, 2)
    assert points[0.4] == (0.667, 1) and points[0.5] == points[0.9] == (0.333, 1)
    assert 0.95 not in points
