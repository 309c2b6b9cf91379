"""What of a data set is held out for validation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from fastvlm.data.conversation_batches import PreparedConversation

_LEAST_TO_SPLIT = 10
_LARGEST_SHARE = 0.2


def hold_out(
    conversations: Sequence[PreparedConversation], *, share: float, seed: int
) -> tuple[list[PreparedConversation], list[PreparedConversation]]:
    """What is trained on, and what is held out: about a share, chosen by the seed, at least one, of ten or more.

    Conversations about the same image stay together: a loss on images that were trained on would tell nothing. Nothing
    is held out of fewer than ten conversations, or where so many share images that it would be more than a fifth.
    """
    if share <= 0 or len(conversations) < _LEAST_TO_SPLIT:
        return list(conversations), []
    groups = _by_image(conversations)
    count = max(1, round(share * len(conversations)))
    order = [groups[int(index)] for index in np.random.default_rng([seed, 1]).permutation(len(groups))]
    held_out: set[int] = set()
    for group in order[:-1]:
        if len(held_out) + len(group) <= count:
            held_out.update(group)
    smallest = sorted(order, key=len)[0]
    if not held_out and len(smallest) <= _LARGEST_SHARE * len(conversations):
        held_out.update(smallest)
    return (
        [one for index, one in enumerate(conversations) if index not in held_out],
        [one for index, one in enumerate(conversations) if index in held_out],
    )


def _by_image(conversations: Sequence[PreparedConversation]) -> list[list[int]]:
    """The numbers of conversations that share images, directly or by others; one without any stands alone."""
    parents = list(range(len(conversations)))

    def root_of(index: int) -> int:
        while parents[index] != index:
            parents[index] = index = parents[parents[index]]
        return index

    first_with: dict[str, int] = {}
    for index, one in enumerate(conversations):
        for key in one.image_keys:
            parents[root_of(index)] = root_of(first_with.setdefault(key, index))
    groups: dict[int, list[int]] = defaultdict(list)
    for index in range(len(conversations)):
        groups[root_of(index)].append(index)
    return sorted(groups.values())
