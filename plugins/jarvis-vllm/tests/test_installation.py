from __future__ import annotations

import sys

import pytest

from jarvis_core import ConfigError, ModelSpec
from jarvis_vllm import VLLM
from jarvis_vllm.installation import check_installation, check_version
from jarvis_vllm.settings import VllmSettings

MODEL = ModelSpec(name="qwen", source="Qwen/Qwen3-0.6B", path="/m/qwen")


@pytest.fixture
def vllm(tmp_path, monkeypatch):
    """Puts a module in the place of vllm that finds the given kind of device."""

    def write(platforms: str, version: str = "0.30.1") -> None:
        package = tmp_path / "vllm"
        package.mkdir()
        (package / "__init__.py").write_text(f"__version__ = {version!r}\n")
        (package / "platforms.py").write_text(platforms)
        for name in [name for name in sys.modules if name.partition(".")[0] == "vllm"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.syspath_prepend(tmp_path)

    yield write
    for name in ("vllm", "vllm.platforms"):
        sys.modules.pop(name, None)


def test_a_vllm_that_cannot_be_imported_is_named_with_its_reason(vllm):
    vllm("raise OSError('libcudart.so.12: no such file\\nand more')\n")
    with pytest.raises(ConfigError) as caught:
        check_installation()
    assert caught.value.message == (
        "vllm cannot be imported: OSError: libcudart.so.12: no such file; install it into the"
        " Python that runs this model: pip install jarvis-vllm"
    )


def test_a_machine_without_a_device_is_named(vllm):
    vllm("class current_platform:\n    device_type = ''\n")
    with pytest.raises(ConfigError, match=r"^vllm finds no device to run on: .*nvidia-smi"):
        check_installation()


def test_the_device_is_told(vllm):
    vllm("class current_platform:\n    device_type = 'cuda'\n")

    assert check_installation() == "cuda"


@pytest.mark.anyio
async def test_loading_begins_with_the_installation(vllm):
    vllm("class current_platform:\n    device_type = 'cuda'\n", version="0.25.1")
    with pytest.raises(ConfigError, match=r"works with vllm 0\.26 to 0\.32, and 0\.25\.1 is"):
        await VLLM.load(MODEL, VllmSettings())


@pytest.mark.parametrize("version", ["0.26.0", "0.29.1rc2", "0.32.0", "0.32.7+cpu"])
def test_versions_that_were_run_are_taken(version):
    check_version(version)


@pytest.mark.parametrize("version", ["0.25.9", "0.33.0", "1.0.0", "0.9.2", "dev"])
def test_other_versions_are_refused_with_those_that_were_run(version):
    with pytest.raises(ConfigError) as caught:
        check_version(version)
    assert f"{version} is installed: pip install 'vllm>=0.26,<0.33'" in caught.value.message
