#!/usr/bin/env bash
# Type checks of the Python package: mypy --strict and pyright over its sources and over the examples of
# python/tests/typing (what its users' code may rely on), and stubtest over the native module's stubs.
#
#   scripts/python.sh scripts/python-types.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p target

checked=(python/sark_cache python/tests/typing)
python="$(command -v python)"
failed=0

# The sources and not the installed copy, since that is where an error has to be fixed.
export MYPYPATH=python
echo "types: mypy --strict"
mypy --strict --cache-dir target/mypy "${checked[@]}" || failed=1

# Runs in another folder, so that the installed package is imported and not the sources.
echo "types: stubtest"
(cd target && python -m mypy.stubtest --concise sark_cache._core) || failed=1

# The pyright package fetches its program from npm's registry when it first runs, which fails without a
# network.
if pyright --version >target/pyright.log 2>&1; then
    echo "types: pyright"
    pyright --pythonpath "$python" "${checked[@]}" || failed=1
else
    echo "types: pyright: SKIPPED: it could not be fetched (target/pyright.log says why)"
fi
exit "$failed"
