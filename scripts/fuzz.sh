#!/usr/bin/env bash
# Fuzzing: any sequence of the shard's and of the cache's operations against a reference, and any bytes as a
# trace. The targets run under libFuzzer and the address sanitizer, and check every invariant after every
# step.
#
#   scripts/fuzz.sh SECONDS [TARGET...]     this many seconds for each target, by default all of fuzz/fuzz_targets
#
# Needs a nightly toolchain (otherwise it says so and skips), and installs cargo-fuzz if it is missing. The
# corpus is kept under target/fuzz, and the next run continues from there. To run an input again that failed:
#
#   target/fuzz/build/<host>/release/TARGET target/fuzz/artifacts/TARGET/crash-...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds="${1:-}"
if ! [[ "$seconds" =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: scripts/fuzz.sh SECONDS [TARGET...]" >&2
    exit 2
fi
shift
if (($# > 0)); then
    targets=("$@")
else
    targets=(fuzz/fuzz_targets/*.rs)
    targets=("${targets[@]##*/}")
    targets=("${targets[@]%.rs}")
fi

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "fuzz: skipped: there is no nightly toolchain (rustup toolchain install nightly)"
    exit 0
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz: installing cargo-fuzz"
    cargo install --quiet --locked cargo-fuzz
fi

work="$PWD/target/fuzz"
host="$(rustc +nightly -vV | sed -n 's/^host: //p')"
for target in "${targets[@]}"; do
    features=()
    if [ "$target" = trace_reader ]; then
        features=(--features traces)
    fi
    cargo +nightly fuzz build --fuzz-dir fuzz --target-dir "$work/build" "${features[@]}" "$target"
done

# Runs the program itself and not `cargo fuzz run`, which would create folders next to the sources.
for target in "${targets[@]}"; do
    corpus="$work/corpus/$target" artifacts="$work/artifacts/$target" log="$work/$target.log"
    mkdir -p "$corpus" "$artifacts"
    folders=("$corpus")
    if [ -d "fuzz/seeds/$target" ]; then
        folders+=("fuzz/seeds/$target")
    fi
    echo "fuzz: $target for $seconds s"
    # Leaks are checked for at the end of each run. An input may take 20 s and 2 GB before it counts as a
    # failure.
    if ! "$work/build/$host/release/$target" "${folders[@]}" -artifact_prefix="$artifacts/" -max_total_time="$seconds" \
        -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 >"$log" 2>&1; then
        grep -m 1 -A 4 -E "panicked at|ERROR: " "$log" >&2 || tail -n 20 "$log" >&2
        echo "fuzz: $target failed; the whole story is in $log" >&2
        grep -o "Test unit written to .*" "$log" >&2 || true
        exit 1
    fi
    runs="$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
    coverage="$(grep -o 'cov: [0-9]*' "$log" | tail -n 1)"
    echo "fuzz: $target: $runs inputs, $coverage edges, no failure"
done
