# shellcheck shell=bash
# What run.sh and test.sh need to know about the machine: messages, a Python, a compiler, a GPU.
# Sourced from the repository's root. Runs on bash 3.2 (macOS).

say() { printf 'jarvis: %s\n' "$*"; }

# fail CODE LINE...: the first line says what is wrong, the others what to do.
fail() {
  local code=$1
  shift
  printf 'jarvis: %s\n' "$1" >&2
  shift
  [ $# -eq 0 ] || printf '        %s\n' "$@" >&2
  exit "$code"
}

system() {
  if [ "$(uname -s)" = Darwin ]; then
    echo macos
  elif [ -e /etc/debian_version ]; then
    echo debian
  elif [ -e /etc/fedora-release ] || [ -e /etc/redhat-release ]; then
    echo fedora
  else
    echo other
  fi
}

# how_to_install MACOS DEBIAN FEDORA OTHER: the line that fits this system.
how_to_install() {
  case $(system) in
    macos) echo "Install it: $1" ;;
    debian) echo "Install it: $2" ;;
    fedora) echo "Install it: $3" ;;
    *) echo "$4" ;;
  esac
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

# Prints the path of an interpreter that can make a venv.
find_python() {
  local candidate found without_venv=
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.14 python; do
    found=$(command -v "$candidate" 2>/dev/null) || continue
    new_enough "$found" || continue
    if "$found" -c 'import ensurepip, venv' >/dev/null 2>&1; then
      echo "$found"
      return
    fi
    without_venv=${without_venv:-$found}
  done
  if [ -n "$without_venv" ]; then
    fail 2 "$without_venv cannot make a virtual environment: its modules venv and ensurepip are missing." \
      "$(how_to_install "brew install python@3.13" "sudo apt install python3-venv" \
        "sudo dnf install python3-pip python3-libs" "Install the rest of Python's standard library.")" \
      "Another Python can be named: PYTHON=/path/to/python3"
  fi
  fail 2 "No Python 3.11 or newer was found." \
    "$(how_to_install "brew install python@3.13" "sudo apt install python3 python3-venv" \
      "sudo dnf install python3.13" "Install Python 3.11 or newer with your system's package manager.")" \
    "One that is not on PATH can be named: PYTHON=/path/to/python3"
}

has_compilers() {
  # On macOS /usr/bin/cc exists without a compiler behind it; xcode-select knows.
  if [ "$(system)" = macos ]; then
    xcode-select -p >/dev/null 2>&1
    return
  fi
  local cc='' cxx='' name
  for name in ${CC:-} cc gcc clang; do command -v "$name" >/dev/null 2>&1 && cc=$name; done
  for name in ${CXX:-} c++ g++ clang++; do command -v "$name" >/dev/null 2>&1 && cxx=$name; done
  [ -n "$cc" ] && [ -n "$cxx" ]
}

has_nvidia_gpu() {
  if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; then return 0; fi
  local sign
  for sign in /dev/nvidia[0-9]* /usr/lib/wsl/lib/nvidia-smi; do
    if [ -e "$sign" ]; then return 0; fi
  done
  return 1
}

has_nvcc() {
  [ -n "${CUDACXX:-}" ] || command -v nvcc >/dev/null 2>&1 || [ -x /usr/local/cuda/bin/nvcc ]
}
