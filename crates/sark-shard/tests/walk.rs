//! Walks through all entries, with other operations in between. (`model.rs` mixes them with all operations, in
//! small shards.)

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sark_shard::{Config, Lifetime, Nanos, NoPool, RemovalCause, Removed, Room, Shard, Walk};

const NOW: Nanos = Nanos(0);

fn hash(key: u64) -> u64 {
    let mixed = key.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ mixed >> 29
}

fn insert(shard: &mut Shard<u64, u64>, key: u64, lifetime: Lifetime) {
    let _ = shard.insert(hash(key), key, key, 1, lifetime, NOW, &mut NoPool, &mut Vec::new());
}

fn remove(shard: &mut Shard<u64, u64>, key: u64) {
    shard.remove(hash(key), &key, NOW, &mut Vec::new());
}

fn filled(entries: u64) -> Shard<u64, u64> {
    let mut shard = Shard::new(Config::default());
    (0..entries).for_each(|key| insert(&mut shard, key, Lifetime::Default));
    shard
}

/// What a walk meets in such steps, and how many those are; `between` them anything may happen.
fn walk(
    shard: &mut Shard<u64, u64>,
    most: usize,
    mut between: impl FnMut(&mut Shard<u64, u64>, u64),
) -> (HashMap<u64, usize>, u64) {
    let (mut met, mut walk, mut visits) = (HashMap::new(), Walk::new(), 0);
    while !walk.is_over() {
        let mut now = 0;
        shard.visit(&mut walk, most, |_, entry| {
            *met.entry(*entry.key).or_default() += 1;
            now += 1;
        });
        assert!(now <= most.max(1));
        visits += 1;
        between(shard, visits);
    }
    (met, visits)
}

#[test]
fn entries_that_stay_are_met_once_while_others_come_and_go_and_the_shard_grows() {
    for most in [1, 7, 64, 1000] {
        let mut shard = filled(3000);
        let (met, _) = walk(&mut shard, most, |shard, step| {
            // Multiples of ten stay, with uses and new values in between.
            remove(shard, step * 7 % 3000 / 10 * 10 + 3);
            insert(shard, step * 13 % 300 * 10, Lifetime::Default);
            shard.get(hash(step * 10), &(step * 10), NOW, &mut Vec::new(), |_| ());
            for new in 0..3 {
                insert(shard, 10_000 + 3 * step + new, Lifetime::Default);
            }
        });
        assert!((0..300).all(|key| met.get(&(10 * key)) == Some(&1)));
        assert!(met.values().all(|&times| times == 1));
    }
}

#[test]
fn a_walk_ends_no_matter_how_fast_entries_come() {
    let mut shard = filled(100);
    let (met, visits) = walk(&mut shard, 10, |shard, step| {
        (0..50).for_each(|new| insert(shard, 1000 * step + new, Lifetime::Default));
    });
    assert_eq!((met.len(), visits), (100, 10));
}

#[test]
fn a_walk_through_a_shard_that_is_emptied_ends_and_meets_nothing_twice() {
    let mut shard = filled(1000);
    let (met, visits) = walk(&mut shard, 10, |shard, step| {
        if step == 5 {
            drop(shard.clear());
            (0..200).for_each(|new| insert(shard, 5000 + new, Lifetime::Default));
        }
    });
    assert!(met.values().all(|&times| times == 1) && visits < 30);
    assert_eq!(met.keys().filter(|&&key| key < 5000).count(), 50);
    let mut empty = Shard::<u64, u64>::new(Config::default());
    assert_eq!(walk(&mut empty, 10, |_, _| ()), (HashMap::new(), 1));
}

#[test]
fn a_visit_of_zero_entries_makes_progress() {
    assert_eq!(walk(&mut filled(5), 0, |_, _| ()).1, 5);
    assert_eq!(walk(&mut filled(5), usize::MAX, |_, _| ()).1, 1);
}

#[test]
fn few_entries_left_of_many_are_met_in_few_visits() {
    let mut shard = filled(200_000);
    assert_eq!(walk(&mut shard, 64, |_, _| ()).1, 3125, "as many as there are entries for");
    (0..200_000).filter(|key| key % 20_000 != 7).for_each(|key| remove(&mut shard, key));
    let (met, visits) = walk(&mut shard, 64, |_, _| ());
    assert_eq!(met.len(), 10);
    assert!(visits < 12, "{visits} visits");
}

#[test]
fn rejected_entries_are_handed_back_and_expired_ones_without_being_asked_about() {
    let mut shard = Shard::new(Config { budget: Room::for_entries(1000), ..Config::default() });
    (0..100).for_each(|key| insert(&mut shard, key, Lifetime::For(if key % 10 == 0 { 5 } else { 50 })));
    let (mut removed, mut walk, mut count) = (Vec::<Removed<u64, u64>>::new(), Walk::new(), 0);
    while !walk.is_over() {
        count += shard.retain_some(
            &mut walk,
            8,
            Nanos(5),
            |entry| {
                assert!(entry.key % 10 != 0 && entry.deadline == Some(Nanos(50)));
                entry.value % 2 == 0
            },
            &mut removed,
        );
    }
    let left = |cause| removed.iter().filter(|removed| removed.cause == cause).count();
    assert_eq!((left(RemovalCause::Explicit), left(RemovalCause::Expired), count), (50, 10, 50));
    assert_eq!((shard.len(), shard.counters().explicit, shard.counters().expired), (40, 50, 10));
    // A visit only shows expired entries, and removes none.
    let mut dead = 0;
    shard.visit(&mut Walk::new(), 1000, |_, entry| dead += usize::from(entry.is_dead(Nanos(50))));
    assert_eq!((dead, shard.len()), (40, 40));
}

#[test]
fn a_visit_is_not_a_use() {
    let config = Config { budget: Room::for_entries(10), time_to_idle: Some(10), ..Config::default() };
    let mut shard = Shard::new(config);
    (0..10).for_each(|key| insert(&mut shard, key, Lifetime::Default));
    let counters = shard.counters();
    shard.visit(&mut Walk::new(), 3, |_, _| ());
    shard.retain_some(&mut Walk::new(), 1000, Nanos(9), |_| true, &mut Vec::new());
    assert!(shard.iter().map(|entry| *entry.key).eq(0..10));
    assert!(shard.entries().all(|entry| entry.deadline == Some(Nanos(10))));
    assert_eq!(shard.counters(), counters);
}

#[test]
fn a_walk_whose_closure_panics_goes_on_after_that_entry() {
    let mut shard = filled(10);
    let (mut seen, mut walk) = (Vec::new(), Walk::new());
    let mut look = |shard: &Shard<u64, u64>| {
        shard.visit(&mut walk, 100, |_, entry| {
            assert_ne!(*entry.key, 4, "on purpose");
            seen.push(*entry.key);
        });
    };
    assert!(catch_unwind(AssertUnwindSafe(|| look(&shard))).is_err());
    look(&shard);
    assert_eq!(seen, [0, 1, 2, 3, 5, 6, 7, 8, 9]);

    let (mut removed, mut walk) = (Vec::new(), Walk::new());
    let mut judge = |shard: &mut Shard<u64, u64>| {
        let keep = |entry: sark_shard::EntryRef<'_, u64, u64>| {
            assert_ne!(*entry.key, 4, "on purpose");
            entry.key % 2 == 1
        };
        shard.retain_some(&mut walk, 100, NOW, keep, &mut removed)
    };
    assert!(catch_unwind(AssertUnwindSafe(|| judge(&mut shard))).is_err());
    assert_eq!(judge(&mut shard), 2);
    assert_eq!(removed.iter().map(|removed| removed.key).collect::<Vec<_>>(), [0, 2, 6, 8]);
    assert_eq!(shard.len(), 6);
}
