"""A typed plugin as somebody else would write it: ``mypy --strict tests/typing`` must be content.

It is checked, not run. Together with ``mistakes.py`` it shows that the public API has types that
fit and that catch what does not.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable, Sequence

from attrs import frozen

from jarvis_core import (
    Capabilities,
    ChatFormat,
    ChatRequest,
    ConfigError,
    Constraint,
    ContextLengthExceeded,
    Delta,
    DeltaParser,
    Embedder,
    Embeddings,
    Engine,
    EngineOutput,
    EngineStats,
    EngineType,
    FormatContext,
    GenerationRequest,
    ModelInfo,
    ModelSpec,
    Prompt,
    PromptBuilder,
    Usage,
    hookimpl,
    setting,
    text_of,
)


@frozen(kw_only=True)
class EchoSettings:
    """Settings of the engine."""

    repeat: int = setting(default=1, ge=1, help="Times that the prompt is said again")
    voices: tuple[str, ...] = setting(default=("calm",), help="Voices to speak with")
    token: str | None = setting(default=None, secret=True, help="Token of a service")


class EchoEngine:
    """Says the prompt again."""

    def __init__(self, model: ModelSpec, settings: EchoSettings) -> None:
        self._repeat = settings.repeat
        self._info = ModelInfo(
            name=model.name,
            source=model.source,
            engine="echo",
            architecture="echo",
            context_length=model.context_length or 4096,
            vocab_size=256,
            capabilities=Capabilities(tasks=frozenset({"generate", "embed"})),
        )

    @property
    def info(self) -> ModelInfo:
        return self._info

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        prompt = await self.tokenize(request.prompt)
        if len(prompt) > self._info.context_length:
            raise ContextLengthExceeded(f"{len(prompt)} tokens do not fit", param="messages")
        yield EngineOutput(prompt_tokens=len(prompt))
        for _ in range(self._repeat):
            yield EngineOutput(text=request.prompt.text)
        yield EngineOutput(
            finish_reason="stop", usage=Usage(prompt_tokens=len(prompt), completion_tokens=1)
        )

    async def tokenize(self, prompt: Prompt) -> list[int]:
        return list(prompt.text.encode())

    async def detokenize(self, token_ids: Sequence[int]) -> str:
        return bytes(token_ids).decode(errors="replace")

    def stats(self) -> EngineStats:
        return EngineStats()

    async def embed(self, prompts: Sequence[Prompt]) -> Embeddings:
        return Embeddings(vectors=tuple((1.0,) for _ in prompts), prompt_tokens=len(prompts))

    async def aclose(self) -> None:
        return None


async def load(model: ModelSpec, settings: EchoSettings) -> Engine:
    if not model.source:
        raise ConfigError("the echo needs something to say")
    return EchoEngine(model, settings)


ECHO = EngineType(name="echo", env_prefix="JARVIS_ECHO_", load=load, settings=EchoSettings)


class Plain:
    """Text comes back as content."""

    def feed(self, text: str) -> Iterable[Delta]:
        yield Delta(content=text)

    def finish(self) -> Iterable[Delta]:
        return ()


class ShoutFormat:
    """One line for each message."""

    name = "shout"

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        builder = PromptBuilder()
        for message in request.messages:
            builder.scaffold(f"{message.role.upper()}: ").content(text_of(message)).scaffold("\n")
        return builder.build(stop=("\n",))

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        return Plain()

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        if not request.tools:
            return None
        return Constraint(kind="json_schema", value=json.dumps(request.tools[0].parameters))


@hookimpl
def jarvis_register_engines() -> Iterable[EngineType]:
    return [ECHO]


@hookimpl
def jarvis_register_chat_formats() -> Iterable[ChatFormat]:
    return [ShoutFormat()]


@hookimpl
def jarvis_detect_chat_format(model: ModelInfo) -> str | None:
    return "shout" if model.architecture == "echo" else None


def embedder_of(engine: EchoEngine) -> Embedder:
    return engine


def narrowed(engine: Engine) -> Embedder | None:
    return engine if isinstance(engine, Embedder) else None
