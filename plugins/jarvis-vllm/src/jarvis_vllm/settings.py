"""Settings of the engine ``vllm``: ``JARVIS_VLLM_<FIELD>`` or ``[models.<name>.settings]``."""

from __future__ import annotations

from attrs import frozen

from jarvis_core import setting

DEFAULT_MAX_MODEL_LEN = 4096


@frozen(kw_only=True)
class VllmSettings:
    """How vLLM runs a model."""

    tensor_parallel_size: int = setting(default=1, ge=1, help="GPUs that one model is split over")
    gpu_memory_utilization: float = setting(
        default=0.9, ge=0.01, le=1, help="Share of each GPU's memory that vLLM takes"
    )
    max_model_len: int | None = setting(
        default=None,
        ge=1,
        help="Tokens of prompt and completion; unset takes the model's context window, else "
        f"{DEFAULT_MAX_MODEL_LEN}, and never more than the model was made for",
    )

    def context_length(self, *, wanted: int | None, own: int | None) -> int:
        """Tokens of prompt and completion to run a model with.

        Args:
            wanted: Tokens that the operator's context window asks for.
            own: Tokens that the model was made for, None where it does not say.
        """
        if self.max_model_len is not None:
            return self.max_model_len
        length = DEFAULT_MAX_MODEL_LEN if wanted is None else wanted
        return length if own is None else min(length, own)
