"""Frames: what goes in comes out, however the bytes are cut."""

from __future__ import annotations

import struct

import msgspec
import pytest

from jarvis_core.host.protocol import (
    FrameChannel,
    HostPlan,
    converter,
    encode,
    pack_delta,
    unpack_delta,
)
from jarvis_core.structs import (
    Capabilities,
    ChatRequest,
    Constraint,
    Delta,
    MediaPart,
    Message,
    ModelInfo,
    SamplingParams,
    TextPart,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    Usage,
)

REQUEST = ChatRequest(
    model="m",
    messages=(
        Message(role="system", content="be brief"),
        Message(
            role="user", content=(TextPart(text="look"), MediaPart(kind="image", url="data:,"))
        ),
        Message(role="assistant", tool_calls=(ToolCall(id="1", name="f", arguments="{}"),)),
        Message(role="tool", tool_call_id="1", content=()),
    ),
    tools=(Tool(spec={"type": "function", "function": {"name": "f", "x": [1, None, 2.5]}}),),
    tool_choice=ToolChoice(mode="named", name="f"),
    sampling=SamplingParams(logit_bias={7: -1.5}, stop=("\n",), extra={"mirostat": 2}),
    constraint=Constraint(kind="regex", value="a+"),
    template_kwargs={"enable_thinking": False},
)

INFO = ModelInfo(
    name="m",
    source="s",
    engine="e",
    context_length=9,
    capabilities=Capabilities(parameters=frozenset({"seed", "n"})),
    control_tokens=("<s>",),
)

DELTAS = [
    Delta(content="plain"),
    Delta(content="second answer", index=1),
    Delta(reasoning="hm"),
    Delta(
        prompt_logprobs=(None, TokenLogprob(token_id=1, token="a", logprob=-0.5, data=b"a")),
    ),
    Delta(tool_calls=(ToolCallDelta(index=0, id="c", name="f", arguments="{"),)),
    Delta(
        finish_reason="stop",
        stop_string="END",
        usage=Usage(prompt_tokens=1, completion_tokens=4, cached_tokens=3, reasoning_tokens=2),
        logprobs=(
            TokenLogprob(
                token_id=1,
                token="�",
                logprob=-0.5,
                data=b"\xf0",
                top=(TokenLogprob(token_id=2, token="b", logprob=-1.5, data=b"b"),),
            ),
        ),
    ),
]


@pytest.mark.parametrize(
    ("cls", "value"),
    [
        (ChatRequest, REQUEST),
        (ModelInfo, INFO),
        (HostPlan, HostPlan(name="m", source="s", engine="e", settings={"a": [1, "x"]})),
    ],
)
def test_structs_survive_the_wire(cls: type, value: object) -> None:
    packed = msgspec.msgpack.encode(converter.unstructure(value))
    assert converter.structure(msgspec.msgpack.decode(packed), cls) == value


@pytest.mark.parametrize("delta", DELTAS)
def test_deltas_survive_the_wire(delta: Delta) -> None:
    packed = msgspec.msgpack.decode(msgspec.msgpack.encode(pack_delta(3, delta)))
    assert packed[0] == 3
    assert unpack_delta(packed) == delta


def test_plain_text_packs_into_two_items() -> None:
    assert pack_delta(3, Delta(content="hi")) == [3, "hi"]


@pytest.mark.parametrize("step", [1, 3, 7, 10_000])
def test_frames_survive_any_cut_of_the_bytes(step: int) -> None:
    frames = [["ping"], ["deltas", [[1, "é" * 300]]], ["cancel", 5]]
    data = b"".join(map(encode, frames))
    got: list[list[object]] = []
    channel = FrameChannel(got.append, lambda: None)
    for start in range(0, len(data), step):
        channel.data_received(data[start : start + step])
    assert got == frames


def test_a_length_beyond_reason_is_refused_before_it_is_buffered() -> None:
    channel = FrameChannel(lambda frame: None, lambda: None)
    with pytest.raises(ValueError, match="over the limit"):
        channel.data_received(struct.pack(">I", 2**31))
