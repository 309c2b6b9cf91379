"""Visual tokens take their slots among the words."""

from __future__ import annotations

from torch import Tensor

from fastvlm.errors import PromptError


def splice(text_embeddings: Tensor, visual_tokens: Tensor, is_visual: Tensor) -> Tensor:
    """Put visual tokens into the slots of a batch, in row-major order; gradients reach both sources.

    text_embeddings: B x T x width. visual_tokens: N x width. is_visual: bool, B x T; one on the host is counted
    without waiting for an accelerator. Returns B x T x width. Raises PromptError unless there are exactly N slots.
    """
    slots = is_visual.flatten().nonzero().squeeze(1)
    num_slots, num_tokens = slots.shape[0], visual_tokens.shape[0]
    if num_slots != num_tokens:
        raise PromptError(
            f"Expected one visual token for each of the prompt's {num_slots} slots, got {num_tokens} visual tokens; "
            "give as many images, of the same sizes, as the prompt was built for."
        )
    rows = text_embeddings.flatten(0, 1)
    filled = rows.index_copy(0, slots.to(rows.device), visual_tokens.to(rows))
    return filled.view_as(text_embeddings)
