"""Plugins are loaded one by one; what is broken is reported and harms nothing."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from jarvis_core.errors import PluginError
from jarvis_core.plugins import Registry, load_plugins, media_of
from jarvis_core.structs import Capabilities, ModelInfo

ENGINE = """
import attrs
from jarvis_core import EngineType, hookimpl

@attrs.frozen
class Settings:
    pass

async def load(model, settings): ...

@hookimpl
def jarvis_register_engines():
    return [EngineType(name="{name}", env_prefix="X_", load=load, settings={settings})]
"""

FORMAT = """
from jarvis_core import hookimpl

class Format:
    name = "{name}"
    def render(self, request, context): ...
    def parser(self, request, context, prompt): ...
    def tool_grammar(self, request, context): ...

@hookimpl
def jarvis_register_chat_formats():
    return [Format()]

@hookimpl
def jarvis_detect_chat_format(model):
    {detect}
"""

MARKED = "from jarvis_core import hookimpl\n@hookimpl\n"
MODEL = ModelInfo(name="m", source="s", engine="e", context_length=1)


class Plugins:
    """Writes plugin modules and loads them through entry points."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._points: list[EntryPoint] = []

    def add(self, name: str, source: str, entry: str | None = None) -> None:
        (self._directory / f"plugin_{name}.py").write_text(source)
        self._points.append(EntryPoint(entry or name, f"plugin_{name}", "jarvis"))

    def load(self) -> Registry:
        return load_plugins(self._points)


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugins:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("JARVIS_PLUGINS")
    for name in [n for n in sys.modules if n.startswith("plugin_")]:
        monkeypatch.delitem(sys.modules, name)
    return Plugins(tmp_path)


def reason(registry: Registry, name: str) -> str:
    return next(p.error or "" for p in registry.plugins if p.name == name)


def test_engines_and_formats_are_found_beside_the_built_in_format(plugins: Plugins) -> None:
    plugins.add("a", ENGINE.format(name="one", settings="Settings"))
    plugins.add("b", FORMAT.format(name="two", detect="return None"))
    registry = plugins.load()
    assert registry.engine("one").name == "one"
    assert set(registry.chat_formats) == {"template", "two"}
    assert registry.broken == ()


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import no_such_module", "No module named 'no_such_module'"),
        ("raise SystemExit(3)", "SystemExit"),
        ("def f(:", "SyntaxError"),
        (
            MARKED + "def jarvis_register_engine(): return []",
            "'jarvis_register_engine' does not exist; there are: jarvis_detect_chat_format",
        ),
        ("def jarvis_register_engines(): return []", "not marked with jarvis_core.hookimpl"),
        ("x = 1", "no function of it is marked with jarvis_core.hookimpl"),
        (
            MARKED + "def jarvis_register_engines(x): return []",
            "arguments that it is not given: write def jarvis_register_engines()",
        ),
        (
            MARKED + "def jarvis_detect_chat_format(info): return None",
            "arguments that it is not given: write def jarvis_detect_chat_format(model)",
        ),
        (MARKED + "async def jarvis_register_engines(): return []", "make it a plain one"),
        (MARKED + "def jarvis_register_engines(): pass", "None, not a list: is a return missing?"),
        (MARKED + "def jarvis_register_engines(): return 7", "returned int, not a list"),
        (MARKED + "def jarvis_register_engines(): 1 / 0", "ZeroDivisionError: division by zero ("),
        (MARKED + "def jarvis_register_engines(): 1 / 0", "plugin_broken.py:3)"),
        ("assert False", "AssertionError ("),
        (
            MARKED + "def jarvis_register_engines(): return ['x']",
            "'x', not an EngineType",
        ),
        (
            ENGINE.format(name="one", settings="dict"),
            "the settings of engine 'one' are not an attrs class",
        ),
        (
            ENGINE.format(name="one", settings="Settings()"),
            "the settings of engine 'one' are not an attrs class",
        ),
        (
            ENGINE.format(name="My Engine", settings="Settings"),
            "the name of engine 'My Engine' takes lower case letters",
        ),
        (
            ENGINE.replace("X_", "X").format(name="one", settings="Settings"),
            "the env_prefix of engine 'one' is 'X'",
        ),
        (
            ENGINE.replace("load=load", "load=None").format(name="one", settings="Settings"),
            "load of engine 'one' is None, not a coroutine function",
        ),
        (
            FORMAT.format(name="Mine", detect="return None"),
            "the name of chat format 'Mine' takes lower case letters",
        ),
        (
            FORMAT.replace("Format()", "Format").format(name="mine", detect="return None"),
            "returned the class Format: return Format()",
        ),
        (
            FORMAT.replace("[Format()]", "[Format(), Format()]").format(name="mine", detect="pass"),
            "it brings the chat format 'mine' twice",
        ),
        (
            FORMAT.replace("def parser", "def pars").format(name="mine", detect="return None"),
            "chat format 'mine' has no method parser",
        ),
        (
            MARKED + "def jarvis_register_chat_formats(): return [1]",
            "no ChatFormat",
        ),
    ],
)
def test_broken_plugin_is_reported_and_harms_no_other(
    plugins: Plugins, source: str, why: str
) -> None:
    plugins.add("broken", source)
    plugins.add("good", ENGINE.format(name="one", settings="Settings"))
    registry = plugins.load()
    assert why in reason(registry, "broken")
    assert "one" in registry.engines


def test_missing_engine_says_what_to_install_what_there_is_and_what_is_broken(
    plugins: Plugins,
) -> None:
    plugins.add("good", ENGINE.format(name="one", settings="Settings"))
    plugins.add("bad", "import no_such_module")
    with pytest.raises(
        PluginError,
        match=r"engine 'vllm' is not installed: pip install jarvis-vllm \(installed engines: one\)"
        r"; plugin 'bad' \(unknown\) is broken: .*no_such_module",
    ):
        plugins.load().engine("vllm")


@pytest.mark.parametrize("name", ["llamacpp", "llama.cpp", "LLAMA_CPP", "lama_cpp"])
def test_a_misspelt_engine_is_told_the_installed_one_and_no_package(
    plugins: Plugins, name: str
) -> None:
    plugins.add("good", ENGINE.format(name="llama_cpp", settings="Settings"))
    with pytest.raises(PluginError) as caught:
        plugins.load().engine(name)
    assert caught.value.message == (
        f"engine {name!r} is not installed; did you mean llama_cpp? (installed engines: llama_cpp)"
    )


def test_missing_format_lists_those_that_there_are(plugins: Plugins) -> None:
    with pytest.raises(PluginError, match="'x' does not exist; there are: auto, template"):
        plugins.load().chat_format("x")


@pytest.mark.parametrize("name", ["Llama-3.1", "llama_3_1", "other name", "Other-Name"])
def test_a_format_is_found_in_any_spelling_of_its_name_and_aliases(
    plugins: Plugins, name: str
) -> None:
    source = FORMAT.format(name="llama3.1", detect="return None")
    plugins.add(
        "one", source.replace("class Format:", 'class Format:\n    aliases = ("other-name",)')
    )
    assert plugins.load().chat_format(name).name == "llama3.1"


def test_a_name_goes_before_an_alias_and_what_two_may_mean_is_nobodys(plugins: Plugins) -> None:
    for name in ("one", "two", "three"):
        source = FORMAT.format(name=name, detect="return None")
        aliases = 'class Format:\n    aliases = ("both",)'
        plugins.add(
            name,
            source.replace(
                "class Format:", aliases.replace("both", "one" if name == "three" else "both")
            ),
        )
    registry = plugins.load()
    assert registry.chat_format("One").name == "one"
    with pytest.raises(PluginError, match="'both' does not exist"):
        registry.chat_format("both")


@pytest.mark.parametrize("source", [ENGINE, FORMAT.replace("{detect}", "return None")])
def test_two_plugins_with_one_name_are_an_error_that_names_both(
    plugins: Plugins, source: str
) -> None:
    plugins.add("a", source.format(name="same", settings="Settings"))
    plugins.add("b", source.format(name="same", settings="Settings"))
    with pytest.raises(PluginError, match="'same': 'a' .* and 'b'"):
        plugins.load()


def test_two_entry_points_with_one_name_are_an_error_that_names_both(plugins: Plugins) -> None:
    plugins.add("a", ENGINE.format(name="one", settings="Settings"), entry="same")
    plugins.add("b", ENGINE.format(name="two", settings="Settings"), entry="same")
    with pytest.raises(PluginError, match="two plugins are named 'same': plugin_a and plugin_b"):
        plugins.load()


def test_a_plugin_that_is_installed_and_named_by_the_environment_too_is_loaded_once(
    plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins.add("a", ENGINE.format(name="one", settings="Settings"))
    monkeypatch.setenv("JARVIS_PLUGINS", "plugin_a")
    assert [p.name for p in plugins.load().plugins] == ["core", "a"]


def test_a_plugin_for_another_core_is_reported_with_the_one_that_it_wants(tmp_path: Path) -> None:
    (tmp_path / "plugin_later.py").write_text("from jarvis_core import Later")
    metadata = tmp_path / "later-2.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: later\nVersion: 2.0\n"
        "Requires-Dist: attrs\nRequires-Dist: jarvis-core~=7.1\n"
    )
    (metadata / "entry_points.txt").write_text("[jarvis]\nlater = plugin_later\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        patch.delenv("JARVIS_PLUGINS")
        registry = load_plugins(entry_points(group="jarvis", name="later"))
    assert "cannot import name 'Later'" in reason(registry, "later")
    assert "it wants jarvis-core~=7.1, and " in reason(registry, "later")


def test_one_entry_point_found_twice_is_loaded_once(plugins: Plugins) -> None:
    plugins.add("a", ENGINE.format(name="one", settings="Settings"))
    plugins.add("a", ENGINE.format(name="one", settings="Settings"))
    assert [p.name for p in plugins.load().plugins] == ["core", "a"]


def test_modules_named_by_the_environment_are_plugins(
    plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JARVIS_PLUGINS", "jarvis_core.testing.fake, no_such_module")
    registry = plugins.load()
    assert "fake" in registry.engines
    assert "no_such_module" in reason(registry, "no_such_module")


def test_detection_asks_plugins_before_the_core_and_survives_a_failing_one(
    plugins: Plugins, caplog: pytest.LogCaptureFixture
) -> None:
    assert plugins.load().detect_chat_format(MODEL).name == "template"
    plugins.add("a", FORMAT.format(name="mine", detect="return 'mine'"))
    plugins.add("b", FORMAT.format(name="unsure", detect="return None"))
    plugins.add("c", FORMAT.format(name="wrong", detect="return 'no such format'"))
    plugins.add("d", FORMAT.format(name="failing", detect="1 / 0"))
    plugins.add("e", FORMAT.format(name="no-name", detect="return ['mine']"))
    assert plugins.load().detect_chat_format(MODEL).name == "mine"
    assert "no such format" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_detection_may_take_no_model(plugins: Plugins) -> None:
    source = FORMAT.replace("detect_chat_format(model)", "detect_chat_format()")
    plugins.add("a", source.format(name="mine", detect="return 'mine'"))
    assert plugins.load().detect_chat_format(MODEL).name == "mine"


def test_detection_says_by_what_a_plugin_knows_the_model(plugins: Plugins) -> None:
    def why(**known: Any) -> str:
        return plugins.load().detect_chat_format(evolve(MODEL, **known)).reason

    assert why() == "no plugin knows the model, which has no chat template"
    assert why(chat_template="x") == "no plugin knows the model, which prints its own chat template"
    detect = "return 'mine' if model.chat_template or 'tiny' in model.name else None"
    plugins.add("a", FORMAT.format(name="mine", detect=detect))
    assert why(name="other", chat_template="x").endswith("knows the model by its chat template")
    assert why(name="tiny").endswith("knows the model by its name and special tokens")


def test_a_format_without_a_place_for_what_the_model_takes_gives_way_to_the_template(
    plugins: Plugins,
) -> None:
    sees = evolve(
        MODEL,
        chat_template="{% if part.type == 'image' %}<image>{% endif %}",
        placeholders={"image": "<image>"},
        capabilities=Capabilities(media=frozenset({"image"})),
    )
    blind = FORMAT.format(name="blind", detect="return 'blind'")
    plugins.add("a", blind)
    found = plugins.load().detect_chat_format(sees)
    assert found.name == "template"
    assert "a place for image, which format 'blind' has not" in found.reason
    assert plugins.load().detect_chat_format(evolve(sees, chat_template="x")).name == "blind"
    assert plugins.load().detect_chat_format(evolve(sees, placeholders={})).name == "blind"
    assert media_of(plugins.load().chat_format("blind"), sees) == set()


def test_a_format_with_a_place_for_what_the_model_takes_is_kept(plugins: Plugins) -> None:
    sees = evolve(MODEL, capabilities=Capabilities(media=frozenset({"image"})))
    method = 'name = "seeing"\n    def media(self, model):\n        return ("image", "audio")'
    source = FORMAT.format(name="seeing", detect="return 'seeing'")
    plugins.add("a", source.replace('name = "seeing"', method))
    registry = plugins.load()
    assert registry.detect_chat_format(sees).name == "seeing"
    assert media_of(registry.chat_format("seeing"), sees) == {"image"}
    assert media_of(registry.chat_format("seeing"), MODEL) == set()
