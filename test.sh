#!/usr/bin/env bash
# Test: ./test.sh [options of `tox run`]
#
# Runs every check and test, each group in an environment of its own, fast ones first, and ends with a
# summary. Needs nothing but Python 3.11 or newer and, for llama.cpp, a C++ compiler. A part of it:
# ./test.sh -e lint,py311
set -eu
cd "$(dirname "$0")"
. scripts/system.sh

work=.tox
runner=$work/runner

# Interpreters that pyenv and uv keep: tox looks on PATH.
for folder in "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.1*/bin "${HOME:-}"/.local/share/uv/python/cpython-3.1*/bin; do
  if [ -d "$folder" ]; then PATH=$PATH:$folder; fi
done

if [ ! -e "$runner/ready" ]; then
  python=$(find_python)
  say "Making $runner with $("$python" -V)."
  rm -rf "$runner"
  "$python" -m venv "$runner"
  "$runner/bin/python" -m pip install --quiet --disable-pip-version-check "tox>=4.30"
  : >"$runner/ready"
fi

if ! has_compilers; then
  say "No C and C++ compiler was found: the environment llamacpp will fail unless a built wheel is at hand."
fi

rm -rf "$work/junit" "$work/result.json"
status=0
"$runner/bin/tox" run --result-json "$work/result.json" "$@" || status=$?
"$runner/bin/python" scripts/summary.py "$work/result.json" "$work/junit" "$status"
