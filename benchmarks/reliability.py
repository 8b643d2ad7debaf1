"""The rows of the reliability bar that are too long or too noisy for tests.

    python benchmarks/reliability.py [--rows R-15,fairness] [--seconds 120] [--model] [--json FILE]
        [--vllm FOLDER [--python PYTHON]]

Each row starts a whole server of its own, with the fake engine. ``--model`` measures fairness with
the built-in small model on llama.cpp too; ``--vllm`` with the model in that folder on vLLM, which
PYTHON has installed (``scripts/smollm2_hf.py`` makes one; one without weights gets random numbers).
``--seconds`` is the length of one load, and of deadlines in proportion: the bar's own need 120.
Prints each figure beside its bar. Ends with 1 if one was missed. Clients and server share the
machine, so on a busy one the times say little.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import uvloop
from attrs import asdict, frozen
from bad_clients import leaving, slow, unread
from fairness import fairness, fairness_of_llama_cpp, fairness_of_vllm
from figures import Figure
from generated import generated
from overload import overload, refusals

PACKAGES = ("jarvis-core", "sanic", "uvloop", "jarvis-llamacpp", "llama-cpp-python")


@frozen(kw_only=True)
class Row:
    """One row.

    Attributes:
        name: What it is asked for by.
        title: What is done.
        measure: Does it in a new folder, with the arguments of the command line.
        needs: The option without which it is left out.
    """

    name: str
    title: str
    measure: Callable[[Path, argparse.Namespace], Awaitable[list[Figure]]]
    needs: str | None = None


ROWS = (
    Row(
        name="R-10",
        title="a client leaves at token 3 of 2,000, a hundred times",
        measure=lambda folder, args: leaving(folder),
    ),
    Row(
        name="R-13",
        title="20 clients stop reading",
        measure=lambda folder, args: unread(folder, args.seconds),
    ),
    Row(
        name="R-13-logprobs",
        title="20 clients stop reading answers with log probabilities",
        measure=lambda folder, args: unread(folder, args.seconds, logprobs=True),
    ),
    Row(
        name="R-15",
        title="ten times as many requests as can be answered",
        measure=lambda folder, args: overload(folder, args.seconds),
    ),
    Row(
        name="R-18",
        title="500 connections that drip a header or a body",
        measure=lambda folder, args: slow(folder, args.seconds),
    ),
    Row(
        name="S-05",
        title="generated requests, most of them wrong",
        measure=lambda folder, args: generated(folder, args.requests),
    ),
    Row(
        name="refusals",
        title="requests refused while the queue is full",
        measure=lambda folder, args: refusals(folder, args.requests),
    ),
    Row(
        name="fairness",
        title="one key keeps 200 requests going, another asks one at a time",
        measure=lambda folder, args: fairness(folder, args.seconds),
    ),
    Row(
        name="fairness-llama_cpp",
        title="the same with the small model on llama.cpp",
        measure=lambda folder, args: fairness_of_llama_cpp(folder, args.seconds, args.threads),
        needs="model",
    ),
    Row(
        name="fairness-llama_cpp-new",
        title="the same with new prompts, those of the burst of 250 words",
        measure=lambda folder, args: fairness_of_llama_cpp(
            folder, args.seconds, args.threads, new=True
        ),
        needs="model",
    ),
    Row(
        name="fairness-llama_cpp-small",
        title="the same with room for 2 requests",
        measure=lambda folder, args: fairness_of_llama_cpp(
            folder, args.seconds, args.threads, places=2, new=True
        ),
        needs="model",
    ),
    Row(
        name="fairness-llama_cpp-one",
        title="the same with room for one request",
        measure=lambda folder, args: fairness_of_llama_cpp(
            folder, args.seconds, args.threads, places=1, new=True
        ),
        needs="model",
    ),
    Row(
        name="fairness-vllm",
        title="the same with new prompts on vLLM, those of the burst of 250 words",
        measure=lambda folder, args: fairness_of_vllm(
            folder,
            args.seconds,
            python=args.python,
            source=args.vllm.absolute(),
            dummy=not any(args.vllm.glob("*.safetensors")),
        ),
        needs="vllm",
    ),
)


def main() -> int:
    """Measure and print."""
    args = _arguments()
    conditions = _conditions(args)
    for name, value in conditions.items():
        print(f"{name}: {value}")
    found = uvloop.run(_measure(args))
    print(f"\nload average at the end: {_load()}")
    if args.json:
        rows = {
            name: [{**asdict(figure), "met": figure.met} for figure in figures]
            for name, figures in found.items()
        }
        everything = {"conditions": conditions, "load at the end": _load(), "rows": rows}
        args.json.write_bytes(orjson.dumps(everything, option=orjson.OPT_INDENT_2))
    missed = [figure for figures in found.values() for figure in figures if figure.met is False]
    print(f"{len(missed)} figures missed their bar")
    return int(bool(missed))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [row.name for row in ROWS]
    parser.add_argument(
        "--rows", type=lambda text: text.split(","), default=[], help=f"of {', '.join(names)}"
    )
    parser.add_argument("--seconds", type=float, default=120.0, help="length of one load (120)")
    parser.add_argument(
        "--requests", type=int, default=10_000, help="requests generated, and refused (10,000)"
    )
    parser.add_argument(
        "--model", action="store_true", help="measure the small model on llama.cpp too"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of llama.cpp (2)")
    parser.add_argument("--vllm", type=Path, help="folder of a model to measure on vLLM too")
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has vllm")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    args = parser.parse_args()
    if unknown := set(args.rows) - set(names):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    if "fairness-vllm" in args.rows and args.vllm is None:
        parser.error("fairness-vllm needs --vllm")
    if args.seconds < 4:
        parser.error("--seconds must be 4 at least")
    return args


async def _measure(args: argparse.Namespace) -> dict[str, list[Figure]]:
    """The figures of each row that is wanted."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="jarvis-bench-") as folder:
        for row in ROWS:
            left_out = row.needs is not None and not getattr(args, row.needs)
            if row.name not in args.rows if args.rows else left_out:
                continue
            print(f"\n{row.name}: {row.title}", flush=True)
            found[row.name] = await row.measure(Path(folder) / row.name, args)
            for figure in found[row.name]:
                print(f"  {figure}", flush=True)
    return found


def _conditions(args: argparse.Namespace) -> Mapping[str, Any]:
    """What it ran on, and how."""
    return {
        "machine": f"{platform.platform()}, {os.cpu_count()} CPUs",
        "python": platform.python_version(),
        "versions": ", ".join(_versions()),
        "load average at the start": _load(),
        "seconds of a load": args.seconds,
        "requests": args.requests,
    }


def _versions() -> list[str]:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return found


def _load() -> str:
    return " ".join(f"{load:.2f}" for load in os.getloadavg())


if __name__ == "__main__":
    sys.exit(main())
