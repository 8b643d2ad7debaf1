"""Texts that must not come, as vLLM means it: whole sequences of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from jarvis_core import RequestError


class BadWords:
    """Watches what one continuation has generated; the prompt does not count.

    Args:
        words: Token ids of each text, at least one.
    """

    def __init__(self, words: Sequence[Sequence[int]]) -> None:
        self._words = [(list(word[:-1]), word[-1]) for word in words]
        self._longest = max(map(len, words)) - 1
        self._tail: list[int] = []

    def add(self, token: int) -> None:
        """Note a token that was chosen."""
        self._tail.append(token)
        del self._tail[: max(0, len(self._tail) - self._longest)]

    def next_ids(self) -> Iterator[int]:
        """Ids of tokens that would end one of the texts now."""
        for start, last in self._words:
            if not start or self._tail[-len(start) :] == start:
                yield last


def tokenize_words(
    words: Sequence[str], tokenize: Callable[[str], list[int]]
) -> tuple[tuple[int, ...], ...]:
    """Token ids of texts, at the start of a text and after a space.

    Source: vLLM 0.32, vllm/sampling_params.py, SamplingParams.update_from_tokenizer.

    Args:
        words: The texts.
        tokenize: Token ids of a text.

    Raises:
        RequestError: A text has no tokens.
    """
    found = []
    for i, word in enumerate(words):
        bare = tokenize(word.lstrip())
        if not bare:
            raise RequestError(f"bad_words[{i}] is empty", param=f"bad_words[{i}]")
        found.append(tuple(bare))
        spaced = tokenize(" " + word.lstrip())
        if spaced[0] != bare[0] and len(spaced) == len(bare):
            found.append(tuple(spaced))
    return tuple(found)
