"""What the documents say is true of the code."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from datetime import datetime
from pathlib import Path
from types import ModuleType

import pytest

from jarvis_core import ChatFormat, ChatRequest, FormatContext, Message, ModelInfo
from jarvis_core.plugins import load_plugins
from jarvis_core.settings import load_settings
from jarvis_core.settings.engines import engine_variables
from jarvis_core.settings.model import SingleModel
from jarvis_core.settings.sampling import SAMPLING_PREFIX, SamplingSettings
from jarvis_core.settings.server import ServerSettings
from jarvis_core.settings.variables import PREFIX, variables_of
from jarvis_core.testing import ChatFormatConformance

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/*/README.md")]
# Variables that are no settings: run.sh reads them.
OF_RUN = {"JARVIS_ACCEPT_NO_CUDA"}


def blocks(language: str) -> list[str]:
    """The fenced blocks of README.md in one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def known_variables() -> set[str]:
    found = [*variables_of(ServerSettings, PREFIX), *variables_of(SingleModel, PREFIX)]
    found += variables_of(SamplingSettings, SAMPLING_PREFIX)
    for variables in engine_variables(load_plugins().engines).values():
        found += variables
    return {name for variable in found for name in variable.names}


def plugin_of_readme() -> ModuleType:
    """The plugin that README.md shows, as a module."""
    (source,) = (block for block in blocks("python") if "hookimpl" in block)
    module = ModuleType("jarvis_headings")
    exec(source, module.__dict__)
    return module


def test_the_reference_is_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/reference.py", "--check"], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)

    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("name", ["README.md", ".env.example", "CONTRIBUTING.md"])
def test_every_variable_that_is_named_exists(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:JARVIS|LLAMA_LOG)_[A-Z0-9_]*[A-Z0-9]\b", text))

    assert named - known_variables() - OF_RUN == set()


def test_the_example_of_dotenv_is_valid(tmp_path: Path) -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    everything = re.sub(r"^#(?=[A-Z_]+=)", "", text, flags=re.MULTILINE)
    (tmp_path / ".env").write_text(everything, encoding="utf-8")

    settings = load_settings(
        options={}, environ={}, directory=tmp_path, engines=load_plugins().engines
    )

    assert settings.warnings == ()
    assert list(settings.models) == ["qwen"]


def test_the_example_of_jarvis_toml_is_valid(tmp_path: Path) -> None:
    (example,) = (block for block in blocks("toml") if "[models." in block)
    (tmp_path / "jarvis.toml").write_text(example, encoding="utf-8")

    settings = load_settings(
        options={}, environ={}, directory=tmp_path, engines=load_plugins().engines
    )

    assert settings.warnings == ()
    assert settings.models["qwen"].settings == {"n_gpu_layers": 20}


class TestThePluginOfReadmeConforms(ChatFormatConformance):
    @pytest.fixture
    def chat_format(self) -> ChatFormat:
        (chat_format,) = plugin_of_readme().jarvis_register_chat_formats()
        assert isinstance(chat_format.name, str)
        return chat_format  # type: ignore[no-any-return]


def test_the_plugin_of_readme_is_twenty_lines_and_renders() -> None:
    (source,) = (block for block in blocks("python") if "hookimpl" in block)
    (chat_format,) = plugin_of_readme().jarvis_register_chat_formats()
    model = ModelInfo(name="m", source="m", engine="echo", context_length=100)
    request = ChatRequest(model="m", messages=(Message(role="user", content="Hello"),))
    prompt = chat_format.render(request, FormatContext(model=model, now=datetime(2025, 1, 2)))

    assert len([line for line in source.splitlines() if line]) <= 20
    assert prompt.text == "# user\nHello\n\n# assistant\n"


def test_the_entry_point_of_readme_is_in_the_group_that_is_read() -> None:
    (table,) = (block for block in blocks("toml") if "entry-points" in block)

    assert tomllib.loads(table) == {
        "project": {"entry-points": {"jarvis": {"headings": "jarvis_headings"}}}
    }


def test_both_commands_of_readme_exist() -> None:
    for command in ("run.sh", "test.sh"):
        assert f"./{command}" in README
        assert (ROOT / command).stat().st_mode & 0o111
