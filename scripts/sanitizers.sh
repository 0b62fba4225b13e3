#!/usr/bin/env bash
# Runs tests of the engine's crates under sanitizers.
#
# * Address sanitizer, all tests: use after free, out-of-bounds accesses, and leaks at the end of a test
#   program.
# * Thread sanitizer, the cache's tests with many threads: whether two threads access the contents of a shard
#   without one having handed it to the other. The standard library isn't instrumented, so anything handed
#   over through its `Mutex`, `park` or scopes looks like a race, and such reports are ignored. The contents
#   of a shard never go through them. If shards are released with `Ordering::Relaxed` instead of `Release`,
#   there are thousands of reports. Loom covers the rest of the hand-over.
# * Valgrind, if it is installed, the tests inside sark-shard: reads of uninitialized memory, which the others
#   don't see.
#
# Needs a nightly toolchain (for Linux on x86-64 or aarch64); otherwise it says so and skips.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "sanitizers: skipped: there is no nightly toolchain (rustup toolchain install nightly)"
    exit 0
fi
host="$(rustc +nightly -vV | sed -n 's/^host: //p')"
case "$host" in
x86_64-unknown-linux-gnu | aarch64-unknown-linux-gnu) ;;
*)
    echo "sanitizers: skipped: not tried on $host"
    exit 0
    ;;
esac

# Naming the target keeps build scripts and macros, which run in the compiler, from being instrumented.
echo "sanitizers: address and leaks"
RUSTFLAGS="-Zsanitizer=address" \
    LSAN_OPTIONS="suppressions=$PWD/scripts/lsan-suppressions.txt print_suppressions=0" \
    PROPTEST_CASES="${PROPTEST_CASES:-64}" \
    cargo +nightly test -q --target "$host" --target-dir target/asan --lib --tests \
    -p sark-shard -p sark-delegate -p sark-cache

echo "sanitizers: threads"
reports="$PWD/target/tsan/reports"
rm -rf "$reports"
mkdir -p "$reports"
RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" \
    TSAN_OPTIONS="suppressions=$PWD/scripts/tsan-suppressions.txt exitcode=0 log_path=$reports/of" \
    cargo +nightly test -q --target "$host" --target-dir target/tsan -p sark-cache --test capacity --test operations

# Reports of two accesses from inside a shard, neither of which happened before the other.
find "$reports" -type f -exec cat {} + | awk '
    BEGIN { RS = "==================\n" }
    /WARNING: ThreadSanitizer: data race/ {
        accesses = $0
        sub(/\n\n  (Location|Thread|Mutex|As if).*/, "", accesses)
        count = split(accesses, access, /\n  Previous /)
        if (count == 2 && access[1] ~ /sark_shard::/ && access[2] ~ /sark_shard::/ && races++ == 0) print accesses
    }
    END {
        if (races > 0) {
            print "sanitizers: " races " data races in a shard, the first one above"
            exit 1
        }
    }' >&2

if command -v valgrind >/dev/null; then
    echo "sanitizers: memory that was never written"
    program="$(cargo test -p sark-shard --lib --no-run 2>&1 | sed -n 's/^ *Executable .*(\(.*\))$/\1/p')"
    # Without the long random and statistical tests.
    valgrind -q --error-exitcode=9 --leak-check=no "$program" -q \
        --skip wheel_agrees_with_a_sorted_map --skip keep_their_entropy --skip costs_what_the_docs_say
else
    echo "sanitizers: skipped one part: valgrind isn't installed"
fi

echo "sanitizers: passed"
