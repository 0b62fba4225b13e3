#!/usr/bin/env bash
# Miri: runs tests of the two crates that have unsafe code in an interpreter that knows what is undefined behaviour: reads
# of what isn't initialised, references that alias, data races, leaks. The tests say themselves what is too long for it, or
# asks for what it doesn't have.
#
# Needs a nightly toolchain with Miri (rustup component add miri --toolchain nightly); says so and skips elsewhere.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! cargo +nightly miri --version >/dev/null 2>&1; then
    echo "miri: skipped: Miri isn't installed"
    exit 0
fi

# No isolation: the tests read how much to do from the environment, and their failures are kept in files.
export MIRIFLAGS="${MIRIFLAGS:--Zmiri-disable-isolation}"
export PROPTEST_CASES="${PROPTEST_CASES:-3}"
export CARGO_TARGET_DIR="$PWD/target/miri"

cargo +nightly miri test -p sark-shard --features validate --lib --tests
# Each seed is another order in which its threads take turns. One of its tests leaks on purpose; scripts/sanitizers.sh looks
# for other leaks.
for seed in 0 1 2 3; do
    MIRIFLAGS="$MIRIFLAGS -Zmiri-ignore-leaks -Zmiri-seed=$seed" cargo +nightly miri test -p sark-delegate --lib --tests
done
echo "miri: passed"
