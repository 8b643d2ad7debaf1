"""Every format of this distribution behaves as the core's kit asks."""

from __future__ import annotations

import pytest

from jarvis_core import ChatFormat
from jarvis_core.testing import ChatFormatConformance
from jarvis_formats import jarvis_register_chat_formats

FORMATS = {f.name: f for f in jarvis_register_chat_formats()}


@pytest.mark.parametrize("name", FORMATS)
class TestFormats(ChatFormatConformance):
    """All of them, with answers in the syntax of each family."""

    ends = ('<|"|>',)
    raw_answers = (
        'One\n<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>\n'
        '<tool_call>{"arguments": {"x": "\\u00e9"}, "name": "g"}</tool_call>\ntwo',
        '<tool_call><tool_call>{"name": "f", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": {"x": "</tool_call>',
        '<|python_tag|>{"name": "f", "parameters": {}};{"name": "g", "arguments": {"x": 1}};',
        '  {"type": "function", "name": "f", "parameters": "{\\"x\\": 1}"} ; and more',
        '[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{"x": 1}[TOOL_CALLS]g[ARGS]{"x": []} x',
        '[TOOL_CALLS] [{"name": "f", "arguments": {"x": 1}}, {"name": "g", "arguments": {}}]',
        "[TOOL_CALLS][] [TOOL_CALLS]f [ARGS]{} [TOOL_CALLS]f[ARGS]x",
        "<think>\nA </thought> and\n </think> \n<tool_call>"
        '{"name": "f", "arguments": {"x": 1}}</tool_call> <think>no</think>',
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n"
        '{"x": 1}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g'
        "<｜tool▁calls▁end｜>",
        "<|START_THINKING|>A<|END_THINKING|><|START_RESPONSE|>B<|END_RESPONSE|> C",
        '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "f", "parameters": {"x": 1}}]'
        "<|END_ACTION|>",
        '<|channel>thought\nA\n<channel|>B<|tool_call>call:f{x:1,y:[<|"|>z<|"|>,null]}<tool_call|>'
        "<|tool_call>call:g{}<tool_call|><|tool_call>call:g{x:}<tool_call|>",
        "<|channel|>analysis<|message|>A<|end|><|start|>assistant<|channel|>commentary "
        'to=functions.f <|constrain|>json<|message|>{"x": 1}<|call|><|start|>assistant'
        "<|channel|>final<|message|>B<|return|>",
        '<|channel|>commentary to=functions.f<|message|>{"x": <|end|><|start|>user<|message|>x',
    )

    @pytest.fixture
    def chat_format(self, name: str) -> ChatFormat:
        return FORMATS[name]
