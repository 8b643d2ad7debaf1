from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import jarvis_vllm
from jarvis_core import ConfigError, ModelSpec
from jarvis_vllm import VLLM
from jarvis_vllm.settings import VllmSettings

MODEL = ModelSpec(name="qwen", source="Qwen/Qwen3-0.6B", path="/m/qwen")


@pytest.fixture
def vllm(tmp_path, monkeypatch):
    """Puts a module in the place of vllm that finds the given kind of device."""

    def write(platforms: str) -> None:
        package = tmp_path / "vllm"
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "platforms.py").write_text(platforms)
        for name in [name for name in sys.modules if name.partition(".")[0] == "vllm"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.syspath_prepend(tmp_path)

    yield write
    for name in ("vllm", "vllm.platforms"):
        sys.modules.pop(name, None)


def test_registration_does_not_import_the_backend():
    code = (
        "import sys, jarvis_vllm; list(jarvis_vllm.jarvis_register_engines());"
        "print(sorted({'vllm', 'torch', 'jarvis_vllm.engine'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_engine_is_registered():
    assert list(jarvis_vllm.jarvis_register_engines()) == [VLLM]
    assert (VLLM.name, VLLM.env_prefix) == ("vllm", "JARVIS_VLLM_")
    assert VLLM.weights == (), "a model that cannot be loaded must not be downloaded first"


@pytest.mark.anyio
async def test_a_vllm_that_cannot_be_imported_is_named_with_its_reason(vllm):
    vllm("raise OSError('libcudart.so.12: no such file\\nand more')\n")
    with pytest.raises(ConfigError) as caught:
        await VLLM.load(MODEL, VllmSettings())
    assert caught.value.message == (
        "vllm cannot be imported: OSError: libcudart.so.12: no such file; install it into the"
        " Python that runs this model: pip install jarvis-vllm"
    )


@pytest.mark.anyio
async def test_a_machine_without_a_device_is_named(vllm):
    vllm("class current_platform:\n    device_type = ''\n")
    with pytest.raises(ConfigError, match=r"^vllm finds no device to run on: .*nvidia-smi"):
        await VLLM.load(MODEL, VllmSettings())


@pytest.mark.anyio
async def test_this_version_says_that_it_loads_no_models_yet(vllm):
    vllm("class current_platform:\n    device_type = 'cuda'\n")
    with pytest.raises(ConfigError) as caught:
        await VLLM.load(MODEL, VllmSettings())
    assert caught.value.message == (
        f"jarvis-vllm {version('jarvis-vllm')} registers the engine 'vllm' and its settings but"
        " cannot load models yet (vllm itself would run here, on cuda): serve 'qwen' as a GGUF"
        " with engine 'llama_cpp', or wait for the next version"
    )
