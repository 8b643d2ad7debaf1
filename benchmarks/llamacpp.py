"""Jarvis with its llama.cpp engine against other servers on the same kernels.

    python benchmarks/llamacpp.py [--rows c1,c16,burst] [--rounds 6] [--json FILE]

All serve SmolLM2-135M in Q4_0 with the same threads, context and parallel requests; rounds
alternate, and where a few percent count a third of them is measured with servers started anew. The
first run builds llama-server, which takes ten CPU-minutes; all rows take about half an hour on two
CPUs. Ratios are medians over rounds and above 1 where Jarvis is better.
Tokens per CPU-second (of the server's processes) is the steadier figure on a machine that is not
quiet.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import llama_cpp
import llama_cpp_server
import llama_server
import orjson
import uvloop
from processes import Server, free_port
from workloads import HIGHER, PEER, Measures, Row, chat, rows

PARALLEL = 16
CONTEXT = 2048
"""Tokens of one request; the KV cache holds ``PARALLEL`` times as many."""

_LIBRARY = "libllama.dylib" if sys.platform == "darwin" else "libllama.so"

Samples = dict[str, dict[str, list[Measures]]]
"""Measures by row and server, one for each round."""


def main() -> int:
    """Measure and print."""
    args = _arguments()
    chosen = [row for row in rows() if not args.rows or row.name in args.rows]
    uvloop.run(_measure(args, chosen))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [row.name for row in rows()]
    parser.add_argument(
        "--rows", type=lambda text: text.split(","), default=[], help=f"of {', '.join(names)}"
    )
    parser.add_argument("--rounds", type=int, default=6, help="rounds of each row (6)")
    parser.add_argument("--threads", type=int, default=2, help="threads of each server (2)")
    parser.add_argument("--only", help="measure this server alone, as jarvis or llama-server")
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE for jarvis serve")
    parser.add_argument("--json", type=Path, help="file to write all samples to")
    args = parser.parse_args()
    if unknown := set(args.rows) - set(names):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    return args


def servers(threads: int, settings: list[str], folder: Path) -> list[Server]:
    """Jarvis and its peers, not started."""
    path = llama_server.model()
    model = str(path)
    cells = CONTEXT * PARALLEL
    port = free_port()
    settings = [
        f"JARVIS_N_THREADS={threads}",
        f"JARVIS_LLAMACPP_MAX_NUM_SEQS={PARALLEL}",
        f"JARVIS_LLAMACPP_KV_SIZE={cells}",
        *settings,
    ]
    jarvis = [
        *(sys.executable, "-m", "jarvis_core", "serve", "--engine", "llama_cpp"),
        *("--model", model, "--model-id", "bench", "--context-window", str(CONTEXT)),
        *("--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"),
        *(part for setting in settings for part in ("--set", setting)),
    ]
    found = [Server("jarvis", jarvis, port, folder)]
    port = free_port()
    peer = [
        *(str(llama_server.build()), "-m", model, "--alias", "bench"),
        *("-t", str(threads), "-tb", str(threads), "-np", str(PARALLEL), "-c", str(cells)),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    found.append(Server(PEER, peer, port, folder))
    python = llama_cpp_server.server(path, context=CONTEXT, threads=threads, folder=folder)
    return [*found, python]


async def _measure(args: argparse.Namespace, chosen: list[Row]) -> None:
    before = os.getloadavg()
    samples: Samples = {}
    with tempfile.TemporaryDirectory(prefix="jarvis-bench-") as folder:
        known = {s.name: s for s in servers(args.threads, args.set, Path(folder))}
        wanted = {name for row in chosen for name in ("jarvis", row.peer)}
        measured = {n: s for n, s in known.items() if n in wanted and args.only in (None, n)}
        _print_conditions(list(measured.values()), before)
        try:
            for row in chosen:
                its = [s for n, s in measured.items() if n in ("jarvis", row.peer)]
                samples[row.name] = await _rounds(row, its, args.rounds)
                _print_row(row, samples[row.name])
        finally:
            for server in measured.values():
                server.stop()
    after = os.getloadavg()
    print(f"\nload average before {before[0]:.2f} {before[1]:.2f}, after {after[0]:.2f}")
    if args.json:
        args.json.write_bytes(
            orjson.dumps(
                {"conditions": _conditions(), "load": [before, after], "samples": samples},
                option=orjson.OPT_INDENT_2,
            )
        )


async def _rounds(row: Row, measured: list[Server], count: int) -> dict[str, list[Measures]]:
    samples: dict[str, list[Measures]] = {server.name: [] for server in measured}
    each = -(-count // row.starts)
    for number in range(each * row.starts):
        if number % each == 0:
            await _begin(row, measured, number // each)
        for server in measured if number % 2 == 0 else measured[::-1]:
            samples[server.name].append(await row.measure(server, number))
    return samples


async def _begin(row: Row, measured: list[Server], start: int) -> None:
    """Have the servers run; those that are started anew for a row warm up with a round of it."""
    for server in measured:
        if row.starts > 1:
            server.stop()
        if not server.running:
            await server.start(chat("Hello", tokens=1))
        if row.starts > 1:
            await row.measure(server, -1 - start)


def _conditions() -> dict[str, Any]:
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((x.partition(": ")[2] for x in lines if x.startswith("model name")), "")
    return {
        "machine": f"{platform.machine()} {model}, {os.cpu_count()} CPUs",
        "python": platform.python_version(),
        **{
            name: importlib.metadata.version(name)
            for name in ("jarvis-core", "jarvis-llamacpp", "llama-cpp-python", "sanic", "uvloop")
        },
        "build of llama-server": " ".join(llama_server.FLAGS),
        "kernels of llama-server": llama_server.kernels(llama_server.build().parent / _LIBRARY),
        "kernels of llama-cpp-python": llama_server.kernels(
            Path(llama_cpp.__file__).parent / "lib" / _LIBRARY
        ),
    }


def _print_conditions(measured: list[Server], load: tuple[float, float, float]) -> None:
    for name, value in _conditions().items():
        print(f"{name}: {value}")
    for server in measured:
        print(f"{server.name}: {' '.join(server.command)}")
    print(f"load average at the start: {load[0]:.2f} {load[1]:.2f} {load[2]:.2f}", flush=True)


def _print_row(row: Row, samples: dict[str, list[Measures]]) -> None:
    """Medians of each server, and the ratio with its range and bar."""
    print(f"\n{row.name}: {row.title}")
    names = list(samples)
    for measure in samples[names[0]][0]:
        line = f"  {measure:10}"
        for name in names:
            line += f"  {name} {median(m[measure] for m in samples[name]):8.1f}"
        if len(names) == 2:
            ratios = sorted(
                _ratio(measure, ours, theirs)
                for ours, theirs in zip(*(samples[n] for n in names), strict=True)
            )
            ratio = _ratio(measure, *(_median(samples[n], measure) for n in names))
            line += f"  ratio {ratio:5.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            bar = row.bars.get(measure)
            if bar is not None:
                line += f"  bar {bar:.2f} {'met' if ratio >= bar else 'missed'}"
            most = row.most_more.get(measure)
            if most is not None:
                ours, theirs = (median(m[measure] for m in samples[n]) for n in names)
                line += f"  {ours - theirs:+.2f}, bar +{most:.2f} "
                line += "met" if ours - theirs <= most else "missed"
        print(line, flush=True)


def _median(samples: list[Measures], measure: str) -> Measures:
    return {measure: median(m[measure] for m in samples)}


def _ratio(measure: str, ours: Measures, theirs: Measures) -> float:
    """Above 1 where Jarvis is better."""
    if measure in HIGHER:
        return ours[measure] / theirs[measure]
    return theirs[measure] / ours[measure]


if __name__ == "__main__":
    sys.exit(main())
