"""Checkpoints with random weights are asked as much as a model that was downloaded would be."""

from __future__ import annotations

import json

from fastvlm.benchmarks.askable import QUESTION, random_tokenizer
from fastvlm.messages import ImagePart, user
from fastvlm.processing.prompt import build_prompt
from fastvlm.processing.templates import template_from_dict


def test_a_random_tokenizer_knows_the_words_of_the_question_and_around_it() -> None:
    """Those of the released models make 26 of them; only other words fall apart."""
    tokenizer = random_tokenizer(2000)
    prompt = build_prompt(
        [user(ImagePart(""), QUESTION)],
        template=template_from_dict("qwen_2"),
        tokenizer=tokenizer,
        visual_token_counts=[256],
        max_positions=1000,
    )
    assert (prompt.num_visual_tokens, prompt.num_text_tokens) == (256, 26)
    assert len(tokenizer.encode(" unheard")) > 2
    assert len(json.loads(tokenizer.to_json())["model"]["vocab"]) == 2000
