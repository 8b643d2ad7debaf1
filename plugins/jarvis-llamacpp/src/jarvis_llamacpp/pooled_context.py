"""A context of llama.cpp that gives one vector for each sequence."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as lib

from jarvis_llamacpp.batch import Batch
from jarvis_llamacpp.context import DecodeError, context_failure, context_params
from jarvis_llamacpp.log import LOG
from jarvis_llamacpp.memory import MemoryPlan
from jarvis_llamacpp.model import LlamaModel
from jarvis_llamacpp.pooling import POOLING_TYPES, Pooling
from jarvis_llamacpp.settings import LlamaCppSettings

Vector = npt.NDArray[np.float32]


class PooledContext:
    """Owns llama.cpp's state for one model. Only one thread at a time may call it.

    Attributes:
        n_batch: Tokens of all sequences of a step, at most.
        n_seqs: Sequences of a step, at most.
    """

    def __init__(
        self, model: LlamaModel, pooling: Pooling, plan: MemoryPlan, settings: LlamaCppSettings
    ) -> None:
        """Allocate buffers.

        Args:
            model: The model.
            pooling: How its token vectors become one.
            plan: Its context length is that of a step too, because no sequence can be cut.
            settings: The engine's settings.

        Raises:
            InsufficientMemory: They do not fit.
            SettingError: llama.cpp refuses the settings for this model.
        """
        tokens = plan.context_length
        params = context_params(plan, settings)
        params.n_ctx = params.n_batch = params.n_ubatch = params.n_outputs_max = tokens
        params.embeddings = True
        params.pooling_type = POOLING_TYPES[pooling.name]
        params.kv_unified = True
        self._context: Any = lib.llama_init_from_model(model.handle, params)
        if not self._context:
            raise context_failure()
        self._memory: Any = lib.llama_get_memory(self._context)
        self.n_batch = min(tokens, int(lib.llama_n_batch(self._context)))
        self.n_seqs = settings.max_num_seqs
        self._width = (
            max(1, int(lib.llama_model_n_cls_out(model.handle)))
            if pooling.name == "rank"
            else int(lib.llama_model_n_embd_out(model.handle))
        )
        self._batch = Batch(self.n_batch)
        self._struct = _bound(self._batch)

    def compute(self, sequences: Sequence[Sequence[int]]) -> list[Vector]:
        """A vector for each sequence, float32, shape ``(width,)``.

        Raises:
            DecodeError: llama.cpp failed.
        """
        if not self._context:
            raise RuntimeError("the context is closed")
        if not 0 < len(sequences) <= self.n_seqs or not all(sequences):
            raise ValueError(f"a step of {len(sequences)} sequences")
        batch = self._batch
        batch.clear()
        for seq, tokens in enumerate(sequences):
            batch.add_chunk(seq, 0, np.asarray(tokens, np.int32), last_wanted=True)
        batch.wanted[: batch.size] = 1
        self._struct.n_tokens = batch.size
        if self._memory:
            lib.llama_memory_clear(self._memory, False)
            code = lib.llama_decode(self._context, self._struct)
        else:
            code = lib.llama_encode(self._context, self._struct)
        if code:
            raise DecodeError(f"llama.cpp returned {code}: {LOG.reason()}")
        return [self._vector(seq) for seq in range(len(sequences))]

    def close(self) -> None:
        """Free everything; the context is unusable afterwards."""
        context, self._context = self._context, None
        if context:
            lib.llama_free(context)

    def _vector(self, seq: int) -> Vector:
        pointer = lib.llama_get_embeddings_seq(self._context, seq)
        if not pointer:
            raise DecodeError("llama.cpp has no vector of a sequence")
        return np.ctypeslib.as_array(pointer, (self._width,)).copy()


def _bound(batch: Batch) -> Any:
    struct: Any = lib.llama_batch()
    int32 = ctypes.POINTER(ctypes.c_int32)
    struct.token = batch.token.ctypes.data_as(int32)
    struct.pos = batch.pos.ctypes.data_as(int32)
    struct.n_seq_id = batch.seq_count.ctypes.data_as(int32)
    struct.seq_id = ctypes.cast(batch.seq_address.ctypes.data, ctypes.POINTER(int32))
    struct.logits = batch.wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))
    return struct
