#!/usr/bin/env bash
# Fuzzing: any sequence of the shard's and of the cache's operations against a reference, and any bytes as a trace. Under
# libFuzzer and the address sanitizer, with every invariant checked after every step.
#
#   scripts/fuzz.sh SECONDS [TARGET...]     so many seconds for each target, all of fuzz/fuzz_targets if none is named
#
# Needs a nightly toolchain (says so and skips where there is none) and installs cargo-fuzz if it is missing. What is found
# is kept under target/fuzz: the next run goes on from there. An input that fails is run again by
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

# The built program is run, not `cargo fuzz run`: that would make folders beside the sources.
for target in "${targets[@]}"; do
    corpus="$work/corpus/$target" artifacts="$work/artifacts/$target" log="$work/$target.log"
    mkdir -p "$corpus" "$artifacts"
    folders=("$corpus")
    if [ -d "fuzz/seeds/$target" ]; then
        folders+=("fuzz/seeds/$target")
    fi
    echo "fuzz: $target for $seconds s"
    # Leaks are looked for at the end of each run; an input may take 20 s and 2 GB before it counts as a failure.
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
