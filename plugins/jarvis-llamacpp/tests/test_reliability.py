"""Rows R-02, R-10, R-11 and R-17 of the reliability bar against this engine."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jarvis_core import Engine, GenerationRequest, ModelSpec, PromptBuilder, SamplingParams
from jarvis_llamacpp import LLAMA_CPP
from jarvis_llamacpp.settings import LlamaCppSettings

pytestmark = pytest.mark.anyio

ABORT = """
import ctypes
from pathlib import Path
import llama_cpp
from jarvis_core.host.__main__ import _prepare_process
_prepare_process("INFO")
for library in (Path(llama_cpp.__file__).parent / "lib").glob("*ggml-base*"):
    ctypes.CDLL(str(library)).ggml_abort(b"kernel.cpp", 7, b"a deliberate failure")
"""


def request(name: str, text: str, tokens: int) -> GenerationRequest:
    sampling = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True)
    prompt = PromptBuilder().content(text).build()
    return GenerationRequest(id=name, prompt=prompt, sampling=sampling)


async def idle(engine: Engine) -> None:
    async with asyncio.timeout(60):
        while engine.stats().running or engine.stats().waiting:
            await asyncio.sleep(0.005)


async def leave_after(engine: Engine, name: str, outputs: int) -> None:
    """Ask for many tokens and be gone after a few outputs."""
    answer = engine.generate(request(name, f"Request {name}: the", 400))
    for _ in range(outputs):
        await anext(answer)
    await answer.aclose()


def test_an_abort_inside_the_backend_says_where_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """R-02: no core dump, no debugger."""
    ended = subprocess.run(
        (sys.executable, "-c", ABORT), cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert ended.returncode == -signal.SIGABRT
    assert "kernel.cpp:7: a deliberate failure" in ended.stderr
    assert "gdb" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


async def test_clients_that_leave_free_everything(engine: Engine) -> None:
    """R-10: slots, KV cells, queue and tasks are as before."""
    await idle(engine)
    tasks, threads = len(asyncio.all_tasks()), threading.active_count()
    for start in range(0, 100, 20):
        await asyncio.gather(*(leave_after(engine, str(start + i), 4) for i in range(20)))
    await idle(engine)
    stats = engine.stats()

    assert (stats.running, stats.waiting, stats.kv_used) == (0, 0, 0)
    assert len(asyncio.all_tasks()) == tasks
    assert threading.active_count() <= threads + 1


async def test_who_leaves_while_queued_is_never_read(engine: Engine) -> None:
    """R-11."""
    await idle(engine)
    crowd = [engine.generate(request(str(i), f"Story {i}: once", 400)) for i in range(16)]
    for answer in crowd:
        await anext(answer)
        await anext(answer)
    before = engine.stats()
    for i in range(20):
        await leave_after(engine, f"queued {i}", 1)
    async with asyncio.timeout(60):
        while engine.stats().waiting:
            await asyncio.sleep(0.005)

    assert before.running == 16
    assert engine.stats().prefix_queries == before.prefix_queries
    for answer in crowd:
        await answer.aclose()
    await idle(engine)


async def test_loading_and_unloading_leaves_nothing_behind() -> None:
    """R-17, shortened and without a server: memory, descriptors and threads are flat."""
    sizes, descriptors, threads = [], [], []
    for _ in range(6):
        spec = ModelSpec(name="tiny", source="smollm2", path="smollm2", context_length=512)
        settings = LlamaCppSettings(n_threads=1, kv_size=1024, max_num_seqs=2, n_batch=64)
        engine = await LLAMA_CPP.load(spec, settings)
        await leave_after(engine, "x", 3)
        await engine.aclose()
        del engine
        gc.collect()
        sizes.append(resident())
        descriptors.append(len(list(Path("/proc/self/fd").iterdir())))
        threads.append(threading.active_count())

    assert max(sizes[2:]) - sizes[1] < 40e6
    assert descriptors[-1] == descriptors[1]
    assert threads[-1] <= threads[1]


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
