"""Random texts that a constraint allows, as a model without any sense would write them."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from jarvis_core.structs import Constraint, ModelInfo

_PIECES = (
    b'{"', b'"}', b'}}', b'": ', b'": "', b'", "', b"}\n", b"}]", b"]}", b"</", b"[{", b"\n\n",
    b"the ", "été".encode(), "🎈".encode(),
)  # fmt: skip
"""Tokens of several bytes, among them such as stand across the borders of JSON and syntax."""

_CLOSING = b'"}]'
_LONG = 300  # tokens after which a text is brought to its end
_TOO_LONG = 20_000


class Sampler:
    """Writes texts under a constraint, token by token, over a small vocabulary.

    It knows every byte, the control tokens of the model, and a few tokens of several bytes.
    """

    def __init__(
        self, constraint: Constraint, model: ModelInfo, *, hints: Sequence[str] = ()
    ) -> None:
        """Compile the constraint.

        Args:
            constraint: The constraint.
            model: For its control tokens; their ids, where it has some, are 0, 1, 2 and so on.
            hints: Texts that end or begin something where any text may stand: they are written now
                and then, for nobody hits upon ``</think>`` by chance.

        Raises:
            ValueError: The constraint is no grammar that an engine takes.
        """
        vocabulary = _Vocabulary(model.control_tokens)
        self._vocabulary = vocabulary
        self._hints = [vocabulary.encode(hint) for hint in hints if hint]
        self._grammar = LLMatcher(
            LLTokenizer(TokenizerWrapper(vocabulary), slices=[]),
            _grammar(constraint),
            log_level=0,
        )
        if self._grammar.is_error():
            raise ValueError(f"{self._grammar.get_error()}\n{constraint.value}")

    def sample(self, chance: random.Random) -> str:
        """A text that the constraint allows from beginning to end."""
        state, written = self._grammar.deep_copy(), bytearray()
        for length in range(_TOO_LONG):
            if state.is_stopped() and not state.is_error():
                return written.decode()
            mask = state.compute_bitmask()
            allowed = [i for i in range(self._vocabulary.size) if mask[i // 8] >> (i % 8) & 1]
            if not allowed:
                raise ValueError(f"nothing may follow {bytes(written)!r}: {state.get_error()}")
            if hinted := self._hinted(state, chance):
                written += b"".join(self._vocabulary.tokens[i] for i in hinted)
                continue
            token = self._choose(allowed, chance, length)
            if token == self._vocabulary.eos_token_id:
                return written.decode()
            if not state.consume_token(token):
                raise ValueError(f"after {bytes(written)!r}: {state.get_error()}")
            written += self._vocabulary.tokens[token]
        raise ValueError(f"no end of {bytes(written[:500])!r}…")

    def accepts(self, text: str) -> bool:
        """Whether the constraint allows a text, in which control tokens are tokens."""
        state = self._grammar.deep_copy()
        return state.consume_tokens(self._vocabulary.encode(text)) and state.is_accepting()

    def _hinted(self, state: LLMatcher, chance: random.Random) -> Sequence[int]:
        """The tokens of a hint that was taken."""
        if not self._hints or chance.random() > 0.1:
            return ()
        hint = chance.choice(self._hints)
        if state.validate_tokens(hint) < len(hint):
            return ()
        state.consume_tokens(hint)
        return hint

    def _choose(self, allowed: Sequence[int], chance: random.Random, length: int) -> int:
        """One of the tokens that may come: often one that closes something."""
        ending = [i for i in allowed if i in self._vocabulary.closing]
        if ending and (length > _LONG or chance.random() < 0.4):
            return chance.choice(ending)
        return chance.choice(allowed)


class _Vocabulary:
    """What llguidance asks of a tokenizer."""

    def __init__(self, controls: Sequence[str]) -> None:
        count = len(controls)
        self._controls = (
            re.compile("(" + "|".join(map(re.escape, controls)) + ")") if count else None
        )
        self.eos_token_id = count
        self.bos_token_id = None
        self.special_token_ids = list(range(count + 1))
        self.tokens = [text.encode() for text in controls]
        self.tokens += [b"<end>", *(bytes([i]) for i in range(256)), *_PIECES]
        self.size = len(self.tokens)
        self.closing = {count, *(count + 1 + byte for byte in _CLOSING)}

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; what is the text of a control token is one."""
        if not self._controls:
            return self(text.encode())
        ids: list[int] = []
        for i, piece in enumerate(self._controls.split(text)):
            ids += [self.tokens.index(piece.encode())] if i % 2 else self(piece.encode())
        return ids

    def __call__(self, text: bytes) -> list[int]:
        return [self.eos_token_id + 1 + byte for byte in text]


def _grammar(constraint: Constraint) -> str:
    match constraint.kind:
        case "lark":
            return LLMatcher.grammar_from_lark(constraint.value)
        case "json_schema":
            return LLMatcher.grammar_from_json_schema(constraint.value)
        case "regex":
            return LLMatcher.grammar_from_regex(constraint.value)
        case _:
            raise ValueError(f"constraints of kind {constraint.kind!r} are not sampled")
