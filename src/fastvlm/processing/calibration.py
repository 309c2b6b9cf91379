"""What a model was measured to need, so that it says when it cannot tell. Free of torch and of PIL."""

from __future__ import annotations

from dataclasses import dataclass

from fastvlm.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How a model's answers are to be taken, as found on questions that it was not trained on.

    refusal_token_id, refusal_bias: of the token that begins the answer that something is not shown, and what is added
    to its score where an answer begins: above 0, it is given more often than where it is the likeliest. unsure_below:
    answers of less confidence are more often wrong than right. line_question: what the model was taught to be asked
    about a line of text that is cut out, so that it can look closer; None where it was not. found_unsure_below: as
    unsure_below, for what is found by that. Raises CheckpointError for what cannot be.
    """

    refusal_token_id: int
    refusal_bias: float = 0.0
    unsure_below: float = 0.0
    line_question: str | None = None
    found_unsure_below: float = 0.0

    def __post_init__(self) -> None:
        if self.refusal_token_id < 0:
            raise CheckpointError(f"Expected the number of a token in refusal_token_id, got {self.refusal_token_id}.")
        for name in ("unsure_below", "found_unsure_below"):
            if not 0 <= getattr(self, name) <= 1:
                raise CheckpointError(f"Expected {name} to be from 0 to 1, got {getattr(self, name)}.")
