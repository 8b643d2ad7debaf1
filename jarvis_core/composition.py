"""The one constraint of a request: put together from what the client asks and the format knows.

===================================  ============================================================
a call is forced                     the format's grammar of calls
content has to obey something        that; with tools, that or a call
a call has to obey its schema, or    text, or text and then a call
there may be one call only
===================================  ============================================================

Where the model may think, all of it begins after the reasoning.
"""

from __future__ import annotations

from attrs import evolve

from jarvis_core.errors import EngineError, UnsupportedParameter
from jarvis_core.grammar import AnswerSyntax, Grammar, calls_are_constrained
from jarvis_core.interfaces import ChatFormat
from jarvis_core.parsing import may_call_tools
from jarvis_core.structs import (
    ChatRequest,
    Constraint,
    FormatContext,
    ModelInfo,
    Prompt,
    ToolChoice,
)


def compose_constraint(
    request: ChatRequest, chat_format: ChatFormat, context: FormatContext, prompt: Prompt
) -> Constraint | None:
    """The constraint of a request, None if its answer is free.

    Args:
        request: The request.
        chat_format: Writes the grammar of calls, and says what else stands in an answer.
        context: The model.
        prompt: What the format rendered.

    Raises:
        UnsupportedParameter: The format cannot write it, or the engine cannot enforce it.
    """
    forced = request.tool_choice.forced
    if not (forced or calls_are_constrained(request) or request.constraint):
        return None
    param = _param(request)
    syntax = answer_syntax(request, chat_format, context, prompt)
    body = _body(request, chat_format, context, syntax, param)
    whole = _after_reasoning(body, context.model, syntax, prompt)
    if whole.kind not in context.model.capabilities.constraints:
        raise UnsupportedParameter(
            f"model {context.model.name!r} on engine {context.model.engine!r} cannot honour "
            f"{param}: it does not enforce {whole.kind}",
            param=param,
        )
    return whole


def check_tools(
    request: ChatRequest, chat_format: ChatFormat, context: FormatContext, prompt: Prompt
) -> None:
    """Refuse tools that would be without effect: the model is not told of them and cannot call.

    Args:
        request: The request.
        chat_format: Where it can force a call, it can read one: a model may call what it is not
            told of, if its answer is made to.
        context: The model.
        prompt: What the format rendered.

    Raises:
        UnsupportedParameter: They would be.
    """
    if not may_call_tools(request) or any(tool.name in prompt.text for tool in request.tools):
        return
    required = evolve(request, tool_choice=ToolChoice(mode="required"))
    if chat_format.tool_grammar(required, context) is None:
        raise UnsupportedParameter(
            f"model {context.model.name!r} cannot honour tools: its chat format "
            f"{chat_format.name!r} has no place for them",
            param="tools",
        )


def answer_syntax(
    request: ChatRequest, chat_format: ChatFormat, context: FormatContext, prompt: Prompt
) -> AnswerSyntax:
    """What a format says of its answers; a format that says nothing has plain ones."""
    say = getattr(chat_format, "answer_syntax", None)
    if say is None:
        return AnswerSyntax()
    said: AnswerSyntax = say(request, context, prompt)
    _check_kind(chat_format, "answer_syntax", said, AnswerSyntax)
    return said


def _check_kind(chat_format: ChatFormat, method: str, given: object, kind: type) -> None:
    if not isinstance(given, kind):
        raise EngineError(
            f"{method} of chat format {chat_format.name!r} returned {type(given).__name__}, no "
            f"{kind.__name__}"
        )


def _body(
    request: ChatRequest,
    chat_format: ChatFormat,
    context: FormatContext,
    syntax: AnswerSyntax,
    param: str,
) -> Constraint:
    """The constraint of what comes after the reasoning."""
    content = request.constraint
    if request.tool_choice.forced or (content and may_call_tools(request)):
        choice = request.tool_choice if request.tool_choice.forced else ToolChoice(mode="required")
        calls = chat_format.tool_grammar(evolve(request, tool_choice=choice), context)
        if calls is None:
            raise _cannot_write(chat_format, "tool_choice" if request.tool_choice.forced else param)
        _check_kind(chat_format, "tool_grammar", calls, Constraint)
        if request.tool_choice.forced or content is None:
            return calls
        grammar = Grammar(context.model)
        text = grammar.text(syntax.before_content)
        return grammar.build(f"{text} {grammar.part(content)} | {grammar.part(calls)}")
    if content is None:
        if syntax.calls is None:
            raise _cannot_write(chat_format, param)
        return syntax.calls.optional(request, context.model, syntax.before_content)
    if not syntax.before_content:
        return content
    grammar = Grammar(context.model)
    return grammar.build(f"{grammar.text(syntax.before_content)} {grammar.part(content)}")


def _after_reasoning(
    body: Constraint, model: ModelInfo, syntax: AnswerSyntax, prompt: Prompt
) -> Constraint:
    if not syntax.opening:
        return body
    grammar = Grammar(model)
    opening, rest = grammar.text(syntax.opening), grammar.part(body)
    thinking = f"{grammar.until(syntax.closing)} {grammar.regex(SPACES)}"
    if prompt.starts_in_reasoning:
        return grammar.build(f"({opening})? {thinking} {rest}")
    return grammar.build(f"({opening} {thinking})? {rest}")


SPACES = r"[ \t\r\n]{0,8}"
"""What may stand between reasoning and answer."""


def _param(request: ChatRequest) -> str:
    """The parameter that asks for the constraint, for messages."""
    if request.tool_choice.forced:
        return "tool_choice"
    if request.constraint is not None:
        return "response_format"
    strict = [i for i, tool in enumerate(request.tools) if tool.strict]
    return f"tools[{strict[0]}].function.strict" if strict else "parallel_tool_calls"


def _cannot_write(chat_format: ChatFormat, param: str) -> UnsupportedParameter:
    what = {
        "tool_choice": "force a tool call",
        "response_format": "let an answer be either what response_format asks for or a tool call",
        "parallel_tool_calls": "limit an answer to one tool call",
    }.get(param, "make tool calls obey their schemas")
    return UnsupportedParameter(f"chat format {chat_format.name!r} cannot {what}", param=param)
