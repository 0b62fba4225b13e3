#!/usr/bin/env bash
# Builds what is uploaded, from a clean clone, and tries it as a user gets it. Each package is installed into
# its own empty environment, where README's examples must run with nothing else installed.
#
#   scripts/python-package.sh [DIRECTORY]     leaves the source distribution and the wheel in DIRECTORY (target/dist)
#
# * the wheel for this Python and this machine;
# * the source distribution, which pip builds with what pyproject.toml asks for;
# * `pip install .` in the clone.
#
# Uncommitted changes are not included. Needs a network, since pip fetches maturin.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dist="${1:-$PWD/target/dist}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
python="${PYTHON:-python3}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

git -c advice.detachedHead=false -c init.defaultBranch=main clone --quiet --no-hardlinks . "$work/clone"
rm -rf "$dist"
mkdir -p "$dist"

# Installs the given packages into an empty environment, and runs the examples there.
try() {
    local name=$1
    shift
    echo "package: $name"
    "$python" -m venv "$work/$name"
    "$work/$name/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    # Runs in another folder, so that the installed package is imported and not the sources.
    (cd "$work/$name" && "bin/python" -I "$work/clone/python/tests/examples.py" "$work/clone/README.md")
    local others
    others=$("$work/$name/bin/python" -m pip list --format=freeze --disable-pip-version-check | grep -vE '^(pip|setuptools|sark-cache)==' || true)
    if [ -n "$others" ]; then
        echo "package: $name: it brought other packages with it: $others" >&2
        exit 1
    fi
}

"$python" -m venv "$work/build"
"$work/build/bin/python" -m pip install --quiet --disable-pip-version-check \
    "$(grep '^maturin==' python/requirements-test.txt)"
(cd "$work/clone" && "$work/build/bin/maturin" build --release --locked --interpreter "$work/build/bin/python" --out "$dist")
(cd "$work/clone" && "$work/build/bin/maturin" sdist --out "$dist")

try wheel --no-deps --no-index "$dist"/*.whl
try sdist "$dist"/*.tar.gz
try clone "$work/clone"
ls -l "$dist"
