"""What the plugin registers, and that registering costs nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from attrs import fields

from jarvis_core import SamplingParams
from jarvis_llamacpp import CAPABILITIES, LLAMA_CPP, jarvis_register_engines
from jarvis_llamacpp.params import EXTRA
from jarvis_llamacpp.settings import LlamaCppSettings


def test_the_engine_type_is_registered() -> None:
    assert list(jarvis_register_engines()) == [LLAMA_CPP]
    assert LLAMA_CPP.name == "llama_cpp"
    assert LLAMA_CPP.env_prefix == "JARVIS_LLAMACPP_"
    assert LLAMA_CPP.weights == ("*.gguf",)


def test_registering_imports_neither_backend_nor_numpy() -> None:
    program = (
        "import sys, jarvis_llamacpp; print('llama_cpp' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["False", "False"]


def test_only_parameters_that_exist_are_declared() -> None:
    known = {field.name for field in fields(SamplingParams)} | EXTRA.keys()
    known |= {"n", "logprobs", "prompt_logprobs", "dry_sequence_breakers"}
    known |= {"priority", "cache_salt", "share"}

    assert known >= CAPABILITIES.parameters


def test_every_setting_explains_itself_and_has_a_default() -> None:
    LlamaCppSettings()
    for field in fields(LlamaCppSettings):
        assert field.metadata["jarvis"]["help"].endswith(".")


def test_every_setting_is_in_the_readme() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")

    assert [f.name for f in fields(LlamaCppSettings) if f"`{f.name}`" not in readme] == []


def test_older_names_of_settings_are_known() -> None:
    names = {field.name: field.metadata["jarvis"]["env"] for field in fields(LlamaCppSettings)}

    assert names["n_threads"] == ("JARVIS_N_THREADS",)
    assert names["n_gpu_layers"] == ("JARVIS_N_GPU_LAYERS",)
    assert names["n_batch"] == ("JARVIS_N_BATCH",)
    assert names["log_level"] == ("LLAMA_LOG_LEVEL",)


def test_a_crash_leaves_no_core_and_starts_no_debugger() -> None:
    program = """
import os, resource
from jarvis_llamacpp.process import prepare_process
prepare_process()
print(os.environ["GGML_NO_BACKTRACE"], resource.getrlimit(resource.RLIMIT_CORE)[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["1", "0"]
