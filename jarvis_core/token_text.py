"""From the bytes of tokens to the text that is sent: whole characters, no stop strings."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from jarvis_core.stopping import StopStrings


def read_pieces(pieces: Sequence[bytes]) -> list[str | None]:
    """Text of each token that stands for whole characters; None for the others."""
    texts: list[str | None] = []
    for piece in pieces:
        try:
            texts.append(piece.decode())
        except UnicodeDecodeError:
            texts.append(None)
    return texts


class TextStream:
    """The text of one continuation.

    Attributes:
        stop_string: The stop string that was found.
    """

    __slots__ = ("_decoder", "_partial", "_pieces", "_stops", "_texts", "stop_string")

    def __init__(
        self, pieces: Sequence[bytes], texts: Sequence[str | None], stops: Sequence[str]
    ) -> None:
        """Begin a text.

        Args:
            pieces: Bytes of each token.
            texts: The same as text, from ``read_pieces``.
            stops: Stop strings.
        """
        self._pieces = pieces
        self._texts = texts
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._partial = False
        self._stops = StopStrings(stops) if stops else None
        self.stop_string: str | None = None

    def add(self, token: int, *, may_stop: bool = True) -> str:
        """Take a token.

        Args:
            token: Its id.
            may_stop: Whether stop strings in its text count.

        Returns:
            The text that is certain now.
        """
        text = None if self._partial else self._texts[token]
        if text is None:
            text = self._decoder.decode(self._pieces[token])
            self._partial = bool(self._decoder.getstate()[0])
        if self._stops is None or not may_stop:
            return text
        text, self.stop_string = self._stops.feed(text)
        return text

    def finish(self) -> str:
        """What was held back as the start of a stop string.

        The start of a character whose rest never came is dropped.
        """
        return "" if self._stops is None else self._stops.finish()
