"""A model loaded by llama.cpp: checked wrappers around its C functions."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import llama_cpp
import numpy as np
from llama_cpp import llama_cpp as lib

from jarvis_core import InsufficientMemory, ModelSourceError
from jarvis_llamacpp.log import LOG
from jarvis_llamacpp.settings import LlamaCppSettings
from jarvis_llamacpp.source import Weights
from jarvis_llamacpp.vocabulary import Vocabulary

BACKEND = f"llama-cpp-python {llama_cpp.__version__}"

_SPLIT_MODES = {"none": 0, "layer": 1, "row": 2, "tensor": 3}
_NUMA = {"disabled": 0, "distribute": 1, "isolate": 2, "numactl": 3, "mirror": 4}
_STRANGE = "\U00012000"
"""A cuneiform sign: vocabularies without tokens of single bytes do not know it."""

_OUT_OF_MEMORY = ("allocate", "out of memory", "ENOMEM")

_started = False


def start_backend(settings: LlamaCppSettings) -> None:
    """Start llama.cpp, once in a process."""
    global _started
    LOG.install(settings.log_level)
    if not _started:
        _started = True
        lib.llama_backend_init()
        if settings.numa != "disabled":
            lib.llama_numa_init(_NUMA[settings.numa])


def offloads(settings: LlamaCppSettings) -> bool:
    """Whether weights go to a GPU."""
    return settings.n_gpu_layers != 0 and bool(lib.llama_supports_gpu_offload())


class LlamaModel:
    """Weights in memory. Its functions may be called from any thread until ``close``.

    Attributes:
        vocabulary: Its vocabulary.
        adapters: C pointers to its LoRA adapters, by name; they end with it.
        partial_reuse: Whether any prefix of a computed sequence can be reused; if not, only a
            whole one.
    """

    def __init__(
        self,
        weights: Weights,
        settings: LlamaCppSettings,
        *,
        pools: bool = False,
        adapters: Mapping[str, Path] = MappingProxyType({}),
    ) -> None:
        """Load weights.

        Args:
            weights: Their files.
            settings: The engine's settings.
            pools: Whether vectors are wanted, not text.
            adapters: Files of LoRA adapters by name, already checked.

        Raises:
            InsufficientMemory: llama.cpp could not allocate them.
            ModelSourceError: llama.cpp cannot load them, or they do not generate text.
        """
        self._path = weights.path
        params = _model_params(settings)
        self._model: Any = lib.llama_model_load_from_file(str(weights.path).encode(), params)
        # A NULL pointer may come as an object; only its truth tells.
        if not self._model:
            raise load_failure(f"{weights.path}: llama.cpp cannot load it")
        try:
            self._check_kind(weights, pools=pools)
            self._vocab: Any = lib.llama_model_get_vocab(self._model)
            self.vocabulary = self._read_vocabulary()
            self.adapters = {name: self._load_adapter(path) for name, path in adapters.items()}
        except BaseException:
            self.close()
            raise
        window = lib.llama_model_n_swa(self._model) > 0 and not settings.swa_full
        self.partial_reuse = not window and not (
            lib.llama_model_is_recurrent(self._model) or lib.llama_model_is_hybrid(self._model)
        )

    @property
    def handle(self) -> Any:
        """The C pointer."""
        if not self._model:
            raise RuntimeError("the model is closed")
        return self._model

    @property
    def weights_bytes(self) -> int:
        """Bytes of all tensors."""
        return int(lib.llama_model_size(self.handle))

    @property
    def rerank_template(self) -> str | None:
        """How a query and a document are put together, if the model's file says."""
        found = lib.llama_model_chat_template(self.handle, b"rerank")
        return found.decode() if found else None

    def close(self) -> None:
        """Free the weights; every context must be closed before."""
        model, self._model = self._model, None
        if model:
            lib.llama_model_free(model)

    def tokenize_text(self, text: bytes) -> list[int]:
        """Token ids of UTF-8 text in which control tokens are just text."""
        self.handle  # noqa: B018  # refuses use after close
        room = len(text) + 16
        while True:
            ids = np.empty(room, np.int32)
            pointer = ids.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
            count = lib.llama_tokenize(self._vocab, text, len(text), pointer, room, False, False)
            if count >= 0:
                found: list[int] = ids[:count].tolist()
                return found
            if count == -(2**31):
                raise RuntimeError("llama.cpp cannot tokenize a text of this length")
            room = -count

    def _check_kind(self, weights: Weights, *, pools: bool) -> None:
        name = weights.header.architecture
        if lib.llama_model_has_encoder(self._model) or not lib.llama_model_has_decoder(self._model):
            raise ModelSourceError(
                f"{weights.path}: architecture {name!r} has an encoder; engine llama_cpp serves "
                "models that only decode"
            )
        causal = weights.header.metadata.get(f"{name}.attention.causal", True)
        if lib.llama_model_is_diffusion(self._model) or not (causal or pools):
            raise ModelSourceError(
                f"{weights.path}: architecture {name!r} does not generate text token by token"
            )

    def _load_adapter(self, path: Path) -> Any:
        adapter = lib.llama_adapter_lora_init(self._model, str(path).encode())
        if not adapter:
            raise load_failure(f"{path}: llama.cpp cannot load the adapter for this model")
        return adapter

    def _read_vocabulary(self) -> Vocabulary:
        vocab = self._vocab
        size = lib.llama_vocab_n_tokens(vocab)
        if size < 1 or lib.llama_vocab_type(vocab) == lib.LLAMA_VOCAB_TYPE_NONE:
            raise ModelSourceError(
                f"{self._path}: the model has no vocabulary; it cannot read or write text"
            )
        attributes = [lib.llama_vocab_get_attr(vocab, i) for i in range(size)]
        end_ids = frozenset(i for i in range(size) if lib.llama_vocab_is_eog(vocab, i))
        buffer = ctypes.create_string_buffer(256)
        pieces = tuple(self._piece(i, buffer) for i in range(size))
        controls: dict[str, int] = {}
        left, right = set(), set()
        for i, attribute in enumerate(attributes):
            if attribute & lib.LLAMA_TOKEN_ATTR_CONTROL or i in end_ids:
                text = pieces[i].decode("utf-8", "replace")
                controls.setdefault(text, i)
                if attribute & lib.LLAMA_TOKEN_ATTR_LSTRIP:
                    left.add(text)
                if attribute & lib.LLAMA_TOKEN_ATTR_RSTRIP:
                    right.add(text)
        bos, eos = int(lib.llama_vocab_bos(vocab)), int(lib.llama_vocab_eos(vocab))
        sep = int(lib.llama_vocab_sep(vocab))
        ending = [eos if eos >= 0 else sep] if lib.llama_vocab_get_add_eos(vocab) else []
        parting = [sep] if lib.llama_vocab_get_add_sep(vocab) else []
        first = self.tokenize_text(b"a")[:1]
        strange = self.tokenize_text(_STRANGE.encode())
        return Vocabulary(
            pieces=pieces,
            unknown_id=next((i for i in strange if i in controls.values()), None),
            controls=controls,
            end_ids=end_ids,
            bos_id=bos if 0 <= bos < size else None,
            eos_id=eos if 0 <= eos < size else None,
            adds_bos=bool(lib.llama_vocab_get_add_bos(vocab)),
            closing=tuple(i for i in ending or parting if 0 <= i < size),
            between=tuple(i for i in ending + parting if 0 <= i < size),
            adds_space=any(pieces[i].startswith(b" ") for i in first),
            strips_left=frozenset(left),
            strips_right=frozenset(right),
        )

    def _piece(self, token_id: int, buffer: Any) -> bytes:
        room = len(buffer)
        count = lib.llama_token_to_piece(self._vocab, token_id, buffer, room, 0, True)
        if count < 0:
            return self._piece(token_id, ctypes.create_string_buffer(-count))
        return ctypes.string_at(buffer, count)


def load_failure(what: str) -> ModelSourceError | InsufficientMemory:
    """The error for what llama.cpp has just refused, with its own reason."""
    reason = LOG.reason()
    if any(word in reason for word in _OUT_OF_MEMORY):
        return InsufficientMemory(
            f"{what}, memory is not enough: {reason}; choose a smaller model or quantization, a "
            "smaller context (JARVIS_MODEL_CONTEXT_WINDOW) or fewer layers on the GPU "
            "(JARVIS_LLAMACPP_N_GPU_LAYERS)"
        )
    return ModelSourceError(
        f"{what}: {reason}; set LLAMA_LOG_LEVEL=info to see more, or try another file"
    )


def _model_params(settings: LlamaCppSettings) -> Any:
    params = lib.llama_model_default_params()
    params.n_gpu_layers = settings.n_gpu_layers
    params.split_mode = _SPLIT_MODES[settings.split_mode]
    params.main_gpu = settings.main_gpu
    params.load_mode = _load_mode(settings)
    params.check_tensors = settings.check_tensors
    if settings.tensor_split:
        shares = (ctypes.c_float * lib.LLAMA_MAX_DEVICES)(
            *settings.tensor_split[: lib.LLAMA_MAX_DEVICES]
        )
        params.tensor_split = ctypes.cast(shares, ctypes.POINTER(ctypes.c_float))
        params._shares = shares  # the structure holds only the address
    return params


def _load_mode(settings: LlamaCppSettings) -> int:
    if settings.mlock:
        whole = settings.mmap is False
        return int(lib.LLAMA_LOAD_MODE_MLOCK if whole else lib.LLAMA_LOAD_MODE_MMAP_MLOCK)
    if settings.mmap is None:
        return int(lib.LLAMA_LOAD_MODE_AUTO)
    return int(lib.LLAMA_LOAD_MODE_MMAP if settings.mmap else lib.LLAMA_LOAD_MODE_NONE)
