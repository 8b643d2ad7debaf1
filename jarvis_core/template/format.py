"""The chat format ``template``: whatever the model's own Jinja template prints.

A process renders it the first time, and judges what fails or could cost much, see ``helper``; the
rest is rendered here, see ``inline``.

Answers are read by the markers that the template holds, see ``jarvis_core.template.markers``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from jarvis_core.errors import ConfigError, JarvisError, RequestError
from jarvis_core.grammar import AnswerSyntax
from jarvis_core.interfaces import DeltaParser
from jarvis_core.rendering import PromptBuilder, tojson
from jarvis_core.retelling import call_by_call, text_before_calls
from jarvis_core.structs import (
    ChatRequest,
    Constraint,
    FormatContext,
    Message,
    ModelInfo,
    Prompt,
    TextPart,
    ToolCall,
)
from jarvis_core.template.conversation import Shape, check_kwargs, leave_open, shapes, variables
from jarvis_core.template.helper import RenderError, TemplateHelper
from jarvis_core.template.markers import markers_of
from jarvis_core.template.marks import Marker, control_tokens, unused_characters
from jarvis_core.template.media import check_parts, media_kinds, parts_of, place
from jarvis_core.template.told import Told, tell

if TYPE_CHECKING:
    from jarvis_core.template.inline import InlineRenderer

_Print = Callable[[str, dict[str, Any], str], str]  # of a template, its variables and the clock
_AT_ONCE = 4  # renderings: of two shapes, both marked

# Texts that end a turn in every template that holds them, or what stands beside them here.
_END_OF_TURN = {
    "<|im_end|>": "",
    "<|eot_id|>": "",
    "<|eom_id|>": "",
    "<|end_of_turn|>": "",
    "<end_of_turn>": "",
    "<|END_OF_TURN_TOKEN|>": "",
    "<|close|>message<|sep|>": "close_tag('message')",
}


class TemplateFormat:
    """Renders with the template that came with the model, or was set for it.

    Attributes:
        name: ``template``.
        blocking: ``render`` may wait for another process, two seconds at most: call it in a thread.
    """

    name = "template"
    blocking = True

    def __init__(self, helper: TemplateHelper | None = None) -> None:
        """Render in a helper process, which is started for the first prompt, and then here."""
        self._helper = helper or TemplateHelper()
        self._inline: InlineRenderer | None = None

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """The prompt that the template prints.

        Raises:
            RequestError: The template refuses the conversation or fails on it, takes too long or
                too much memory; or the model has none.
            UnsupportedParameter: The template does not look at something that was asked of it.
            ConfigError: The template is not Jinja.
        """
        return self._rendered(request, context, self._print)

    def at_once(self, request: ChatRequest, context: FormatContext) -> Prompt | None:
        """The prompt, if it takes some milliseconds at most; None where ``render`` has to be."""
        if (inline := self._inline) is None:
            return None
        left = iter(range(_AT_ONCE))

        def print_(template: str, given: dict[str, Any], now: str) -> str:
            text = inline.render(template, given, now=now) if next(left, None) is not None else None
            if text is None:
                raise RenderError("time")
            return text

        try:
            return self._rendered(request, context, print_)
        except JarvisError:
            return None

    def _rendered(self, request: ChatRequest, context: FormatContext, print_: _Print) -> Prompt:
        template = context.model.chat_template
        if not template:
            raise RequestError(
                f"model {context.model.name!r} has no chat template of its own: set its "
                f"chat_format (JARVIS_MODEL_CHAT_FORMAT, or in [models.{context.model.name}])",
                param="model",
            )
        check_kwargs(request, template)
        parts = parts_of(request.messages)
        check_parts(parts, context.model)
        lost: RenderError | None = None
        for told, shape in _tries(request, context, template):
            try:
                prompt = self._render(told, context, shape, print_)
            except RenderError as error:
                lost = lost or error
                if error.kind not in ("failed", "refused"):
                    raise _explained(error, context) from None
            else:
                if (missing := _missing(prompt, request, template)) is None:
                    return place(prompt, parts, context.model.placeholders) if parts else prompt
                lost = lost or RenderError("failed", f"it does not print {missing}")
        assert lost is not None
        raise _explained(lost, context)

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        """A parser that reads calls and reasoning by the markers in the template."""
        return markers_of(context.model.chat_template or "").parser(request, prompt)

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        """A call as the markers in the template tell; None where it holds none that is known."""
        style = markers_of(context.model.chat_template or "").calls
        return style.syntax.forced(request, context.model) if style else None

    def answer_syntax(
        self, request: ChatRequest, context: FormatContext, prompt: Prompt
    ) -> AnswerSyntax:
        """What the markers in the template tell."""
        return markers_of(context.model.chat_template or "").syntax(request, prompt)

    def media(self, model: ModelInfo) -> frozenset[str]:
        """The kinds of parts that the template asks for."""
        return media_kinds(model)

    def close(self) -> None:
        """End the helper process."""
        self._helper.close()

    def _print(self, template: str, given: dict[str, Any], now: str) -> str:
        """What a template prints: here, if that is known to cost little, or in the process."""
        text = self._inline.render(template, given, now=now) if self._inline else None
        if text is None:
            text = self._helper.render(template, given, now=now)
            if self._inline is None:
                from jarvis_core.template.inline import InlineRenderer  # it imports Jinja

                self._inline = InlineRenderer()
            self._inline.learn(template)
        return text

    def _render(self, told: Told, context: FormatContext, shape: Shape, print_: _Print) -> Prompt:
        request, template = told.request, context.model.chat_template or ""
        given = variables(request, context, template, shape)
        before, after, cut = unused_characters((template, given), 3)
        if request.continue_final_message:
            leave_open(given, cut + " ")
        now = context.now.isoformat()
        text = _up_to(cut, print_(template, given, now), request)
        out = PromptBuilder()
        stop = [end for end, known_by in _END_OF_TURN.items() if (known_by or end) in template]
        thinks = markers_of(template).opens_reasoning(text, request)
        model = context.model
        tokens = control_tokens((*model.control_tokens, *model.placeholders.values()))
        marker = Marker(tokens, before, after) if tokens else None
        marked = _marked(marker, given) if marker else given
        if marker is None or not marker.marked:
            out.scaffold(told.with_tokens(text))
            return out.build(stop=stop, starts_in_reasoning=thinks)
        again = _up_to(cut, print_(template, marked, now), request)
        if marker.unmark(again) != text:
            raise RequestError(
                "the conversation holds the text of a control token, and the model's chat template "
                "does not let it be told from its own: leave it out",
                param="messages",
            )
        marker.build(told.with_tokens(again), out)
        return out.build(stop=stop, starts_in_reasoning=thinks)


def _marked(marker: Marker, given: dict[str, Any]) -> dict[str, Any]:
    own = {"bos_token", "eos_token"}
    return {key: value if key in own else marker.mark(value) for key, value in given.items()}


def _up_to(cut: str, text: str, request: ChatRequest) -> str:
    """The text before the mark at the end of the message that is to be continued.

    The mark has a space behind it. Where that is gone, the template strips its messages, and what
    it would have stripped before the mark goes too.
    """
    if not request.continue_final_message:
        return text
    kept, found, rest = text.rpartition(cut)
    if not found:
        raise RequestError(
            "the model's chat template does not print the last message, which is to be continued",
            param=f"messages[{len(request.messages) - 1}]",
        )
    if rest.startswith(" "):
        return kept
    last = _texts(request.messages[-1])[-1]
    return kept.removesuffix(last[len(last.rstrip()) :] if last.strip() else "")


def _tries(
    request: ChatRequest, context: FormatContext, template: str
) -> Iterator[tuple[Told, Shape]]:
    """The conversation as it came, then told in other messages, each in every shape."""
    seen = [request]
    yield from ((Told(request=request), shape) for shape in shapes(request))
    apart = text_before_calls(request)
    for other in (apart, call_by_call(apart)):
        if other not in seen:
            seen.append(other)
            yield from ((Told(request=other), shape) for shape in shapes(other))
    style = markers_of(template).calls
    if style is not None and any(message.tool_calls for message in request.messages):
        told = tell(request, style.syntax, context.model.control_tokens, calls=True)
        yield from ((told, shape) for shape in shapes(told.request))


def _missing(prompt: Prompt, request: ChatRequest, template: str) -> str | None:
    """What a template left out of what many know no place for; None if it is all there."""
    reasoning = markers_of(template).reasoning
    closing = reasoning.closing if reasoning else "</think>"
    printed = prompt.text
    for message in request.messages:
        if message.role != "developer" and not message.tool_calls:
            continue
        texts = [text.rpartition(closing)[2].strip() for text in _texts(message)]
        is_there = all(text in printed or tojson(text)[1:-1] in printed for text in texts)
        if message.role == "developer" and not is_there:
            return "messages of role developer"
        if message.tool_calls and not is_there:
            return "text beside tool calls"
        if any(not _is_in(call, printed) for call in message.tool_calls):
            return "tool calls"
    return None


def _is_in(call: ToolCall, printed: str) -> bool:
    """Whether a call is there, by the words of its arguments, or its name if there are none.

    Templates write arguments in many ways, but words are words in all of them; only those that
    Python has others for (``True``, ``None``) may be written so.
    """
    if len(call.arguments) > 2 and call.arguments in printed:
        return True
    plain = re.sub(r"\\(u[0-9a-fA-F]{4}|.)", " ", call.arguments)
    words = {*re.findall(r"[A-Za-z0-9]+", plain)} - {"true", "false", "null"}
    return all(word in printed for word in words or {call.name})


def _texts(message: Message) -> list[str]:
    """The texts of a message, without what else it holds."""
    if message.content is None or isinstance(message.content, str):
        return [message.content or ""]
    return [part.text for part in message.content if isinstance(part, TextPart)]


_WORDS = {
    "refused": "refuses this conversation",
    "failed": "fails on this conversation",
    "time": "takes too long",
    "memory": "takes too much memory",
    "size": "prints too long a prompt",
    "syntax": "cannot be compiled",
}


def _explained(error: RenderError, context: FormatContext) -> JarvisError:
    words = _WORDS.get(error.kind, _WORDS["failed"])
    detail = f": {error.message}" if error.message else ""
    message = f"the chat template of model {context.model.name!r} {words}{detail}"
    if error.kind == "syntax":
        return ConfigError(f"{message}; set another chat_format for it")
    return RequestError(message, param="messages")
