"""Chat templates that print calls of tools, one for each way to write them."""

from __future__ import annotations

TURNS = (
    "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}"
    "{% for m in messages %}<turn>{{ m.role }}\n{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}%CALL%{% endfor %}</turn>{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant\n%OPEN%{% endif %}"
)


def arguments(each: str) -> str:
    """A loop over the arguments of a call, text as it is and all else as JSON."""
    each = each.replace("%VALUE%", "{{ v if v is string else v | tojson }}")
    return "{% for k, v in c.function.arguments.items() %}" + each + "{% endfor %}"


JSON_CALL = '{{ {"name": c.function.name, "arguments": c.function.arguments} | tojson }}'
TEMPLATES = {
    "list in tags": TURNS.replace("%CALL%", f"<tool_calls>[{JSON_CALL}]</tool_calls>"),
    "objects in tags": TURNS.replace("%CALL%", f"<tool_calls>\n{JSON_CALL}\n</tool_calls>"),
    "list in capitals": TURNS.replace("%CALL%", f"<TOOLCALL>[{JSON_CALL}]</TOOLCALL>"),
    "keys of objects": TURNS.replace(
        "%CALL%",
        '<|tools_prefix|>[{"{{ c.function.name }}": {{ c.function.arguments | tojson }}}]'
        "<|tools_suffix|>",
    ),
    "tags": TURNS.replace("%CALL%", f"<tool_call>\n{JSON_CALL}\n</tool_call>"),
    "longcat": TURNS.replace("%CALL%", f"<longcat_tool_call>\n{JSON_CALL}\n</longcat_tool_call>"),
    "plugin": TURNS.replace("%CALL%", f"<|action_start|><|plugin|>\n{JSON_CALL}<|action_end|>"),
    "named": TURNS.replace(
        "%CALL%", "[TOOL_CALLS]{{ c.function.name }}[ARGS]{{ c.function.arguments | tojson }}"
    ),
    "array": TURNS.replace("%CALL%", f"[TOOL_CALLS][{JSON_CALL}]"),
    "separated": TURNS.replace(
        "%CALL%",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>{{ c.function.name }}<｜tool▁sep｜>"
        "{{ c.function.arguments | tojson }}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    "fenced": TURNS.replace(
        "%CALL%",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>{{ c.function.name }}"
        "\n```json\n{{ c.function.arguments | tojson }}\n```<｜tool▁call▁end｜>"
        "<｜tool▁calls▁end｜>",
    ),
    "each in tags": TURNS.replace("%CALL%", f"<|tool_call|>{JSON_CALL}<|/tool_call|>")
    + '{# <|tool_call|>{"name" #}',
    "listed in tags": TURNS.replace("%CALL%", f"<|tool_call|>[{JSON_CALL}]<|/tool_call|>"),
    "listed": TURNS.replace("%CALL%", f"<|tool_call|>[{JSON_CALL}]"),
    "functools": TURNS.replace("%CALL%", f"functools[{JSON_CALL}]"),
    "one behind a token": TURNS.replace("%CALL%", f"<|function_call|>{JSON_CALL}")
    + "{# <|role_sep|> #}",
    "one in a turn": TURNS.replace(
        "%CALL%", f"<|message_sep|>\n\nfunction call<|role_sep|>\n{JSON_CALL}"
    ),
    "bare": TURNS.replace(
        "%CALL%", JSON_CALL.replace("arguments", "parameters", 1) + "{# <|python_tag|> #}"
    ),
    "bare by its words": TURNS.replace("%CALL%", JSON_CALL.replace("arguments", "parameters", 1))
    + '{# {"name": function name, "parameters": dictionary} #}',
    "bare list": TURNS.replace("%CALL%", f"[{JSON_CALL}]")
    + '{# [{"name": "tool_call_name", "arguments": {}}] #}',
    "function tags": TURNS.replace(
        "%CALL%",
        "<function={{ c.function.name }}>{{ c.function.arguments | tojson }}</function>",
    ),
    "numbered": TURNS.replace(
        "%CALL%",
        "<|tool_calls_section_begin|><|tool_call_begin|>{{ c.id }}<|tool_call_argument_begin|>"
        "{{ c.function.arguments | tojson }}<|tool_call_end|><|tool_calls_section_end|>",
    ),
    "identified": TURNS.replace(
        "%CALL%",
        "<|tool_calls|><|tool_call:begin|>{{ c.id }}<|tool_call:name|>{{ c.function.name }}"
        "<|tool_call:args|>{{ c.function.arguments | tojson }}<|tool_call:end|><|calls|>",
    ),
    "action": TURNS.replace(
        "%CALL%",
        '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "{{ c.function.name }}", '
        '"parameters": {{ c.function.arguments | tojson }}}\n]<|END_ACTION|>',
    ),
    "listed actions": TURNS.replace(
        "%CALL%",
        'Action:\n```json\n[\n    {\n        "tool_name": "{{ c.function.name }}",\n        '
        '"parameters": {{ c.function.arguments | tojson }}\n    }\n]```',
    ),
    "functions": TURNS.replace(
        "%CALL%",
        "<tool_call>\n<function={{ c.function.name }}>\n"
        + arguments("<parameter={{ k }}>\n%VALUE%\n</parameter>\n")
        + "</function>\n</tool_call>",
    ),
    "seed": TURNS.replace(
        "%CALL%",
        "<seed:tool_call>\n<function={{ c.function.name }}>\n"
        + arguments("<parameter={{ k }}>%VALUE%</parameter>\n")
        + "</function>\n</seed:tool_call>",
    ),
    "keys in lines": TURNS.replace(
        "%CALL%",
        "<tool_call>{{ c.function.name }}\n"
        + arguments("<arg_key>{{ k }}</arg_key>\n<arg_value>%VALUE%</arg_value>\n")
        + "</tool_call>",
    ),
    "keys": TURNS.replace(
        "%CALL%",
        "<tool_call>{{ c.function.name }}"
        + arguments("<arg_key>{{ k }}</arg_key><arg_value>%VALUE%</arg_value>")
        + "</tool_call>",
    ),
    "invocations": TURNS.replace(
        "%CALL%",
        '<minimax:tool_call>\n<invoke name="{{ c.function.name }}">\n'
        + arguments('<parameter name="{{ k }}">%VALUE%</parameter>\n')
        + "</invoke>\n</minimax:tool_call>",
    ),
    "flagged functions": TURNS.replace(
        "%CALL%",
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="{{ c.function.name }}">\n'
        + arguments(
            '<｜DSML｜parameter name="{{ k }}" string="{{ (v is string) | string | lower }}">'
            "%VALUE%</｜DSML｜parameter>\n"
        )
        + "</｜DSML｜invoke>\n</｜DSML｜function_calls>{# <function_results> #}",
    ),
    "flagged tools": TURNS.replace(
        "%CALL%",
        '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="{{ c.function.name }}">\n'
        + arguments(
            '<｜DSML｜parameter name="{{ k }}" string="{{ (v is string) | string | lower }}">'
            "%VALUE%</｜DSML｜parameter>\n"
        )
        + "</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
    ),
    "sections": TURNS.replace(
        "%CALL%",
        "<tool_calls:opensource>\n<tool_call:opensource>{{ c.function.name }}"
        "<tool_sep:opensource>\n"
        + arguments(
            "<arg_key:opensource>{{ k }}</arg_key:opensource>\n"
            "<arg_value:opensource>%VALUE%</arg_value:opensource>\n"
        )
        + "</tool_call:opensource>\n</tool_calls:opensource>",
    )
    + "{% set HYTK = ':opensource' %}{% set toolsep_token = '<tool_sep{}>'.format(HYTK) %}",
    "messages": "{% macro open_tag(tag) %}{{ '<|open|>' + tag + '<|sep|>' }}{% endmacro %}"
    + TURNS.replace(
        "%CALL%",
        '{{ open_tag(\'tools\') }}<|open|>call tool="{{ c.function.name }}" index="1"<|sep|>'
        + arguments(
            '<|open|>argument key="{{ k }}" type="{% if v is string %}string{% else %}object'
            '{% endif %}"<|sep|>%VALUE%<|close|>argument<|sep|>'
        )
        + "<|close|>call<|sep|><|close|>tools<|sep|>",
    ),
    "steps": TURNS.replace(
        "%CALL%",
        "<｜tool_calls_begin｜>\n<｜tool_call_begin｜>function<｜tool_sep｜>"
        '<steptml:invoke name="{{ c.function.name }}">\n'
        + arguments('<steptml:parameter name="{{ k }}">%VALUE%</steptml:parameter>\n')
        + "</steptml:invoke><｜tool_call_end｜>\n<｜tool_calls_end｜>",
    ),
    "parameters": TURNS.replace(
        "%CALL%",
        '<function name="{{ c.function.name }}">'
        + arguments('<param name="{{ k }}">%VALUE%</param>')
        + "</function>",
    ),
    "pythonic": TURNS.replace("%CALL%", "") + "{# <|tool_call_start|>[f(a=1)]<|tool_call_end|> #}",
    "pythonic by its list": TURNS.replace("%CALL%", "").replace(
        "{{ t | tojson }}", "<|tool_list_start|>{{ t | tojson }}"
    ),
    "pythonic by its words": "{% set keep_past_thinking = false %}"
    + TURNS.replace("%CALL%", "").replace("{{ t | tojson }}", "List of tools: [{{ t | tojson }}]"),
    "pythonic in lines": TURNS.replace("%CALL%", "")
    + "{# <function_calls>\nf(a=1)\n</function_calls> #}",
    "pythonic and bare": TURNS.replace("%CALL%", "") + "{# [func_name1(param1=value1)] #}",
}
"""A template of its shape for each way to write calls, in the order of ``STYLES``."""
