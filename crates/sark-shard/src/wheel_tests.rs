//! Tests of the wheel alone, against a sorted map.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

fn advance(wheel: &mut Wheel, now: u64) -> BTreeSet<u32> {
    let mut budget = usize::MAX;
    core::iter::from_fn(|| wheel.pop_due(now, &mut budget)).map(|slot| slot.0).collect()
}

#[test]
fn a_wheel_without_deadlines_allocates_nothing() {
    let mut wheel = Wheel::at(0);
    wheel.schedule(Slot(3), NEVER, 8);
    assert_eq!((wheel.bytes(), wheel.next(), wheel.len()), (0, None, 0));
    assert!(advance(&mut wheel, 1 << 40).is_empty());
    assert_eq!(wheel.elapsed(), 1 << 40);
}

#[test]
fn a_deadline_is_due_at_its_nanosecond_and_not_before() {
    for deadline in [1, 63, 64, 65, 4095, 4096, 1 << 35, (1 << 60) - 1, 1 << 60, u64::MAX - 1] {
        let mut wheel = Wheel::at(0);
        wheel.schedule(Slot(0), deadline, 1);
        assert!(advance(&mut wheel, deadline - 1).is_empty(), "{deadline}");
        wheel.validate();
        assert_eq!(wheel.next(), Some(deadline), "one nanosecond ahead it is exact");
        assert_eq!(advance(&mut wheel, deadline).len(), 1, "{deadline}");
        wheel.validate();
    }
}

#[test]
fn a_deadline_in_the_past_is_due_at_once() {
    let mut wheel = Wheel::at(0);
    advance(&mut wheel, 1000);
    wheel.schedule(Slot(0), 10, 1);
    wheel.schedule(Slot(1), 1000, 2);
    assert!(wheel.next() <= Some(10) && wheel.is_due(5));
    assert_eq!(advance(&mut wheel, 5).len(), 2, "time that goes back counts as the time reached");
}

#[test]
fn what_is_popped_next_is_known_before() {
    let mut wheel = Wheel::at(0);
    assert_eq!(wheel.upcoming(NEVER, 100).count(), 0);
    wheel.schedule(Slot(9), 1_000_000, 10);
    for slot in 0..5 {
        wheel.schedule(Slot(slot), 10, 10);
    }
    assert_eq!(wheel.upcoming(10, 100).map(|slot| slot.0).collect::<BTreeSet<_>>(), (0..5).collect());
    assert_eq!((wheel.upcoming(10, 3).count(), wheel.upcoming(9, 100).count()), (3, 0));
    for left in (0..5).rev() {
        let next = wheel.upcoming(10, 100).next();
        assert_eq!((wheel.pop_due(10, &mut 1), wheel.upcoming(10, 100).count()), (next, left));
    }
    assert_eq!(wheel.upcoming(1_000_000, 100).collect::<Vec<_>>(), [Slot(9)]);
}

#[test]
fn a_bucket_that_has_passed_whole_is_not_moved_down() {
    let mut wheel = Wheel::at(0);
    for slot in 0..1000 {
        wheel.schedule(Slot(slot), (1 << 30) + u64::from(slot), 1000);
    }
    let mut budget = 1000;
    while wheel.pop_due(1 << 40, &mut budget).is_some() {}
    assert_eq!((wheel.len(), budget), (0, 0), "each slot cost one");
}

#[test]
fn a_deadline_that_is_put_off_is_moved_when_its_bucket_comes_and_due_at_its_time() {
    let mut wheel = Wheel::at(0);
    for slot in 0..10 {
        wheel.schedule(Slot(slot), 1000 + u64::from(slot), 10);
    }
    let due = |wheel: &mut Wheel, now| {
        let due = advance(wheel, now).len();
        wheel.validate();
        due
    };
    // Its bucket contains the time of the advance.
    wheel.schedule(Slot(4), 1 << 20, 10);
    assert_eq!((wheel.deadline(Slot(4)), wheel.len(), due(&mut wheel, 1004)), (1 << 20, 10, 4));
    // Its bucket has passed as a whole.
    wheel.schedule(Slot(4), 1 << 40, 10);
    assert_eq!((wheel.deadline(Slot(4)), wheel.len(), due(&mut wheel, 1 << 21)), (1 << 40, 6, 5));
    assert_eq!((due(&mut wheel, (1 << 40) - 1), due(&mut wheel, 1 << 40)), (0, 1));
}

#[test]
fn a_few_deadlines_are_waited_for_to_the_nanosecond_and_many_until_their_bucket_begins() {
    let mut wheel = Wheel::at(0);
    let begins = 1 << 30;
    for slot in 0..FEW as u32 {
        wheel.schedule(Slot(slot), begins + 1000 - u64::from(slot), 16);
    }
    let quiet_until = |wheel: &mut Wheel| {
        assert!(advance(wheel, begins - 1).is_empty());
        wheel.validate();
        wheel.quiet_until()
    };
    assert_eq!(quiet_until(&mut wheel), begins + 1000 - (FEW as u64 - 1));
    wheel.schedule(Slot(15), begins + 5000, 16);
    assert_eq!(quiet_until(&mut wheel), begins);
    for slot in 1..FEW as u32 {
        wheel.cancel(Slot(slot));
    }
    assert_eq!((quiet_until(&mut wheel), wheel.next()), (begins + 1000, Some(begins + 1000)));
    // Both are put off, so what comes in the next bucket may be earlier.
    wheel.schedule(Slot(0), begins << 20, 16);
    wheel.schedule(Slot(15), begins << 20, 16);
    wheel.schedule(Slot(1), 2 * begins + 7, 16);
    assert_eq!(quiet_until(&mut wheel), 2 * begins);
    assert_eq!(advance(&mut wheel, 2 * begins + 7), BTreeSet::from([1]));
}

#[test]
fn a_deadline_that_is_brought_forward_is_due_at_its_time() {
    let mut wheel = Wheel::at(0);
    wheel.schedule(Slot(0), 1 << 30, 1);
    wheel.schedule(Slot(0), 1 << 40, 1);
    wheel.schedule(Slot(0), 1 << 20, 1);
    wheel.validate();
    assert!(wheel.quiet_until() <= 1 << 20);
    assert_eq!(advance(&mut wheel, 1 << 20).len(), 1);
}

#[test]
fn an_advance_that_ran_out_is_not_overtaken_by_new_deadlines() {
    let mut wheel = Wheel::at(0);
    for slot in 0..100 {
        wheel.schedule(Slot(slot), 10_000 + u64::from(slot), 100);
    }
    // The time is within the bucket, so the bucket is moved down, and the budget runs out in the middle.
    let mut budget = 30;
    assert_eq!(wheel.pop_due(9_999, &mut budget), None);
    assert!(wheel.is_due(9_999));
    wheel.validate();
    wheel.schedule(Slot(100), 9_998, 101);
    wheel.cancel(Slot(99));
    wheel.cancel(Slot(0));
    wheel.validate();
    assert_eq!(advance(&mut wheel, 9_999), BTreeSet::from([100]));
    assert!(!wheel.is_due(9_999));
    assert_eq!(advance(&mut wheel, 10_050), (1..=50).collect());
    assert_eq!(wheel.next(), Some(10_051));
}

#[derive(Clone, Debug)]
enum Step {
    Schedule(u32, u64),
    Cancel(u32),
    Advance(u64, usize),
}

/// Spans of any size: nanoseconds, milliseconds and years are equally likely.
fn span() -> impl Strategy<Value = u64> {
    (0u32..64, any::<u64>()).prop_map(|(bits, number)| number >> bits)
}

fn step() -> impl Strategy<Value = Step> {
    let budget = prop_oneof![Just(usize::MAX), 0usize..4, 0usize..100];
    prop_oneof![
        4 => (0u32..60, span()).prop_map(|(slot, after)| Step::Schedule(slot, after)),
        1 => (0u32..60).prop_map(Step::Cancel),
        3 => (span().prop_map(|span| span >> 8), budget).prop_map(|(span, budget)| Step::Advance(span, budget)),
    ]
}

proptest! {
    #[test]
    fn the_wheel_agrees_with_a_sorted_map(start in span(), steps in prop::collection::vec(step(), 1..300)) {
        let mut wheel = Wheel::at(0);
        let mut deadlines = BTreeMap::<u32, u64>::new();
        let mut now = start;
        for step in steps {
            match step {
                Step::Schedule(slot, after) => {
                    let deadline = now.saturating_add(after);
                    wheel.schedule(Slot(slot), deadline, 60);
                    deadlines.remove(&slot);
                    if deadline != NEVER {
                        deadlines.insert(slot, deadline);
                    }
                }
                Step::Cancel(slot) => {
                    wheel.cancel(Slot(slot));
                    deadlines.remove(&slot);
                }
                Step::Advance(span, budget) => {
                    now = now.saturating_add(span).min(NEVER - 1);
                    let mut left = budget;
                    let mut popped = Vec::new();
                    while let Some(slot) = wheel.pop_due(now, &mut left) {
                        popped.push(slot.0);
                    }
                    prop_assert!(popped.len() <= budget - left);
                    for slot in popped {
                        let deadline = deadlines.remove(&slot);
                        prop_assert!(deadline.is_some_and(|deadline| deadline <= now), "{slot} at {deadline:?}, now {now}");
                    }
                    if !wheel.is_due(now) {
                        prop_assert!(deadlines.values().all(|&deadline| deadline > now));
                    } else {
                        prop_assert_eq!(left, 0);
                    }
                }
            }
            wheel.validate();
            prop_assert_eq!(wheel.len(), deadlines.len());
            let earliest = deadlines.values().min();
            prop_assert_eq!(wheel.next().is_some(), earliest.is_some());
            prop_assert!(wheel.next() <= earliest.copied());
            // A caller that waits until `next` never learns from `quiet_until` that it is too early.
            prop_assert!(wheel.next().is_none_or(|next| next >= wheel.quiet_until()));
            for slot in 0..60 {
                prop_assert_eq!(wheel.deadline(Slot(slot)), deadlines.get(&slot).copied().unwrap_or(NEVER));
            }
        }
    }
}
