from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import jarvis_vllm
from jarvis_vllm import VLLM
from jarvis_vllm.processes import prepare_child


def test_registration_does_not_import_the_backend():
    code = (
        "import sys, jarvis_vllm; list(jarvis_vllm.jarvis_register_engines());"
        "print(sorted({'vllm', 'torch', 'jarvis_vllm.backend'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_engine_is_registered():
    assert list(jarvis_vllm.jarvis_register_engines()) == [VLLM]
    assert (VLLM.name, VLLM.env_prefix) == ("vllm", "JARVIS_VLLM_")


def test_of_a_repository_only_what_vllm_reads_is_fetched():
    assert "*.safetensors" in VLLM.weights
    assert "!consolidated*" in VLLM.weights
    assert not any("bin" in pattern or "pt" in pattern for pattern in VLLM.weights)


def test_vllm_calls_this_package_in_its_processes():
    (found,) = (e for e in entry_points(group="vllm.general_plugins") if e.name == "jarvis")
    assert found.load() is prepare_child
