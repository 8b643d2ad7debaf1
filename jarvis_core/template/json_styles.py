"""The ways to write calls whose arguments are a JSON object.

Source: the chat templates of the families, most of them in llama.cpp's models/templates; for Llama
4, xLAM, functools (Phi-4-mini) and InternLM those in vLLM's examples; for LongCat vLLM's parser.
"""

from __future__ import annotations

import hashlib
from functools import partial

from jarvis_core.grammar import CallArguments, CallName, CallPattern, CallSyntax
from jarvis_core.structs import ChatRequest
from jarvis_core.template.call_style import CallStyle
from jarvis_core.template.json_calls import (
    FENCED,
    action,
    bare,
    by_name,
    fenced,
    functions,
    identified,
    listed_actions,
    marked,
    named,
    numbered,
    separated,
)


def _short_id(length: int, request: ChatRequest, index: int, name: str) -> str:
    """An identifier that no other call of a conversation has, of a length that a template wants."""
    text = f"{len(request.messages)} {index} {name}"
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def _numbered(request: ChatRequest, index: int, name: str) -> str:
    """An identifier as Kimi writes it: calls are numbered through a whole conversation."""
    earlier = sum(len(message.tool_calls) for message in request.messages)
    return f"functions.{name}:{earlier + index}"


_OBJECT = ('{"name": "', CallName(), '", "arguments": ', CallArguments(), "}")
_LLAMA = ('{"name": "', CallName(), '", "parameters": ', CallArguments(), "}")


def _list_between(opening: str, closing: str, *needs: str) -> CallStyle:
    """A JSON array of calls between two marks, of which the second may be empty."""
    return CallStyle(
        needs=(opening, closing, *needs),
        scan=partial(marked, closing),
        syntax=CallSyntax(
            before=f"{opening}[", call=_OBJECT, between=", ", after=f"]{closing}", marker=opening
        ),
    )


def _each_between(
    opening: str,
    closing: str,
    *needs: str,
    glue: str = "",
    between: str | None = "",
    lacks: tuple[str, ...] = (),
) -> CallStyle:
    """A JSON object for each call, between two marks of its own, of which the second may be empty.

    Args:
        opening: The first mark.
        closing: The second.
        needs: Texts that a template holds, beside the first mark.
        glue: What stands between a mark and the object.
        between: What stands between two calls; None where there is one at most.
        lacks: Texts that a template does not hold.
    """
    return CallStyle(
        needs=(opening, *needs),
        lacks=lacks,
        scan=partial(marked, closing),
        syntax=CallSyntax(
            call=(opening + glue + _OBJECT[0], *_OBJECT[1:4], "}" + glue + closing),
            between=between,
            marker=opening,
        ),
    )


HERMES = _each_between(
    "<tool_call>",
    "</tool_call>",
    "arguments",
    glue="\n",
    between="\n",
    lacks=("<function=", "<arg_key>", "<invoke "),
)
"""The calls of Hermes, which many families write."""

JSON_STYLES = (
    _list_between("<tool_calls>", "</tool_calls>", "<tool_calls>["),
    CallStyle(
        needs=("<tool_calls>\n{", "</tool_calls>"),  # MiniMax M1
        scan=partial(marked, "</tool_calls>"),
        syntax=CallSyntax(
            before="<tool_calls>\n",
            call=(*_OBJECT[:4], "}\n"),
            between="",
            after="</tool_calls>",
            marker="<tool_calls>",
        ),
    ),
    _list_between("<TOOLCALL>", "</TOOLCALL>", "<TOOLCALL>["),
    CallStyle(
        needs=("<|tools_prefix|>", "<|tools_suffix|>"),  # Apertus
        scan=by_name,
        syntax=CallSyntax(
            before="<|tools_prefix|>[",
            call=('{"', CallName(), '": ', CallArguments(), "}"),
            between=", ",
            after="]<|tools_suffix|>",
            marker="<|tools_prefix|>",
        ),
    ),
    HERMES,
    _each_between("<longcat_tool_call>", "</longcat_tool_call>", glue="\n", between="\n"),
    _each_between("<|action_start|><|plugin|>\n", "<|action_end|>"),  # InternLM
    CallStyle(
        needs=("[TOOL_CALLS]", "[ARGS]"),
        scan=named,
        make_id=partial(_short_id, 9),
        syntax=CallSyntax(
            call=("[TOOL_CALLS]", CallName(), "[ARGS]", CallArguments()),
            between="",
            marker="[TOOL_CALLS]",
        ),
    ),
    CallStyle(
        needs=("[TOOL_CALLS]",),
        scan=named,
        make_id=partial(_short_id, 9),
        syntax=CallSyntax(
            before="[TOOL_CALLS][", call=_OBJECT, between=", ", after="]", marker="[TOOL_CALLS]"
        ),
    ),
    CallStyle(
        needs=("<｜tool▁calls▁begin｜>", "<｜tool▁sep｜>"),
        lacks=("```json",),
        scan=separated,
        syntax=CallSyntax(
            before="<｜tool▁calls▁begin｜>",
            call=(
                "<｜tool▁call▁begin｜>",
                CallName(),
                "<｜tool▁sep｜>",
                CallArguments(),
                "<｜tool▁call▁end｜>",
            ),
            between="",
            after="<｜tool▁calls▁end｜>",
            marker="<｜tool▁calls▁begin｜>",
        ),
    ),
    CallStyle(
        needs=("<｜tool▁calls▁begin｜>", "<｜tool▁sep｜>", "```json"),
        scan=fenced,
        syntax=CallSyntax(
            before="<｜tool▁calls▁begin｜>",
            call=(
                "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
                CallName(),
                FENCED[0],
                CallArguments(),
                FENCED[1],
            ),
            between="\n",
            after="<｜tool▁calls▁end｜>",
            marker="<｜tool▁calls▁begin｜>",
        ),
    ),
    # Phi-4-mini as llama.cpp has it: each call has the two marks.
    _each_between("<|tool_call|>", "<|/tool_call|>", "<|tool_call|>{", "<|/tool_call|>"),
    _list_between("<|tool_call|>", "<|/tool_call|>"),
    _list_between("<|tool_call|>", ""),
    _list_between("functools", "", "functools["),
    _each_between("<|function_call|>", "", "<|role_sep|>", between=None),  # GigaChat 3.1
    CallStyle(
        needs=("function call", "<|role_sep|>", "<|message_sep|>"),  # GigaChat 3
        scan=partial(marked, ""),
        syntax=CallSyntax(
            call=("<|message_sep|>\n\nfunction call<|role_sep|>\n" + _OBJECT[0], *_OBJECT[1:]),
            marker="<|message_sep|>\n\nfunction call<|role_sep|>\n",
        ),
    ),
    CallStyle(
        needs=("<|python_tag|>", "parameters"),
        lacks=("<function=",),
        scan=bare,
        syntax=CallSyntax(call=_LLAMA),
        tags=("<|python_tag|>",),
        bare="{",
    ),
    CallStyle(
        needs=('{"name": function name, "parameters":',),  # Llama 3.2, and 4
        scan=bare,
        syntax=CallSyntax(call=_LLAMA),
        bare="{",
    ),
    CallStyle(
        needs=('[{"name": "tool_call_name", "arguments": ',),  # xLAM
        scan=partial(marked, ""),
        syntax=CallSyntax(before="[", call=_OBJECT, between=", ", after="]"),
        bare="[",
    ),
    CallStyle(
        needs=("<function=", "</function>"),  # functionary 3.1
        lacks=("<parameter=", "<tool_call>"),
        scan=functions,
        syntax=CallSyntax(
            call=("<function=", CallName(), ">", CallArguments(), "</function>"),
            between="",
            marker="<function=",
        ),
    ),
    CallStyle(
        needs=("<|tool_calls_section_begin|>", "<|tool_call_argument_begin|>"),
        scan=numbered,
        make_id=_numbered,
        syntax=CallSyntax(
            before="<|tool_calls_section_begin|>",
            call=(
                "<|tool_call_begin|>functions.",
                CallName(),
                ":",
                CallPattern("[0-9]{1,3}"),
                "<|tool_call_argument_begin|>",
                CallArguments(),
                "<|tool_call_end|>",
            ),
            between="",
            after="<|tool_calls_section_end|>",
            marker="<|tool_calls_section_begin|>",
        ),
    ),
    CallStyle(
        needs=("<|tool_call:begin|>", "<|tool_call:name|>", "<|tool_call:args|>"),  # Solar Open
        scan=identified,
        make_id=partial(_short_id, 10),
        syntax=CallSyntax(
            before="<|tool_calls|>",
            call=(
                "<|tool_call:begin|>",
                CallPattern("[a-z0-9]{10}"),
                "<|tool_call:name|>",
                CallName(),
                "<|tool_call:args|>",
                CallArguments(),
                "<|tool_call:end|>",
            ),
            between="",
            after="<|calls|>",
            marker="<|tool_calls|>",
        ),
    ),
    CallStyle(
        needs=("<|START_ACTION|>", "<|END_ACTION|>", "tool_name"),
        scan=action,
        syntax=CallSyntax(
            before="<|START_ACTION|>[\n",
            call=(
                '    {"tool_call_id": "',
                CallPattern("[0-9]{1,2}"),
                '", "tool_name": "',
                CallName(),
                '", "parameters": ',
                CallArguments(),
                "}",
            ),
            between=",\n",
            after="\n]<|END_ACTION|>",
            marker="<|START_ACTION|>",
        ),
    ),
    CallStyle(
        needs=("Action:\n```json\n[\n", '"tool_name": "', '"parameters": '),  # Command R+
        scan=listed_actions,
        syntax=CallSyntax(
            before="Action:\n```json\n[\n",
            call=(
                '    {\n        "tool_name": "',
                CallName(),
                '",\n        "parameters": ',
                CallArguments(),
                "\n    }",
            ),
            between=",\n",
            after="\n]```",
            marker="Action:",
        ),
    ),
)
