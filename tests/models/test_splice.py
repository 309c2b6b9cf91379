"""Visual tokens land in their slots, words stay, gradients reach both, and wrong counts are refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fastvlm.errors import PromptError
from fastvlm.models.splice import splice


def spliced_token_by_token(text: Tensor, visual: Tensor, is_visual: Tensor) -> Tensor:
    """The slow twin: one token after the other."""
    result, next_token = text.clone(), 0
    for row in range(text.shape[0]):
        for position in range(text.shape[1]):
            if is_visual[row, position]:
                result[row, position] = visual[next_token]
                next_token += 1
    return result


@st.composite
def batches(draw: st.DrawFn) -> Tensor:
    """Slots of a batch: each row holds words and 0, 1 or many images of several tokens, at any positions."""
    num_rows = draw(st.integers(1, 4))
    rows = []
    for _ in range(num_rows):
        pieces = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5)), max_size=4))
        row = [flag for words, slots in pieces for flag in [False] * words + [True] * slots]
        rows.append(row + [False] * draw(st.integers(1, 3)))
    width = max(len(row) for row in rows)
    return torch.tensor([row + [False] * (width - len(row)) for row in rows])


@given(batches())
def test_pitfall_b20_multi_image_positions(is_visual: Tensor) -> None:
    """Whatever the number and the places of the images, no word moves and every visual token is in its slot."""
    text = torch.randn(*is_visual.shape, 3)
    visual = torch.randn(int(is_visual.sum()), 3)
    result = splice(text, visual, is_visual)
    assert torch.equal(result, spliced_token_by_token(text, visual, is_visual))
    assert torch.equal(result[~is_visual], text[~is_visual])
    assert torch.equal(result[is_visual], visual)


@pytest.mark.parametrize(("num_slots", "num_tokens"), [(4, 3), (4, 8), (0, 2), (2, 0)])
def test_pitfall_b8_surplus_and_missing_tokens_are_refused(num_slots: int, num_tokens: int) -> None:
    is_visual = torch.zeros(2, 6, dtype=torch.bool)
    is_visual.view(-1)[1 : 1 + num_slots] = True
    with pytest.raises(PromptError, match=rf"{num_slots} slots, got {num_tokens} visual tokens"):
        splice(torch.zeros(2, 6, 3), torch.zeros(num_tokens, 3), is_visual)


def test_gradients_reach_the_words_outside_the_slots_and_every_visual_token() -> None:
    text = torch.randn(2, 5, 3, requires_grad=True)
    visual = torch.randn(4, 3, requires_grad=True)
    is_visual = torch.tensor([[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]], dtype=torch.bool)
    weights = torch.randn(2, 5, 3)
    (splice(text, visual, is_visual) * weights).sum().backward()
    assert text.grad is not None
    assert visual.grad is not None
    assert torch.equal(text.grad, weights * ~is_visual[..., None])
    assert torch.equal(visual.grad, weights[is_visual])


def test_sources_are_left_as_they_were() -> None:
    text, visual = torch.zeros(1, 3, 2), torch.ones(1, 2)
    splice(text, visual, torch.tensor([[False, True, False]]))
    assert text.abs().sum() == 0


def test_words_decide_the_precision() -> None:
    result = splice(torch.zeros(1, 2, 2, dtype=torch.bfloat16), torch.ones(1, 2), torch.tensor([[True, False]]))
    assert result.dtype == torch.bfloat16
    assert result[0, 0].tolist() == [1, 1]
