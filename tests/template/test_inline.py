"""What the engine host renders itself is what the process would print, or nothing (S-03)."""

from __future__ import annotations

import tracemalloc
from collections import UserDict
from datetime import datetime
from threading import Thread
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jarvis_core.template.inline import BUDGET, KNOWN_LIMIT, SOURCE_LIMIT, InlineRenderer
from jarvis_core.template.process import compiler
from jarvis_core.template.rewriting import NODES_LIMIT

NOW = "2031-05-06T07:08:00"
BIG = "ab" * 60_000
NESTED: Any = 1
for _ in range(100):
    NESTED = [NESTED]
VALUES: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": " Hé <s> \n", "name": None},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"name": "f", "arguments": {"b": 1.5}}],
        },
        {"role": "tool", "content": "x,y", "items": 3, "title": "T"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "format": [1, True, None]}}],
    "text": "a-b",
    "n": 2,
    "nothing": None,
    "big": BIG,
    "digits": int("9" * 4000),
    "numbers": list(range(30_000)),
    "floats": [1.1234567890123e-300] * 20_000,
    "nested": NESTED,
    "one": {"k": 1},
}
compiled = compiler()


def jinja(source: str, values: dict[str, Any] = VALUES) -> str | None:
    """What the process prints, or None where it fails."""
    try:
        clock = datetime.fromisoformat(NOW)
        return str(compiled(source).render(values, strftime_now=clock.strftime))
    except Exception:
        return None


def inline(source: str, values: dict[str, Any] = VALUES, **more: Any) -> str | None:
    renderer = InlineRenderer(**more)
    renderer.learn(source)
    return renderer.render(source, values, now=NOW)


# -- the same text -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}{{ '<|' + m.role + '|>' + m['content'] | trim }}{% endfor %}",
        "{% for m in messages if m.content %}{{ loop.index0 }}{{ loop.last }}{% endfor %}",
        "{% for m in messages %}{% if m.tool_calls is defined %}"
        "{% break %}{% endif %}.{% endfor %}",
        "{% for k, v in tools[0].function | items %}{{ k ~ '=' ~ v }};{% else %}no{% endfor %}",
        "{% for k, v in one.items() %}{{ k }}{{ v }}{% endfor %}{% for x in missing %}{% endfor %}",
        "{% set ns = namespace(a=0, t='') %}{% for i in range(5) %}{% set ns.a = ns.a + i * 2 %}"
        "{% set ns.t = ns.t ~ ns.a %}{% endfor %}{{ ns.a }}{{ ns.t }}",
        "{% macro m(x, y='!') %}[{{ x }}{{ y }}]{% endmacro %}{{ m(1) + m(text, y=nothing) }}",
        "{% for x in [1, 2] %}{% macro m() %}"
        "{{ loop is defined }}{% endmacro %}{{ m() }}{% endfor %}",
        "{% set t %}a{{ n }}{% endset %}{{ t | upper }}{% generation %}{{ t }}{% endgeneration %}",
        "{{ tools | tojson }}{{ tools | tojson(indent=2) }}"
        "{{ one | tojson(separators=(',', ':')) }}",
        "{{ (messages | selectattr('role', 'equalto', 'user') | list)[0].content }}"
        "{{ messages | rejectattr('role', 'equalto', 'user') | list | length }}",
        "{{ '<' + text }}{{ '<' ~ (text | tojson | safe) ~ '>' }}{{ text | safe }}",
        "{{ messages[-1].title }}{{ messages[2]['items'] }}{{ messages[5] is defined }}",
        "{{ messages[1:] | length }}{{ text[::-1] }}{{ text[0] }}{{ messages | first | string }}",
        "{{ n % 2 == 0 and 'even' or 'odd' }}{{ 7 // 2 - 1.5 }}{{ -n }}{{ 2 > 1 != false }}",
        "{{ 'a' in text }}{{ 'role' in messages[0] }}{{ n in [1, 2] }}{{ 'z' not in text }}",
        "{{ text.split('-')[1].replace('b', 'cc').strip('c') }}{{ ', '.join(['a', 'b']) }}",
        "{{ text.startswith('a') }}{{ one.get('k') }}"
        "{{ one.get('x', 'y') }}{{ one.keys() | list }}",
        "{{ missing }}{{ missing | default('d') }}"
        "{{ missing is none }}{{ nothing }}{{ n is number }}",
        "{{ one | dictsort }}{{ {1: 2, 0: 1} | dictsort }}{{ {'a': n, 'b': [1]} }}"
        "{{ (1, 'é') }}{{ nothing or true }}",
        "{{ strftime_now('%d %b %Y') }}{{ strftime_now is defined }}"
        "{{ raise_exception is defined }}",
    ],
)
def test_what_templates_do_is_printed_here_as_by_jinja(source: str) -> None:
    printed = inline(source)
    assert printed is not None
    assert printed == jinja(source)


def one_of(words: str) -> st.SearchStrategy[str]:
    return st.sampled_from(words.split())


values = one_of(
    "text n nothing missing one one.k messages tools[0] messages[1] m m.role m.items m['items'] "
    "'x' '<a>' '' 1 2.5 true none [] [text,n] ('a','b') {'k':text} range(3) loop.index f(1) f(n) "
    "f ns.x loop namespace self strftime_now('%Y') messages[n:] text[1]"
)
filters = one_of(
    "trim upper tojson length join('+') join string list first last items default('d') safe "
    "escape default('d',true) replace('a','<b>') dictsort map('upper') list|string "
    "selectattr('role','equalto','user')|list"
)
methods = one_of(
    "strip() strip('a') split('-') split() items() get('k') keys() upper() replace('a','bb') "
    "startswith('a') join(['a','b']) join([1]) format(1) append(1)"
)
operators = one_of("+ ~ - * / // % == != < in and or") | st.just("not in")
tests = one_of("defined none string mapping iterable sequence number true odd")


def compose(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("({} | {})".format, inner, filters),
        st.builds("({}).{}".format, inner, methods),
        st.builds("({} {} {})".format, inner, operators, inner),
        st.builds("({} is {})".format, inner, tests),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("({})[{}]".format, inner, inner),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds("f({})".format, inner),
    )


expressions = st.recursive(values, compose, max_leaves=5)
places = st.sampled_from(
    [
        "{{ X }}",
        "{% if X %}yes{% endif %}",
        "{% set ns.x = X %}{{ ns.x }}{{ ns.x is string }}{{ ns.x ~ '<' }}",
        "{% set y %}{{ X }}{% endset %}{{ y | trim }}",
        "{% for y in X %}{{ y }};{{ loop.length }}{% else %}none{% endfor %}",
        "{% for y in messages if X %}{{ y.role }}{{ loop.index }}{% endfor %}",
        "{% macro g(y=X) %}{{ y }}{% endmacro %}{{ g() }}{{ g(X) | tojson }}",
    ]
)
FRAME = (
    "{% set ns = namespace(x='y') %}{% macro f(x) %}<{{ x }}>{% endmacro %}"
    "{% for m in messages %}PLACE{% endfor %}"
)


@given(place=places, expression=expressions)
@settings(max_examples=400, deadline=None)
def test_whatever_a_template_computes_is_printed_as_by_jinja_or_not_at_all(
    place: str, expression: str
) -> None:
    source = FRAME.replace("PLACE", place).replace("X", expression)
    known = {key: VALUES[key] for key in ("messages", "tools", "text", "n", "nothing", "one")}
    before = repr(known)
    printed = inline(source, known)
    assert repr(known) == before
    assert printed is None or printed == jinja(source, known)


# -- what is left to the process ---------------------------------------------------------------

DOUBLED = (
    "{% set ns = namespace(x=START) %}{% for i in range(60) %}{% set ns.x = STEP %}{% endfor %}"
)


def doubled(start: str, step: str) -> str:
    return DOUBLED.replace("START", start).replace("STEP", step)


def often(statement: str, times: int = 2000) -> str:
    return f"{{% for i in range({times}) %}}{statement}{{% endfor %}}"


BOMBS = [
    "{{ 'x' * 10 ** 10 }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ digits }}",
    "{{ digits + 1 }}",
    "{{ digits | tojson }}",
    "{{ '%099999999d' % 1 }}",
    "{{ '{:999999999}'.format(1) }}",
    "{{ 'x'.center(10 ** 9) }}",
    "{{ 'x' | center(10 ** 9) }}",
    "{{ 'x' | indent(10 ** 9) }}",
    "{{ one | tojson(indent=10 ** 9) }}",
    "{{ one | tojson(indent=1000000000) }}",
    often("{{ one | tojson(indent=-100000) }}"),
    "{{ [1, 2] | tojson(separators=(big, big)) }}",
    "{{ nested }}",
    "{{ nested | tojson }}",
    "{{ big.replace('', big) }}",
    "{{ big | replace('', big) }}",
    "{{ big.join(numbers) }}",
    "{{ numbers | join(big) }}",
    "{{ big in big ~ big }}",
    "{{ big.strip(big) }}",
    "{{ strftime_now('%c' * 10000) }}",
    "{{ strftime_now(big) }}",
    "{{ strftime_now(format=big) }}",
    "{{ 1 < 2 in numbers }}",
    often("{% set x = 'a' < 'b' in big %}"),
    "{{ - 0x" + "f" * 1000 + " }}",
    "{{ 'é' * 10 ** 8 }}",
    "{% set ns = namespace(x=[]) %}" + often("{% set ns.x = [ns.x, range(99999) | list] %}", 50),
    often("{% macro m() %}{% endmacro %}" * 40, 100),
    "{{ numbers | batch(2) | list }}",
    "{{ big | wordwrap(1) }}",
    "{{ big | urlize }}",
    "{{ messages | groupby('role') }}",
    "{{ messages | sort(attribute='role') }}",
    "{{ numbers | unique | list }}",
    "{{ nested | pprint }}",
    "{{ one | xmlattr }}",
    "{{ numbers | random }}",
    "{{ numbers | sum }}",
    "{{ numbers | map('string') | list }}",
    "{{ numbers | select | list }}",
    "{{ lipsum(n=1000) }}",
    "{{ dict(a=1) }}",
    "{% set c = cycler(1, 2) %}{{ c.next() }}",
    "{% for x in [1] %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for x in [[1], [2]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}",
    "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "{% macro m(n) %}{{ m(n - 1) if n > 0 }}{% endmacro %}{{ m(40) }}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}x{% endcall %}",
    "{% filter upper %}x{% endfilter %}",
    "{% set x | upper %}x{% endset %}{{ x }}",
    "{% include 'x' ignore missing %}",
    "{% block b %}x{% endblock %}",
    "{% set l = [] %}{% set _ = l.append(1) %}{{ l }}",
    "{% set f = text.upper %}{{ f() }}",
    "{{ text.upper }}",
    "{{ text['upper'] }}",
    "{{ one['items'] }}",
    "{{ one.items }}",
    "{{ messages[0][['unhashable']] }}",
    "{{ f.x }}{% macro f() %}{% endmacro %}",
    "{% set range = 1 %}{{ range }}",
    "{% set r = range %}{{ r(3) | list }}",
    "{{ [range(2)] }}",
    "{{ text.__class__ }}",
    "{{ text['__class__'] }}",
    "{{ namespace(one).k }}",
    "{{ self }}",
    "{{ text | attr('upper') }}",
    doubled("'ab'", "ns.x ~ ns.x"),
    doubled("'ab'", "ns.x + ns.x"),
    doubled("'ab'", "[ns.x, ns.x] | join"),
    doubled("'ab'", "'%s%s' % (ns.x, ns.x)"),
    doubled("'ab'", "ns.x.replace('a', 'aa')"),
    doubled("'ab'", "ns.x | safe ~ ns.x"),
    doubled("'ab'", "(ns.x | tojson)"),
    doubled("[1]", "ns.x + ns.x"),
    doubled("3", "ns.x * ns.x"),
    doubled("3", "ns.x + ns.x + 2 ** 60"),
    doubled("[1]", "[ns.x, ns.x]") + "{{ ns.x }}",
    doubled("[1]", "[ns.x, ns.x]") + "{{ ns.x | tojson }}",
    doubled("[1]", "[ns.x, ns.x]") + "{{ ns.x == [ns.x] }}",
    doubled("[1]", "[ns.x, ns.x]") + "{{ [ns.x, ns.x] | string | length }}",
    doubled("(1,)", "(ns.x, ns.x)") + "{{ one[ns.x] }}",
    doubled("(1,)", "(ns.x, ns.x)") + "{{ one.get(ns.x) }}",
    doubled("(1,)", "(ns.x, ns.x)") + "{{ ns.x in one }}",
    doubled("(1,)", "(ns.x, ns.x)") + "{{ {ns.x: 1} }}",
    "{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}" + doubled("'ab'", "m(ns.x)"),
    "{% set ns = namespace(x='ab') %}"
    + often("{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}", 60),
    often("{{ big }}"),
    often("{{ big | safe }}"),
    often("{{ numbers | tojson }}"),
    often("{{ floats | tojson }}"),
    often("{{ floats }}"),
    often("{{ numbers | join('') }}"),
    often("{% set x = big.split('a') %}"),
    often("{% set x = big.upper() %}"),
    often("{% set x = big | trim %}"),
    often("{% set x = big[1:] %}"),
    often("{% set x = numbers[1:] %}"),
    often("{% set x = numbers | list %}"),
    often("{% set x = 'xyz' in big %}"),
    often("{% set x = nothing in numbers %}"),
    often("{% set x = numbers == numbers[:] %}"),
    often("{% set x = 1 < 2 < numbers %}"),
    often("{% set x = one.items() | list | tojson %}", 5000),
    often("{% for c in big %}{% endfor %}"),
    often("{% for c in numbers if c < 0 %}{% endfor %}"),
    often(often(often(""))),
    often("{% macro m() %}{% endmacro %}{{ m() }}", 20_000),
    often("", 100_000),
    "{% for i in range(10 ** 9) %}{% endfor %}",
]


@pytest.mark.parametrize("source", BOMBS)
def test_what_could_cost_much_is_left_to_the_process(source: str) -> None:
    tracemalloc.start()
    try:
        assert inline(source) is None
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "source",
    [
        "{{ missing.x }}",
        "{{ text + n }}",
        "{{ n.x.y }}",
        "{{ raise_exception('no') }}",
        "{% for x in n %}{% endfor %}",
        "{{ one.get([]) }}",
    ],
)
def test_what_fails_is_left_to_the_process(source: str) -> None:
    assert inline(source) is None
    assert jinja(source) is None


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' }}" + " " * SOURCE_LIMIT,
        "{{ n }}" * NODES_LIMIT,
        "{{ " + "(" * 60 + "n" + ",)" * 60 + " }}",
        "{{ " + "not " * 60 + "n }}",
        "{% if n %}" * 50 + "x" + "{% endif %}" * 50,
    ],
)
def test_what_takes_long_to_compile_is_left_to_the_process(source: str) -> None:
    assert jinja(source) is not None
    assert inline(source) is None


def test_a_budget_that_is_used_up_ends_a_rendering() -> None:
    source = often("{{ text }}", 300)
    assert inline(source) == jinja(source)
    assert inline(source, budget=BUDGET // 100) is None


def test_only_what_is_met_is_left_to_the_process() -> None:
    source = "{% if n > 5 %}{{ text | wordwrap(1) }}{% endif %}{{ text }}"
    assert inline(source) == "a-b"
    assert inline(source, {**VALUES, "n": 6}) is None


# -- the renderer ------------------------------------------------------------------------------


def test_a_template_that_was_not_learnt_is_left_to_the_process() -> None:
    assert InlineRenderer().render("x", {}, now=NOW) is None


def test_what_is_no_template_is_learnt_to_be_left() -> None:
    assert inline("{% if %}") is None


def test_few_templates_are_kept() -> None:
    renderer = InlineRenderer()
    for n in range(KNOWN_LIMIT + 1):
        renderer.learn(f"{n}")
    assert renderer.render("0", {}, now=NOW) is None
    assert renderer.render(f"{KNOWN_LIMIT}", {}, now=NOW) == f"{KNOWN_LIMIT}"


def test_a_rendering_leaves_nothing_behind() -> None:
    renderer = InlineRenderer()
    source = "{% macro m(n) %}{{ m(n - 1) if n > 0 else text }}{% endmacro %}{{ m(n) }}"
    renderer.learn(source)
    for depth, printed in ((40, None), (20, "a-b")) * 3:
        assert renderer.render(source, {"n": depth, "text": "a-b"}, now=NOW) == printed


def test_nobody_waits_for_another_rendering() -> None:
    renderer = InlineRenderer()
    renderer.learn("{{ x }}")
    seen: list[str | None] = []

    class Slow(UserDict[str, Any]):
        def keys(self) -> Any:
            other = Thread(target=lambda: seen.append(renderer.render("{{ x }}", {}, now=NOW)))
            other.start()
            other.join()
            return super().keys()

    assert renderer.render("{{ x }}", cast(dict[str, Any], Slow(x="1")), now=NOW) == "1"
    assert seen == [None]
