"""Tools, calls and results told as text of messages, for templates that have no place for them.

A control token in the syntax of calls is the model's own, though it stands in a message then: a
character that occurs nowhere else stands for it until the prompt is printed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from attrs import asdict, evolve, field, frozen

from jarvis_core.grammar import CallSyntax
from jarvis_core.rendering import PromptBuilder, text_of, tojson
from jarvis_core.structs import ChatRequest, Message, Prompt, SegmentKind, Tool, ToolCall
from jarvis_core.template.marks import unused_characters

_EXAMPLE = ToolCall(id="", name="NAME", arguments='{"ARGUMENT": "VALUE"}')


@frozen(kw_only=True)
class Told:
    """A conversation as it is given to a template.

    Attributes:
        request: The request, with its messages.
        tools: The text that tells the tools; empty where none does.
        tokens: Control tokens of the model's own by the characters that stand for them in it.
    """

    request: ChatRequest
    tools: str = ""
    tokens: Mapping[str, str] = field(factory=dict)

    def with_tokens(self, printed: str) -> str:
        """What a template printed, with its tokens."""
        for character, token in self.tokens.items():
            printed = printed.replace(character, token)
        return printed

    def in_prompt(self, prompt: Prompt) -> Prompt:
        """A prompt with its tokens, which are scaffold wherever their characters stand."""
        if not self.tokens:
            return prompt
        out = PromptBuilder()
        for segment in prompt.segments:
            if segment.media is not None:
                out.media(segment.media)
            elif segment.kind is SegmentKind.SCAFFOLD:
                out.scaffold(self.with_tokens(segment.text))
            else:
                self._content(segment.text, out)
        return evolve(prompt, segments=out.build().segments)

    def _content(self, text: str, out: PromptBuilder) -> None:
        for piece in re.split(f"([{''.join(self.tokens)}])", text):
            if piece in self.tokens:
                out.scaffold(self.tokens[piece])
            else:
                out.content(piece)


def tell(
    request: ChatRequest,
    syntax: CallSyntax,
    control_tokens: Sequence[str],
    *,
    tools: bool = False,
    calls: bool = False,
    results: bool = False,
) -> Told:
    """A request with some of it told as text.

    Args:
        request: The request.
        syntax: How the model writes calls.
        control_tokens: Those of the model.
        tools: Tell the tools, after the system text.
        calls: Tell past calls as the model wrote them.
        results: Tell the results of calls as texts of the user.

    Raises:
        RequestError: A message holds what is no text.
    """
    tokens = _stand_ins(request, syntax, control_tokens)

    def own(text: str) -> str:
        for character, token in tokens.items():
            text = text.replace(token, character)
        return text

    messages = list(request.messages)
    if results:
        messages = _with_results(messages)
    if calls:
        messages = [_with_calls(message, syntax, own) for message in messages]
    text = _tools_text(request.tools, syntax.written([_EXAMPLE], own)) if tools else ""
    if text:
        messages = _with_system(messages, text)
    return Told(request=evolve(request, messages=tuple(messages)), tools=text, tokens=tokens)


def _stand_ins(
    request: ChatRequest, syntax: CallSyntax, control_tokens: Sequence[str]
) -> dict[str, str]:
    """The control tokens in the syntax, each by a character that is nowhere in the request."""
    pieces = syntax.before + syntax.after + "".join(p for p in syntax.call if isinstance(p, str))
    own = sorted({t for t in control_tokens if t and t in pieces}, key=len, reverse=True)
    if not own:
        return {}
    calls = [syntax.written(message.tool_calls) for message in request.messages]
    return dict(zip(unused_characters((asdict(request), calls), len(own)), own, strict=True))


def _with_calls(message: Message, syntax: CallSyntax, own: Callable[[str], str]) -> Message:
    if not message.tool_calls:
        return message
    written = syntax.written(message.tool_calls, own)
    text = "\n".join(filter(None, (text_of(message), written)))
    return evolve(message, content=text, tool_calls=())


def _with_results(messages: Sequence[Message]) -> list[Message]:
    """The results of one message's calls in one message, in the order of the calls."""
    told: list[Message] = []
    for is_result, group in groupby(messages, lambda message: message.role == "tool"):
        if not is_result:
            told += group
            continue
        calls = [call.id for call in told[-1].tool_calls] if told else []
        places = {call_id: place for place, call_id in enumerate(calls)}
        results = sorted(group, key=lambda m: places.get(m.tool_call_id or "", len(places)))
        texts = (f"<tool_response>\n{text_of(m)}\n</tool_response>" for m in results)
        told.append(Message(role="user", content="\n".join(texts)))
    return told


def _with_system(messages: Sequence[Message], text: str) -> list[Message]:
    """The messages with a text after the system text."""
    first = messages[0] if messages else None
    if first is None or first.role not in ("system", "developer"):
        return [Message(role="system", content=text), *messages]
    given = text_of(first)
    return [evolve(first, content=f"{given}\n\n{text}" if given else text), *messages[1:]]


def _tools_text(tools: Sequence[Tool], example: str) -> str:
    specs = "\n".join(tojson(tool.spec["function"]) for tool in tools)
    return (
        "# Tools\n\nYou may call functions to help the user. They are described between <tools> "
        f"tags, one in a line:\n<tools>\n{specs}\n</tools>\n\nTo call a function, write its name "
        f"and its arguments like this:\n{example}"
    )
