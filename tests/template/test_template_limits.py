"""A hostile template costs its own request at most two seconds, and reaches nothing (S-03)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from jarvis_core import ChatRequest, FormatContext, Message, ModelInfo, RequestError
from jarvis_core.errors import JarvisError
from jarvis_core.template import TemplateFormat
from jarvis_core.template.helper import RenderError, TemplateHelper

USER = Message(role="user", content="Hi")
NOW = "2031-05-06T00:00:00"


@pytest.fixture
def helper() -> Iterator[TemplateHelper]:
    renderer = TemplateHelper()
    yield renderer
    renderer.close()


def render(helper: TemplateHelper, source: str) -> str:
    info: dict[str, Any] = {"name": "m", "source": "/m", "engine": "fake", "context_length": 8}
    context = FormatContext(
        model=ModelInfo(**info, chat_template=source), now=datetime.fromisoformat(NOW)
    )
    request = ChatRequest(model="m", messages=(USER,))
    return TemplateFormat(helper).render(request, context).text


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


FOREVER = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
    "{% endfor %}{% endfor %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (FOREVER, "takes too long"),
        ("{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}", "fails|too long"),
        ("{{ 'x' * 10 ** 10 }}", "memory"),
        ("{% set x = ['y' * 10 ** 8] * 3 %}{{ x | join | upper | lower }}", "memory|too long"),
        ("{{ 'x' * 10 ** 8 }}", "too long|memory"),
        ("{{ 9 ** (9 ** 9) }}", "takes too long|memory|fails"),
        ("{{ range(10 ** 9) | list }}", "fails"),
    ],
)
def test_a_bomb_is_a_refused_request_within_three_seconds(
    source: str, words: str, helper: TemplateHelper
) -> None:
    assert render(helper, "warm") == "warm"
    start = time.monotonic()
    with pytest.raises(RequestError, match=words) as caught:
        render(helper, source)
    assert time.monotonic() - start < 3
    assert caught.value.status_code == 400
    assert render(helper, "{{ messages[0].content }}") == "Hi"


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__self__.__class__ }}",
        "{{ cycler.__init__.__globals__.os.environ }}",
        "{{ self._TemplateReference__context }}",
        "{{ ('{0.__class__.__mro__}').format(messages) }}",
        "{{ messages.append(1) }}",
        "{% import 'os' as os %}{{ os }}",
        "{% include '/etc/hostname' %}",
    ],
)
def test_a_template_reaches_nothing_outside(source: str, helper: TemplateHelper) -> None:
    try:
        text = render(helper, source)
    except JarvisError as error:
        text = error.message
    for leak in ("subclass", "environ(", "<class 'object'>", "builtins"):
        assert leak not in text.replace(source, "").replace("__subclasses__", "")


def test_the_process_gets_no_environment(
    helper: TemplateHelper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JARVIS_API_KEY", "canary")
    helper.render("x", {}, now=NOW)
    assert b"canary" not in _environment_of(helper.pid)


def _environment_of(pid: int | None) -> bytes:
    path = Path(f"/proc/{pid}/environ")
    return path.read_bytes() if path.exists() else b""


def test_a_process_is_used_again_and_ends_when_it_is_closed(helper: TemplateHelper) -> None:
    assert helper.pid is None
    helper.render("x", {}, now=NOW)
    pid = helper.pid
    helper.render("y", {}, now=NOW)
    assert pid is not None
    assert helper.pid == pid
    helper.close()
    assert not alive(pid)
    assert helper.render("z", {}, now=NOW) == "z"


def test_a_process_that_was_killed_is_replaced(helper: TemplateHelper) -> None:
    helper.render("x", {}, now=NOW)
    assert helper.pid is not None
    os.kill(helper.pid, 9)
    os.waitpid(helper.pid, os.WNOHANG)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            assert helper.render("y", {}, now=NOW) == "y"
        except RenderError:  # it was still dying
            continue
        break
    else:
        pytest.fail("no new process came")


def test_the_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    program = (
        "import os\n"
        "from jarvis_core.template.helper import TemplateHelper\n"
        "helper = TemplateHelper()\n"
        f"helper.render('x', {{}}, now='{NOW}')\n"
        "print(helper.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    pid = int(done.stdout)
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)


def test_text_of_any_kind_crosses_to_the_process_and_back(helper: TemplateHelper) -> None:
    said = "é🎈\x00\u2028\ud800" + "x" * 300_000
    assert helper.render("{{ said }}", {"said": said}, now=NOW) == said


def test_what_a_template_says_in_several_lines_is_told_whole(helper: TemplateHelper) -> None:
    with pytest.raises(RenderError) as caught:
        helper.render("{{ raise_exception(why) }}", {"why": "no\ntools:\n é"}, now=NOW)
    assert (caught.value.kind, caught.value.message) == ("refused", "no\ntools:\n é")
    assert helper.render("{{ '' }}", {}, now=NOW) == ""


@pytest.mark.parametrize("reply", [b"", b"x", b"t\xff", b"e"])
def test_a_process_that_talks_nonsense_costs_its_own_rendering(
    reply: bytes, helper: TemplateHelper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "nonsense.py"
    script.write_text(
        "import socket\n"
        "peer = socket.socket(fileno=0)\n"
        "peer.sendall(bytes([0, 0, 0, 1]) + b'r')\n"
        "peer.recv(1 << 16)\n"
        f"peer.sendall(({len(reply)}).to_bytes(4, 'big') + {reply!r})\n"
    )
    with monkeypatch.context() as patched:
        patched.setattr("jarvis_core.template.helper._SCRIPT", script)
        with pytest.raises(RenderError):
            helper.render("x", {}, now=NOW)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            assert helper.render("y", {}, now=NOW) == "y"
        except RenderError:  # the old one was still dying
            continue
        break
    else:
        pytest.fail("no new process came")


def test_a_rendering_may_be_given_less_time() -> None:
    helper = TemplateHelper(time_limit=0.2)
    try:
        with pytest.raises(RenderError) as caught:
            helper.render(FOREVER, {}, now=NOW)
        assert caught.value.kind == "time"
    finally:
        helper.close()
