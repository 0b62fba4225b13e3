#!/usr/bin/env bash
# The long run: mixed operations from 8 threads on a small cache, under each dispatch. At every moment, the
# cache must be within its capacity, and no more values may be alive than fit or are in flight. At the end,
# each value made must have been dropped once.
#
#   scripts/soak.sh [MILLIONS]     million operations under each dispatch, 100 by default
#
# It runs in rounds, so that progress is visible and a failure shows early. `PerCore` sends every operation to
# another thread: on two cores, a hundred million take at least half an hour there, and a minute or two under
# `Adaptive`.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."

millions="${1:-100}"
if ! [[ "$millions" =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: scripts/soak.sh [MILLIONS]" >&2
    exit 2
fi

test=every_value_is_dropped_once_and_never_more_are_alive_than_fit
rounds=5
# One unit of SARK_STRESS is 20,000 operations on each of 8 threads, or 0.16 million.
stress=$(((millions * 100 + 16 * rounds - 1) / (16 * rounds)))

cargo test --release -q -p sark-cache --test capacity --no-run
for dispatch in adaptive per_core; do
    for ((round = 1; round <= rounds; round++)); do
        begin=$EPOCHREALTIME
        if ! output="$(SARK_STRESS="$stress" cargo test --release -q -p sark-cache --test capacity -- --exact "$dispatch::$test" 2>&1)" ||
            ! grep -q '^test result: ok. 1 passed' <<<"$output"; then
            printf '%s\n' "$output" >&2
            echo "soak: failed under $dispatch in round $round of $rounds" >&2
            exit 1
        fi
        awk -v dispatch="$dispatch" -v round="$round" -v rounds="$rounds" -v stress="$stress" \
            -v begin="$begin" -v end="$EPOCHREALTIME" 'BEGIN {
                millions = stress * 0.16
                printf "soak: %-8s  %d/%d  %.1f million operations in %.1f s, %.0f ns each\n",
                    dispatch, round, rounds, millions, end - begin, (end - begin) * 1000 / millions
            }'
    done
done
echo "soak: passed"
