"""Writes docs/reference from the code: settings, hooks, routes and request parameters.

``reference.py`` writes, ``reference.py --check`` fails where a page is not what the code says.
Needs the core and our plugins installed.
"""

from __future__ import annotations

import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jarvis_core import EngineType, hookspecs
from jarvis_core.http.auth import Scope
from jarvis_core.http.openai.parameter_table import ParameterTable
from jarvis_core.http.routes import ROUTES
from jarvis_core.plugins import load_plugins
from jarvis_core.settings.fields import Setting, settings_of
from jarvis_core.settings.model import ModelConfig, SingleModel
from jarvis_core.settings.sampling import SAMPLING_PREFIX, SamplingSettings
from jarvis_core.settings.server import ServerSettings
from jarvis_core.settings.variables import PREFIX, variables_of

FOLDER = Path(__file__).parents[1] / "docs/reference"
NOTICE = "<!-- Made by scripts/reference.py: change the code, then run it. -->"
ENGINES = ("llama_cpp", "vllm")
KEYS = {Scope.OPEN: "none", Scope.USER: "user", Scope.ADMIN: "admin"}


def main() -> int:
    """Write the pages, or compare them; the exit code."""
    pages = {
        "settings.md": settings_page(),
        "hooks.md": hooks_page(),
        "http.md": http_page(),
        "parameters.md": parameters_page(),
    }
    checking = sys.argv[1:] == ["--check"]
    wrong = []
    for name, lines in pages.items():
        page, text = FOLDER / name, "\n".join(lines).rstrip() + "\n"
        if not checking:
            page.write_text(text, encoding="utf-8")
        elif not page.is_file() or page.read_text(encoding="utf-8") != text:
            wrong.append(f"{name} is not what the code says: run scripts/reference.py")
    print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
    return 1 if wrong else 0


# -- settings ----------------------------------------------------------------------------------


def settings_page() -> Iterator[str]:
    """Every setting, by the class that holds it."""
    engines = load_plugins().engines
    yield from head(
        "Settings",
        "Command line > environment > `.env` > `jarvis.toml` > default. What a model's own section "
        "of `jarvis.toml` says beats the variables of its engine, which set the defaults of every "
        "model on that engine. `jarvis settings` prints each with its value and its origin.",
    )
    yield from variables("One model", SingleModel, PREFIX)
    yield from variables("Its sampling", SamplingSettings, SAMPLING_PREFIX)
    yield from paragraph(
        "What counts where a request does not say. In `jarvis.toml` these are keys of "
        "`[models.NAME.sampling]`, in lower case and without `JARVIS_SAMPLING_`. [How a model is "
        "sampled](../how-to/sampling.md)."
    )
    yield from variables("The server", ServerSettings, PREFIX)
    yield from paragraph("In `jarvis.toml` these are keys of `[server]`: `JARVIS_PORT` is `port`.")
    yield from model_keys()
    for name in ENGINES:
        yield from engine_variables(engines[name])


def variables(title: str, cls: type, prefix: str) -> Iterator[str]:
    """The variables of one settings class."""
    yield from section(title)
    rows = []
    for variable in variables_of(cls, prefix):
        names = " or ".join(f"`{name}`" for name in variable.names)
        rows.append(
            (names, default(variable.setting), allowed(variable.setting), variable.setting.help)
        )
    yield from table(("variable", "default", "must be", "what it is"), rows)


def engine_variables(engine: EngineType) -> Iterator[str]:
    """The variables of an engine."""
    yield from variables(f"Engine `{engine.name}`", engine.settings, engine.env_prefix)
    yield from paragraph(
        "In `jarvis.toml` these are keys of `[models.NAME.settings]`, in lower case and without "
        f"`{engine.env_prefix}`."
    )


def model_keys() -> Iterator[str]:
    """The keys of a model's section."""
    yield from section("Models in `jarvis.toml`")
    yield from paragraph(
        "A section `[models.NAME]` for each model; `[models.NAME.sampling]` holds its sampling and "
        "`[models.NAME.settings]` what is a matter of its engine."
    )
    rows = [
        (f"`{setting.name}`", default(setting), allowed(setting, text=False), setting.help)
        for setting in settings_of(ModelConfig)
        if setting.name not in ("name", "sampling", "settings")
    ]
    yield from table(("key", "default", "must be", "what it is"), rows)


def default(setting: Setting) -> str:
    """A default as an operator would write it."""
    value = setting.default
    if setting.required:
        return "needed"
    if value is None or value in ("", ()):
        return "not set"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def allowed(setting: Setting, *, text: bool = True) -> str:
    """What values are allowed."""
    words = setting.allowed(text=text)
    return words.replace("one of: ", "") if setting.choices else words


# -- hooks -------------------------------------------------------------------------------------


def hooks_page() -> Iterator[str]:
    """Every hook with its docstring."""
    yield from head(
        "Hooks",
        "A plugin is a module named by an entry point in the group `jarvis`. It marks functions of "
        "these names with `jarvis_core.hookimpl`.",
    )
    for name, hook in inspect.getmembers(hookspecs, inspect.isfunction):
        if name.startswith("jarvis_"):
            signature = inspect.signature(hook, eval_str=False)
            yield from section(f"`{name}`")
            yield from fenced([f"def {name}{signature}".replace("'", "")])
            yield from markdown(inspect.getdoc(hook) or "")


def markdown(docstring: str) -> Iterator[str]:
    """A docstring: literals marked, its example fenced."""
    text, _, example = docstring.partition("Example::\n\n")
    yield re.sub(r"``([^`]+)``", r"`\1`", text).rstrip()
    yield ""
    if example:
        yield from fenced(inspect.cleandoc(example).splitlines())


# -- HTTP --------------------------------------------------------------------------------------


def http_page() -> Iterator[str]:
    """Every route."""
    yield from head(
        "HTTP",
        "The wire format is OpenAI's, that of errors too: an object `error` with message, "
        "type, param and code. Every answer carries `x-request-id` and `openai-processing-ms`. The "
        "column key says whose key is needed where keys are configured.",
    )
    yield from section("Routes")
    rows = [
        (part.method, f"`{part.template}`", KEYS[part.scope], first_line(part.endpoint))
        for route in ROUTES
        for part in route.documented
    ]
    yield from table(("method", "path", "key", "what it answers"), rows)


def parameters_page() -> Iterator[str]:
    """Every parameter of every route that takes some."""
    yield from head(
        "Parameters",
        "What becomes of each parameter that Jarvis knows: those that OpenAI and Anthropic publish "
        "and those that clients of vLLM and llama.cpp send. One that a model's engine cannot "
        "honour is refused with an error that names parameter, model and engine; a value that "
        "changes nothing is never refused. A name that is not here is ignored and listed in the "
        "header `X-Jarvis-Ignored-Params`. `GET /v1/models/{name}` tells the same of one model, "
        "and `POST /v1/chat/completions/render` of one request.",
    )
    for route in itertools.chain.from_iterable(route.documented for route in ROUTES):
        if route.parameters is not None:
            yield from section(f"{route.method} `{route.template}`")
            yield from parameters(route.parameters)


def parameters(known: ParameterTable) -> Iterator[str]:
    """The parameters of one route."""
    rows = [
        (f"`{parameter.name}`", parameter.treatment.value, parameter.note)
        for parameter in known.values()
    ]
    yield from table(("parameter", "what becomes of it", "note"), rows)


def first_line(documented: Any) -> str:
    """The first line of a docstring, its literals marked."""
    line = (inspect.getdoc(documented) or "").partition("\n")[0]
    return re.sub(r"``([^`]+)``", r"`\1`", line)


# -- Markdown ----------------------------------------------------------------------------------


def head(title: str, text: str) -> Iterator[str]:
    """The beginning of a page."""
    yield from (NOTICE, "", f"# {title}", "", *paragraph(text))


def paragraph(text: str) -> Iterator[str]:
    """Lines of text."""
    yield from (*textwrap.wrap(text, 100, break_on_hyphens=False, break_long_words=False), "")


def section(title: str) -> Iterator[str]:
    """A heading."""
    yield from (f"## {title}", "")


def fenced(lines: Iterable[str]) -> Iterator[str]:
    """A block of Python."""
    yield from ("```python", *lines, "```", "")


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """A table; bars inside of cells are escaped."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + " --- |" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |"
    yield ""


if __name__ == "__main__":
    sys.exit(main())
