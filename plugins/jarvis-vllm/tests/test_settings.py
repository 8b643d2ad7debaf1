from __future__ import annotations

import pytest

from jarvis_core import SettingError
from jarvis_core.settings import load_settings, structure_settings
from jarvis_vllm import VLLM
from jarvis_vllm.settings import VllmSettings


def load(tmp_path, **environ):
    return load_settings(options={}, environ=environ, directory=tmp_path, engines={"vllm": VLLM})


def test_defaults():
    settings = VllmSettings()
    found = (settings.tensor_parallel_size, settings.gpu_memory_utilization, settings.max_model_len)
    assert found == (1, 0.9, None)


def test_variables(tmp_path):
    settings = load(
        tmp_path,
        JARVIS_INFERENCE_ENGINE="vllm",
        JARVIS_MODEL_NAME="Qwen/Qwen3-0.6B",
        JARVIS_VLLM_TENSOR_PARALLEL_SIZE="2",
        JARVIS_VLLM_GPU_MEMORY_UTILIZATION="0.5",
        JARVIS_VLLM_MAX_MODEL_LEN="8192",
    )
    assert settings.warnings == ()
    values = settings.models["Qwen3-0.6B"].settings
    assert structure_settings(VLLM.settings, values, where="here") == VllmSettings(
        tensor_parallel_size=2, gpu_memory_utilization=0.5, max_model_len=8192
    )


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("TENSOR_PARALLEL_SIZE", "0", "a whole number of at least 1"),
        ("GPU_MEMORY_UTILIZATION", "1.5", "a number from 0.01 to 1"),
        ("GPU_MEMORY_UTILIZATION", "90%", "a number from 0.01 to 1"),
        ("MAX_MODEL_LEN", "-1", "a whole number of at least 1"),
        ("DTYPE", "int8", "one of: auto, half, float16, bfloat16, float, float32"),
        ("RUNNER", "draft", "one of: auto, generate, pooling"),
    ],
)
def test_values_that_are_not_allowed(tmp_path, name, value, allowed):
    with pytest.raises(SettingError) as caught:
        load(tmp_path, **{f"JARVIS_VLLM_{name}": value})
    assert caught.value.message == (
        f"JARVIS_VLLM_{name} is {value!r} (environment): must be {allowed}"
    )


def test_a_start_without_a_model_names_the_variable(tmp_path):
    with pytest.raises(SettingError, match=r"^JARVIS_MODEL_NAME is not set: engine 'vllm' has no"):
        load(tmp_path, JARVIS_INFERENCE_ENGINE="vllm")


@pytest.mark.parametrize(
    ("max_model_len", "wanted", "own", "length"),
    [
        (None, None, None, 4096),
        (None, None, 2048, 2048),
        (None, None, 32768, 4096),
        (None, 8192, 32768, 8192),
        (None, 8192, 2048, 2048),
        (None, 8192, None, 8192),
        (16384, 8192, 2048, 16384),
        (1024, None, 2048, 1024),
    ],
)
def test_the_context_length_is_over_the_models_own_only_if_set(max_model_len, wanted, own, length):
    settings = VllmSettings(max_model_len=max_model_len)
    assert settings.context_length(wanted=wanted, own=own) == length
