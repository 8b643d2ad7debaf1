"""A fake engine and a fake chat format: a whole model without weights, with faults on demand.

The engine repeats what the user said. Directives in the user's text make it do more:

======================  ==============================================================
``!words=N``            say N words instead
``!vary``               say which of the answers it is; later ones are likelier
``!adapter``            say the name of the LoRA adapter
``!pid``                say the process id of the engine host
``!media``              say the kind and the address of each part that is not text
``!delay=S``            wait S seconds before each word
``!wait=S``             wait S seconds before the first word, after accepting
``!refuse``             raise RequestError instead of accepting
``!error=N``            raise EngineError after N words
``!bug=N``              raise RuntimeError after N words
``!block=N``            block the event loop for good after N words, as a hung backend does
``!die=N``              end the process with SIGKILL after N words
``!abort=N``            end the process as an assertion in C does, after N words
``!perish=N``           wait for good after N words, and say that the backend has died
======================  ==============================================================

``FakeSettings`` has the faults of loading and of sleeping. As a module this is a plugin:
``JARVIS_PLUGINS=jarvis_core.testing.fake``.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import signal
import sys
import time
import zlib
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from jarvis_core.context_length import completion_room
from jarvis_core.errors import (
    ContextLengthExceeded,
    EngineDied,
    EngineError,
    InsufficientMemory,
    ModelSourceError,
    RequestError,
)
from jarvis_core.hookspecs import hookimpl
from jarvis_core.interfaces import ChatFormat, Engine, EngineType
from jarvis_core.settings import setting
from jarvis_core.stopping import StopStrings
from jarvis_core.structs import (
    Capabilities,
    Embeddings,
    EngineOutput,
    EngineStats,
    GenerationRequest,
    ModelInfo,
    ModelSpec,
    Prompt,
    Ranking,
    SegmentKind,
    TokenLogprob,
    Usage,
)
from jarvis_core.testing.fake_format import FakeFormat
from jarvis_core.testing.fake_places import Place, Places

_WORD = re.compile(r"\s*\S+|\s+")
_DIRECTIVE = re.compile(
    r"!(words|vary|adapter|pid|media|delay|wait|refuse|error|bug|block|die|abort|perish)(?:=([\d.]+))?"
)

CAPABILITIES = Capabilities(
    tasks=frozenset({"generate", "embed", "rerank", "sleep", "prefix_cache_reset"}),
    parameters=frozenset(
        {
            *(
                "temperature",
                "top_p",
                "max_tokens",
                "min_tokens",
                "stop",
                "seed",
                "n",
                "ignore_eos",
            ),
            *("logprobs", "prompt_logprobs", "dimensions", "share"),
        }
    ),
    gives_way=True,
)
DIMENSIONS = 8
"""Numbers in a vector of the fake engine."""


@frozen(kw_only=True)
class FakeSettings:
    """Settings of the fake engine."""

    context_length: int = setting(default=4096, ge=1, help="Tokens that fit in one request.")
    max_num_seqs: int = setting(
        default=0, ge=0, help="Requests answered at the same time, in their order; 0 is any number."
    )
    gives_way: bool = setting(
        default=True, help="Whether requests of one give way to those of another."
    )
    tasks: tuple[str, ...] = setting(
        default=tuple(sorted(CAPABILITIES.tasks)), help="What it says that it can do."
    )
    media: tuple[str, ...] = setting(
        default=(), help="Kinds of parts that are not text that it takes."
    )
    sampling: Mapping[str, Any] = setting(
        factory=dict, help="What its files recommend for sampling."
    )
    load_delay: float = setting(default=0.0, ge=0, help="Seconds that loading takes.")
    load_fault: str = setting(
        default="",
        choices=("", "missing", "memory", "bug", "exit", "die"),
        help="What goes wrong at loading.",
    )
    sleep_delay: float = setting(default=0.0, ge=0, help="Seconds that sleep and wake take.")
    sleep_fault: str = setting(
        default="",
        choices=("", "refuse", "error", "die"),
        help="What goes wrong when it is to sleep.",
    )
    wake_fault: str = setting(
        default="", choices=("", "error", "die"), help="What goes wrong when it is to wake."
    )
    fault_file: str = setting(default="", help="Faults happen only while this file exists.")


class FakeEngine:
    """Repeats the user's words; see the module for its directives.

    Attributes:
        aborted: Requests that were closed before their end.
        resets: How often the prefix cache was reset.
        asleep: The level at which it sleeps, 0 while it is awake.
    """

    def __init__(self, model: ModelSpec, settings: FakeSettings | None = None) -> None:
        self._settings = settings = settings or FakeSettings()
        self._info = ModelInfo(
            name=model.name,
            source=model.source,
            engine="fake",
            context_length=model.context_length or settings.context_length,
            capabilities=evolve(
                CAPABILITIES,
                tasks=frozenset(settings.tasks),
                gives_way=bool(settings.max_num_seqs) and settings.gives_way,
                media=frozenset(settings.media),
            ),
            adapters=tuple(model.adapters),
            backend="fake 1",
            eos_token="<|end|>",
            control_tokens=("<|turn|>", "<|end|>"),
            vocab_size=1 << 20,
            max_num_seqs=settings.max_num_seqs,
            sampling=settings.sampling,
        )
        self._places = Places(settings.max_num_seqs)
        self._ids: dict[str, int] = {}
        self._words: list[str] = []
        self._running = 0
        self._prompt_tokens = 0
        self._generation_tokens = 0
        self._perished = False
        self.aborted = 0
        self.resets = 0
        self.asleep = 0

    @property
    def info(self) -> ModelInfo:
        """The fake model."""
        return self._info

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        """Say the user's last words, or what the directives in them ask for."""
        self._check_awake()
        prompt_ids = await self.tokenize(request.prompt)
        script = _Script.read(request.prompt, await self.detokenize(prompt_ids))
        if script.refuse:
            raise RequestError("the fake engine was asked to refuse", param="messages")
        wanted = request.sampling.max_tokens or None
        most = completion_room(len(prompt_ids), wanted, self._info.context_length)
        self._running += 1
        self._prompt_tokens += len(prompt_ids)
        finished = False
        try:
            yield EngineOutput(
                prompt_tokens=len(prompt_ids),
                prompt_logprobs=self._prompt_logprobs(prompt_ids, request.prompt_logprobs),
            )
            usage = Usage(prompt_tokens=len(prompt_ids), completion_tokens=0)
            share = request.share if self._info.capabilities.gives_way else None
            async with self._places.one(share) as place:
                await asyncio.sleep(script.wait)
                for index in range(request.n):
                    async for output in self._say(request, script, index, most, place):
                        said = usage.completion_tokens + len(output.token_ids)
                        usage = evolve(usage, completion_tokens=said)
                        if output.finish_reason is None or index < request.n - 1:
                            yield output
                            continue
                        finished = True
                        yield evolve(output, usage=usage)
        finally:
            self._running -= 1
            self.aborted += not finished

    async def _say(
        self, request: GenerationRequest, script: _Script, index: int, most: int, place: Place
    ) -> AsyncGenerator[EngineOutput, None]:
        stops = StopStrings(request.sampling.stop)
        said = 0
        words = (f"answer {index}",) if script.vary else script.words
        for word in (f"{request.adapter}",) if script.adapter else words:
            if said == most:
                yield EngineOutput(index=index, text=stops.finish(), finish_reason="length")
                return
            await asyncio.sleep(script.delay)
            await place.use()
            script.fault(said)
            if script.faults.get("perish") == said:
                self._perished = True
                await asyncio.Event().wait()
            said += 1
            self._generation_tokens += 1
            text, hit = stops.feed(word)
            output = EngineOutput(
                index=index,
                text=text,
                token_ids=(self._id(word),),
                logprobs=self._logprobs(word, request.logprobs, nats=1 / (2 + index)),
            )
            if hit:
                yield evolve(output, finish_reason="stop", stop_string=hit)
                return
            yield output
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

    def _prompt_logprobs(
        self, ids: Sequence[int], top: int | None
    ) -> tuple[TokenLogprob | None, ...]:
        if top is None:
            return ()
        words = [self._words[i] for i in ids]
        return (None, *(self._logprobs(word, top, nats=0.5)[0] for word in words[1:]))

    def _logprobs(self, word: str, top: int | None, *, nats: float) -> tuple[TokenLogprob, ...]:
        """That of a word, which is always the likeliest; others are made up."""
        if top is None:
            return ()
        likeliest = [self._logprob(f"{word}~{k}" if k else word, nats + k) for k in range(top)]
        return (evolve(self._logprob(word, nats), top=tuple(likeliest)),)

    def _logprob(self, word: str, nats: float) -> TokenLogprob:
        return TokenLogprob(
            token_id=self._id(word), token=word, logprob=-nats, data=word.encode("utf-8", "replace")
        )

    async def embed(self, prompts: Sequence[Prompt]) -> Embeddings:
        """How often words of each kind occur: texts with the same words are the same."""
        found = [await self._taken(prompt) for prompt in prompts]
        return Embeddings(
            vectors=[_vector(words) for words in found],
            prompt_tokens=sum(len(words) for words in found),
        )

    async def rerank(self, query: str, documents: Sequence[str]) -> Ranking:
        """The share of the query's words that a document has."""
        wanted = set(query.split())
        scores, tokens = [], 0
        for document in documents:
            tokens += len(_WORD.findall(query)) + len(_WORD.findall(document))
            scores.append(len(wanted & set(document.split())) / max(len(wanted), 1))
        return Ranking(scores=scores, prompt_tokens=tokens)

    async def reset(self) -> None:
        """There is nothing to forget; it is counted."""
        self.resets += 1

    async def sleep(self, level: int) -> None:
        """Do nothing until it is woken; something that runs is a fault of who asks."""
        if self._running:
            raise EngineError(f"{self._running} requests run while the engine is to sleep")
        await self._shift(self._settings.sleep_fault)
        self.asleep = level

    async def wake(self) -> None:
        """Go on."""
        await self._shift(self._settings.wake_fault)
        self.asleep = 0

    async def _shift(self, fault: str) -> None:
        await asyncio.sleep(self._settings.sleep_delay)
        if not _is_due(self._settings):
            return
        if fault == "refuse":
            raise RequestError("the fake engine was asked to refuse", param="level")
        if fault == "error":
            raise EngineError("the fake engine was asked to fail")
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)

    def _check_awake(self) -> None:
        if self.asleep:
            raise EngineError("the fake engine sleeps")

    async def _taken(self, prompt: Prompt) -> list[str]:
        """The words of a text to embed, after what its directives ask for."""
        self._check_awake()
        ids = await self.tokenize(prompt)
        script = _Script.read(prompt, await self.detokenize(ids))
        if len(ids) > self._info.context_length:
            raise ContextLengthExceeded(
                f"{len(ids)} tokens do not fit: the context length is {self._info.context_length}"
            )
        self._running += 1
        try:
            await asyncio.sleep(script.wait)
            script.fault(0)
        finally:
            self._running -= 1
        return [self._words[i] for i in ids]

    def _id(self, word: str) -> int:
        if word not in self._ids:
            self._ids[word] = len(self._words)
            self._words.append(word)
        return self._ids[word]

    def stats(self) -> EngineStats:
        """Counters of the fake.

        Raises:
            EngineDied: ``!perish`` has come to its word.
        """
        if self._perished:
            raise EngineDied("the fake backend has died")
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
    vary: bool = False
    adapter: bool = False
    faults: dict[str, int] = field(factory=dict)

    @classmethod
    def read(cls, prompt: Prompt, whole: str) -> _Script:
        said = [s.text for s in prompt.segments if s.kind is SegmentKind.CONTENT]
        text = said[-1] if said else whole
        found = dict(_DIRECTIVE.findall(text))
        words = tuple(_WORD.findall(text))
        if "pid" in found:
            words = (str(os.getpid()),)
        if "media" in found:
            words = tuple(f"{part.kind} {part.url} " for part in prompt.media)
        if "words" in found:
            words = tuple(f" word{i}" for i in range(int(found["words"])))
        return cls(
            words=words,
            delay=float(found.get("delay") or 0),
            wait=float(found.get("wait") or 0),
            refuse="refuse" in found,
            vary="vary" in found,
            adapter="adapter" in found,
            faults={
                k: int(v or 0)
                for k, v in found.items()
                if k in ("error", "bug", "block", "die", "abort", "perish")
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


def _vector(words: Iterable[str]) -> list[float]:
    counts = [1e-3] * DIMENSIONS
    for word in words:
        counts[zlib.crc32(word.strip().encode("utf-8", "replace")) % DIMENSIONS] += 1.0
    length = math.hypot(*counts)
    return [count / length for count in counts]


async def load(model: ModelSpec, settings: FakeSettings) -> Engine:
    """Load nothing, slowly or wrongly as the settings ask."""
    await asyncio.sleep(settings.load_delay)
    fault = settings.load_fault if _is_due(settings) else ""
    if fault == "missing":
        raise ModelSourceError(f"{model.source}: no such file; set JARVIS_MODEL_NAME")
    if fault == "memory":
        raise InsufficientMemory(f"{model.source} needs 9 GB and 1 GB is free")
    if fault == "bug":
        raise RuntimeError("the fake engine cannot load")
    if fault == "exit":
        sys.exit(3)
    if fault == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return FakeEngine(model, settings)


def _is_due(settings: FakeSettings) -> bool:
    return not settings.fault_file or Path(settings.fault_file).exists()


FAKE = EngineType(
    name="fake",
    env_prefix="JARVIS_FAKE_",
    load=load,
    settings=FakeSettings,
    capabilities=CAPABILITIES,
)


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
