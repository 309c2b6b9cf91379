"""From token ids to text as it comes: whole characters only, and nothing that may turn out to be a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT = "\ufffd"
"""What a decoder shows for bytes that are not, or not yet, a character."""

WINDOW_TOKENS = 32
"""Tokens decoded again with every new one; more would cost time, fewer could lose a space between words."""


class TextStream:
    """Turns the token ids of one answer into pieces of text.

    decode: token ids -> text, special tokens left out. stop: texts that end the answer; they, and what follows, are
    cut. The joined pieces equal the text of all tokens decoded at once, up to a stop string.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], *, stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._num_settled = 0
        self._num_given = 0
        self._gate = StopGate(stop)

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string has come."""
        return self._gate.is_stopped

    def push(self, token_id: int) -> str:
        """Add a token; returns the text that is certain now, possibly none."""
        self._window.append(token_id)
        text = self._decode(self._window)
        # Trailing replacement characters may be the first bytes of a character that the next token completes.
        certain = text.rstrip(REPLACEMENT)
        piece = certain[self._num_given :]
        self._num_given = max(self._num_given, len(certain))
        if len(certain) == len(text):
            self._shorten_window()
        return self._gate.push(piece)

    def finish(self) -> str:
        """Return what was still held back; to be called once, after the last token."""
        rest = self._decode(self._window)[self._num_given :]
        return self._gate.push(rest) + self._gate.finish()

    def _shorten_window(self) -> None:
        """Let the window start at the last settled place and settle its end: both lie between whole characters.

        Some tokens stay in front of new ones because decoders drop the space before the very first word.
        """
        if len(self._window) - self._num_settled < WINDOW_TOKENS // 2:
            return
        self._window = self._window[self._num_settled :]
        self._num_settled = len(self._window)
        self._num_given = len(self._decode(self._window))


class StopGate:
    """Lets text through up to the first stop string, and holds back what may be the start of one."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self.is_stopped = False

    def push(self, text: str) -> str:
        """Add text; returns what can no longer be part of a stop string."""
        if self.is_stopped:
            return ""
        self._held += text
        cut = self._first_stop()
        if cut is not None:
            self.is_stopped = True
            piece, self._held = self._held[:cut], ""
            return piece
        num_held = max((_overlap(self._held, stop) for stop in self._stop), default=0)
        split = len(self._held) - num_held
        piece, self._held = self._held[:split], self._held[split:]
        return piece

    def finish(self) -> str:
        """Return the text that was held back for a stop string that never came."""
        piece, self._held = self._held, ""
        return piece

    def _first_stop(self) -> int | None:
        """Return where the stop string starts that is complete first (the longest of equals), whatever the pieces."""
        found = ((self._held.find(stop), stop) for stop in self._stop)
        ends = [(start + len(stop), start) for start, stop in found if start >= 0]
        return min(ends)[1] if ends else None


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a proper start of `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
