"""What a Responses request may say, what becomes of it, and what is refused by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schemas import faults, properties

from jarvis_core.errors import RequestError
from jarvis_core.http.openai.parameter_table import Treatment
from jarvis_core.http.openai.parameters import PARAMETERS
from jarvis_core.http.openai.responses.parameters import RESPONSE_PARAMETERS
from jarvis_core.http.openai.responses.request import read_call
from jarvis_core.http.openai.responses.wire import ResponseBody
from jarvis_core.settings import ServerSettings

Serve = Callable[..., Awaitable[Any]]
Make = Callable[..., Any]

TOOL = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
SCHEMA = {"type": "json_schema", "name": "s", "schema": {"type": "object"}}


BAD_TYPE = "tools[0].tools[0].parameters.type"


def namespace(*tools: Any) -> dict[str, Any]:
    return {"type": "namespace", "name": "n", "description": "N", "tools": [*tools]}


def read(**parameters: Any) -> Any:
    return read_call({"model": "tiny", "input": "x", **parameters}, ServerSettings())


def refusal(**parameters: Any) -> RequestError:
    with pytest.raises(RequestError) as refused:
        read(**parameters)
    return refused.value


def test_the_table_knows_what_the_body_takes_and_the_publications_name() -> None:
    assert set(RESPONSE_PARAMETERS) == {field.name for field in attrs.fields(ResponseBody)}
    published = properties("openai", "CreateResponse")
    published |= properties("openresponses", "CreateResponseBody")
    assert published <= set(RESPONSE_PARAMETERS)


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"input": 3}, "input"),
        ({"input": []}, "input"),
        ({"input": [3]}, "input[0]"),
        ({"input": [{}]}, "input[0].type"),
        ({"input": [{"type": "web_search_call", "id": "a"}]}, "input[0].type"),
        ({"input": [{"type": "computer_call_output"}]}, "input[0].type"),
        ({"input": [{"role": "critic", "content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "input[0].content[0].type",
        ),
        (
            {"input": [{"type": "function_call", "call_id": "c", "name": "f"}]},
            "input[0].arguments",
        ),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
        ({"input": [{"type": "item_reference"}]}, "input[0].id"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOL, {"type": "mcp", "server_label": "a"}]}, "tools[1].type"),
        ({"tools": [{"type": "computer_use_preview"}]}, "tools[0].type"),
        ({"tools": [{"type": "file_search", "vector_store_ids": []}]}, "tools[0].type"),
        ({"tools": [{"type": "custom", "name": "a"}]}, "tools[0].type"),
        ({"tools": [TOOL, namespace({**TOOL, "type": "custom"})]}, "tools[1].tools[0].type"),
        ({"tools": [namespace(TOOL, {**TOOL, "name": "a b"})]}, "tools[0].tools[1].name"),
        ({"tools": [namespace(TOOL, TOOL)]}, "tools[0].tools[1].name"),
        ({"tools": [namespace(TOOL), {**TOOL, "name": "n__f"}]}, "tools[1].name"),
        ({"tools": [namespace({**TOOL, "parameters": {"type": "x"}})]}, BAD_TYPE),
        ({"tools": [namespace()]}, "tools[0].tools"),
        ({"tools": [{"type": "namespace", "name": "n"}]}, "tools[0].tools"),
        ({"tools": [namespace(*[TOOL] * 200), namespace(*[TOOL] * 57)]}, "tools"),
        ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": "a" * 129}]}, "tools[0].name"),
        ({"tools": [TOOL, TOOL]}, "tools[1].name"),
        (
            {"tools": [{**TOOL, "parameters": {"$ref": "file:///etc/passwd"}}]},
            "tools[0].parameters.$ref",
        ),
        ({"tool_choice": {"type": "file_search"}, "tools": [TOOL]}, "tool_choice.type"),
        ({"tool_choice": {"type": []}, "tools": [TOOL]}, "tool_choice.type"),
        ({"tool_choice": {"type": "function", "name": "g"}}, "tool_choice.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        (
            {
                "tools": [TOOL],
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "auto",
                    "tools": [{"type": "function", "name": "g"}],
                },
            },
            "tool_choice.tools[0].name",
        ),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema"),
        (
            {"text": {"format": {**SCHEMA, "schema": {"$ref": "http://a"}}}},
            "text.format.schema.$ref",
        ),
        ({"text": {"format": {**SCHEMA, "schema": {"a": "x" * 70_000}}}}, "text.format.schema"),
        ({"include": ["message.output_text.logprob"]}, "include[0]"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"truncation": "middle"}, "truncation"),
        ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
        ({"stop": [""]}, "stop[0]"),
        ({"safety_identifier": "x" * 65}, "safety_identifier"),
        ({"input": [{"role": "user", "content": "a"}] * 5000}, "input"),
        (
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": "a"}] * 17_000}
                ]
            },
            "input",
        ),
    ],
)
def test_a_fault_is_named_by_its_path(parameters: dict[str, Any], param: str) -> None:
    error = refusal(**parameters)
    assert error.status_code == 400
    assert error.param == param


def test_tools_of_others_are_refused_with_the_reason() -> None:
    assert "this server calls no tools itself" in refusal(tools=[{"type": "web_search"}]).message


def test_the_longest_published_name_of_a_tool_is_taken() -> None:
    (tool,) = read(tools=[{**TOOL, "name": "a" * 128}]).tools
    assert tool.name == "a" * 128


def test_unknown_names_are_listed() -> None:
    assert read(colour="red").ignored == "colour"


def test_parameters_of_chats_are_known_too() -> None:
    unknown = set(PARAMETERS) - set(RESPONSE_PARAMETERS)
    assert {PARAMETERS[name].treatment for name in unknown} <= {Treatment.NO_EFFECT}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"max_tokens": 5}, "max_tokens"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"n": 2}, "n"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"moderation": {"model": "a"}}, "moderation"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"reasoning": {"effort": "xhigh"}}, "reasoning.effort"),
        ({"reasoning": {"summary": "concise"}}, "reasoning.summary"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"reasoning": {"context": "all_turns"}}, "reasoning.context"),
    ],
)
async def test_what_no_model_honours_is_refused(
    parameters: dict[str, Any], param: str, serve: Serve, responses: Make
) -> None:
    error = await responses(await serve()).refused("x", **parameters)
    assert (error["param"], error["code"]) == (param, "unsupported_parameter")


@pytest.mark.anyio
async def test_neutral_values_are_never_refused(
    serve: Serve, responses: Make, kit: SimpleNamespace
) -> None:
    nulls = {row.name: None for row in RESPONSE_PARAMETERS.values()}
    neutral = {
        **nulls,
        "model": "tiny",
        "input": "x",
        "background": False,
        "truncation": "disabled",
        "context_management": [],
        "top_logprobs": 0,
        "include": ["reasoning.encrypted_content"],
        "text": {"verbosity": "medium", "format": {"type": "text"}},
        "reasoning": {"mode": "standard", "context": "auto"},
        "tool_choice": "auto",
        "tools": [],
        "n": 1,
        "logprobs": False,
        "modalities": ["text"],
        "verbosity": "medium",
    }
    served = await serve(kit.make_model(capabilities=kit.NOTHING))
    await responses(served).create("x", **neutral)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"max_output_tokens": 5}, "max_output_tokens"),
        ({"temperature": 0.5}, "temperature"),
        ({"top_k": 5}, "top_k"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"text": {"format": SCHEMA}}, "text.format"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [{**TOOL, "strict": True}]}, "tools[0].strict"),
        ({"tools": [TOOL, namespace({**TOOL, "strict": True})]}, "tools[1].tools[0].strict"),
        (
            {
                "input": [
                    {
                        "role": "user",
                        "content": [{"type": "input_image", "image_url": "data:image/png;base64,"}],
                    }
                ]
            },
            "input[0].content[0].image_url",
        ),
    ],
)
async def test_what_an_engine_cannot_do_is_refused(
    parameters: dict[str, Any], param: str, serve: Serve, responses: Make, kit: SimpleNamespace
) -> None:
    served = await serve(kit.make_model(capabilities=kit.NOTHING))
    sent = parameters.pop("input", "x") if "input" in parameters else "x"
    error = await responses(served).refused(sent, **parameters)
    assert (error["param"], error["code"]) == (param, "unsupported_parameter")


@pytest.mark.anyio
async def test_parameters_reach_the_engine(
    serve: Serve, responses: Make, kit: SimpleNamespace
) -> None:
    model = kit.make_model()
    tools = [TOOL, {**TOOL, "name": "g", "strict": None, "description": "G"}]
    await responses(await serve(model)).create(
        "x",
        max_output_tokens=5,
        temperature=0.5,
        top_k=3,
        seed=1,
        stop="y",
        tools=tools,
        tool_choice={
            "type": "allowed_tools",
            "mode": "required",
            "tools": [{"type": "function", "name": "g"}],
        },
        parallel_tool_calls=False,
        reasoning={"effort": "low"},
        priority=2,
    )
    request = model.requests[0]
    sampling = request.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_k) == (5, 0.5, 3)
    assert (sampling.seed, sampling.stop) == (1, ("y",))
    assert [tool.spec for tool in request.tools] == [
        {
            "type": "function",
            "function": {"name": "g", "parameters": TOOL["parameters"], "description": "G"},
        }
    ]
    assert request.tool_choice.mode == "required"
    assert request.parallel_tool_calls is False
    assert request.reasoning_effort == "low"


@pytest.mark.anyio
async def test_images_and_files_reach_the_engine(serve: Serve, responses: Make) -> None:
    served = await serve()
    image = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
    client = responses(served)
    first = await client.create([{"role": "user", "content": [image]}])
    (part,) = served.model.requests[0].messages[0].content
    assert (part.kind, part.url) == ("image", image["image_url"])
    listed = await client.get(f"{first['id']}/input_items")
    assert faults("openai", "ResponseItemList", listed) == []
    for content, param in (
        ({"type": "input_image", "file_id": "file_1"}, "input[0].content[0]"),
        (
            {"type": "input_image", "image_url": "http://example.org/a.png"},
            "input[0].content[0].image_url",
        ),
        ({"type": "input_file", "file_data": "data:,a"}, "input[0].content[0].file_data"),
        ({"type": "refusal", "refusal": "no"}, "input[0].content[0]"),
    ):
        error = await client.refused([{"role": "user", "content": [content]}])
        assert error["param"] == param


@pytest.mark.anyio
async def test_reasoning_that_is_encrypted_elsewhere_cannot_be_read(
    serve: Serve, responses: Make
) -> None:
    client = responses(await serve())
    thought = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}
    user = {"role": "user", "content": "x"}
    error = await client.refused([user, thought])
    assert error["param"] == "input[1].encrypted_content"
    told = {**thought, "summary": [{"type": "summary_text", "text": "Hm."}]}
    await client.create([user, told, {"role": "assistant", "content": "y"}, user])


@pytest.mark.anyio
async def test_the_output_of_a_function_that_was_not_called_is_refused(
    serve: Serve, responses: Make
) -> None:
    client = responses(await serve())
    user = {"role": "user", "content": "x"}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": "y"}
    for items in ([user, output], [user, output, call], [user, call, {**output, "call_id": "d"}]):
        error = await client.refused(items)
        at = next(i for i, item in enumerate(items) if "output" in item)
        assert error["param"] == f"input[{at}].call_id"
    first = await client.create([user, call, output])
    await client.create([output], previous_response_id=first["id"])


@pytest.mark.anyio
async def test_ignored_names_are_in_the_header(serve: Serve, responses: Make) -> None:
    client = responses(await serve())
    for stream in (False, True):
        answer = await client.post("x", stream=stream, colour="red")
        assert answer.headers["x-jarvis-ignored-params"] == "colour"


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "id", "name", "text", "call_id", "output"])
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
_kinds = st.sampled_from(
    ["message", "function_call", "function_call_output", "reasoning", "item_reference", "", None]
)
_items = st.lists(
    st.dictionaries(
        st.sampled_from(["role", "content", "id", "call_id", "name", "arguments", "output"]), _json
    ).flatmap(lambda item: _kinds.map(lambda kind: {**item, "type": kind})),
    max_size=3,
)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from(sorted(RESPONSE_PARAMETERS)), _json, max_size=4),
    _items | _json,
)
def test_any_body_is_read_or_refused(parameters: dict[str, Any], items: Any) -> None:
    raw = {"model": "tiny", **parameters, "input": items}
    with suppress(RequestError):
        assert read_call(raw, ServerSettings()).body.model


def test_every_row_says_what_becomes_of_it() -> None:
    silent = {Treatment.REFUSED, Treatment.NO_EFFECT}
    assert all(row.note for row in RESPONSE_PARAMETERS.values() if row.treatment in silent)
