"""One chat, in process: render, generate, parse, fold."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Literal

import pytest
from attrs import evolve

from jarvis_core.chat import Accepted, fold, stream_chat
from jarvis_core.errors import ContextLengthExceeded, EngineError, UnsupportedParameter
from jarvis_core.structs import (
    Capabilities,
    ChatRequest,
    Completion,
    Constraint,
    Delta,
    EngineOutput,
    FinishReason,
    FormatContext,
    GenerationRequest,
    Message,
    ModelSpec,
    Prompt,
    SamplingParams,
    TokenLogprob,
    Tool,
    ToolCallDelta,
    ToolChoice,
    Usage,
)
from jarvis_core.testing import FakeEngine, FakeFormat

pytestmark = pytest.mark.anyio

SPEC = ModelSpec(name="m", source="s", path="s")
CONTEXT = FormatContext(model=FakeEngine(SPEC).info, now=datetime(2025, 1, 2))
TOOL = Tool(spec={"type": "function", "function": {"name": "f"}})


def request(text: str = "hi", **fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=(Message(role="user", content=text),), **fields)


class Scripted(FakeEngine):
    """Gives the outputs it was made with, and keeps the request."""

    def __init__(self, *outputs: EngineOutput, constraints: Sequence[str] = ()) -> None:
        super().__init__(ModelSpec(name="m", source="s", path="s"))
        capabilities = Capabilities(constraints=frozenset(constraints))
        self._info = evolve(self._info, capabilities=capabilities)
        self._outputs = outputs
        self.request: GenerationRequest | None = None

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        self.request = request
        for output in self._outputs:
            yield output


async def deltas(engine: FakeEngine, asked: ChatRequest, **kwargs: Any) -> list[Delta | Accepted]:
    answer = stream_chat(
        asked, engine=engine, request_id="r", **({"chat_format": FakeFormat()} | kwargs)
    )
    async with aclosing(answer):
        return [item async for item in answer]


async def complete(engine: FakeEngine, asked: ChatRequest, **kwargs: Any) -> Completion:
    items = await deltas(engine, asked, **kwargs)
    assert isinstance(items[0], Accepted)
    return fold(item for item in items if isinstance(item, Delta))


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(ModelSpec(name="m", source="s", path="s"))


async def test_acceptance_comes_first_and_usage_on_the_very_last(engine: FakeEngine) -> None:
    items = await deltas(engine, request("one two", n=2))
    assert isinstance(items[0], Accepted)
    assert items[0].prompt_tokens > 2
    finished = [d for d in items[1:] if isinstance(d, Delta) and d.finish_reason]
    assert [d.index for d in finished] == [0, 1]
    assert [d.usage for d in items[1:] if isinstance(d, Delta) and d.usage] == [items[-1].usage]  # type: ignore[union-attr]


async def test_each_of_n_answers_is_folded_apart(engine: FakeEngine) -> None:
    completion = await complete(engine, request("one two", n=3))
    assert [a.content for a in completion.answers] == ["one two"] * 3
    assert completion.usage.completion_tokens == 6


async def test_max_tokens_ends_with_length(engine: FakeEngine) -> None:
    completion = await complete(engine, request("a b c", sampling=SamplingParams(max_tokens=2)))
    assert (completion.answers[0].content, completion.answers[0].finish_reason) == ("a b", "length")


async def test_stop_strings_of_format_and_client_both_reach_the_engine() -> None:
    scripted = Scripted(
        EngineOutput(prompt_tokens=1),
        EngineOutput(finish_reason="stop", usage=Usage(prompt_tokens=1, completion_tokens=0)),
    )
    await complete(scripted, request(sampling=SamplingParams(stop=("x", "<|end|>"))))
    assert scripted.request is not None
    assert scripted.request.sampling.stop == ("x", "<|end|>")


async def test_ignore_eos_leaves_the_stop_strings_of_the_client_alone() -> None:
    scripted = Scripted(
        EngineOutput(prompt_tokens=1),
        EngineOutput(finish_reason="stop", usage=Usage(prompt_tokens=1, completion_tokens=0)),
    )
    await complete(scripted, request(sampling=SamplingParams(stop=("x",), ignore_eos=True)))
    assert scripted.request is not None
    assert scripted.request.sampling.stop == ("x",)


async def test_tool_call_gets_an_id_and_the_finish_reason_of_calls(engine: FakeEngine) -> None:
    text = 'well <call>{"name": "f", "arguments": {"a": 1}}</call>'
    answer = (await complete(engine, request(text, tools=(TOOL,)))).answers[0]
    (call,) = answer.tool_calls
    assert (call.name, call.arguments) == ("f", '{"a": 1}')
    assert call.id.startswith("call_")
    assert (answer.content, answer.finish_reason) == ("well ", "tool_calls")


def calling(*pieces: ToolCallDelta) -> FakeFormat:
    """A format whose parser finds these pieces of calls in an answer."""

    class Calls:
        def feed(self, text: str) -> Iterable[Delta]:
            return [Delta(tool_calls=(piece,)) for piece in pieces]

        def finish(self) -> Iterable[Delta]:
            return []

    class Format(FakeFormat):
        def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> Calls:
            return Calls()

    return Format()


@pytest.mark.parametrize(
    ("ended", "arguments", "told"),
    [
        ("length", ("",), "length"),
        ("length", ("{}",), "length"),
        ("stop", ('{"a"', ":1}"), "tool_calls"),
        ("stop", ('{"a"', ":1"), "stop"),  # a stop string has cut it
        ("stop", ("",), "stop"),
    ],
)
async def test_the_finish_reason_says_whether_a_call_is_whole(
    ended: FinishReason, arguments: tuple[str, ...], told: FinishReason
) -> None:
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    scripted = Scripted(
        EngineOutput(prompt_tokens=1), EngineOutput(text="x", finish_reason=ended, usage=usage)
    )
    first = ToolCallDelta(index=0, id="own", name="f")
    pieces = [ToolCallDelta(index=0, arguments=text) for text in arguments]
    found = await complete(scripted, request(tools=(TOOL,)), chat_format=calling(first, *pieces))
    (answer,) = found.answers
    assert (answer.finish_reason, answer.tool_calls[0].id) == (told, "own")
    assert answer.tool_calls[0].arguments == "".join(arguments)


async def test_a_whole_call_before_one_that_was_cut_does_not_make_the_answer_whole() -> None:
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    scripted = Scripted(
        EngineOutput(prompt_tokens=1), EngineOutput(text="x", finish_reason="stop", usage=usage)
    )
    pieces = [
        ToolCallDelta(index=index, name="f", arguments=text)
        for index, text in enumerate(("{}", "{"))
    ]
    found = await complete(scripted, request(tools=(TOOL,)), chat_format=calling(*pieces))
    assert found.answers[0].finish_reason == "stop"


@pytest.mark.parametrize(
    "pieces",
    [
        [ToolCallDelta(index=0, arguments="{}")],
        [ToolCallDelta(index=0, name="")],
        [ToolCallDelta(index=1, name="f")],
        [ToolCallDelta(index=0, name="f"), ToolCallDelta(index=0, name="f")],
        [ToolCallDelta(index=0, name="f"), ToolCallDelta(index=1, arguments="{}")],
        [*(ToolCallDelta(index=i, name="f") for i in range(2)), ToolCallDelta(index=0)],
    ],
)
async def test_a_parser_that_mixes_calls_up_is_an_error_that_shows_the_piece(
    pieces: list[ToolCallDelta],
) -> None:
    with pytest.raises(EngineError, match="sent ToolCallDelta.*numbered in order from 0"):
        await complete(FakeEngine(SPEC), request("one"), chat_format=calling(*pieces))


async def test_a_format_that_renders_no_prompt_is_named() -> None:
    class RendersText(FakeFormat):
        def render(self, request: ChatRequest, context: FormatContext) -> Any:
            return "one"

    with pytest.raises(EngineError, match="format 'fake' rendered str, not a Prompt"):
        await complete(FakeEngine(SPEC), request("one"), chat_format=RendersText())


async def test_logprobs_travel_with_the_delta_that_carries_their_text() -> None:
    def logprob(i: int) -> TokenLogprob:
        return TokenLogprob(token_id=i, token=str(i), logprob=-1.0, data=b"")

    usage = Usage(prompt_tokens=1, completion_tokens=3)
    scripted = Scripted(
        EngineOutput(prompt_tokens=1),
        EngineOutput(text="", logprobs=(logprob(1),)),
        EngineOutput(text="ab", logprobs=(logprob(2),)),
        EngineOutput(text="", logprobs=(logprob(3),), finish_reason="stop", usage=usage),
    )
    items = await deltas(scripted, request(logprobs=0))
    got = [[p.token_id for p in d.logprobs] for d in items if isinstance(d, Delta)]
    assert got == [[1, 2], [3]]


async def test_tokens_of_reasoning_are_counted_with_those_that_mark_it() -> None:
    class Thinks:
        """Holds marks back: ``<`` begins reasoning, ``>`` ends it."""

        thinking = False

        def feed(self, text: str) -> Iterable[Delta]:
            if text in "<>":
                self.thinking = text == "<"
                return []
            return [Delta(reasoning=text) if self.thinking else Delta(content=text)]

        def finish(self) -> Iterable[Delta]:
            return []

    class Format(FakeFormat):
        def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> Thinks:
            return Thinks()

    usage = Usage(prompt_tokens=1, completion_tokens=20, cached_tokens=1)
    outputs = [
        EngineOutput(index=index, text=text, token_ids=(7,) * tokens)
        for index in range(2)
        for text, tokens in (("<", 1), ("hm", 2), ("so", 1), (">", 1), ("yes", 4))
    ]
    ends = [
        EngineOutput(index=0, finish_reason="stop"),
        EngineOutput(index=1, token_ids=(7, 7), finish_reason="stop", usage=usage),
    ]
    scripted = Scripted(EngineOutput(prompt_tokens=1), *outputs, *ends)
    whole = await complete(scripted, request(n=2), chat_format=Format())
    assert whole.usage == evolve(usage, reasoning_tokens=8)


class Plain(FakeFormat):
    """It prints no tools."""

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        return super().render(evolve(request, tools=()), context)


@pytest.mark.parametrize("mode", ["auto", "required"])
async def test_tools_that_the_model_is_not_told_of_and_cannot_call_are_refused(
    engine: FakeEngine, mode: Literal["auto", "required"]
) -> None:
    asked = request(tools=(TOOL,), tool_choice=ToolChoice(mode=mode))
    with pytest.raises(UnsupportedParameter, match="has no place for them") as raised:
        await deltas(engine, asked, chat_format=Plain())
    assert raised.value.param == "tools"


async def test_tools_that_must_not_be_called_need_no_place(engine: FakeEngine) -> None:
    asked = request(tools=(TOOL,), tool_choice=ToolChoice(mode="none"))
    assert await deltas(engine, asked, chat_format=Plain())


async def test_forced_choice_is_refused_where_the_format_cannot_write_it(
    engine: FakeEngine,
) -> None:
    forced = request(tools=(TOOL,), tool_choice=ToolChoice(mode="required"))
    with pytest.raises(UnsupportedParameter, match="'fake' cannot force a tool call") as raised:
        await deltas(engine, forced)
    assert raised.value.param == "tool_choice"


async def test_forced_choice_becomes_the_constraint_of_the_request() -> None:
    grammar = Constraint(kind="lark", value="start: /x/")

    class Format(FakeFormat):
        def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint:
            return grammar

    usage = Usage(prompt_tokens=1, completion_tokens=0)
    outputs = (EngineOutput(prompt_tokens=1), EngineOutput(finish_reason="stop", usage=usage))
    forced = request(tools=(TOOL,), tool_choice=ToolChoice(mode="required"))
    able = Scripted(*outputs, constraints=["lark"])
    await complete(able, forced, chat_format=Format())
    assert able.request is not None
    assert able.request.constraint == grammar
    with pytest.raises(UnsupportedParameter, match="does not enforce lark"):
        await complete(Scripted(*outputs), forced, chat_format=Format())


async def test_constraint_that_the_engine_does_not_enforce_is_refused(engine: FakeEngine) -> None:
    asked = request(constraint=Constraint(kind="json_schema", value="{}"))
    with pytest.raises(UnsupportedParameter, match="does not enforce json_schema"):
        await deltas(engine, asked)


async def test_blocking_format_renders_off_the_event_loop(engine: FakeEngine) -> None:

    seen: list[threading.Thread] = []

    class Blocking(FakeFormat):
        blocking = True

        def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
            seen.append(threading.current_thread())
            return super().render(request, context)

    await complete(engine, request(), chat_format=Blocking())
    assert seen[0] is not threading.main_thread()


@pytest.mark.parametrize("able", [True, False])
async def test_blocking_format_renders_on_the_event_loop_what_it_can_at_once(
    able: bool, engine: FakeEngine
) -> None:
    seen: list[threading.Thread] = []

    class Blocking(FakeFormat):
        blocking = True

        def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
            seen.append(threading.current_thread())
            return super().render(request, context)

        def at_once(self, request: ChatRequest, context: FormatContext) -> Prompt | None:
            return self.render(request, context) if able else None

    await complete(engine, request(), chat_format=Blocking())
    assert len(seen) == 1
    assert (seen[0] is threading.main_thread()) is able


async def test_format_sees_the_model_and_the_clock(engine: FakeEngine) -> None:
    seen: list[FormatContext] = []

    class Format(FakeFormat):
        def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
            seen.append(context)
            return super().render(request, context)

    now = datetime(2025, 1, 2)
    await complete(engine, request(), chat_format=Format(), now=now)
    assert (seen[0].model.name, seen[0].now) == ("m", now)


async def test_closing_the_stream_aborts_in_the_engine(engine: FakeEngine) -> None:
    stream = stream_chat(
        request("!words=100 !delay=0.01"), engine=engine, chat_format=FakeFormat(), request_id="r"
    )
    await stream.__anext__()
    await stream.__anext__()
    await stream.aclose()
    assert (engine.aborted, engine.stats().running) == (1, 0)


async def test_engine_that_leaves_an_answer_unfinished_is_an_error() -> None:
    scripted = Scripted(EngineOutput(prompt_tokens=1), EngineOutput(text="half"))
    with pytest.raises(EngineError, match="unfinished"):
        await deltas(scripted, request())


async def test_a_bound_of_tokens_does_not_hide_that_an_answer_is_left_unfinished() -> None:
    scripted = Scripted(EngineOutput(prompt_tokens=1), EngineOutput(text="half"))
    with pytest.raises(EngineError, match="unfinished"):
        await deltas(scripted, request(default_max_tokens=3))


def test_fold_refuses_an_answer_without_an_end() -> None:
    with pytest.raises(EngineError):
        fold([Delta(content="half")])
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    with pytest.raises(EngineError, match="finish reason"):
        fold([Delta(content="half", usage=usage)])


@pytest.mark.parametrize(
    ("fields", "room", "said"),
    [
        ({"default_max_tokens": 3}, 4096, 3),
        ({"default_max_tokens": 3, "sampling": SamplingParams(max_tokens=5)}, 4096, 5),
        ({"default_max_tokens": 300}, 20, 20),
        ({}, 20, 20),
    ],
)
async def test_a_default_of_tokens_gives_way_where_there_is_no_room(
    fields: dict[str, Any], room: int, said: int
) -> None:
    words = request("!words=40", **fields)
    prompt = len(await FakeEngine(SPEC).tokenize(FakeFormat().render(words, CONTEXT)))
    answer = await complete(FakeEngine(evolve(SPEC, context_length=prompt + room)), words)

    assert answer.usage.completion_tokens == said
    assert answer.answers[0].finish_reason == "length"


async def test_a_prompt_that_leaves_no_room_is_refused_whatever_the_default_is() -> None:
    asked = request("one two three", default_max_tokens=5)
    with pytest.raises(ContextLengthExceeded):
        await complete(FakeEngine(evolve(SPEC, context_length=3)), asked)
