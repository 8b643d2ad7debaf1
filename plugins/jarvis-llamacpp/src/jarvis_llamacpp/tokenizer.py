"""From prompts to token ids and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from jarvis_core import (
    ContextLengthExceeded,
    Control,
    Prompt,
    RequestError,
    SegmentKind,
    prompt_runs,
)
from jarvis_llamacpp.deep_stack import LONGEST_WORD
from jarvis_llamacpp.vocabulary import Vocabulary

_WHITE = " \t\n\v\f\r"
_WORD = re.compile(r"\s+|\S+")


class Tokenizer:
    """Tokenizes prompts so that no content becomes a control token.

    Args:
        vocabulary: The model's vocabulary.
        tokenize_text: Token ids of UTF-8 text in which control tokens are just text.
        context_length: Tokens that fit; text that surely exceeds them is not tokenized at all.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        tokenize_text: Callable[[bytes], list[int]],
        context_length: int,
    ) -> None:
        self._vocabulary = vocabulary
        self._tokenize_text = tokenize_text
        self._context_length = context_length
        self._longest = max(map(len, vocabulary.pieces), default=1) or 1
        self._controls = tuple(vocabulary.controls)
        self._control_ids = frozenset(vocabulary.controls.values()) - {vocabulary.unknown_id}
        texts = sorted((t for t in vocabulary.controls if t), key=len, reverse=True)
        self._control_text = re.compile("|".join(map(re.escape, texts))) if texts else None

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt.

        Raises:
            ContextLengthExceeded: The text is longer than any that fits.
            RequestError: The prompt is empty, holds media, an id that is not in the vocabulary,
                text that is not Unicode, or a word too long for llama.cpp's tokenizers.
        """
        if prompt.token_ids is not None:
            ids = list(prompt.token_ids)
            self.check(ids)
        else:
            ids = self._encode_segments(prompt)
        if not ids:
            raise RequestError("the prompt is empty", param="prompt")
        return ids

    def encode_content(self, text: str) -> list[int]:
        """Token ids of a text in which control tokens are just text; none for an empty one.

        Raises:
            RequestError: It is not Unicode, or has a word too long for llama.cpp's tokenizers.
        """
        return self._encode_text(text) if text else []

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens visible.

        Raises:
            RequestError: An id is not in the vocabulary.
        """
        self.check(token_ids)
        pieces = self._vocabulary.pieces
        text = b"".join([pieces[i] for i in token_ids]).decode("utf-8", "replace")
        return text[1:] if self._vocabulary.adds_space and text[:1] == " " else text

    def check(self, token_ids: Sequence[int]) -> None:
        """Refuse ids that are not in the vocabulary.

        Raises:
            RequestError: It names the first such id.
        """
        size = self._vocabulary.size
        for token_id in token_ids:
            if not 0 <= token_id < size:
                raise RequestError(
                    f"token id {token_id} is not in the vocabulary of {size:,} tokens",
                    param="prompt",
                )

    def _encode_segments(self, prompt: Prompt) -> list[int]:
        if any(s.kind is SegmentKind.MEDIA for s in prompt.segments):
            raise RequestError("this model takes text only", param="messages")
        self._check_length(prompt)
        vocabulary = self._vocabulary
        ids: list[int] = []
        if prompt.add_special_tokens and vocabulary.adds_bos and vocabulary.bos_id is not None:
            ids.append(vocabulary.bos_id)
        runs = list(prompt_runs(prompt, self._controls))
        for i, run in enumerate(runs):
            if isinstance(run, Control):
                ids.append(vocabulary.controls[run.text])
                continue
            before = runs[i - 1] if i else None
            after = runs[i + 1] if i + 1 < len(runs) else None
            if isinstance(before, Control) and before.text in vocabulary.strips_right:
                run = run.lstrip(_WHITE)
            if isinstance(after, Control) and after.text in vocabulary.strips_left:
                run = run.rstrip(_WHITE)
            if run:
                ids += self._encode_text(run)
        return ids

    def _check_length(self, prompt: Prompt) -> None:
        least = len(prompt.text) // self._longest
        if least > self._context_length:
            raise ContextLengthExceeded(
                f"the prompt has more than {least:,} tokens, "
                f"and the context length is {self._context_length:,} tokens",
                param="messages",
            )

    def _encode_text(self, text: str) -> list[int]:
        ids = self._tokenize(text)
        if self._control_ids.isdisjoint(ids):
            return ids
        # Some tokenizers merge plain characters into a control token. Cut inside its text.
        assert self._control_text is not None
        ids, start = [], 0
        for match in self._control_text.finditer(text):
            ids += self._tokenize(text[start : match.start() + 1])
            start = match.start() + 1
        ids += self._tokenize(text[start:])
        if not self._control_ids.isdisjoint(ids):
            raise RequestError("the text holds a control token of the model", param="messages")
        return ids

    def _tokenize(self, text: str) -> list[int]:
        if not text:
            return []
        if len(text) > LONGEST_WORD:
            longest = max(len(word) for word in _WORD.findall(text))
            if longest > LONGEST_WORD:
                raise RequestError(
                    f"the text has {longest:,} characters without a break; "
                    f"more than {LONGEST_WORD:,} cannot be tokenized",
                    param="messages",
                )
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise RequestError(
                "the text holds a surrogate that is not a character", param="messages"
            ) from error
        return self._tokenize_text(data)
