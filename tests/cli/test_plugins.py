from __future__ import annotations

import json
from importlib.metadata import version

FAKE = "jarvis_core.testing.fake"


def test_plugins_are_listed_with_what_they_bring(jarvis):
    result = jarvis("plugins")
    assert result.exit_code == 0
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line}
    assert rows["core"] == ["core", "jarvis-core", version("jarvis-core"), "ok", "template"]
    assert rows[FAKE] == [FAKE, "JARVIS_PLUGINS", "ok", "fake", "fake"]


def test_a_broken_plugin_says_why(jarvis, directory, monkeypatch):
    (directory / "broken_plugin.py").write_text("raise ImportError('libsomething.so is [missing]')")
    monkeypatch.syspath_prepend(directory)
    result = jarvis("plugins", JARVIS_PLUGINS=f"{FAKE},broken_plugin")
    assert result.exit_code == 0
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line}
    assert rows["broken_plugin"].split()[:3] == ["broken_plugin", "is", "broken:"]
    assert "broken_plugin is broken: ImportError: libsomething.so is [missing]\n" in result.stdout
    assert " ok " in rows[FAKE]


def test_json_has_the_same(jarvis, directory, monkeypatch):
    (directory / "broken_plugin.py").write_text("raise ImportError('gone')")
    monkeypatch.syspath_prepend(directory)
    result = jarvis("plugins", "--json", JARVIS_PLUGINS=f"{FAKE},broken_plugin")
    plugins = {record["name"]: record for record in json.loads(result.stdout)}
    assert plugins[FAKE] == {
        "name": FAKE,
        "distribution": "JARVIS_PLUGINS",
        "version": "",
        "state": "ok",
        "engines": ["fake"],
        "chat_formats": ["fake"],
        "error": None,
    }
    assert plugins["broken_plugin"]["state"] == "broken"
    assert plugins["broken_plugin"]["error"] == "ImportError: gone"


def test_two_plugins_with_one_name_are_refused(jarvis, directory, monkeypatch):
    (directory / "second_fake.py").write_text(f"from {FAKE} import jarvis_register_engines\n")
    monkeypatch.syspath_prepend(directory)
    result = jarvis("plugins", JARVIS_PLUGINS=f"{FAKE},second_fake")
    assert result.exit_code == 2
    assert result.stderr.startswith("jarvis: two plugins bring the engine 'fake': ")
