"""A model's vocabulary as plain data."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen


@frozen(kw_only=True)
class Vocabulary:
    """What is known about each token id.

    Attributes:
        pieces: Bytes that each token stands for, special tokens visible; the index is the id.
        controls: Ids of control tokens by their text, those that end generation included.
        end_ids: Ids that end generation.
        bos_id: Id of the begin-of-sequence token, None if there is none.
        eos_id: Id of the end-of-sequence token, None if there is none.
        adds_bos: Whether a text is to begin with ``bos_id``.
        unknown_id: Id of the control token that stands for characters without a token, if any.
        closing: Ids that end a text to be embedded.
        between: Ids between a query and a document.
        adds_space: Whether tokenizing puts a space before a text.
        strips_left: Texts of control tokens that swallow white space before them.
        strips_right: Texts of control tokens that swallow white space after them.
    """

    pieces: tuple[bytes, ...]
    controls: Mapping[str, int] = field(factory=dict)
    end_ids: frozenset[int] = frozenset()
    bos_id: int | None = None
    eos_id: int | None = None
    adds_bos: bool = False
    unknown_id: int | None = None
    closing: tuple[int, ...] = ()
    between: tuple[int, ...] = ()
    adds_space: bool = False
    strips_left: frozenset[str] = frozenset()
    strips_right: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """Token ids are below this."""
        return len(self.pieces)

    def text(self, token_id: int | None) -> str | None:
        """Text of a token; bytes that are not UTF-8 are replaced."""
        return None if token_id is None else self.pieces[token_id].decode("utf-8", "replace")
