"""From prompts to token ids and back."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen

from jarvis_core import (
    ContextLengthExceeded,
    Control,
    Prompt,
    RequestError,
    SegmentKind,
    prompt_runs,
)
from jarvis_vllm.vocabulary import Vocabulary


@frozen
class _Text:
    """What is tokenized of a prompt.

    Attributes:
        text: With the renamed control tokens of its scaffold.
        controls: How many those are.
        surrounded: Whether the tokenizer's own tokens go before and after it.
    """

    text: str
    controls: int
    surrounded: bool


class Tokenizer:
    """Tokenizes prompts so that no content becomes a control token.

    It works on a copy of the model's tokenizer in which each control token has another text, which
    holds a random number: what a user writes cannot be one. A prompt is tokenized in one piece,
    with these texts where the scaffold has control tokens, so the ids are those of the rendered
    text.

    Args:
        backend: The model's ``tokenizers.Tokenizer``.
        vocabulary: Its vocabulary.
        context_length: Tokens that fit; text that surely exceeds them is not tokenized at all.
    """

    def __init__(self, backend: Any, vocabulary: Vocabulary, context_length: int) -> None:
        self._backend = backend
        self._vocabulary = vocabulary
        self._context_length = context_length
        self._longest = max(map(len, vocabulary.pieces), default=1) or 1
        self._controls = tuple(vocabulary.controls)
        self._control_ids = frozenset(vocabulary.controls.values())
        nonce = secrets.token_hex(8)
        self._names = {
            text: f"\ue000{nonce}:{token_id}\ue001"
            for text, token_id in vocabulary.controls.items()
        }
        self._renamed, self._ids = _rename(backend, self._names)
        self._before, self._after = _surroundings(backend)
        self._pairs = type(backend).from_str(backend.to_str())
        self._pairs.encode_special_tokens = True  # as text, that is: both texts are content

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt.

        Raises:
            ContextLengthExceeded: The text is longer than any that fits.
            RequestError: The prompt is empty, holds media, an id that is not in the vocabulary, or
                text that is not Unicode.
        """
        (found,) = self.encode_each((prompt,))
        if isinstance(found, RequestError):
            raise found
        return found

    def encode_each(self, prompts: Sequence[Prompt]) -> list[list[int] | RequestError]:
        """Token ids of each prompt, or why it is refused.

        Texts are tokenized in one call, on all of the machine's cores and without the interpreter
        lock, which the tokenizer keeps when it is given a single text.
        """
        found = [_attempt(self._read, prompt) for prompt in prompts]
        places = [at for at, one in enumerate(found) if isinstance(one, _Text)]
        encodings = self._renamed.encode_batch_fast(
            [found[at].text for at in places], add_special_tokens=False
        )
        for at, encoding in zip(places, encodings, strict=True):
            found[at] = _attempt(self._finish, found[at], encoding.ids)
        return found

    def encode_pairs(self, first: str, others: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """Ids and types of a text with each of several others, joined as the model wants them.

        All of it is content.

        Raises:
            RequestError: A text is not Unicode.
        """
        for text in (first, *others):
            _check_unicode(text)
        pairs = [(first, other) for other in others]
        found = self._pairs.encode_batch_fast(pairs, add_special_tokens=True)
        return [(list(one.ids), list(one.type_ids)) for one in found]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens visible.

        Raises:
            RequestError: An id is not in the vocabulary.
        """
        self.check(token_ids)
        text: str = self._backend.decode(list(token_ids), skip_special_tokens=False)
        return text

    def check(self, token_ids: Sequence[int]) -> None:
        """Refuse ids that are not in the vocabulary.

        Raises:
            RequestError: It names the first such id.
        """
        size = self._vocabulary.size
        if token_ids and (min(token_ids) < 0 or max(token_ids) >= size):
            wrong = next(i for i in token_ids if not 0 <= i < size)
            raise RequestError(
                f"token id {wrong} is not in the vocabulary of {size:,} tokens", param="prompt"
            )

    def _read(self, prompt: Prompt) -> list[int] | _Text:
        """The ids of a prompt that is given as ids, the text to tokenize of any other."""
        if prompt.token_ids is not None:
            ids = list(prompt.token_ids)
            self.check(ids)
            if not ids:
                raise RequestError("the prompt is empty", param="prompt")
            return ids
        if any(s.kind is SegmentKind.MEDIA for s in prompt.segments):
            raise RequestError("this model takes text only", param="messages")
        self._check_length(prompt)
        controls = 0
        parts: list[str] = []
        for run in prompt_runs(prompt, self._controls):
            if isinstance(run, Control):
                controls += 1
                parts.append(self._names[run.text])
            else:
                parts.append(run)
        text = "".join(parts)
        _check_unicode(text)
        return _Text(text, controls, surrounded=prompt.add_special_tokens)

    def _finish(self, text: _Text, given: Sequence[int]) -> list[int]:
        """The model's own ids for those that the renamed copy gave."""
        ids = self._ids
        found = [ids.get(i, i) for i in given]
        if sum(map(self._control_ids.__contains__, found)) != text.controls:
            # Some tokenizers merge plain characters into a control token.
            raise RequestError("the text holds a control token of the model", param="messages")
        if text.surrounded:
            found = [*self._before, *found, *self._after]
        if not found:
            raise RequestError("the prompt is empty", param="prompt")
        return found

    def _check_length(self, prompt: Prompt) -> None:
        least = len(prompt.text) // self._longest
        if least > self._context_length:
            raise ContextLengthExceeded(
                f"the prompt has more than {least:,} tokens, "
                f"and the context length is {self._context_length:,} tokens",
                param="messages",
            )


def _attempt(step: Callable[..., Any], *arguments: Any) -> Any:
    """What a step gives, or why it refuses."""
    try:
        return step(*arguments)
    except RequestError as error:
        return error


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            "the text holds a surrogate that is not a character", param="messages"
        ) from error


def _rename(backend: Any, names: dict[str, str]) -> tuple[Any, dict[int, int]]:
    """A copy whose control tokens have other texts, and the right ids for those it gives them."""
    spec = json.loads(backend.to_str())
    spec.update(truncation=None, padding=None, post_processor=None)
    for token in spec["added_tokens"]:
        if token["content"] in names:
            token.update(content=names[token["content"]], normalized=False, special=True)
    copy = type(backend).from_str(json.dumps(spec))
    given = {token["content"]: token["id"] for token in spec["added_tokens"]}
    ids = {copy.token_to_id(text): token_id for text, token_id in given.items()}
    return copy, {wrong: right for wrong, right in ids.items() if wrong != right}


def _surroundings(backend: Any) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer itself puts before and after a text."""
    bare = backend.encode("a", add_special_tokens=False).ids
    whole = backend.encode("a", add_special_tokens=True).ids
    for at in range(len(whole) - len(bare) + 1):
        if whole[at : at + len(bare)] == bare:
            return whole[:at], whole[at + len(bare) :]
    return [], []
