"""A model's vocabulary as plain data, read from its fast tokenizer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import field, frozen

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_MARKUP = re.compile(r"<\|[^<>]*\|>|<｜[^<>]*｜>|</?(?:tool|think|function)[a-z_]*>")
"""Texts of added tokens that are no special tokens but structure a conversation, as in Qwen."""


@frozen(kw_only=True)
class Vocabulary:
    """What is known about each token id.

    Attributes:
        pieces: Bytes that each token stands for, special tokens visible; the index is the id.
        controls: Ids of control tokens by their text.
        bos_token: Text of the begin-of-sequence token.
        eos_token: Text of the end-of-sequence token.
    """

    pieces: tuple[bytes, ...]
    controls: Mapping[str, int] = field(factory=dict)
    bos_token: str | None = None
    eos_token: str | None = None

    @property
    def size(self) -> int:
        """Token ids are below this."""
        return len(self.pieces)


def read_vocabulary(
    tokenizer: Any, *, bos_token: str | None = None, eos_token: str | None = None
) -> Vocabulary:
    """The vocabulary of a ``tokenizers.Tokenizer``.

    Args:
        tokenizer: The tokenizer.
        bos_token: Text of the begin-of-sequence token.
        eos_token: Text of the end-of-sequence token.
    """
    decoder = json.loads(tokenizer.to_str())["decoder"]
    added = tokenizer.get_added_tokens_decoder()
    tokens = tokenizer.get_vocab(with_added_tokens=False)
    pieces = [b""] * (1 + max([*tokens.values(), *added], default=-1))
    kinds = set(_kinds(decoder))
    for text, token_id in tokens.items():
        if "ByteLevel" in kinds:
            pieces[token_id] = _from_byte_level(text)
        elif kinds & {"ByteFallback", "Metaspace"} or "▁" in json.dumps(decoder):
            pieces[token_id] = _from_sentencepiece(text)
        else:
            pieces[token_id] = tokenizer.decode([token_id], skip_special_tokens=False).encode()
    for token_id, token in added.items():
        pieces[token_id] = token.content.encode()
    ends = {bos_token, eos_token}
    controls = {
        token.content: token_id
        for token_id, token in sorted(added.items())
        if token.special or token.content in ends or _MARKUP.fullmatch(token.content)
    }
    return Vocabulary(
        pieces=tuple(pieces), controls=controls, bos_token=bos_token, eos_token=eos_token
    )


def _kinds(decoder: Mapping[str, Any] | None) -> Iterator[str]:
    """The types of a decoder and of those that it is made of."""
    if decoder is not None:
        yield decoder["type"]
        for inner in decoder.get("decoders", ()):
            yield from _kinds(inner)


def _byte_characters() -> Mapping[str, int]:
    """The byte that each character stands for in a byte-level vocabulary.

    Printable Latin-1 characters stand for themselves; the other bytes, in order, for the characters
    from 256 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + at): byte for at, byte in enumerate(others)
    }


_BYTE_CHARACTERS = _byte_characters()


def _from_byte_level(text: str) -> bytes:
    try:
        return bytes([_BYTE_CHARACTERS[character] for character in text])
    except KeyError:  # a token that was added to the vocabulary as plain text
        return text.encode()


def _from_sentencepiece(text: str) -> bytes:
    if found := _BYTE.fullmatch(text):
        return bytes([int(found[1], 16)])
    return text.replace("▁", " ").encode()
