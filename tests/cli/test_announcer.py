from __future__ import annotations

import io
import json
import shlex

import pytest

from jarvis_core.cli.announcer import QUESTION, Announcer, curl_line
from jarvis_core.models.events import ModelEvent
from jarvis_core.settings import ModelConfig, ServerSettings, Settings

TINY = ModelConfig(name="tiny", source="tiny.gguf")
PHI = ModelConfig(name="phi3", source="phi3.gguf", engine="vllm")
LATER = ModelConfig(name="later", source="later.gguf", preload=False)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Terminal:
    """An announcer and what it has printed."""

    def __init__(self, *models, api_key="", out=None):
        self.out = out or io.StringIO()
        self.clock = Clock()
        settings = Settings(
            server=ServerSettings(api_key=api_key), models={m.name: m for m in models}
        )
        self.announce = Announcer(settings, out=self.out, clock=self.clock)

    def tell(self, kind, model="", **fields):
        self.announce(ModelEvent(kind=kind, model=model, **fields))

    @property
    def lines(self):
        return self.out.getvalue().splitlines()


def test_a_start_tells_each_step_and_then_how_to_try_it():
    terminal = Terminal(TINY)
    terminal.tell("listening", message="http://127.0.0.1:8123")
    terminal.tell("loading", "tiny", engine="llama_cpp", message="tiny.gguf")
    terminal.tell("ready", "tiny", seconds=1.84, message="chat format chatml")
    assert terminal.lines == [
        "loading tiny with llama_cpp (tiny.gguf) ...",
        "tiny is ready (1.8 s, chat format chatml)",
        "",
        "Jarvis is ready at http://127.0.0.1:8123",
        "",
        "  tiny  llama_cpp",
        "",
        "Try it:",
        "",
        f"  {curl_line('http://127.0.0.1:8123', 'tiny', key=False)}",
        "",
        "What else there is: http://127.0.0.1:8123/docs",
        "",
        "Ctrl-C ends it.",
        "",
    ]


@pytest.mark.parametrize("last", ["listening", "ready"])
def test_the_invitation_waits_for_the_address_and_every_model_to_load(last):
    terminal = Terminal(TINY, PHI, LATER)
    terminal.tell("ready", "tiny")
    steps = {
        "listening": lambda: terminal.tell("listening", message="http://127.0.0.1:1"),
        "ready": lambda: terminal.tell("ready", "phi3"),
    }
    steps.pop("ready" if last == "listening" else "listening")()
    assert "Try it:" not in terminal.lines
    steps[last]()
    assert "Try it:" in terminal.lines
    assert "  later  llama_cpp, loads on the first request" in terminal.lines


def test_a_model_that_fails_is_named_and_another_is_tried():
    terminal = Terminal(TINY, PHI)
    terminal.tell("listening", message="http://127.0.0.1:1")
    terminal.tell("failed", "tiny", message="tiny.gguf: no such file")
    terminal.tell("ready", "phi3")
    assert terminal.lines[0] == "tiny cannot be loaded: tiny.gguf: no such file"
    assert "  tiny  llama_cpp, could not be loaded" in terminal.lines
    assert "  phi3  vllm" in terminal.lines
    assert any('"model": "phi3"' in line for line in terminal.lines)


def test_without_any_model_nobody_is_invited():
    terminal = Terminal(TINY)
    terminal.tell("listening", message="http://127.0.0.1:1")
    terminal.tell("failed", "tiny", message="gone")
    assert terminal.lines == [
        "tiny cannot be loaded: gone",
        "Listening at http://127.0.0.1:1, but no model could be loaded.",
    ]


def test_models_that_load_later_are_enough():
    terminal = Terminal(LATER)
    terminal.tell("listening", message="http://127.0.0.1:1")
    assert any('"model": "later"' in line for line in terminal.lines)


def test_the_invitation_comes_once():
    terminal = Terminal(TINY)
    terminal.tell("listening", message="http://127.0.0.1:1")
    for _ in range(2):
        terminal.tell("loading", "tiny", engine="llama_cpp")
        terminal.tell("ready", "tiny")
    assert terminal.lines.count("Try it:") == 1
    assert terminal.lines[-2:] == ["loading tiny with llama_cpp ...", "tiny is ready"]


def test_a_download_is_told_at_its_start_at_its_end_and_every_few_seconds():
    terminal = Terminal(PHI)
    for second, done in enumerate([0, 100, 200, 300, 301, 400]):
        terminal.clock.now = second * 0.9
        terminal.tell("downloading", "phi3", done_bytes=done * 1_000_000, total_bytes=400_000_000)
    assert terminal.lines == [
        "downloading phi3: 0 of 400 MB (0 %) ...",
        "downloading phi3: 300 of 400 MB (75 %) ...",
        "downloading phi3: 400 of 400 MB (100 %) ...",
    ]


def test_a_download_of_unknown_size_tells_what_has_come():
    terminal = Terminal(PHI)
    terminal.tell("downloading", "phi3", done_bytes=1_500_000_000)
    assert terminal.lines == ["downloading phi3: 1,500 MB ..."]


def test_the_end_is_told():
    terminal = Terminal(TINY)
    terminal.tell("stopping", message="running answers may go on for 20 s")
    terminal.tell("stopping")
    assert terminal.lines == ["stopping (running answers may go on for 20 s) ...", "stopping ..."]


@pytest.mark.parametrize(
    ("address", "tried"),
    [
        ("http://0.0.0.0:80", "http://127.0.0.1:80"),
        ("http://[::]:80", "http://[::1]:80"),
        ("http://example.org:80", "http://example.org:80"),
    ],
)
def test_the_address_to_try_is_one_to_connect_to(address, tried):
    terminal = Terminal(LATER)
    terminal.tell("listening", message=address)
    assert any(f"curl {tried}/v1/chat/completions" in line for line in terminal.lines)


def test_the_line_to_try_is_a_shell_command():
    command, url, flag, body = shlex.split(curl_line("http://[::1]:8000", "it's", key=False))
    assert (command, url, flag) == ("curl", "http://[::1]:8000/v1/chat/completions", "-d")
    assert json.loads(body) == {
        "model": "it's",
        "messages": [{"role": "user", "content": QUESTION}],
    }


def test_the_line_to_try_has_a_place_for_the_key_and_not_the_key():
    """S-09."""
    terminal = Terminal(LATER, api_key="canary")
    terminal.tell("listening", message="http://127.0.0.1:1")
    assert any('-H "Authorization: Bearer YOUR_API_KEY"' in line for line in terminal.lines)
    assert "canary" not in terminal.out.getvalue()


def test_a_source_that_is_the_name_is_not_said_twice():
    terminal = Terminal(TINY)
    terminal.tell("loading", "tiny", engine="llama_cpp", message="tiny")
    assert terminal.lines == ["loading tiny with llama_cpp ..."]


def test_letters_that_the_terminal_lacks_are_escaped():
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    terminal = Terminal(ModelConfig(name="größe", source="x"), out=out)
    terminal.tell("ready", "größe")
    out.seek(0)
    assert out.read() == "gr\\xf6\\xdfe is ready\n"


def test_a_terminal_that_is_gone_stops_nothing():
    out = io.StringIO()
    terminal = Terminal(TINY, out=out)
    out.close()
    terminal.tell("ready", "tiny")
    assert out.closed
