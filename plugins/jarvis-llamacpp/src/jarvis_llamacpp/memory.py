"""What a model needs of memory, and how long a context fits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from jarvis_core import InsufficientMemory, SettingError
from jarvis_llamacpp.gguf import BLOCKS
from jarvis_llamacpp.scheduler import SCORED_ROWS
from jarvis_llamacpp.settings import LlamaCppSettings
from jarvis_llamacpp.source import Weights

DEFAULT_CONTEXT = 8192
"""Tokens of the context where nobody names a length: long models could take all memory."""

KV_FOR_EACH = 1024
"""Tokens of the KV cache for each parallel sequence where nobody names a size."""

APART = 8
"""The part of the free memory, as a divisor, that whole contexts for all sequences may take."""

STORED = 4
"""The part of the free memory, as a divisor, that sequences outside the KV cache may take."""

STORED_MIB = 8192
"""MiB that they take at most where nobody names a size."""

_CELLS = 256
"""llama.cpp gives each sequence a multiple of so many cells."""

GGML_TYPES = {
    "f32": 0,
    "f16": 1,
    "q4_0": 2,
    "q4_1": 3,
    "q5_0": 6,
    "q5_1": 7,
    "q8_0": 8,
    "iq4_nl": 20,
    "bf16": 30,
}


@frozen(kw_only=True)
class MemoryPlan:
    """How a model is laid out.

    Attributes:
        context_length: Tokens of prompt and completion in one request.
        kv_size: Tokens of the KV cache.
        weights_bytes: Bytes of the weights.
        kv_bytes: Bytes of the KV cache.
        compute_bytes: Bytes of the buffers for one step, about.
        unified: Whether all sequences share the cells of the KV cache.
        store_bytes: Bytes at most of sequences that left the KV cache.
    """

    context_length: int
    kv_size: int
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    unified: bool = True
    store_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """Bytes of all three."""
        return self.weights_bytes + self.kv_bytes + self.compute_bytes


def plan_memory(
    weights: Weights, wanted: int | None, settings: LlamaCppSettings, available: int | None
) -> MemoryPlan:
    """Choose context length and size of the KV cache.

    Args:
        weights: The model's files.
        wanted: Tokens of the context that the operator asked for.
        settings: The engine's settings.
        available: Bytes of memory that may be used; None does not limit.

    Raises:
        InsufficientMemory: It does not fit; the message has the numbers.
        SettingError: ``kv_size`` is smaller than the context that was asked for.
    """
    if wanted and settings.kv_size and settings.kv_size < wanted:
        raise SettingError(
            f"kv_size is {settings.kv_size:,} tokens, less than one context of {wanted:,}: "
            "raise JARVIS_LLAMACPP_KV_SIZE or lower JARVIS_MODEL_CONTEXT_WINDOW"
        )
    per_token = kv_bytes_per_token(weights, settings)
    compute = compute_bytes(weights, settings)
    room = None if available is None else available - weights.total_bytes - compute
    fitting = None if room is None or not per_token else max(0, room // per_token)
    context = wanted or min(
        weights.header.number("context_length") or DEFAULT_CONTEXT,
        DEFAULT_CONTEXT,
        settings.kv_size or DEFAULT_CONTEXT,
    )
    if not wanted and fitting is not None and not settings.kv_size:
        apart = settings.kv_unified is False
        most = fitting // settings.max_num_seqs // _CELLS * _CELLS if apart else fitting
        context = min(context, max(most, 512))
    kv_size, unified = _layout(context, settings, fitting)
    plan = MemoryPlan(
        context_length=context,
        kv_size=kv_size,
        weights_bytes=weights.total_bytes,
        kv_bytes=kv_size * per_token,
        compute_bytes=compute,
        unified=unified,
    )
    if available is not None and plan.total_bytes > available:
        raise _too_large(weights, plan, available, fitting or 0)
    free = available_memory() if available is None else available
    return evolve(plan, store_bytes=_store_bytes(settings, free - plan.total_bytes))


def _layout(context: int, settings: LlamaCppSettings, fitting: int | None) -> tuple[int, bool]:
    """Tokens of the KV cache, and whether all sequences share them."""
    sequences = settings.max_num_seqs
    whole = sequences * (-(-context // _CELLS) * _CELLS)
    kv_size, unified = settings.kv_size, settings.kv_unified
    if kv_size is None:
        if unified is None:
            unified = fitting is None or whole > fitting // APART
        if not unified:
            return whole, False
        spread = KV_FOR_EACH * sequences
        return max(context, spread if fitting is None else min(spread, fitting // 2)), True
    if unified is None:
        unified = kv_size < whole
    if not unified and kv_size < whole:
        raise SettingError(
            f"kv_size is {kv_size:,} tokens, and with kv_unified off each of {sequences} sequences "
            f"takes a whole context, together {whole:,}: raise JARVIS_LLAMACPP_KV_SIZE, or lower "
            "JARVIS_LLAMACPP_MAX_NUM_SEQS or JARVIS_MODEL_CONTEXT_WINDOW"
        )
    return kv_size, unified


def _store_bytes(settings: LlamaCppSettings, free: int) -> int:
    if settings.state_store_mib is not None:
        return settings.state_store_mib * 2**20
    return max(0, min(free // STORED, STORED_MIB * 2**20))


def kv_bytes_per_token(weights: Weights, settings: LlamaCppSettings) -> int:
    """Bytes that one token takes in the KV cache, from the metadata; recurrent layers take none."""
    header = weights.header
    layers = header.number("block_count")
    heads = header.number("attention.head_count", 1)
    width = header.number("embedding_length") // max(1, heads)
    keys = _items_per_token(header.of_model("attention.head_count_kv"), layers, heads)
    key_width = header.number("attention.key_length", width)
    value_width = header.number("attention.value_length", width)
    return int(
        keys * key_width * _bytes_per_item(settings.cache_type_k)
        + keys * value_width * _bytes_per_item(settings.cache_type_v)
    )


def _items_per_token(heads_kv: Any, layers: int, heads: int) -> int:
    """Heads of all layers; the metadata has one number, or one for each layer."""
    if isinstance(heads_kv, tuple):
        return sum(heads_kv)
    return layers * (heads_kv if isinstance(heads_kv, int) else heads)


def _bytes_per_item(cache_type: str) -> float:
    items, size = BLOCKS[GGML_TYPES[cache_type]]
    return size / items


def compute_bytes(weights: Weights, settings: LlamaCppSettings) -> int:
    """Bytes of the buffers for one step: activations, and logits of one row a sequence."""
    header = weights.header
    rows = settings.n_ubatch or settings.n_batch + settings.max_num_seqs
    width = header.number("embedding_length")
    hidden = header.number("feed_forward_length", 4 * width)
    vocabulary = header.number("vocab_size", 128_000)
    activations = rows * (8 * width + 3 * hidden) * 4
    return activations + 2 * (settings.max_num_seqs + SCORED_ROWS) * vocabulary * 4


def available_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of memory that this process may still take, with what the kernel would give up."""
    free = _memory_of_machine(proc)
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return free
    return min(free, limit - used + int(stat.get("inactive_file", 0)))


def _memory_of_machine(proc: Path) -> int:
    try:
        for line in (proc / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _too_large(
    weights: Weights, plan: MemoryPlan, available: int, fitting: int
) -> InsufficientMemory:
    parts = (
        f"{weights.path.name} needs {_size(plan.total_bytes)} of memory (weights "
        f"{_size(plan.weights_bytes)}, KV cache of {plan.kv_size:,} tokens {_size(plan.kv_bytes)}, "
        f"buffers {_size(plan.compute_bytes)}) and {_size(available)} is free"
    )
    if fitting >= 512:
        fitting = fitting // 256 * 256
        return InsufficientMemory(
            f"{parts}; a context of {fitting:,} tokens would fit: set "
            "JARVIS_MODEL_CONTEXT_WINDOW or JARVIS_LLAMACPP_KV_SIZE"
        )
    return InsufficientMemory(f"{parts}; choose a smaller model or quantization")


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
