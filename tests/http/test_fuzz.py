"""Generated requests: whatever is sent, the answer is 200 or 4xx in OpenAI's shape (S-05)."""

from __future__ import annotations

import json
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from jarvis_core.errors import RequestError
from jarvis_core.http.body import parse
from jarvis_core.http.openai.request import chat_request, read_call
from jarvis_core.http.openai.wire import ChatBody
from jarvis_core.settings import ServerSettings
from jarvis_core.structs import Capabilities, ChatRequest, ModelInfo

NAMES = [field.name for field in attrs.fields(ChatBody)]
MODEL = ModelInfo(
    name="tiny",
    source="tiny",
    engine="fake",
    context_length=100,
    capabilities=Capabilities(parameters=frozenset(NAMES), constraints=frozenset({"lark"})),
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text()
    | st.sampled_from(["auto", "required", "json_object", "text", "function", "user", "\ud800"])
)
keys = st.sampled_from(
    ["type", "text", "role", "content", "function", "name", "json_schema", "schema", "$ref", "1"]
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4)
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool", "robot"])},
        optional={"content": values, "tool_calls": values, "tool_call_id": values, "name": values},
    ),
    max_size=3,
)
bodies = st.builds(
    lambda parameters, sent: {"model": "tiny", "messages": sent, **parameters},
    st.dictionaries(st.sampled_from(NAMES), values, max_size=3),
    messages | values,
)


@settings(max_examples=200, deadline=None)
@given(bodies)
def test_any_json_becomes_a_request_or_a_request_error(body: dict[str, Any]) -> None:
    refused = None
    try:
        raw = parse(json.dumps(body).encode())
        made = chat_request(read_call(raw, ServerSettings()), MODEL)
    except RequestError as error:
        refused = error
    if refused is None:
        assert isinstance(made, ChatRequest)
    else:
        assert refused.status_code == 400
        assert refused.message


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_a_request_error(body: bytes) -> None:
    message = None
    try:
        parse(body)
    except RequestError as error:
        message = error.message
    assert message is None or "at byte" in message or "empty" in message
