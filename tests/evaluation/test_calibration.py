"""Calibration: refusals as often as is allowed, and a limit below which answers are worth little."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fastvlm.checkpoints.config import CONFIG_FILE, ModelConfig
from fastvlm.checkpoints.hub import resolve
from fastvlm.checkpoints.save import save_checkpoint
from fastvlm.data.synthetic.documents.questions import NOT_SHOWN
from fastvlm.errors import DataError
from fastvlm.evaluation import calibration
from fastvlm.evaluation.calibration import MOST_FALSE_REFUSALS, FirstScores, calibrate, chosen_bias, unsure_below
from fastvlm.evaluation.suite import question_set
from fastvlm.inference.loading import load
from fastvlm.inference.reading import is_refusal
from fastvlm.models.config import VLMConfig
from fastvlm.models.vlm import FastVLM
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tokenizer import train_byte_level_bpe
from fastvlm.recipes.document_settings import smoke


def test_the_bias_is_the_largest_that_refuses_few_that_have_an_answer() -> None:
    answerable = np.linspace(-4, 4, 1000, dtype=np.float32)
    margins = np.concatenate((answerable, np.full(100, 9.0, np.float32)))
    bias = chosen_bias(FirstScores(margins, [False] * 1000 + [True] * 100))
    refused = (answerable + bias > 0).mean()
    assert refused <= MOST_FALSE_REFUSALS < (answerable + bias + 0.1 > 0).mean()
    assert chosen_bias(FirstScores(answerable - 9, [False] * 1000)) > 4, "room for more"
    with pytest.raises(DataError, match="got none"):
        chosen_bias(FirstScores(margins[:3], [True] * 3))


def test_answers_are_unsure_below_the_last_tenth_that_is_wrong_more_often_than_right() -> None:
    outcomes = [(0.05, False), (0.15, True), (0.25, False), (0.25, False), (0.25, True), (0.6, True), (0.9, True)]
    assert unsure_below(outcomes) == 0.3
    assert unsure_below([(0.2, True), (1.0, True)]) == 0.0
    assert unsure_below([]) == 0.0


def test_a_model_is_measured_and_says_so_in_its_configuration(tmp_path: Path) -> None:
    """A model that has learned nothing: it is nearly always wrong, and refuses no more than it may."""
    torch.manual_seed(0)
    recipe = smoke()
    tokenizer = train_byte_level_bpe(
        [NOT_SHOWN] * 9, vocabulary_size=320, special_tokens=TEMPLATES["compact"].control_tokens
    )
    decoder = replace(recipe.decoder, vocabulary_size=tokenizer.vocabulary_size)
    model = FastVLM(VLMConfig(vision=recipe.vision, decoder=decoder))
    config = ModelConfig(
        name="untrained", vlm=model.config, processing=recipe.processing, template=TEMPLATES["compact"],
        eos_token_ids=(tokenizer.token_id("<|end|>"),),
    )  # fmt: skip
    folder = tmp_path / "model"
    save_checkpoint(folder, model, config, tokenizer, dtype=None)
    found = calibrate(folder, limit_per_family=2)
    stored = json.loads((folder / CONFIG_FILE).read_text())["calibration"]
    assert stored == {
        "refusal_token_id": tokenizer.encode(NOT_SHOWN)[0],
        "refusal_bias": found.refusal_bias,
        "unsure_below": found.unsure_below,
        "line_question": None,
        "found_unsure_below": 0.0,
    }
    assert 0 < found.unsure_below <= 1
    assistant = load(folder)
    assert dict(assistant.first_bias) == {found.refusal_token_id: found.refusal_bias}
    asked = [one for one in question_set("documents-dev", data=None, limit_per_family=2).asked]
    answerable = [one for one in asked if not is_refusal(one.answer)]
    answers = [assistant.ask(one.text, images=one.picture.load(), max_new_tokens=1) for one in answerable]
    began = [answer.token_ids[:1] == (found.refusal_token_id,) for answer in answers]
    assert sum(began) <= MOST_FALSE_REFUSALS * len(answerable)
    assert any(answer.is_unsure for answer in answers)


def test_a_closer_look_is_measured_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    shutil.copytree(resolve(None), folder)
    path = folder / CONFIG_FILE
    described = json.loads(path.read_text())
    described["calibration"]["found_unsure_below"] = 0.0
    path.write_text(json.dumps(described))
    judged: list[list[tuple[float, bool]]] = []

    def tenth_of(outcomes: Iterable[tuple[float, bool]]) -> float:
        judged.append(list(outcomes))
        return len(judged) / 10  # how sure a model is of few answers depends on the machine

    monkeypatch.setattr(calibration, "unsure_below", tenth_of)
    found = calibrate(folder, limit_per_family=6)
    assert found.line_question == described["calibration"]["line_question"]  # of the calibration before
    assert (found.unsure_below, found.found_unsure_below) == (0.1, 0.2)
    at_once, looked_up = judged
    assert 0 < len(looked_up) < len(at_once)
    assert {is_right for _, is_right in looked_up} == {False, True}
    assert json.loads(path.read_text())["calibration"]["found_unsure_below"] == 0.2
    assert calibrate(folder, limit_per_family=1, line_question="Line?").line_question == "Line?"
