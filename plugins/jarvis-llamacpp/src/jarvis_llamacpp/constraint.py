"""Compiles constraints, off the event loop and off the engine thread, and keeps the latest."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper, regex_to_lark

from jarvis_core import Constraint, RequestError, constraint_refusal, write_grammar
from jarvis_llamacpp.matcher import Matcher
from jarvis_llamacpp.vocabulary import Vocabulary

MOST_KEPT = 256
"""Compiled grammars kept at most."""

MOST_KEPT_BYTES = 1 << 20
"""Bytes of their sources kept at most; what is compiled of them takes some hundred times that."""

PATIENCE = 10.0
"""Seconds that a request waits for its grammar. llguidance's own limits come first."""

_PROBED = 8
"""Tokens for which a grammar is tried out before it is accepted."""

STEP_MAX_ITEMS = 20_000
"""Items of the parser that one mask may need; they take about 0.1 s."""

MAX_LEXER_STATES = 20_000
"""States of one continuation's lexer; they take about 40 MB."""


class ConstraintCompiler:
    """Makes matchers for one model.

    Args:
        vocabulary: The model's vocabulary.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._kept: OrderedDict[Constraint, LLMatcher | RequestError] = OrderedDict()
        self._kept_bytes = 0
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="constraints")
        # It takes a tenth of a second and more, so it is made while the engine goes on loading.
        self._tokenizer: Future[LLTokenizer] = self._threads.submit(make_tokenizer, vocabulary)

    @property
    def kept(self) -> int:
        """Compiled grammars that are kept."""
        return len(self._kept)

    async def compile(self, constraint: Constraint) -> LLMatcher:
        """The compiled grammar of a constraint, at its beginning; to be copied, not used.

        Raises:
            RequestError: It cannot be enforced, and why.
        """
        found = self._kept.get(constraint)
        if found is None:
            loop = asyncio.get_running_loop()
            work = loop.run_in_executor(self._threads, self._compile, constraint)
            try:
                found = await asyncio.wait_for(work, PATIENCE)
            except TimeoutError:
                raise RequestError(
                    f"the constraint was not compiled in {PATIENCE:.0f} s: make it simpler"
                ) from None
            self._keep(constraint, found)
        else:
            self._kept.move_to_end(constraint)
        if isinstance(found, RequestError):
            raise found.with_message(found.message)
        return found

    def matcher(self, compiled: LLMatcher, *, ignore_eos: bool) -> Matcher:
        """A matcher for one continuation.

        Args:
            compiled: From ``compile``.
            ignore_eos: Whether text goes on as long as the grammar allows.
        """
        return Matcher(
            compiled.deep_copy(), end_ids=end_ids(self._vocabulary), may_end=not ignore_eos
        )

    def close(self) -> None:
        """End the threads; what is being compiled is finished first."""
        self._threads.shutdown(cancel_futures=True)

    def _compile(self, constraint: Constraint) -> LLMatcher | RequestError:
        try:
            text = write_grammar(constraint, regex_to_lark)
        except RequestError as error:
            return error
        compiled = LLMatcher(
            self._tokenizer.result(),
            LLMatcher.grammar_from_lark(text),
            log_level=0,
            limits=LLParserLimits(
                step_max_items=STEP_MAX_ITEMS,
                max_lexer_states=MAX_LEXER_STATES,
                verbose_errors=False,
            ),
        )
        if not compiled.is_error():
            complaint = _try_out(compiled.deep_copy())
        else:
            complaint = compiled.get_error()
        return constraint_refusal(constraint, complaint) if complaint else compiled

    def _keep(self, constraint: Constraint, found: LLMatcher | RequestError) -> None:
        if constraint in self._kept:
            return
        self._kept[constraint] = found
        self._kept_bytes += len(constraint.value)
        while len(self._kept) > MOST_KEPT or self._kept_bytes > MOST_KEPT_BYTES:
            oldest, _ = self._kept.popitem(last=False)
            self._kept_bytes -= len(oldest.value)


def make_tokenizer(vocabulary: Vocabulary) -> LLTokenizer:
    """The vocabulary as llguidance sees it; control tokens are apart from text."""
    return LLTokenizer(TokenizerWrapper(_Tokens(vocabulary)))


def end_ids(vocabulary: Vocabulary) -> frozenset[int]:
    """Ids of all tokens that end generation."""
    eos = vocabulary.eos_id
    return vocabulary.end_ids if eos is None else vocabulary.end_ids | {eos}


class _Tokens:
    """What llguidance asks of a tokenizer."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.bos_token_id = vocabulary.bos_id
        self.eos_token_id = min(end_ids(vocabulary), default=None)
        if vocabulary.eos_id is not None:
            self.eos_token_id = vocabulary.eos_id
        self.tokens = list(vocabulary.pieces)
        self.special_token_ids = list(vocabulary.controls.values())

    def __call__(self, text: bytes) -> list[int]:
        """Nothing: texts are tokenized only to force tokens, and no grammar here does."""
        return []


def _try_out(state: LLMatcher) -> str:
    """What goes wrong in the first tokens, one of many ways through the grammar."""
    for _ in range(_PROBED):
        if state.is_stopped():
            break
        mask = state.compute_bitmask()
        if state.is_error():
            break
        first = next((i * 8 + (b & -b).bit_length() - 1 for i, b in enumerate(mask) if b), None)
        if first is None or state.try_consume_tokens([first]) != 1:
            break
    return state.get_error()
