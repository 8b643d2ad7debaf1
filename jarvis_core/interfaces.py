"""What a plugin implements: ``Engine`` behind an ``EngineType``, ``ChatFormat``, ``DeltaParser``.

All but ``EngineType`` are protocols: a plugin's classes need no base class.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from attrs import frozen

from jarvis_core.structs import (
    Capabilities,
    ChatRequest,
    Constraint,
    Delta,
    Embeddings,
    EngineOutput,
    EngineStats,
    FormatContext,
    GenerationRequest,
    ModelInfo,
    ModelSpec,
    Prompt,
    Ranking,
)


class Engine(Protocol):
    """A loaded model that continues prompts. It lives in the engine host, on one event loop."""

    @property
    def info(self) -> ModelInfo:
        """The loaded model; its capabilities are the truth for this model."""
        ...

    def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        """Continue a prompt.

        The first output accepts the request: it has ``prompt_tokens`` and no text. The last
        output of each index has a ``finish_reason``; the very last has the ``usage``. Concurrent
        calls are allowed. Closing the generator aborts within one step of the backend.

        Raises:
            ContextLengthExceeded: Before the first output.
            RequestError: Before the first output, for all else that the client got wrong.
            EngineError: At any time.
        """
        ...

    async def tokenize(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt, exactly those that ``generate`` would use."""
        ...

    async def detokenize(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens visible.

        Raises:
            RequestError: An id is not in the vocabulary.
        """
        ...

    def stats(self) -> EngineStats:
        """Gauges and counters; must not block. Asked for at least once a second.

        Raises:
            EngineDied: The backend is dead or hangs: the host ends and is replaced.
        """
        ...

    async def aclose(self) -> None:
        """Abort what runs and give everything back."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """An engine whose capabilities name the task ``embed``."""

    async def embed(self, prompts: Sequence[Prompt]) -> Embeddings:
        """One normalized vector for each prompt, and the tokens of all of them.

        Concurrent calls are allowed; cancelling one ends its work.

        Raises:
            ContextLengthExceeded: A prompt is too long; nothing is cut.
            RequestError: For all else that the client got wrong.
            EngineError: The engine failed.
        """
        ...


@runtime_checkable
class Reranker(Protocol):
    """An engine whose capabilities name the task ``rerank``."""

    async def rerank(self, query: str, documents: Sequence[str]) -> Ranking:
        """One score for each document, higher is closer, and the tokens of all pairs.

        Concurrent calls are allowed; cancelling one ends its work.

        Raises:
            ContextLengthExceeded: A pair of query and document is too long; nothing is cut.
            EngineError: The engine failed.
        """
        ...


@runtime_checkable
class Sleeper(Protocol):
    """An engine whose capabilities name the task ``sleep``.

    One that fails to sleep or to wake is ended with its host, and loaded anew.
    """

    async def sleep(self, level: int) -> None:
        """Give memory back; level 1 keeps the weights in host RAM, 2 drops them.

        Nothing runs when it is called, and nothing but ``stats``, ``wake`` and ``aclose`` is
        called before it is awake again.

        Raises:
            RequestError: It cannot sleep so; nothing has changed.
            EngineError: It failed.
        """
        ...

    async def wake(self) -> None:
        """Be ready again, with the weights that it had; cached prefixes may be forgotten.

        Raises:
            EngineError: It failed.
        """
        ...


@runtime_checkable
class PrefixCache(Protocol):
    """An engine whose capabilities name the task ``prefix_cache_reset``."""

    async def reset(self) -> None:
        """Forget every cached prefix; requests that run go on.

        Raises:
            EngineError: It failed.
        """
        ...


@frozen(kw_only=True)
class EngineType:
    """What an engine plugin registers. Making one must not import the backend.

    Attributes:
        name: As operators write it in ``JARVIS_INFERENCE_ENGINE``: lower case, underscores.
        env_prefix: Prefix of the environment variables of its settings, ``JARVIS_LLAMACPP_``.
        load: Awaited in the engine host with a ``ModelSpec`` and an instance of ``settings``;
            returns the engine when it is ready. Only here is the backend imported. It raises
            ``ModelSourceError`` for weights that cannot be loaded, ``InsufficientMemory`` for
            weights that do not fit, another ``ConfigError`` for settings that cannot be.
        settings: The attrs class of its settings, fields made with ``jarvis_core.setting``.
        capabilities: Upper bound of what its models can do.
        weights: Patterns of the files it needs from a hub repository, as ``("*.gguf",)``; one
            that begins with ``!`` names files that it does not need although others match.
            Empty: it takes hub ids itself, and ``ModelSpec.path`` is the source.

    Example::

        async def load(model: ModelSpec, settings: EchoSettings) -> Engine:
            from jarvis_echo.engine import EchoEngine  # the backend is imported here, not above
            return EchoEngine(model, settings)

        ECHO = EngineType(name="echo", env_prefix="JARVIS_ECHO_", load=load, settings=EchoSettings)
    """

    name: str
    env_prefix: str
    load: Callable[[ModelSpec, Any], Awaitable[Engine]]
    settings: type
    capabilities: Capabilities = Capabilities()
    weights: tuple[str, ...] = ()


class DeltaParser(Protocol):
    """Turns the raw text of one answer into deltas.

    Where the text is cut into chunks carries no meaning: every chunking gives the same content,
    reasoning and calls. No text is ever lost: what cannot be parsed comes back as content.
    """

    def feed(self, text: str) -> Iterable[Delta]:
        """Deltas that are certain now that ``text`` has come."""
        ...

    def finish(self) -> Iterable[Delta]:
        """What was held back. Called once, after the last ``feed``."""
        ...


class ChatFormat(Protocol):
    """Render and parse for one family of models. Pure: no I/O, no weights, no global state.

    It may have ``aliases``, a tuple of other names that operators may write. A name is found in any
    spelling without that: case, ``-``, ``_`` and ``.`` make no difference.

    It may have a method ``answer_syntax(request, context, prompt) -> AnswerSyntax``, which says how
    its model thinks and calls. Without it a constraint governs an answer from its first character
    on, and strict tools and ``parallel_tool_calls: false`` are refused unless a call is forced.

    It may have a method ``retold(request, context) -> Iterable[ChatRequest]``, which tells a
    conversation that ``render`` refuses in other ways, the best first: the core renders the first
    one that it does not refuse. ``text_before_calls`` and ``call_by_call`` of the core make such.

    It may have a method ``media(model: ModelInfo) -> Collection[str]``: the kinds of ``MediaPart``
    that it has a place for in the prompts of that model. Without it there are none, and requests
    that hold some are refused before ``render``.

    Attributes:
        name: As operators write it in ``JARVIS_MODEL_CHAT_FORMAT``.
    """

    @property
    def name(self) -> str:
        """As operators write it in ``JARVIS_MODEL_CHAT_FORMAT``."""
        ...

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """The prompt, byte for byte as the publisher's template prints it.

        Raises:
            RequestError: The conversation is not one that the publisher's template allows.
        """
        ...

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        """A fresh parser for one answer."""
        ...

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        """The constraint that makes the model answer with the forced call in its own syntax.

        Called when ``request.tool_choice.forced``. None: this format cannot force a call, and the
        core answers 400.
        """
        ...
