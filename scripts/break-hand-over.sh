#!/usr/bin/env bash
# Breaks the hand-over protocol of crates/sark-delegate on purpose, one rule at a time, on a copy of the tree,
# and shows that a model notices. docs/hand-over.md explains what each rule is for.
#
#   scripts/break-hand-over.sh              each break against the model that is meant to catch it
#   scripts/break-hand-over.sh --all        each break against every model, to see which ones catch it
#   scripts/break-hand-over.sh NAME...      only these breaks
#
# Fails if a break survives, or if the code has changed so that a break no longer applies.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

every_model=false
if [[ "${1:-}" == --all ]]; then
    every_model=true
    shift
fi
only=("$@")

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/broken"
export RUSTFLAGS="--cfg loom -A warnings"
# A break may make a model explore far more before it fails, or never end. A model that runs this long has not
# noticed.
seconds_per_model=300

mkdir -p "$copy/crates"
cp Cargo.lock rustfmt.toml "$copy/"
sed -E 's|^members = .*|members = ["crates/sark-delegate"]|; /^default-members/d' Cargo.toml >"$copy/Cargo.toml"
cp -r crates/sark-delegate "$copy/crates/sark-delegate"
source="$copy/crates/sark-delegate/src"
cp -r "$source" "$copy/sound"

# Builds the models of the copy and prints the path of the program.
build() {
    (cd "$copy" && cargo test --quiet --offline -p sark-delegate --test loom --release --no-run --message-format=json) |
        sed -n 's/.*"name":"loom".*"executable":"\([^"]*\)".*/\1/p' | tail -1
}

# Succeeds if the model fails. A deadlock counts: it aborts the process, since a waiter must not unwind.
notices() {
    local status=0
    # In a subshell, so that the report of an aborted program stays in the output file.
    (timeout "$seconds_per_model" "$1" --exact "$2" || exit $?) >"$copy/output" 2>&1 || status=$?
    [[ $status != 0 && $status != 124 ]]
}

survivors=0

program=$(build)
if ! "$program" >"$copy/output" 2>&1; then
    echo "the models fail as it is: nothing can be learnt from breaking it" >&2
    exit 1
fi

# break_ NAME FILES PERL-SUBSTITUTION MODEL: the name says how the protocol is broken.
break_() {
    local name=$1 file=$2 substitution=$3 model=$4
    if ((${#only[@]})) && [[ " ${only[*]} " != *" $name "* ]]; then
        return
    fi
    rm -rf "$source" && cp -r "$copy/sound" "$source"
    for one in $file; do
        perl -0pi -e "$substitution" "$source/$one"
        if cmp -s "$source/$one" "$copy/sound/$one"; then
            echo "$name: no longer applies to $one"
            survivors=$((survivors + 1))
            return
        fi
    done
    local program caught=()
    program=$(build) || program=
    if [[ -z "$program" ]]; then
        echo "$name: does not compile"
        survivors=$((survivors + 1))
        return
    fi
    local models=("$model")
    if $every_model; then
        mapfile -t models < <("$program" --list | sed -n 's/: test$//p')
    fi
    for one in "${models[@]}"; do
        if notices "$program" "$one"; then
            caught+=("$one")
        fi
    done
    if ((${#caught[@]})); then
        echo "$name: caught by ${caught[*]}"
    else
        echo "$name: SURVIVES ${models[*]}"
        survivors=$((survivors + 1))
    fi
}

# The first Dekker pair. The runner releases, then looks; the sender counts, then tries.
break_ runner_without_barrier delegate.rs 's/        barrier\.light\(\);\n//' \
    a_post_is_never_left_behind_by_a_runner_that_is_leaving
break_ runner_that_looks_before_it_releases delegate.rs \
    's/        self\.delegate\.owner\.release\(\);\n        barrier\.light\(\);\n(.*?)Released \{ announced: self\.delegate\.announced\(\), deferred \}/        let announced = self.delegate.announced();\n        self.delegate.owner.release();\n        barrier.light();\n$1Released { announced, deferred }/s' \
    a_post_is_never_left_behind_by_a_runner_that_is_leaving
break_ runner_that_does_not_look delegate.rs 's/Released \{ announced: self\.delegate\.announced\(\)/Released { announced: 0/' \
    a_post_is_never_left_behind_by_a_runner_that_is_leaving
break_ sender_without_barrier barrier.rs 's/(fn heavy\(self\) -> bool \{\n)        fence\(Ordering::SeqCst\);\n/$1/' \
    a_post_is_never_left_behind_by_a_runner_that_is_leaving
break_ poster_that_does_not_try_again group.rs 's/(if self\.barrier\.heavy\(\) \{\n)            self\.serve_if_free\(index\);\n/$1/' \
    a_post_is_never_left_behind_by_a_runner_that_is_leaving
break_ waiter_that_sleeps_without_trying_again waiting.rs \
    's/(\} else if !one\.task\.is_done\(\) \|\| one\.answers_for_others\(group\) \{\n)            group\.serve_if_free\(one\.index\);\n/$1/' \
    two_callers_never_run_a_delegate_at_once_and_both_get_their_answer
break_ waiter_without_barrier waiting.rs 's/!among_callers \|\| group\.barrier\.heavy\(\)/true/' \
    two_callers_never_run_a_delegate_at_once_and_both_get_their_answer

break_ several_without_barrier entered.rs 's/        group\.barrier\.light\(\);\n//' \
    what_comes_while_several_delegates_are_held_is_served
break_ several_given_back_without_looking entered.rs 's/if delegate\.is_announced\(\) \{/if false {/' \
    what_comes_while_several_delegates_are_held_is_served

# The two counters, and which sender answers for others' messages.
break_ one_counter_after_the_send delegate.rs \
    's/if \*announces \{/if false {/g; s/\(true, _\) => delegate\.announced\.load\(Ordering::Acquire\)/(true, _) => delegate.pending().load(Ordering::Acquire).max(0).cast_unsigned()/; s/self\.announced\.load\(Ordering::Relaxed\)/self.pending().load(Ordering::Relaxed).max(0).cast_unsigned()/' \
    a_call_sees_a_post_that_was_made_while_the_delegate_was_held_although_others_post_too
break_ first_poster_that_answers_for_nobody group.rs 's/if !first && self\.callers_run\(\) \{/if self.callers_run() {/' \
    two_posts_to_a_busy_delegate_are_never_left_behind
break_ first_waiter_that_answers_for_nobody waiting.rs \
    's/self\.sent == Sent::AmongCallers \{ first: true \} && group/false && group/' \
    a_waiter_whose_count_stands_for_a_post_sees_to_it
break_ runner_that_goes_before_the_mailbox delegate.rs 's/        !self\.delegate\.is_announced\(\)/        true/' \
    a_call_that_starts_after_a_post_returned_sees_it

# The orderings that pass on the state and the answers.
break_ ownership_taken_without_acquire ownership.rs 's/OWNED, Ordering::Acquire, /OWNED, Ordering::Relaxed, /' \
    two_callers_never_run_a_delegate_at_once_and_both_get_their_answer
break_ ownership_released_without_release ownership.rs 's/store\(FREE, Ordering::Release\)/store(FREE, Ordering::Relaxed)/' \
    two_callers_never_run_a_delegate_at_once_and_both_get_their_answer
break_ answer_without_release task.rs \
    's/compare_exchange\(WAITING, DONE, Ordering::Release,/compare_exchange(WAITING, DONE, Ordering::Relaxed,/; s/store\(DONE, Ordering::Release\)/store(DONE, Ordering::Relaxed)/' \
    a_caller_that_waits_for_a_slow_one_is_woken
break_ answer_that_wakes_nobody aftermath.rs 's/\|caller\| caller\.unpark\(\)/drop/' \
    a_caller_that_waits_for_a_slow_one_is_woken
break_ answer_to_a_future_without_acquire reply.rs 's/swap\(ANSWERED, Ordering::AcqRel\)/swap(ANSWERED, Ordering::Release)/' \
    a_submission_is_answered_and_wakes_who_awaits_it

# The second Dekker pair. The sender counts, then reads the bell; the worker sets the bell, then looks.
break_ worker_that_sleeps_without_looking_again worker.rs 's/if message\(\) \|\| self\.next_alarm\(group, number\) < until \|\| /if /' \
    channel::a_worker_serves_a_caller_that_sleeps
break_ worker_without_fence_before_it_looks_again worker.rs \
    's/(worker\.bell\.store\(PARKED, Ordering::Release\);\n)            fence\(Ordering::SeqCst\);\n/$1/' \
    channel::a_worker_serves_a_caller_that_sleeps
break_ sender_that_rings_without_fence worker.rs \
    's/        fence_before_reading\(\);\n(        match worker\.bell\.load\(Ordering::Acquire\) \{\n            AWAKE => Rung::Told,)/$1/' \
    channel::a_worker_serves_a_caller_that_sleeps
# The thread that shuts the workers down and waits for them looks, too. Where both look, either look is
# enough, so both are broken.
break_ worker_that_ends_without_looking_again "worker.rs group.rs" \
    's/while group\.delegates\[index\]\.has_messages\(\) \{/while false {/; s/if self\.delegates\[index\]\.has_messages\(\) \{/if false {/' \
    channel::a_request_in_flight_is_answered_although_the_workers_are_shut_down
break_ worker_that_ends_without_fence worker.rs \
    's/(bell\.store\(GONE, Ordering::Release\);\n)        fence\(Ordering::SeqCst\);\n/$1/' \
    channel::a_request_in_flight_is_answered_although_the_workers_are_shut_down
break_ shutdown_that_wakes_nobody worker.rs 's/            thread\.thread\(\)\.unpark\(\);\n            if !among/            if !among/' \
    channel::a_worker_serves_a_caller_that_sleeps
break_ worker_that_waits_for_itself group.rs 's/Rung::Elsewhere => !self\.callers_run\(\) && !on_worker_thread\(\)/Rung::Elsewhere => !self.callers_run()/' \
    channel::what_a_worker_drops_may_call_its_own_delegate

# Slots.
break_ worker_that_does_not_look_at_slots delegate.rs 's/ \|\| self\.seldom\(\)\.slots\.any\(\)//' \
    slots::a_worker_serves_a_caller_that_sleeps
break_ request_put_into_a_slot_without_release slots.rs \
    's/number\.fetch_add\(1, Ordering::Release\)/number.fetch_add(1, Ordering::Relaxed)/' \
    slots::a_worker_serves_a_caller_that_sleeps
break_ slots_that_go_before_the_mailbox delegate.rs 's/mailbox\.len\(\)\.try_into\(\)\.unwrap_or\(u32::MAX\)/0/' \
    slots::a_call_that_starts_after_a_post_returned_sees_it_although_others_post_too

break_ slots_that_do_not_wait_for_the_whole_mailbox delegate.rs \
    's/            if served < at_least \{\n                continue;\n            \}\n//' \
    slots::a_call_that_starts_after_a_post_returned_sees_it_although_others_post_too
break_ slot_freed_by_who_does_not_have_it slots.rs 's/free\.then\(\|\| Seat\(slot\)\)/free.then_some(Seat(slot))/' \
    slots::a_worker_serves_three_callers

# Room in a full mailbox.
break_ runner_that_tells_nobody_of_room delegate.rs 's/if starved\.load\(Ordering::Relaxed\) \{/if false {/' \
    a_submission_to_a_full_mailbox_is_told_when_there_is_room
break_ runner_that_makes_room_without_order delegate.rs \
    's/announced\.fetch_sub\(served, Ordering::AcqRel\)/announced.fetch_sub(served, Ordering::Relaxed)/' \
    a_submission_to_a_full_mailbox_is_told_when_there_is_room
break_ worker_that_tells_nobody_of_room delegate.rs 's/if starved\.load\(Ordering::Relaxed\) \{/if false {/' \
    under_per_core_a_submission_to_a_full_mailbox_is_told_when_there_is_room

if ((survivors)); then
    echo "$survivors not caught" >&2
    exit 1
fi
