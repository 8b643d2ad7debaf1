"""What a server may ask of an engine host: streams of deltas, and calls with one result."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from jarvis_core.errors import UnsupportedParameter
from jarvis_core.structs import (
    ChatRequest,
    CompletionRequest,
    Constraint,
    ModelInfo,
    TextOrTokens,
)


@frozen(kw_only=True)
class EmbedRequest:
    """Texts to turn into vectors.

    Attributes:
        inputs: Texts or token ids.
        dimensions: Numbers kept of each vector; None keeps all.
    """

    inputs: tuple[TextOrTokens, ...]
    dimensions: int | None = None


@frozen(kw_only=True)
class PackedEmbeddings:
    """Vectors as they travel.

    Attributes:
        vectors: One for each input: little-endian float32 numbers.
        prompt_tokens: Tokens of all inputs.
    """

    vectors: tuple[bytes, ...]
    prompt_tokens: int


@frozen(kw_only=True)
class RerankRequest:
    """Documents to be ordered by a query."""

    query: str
    documents: tuple[str, ...]


@frozen(kw_only=True)
class TokenizeRequest:
    """A text to turn into token ids, control tokens included.

    Attributes:
        text: The text.
        add_special_tokens: Whether the tokenizer adds its own begin-of-sequence token.
        with_texts: Whether the text of each token is wanted too.
    """

    text: str
    add_special_tokens: bool = True
    with_texts: bool = False


@frozen(kw_only=True)
class Tokens:
    """Token ids.

    Attributes:
        ids: The ids.
        texts: The text of each, if that was wanted.
    """

    ids: tuple[int, ...]
    texts: tuple[str, ...] | None = None


@frozen(kw_only=True)
class DetokenizeRequest:
    """Token ids to turn into text."""

    ids: tuple[int, ...]


@frozen(kw_only=True)
class Detokenized:
    """The text of token ids."""

    text: str


@frozen(kw_only=True)
class RenderRequest:
    """A chat of which the prompt is wanted, not the answer.

    Attributes:
        chat: The chat.
        with_texts: Whether the text of each token is wanted too.
    """

    chat: ChatRequest
    with_texts: bool = False


@frozen(kw_only=True)
class Rendered:
    """What a chat would send to the engine.

    Attributes:
        text: The prompt; media are left out.
        tokens: Its tokens.
        stop: Stop strings, the client's and the format's.
        starts_in_reasoning: Whether the answer begins inside a reasoning block.
        constraint: What the answer would have to obey.
    """

    text: str
    tokens: Tokens
    stop: tuple[str, ...]
    starts_in_reasoning: bool
    constraint: Constraint | None


@frozen(kw_only=True)
class ResetPrefixCache:
    """Forget every cached prefix."""


@frozen(kw_only=True)
class SleepRequest:
    """Give memory back; see ``Sleeper``."""

    level: int = 1


@frozen(kw_only=True)
class WakeRequest:
    """Be ready again after ``SleepRequest``."""


@frozen(kw_only=True)
class Done:
    """The result of a call that has none."""


Operation = ResetPrefixCache | SleepRequest | WakeRequest
"""What operators ask, not clients."""

StreamRequest = ChatRequest | CompletionRequest
CallRequest = (
    EmbedRequest | RerankRequest | TokenizeRequest | DetokenizeRequest | RenderRequest | Operation
)
HostRequest = StreamRequest | CallRequest

REQUESTS: Mapping[str, type] = {
    "chat": ChatRequest,
    "completion": CompletionRequest,
    "embed": EmbedRequest,
    "rerank": RerankRequest,
    "tokenize": TokenizeRequest,
    "detokenize": DetokenizeRequest,
    "render": RenderRequest,
    "reset_prefix_cache": ResetPrefixCache,
    "sleep": SleepRequest,
    "wake": WakeRequest,
}
"""What a request is called in frames."""

KINDS: Mapping[type, str] = {request: kind for kind, request in REQUESTS.items()}

TASKS: Mapping[type, str] = {
    ChatRequest: "generate",
    CompletionRequest: "generate",
    EmbedRequest: "embed",
    RerankRequest: "rerank",
    ResetPrefixCache: "prefix_cache_reset",
    SleepRequest: "sleep",
    WakeRequest: "sleep",
}
"""What a model must be able to do for a request; what is not here every model can."""


COMPUTED = (EmbedRequest, RerankRequest)
"""Calls that the model itself computes."""


def check_task(request: HostRequest, model: ModelInfo) -> None:
    """Refuse a request for something that the model cannot do at all.

    Raises:
        UnsupportedParameter: It names model, engine and task.
    """
    task = TASKS.get(type(request))
    if task is not None and task not in model.capabilities.tasks:
        raise UnsupportedParameter(
            f"model {model.name!r} on engine {model.engine!r} does not {task.replace('_', ' ')}; "
            f"it does: {', '.join(sorted(model.capabilities.tasks))}",
            param="model",
        )
