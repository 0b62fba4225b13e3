#!/usr/bin/env bash
# Runs a command with the Python package as users get it: a wheel built from these sources (release profile),
# installed into the project's own virtual environment together with what the tests need.
#
#   scripts/python.sh pytest                       the tests
#   scripts/python.sh python -m sark_cache.bench   the benchmark
#   PYTHON=python3.13 SARK_VENV=target/venv-3.13 scripts/python.sh pytest
#
# The environment (target/venv, or $SARK_VENV) is made once, and again if python/requirements-test.txt or the
# Python changes. The wheel is built and installed again if a source has changed. Needs Python 3.10 or newer,
# and a network the first time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if (($# == 0)); then
    echo "usage: scripts/python.sh COMMAND [ARGUMENT...]" >&2
    exit 2
fi

python="${PYTHON:-python3}"
venv="${SARK_VENV:-$PWD/target/venv}"
requirements=python/requirements-test.txt

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "python: Python 3.10 or newer is needed, and $python is not (name another with PYTHON=...)" >&2
    exit 1
fi

# What the environment is made from; written into it once it is complete.
wanted="$("$python" -VV; cat "$requirements")"
if [ "$wanted" != "$(cat "$venv/made-from" 2>/dev/null || true)" ]; then
    echo "python: making the virtual environment $venv"
    rm -rf "$venv"
    if ! "$python" -m venv "$venv"; then
        echo "python: $python can't make virtual environments (on Debian and Ubuntu: apt-get install python3-venv)" >&2
        exit 1
    fi
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
    printf '%s\n' "$wanted" >"$venv/made-from"
fi

# Folders are included, so that a file that was removed counts as a change.
sources=(Cargo.toml Cargo.lock README.md pyproject.toml crates python/sark_cache)
if [ ! -e "$venv/module" ] || [ -n "$(find "${sources[@]}" -name __pycache__ -prune -o -newer "$venv/module" -print -quit)" ]; then
    echo "python: building the module"
    # Older than the build, so that the next run notices a change made during it.
    touch "$venv/module-begun"
    rm -rf "$venv/wheels"
    "$venv/bin/maturin" build --quiet --release --locked --interpreter "$venv/bin/python" --out "$venv/wheels"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall "$venv"/wheels/*.whl
    mv "$venv/module-begun" "$venv/module"
fi

export VIRTUAL_ENV="$venv" PATH="$venv/bin:$PATH"
unset PYTHONHOME
exec "$@"
