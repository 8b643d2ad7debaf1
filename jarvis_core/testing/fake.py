"""A fake engine and a fake chat format: a whole model without weights, with faults on demand.

The engine repeats what the user said. Directives in the user's text make it do more:

======================  ==============================================================
``!words=N``            say N words instead
``!pid``                say the process id of the engine host
``!delay=S``            wait S seconds before each word
``!wait=S``             wait S seconds before the first word, after accepting
``!refuse``             raise RequestError instead of accepting
``!error=N``            raise EngineError after N words
``!bug=N``              raise RuntimeError after N words
``!block=N``            block the event loop for good after N words, as a hung backend does
``!die=N``              end the process with SIGKILL after N words
``!abort=N``            end the process as an assertion in C does, after N words
======================  ==============================================================

``FakeSettings`` has the faults of loading. As a module this is a plugin:
``JARVIS_PLUGINS=jarvis_core.testing.fake``.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from pathlib import Path

from attrs import field, frozen

from jarvis_core.errors import (
    ContextLengthExceeded,
    EngineError,
    InsufficientMemory,
    ModelSourceError,
    RequestError,
)
from jarvis_core.hookspecs import hookimpl
from jarvis_core.interfaces import ChatFormat, DeltaParser, Engine, EngineType
from jarvis_core.rendering import PromptBuilder, text_of
from jarvis_core.settings import setting
from jarvis_core.stopping import StopStrings
from jarvis_core.structs import (
    Capabilities,
    ChatRequest,
    Constraint,
    Delta,
    EngineOutput,
    EngineStats,
    FormatContext,
    GenerationRequest,
    ModelInfo,
    ModelSpec,
    Prompt,
    SegmentKind,
    ToolCallDelta,
    Usage,
)

_WORD = re.compile(r"\s*\S+|\s+")
_DIRECTIVE = re.compile(r"!(words|pid|delay|wait|refuse|error|bug|block|die|abort)(?:=([\d.]+))?")

CAPABILITIES = Capabilities(
    parameters=frozenset(
        {"temperature", "top_p", "max_tokens", "min_tokens", "stop", "seed", "n", "ignore_eos"}
    )
)


@frozen(kw_only=True)
class FakeSettings:
    """Settings of the fake engine."""

    context_length: int = setting(default=4096, ge=1, help="Tokens that fit in one request.")
    load_delay: float = setting(default=0.0, ge=0, help="Seconds that loading takes.")
    load_fault: str = setting(
        default="",
        choices=("", "missing", "memory", "bug", "die"),
        help="What goes wrong at loading.",
    )
    fault_file: str = setting(default="", help="The fault happens only while this file exists.")


class FakeEngine:
    """Repeats the user's words; see the module for its directives.

    Attributes:
        aborted: Requests that were closed before their end.
    """

    def __init__(self, model: ModelSpec, settings: FakeSettings | None = None) -> None:
        settings = settings or FakeSettings()
        self._info = ModelInfo(
            name=model.name,
            source=model.source,
            engine="fake",
            context_length=model.context_length or settings.context_length,
            capabilities=CAPABILITIES,
            backend="fake 1",
            eos_token="<|end|>",
            control_tokens=("<|turn|>", "<|end|>"),
            vocab_size=1 << 20,
        )
        self._ids: dict[str, int] = {}
        self._words: list[str] = []
        self._running = 0
        self._prompt_tokens = 0
        self._generation_tokens = 0
        self.aborted = 0

    @property
    def info(self) -> ModelInfo:
        """The fake model."""
        return self._info

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        """Say the user's last words, or what the directives in them ask for."""
        prompt_ids = await self.tokenize(request.prompt)
        script = _Script.read(request.prompt, await self.detokenize(prompt_ids))
        if script.refuse:
            raise RequestError("the fake engine was asked to refuse", param="messages")
        room = self._info.context_length - len(prompt_ids)
        wanted = request.sampling.max_tokens
        if room < 1 or (wanted is not None and wanted > room):
            raise ContextLengthExceeded(
                f"{len(prompt_ids)} prompt tokens and {wanted or 1} more do not fit: "
                f"the context length is {self._info.context_length}",
                param="messages",
            )
        self._running += 1
        self._prompt_tokens += len(prompt_ids)
        finished = False
        try:
            yield EngineOutput(prompt_tokens=len(prompt_ids))
            await asyncio.sleep(script.wait)
            completion_tokens = 0
            for index in range(request.n):
                async for output in self._say(request, script, index, min(wanted or room, room)):
                    completion_tokens += len(output.token_ids)
                    if output.finish_reason is None or index < request.n - 1:
                        yield output
                        continue
                    finished = True
                    usage = Usage(
                        prompt_tokens=len(prompt_ids), completion_tokens=completion_tokens
                    )
                    yield EngineOutput(
                        index=index,
                        text=output.text,
                        token_ids=output.token_ids,
                        finish_reason=output.finish_reason,
                        usage=usage,
                    )
        finally:
            self._running -= 1
            self.aborted += not finished

    async def _say(
        self, request: GenerationRequest, script: _Script, index: int, most: int
    ) -> AsyncGenerator[EngineOutput, None]:
        stops = StopStrings(request.sampling.stop)
        said = 0
        for word in script.words:
            if said == most:
                yield EngineOutput(index=index, text=stops.finish(), finish_reason="length")
                return
            await asyncio.sleep(script.delay)
            script.fault(said)
            said += 1
            self._generation_tokens += 1
            text, hit = stops.feed(word)
            ids = (self._id(word),)
            if hit:
                yield EngineOutput(index=index, text=text, token_ids=ids, finish_reason="stop")
                return
            yield EngineOutput(index=index, text=text, token_ids=ids)
        script.fault(said)
        yield EngineOutput(index=index, text=stops.finish(), finish_reason="stop")

    async def tokenize(self, prompt: Prompt) -> list[int]:
        """One id for each word, given out in the order in which words are first seen."""
        if prompt.token_ids is not None:
            await self.detokenize(prompt.token_ids)
            return list(prompt.token_ids)
        return [self._id(word) for word in _WORD.findall(prompt.text)]

    async def detokenize(self, token_ids: Sequence[int]) -> str:
        """The words behind ids that were given out before."""
        if unknown := [i for i in token_ids if not 0 <= i < len(self._words)]:
            raise RequestError(f"token id {unknown[0]} is not in the vocabulary", param="tokens")
        return "".join(self._words[i] for i in token_ids)

    def _id(self, word: str) -> int:
        if word not in self._ids:
            self._ids[word] = len(self._words)
            self._words.append(word)
        return self._ids[word]

    def stats(self) -> EngineStats:
        """Counters of the fake."""
        return EngineStats(
            running=self._running,
            kv_total=self._info.context_length,
            prompt_tokens=self._prompt_tokens,
            generation_tokens=self._generation_tokens,
        )

    async def aclose(self) -> None:
        """Nothing to give back."""


@frozen(kw_only=True)
class _Script:
    """What one request is to do."""

    words: tuple[str, ...]
    delay: float = 0.0
    wait: float = 0.0
    refuse: bool = False
    faults: dict[str, int] = field(factory=dict)

    @classmethod
    def read(cls, prompt: Prompt, whole: str) -> _Script:
        said = [s.text for s in prompt.segments if s.kind is SegmentKind.CONTENT]
        text = said[-1] if said else whole
        found = dict(_DIRECTIVE.findall(text))
        words = tuple(_WORD.findall(text))
        if "pid" in found:
            words = (str(os.getpid()),)
        if "words" in found:
            words = tuple(f" word{i}" for i in range(int(found["words"])))
        return cls(
            words=words,
            delay=float(found.get("delay") or 0),
            wait=float(found.get("wait") or 0),
            refuse="refuse" in found,
            faults={
                k: int(v or 0)
                for k, v in found.items()
                if k in ("error", "bug", "block", "die", "abort")
            },
        )

    def fault(self, said: int) -> None:
        due = {name for name, at in self.faults.items() if at == said}
        if "error" in due:
            raise EngineError("the fake engine was asked to fail")
        if "bug" in due:
            raise RuntimeError("the fake engine has a bug")
        if "block" in due:
            time.sleep(3600)
        if "die" in due:
            os.kill(os.getpid(), signal.SIGKILL)
        if "abort" in due:
            print("fake.cpp:1: ASSERT(fake) failed", file=sys.stderr, flush=True)
            os.abort()


async def load(model: ModelSpec, settings: FakeSettings) -> Engine:
    """Load nothing, slowly or wrongly as the settings ask."""
    await asyncio.sleep(settings.load_delay)
    fault = _due_fault(settings)
    if fault == "missing":
        raise ModelSourceError(f"{model.source}: no such file; set JARVIS_MODEL_NAME")
    if fault == "memory":
        raise InsufficientMemory(f"{model.source} needs 9 GB and 1 GB is free")
    if fault == "bug":
        raise RuntimeError("the fake engine cannot load")
    if fault == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return FakeEngine(model, settings)


def _due_fault(settings: FakeSettings) -> str:
    if settings.fault_file and not Path(settings.fault_file).exists():
        return ""
    return settings.load_fault


FAKE = EngineType(
    name="fake",
    env_prefix="JARVIS_FAKE_",
    load=load,
    settings=FakeSettings,
    capabilities=CAPABILITIES,
)


class FakeFormat:
    """Turns as ``<|turn|>role`` lines; a call is ``<call>{"name": …, "arguments": …}</call>``."""

    name = "fake"

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """One line for the role, then the text, then ``<|end|>``."""
        builder = PromptBuilder()
        for message in request.messages:
            builder.scaffold(f"<|turn|>{message.role}\n").content(text_of(message))
            builder.scaffold("<|end|>\n")
        return builder.scaffold("<|turn|>assistant\n").build(stop=("<|end|>",))

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        """Finds calls if tools were declared."""
        return _FakeParser() if request.tools else _Verbatim()

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        """The fake cannot force a call."""
        return None


class _Verbatim:
    def feed(self, text: str) -> Iterable[Delta]:
        return (Delta(content=text),)

    def finish(self) -> Iterable[Delta]:
        return ()


class _FakeParser:
    """Holds the text back until it is whole: simple, and so surely independent of chunking."""

    _CALL = re.compile(r"<call>(.*?)</call>", re.DOTALL)

    def __init__(self) -> None:
        self._text: list[str] = []

    def feed(self, text: str) -> Iterable[Delta]:
        self._text.append(text)
        return ()

    def finish(self) -> Iterable[Delta]:
        calls = 0
        for i, piece in enumerate(self._CALL.split("".join(self._text))):
            call = _parse_call(piece) if i % 2 else None
            if call is not None:
                name, arguments = call
                yield Delta(
                    tool_calls=(ToolCallDelta(index=calls, name=name, arguments=arguments),)
                )
                calls += 1
            elif piece:
                yield Delta(content=f"<call>{piece}</call>" if i % 2 else piece)


def _parse_call(text: str) -> tuple[str, str] | None:
    try:
        call = json.loads(text)
        return str(call["name"]), json.dumps(call["arguments"])
    except (ValueError, KeyError, TypeError):
        return None


@hookimpl
def jarvis_register_engines() -> Iterable[EngineType]:
    """The fake engine."""
    return [FAKE]


@hookimpl
def jarvis_register_chat_formats() -> Iterable[ChatFormat]:
    """The fake format."""
    return [FakeFormat()]


@hookimpl
def jarvis_detect_chat_format(model: ModelInfo) -> str | None:
    """The fake format for the fake engine."""
    return "fake" if model.engine == "fake" else None
