"""Constraints as grammars that vLLM's guidance backend takes, checked before vLLM sees them.

vLLM would check them on the event loop, and say of a bad one what the client wrote.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from attrs import field, frozen
from llguidance import LLMatcher, LLTokenizer, regex_to_lark

from jarvis_core import Constraint, RequestError, constraint_refusal, write_grammar

MOST_KEPT = 256
"""Results that are kept at most."""

PATIENCE = 10.0
"""Seconds that a request waits for its grammar to be checked."""


_BYTES = LLTokenizer("byte")
"""A tokenizer whose ids are bytes: enough to follow a text through a grammar."""

_PIECE = re.compile(r'"(?:\\.|[^"\\])*"|/(?:\\.|[^/\\])+/|//[^\n]*|<[^<>\s]+>')
"""Strings, expressions and comments of a Lark grammar, and what may name a control token."""


@frozen(kw_only=True)
class Grammar:
    """A constraint that can be enforced.

    Attributes:
        text: The grammar.
        start: A matcher at its beginning; to be copied, not used.
    """

    text: str
    start: LLMatcher = field(repr=False, eq=False)

    def ends_with(self, text: str) -> bool:
        """Whether nothing but the end can come after a text.

        vLLM then still computes an end token, where the llama.cpp engine ends at once.
        """
        matcher = self.start.deep_copy()
        data = text.encode()
        return matcher.try_consume_tokens(list(data)) == len(data) and matcher.is_stopped()


class ConstraintChecker:
    """Writes and checks grammars in threads, and remembers the latest.

    Args:
        controls: Ids of the model's control tokens by their texts.
    """

    def __init__(self, controls: Mapping[str, int]) -> None:
        self._controls = controls
        self._kept: OrderedDict[Constraint, Grammar | RequestError] = OrderedDict()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="constraints")

    async def grammar(self, constraint: Constraint) -> Grammar:
        """A constraint as a grammar.

        Raises:
            RequestError: It cannot be enforced, and why.
        """
        found = self._kept.get(constraint)
        if found is None:
            loop = asyncio.get_running_loop()
            work = loop.run_in_executor(self._threads, _check, constraint, self._controls)
            try:
                found = await asyncio.wait_for(work, PATIENCE)
            except TimeoutError:
                raise RequestError(
                    f"the constraint was not compiled in {PATIENCE:.0f} s: make it simpler"
                ) from None
            self._kept[constraint] = found
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(constraint)
        if isinstance(found, RequestError):
            raise found.with_message(found.message)
        return found

    def close(self) -> None:
        """End the threads; what is being checked is finished first."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _check(constraint: Constraint, controls: Mapping[str, int]) -> Grammar | RequestError:
    try:
        text = write_grammar(constraint, regex_to_lark)
    except RequestError as error:
        return error
    spelt = spell_controls(text, controls)
    start = LLMatcher(_BYTES, LLMatcher.grammar_from_lark(spelt), log_level=0)
    if start.is_error():
        return constraint_refusal(constraint, start.get_error())
    return Grammar(text=text, start=start)


def spell_controls(grammar: str, controls: Mapping[str, int]) -> str:
    """A Lark grammar in which control tokens are their texts, as they are to a matcher of bytes.

    Args:
        grammar: It names control tokens as ``<|im_end|>`` or by id as ``<[5]>``.
        controls: Ids of the model's control tokens by their texts.
    """
    by_name = {text: text for text in controls} | {f"<[{i}]>": t for t, i in controls.items()}

    def spell(found: re.Match[str]) -> str:
        text = by_name.get(found[0])
        return found[0] if text is None else json.dumps(text)

    return _PIECE.sub(spell, grammar)
