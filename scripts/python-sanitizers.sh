#!/usr/bin/env bash
# Runs the binding's own tests under the address sanitizer: the native module is instrumented, the interpreter
# isn't. Python's small objects come from malloc then. So a use after free, a double free or a read beyond an
# object is reported wherever the module does it.
#
#   scripts/python-sanitizers.sh [PYTEST ARGUMENT...]     e.g. python/tests/test_threads.py
#
# Without arguments it runs all tests of the native caches. It doesn't look for leaks, because the interpreter
# itself never frees what it holds at its end; python/tests/test_growth.py looks for them.
#
# Needs a nightly toolchain and GCC's libasan, on Linux; otherwise it says so and skips.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "python-sanitizers: skipped: there is no nightly toolchain (rustup toolchain install nightly)"
    exit 0
fi
host="$(rustc +nightly -vV | sed -n 's/^host: //p')"
runtime="$(ldconfig -p 2>/dev/null | sed -n 's/.*libasan\.so\.[0-9]* .*=> //p' | head -1)"
if [[ "$host" != *-linux-gnu || -z "$runtime" ]]; then
    echo "python-sanitizers: skipped: GCC's libasan is needed, on Linux"
    exit 0
fi

if (($# == 0)); then
    # Without the tests that start interpreters without the sanitizer's settings, and those about other
    # things.
    set -- python/tests --ignore python/tests/test_bench.py --ignore python/tests/test_documentation.py \
        --ignore python/tests/policy --ignore python/tests/test_growth.py
fi

# Naming the target keeps build scripts and macros, which run in the compiler, from being instrumented. The
# runtime must be the preloaded one, since a module can't bring its own.
export RUSTUP_TOOLCHAIN=nightly CARGO_BUILD_TARGET="$host"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/python-asan"
export RUSTFLAGS="-Zsanitizer=address -Zexternal-clangrt"
export SARK_VENV="${SARK_VENV:-$PWD/target/venv}-asan"

scripts/python.sh env LD_PRELOAD="$runtime" PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 \
    pytest -q -p no:cacheprovider "$@"
echo "python-sanitizers: passed"
