"""Questions that a caption answers, for training on captions alone (paper appendix D, stage 1.5).

The paper had 300 generic questions written and shows one of them; these are our own.
"""

from __future__ import annotations

import random
from itertools import product

from fastvlm.messages import ImagePart, Message, assistant, user

_OPENINGS = (
    "Describe", "Please describe", "Explain", "Tell me about", "Give a description of", "Write down",
    "Can you describe", "Say in words", "Summarise", "Put into words",
)  # fmt: skip
_OBJECTS = (
    "what is in this photo", "what this image shows", "everything that can be seen here", "the content of the picture",
    "what you see in the image", "the scene in this picture",
)  # fmt: skip
_ENDINGS = ("", " in detail", " as fully as you can", " for someone who cannot see it", " in a few sentences")


def caption_questions() -> tuple[str, ...]:
    """All 300 questions."""
    return tuple(
        f"{opening} {what}{ending}{'?' if opening.startswith('Can') else '.'}"
        for opening, what, ending in product(_OPENINGS, _OBJECTS, _ENDINGS)
    )


def caption_conversation(image: object, caption: str, *, sample_id: str) -> tuple[Message, ...]:
    """Ask one of the questions about an image, which stands before or after it with equal chance, and answer with its
    caption; the sample's name decides which."""
    generator = random.Random(sample_id)
    question = generator.choice(caption_questions())
    parts: list[str | ImagePart] = [ImagePart(image), question]
    if generator.random() < 0.5:
        parts.reverse()
    return (user(*parts), assistant(caption))
