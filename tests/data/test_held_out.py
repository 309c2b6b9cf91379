"""What is held out shares no image with what is trained on."""

from __future__ import annotations

import pytest

from fastvlm.data.conversation_batches import PreparedConversation
from fastvlm.data.conversations import Conversation
from fastvlm.data.held_out import hold_out
from fastvlm.messages import assistant, user


def conversations(*keys: tuple[str, ...]) -> list[PreparedConversation]:
    words = (user("x"), assistant("y"))
    return [PreparedConversation(Conversation(str(number), words), (), own, 2) for number, own in enumerate(keys)]


@pytest.mark.parametrize("seed", range(5))
def test_conversations_about_one_image_stay_together(seed: int) -> None:
    """Five about each image, one about images of two groups, and some without any."""
    keys = [(f"image {number // 5}",) for number in range(100)]
    everything = conversations(*keys, ("image 0", "image 1"), (), ())
    training, held_out = hold_out(everything, share=0.1, seed=seed)
    assert 6 <= len(held_out) <= 10 and len(training) + len(held_out) == len(everything)
    assert not {key for one in training for key in one.image_keys} & {key for one in held_out for key in one.image_keys}
    assert [one.sample_id for one in training] == sorted((one.sample_id for one in training), key=int)
    assert hold_out(everything, share=0.1, seed=seed) == (training, held_out)


def test_a_group_larger_than_the_share_is_held_out_where_there_is_no_smaller() -> None:
    everything = conversations(*[("a",)] * 16, *[("b",)] * 4)
    training, held_out = hold_out(everything, share=0.1, seed=0)
    assert {one.image_keys for one in held_out} == {("b",)} and len(training) == 16


def test_nothing_is_held_out_of_too_little() -> None:
    halves = conversations(*[("a",)] * 10, *[("b",)] * 10)
    for everything in (conversations(*[()] * 9), conversations(*[("a",)] * 20), halves):
        assert hold_out(everything, share=0.1, seed=0) == (everything, [])
    assert hold_out(conversations(*[()] * 20), share=0.0, seed=0)[1] == []
