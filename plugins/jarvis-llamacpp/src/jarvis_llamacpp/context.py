"""A context of llama.cpp: checked wrappers around every call that could end the process.

Source: llama.h and llama-context.cpp in llama-cpp-python 0.3.36. More tokens than ``n_batch``, more
rows of logits than ``n_outputs_max``, a sequence id out of range, two threads on one context, and
use after free all abort or corrupt the process; here they are exceptions.
"""

from __future__ import annotations

import ctypes
import threading
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as lib

from jarvis_core import ConfigError, InsufficientMemory, SettingError
from jarvis_llamacpp.batch import Batch
from jarvis_llamacpp.cache import LEAST_COPY, LEAST_REUSE
from jarvis_llamacpp.governor import ThreadGovernor
from jarvis_llamacpp.interrupt import Interrupt
from jarvis_llamacpp.log import LOG
from jarvis_llamacpp.memory import GGML_TYPES, MemoryPlan
from jarvis_llamacpp.model import LlamaModel, load_failure, offloads
from jarvis_llamacpp.scheduler import SCORED_ROWS
from jarvis_llamacpp.settings import LlamaCppSettings
from jarvis_llamacpp.threads import default_threads

Logits = npt.NDArray[np.float32]

_FLASH = {"auto": -1, "off": 0, "on": 1}
_ROPE = {"model": -1, "none": 0, "linear": 1, "yarn": 2, "longrope": 3}
_FULL = 1
_INTERRUPTED = 2


class DecodeError(RuntimeError):
    """llama.cpp could not compute a step; what its memory holds now is unknown."""


class StepInterrupted(Exception):
    """A step was stopped because nobody wants its result any more."""


class LlamaContext:
    """Owns llama.cpp's state for one model. Only the thread that made it may call it.

    Attributes:
        kv_size: Tokens that the KV cache holds.
        n_batch: Tokens of one step at most.
        n_seqs: Sequence ids are below this.
        n_rows: Rows of logits of one step at most.
        interrupt: Stops a step early; the only part that any thread may use.
        unified: Whether all sequences share the cells of the KV cache.
        store_bytes: Bytes at most of sequences that left the KV cache.
        least_copy: Tokens; reading a shorter prefix again costs less than copying it.
        no_logits: Logits of no row, float32, shape ``(0, vocabulary)``.
    """

    def __init__(self, model: LlamaModel, plan: MemoryPlan, settings: LlamaCppSettings) -> None:
        """Allocate KV cache and buffers.

        Raises:
            InsufficientMemory: They do not fit.
            SettingError: llama.cpp refuses the settings for this model.
        """
        self._owner = threading.get_ident()
        self._model = model
        params = context_params(plan, settings)
        self._context: Any = lib.llama_init_from_model(model.handle, params)
        if not self._context:
            raise context_failure()
        self._memory: Any = lib.llama_get_memory(self._context)
        if not self._memory:
            self.close()
            raise ConfigError("the model has no memory of its tokens: it does not generate text")
        self._most_threads = (int(params.n_threads), int(params.n_threads_batch))
        self._threads = max(self._most_threads)
        self._governor: ThreadGovernor | None = None
        if settings.adapt_threads and not offloads(settings):
            self._governor = ThreadGovernor(self._threads, int(params.n_seq_max))
        self.interrupt = Interrupt(self._context)
        self.kv_size = int(lib.llama_n_ctx(self._context))
        self.n_batch = int(lib.llama_n_batch(self._context))
        self.n_seqs = int(params.n_seq_max)
        self.n_rows = int(params.n_outputs_max)
        self.unified = plan.unified
        self.store_bytes = plan.store_bytes
        self.least_copy = LEAST_REUSE if offloads(settings) else LEAST_COPY
        self._struct: Any = lib.llama_batch()
        self._bound: Batch | None = None
        self._address = 0
        self.no_logits: Logits = np.empty((0, model.vocabulary.size), np.float32)
        self._rows = self.no_logits

    def decode(self, batch: Batch) -> bool:
        """Compute a step.

        Returns:
            False if the KV cache has no room for it; nothing has changed then.

        Raises:
            DecodeError: llama.cpp failed.
            StepInterrupted: ``interrupt`` was set; a part of the tokens may be in the memory.
        """
        self._check()
        if not 0 < batch.size <= self.n_batch or batch.rows > self.n_rows:
            raise ValueError(f"a step of {batch.size} tokens and {batch.rows} rows of logits")
        if self._bound is not batch:
            self._bind(batch)
        self._struct.n_tokens = batch.size
        code = self._compute(batch.size)
        if code == 0:
            return True
        if code == _FULL:
            return False
        if code == _INTERRUPTED:
            raise StepInterrupted
        raise DecodeError(f"llama_decode returned {code}: {LOG.reason()}")

    def _compute(self, tokens: int) -> int:
        """Compute what is in the batch, with as many threads as pays; llama.cpp's return code."""
        governor = self._governor
        if governor is None:
            return int(lib.llama_decode(self._context, self._struct))
        threads = governor.choose(tokens)
        if threads != self._threads:
            self._threads = threads
            lib.llama_set_n_threads(self._context, *(min(threads, n) for n in self._most_threads))
        began = perf_counter()
        code = int(lib.llama_decode(self._context, self._struct))
        if code == 0:
            governor.note(tokens, threads, perf_counter() - began)
        return code

    def logits(self, rows: int) -> Logits:
        """Logits of the last step, float32, shape ``(rows, vocabulary)``; valid until the next.

        Args:
            rows: Rows that were wanted of the last step.
        """
        self._check()
        pointer = lib.llama_get_logits(self._context)
        if not pointer:
            raise DecodeError("llama.cpp has no logits of the last step")
        address = ctypes.addressof(pointer.contents)
        if address != self._address:
            shape = (self.n_rows, self._model.vocabulary.size)
            block = (ctypes.c_float * (shape[0] * shape[1])).from_address(address)
            self._rows = np.ctypeslib.as_array(block).reshape(shape)
            self._address = address
        return self._rows[:rows]

    def use_adapter(self, name: str | None) -> None:
        """Compute the following steps with one of the model's LoRA adapters, or with none.

        Raises:
            DecodeError: llama.cpp refuses it.
        """
        self._check()
        handles = [] if name is None else [self._model.adapters[name]]
        array = (lib.llama_adapter_lora_p_ctypes * 1)(*handles)
        scales = (ctypes.c_float * 1)(1.0)
        if lib.llama_set_adapters_lora(self._context, array, len(handles), scales):
            raise DecodeError(f"llama.cpp cannot use adapter {name!r}: {LOG.reason()}")

    def warm_up(self, token: int) -> None:
        """Compute one token and forget it: touches all weights, and shows that it works.

        Raises:
            DecodeError: llama.cpp failed.
        """
        batch = Batch(1)
        batch.add_each([0], [0], [token])
        lib.llama_set_warmup(self._context, True)
        try:
            if not self.decode(batch):
                raise DecodeError("the KV cache has no room for one token")
        finally:
            lib.llama_set_warmup(self._context, False)
        self.clear()

    def remove(self, seq: int, start: int) -> bool:
        """Forget a sequence's tokens from a position on; False if only all can be forgotten."""
        self._check(seq)
        return bool(lib.llama_memory_seq_rm(self._memory, seq, start if start > 0 else -1, -1))

    def copy(self, source: int, target: int, end: int) -> bool:
        """Give an empty sequence another's tokens before a position; False if it stays empty."""
        self._check(source, target)
        if self.unified:
            lib.llama_memory_seq_cp(self._memory, source, target, 0, end)
            return True
        # Between sequences that share no cells, llama.cpp copies whole contexts only.
        state = self.save(source)
        return state is not None and self.restore(target, state) and self.remove(target, end)

    def save(self, seq: int) -> npt.NDArray[np.uint8] | None:
        """A sequence's state, uint8, one-dimensional; None if llama.cpp cannot give it."""
        self._check(seq)
        size = int(lib.llama_state_seq_get_size(self._context, seq))
        if size == 0:
            return None
        state = np.empty(size, np.uint8)
        written = lib.llama_state_seq_get_data(self._context, _bytes(state), size, seq)
        return state if written == size else None

    def restore(self, seq: int, state: npt.NDArray[np.uint8]) -> bool:
        """Put a saved state into an empty sequence; False if it does not fit."""
        self._check(seq)
        read = lib.llama_state_seq_set_data(self._context, _bytes(state), len(state), seq)
        if read == len(state):
            return True
        lib.llama_memory_seq_rm(self._memory, seq, -1, -1)
        return False

    def clear(self) -> None:
        """Forget every sequence."""
        self._check()
        lib.llama_memory_clear(self._memory, False)

    def close(self) -> None:
        """Free everything; the context is unusable afterwards."""
        context, self._context = self._context, None
        if context:
            lib.llama_free(context)

    def _check(self, *seqs: int) -> None:
        if not self._context:
            raise RuntimeError("the context is closed")
        if threading.get_ident() != self._owner:
            raise RuntimeError("the context belongs to another thread")
        for seq in seqs:
            if not 0 <= seq < self.n_seqs:
                raise ValueError(f"there is no sequence {seq}")

    def _bind(self, batch: Batch) -> None:
        struct, int32 = self._struct, ctypes.POINTER(ctypes.c_int32)
        struct.token = batch.token.ctypes.data_as(int32)
        struct.pos = batch.pos.ctypes.data_as(int32)
        struct.n_seq_id = batch.seq_count.ctypes.data_as(int32)
        struct.seq_id = ctypes.cast(batch.seq_address.ctypes.data, ctypes.POINTER(int32))
        struct.logits = batch.wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))
        self._bound = batch


def _bytes(array: npt.NDArray[np.uint8]) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


def context_params(plan: MemoryPlan, settings: LlamaCppSettings) -> Any:
    """llama.cpp's own structure of what a context is made with."""
    params = lib.llama_context_default_params()
    threads = settings.n_threads or default_threads()
    tokens = settings.n_batch + settings.max_num_seqs  # of prompts, and one of each sequence
    params.n_ctx = plan.kv_size
    params.n_batch = tokens
    params.n_ubatch = min(settings.n_ubatch or tokens, tokens)
    params.n_seq_max = settings.max_num_seqs
    params.n_outputs_max = min(settings.max_num_seqs + SCORED_ROWS, tokens)
    params.n_threads = threads
    params.n_threads_batch = settings.n_threads_batch or threads
    params.flash_attn_type = _FLASH[settings.flash_attn]
    params.type_k = GGML_TYPES[settings.cache_type_k]
    params.type_v = GGML_TYPES[settings.cache_type_v]
    params.offload_kqv = settings.offload_kqv
    params.op_offload = settings.op_offload
    params.swa_full = settings.swa_full
    params.kv_unified = plan.unified
    params.no_perf = True
    params.rope_scaling_type = _ROPE[settings.rope_scaling]
    for name in (
        "rope_freq_base",
        "rope_freq_scale",
        "yarn_orig_ctx",
        "yarn_ext_factor",
        "yarn_attn_factor",
        "yarn_beta_fast",
        "yarn_beta_slow",
    ):
        value = getattr(settings, name)
        if value is not None:
            setattr(params, name, value)
    return params


def context_failure() -> InsufficientMemory | SettingError:
    """The error for a context that llama.cpp has just refused."""
    failure = load_failure("llama.cpp cannot make a context for this model")
    if isinstance(failure, InsufficientMemory):
        return failure
    return SettingError(
        f"llama.cpp refuses these settings for this model: {LOG.reason()}; see the "
        "JARVIS_LLAMACPP_* settings for flash attention, KV cache types and batch size"
    )
