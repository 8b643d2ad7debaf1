"""Imports go one way, and plugins see the public API only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

import jarvis_core
import jarvis_core.testing

ROOT = Path(__file__).parents[2]
CORE = ROOT / "jarvis_core"
PLUGINS = sorted(path.parent for path in ROOT.glob("*/*/pyproject.toml"))

# A module imports from its own layer and those before it.
LAYERS = (
    {"structs"},
    {"errors"},
    {"context_length", "constraint_grammar", "log_lines", "merging", "sampling_checks"},
    {
        "rendering",
        "retelling",
        "json_scan",
        "json_schema",
        "text_patterns",
        "scanning",
        "parsing",
        "grammar",
    },
    {"interfaces"},
    {"reasoning", "framing"},
    {"hookspecs"},
    {"stopping", "template"},
    {"token_text"},
    {"probe"},
    {"plugins"},
    {"settings"},
    {"composition", "outputs"},
    {"chat", "completion", "tool_telling"},
    {"host"},
    {"models"},
    {"http"},
    {"cli"},
    {"testing"},
)
# `jarvis_core` itself re-exports, and `python -m jarvis_core` is the CLI.
OUTSIDE = {"__init__", "__main__"}
MODEL_LIBRARIES = {
    "gguf", "llama_cpp", "llguidance", "mistral_common", "numpy", "onnxruntime", "sentencepiece",
    "tokenizers", "torch", "transformers", "vllm",
}  # fmt: skip


@frozen(kw_only=True)
class Import:
    """One import in a file.

    Attributes:
        module: The module named, as ``jarvis_core.structs``.
        name: The name taken from it, or None for ``import module``.
        deferred: Whether it is run by a function only, or by type checkers.
        place: File and line, for messages.
    """

    module: str
    name: str | None
    deferred: bool
    place: str

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def imports_of(path: Path, package: str = "") -> Iterator[Import]:
    """Every import of a file, relative ones made absolute with the package that holds the file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    deferring = (ast.FunctionDef, ast.AsyncFunctionDef, ast.If)
    deferred = {
        id(node)
        for outer in ast.walk(tree)
        if isinstance(outer, deferring)
        for node in ast.walk(outer)
    }
    for node in ast.walk(tree):
        place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        later = id(node) in deferred
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module=alias.name, name=None, deferred=later, place=place)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                parents = package.split(".")
                kept = parents[: len(parents) - node.level + 1]
                module = ".".join([*kept, module] if module else kept)
            for alias in node.names:
                yield Import(module=module, name=alias.name, deferred=later, place=place)


def python_files(folder: Path) -> list[Path]:
    files = sorted(folder.rglob("*.py"))
    assert files, f"{folder} holds no Python"
    return files


def package_of(path: Path, source: Path) -> str:
    return ".".join(path.parent.relative_to(source).parts)


def core_imports() -> Iterator[tuple[str, Import]]:
    """Every import of the core, with the top-level module of the core that holds it."""
    for path in python_files(CORE):
        holder = path.relative_to(CORE).parts[0].removesuffix(".py")
        for found in imports_of(path, package_of(path, ROOT)):
            yield holder, found


def layer_of(module: str) -> int:
    return next((i for i, layer in enumerate(LAYERS) if module in layer), -1)


def test_every_module_of_the_core_has_its_layer() -> None:
    modules = {path.relative_to(CORE).parts[0].removesuffix(".py") for path in python_files(CORE)}

    assert modules - OUTSIDE == set().union(*LAYERS)


def test_imports_of_the_core_go_one_way() -> None:
    wrong = []
    for holder, found in core_imports():
        if holder in OUTSIDE or found.top != "jarvis_core":
            continue
        target = [*found.module.split("."), found.name or ""][1]
        if layer_of(target) > layer_of(holder) or layer_of(target) < 0:
            wrong.append(f"{found.place}: {holder} must not import {target or 'jarvis_core'}")

    assert wrong == []


def test_the_core_imports_no_model_library() -> None:
    # The kit samples grammars, and imports llguidance when it does.
    sampling = Path("testing", "sampling.py")
    wrong = [
        found.place
        for _, found in core_imports()
        if found.top in MODEL_LIBRARIES
        and not (found.top == "llguidance" and str(sampling) in found.place)
    ]

    assert wrong == []


def test_the_core_imports_no_plugin() -> None:
    ours = {source.name for plugin in PLUGINS for source in (plugin / "src").iterdir()}
    wrong = [found.place for _, found in core_imports() if found.top in ours]

    assert wrong == []


def test_the_server_process_loads_no_engine_template_or_tokenizer() -> None:
    program = """
import pkgutil, sys
import jarvis_core.cli, jarvis_core.http, jarvis_core.models
for package in (jarvis_core.cli, jarvis_core.http, jarvis_core.models):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            __import__(module.name)
print(*sys.modules, sep="\\n")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.split())

    assert "jarvis_core.http.app" in loaded
    assert loaded & (MODEL_LIBRARIES | {"jinja2"}) == set()
    assert not {name for name in loaded if name.startswith("jarvis_core.testing")}


@pytest.mark.parametrize("module", [jarvis_core, jarvis_core.testing])
def test_all_is_sorted_and_complete(module: object) -> None:
    path = Path(str(module.__file__))  # type: ignore[attr-defined]
    names = module.__all__  # type: ignore[attr-defined]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    }

    assert list(names) == sorted(names)
    assert set(names) == imported


@pytest.mark.parametrize("module", ["structs", "errors", "interfaces"])
def test_every_class_of_the_contracts_is_public_api(module: str) -> None:
    tree = ast.parse((CORE / f"{module}.py").read_text(encoding="utf-8"))
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}

    assert {name for name in classes if not name.startswith("_")} <= set(jarvis_core.__all__)


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_plugins_import_the_public_api_only(plugin: Path) -> None:
    public = {
        "jarvis_core": set(jarvis_core.__all__),
        "jarvis_core.testing": set(jarvis_core.testing.__all__),
    }
    wrong = [
        f"{found.place}: {found.module} {found.name or ''}"
        for path in python_files(plugin / "src")
        for found in imports_of(path, package_of(path, plugin / "src"))
        if found.top == "jarvis_core"
        and (found.module not in public or found.name not in {None, *public[found.module]})
    ]

    assert wrong == []


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_registering_a_plugin_imports_no_model_library(plugin: Path) -> None:
    source = plugin / "src"
    (package,) = (path for path in source.iterdir() if (path / "__init__.py").exists())
    waiting, seen, wrong = [package / "__init__.py"], set(), []
    while waiting:
        path = waiting.pop()
        seen.add(path)
        for found in imports_of(path, package_of(path, source)):
            if found.deferred:
                continue
            if found.top in MODEL_LIBRARIES:
                wrong.append(f"{found.place}: {found.module}")
            if found.top == package.name:
                waiting += files_of(source, found) - seen
    assert wrong == []


def files_of(source: Path, found: Import) -> set[Path]:
    """The files of a plugin that an import of its own modules runs."""
    module = source.joinpath(*found.module.split("."))
    places = [module, module / (found.name or "")]
    files = {place.with_suffix(".py") for place in places}
    files |= {place / "__init__.py" for place in places}
    return {file for file in files if file.is_file()}


@pytest.mark.parametrize("package", [CORE, *(plugin / "src" for plugin in PLUGINS)], ids=str)
def test_packages_are_typed(package: Path) -> None:
    assert list(package.glob("py.typed")) or list(package.glob("*/py.typed"))


def test_files_are_named_for_one_idea() -> None:
    vague = {"base", "common", "helpers", "manager", "misc", "util", "utils"}
    files = [path for folder in (CORE, *PLUGINS) for path in python_files(folder)]

    assert [path for path in files if path.stem in vague or path.parent.name in vague] == []
