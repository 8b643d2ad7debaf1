"""What a JSON schema says of a text, as expressions that the text matches from end to end.

They are for ``Grammar.until``, where a model writes text without quotes, and are those of Rust's
regex crate. A schema's pattern is one of ECMAScript, found anywhere in the text.
Source: https://json-schema.org/draft/2020-12/json-schema-validation, 6.3.3 and 4.3; for the other
side https://docs.rs/regex/latest/regex/#syntax.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

TEXT_LIMITS = ("minLength", "maxLength", "pattern")
"""The keywords of a schema that ``text_patterns`` knows."""

_LONGEST = 2000  # a length that llguidance counts up to in an expression; 10,000 are too many
_PIECES = re.compile(
    r"(?s)\\(?:u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)|\[\^?(?:\\.|[^\]\\])*\]|\((?:\?.)?|."
)
_MEMBERS = re.compile(r"(?s)\\(?:u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)|.")
_ANYTHING = "(?s:.*)"
_ALIKE = frozenset("nrtfvsS") | frozenset("^$\\.*+?()[]{}|/-")  # escapes that mean the same
_OWN = {  # of ASCII there, of Unicode here
    r"\d": "[0-9]",
    r"\D": "[^0-9]",
    r"\w": "[0-9A-Za-z_]",
    r"\W": "[^0-9A-Za-z_]",
}


def text_patterns(schema: Mapping[str, Any]) -> list[str] | None:
    """Regular expressions that a text matches if it is as long as it may be and has its pattern.

    None where a length is too great, or the pattern cannot be told so. Other keywords of the schema
    are not looked at.
    """
    patterns = []
    shortest, longest = (int(schema.get(key, 0)) for key in TEXT_LIMITS[:2])
    if max(shortest, longest) > _LONGEST:
        return None
    if "minLength" in schema or "maxLength" in schema:
        patterns.append(f"(?s:.{{{shortest},{longest if 'maxLength' in schema else ''}}})")
    if "pattern" in schema:
        if (pattern := whole_pattern(str(schema["pattern"]))) is None:
            return None
        patterns.append(pattern)
    return patterns


def whole_pattern(pattern: str) -> str | None:
    """What a text matches from end to end if the pattern is found in it.

    None where the two kinds of expressions differ, or where only an engine that goes back could
    tell: anchors inside, looks around, references.
    """
    pieces = _PIECES.findall(pattern)
    begins, ends = pieces[:1] == ["^"], pieces[-1:] == ["$"]
    inner = pieces[begins : len(pieces) - ends]
    depth = 0
    for piece in inner:
        depth += piece.startswith("(") - (piece == ")")
        if piece == "|" and depth == 0 and (begins or ends):
            return None  # an anchor belongs to its alternative
    made = [_same(piece) for piece in inner]
    if None in made:
        return None
    body = "".join(map(str, made))
    return f"{'' if begins else _ANYTHING}(?:{body}){'' if ends else _ANYTHING}"


def _same(piece: str) -> str | None:
    """What means the same there; None where nothing does."""
    if piece in ("^", "$"):
        return None
    if piece.startswith("("):
        return "(?:" if piece in ("(", "(?:") else None
    if piece.startswith("\\"):
        return _escape(piece)
    if piece == ".":
        return r"[^\n\r\u2028\u2029]"
    return _class(piece) if piece.startswith("[") else piece


def _escape(piece: str) -> str | None:
    if piece in _OWN:
        return _OWN[piece]
    return piece if len(piece) > 2 or piece[1] in _ALIKE else None


def _class(piece: str) -> str | None:
    """A class of characters; what is an operator of classes there stands for itself."""
    start = "[^" if piece.startswith("[^") else "["
    members = _MEMBERS.findall(piece[len(start) : -1])
    made = []
    for member in members:
        written = _escape(member) if member.startswith("\\") else member
        if written is None or written.startswith("[^"):
            return None
        if member in _OWN:
            written = written[1:-1]
        made.append(f"\\{written}" if written in ("[", "&", "~") else written)
    return f"{start}{''.join(made)}]" if made and "--" not in piece else None
