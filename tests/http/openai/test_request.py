"""From the wire to ``ChatRequest``: what is taken, and what is refused with which ``param``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jarvis_core.errors import RequestError, UnsupportedParameter
from jarvis_core.http.openai.request import (
    MAX_PARTS,
    chat_request,
    parallel_tool_calls,
    read_call,
)
from jarvis_core.settings import ServerSettings
from jarvis_core.structs import (
    ChatRequest,
    Constraint,
    MediaPart,
    Message,
    TextPart,
    ToolCall,
    ToolChoice,
)

USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


@pytest.fixture
def build(kit: Any) -> Any:
    """Builds a request for a model that can do everything."""

    def build(messages: Any = None, *, settings: Any = None, **parameters: Any) -> ChatRequest:
        raw = {"model": "tiny", "messages": [USER] if messages is None else messages, **parameters}
        call = read_call(raw, ServerSettings(**(settings or {})))
        return chat_request(call, kit.make_model().info)

    return build


@pytest.fixture
def refusal(build: Any) -> Any:
    """The ``param`` of the error that a request gets."""

    def refusal(*args: Any, **parameters: Any) -> str | None:
        with pytest.raises(RequestError) as caught:
            build(*args, **parameters)
        assert caught.value.status_code == 400
        return caught.value.param

    return refusal


# -- messages ------------------------------------------------------------------------------


def test_every_role_is_taken(build: Any) -> None:
    request = build(
        [
            {"role": "system", "content": "s"},
            {"role": "developer", "content": "d", "name": "dev"},
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "hm",
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "look", "arguments": "{}"},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "seen"},
        ]
    )
    assert request.messages == (
        Message(role="system", content="s"),
        Message(role="developer", content="d", name="dev"),
        Message(role="user", content=(TextPart(text="a"),)),
        Message(
            role="assistant",
            reasoning="hm",
            tool_calls=(ToolCall(id="c1", name="look", arguments="{}"),),
        ),
        Message(role="tool", content="seen", tool_call_id="c1"),
    )


def test_an_answer_can_be_sent_back_as_it_came(build: Any) -> None:
    sent: dict[str, Any] = {
        "role": "assistant",
        "content": "hi",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
        "reasoning": "hm",
    }
    assert build([USER, sent, USER]).messages[1] == Message(
        role="assistant", content="hi", reasoning="hm"
    )


def test_a_refusal_is_what_the_assistant_said(build: Any) -> None:
    messages = build(
        [
            {"role": "assistant", "refusal": "no"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        ]
    ).messages
    assert messages[0].content == "no"
    assert messages[1].content == (TextPart(text="no"),)


def test_an_image_is_taken_as_a_data_url_only(build: Any, refusal: Any) -> None:
    def image(url: str) -> list[dict[str, Any]]:
        part = {"type": "image_url", "image_url": {"url": url}}
        return [{"role": "user", "content": [{"type": "text", "text": "a"}, part]}]

    assert build(image("data:image/png;base64,AA")).messages[0].content[1] == MediaPart(
        kind="image", url="data:image/png;base64,AA"
    )
    param = "messages[0].content[1].image_url.url"
    assert refusal(image("https://example.com/a.png")) == param
    assert refusal(image("file:///etc/passwd")) == param


def test_media_that_the_model_does_not_take_is_unsupported(build: Any) -> None:
    part = {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}
    with pytest.raises(UnsupportedParameter, match="'tiny' on engine 'fake'.*audio") as caught:
        build([{"role": "user", "content": [part]}])
    assert caught.value.param == "messages[0].content[0]"


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "robot", "content": "a"}, "messages[1].role"),
        ({"content": "a"}, "messages[1].role"),
        ({"role": "user"}, "messages[1].content"),
        ({"role": "user", "content": None}, "messages[1].content"),
        ({"role": "user", "content": 1}, "messages[1].content"),
        ({"role": "user", "content": {"text": "a"}}, "messages[1].content"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[1].content[0].text"),
        ({"role": "user", "content": [{"type": "video"}]}, "messages[1].content[0].type"),
        ({"role": "user", "content": ["a"]}, "messages[1].content[0]"),
        ({"role": "tool", "content": "a"}, "messages[1].tool_call_id"),
        ({"role": "assistant", "tool_calls": [{}]}, "messages[1].tool_calls[0].id"),
        (
            {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f"}}]},
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            {
                "role": "assistant",
                "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {}}}],
            },
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            {"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": ""}},
            "messages[1].function_call",
        ),
        ({"role": "assistant", "audio": {"id": "a"}}, "messages[1].audio"),
        ("hello", "messages[1]"),
        (None, "messages[1]"),
    ],
)
def test_a_faulty_message_is_refused_by_path(refusal: Any, message: Any, param: str) -> None:
    assert refusal([USER, message]) == param


@pytest.mark.parametrize("messages", [[], "hello", {}, 1])
def test_messages_must_be_a_list_of_some(refusal: Any, messages: Any) -> None:
    assert refusal(messages) == "messages"


# -- limits (S-06) ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "good", "bad", "param"),
    [
        ({"max_messages": 2}, {"messages": [USER] * 2}, {"messages": [USER] * 3}, "messages"),
        ({"max_n": 2}, {"n": 2}, {"n": 3}, "n"),
        ({"max_stop": 2}, {"stop": ["a"] * 2}, {"stop": ["a"] * 3}, "stop"),
        ({"max_stop_bytes": 4}, {"stop": "éé"}, {"stop": "ééa"}, "stop"),
        ({"max_stop_bytes": 4}, {"stop": ["a", "éé"]}, {"stop": ["a", "ééa"]}, "stop[1]"),
        (
            {"max_logprobs": 2},
            {"logprobs": True, "top_logprobs": 2},
            {"logprobs": True, "top_logprobs": 3},
            "top_logprobs",
        ),
        ({"max_tools": 1}, {"tools": [TOOL]}, {"tools": [TOOL, TOOL]}, "tools"),
        (
            {"max_schema_bytes": 20},
            {"guided_regex": "a" * 20},
            {"guided_regex": "a" * 21},
            "guided_regex",
        ),
    ],
)
def test_limits_are_served_at_n_and_refused_at_n_plus_1(
    build: Any, refusal: Any, settings: Any, good: Any, bad: Any, param: str
) -> None:
    build(settings=settings, **good)
    assert refusal(settings=settings, **bad) == param


def test_the_parts_of_all_messages_are_limited(build: Any, refusal: Any) -> None:
    part = {"type": "text", "text": "a"}
    build([{"role": "user", "content": [part] * MAX_PARTS}])
    assert refusal([{"role": "user", "content": [part] * MAX_PARTS}, USER | {"content": [part]}])


def nested(depth: int) -> Any:
    schema: Any = {}
    for _ in range(depth - 1):
        schema = {"a": schema}
    return schema


def test_all_tools_may_have_so_many_bytes_together(build: Any, refusal: Any) -> None:
    def tools(count: int) -> list[Any]:
        named = [{"name": f"f{i:03}", "description": "x" * 900} for i in range(count)]
        return [{"type": "function", "function": function} for function in named]

    size = len(json.dumps(tools(1)[0], separators=(",", ":")))
    settings = {"max_schema_bytes": size * 2}
    build(tools=tools(32), settings=settings)
    assert refusal(tools=tools(33), settings=settings) == "tools"


def test_schemas_may_be_32_deep(build: Any, refusal: Any) -> None:
    build(guided_json=nested(32))
    assert refusal(guided_json=nested(33)) == "guided_json"
    tool = {"type": "function", "function": {"name": "f", "parameters": nested(33)}}
    assert refusal(tools=[tool]) == "tools[0]"


# -- sampling --------------------------------------------------------------------------------


def test_sampling_parameters_arrive(build: Any) -> None:
    sampling = build(
        temperature=0,
        top_p=0.5,
        top_k=-1,
        min_p=0.1,
        typical_p=0.9,
        max_tokens=10,
        seed=-(2**63),
        stop=["a", "b"],
        presence_penalty=-2,
        frequency_penalty=2,
        repetition_penalty=1.1,
        logit_bias={"5": -100, "7": 1.5},
        min_tokens=1,
        stop_token_ids=[3],
        bad_words=["x"],
        ignore_eos=True,
        mirostat=2,
        mirostat_tau=5,
        dry_multiplier=0.8,
        dry_sequence_breakers=["\n"],
    ).sampling
    assert sampling.temperature == 0.0
    assert sampling.top_p == 0.5
    assert sampling.top_k == 0
    assert sampling.max_tokens == 10
    assert sampling.seed == -(2**63)
    assert sampling.stop == ("a", "b")
    assert sampling.logit_bias == {5: -100.0, 7: 1.5}
    assert sampling.stop_token_ids == (3,)
    assert sampling.ignore_eos
    assert sampling.extra == {
        "mirostat": 2,
        "mirostat_tau": 5.0,
        "dry_multiplier": 0.8,
        "dry_sequence_breakers": '["\\n"]',
    }


def test_what_is_not_sent_is_neutral(build: Any) -> None:
    request = build(temperature=None, stop=None, n=None, logprobs=False, tools=[])
    assert request == ChatRequest(model="tiny", messages=(Message(role="user", content="hi"),))


def test_of_two_maxima_the_smaller_one_holds(build: Any) -> None:
    assert build(max_tokens=10, max_completion_tokens=5).sampling.max_tokens == 5
    assert build(max_completion_tokens=5).sampling.max_tokens == 5


def test_top_p_zero_keeps_the_likeliest_token(build: Any) -> None:
    assert 0 < build(top_p=0).sampling.top_p < 1e-6


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 2**31}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"seed": 2**63}, "seed"),
        ({"stop": [""]}, "stop[0]"),
        ({"stop": ""}, "stop"),
        ({"stop": [1]}, "stop[0]"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"²": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"logit_bias": {"5": True}}, "logit_bias.5"),
        ({"logit_bias": {"1000": 1}}, "logit_bias.1000"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"stop_token_ids": [1000]}, "stop_token_ids[0]"),
        ({"stop_token_ids": [-1]}, "stop_token_ids[0]"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"top_logprobs": 1, "logprobs": False}, "top_logprobs"),
        ({"logprobs": 1}, "logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": "true"}, "stream"),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"chat_template_kwargs": {"enable_thinking": []}}, "chat_template_kwargs.enable_thinking"),
        ({"chat_template_kwargs": {"messages": "x"}}, "chat_template_kwargs.messages"),
        ({"reasoning_effort": "max"}, "reasoning_effort"),
        ({"reasoning_effort": "some"}, "reasoning_effort"),
        ({"continue_final_message": True}, "continue_final_message"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(
    refusal: Any, parameters: Any, param: str
) -> None:
    assert refusal(**parameters) == param


def test_the_last_message_can_be_continued(build: Any, refusal: Any) -> None:
    messages = [USER, {"role": "assistant", "content": "I"}]
    request = build(messages, continue_final_message=True)
    assert request.continue_final_message
    assert not request.add_generation_prompt
    both = {"continue_final_message": True, "add_generation_prompt": True}
    assert refusal(messages, **both) == "continue_final_message"


def test_documents_are_passed_on(build: Any, refusal: Any) -> None:
    documents = [{"title": "T", "text": "a"}, {"text": {"$ref": "b"}}]
    assert build(documents=documents).template_kwargs == {"documents": documents}
    assert build(documents=[]).template_kwargs == {}
    assert refusal(documents=["a"]) == "documents[0]"
    assert refusal(documents=[{"a": nested(40)}]) == "documents[0]"
    assert refusal(documents=[{}] * 4097) == "documents"


def test_what_formats_know_is_passed_on(build: Any) -> None:
    request = build(
        reasoning_effort="low",
        chat_template_kwargs={"enable_thinking": False},
        add_generation_prompt=False,
        parallel_tool_calls=False,
        priority=-3,
        cache_salt="s",
        n=3,
        logprobs=True,
    )
    assert request.reasoning_effort == "low"
    assert request.template_kwargs == {"enable_thinking": False}
    assert not request.add_generation_prompt
    assert not request.parallel_tool_calls
    assert (request.priority, request.cache_salt, request.n, request.logprobs) == (-3, "s", 3, 0)


# -- tools -----------------------------------------------------------------------------------


def test_a_tool_is_kept_as_the_client_wrote_it(build: Any) -> None:
    spec = {
        "function": {"parameters": {"b": 1, "a": 2}, "name": "look", "x": None},
        "type": "function",
    }
    (tool,) = build(tools=[spec]).tools
    assert json.dumps(tool.spec) == json.dumps(spec)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ToolChoice()),
        ("auto", ToolChoice()),
        ("none", ToolChoice(mode="none")),
        ("required", ToolChoice(mode="required")),
        (
            {"type": "function", "function": {"name": "look"}},
            ToolChoice(mode="named", name="look"),
        ),
    ],
)
def test_tool_choice_is_understood(build: Any, choice: Any, expected: ToolChoice) -> None:
    assert build(tools=[TOOL], tool_choice=choice).tool_choice == expected


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_only_the_tools_that_are_allowed_are_shown(build: Any, mode: str) -> None:
    other = {"type": "function", "function": {"name": "other"}}
    allowed = {"mode": mode, "tools": [{"type": "function", "function": {"name": "other"}}]}
    request = build(
        tools=[TOOL, other], tool_choice={"type": "allowed_tools", "allowed_tools": allowed}
    )
    assert [tool.name for tool in request.tools] == ["other"]
    assert request.tool_choice == ToolChoice(mode=mode)


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        (
            {
                "tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": []}},
                "tools": [TOOL],
            },
            "tool_choice.allowed_tools.tools",
        ),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"tools": [{"type": "function", "function": {"name": "x"}}]},
                },
                "tools": [TOOL],
            },
            "tool_choice.allowed_tools.tools[0].function.name",
        ),
        ({"tools": [{}]}, "tools[0].type"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]},
            "tools[0].function.parameters",
        ),
        ({"tools": [TOOL, TOOL]}, "tools[1].function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "any", "tools": [TOOL]}, "tool_choice"),
        (
            {
                "tool_choice": {"type": "function", "function": {"name": "x"}},
                "tools": [TOOL],
            },
            "tool_choice.function.name",
        ),
        (
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "f",
                            "parameters": {"properties": {"a": {"$ref": "http://x/y"}}},
                        },
                    }
                ]
            },
            "tools[0].function.parameters.properties.a.$ref",
        ),
    ],
)
def test_faulty_tools_are_refused_by_path(refusal: Any, parameters: Any, param: str) -> None:
    assert refusal(**parameters) == param


# -- constraints -----------------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("parameters", "constraint"),
    [
        ({"response_format": {"type": "text"}}, None),
        (
            {"response_format": {"type": "json_object"}},
            Constraint(kind="json_schema", value='{"type":"object"}'),
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {"type": "null"}, "strict": True},
                }
            },
            Constraint(kind="json_schema", value='{"type":"null"}'),
        ),
        (
            {"response_format": {"type": "json_object", "schema": {"type": "null"}}},
            Constraint(kind="json_schema", value='{"type":"null"}'),
        ),
        ({"guided_json": '{"a":1}'}, Constraint(kind="json_schema", value='{"a":1}')),
        ({"guided_regex": "a+"}, Constraint(kind="regex", value="a+")),
        ({"guided_choice": ["a", "b"]}, Constraint(kind="choice", value='["a","b"]')),
        ({"guided_grammar": "start: /a/"}, Constraint(kind="lark", value="start: /a/")),
        (
            {"structured_outputs": {"json": {"a": 1}}},
            Constraint(kind="json_schema", value='{"a":1}'),
        ),
        ({"structured_outputs": {"choice": ["a"]}}, Constraint(kind="choice", value='["a"]')),
        (
            {"structured_outputs": {"json_object": True}},
            Constraint(kind="json_schema", value='{"type":"object"}'),
        ),
        ({"structured_outputs": {}}, None),
    ],
)
def test_every_way_to_constrain_is_understood(
    build: Any, parameters: Any, constraint: Constraint | None
) -> None:
    assert build(**parameters).constraint == constraint


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": {"type": "json_object", "schema": {"type": "x"}}},
            "response_format.schema.type",
        ),
        ({"response_format": {"type": "json_object", "schema": []}}, "response_format.schema"),
        ({"structured_outputs": {"structural_tag": "a"}}, "structured_outputs"),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_json": "[]"}, "guided_json"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_regex": "a", "guided_json": {}}, "guided_regex"),
        ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "guided_regex"),
        ({"guided_json": {"$ref": "https://example.com"}}, "guided_json.$ref"),
        ({"guided_json": {"anyOf": [{}, {"$ref": "other.json"}]}}, "guided_json.anyOf[1].$ref"),
    ],
)
def test_faulty_constraints_are_refused_by_path(refusal: Any, parameters: Any, param: str) -> None:
    assert refusal(**parameters) == param


def test_references_inside_of_a_schema_and_data_that_look_like_one_are_fine(build: Any) -> None:
    schema = {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"const": {"$ref": "http://data"}}},
        "properties": {"$ref": {"type": "string"}},
    }
    assert build(guided_json=schema).constraint is not None


@pytest.mark.parametrize(
    ("asked", "choice", "expected"),
    [
        (None, "auto", True),
        (None, "required", False),
        (True, "required", True),
        (False, "auto", False),
    ],
)
def test_a_forced_answer_is_one_call_unless_several_are_asked_for(
    asked: bool | None, choice: str, expected: bool
) -> None:
    mode: Any = choice
    assert parallel_tool_calls(asked, ToolChoice(mode=mode)) is expected
