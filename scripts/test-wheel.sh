#!/usr/bin/env bash
# Tests a wheel that has been built before, in an environment that has been made for it. It runs the tests
# that need nothing but the package, pytest and hypothesis. This is for building wheels on many systems;
# developers use `make test-python`.
#
#   scripts/test-wheel.sh VENV DIRECTORY     the wheel in DIRECTORY that fits VENV's Python is installed into VENV
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if (($# != 2)); then
    echo "usage: scripts/test-wheel.sh VENV DIRECTORY" >&2
    exit 2
fi
venv=$1 wheels=$2
python="$venv/bin/python"
if [ ! -e "$python" ]; then
    python="$venv/Scripts/python.exe"
fi

"$python" -m ensurepip --upgrade >/dev/null
"$python" -m pip install --quiet --disable-pip-version-check --only-binary sark-cache --no-index --find-links "$wheels" sark-cache
# The versions pinned for developers.
wanted=$(grep -E '^(pytest|pytest-timeout|hypothesis)==' python/requirements-test.txt)
# shellcheck disable=SC2086  (three words)
"$python" -m pip install --quiet --disable-pip-version-check $wanted typing_extensions
# The page about policies imports packages that only `make test-python` installs.
"$python" -m pytest -q python/tests --ignore python/tests/policy --ignore python/tests/test_bench.py \
    --deselect "python/tests/test_documentation.py::test_the_examples_of_a_page_run[policy-cache.md]"
