#!/usr/bin/env bash
# Miri: runs tests of the two crates with unsafe code in an interpreter that detects undefined behaviour, such
# as reads of uninitialized memory, aliasing references and data races, and also leaks. The tests themselves
# skip what takes too long there, or needs what Miri doesn't have.
#
# Needs a nightly toolchain with Miri (rustup component add miri --toolchain nightly); otherwise it says so
# and skips.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! cargo +nightly miri --version >/dev/null 2>&1; then
    echo "miri: skipped: Miri isn't installed"
    exit 0
fi

# No isolation: the tests read from the environment how much to do, and write their failures to files.
export MIRIFLAGS="${MIRIFLAGS:--Zmiri-disable-isolation}"
export PROPTEST_CASES="${PROPTEST_CASES:-3}"
export CARGO_TARGET_DIR="$PWD/target/miri"

cargo +nightly miri test -p sark-shard --features validate --lib --tests
# Each seed makes the threads take turns in a different order. One of these tests leaks on purpose;
# scripts/sanitizers.sh looks for other leaks.
for seed in 0 1 2 3; do
    MIRIFLAGS="$MIRIFLAGS -Zmiri-ignore-leaks -Zmiri-seed=$seed" cargo +nightly miri test -p sark-delegate --lib --tests
done
echo "miri: passed"
