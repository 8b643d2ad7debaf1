"""The ways to write calls in which arguments have names outside of JSON: in tags, or as in Python.

Source: see ``tagged_calls`` and ``pythonic_calls``; for Hy3 the chat template of tencent/Hy3, for
Olmo 3 and Llama 4 those in vLLM's examples, for Step 3 vLLM's parser.
"""

from __future__ import annotations

from jarvis_core.template.call_style import CallStyle
from jarvis_core.template.pythonic_calls import PythonicCalls
from jarvis_core.template.tagged_calls import TaggedCalls


def _between_tags(calls: TaggedCalls, *needs: str) -> CallStyle:
    """Calls whose arguments stand between tags."""
    return CallStyle(
        needs=needs,
        syntax=calls.syntax,
        scan_for=calls.scan,
        tags=(calls.short_marker,) if calls.short_marker else (),
        ending=calls.closing.split("\n")[-1] if calls.short_marker else "",
    )


def _pythonic(calls: PythonicCalls, *needs: str, lacks: tuple[str, ...] = ()) -> CallStyle:
    """Calls as in Python, between two marks."""
    return CallStyle(needs=needs, lacks=lacks, syntax=calls.syntax, scan_for=calls.scan)


def _functions(tag: str, value: str, after_value: str) -> TaggedCalls:
    """Calls in tags that name function and parameter."""
    return TaggedCalls(
        opening=f"<{tag}>\n<function=",
        after_name=">\n",
        key="<parameter=",
        after_key=">",
        value=value,
        after_value=after_value,
        closing=f"</function>\n</{tag}>",
        marker=f"<{tag}>",
        short_marker="<function=",
    )


def _invocations(tag: str, part: str, *, flagged: bool = False) -> TaggedCalls:
    """Calls between two tags, each an invocation with parameters.

    Args:
        tag: The tag around all calls.
        part: What the names of the tags in it begin with.
        flagged: Whether a parameter says that it is a string.
    """
    return TaggedCalls(
        before=f"<{tag}>\n",
        opening=f'<{part}invoke name="',
        after_name='">\n',
        key=f'<{part}parameter name="',
        after_key='" string="' if flagged else '">',
        flags=("true", "false") if flagged else (),
        value='">' if flagged else "",
        after_value=f"</{part}parameter>\n",
        closing=f"</{part}invoke>\n",
        between="",
        after=f"</{tag}>",
        marker=f"<{tag}>",
    )


def _keys_and_values(line_break: str) -> TaggedCalls:
    """Calls in which the name of an argument and its value have tags of their own, as GLM's."""
    return TaggedCalls(
        opening="<tool_call>",
        after_name=line_break,
        key="<arg_key>",
        after_key="</arg_key>",
        value=f"{line_break}<arg_value>",
        after_value=f"</arg_value>{line_break}",
        closing="</tool_call>",
        between=line_break,
        marker="<tool_call>",
    )


_HY3 = TaggedCalls(
    before="<tool_calls:opensource>\n",
    opening="<tool_call:opensource>",
    after_name="<tool_sep:opensource>\n",
    key="<arg_key:opensource>",
    after_key="</arg_key:opensource>",
    value="\n<arg_value:opensource>",
    after_value="</arg_value:opensource>\n",
    closing="</tool_call:opensource>\n",
    between="",
    after="</tool_calls:opensource>",
    marker="<tool_calls:opensource>",
)

_KIMI3 = TaggedCalls(
    before="<|open|>tools<|sep|>",
    opening='<|open|>call tool="',
    number='" index="',
    after_name='"<|sep|>',
    key='<|open|>argument key="',
    after_key='" type="',
    flags=("string", "number", "boolean", "null", "object", "array"),
    value='"<|sep|>',
    after_value="<|close|>argument<|sep|>",
    closing="<|close|>call<|sep|>",
    between="",
    after="<|close|>tools<|sep|>",
    marker="<|open|>tools<|sep|>",
)
_STEP3 = TaggedCalls(
    before="<｜tool_calls_begin｜>\n",
    opening='<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="',
    after_name='">\n',
    key='<steptml:parameter name="',
    after_key='">',
    after_value="</steptml:parameter>\n",
    closing="</steptml:invoke><｜tool_call_end｜>\n",
    between="",
    after="<｜tool_calls_end｜>",
    marker="<｜tool_calls_begin｜>",
)
_MINICPM5 = TaggedCalls(
    opening='<function name="',
    after_name='">',
    key='<param name="',
    after_key='">',
    after_value="</param>",
    quotes=("<![CDATA[", "]]>"),
    closing="</function>",
    marker='<function name="',
)

TAGGED_STYLES = (
    _between_tags(
        _functions("tool_call", "\n", "\n</parameter>\n"),
        "<tool_call>",
        "<function=",
        "<parameter=",
    ),
    _between_tags(
        _functions("seed:tool_call", "", "</parameter>\n"),
        "<seed:tool_call>",
        "<function=",
        "<parameter=",
    ),
    _between_tags(_keys_and_values("\n"), "<tool_call>", "</arg_key>\n<arg_value>"),
    _between_tags(_keys_and_values(""), "<tool_call>", "<arg_key>", "<arg_value>"),
    _between_tags(_invocations("minimax:tool_call", ""), "<minimax:tool_call>", "<invoke name="),
    _between_tags(
        _invocations("｜DSML｜function_calls", "｜DSML｜", flagged=True),
        "｜DSML｜",
        "function_calls",
        "<function_results>",
    ),
    _between_tags(
        _invocations("｜DSML｜tool_calls", "｜DSML｜", flagged=True), "｜DSML｜", "tool_calls"
    ),
    _between_tags(_HY3, "'<tool_sep{}>'", "':opensource'"),
    _between_tags(_KIMI3, "'<|open|>' + tag", "open_tag('tools')"),
    _between_tags(_STEP3, "<｜tool_calls_begin｜>", "steptml:invoke"),
    _between_tags(_MINICPM5, '<function name="', "</function>", '<param name="'),
)

_LFM2 = PythonicCalls(before="<|tool_call_start|>", after="<|tool_call_end|>")
_OLMO = PythonicCalls(before="<function_calls>", after="</function_calls>", in_lines=True)
_LLAMA4 = PythonicCalls()

PYTHONIC_STYLES = (
    _pythonic(_LFM2, "<|tool_call_start|>"),
    _pythonic(_LFM2, "<|tool_list_start|>"),
    _pythonic(_LFM2, "List of tools: [", "keep_past_thinking"),
    _pythonic(_OLMO, "<function_calls>", "</function_calls>", lacks=("<invoke",)),
    CallStyle(
        needs=("[func_name1(",),
        syntax=_LLAMA4.syntax,
        scan_for=_LLAMA4.scan,
        tags=("<|python_start|>",),
        bare="[",
        ending="<|python_end|>",
    ),
)
