#!/usr/bin/env python3
"""Proof on a real GPU, by hand: a server with a small model does what it should, and ends cleanly.

    python plugins/jarvis-vllm/gpu/check.py --model FOLDER [--gguf FILE] [--eager]
        [--only answers,kill_server]

FOLDER is what ``scripts/smollm2_hf.py`` makes. Each check prints what it saw, and the program ends
with 1 if one failed. The GPUs must be free: their memory is looked at. Needs httpx and nvidia-smi;
the check ``gguf`` needs vllm-gguf-plugin, ``tensor_parallel`` needs two GPUs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

START_LIMIT = 400.0
"""Seconds that a server may take to load."""

FREE_LIMIT = 20.0
"""Seconds after a kill in which the GPU must be free again."""

SLACK_MIB = 300
"""MiB of a GPU's memory that may differ from what it was before: the driver's own."""

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


class CheckFailed(AssertionError):
    """Something was not as it should be."""


def ensure(holds: object, what: str) -> None:
    """Fail unless something holds."""
    if not holds:
        raise CheckFailed(what)


def main() -> int:
    """Run the checks that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="directory of a small model")
    parser.add_argument("--gguf", help="GGUF file of a small model")
    parser.add_argument("--only", type=lambda text: text.split(","), help="names of checks")
    parser.add_argument("--eager", action="store_true", help="no compilation: starts sooner")
    args = parser.parse_args()
    chosen = args.only or list(CHECKS)
    failed = 0
    for name in chosen:
        print(f"== {name}", flush=True)
        begun = time.monotonic()
        try:
            CHECKS[name](args)
        except Exception:
            traceback.print_exc()
            failed += 1
            print(f"FAILED {name}", flush=True)
        else:
            print(f"ok {name}, {time.monotonic() - begun:.0f} s", flush=True)
    print(f"{len(chosen) - failed} of {len(chosen)} checks passed")
    return int(failed > 0)


# -- what is looked at -----------------------------------------------------------------------


def memory_used() -> list[int]:
    """MiB used of each GPU."""
    query = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")
    done = subprocess.run(query, capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]


def wait_free(before: list[int]) -> float:
    """Seconds until the GPUs hold no more than before."""
    begun = time.monotonic()
    while any(now > then + SLACK_MIB for now, then in zip(memory_used(), before, strict=True)):
        ensure(time.monotonic() - begun < FREE_LIMIT, f"GPU memory {memory_used()}, was {before}")
        time.sleep(0.2)
    return time.monotonic() - begun


def descendants(pid: int) -> list[int]:
    """Process ids of all children of a process, and theirs."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(folder.name)] = int(fields[1])
    found, new = [], [pid]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return found


def wait_gone(pids: list[int]) -> float:
    """Seconds until processes are gone."""
    begun = time.monotonic()
    while left := [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists() and _runs(pid)]:
        ensure(time.monotonic() - begun < FREE_LIMIT, f"processes {left} are still there")
        time.sleep(0.1)
    return time.monotonic() - begun


def _runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


class Server:
    """A server with one model on vLLM.

    Attributes:
        client: Sends to it.
        pid: Its process id.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120)
        self.pid = process.pid

    def chat(self, **body: Any) -> dict[str, Any]:
        """A whole answer."""
        body = {"model": "tiny", "messages": QUESTION, "temperature": 0, "max_tokens": 40} | body
        answer = self.client.post("/v1/chat/completions", json=body)
        ensure(answer.status_code == 200, f"{answer.status_code} {answer.text}")
        return dict(answer.json())

    def post(self, path: str, **body: Any) -> None:
        """Ask for something that is done when it is answered."""
        answer = self.client.post(path, json=body)
        ensure(answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}")

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(x.rpartition(" ")[2]) for x in lines if x.startswith(name + "{"))

    @property
    def host(self) -> int:
        """Process id of the engine host."""
        for pid in descendants(self.pid):
            if b"jarvis_core.host" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        raise CheckFailed("there is no engine host")


def _text(value: object) -> str:
    """A setting's value as a variable has it."""
    return value if isinstance(value, str) else json.dumps(value)


@contextmanager
def serving(args: argparse.Namespace, source: str, **settings: object) -> Iterator[Server]:
    """A server that has loaded its model."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    command = [
        *(sys.executable, "-m", "jarvis_core", "serve", "--engine", "vllm", "--model", source),
        *("--model-id", "tiny", "--host", "127.0.0.1", "--port", str(port)),
    ]
    wanted = {"gpu_memory_utilization": 0.3, "max_model_len": 2048, "enforce_eager": args.eager}
    for name, value in (wanted | settings).items():
        command += ["--set", f"JARVIS_VLLM_{name.upper()}={_text(value)}"]
    with tempfile.NamedTemporaryFile("w+", suffix=".log") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        server = Server(process, port)
        try:
            _wait_ready(server, process)
            yield server
        except BaseException:
            log.seek(0)
            lines = [line for line in log if '"route"' not in line]
            print("".join(lines)[-6000:], file=sys.stderr)
            raise
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_ready(server: Server, process: subprocess.Popen[bytes]) -> None:
    begun = time.monotonic()
    while time.monotonic() - begun < START_LIMIT:
        ensure(process.poll() is None, f"the server ended with {process.returncode}")
        try:
            if server.client.get("/health/ready").status_code == 200:
                print(f"   ready after {time.monotonic() - begun:.1f} s", flush=True)
                return
        except httpx.TransportError:
            pass
        time.sleep(0.25)
    raise CheckFailed(f"not ready after {START_LIMIT:g} s")


# -- the checks ------------------------------------------------------------------------------


def check_answers(args: argparse.Namespace) -> None:
    """Load, chat, abort, constraints, many at once, metrics."""
    before = memory_used()
    with serving(args, args.model) as server:
        print(f"   GPU memory {before} -> {memory_used()} MiB")
        said = server.chat()["choices"][0]
        print(f"   {said['message']['content']!r} {said['finish_reason']}")
        ensure("Paris" in said["message"]["content"], "the answer does not say Paris")
        _check_abort(server)
        _check_constraints(server)
        count = server.metric("vllm_request_success_total")
        print(f"   vllm_request_success_total {count:g}")
    print(f"   free {wait_free(before):.1f} s after SIGTERM")


def _check_abort(server: Server) -> None:
    body = {
        "model": "tiny",
        "messages": QUESTION,
        "stream": True,
        "max_tokens": 1500,
        "ignore_eos": True,
    }
    with server.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        for number, _ in enumerate(answer.iter_lines()):
            if number == 8:
                break
    left = time.monotonic()
    while server.metric("jarvis_requests_running"):
        ensure(time.monotonic() - left < 5, "an aborted request still runs")
        time.sleep(0.02)
    print(f"   aborted {time.monotonic() - left:.2f} s after the client left")


def _check_constraints(server: Server) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "size": {"type": "integer"}},
        "required": ["city", "size"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "c", "schema": schema, "strict": True}}
    said = server.chat(response_format=wanted, max_tokens=200)["choices"][0]["message"]["content"]
    print(f"   {said}")
    ensure(set(json.loads(said)) == {"city", "size"}, "the schema was not obeyed")
    said = server.chat(structured_outputs={"regex": "[0-9]{3}-[a-f]{4}"})["choices"][0]
    print(f"   {said['message']['content']}")
    ensure(len(said["message"]["content"]) == 8, "the expression was not obeyed")


def check_kill_server(args: argparse.Namespace) -> None:
    """R-04: SIGKILL of the server leaves no process and no memory."""
    before = memory_used()
    with serving(args, args.model) as server:
        children = descendants(server.pid)
        os.kill(server.pid, signal.SIGKILL)
        gone = wait_gone(children)
        free = wait_free(before)
        print(f"   {len(children)} processes gone after {gone:.1f} s, memory after {free:.1f} s")


def check_kill_host(args: argparse.Namespace) -> None:
    """SIGKILL of the host leaves none of its processes; the model comes back."""
    with serving(args, args.model) as server:
        host = server.host
        children = [host, *descendants(host)]
        os.kill(host, signal.SIGKILL)
        print(f"   {len(children)} processes gone after {wait_gone(children):.1f} s")
        begun = time.monotonic()
        while server.client.get("/health/ready").status_code != 200:
            ensure(time.monotonic() - begun < START_LIMIT, "the model does not come back")
            time.sleep(0.25)
        print(f"   back after {time.monotonic() - begun:.1f} s")
        ensure("Paris" in server.chat()["choices"][0]["message"]["content"], "no answer after it")


def check_kill_both(args: argparse.Namespace) -> None:
    """Server and host killed together, as by the kernel: vLLM's processes end by themselves."""
    before = memory_used()
    with serving(args, args.model) as server:
        host = server.host
        children = descendants(host)
        os.kill(server.pid, signal.SIGKILL)
        os.kill(host, signal.SIGKILL)
        gone = wait_gone(children)
        print(f"   {len(children)} processes gone after {gone:.1f} s")
        print(f"   memory free after {wait_free(before):.1f} s")


def check_kill_core(args: argparse.Namespace) -> None:
    """SIGKILL of vLLM's own engine process ends the host, which is replaced."""
    with serving(args, args.model) as server:
        host = server.host
        cores = [
            pid
            for pid in descendants(host)
            if b"EngineCore" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        ensure(cores, "there is no EngineCore")
        os.kill(cores[0], signal.SIGKILL)
        print(f"   the host is gone after {wait_gone([host]):.1f} s")
        begun = time.monotonic()
        while server.client.get("/health/ready").status_code != 200:
            ensure(time.monotonic() - begun < START_LIMIT, "the model does not come back")
            time.sleep(0.25)
        ensure("Paris" in server.chat()["choices"][0]["message"]["content"], "no answer after it")


def check_sleep(args: argparse.Namespace) -> None:
    """Sleeping gives GPU memory back; who asks a model that sleeps waits until it has woken."""
    with serving(args, args.model, enable_sleep_mode=True) as server:
        awake, before = server.chat()["choices"][0]["message"]["content"], memory_used()
        for level in (1, 2):
            begun = time.monotonic()
            server.post("/v1/models/tiny/sleep", level=level)
            slept, asleep = time.monotonic() - begun, memory_used()
            ensure(asleep[0] < before[0] / 2, f"sleeping gave too little back: {asleep}")
            begun = time.monotonic()
            if level == 1:
                server.post("/v1/models/tiny/wake")
            again = server.chat()["choices"][0]["message"]["content"]
            print(
                f"   level {level}: asleep after {slept:.1f} s, {before} -> {asleep} -> "
                f"{memory_used()} MiB, answered {time.monotonic() - begun:.1f} s after it was asked"
            )
            ensure(again == awake, f"it said {awake!r} before and {again!r} after")


def check_gguf(args: argparse.Namespace) -> None:
    """A GGUF file through vLLM's plugin."""
    ensure(args.gguf, "name a file with --gguf")
    with serving(args, args.gguf, tokenizer=args.model) as server:
        # A text, not a chat: in a chat the small model quantized to four bits may say nothing.
        body = {"model": "tiny", "prompt": "The capital of France is", "temperature": 0}
        answer = server.client.post("/v1/completions", json={**body, "max_tokens": 8})
        ensure(answer.status_code == 200, f"{answer.status_code} {answer.text}")
        said = answer.json()["choices"][0]["text"]
        print(f"   {said!r}")
        ensure("Paris" in said, "the text does not go on with Paris")


def check_memory(args: argparse.Namespace) -> None:
    """More memory than is free is refused before loading, with the numbers."""
    with serving(args, args.model, gpu_memory_utilization=0.6):
        command = [sys.executable, "-m", "jarvis_core", "serve", "--engine", "vllm"]
        command += ["--model", args.model, "--port", "0"]
        command += ["--set", "JARVIS_VLLM_GPU_MEMORY_UTILIZATION=0.6"]
        begun = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if b"asks for" in line:
                    seconds = time.monotonic() - begun
                    print(f"   {line.decode().strip()[:300]} ({seconds:.0f} s)")
                    return
        finally:
            process.kill()
            process.wait()
    raise CheckFailed("no message with the numbers came")


def check_tensor_parallel(args: argparse.Namespace) -> None:
    """Two GPUs: loads, answers, is killed, leaves nothing."""
    before = memory_used()
    ensure(len(before) >= 2, "there is one GPU only")
    # SmolLM2 has nine heads, which two GPUs cannot share: random weights of another shape.
    with tempfile.TemporaryDirectory() as folder:
        for file in Path(args.model).glob("*.json"):
            (Path(folder) / file.name).write_bytes(file.read_bytes())
        config = json.loads((Path(folder) / "config.json").read_text())
        config |= {"num_attention_heads": 8, "num_key_value_heads": 4, "hidden_size": 512}
        (Path(folder) / "config.json").write_text(json.dumps(config))
        settings = {"tensor_parallel_size": 2, "load_format": "dummy"}
        with serving(args, folder, **settings) as server:
            print(f"   GPU memory {before} -> {memory_used()} MiB")
            usage = server.chat(ignore_eos=True)["usage"]
            ensure(usage["completion_tokens"] == 40, f"usage is {usage}")
            children = descendants(server.pid)
            os.kill(server.pid, signal.SIGKILL)
            gone = wait_gone(children)
            free = wait_free(before)
            print(f"   {len(children)} processes gone after {gone:.1f} s, memory {free:.1f} s")


CHECKS: dict[str, Callable[[argparse.Namespace], None]] = {
    "answers": check_answers,
    "kill_server": check_kill_server,
    "kill_host": check_kill_host,
    "kill_both": check_kill_both,
    "kill_core": check_kill_core,
    "sleep": check_sleep,
    "memory": check_memory,
    "gguf": check_gguf,
    "tensor_parallel": check_tensor_parallel,
}


if __name__ == "__main__":
    sys.exit(main())
