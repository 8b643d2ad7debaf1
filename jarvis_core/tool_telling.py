"""Tools for models whose templates print none: the core tells them, and reads their calls.

What a format prints is found out with short conversations, once. One that prints no tools is given
them in the system text. A call is then written and read in the format's own syntax, or in Hermes'
where it has none; past calls and results that it does not print are told as text. Requests without
tools, past calls and results are rendered and read as the format does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress

from attrs import evolve, frozen

from jarvis_core.chat import prompt_of
from jarvis_core.composition import answer_syntax
from jarvis_core.errors import JarvisError, RequestError, UnsupportedParameter
from jarvis_core.grammar import AnswerSyntax, CallSyntax
from jarvis_core.interfaces import ChatFormat, DeltaParser
from jarvis_core.parsing import may_call_tools
from jarvis_core.rendering import left_open, tojson
from jarvis_core.retelling import system_as_user
from jarvis_core.structs import (
    ChatRequest,
    Constraint,
    Delta,
    FormatContext,
    Message,
    ModelInfo,
    Prompt,
    Tool,
    ToolCall,
    ToolChoice,
)
from jarvis_core.template.json_styles import HERMES
from jarvis_core.template.told import Told, tell


@frozen(kw_only=True)
class ToolTelling:
    """A chat format that tells what another one does not print.

    Attributes:
        of: The other.
        own: How its model writes calls, if it knows that; else Hermes' way is told.
        prints_calls: Whether it prints past calls and their results.
    """

    of: ChatFormat
    own: CallSyntax | None
    prints_calls: bool

    @property
    def name(self) -> str:
        """That of the other."""
        return self.of.name

    @property
    def blocking(self) -> bool:
        """Whether ``render`` may take long."""
        return getattr(self.of, "blocking", False)

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """The prompt, with the tools in its system text, or the user's first where none is printed.

        Raises:
            RequestError: The other format refuses the conversation.
            UnsupportedParameter: It prints neither.
        """
        if (told := self._told(request, context)) is None:
            return self.of.render(request, context)
        try:
            return _printed(told, prompt_of(told.request, self.of, context), context)
        except RequestError:
            if told.tools:
                with suppress(RequestError):
                    other = system_as_user(told.request)
                    return _printed(told, prompt_of(other, self.of, context), context)
                if not self._tells_calls(request):  # its own error has the right places
                    prompt_of(_without_tools(request), self.of, context)
            raise

    def at_once(self, request: ChatRequest, context: FormatContext) -> Prompt | None:
        """The prompt, if the other format has it soon; None where ``render`` has to be called."""
        at_once = getattr(self.of, "at_once", None)
        if at_once is None:
            return None
        prompt: Prompt | None
        with suppress(JarvisError):
            if (told := self._told(request, context)) is None:
                prompt = at_once(request, context)
                return prompt
            prompt = at_once(told.request, context)
            return _printed(told, prompt, context) if prompt else None
        return None

    def retold(self, request: ChatRequest, context: FormatContext) -> Iterable[ChatRequest]:
        """As the other format tells it, where nothing is told here."""
        retold = getattr(self.of, "retold", None)
        if retold is None or self._told(request, context) is not None:
            return ()
        others: Iterable[ChatRequest] = retold(request, context)
        return others

    def media(self, model: ModelInfo) -> Collection[str]:
        """As the other format."""
        media = getattr(self.of, "media", None)
        return () if media is None else media(model)

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        """The other format's parser, and one that reads calls in what that finds to be text."""
        if self.own is not None:
            return self.of.parser(request, context, prompt)
        text = self.of.parser(_without_tools(request), context, prompt)
        return _CallsInText(text, HERMES.parser(request)) if may_call_tools(request) else text

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        """A call, or several, in the syntax that was told."""
        if self.own is not None:
            return self.of.tool_grammar(request, context)
        return HERMES.syntax.forced(request, context.model)

    def answer_syntax(
        self, request: ChatRequest, context: FormatContext, prompt: Prompt
    ) -> AnswerSyntax:
        """That of the other format, with calls in the syntax that was told."""
        syntax = answer_syntax(request, self.of, context, prompt)
        return syntax if self.own is not None else evolve(syntax, calls=HERMES.syntax)

    def _told(self, request: ChatRequest, context: FormatContext) -> Told | None:
        """What there is to tell; None if nothing is."""
        tells_calls, tells_tools = self._tells_calls(request), may_call_tools(request)
        if not (tells_calls or tells_tools):
            return None
        if request.messages:
            left_open(request, len(request.messages) - 1)  # a call that is told looks like text
        told = tell(
            request,
            self.own or HERMES.syntax,
            context.model.control_tokens,
            tools=tells_tools,
            calls=tells_calls,
            results=tells_calls,
        )
        return evolve(told, request=_without_tools(told.request))

    def _tells_calls(self, request: ChatRequest) -> bool:
        return not self.prints_calls and any(
            m.tool_calls or m.role == "tool" for m in request.messages
        )


def tells_tools(chat_format: ChatFormat, context: FormatContext) -> ToolTelling | None:
    """What tells the tools in place of a format; None where it prints them.

    None too where it renders no conversation, or where it can force calls and does not say how they
    are written.
    """

    def prints(*messages: Message, tools: tuple[Tool, ...] = (), words: tuple[str, ...]) -> bool:
        request = ChatRequest(model=context.model.name, messages=messages, tools=tools)
        try:
            text = chat_format.render(request, context).text
        except Exception:  # whatever a plugin may raise: its own requests will tell
            return False
        return all(word in text for word in words)

    openings = [o for o in _OPENINGS if prints(*o, words=(_ASKED,))]
    if not openings or any(prints(*o, tools=(_TOOL,), words=(_TOOL.name,)) for o in openings):
        return None
    own = None
    required = ChatRequest(
        model=context.model.name,
        messages=openings[0],
        tools=(_TOOL,),
        tool_choice=ToolChoice(mode="required"),
    )
    if chat_format.tool_grammar(required, context) is not None:
        own = answer_syntax(required, chat_format, context, Prompt()).calls
        if own is None:
            return None
    words = (_CALL.name, "harbour", "foggy")
    return ToolTelling(
        of=chat_format, own=own, prints_calls=prints(*openings[0], *_CALLED, words=words)
    )


_ASKED = "How is it outside?"
_USER = Message(role="user", content=_ASKED)
_OPENINGS = ((_USER,), (Message(role="system", content="Be brief."), _USER))
_TOOL = Tool(
    spec={
        "type": "function",
        "function": {
            "name": "look_outside",
            "description": "Says what is to be seen.",
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string", "description": "From where."}},
                "required": ["place"],
            },
        },
    }
)
_CALL = ToolCall(id="call00001", name=_TOOL.name, arguments='{"place": "harbour"}')
_CALLED = (
    Message(role="assistant", tool_calls=(_CALL,)),
    Message(role="tool", content="foggy", tool_call_id=_CALL.id, name=_TOOL.name),
)


def _without_tools(request: ChatRequest) -> ChatRequest:
    return evolve(request, tools=(), tool_choice=ToolChoice())


def _printed(told: Told, prompt: Prompt, context: FormatContext) -> Prompt:
    """The prompt of what was told, if the tools are in it."""
    if told.tools not in prompt.text and tojson(told.tools)[1:-1] not in prompt.text:
        raise UnsupportedParameter(
            f"model {context.model.name!r} cannot honour tools: its chat format prints neither "
            "them nor the system message that tells them",
            param="tools",
        )
    return told.in_prompt(prompt)


class _CallsInText:
    """Reads calls in what another parser finds to be text."""

    def __init__(self, text: DeltaParser, calls: DeltaParser) -> None:
        self._text = text
        self._calls = calls

    def feed(self, text: str) -> Iterable[Delta]:
        """What is certain now that this has come."""
        return self._read(self._text.feed(text))

    def finish(self) -> Iterable[Delta]:
        """What was held back."""
        return [*self._read(self._text.finish()), *self._calls.finish()]

    def _read(self, deltas: Iterable[Delta]) -> list[Delta]:
        out: list[Delta] = []
        for delta in deltas:
            if delta.content:
                out += self._calls.feed(delta.content)
            if delta.reasoning:
                out.append(evolve(delta, content=""))
        return out
