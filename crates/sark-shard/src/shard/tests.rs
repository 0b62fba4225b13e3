//! The shard's rules, one sentence each. Long random sequences are in `tests/model.rs`.

use alloc::vec::Vec;
use alloc::{format, vec};

use super::*;
use crate::{Lifetime, NoPool, Pool};

mod insertion;
mod uses;

type Out = Vec<Removed<u64, u64>>;

fn hash(key: u64) -> u64 {
    key.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn shard(config: Config) -> Shard<u64, u64> {
    Shard::new(config)
}

fn entries(n: u64) -> Config {
    Config { budget: Room::for_entries(n), ..Config::default() }
}

/// Stores `key` with itself as value and weight 1, without a deadline.
fn put(shard: &mut Shard<u64, u64>, key: u64) -> Out {
    put_for(shard, key, Lifetime::Default, 0)
}

fn put_for(shard: &mut Shard<u64, u64>, key: u64, lifetime: Lifetime, now: u64) -> Out {
    put_as(shard, key, 1, lifetime, now).1
}

fn put_as(
    shard: &mut Shard<u64, u64>,
    key: u64,
    weight: u32,
    lifetime: Lifetime,
    now: u64,
) -> (Insertion<u64, u64>, Out) {
    let mut out = Out::new();
    let outcome = shard.insert(hash(key), key, key, weight, lifetime, Nanos(now), &mut NoPool, &mut out);
    shard.validate();
    (outcome, out)
}

fn get(shard: &mut Shard<u64, u64>, key: u64, now: u64) -> Option<u64> {
    let found = shard.get(hash(key), &key, Nanos(now), &mut Out::new(), |value| *value);
    shard.validate();
    found
}

fn keys(shard: &mut Shard<u64, u64>) -> Vec<u64> {
    shard.iter().map(|entry| *entry.key).collect()
}

fn causes(out: &Out) -> Vec<(u64, RemovalCause)> {
    out.iter().map(|removed| (removed.key, removed.cause)).collect()
}

#[test]
fn the_index_does_not_grow_while_entries_come_and_go() {
    let mut shard = shard(Config::default());
    // As many as twelve lines take.
    (0..96).for_each(|key| drop(put(&mut shard, key)));
    let index = shard.memory().index;
    for key in 96..400 {
        shard.remove(hash(key - 96), &(key - 96), Nanos(0), &mut Out::new()).unwrap();
        put(&mut shard, key);
    }
    assert_eq!((shard.len(), shard.memory().index), (96, index));
    shard.validate();
    put(&mut shard, 400);
    assert!(shard.memory().index > index);
}

#[test]
fn capacities_of_one_two_and_three_are_exact_lru() {
    for capacity in 1..=3 {
        let mut shard = shard(entries(capacity));
        let mut order: Vec<u64> = Vec::new();
        for step in 0..200u64 {
            let key = step * step % 7 % (capacity + 2);
            if get(&mut shard, key, 0).is_none() {
                put(&mut shard, key);
                if order.len() as u64 == capacity {
                    order.remove(0);
                }
            }
            order.retain(|&other| other != key);
            order.push(key);
            assert_eq!(keys(&mut shard), order);
        }
    }
}

#[test]
fn what_was_used_is_passed_over_when_its_turn_comes() {
    let mut shard = shard(entries(100));
    (0..100).for_each(|key| drop(put(&mut shard, key)));
    for key in (20..60).rev() {
        get(&mut shard, key, 0);
    }
    for key in 100..120 {
        assert_eq!(causes(&put(&mut shard, key)), [(key - 100, RemovalCause::Size)]);
    }
    assert_eq!(causes(&put(&mut shard, 120)), [(60, RemovalCause::Size)], "20 was used and 60 was not");
    assert_eq!(keys(&mut shard), (61..100).chain((20..60).rev()).chain(100..121).collect::<Vec<_>>());
}

#[test]
fn what_was_removed_is_passed_over_whatever_took_its_place() {
    let mut shard = shard(entries(10));
    (0..10).for_each(|key| drop(put(&mut shard, key)));
    assert_eq!(causes(&put(&mut shard, 10)), [(0, RemovalCause::Size)]);
    for key in [1, 2] {
        shard.remove(hash(key), &key, Nanos(0), &mut Out::new());
        shard.validate();
    }
    assert_eq!((causes(&put(&mut shard, 11)), causes(&put(&mut shard, 12))), (Vec::new(), Vec::new()));
    assert_eq!(causes(&put(&mut shard, 13)), [(3, RemovalCause::Size)]);
    shard.validate();
}

#[test]
fn a_look_up_finds_what_is_there_after_something_was_done_between_its_parts() {
    let now = Nanos(5);
    let mut shard = shard(entries(1));
    put_for(&mut shard, 1, Lifetime::For(20), 5);
    let read = shard.try_get(hash(1), &1, now, |value| *value).unwrap_err();
    assert_eq!(shard.end_get(hash(1), &1, now, &mut Out::new(), read), Some(1), "its deadline is near");
    // Another entry is where that one was found.
    let read = shard.try_get(hash(1), &1, now, |value| *value).unwrap_err();
    put_for(&mut shard, 2, Lifetime::For(20), 5);
    assert_eq!(shard.end_get(hash(1), &1, now, &mut Out::new(), read), None);
    assert_eq!(shard.end_get(hash(2), &2, now, &mut Out::new(), |value| *value), Some(2));
    // No entry is there, and no slot either.
    let read = shard.try_get(hash(2), &2, now, |value| *value).unwrap_err();
    drop(shard.clear());
    assert_eq!(shard.end_get(hash(2), &2, now, &mut Out::new(), read), None);
    assert_eq!((shard.counters().hits, shard.counters().misses), (2, 2));
    shard.validate();
}

#[test]
fn a_hit_saves_an_entry_however_many_hits_wait() {
    for hits in 1..40 {
        let mut shard = shard(entries(50));
        (0..50).for_each(|key| drop(put(&mut shard, key)));
        (0..hits).for_each(|key| assert_eq!(get(&mut shard, key, 0), Some(key)));
        assert_eq!(causes(&put(&mut shard, 50)), [(hits, RemovalCause::Size)]);
    }
}

#[test]
fn a_peek_saves_nothing_and_counts_nothing() {
    let mut shard = shard(entries(2));
    put(&mut shard, 1);
    put(&mut shard, 2);
    assert_eq!(shard.peek(hash(1), &1, Nanos(0)), Some(&1));
    assert!(shard.entry(hash(1), &1, Nanos(0)).is_some());
    assert_eq!(causes(&put(&mut shard, 3)), [(1, RemovalCause::Size)]);
    assert_eq!((shard.counters().hits, shard.counters().misses), (0, 0));
}

#[test]
fn an_expired_entry_is_never_served() {
    let mut shard = shard(Config::default());
    put_for(&mut shard, 1, Lifetime::For(100), 50);
    assert_eq!(get(&mut shard, 1, 149), Some(1));
    assert_eq!(shard.peek(hash(1), &1, Nanos(150)), None);
    assert!(shard.entry(hash(1), &1, Nanos(150)).is_none());
    assert_eq!(shard.len(), 1);
    assert_eq!(get(&mut shard, 1, 150), None);
    assert_eq!((shard.len(), shard.counters().expired_on_get, shard.counters().misses), (0, 1, 1));
}

#[test]
fn a_dead_entry_is_not_removed_but_expires() {
    let mut shard = shard(Config::default());
    put_for(&mut shard, 1, Lifetime::For(10), 0);
    let mut out = Out::new();
    assert_eq!(shard.remove(hash(1), &1, Nanos(10), &mut out), None);
    assert_eq!(causes(&out), [(1, RemovalCause::Expired)]);
}

#[test]
fn replacing_a_dead_entry_is_an_insertion() {
    let mut shard = shard(Config::default());
    put_for(&mut shard, 1, Lifetime::For(10), 0);
    let (outcome, out) = put_as(&mut shard, 1, 1, Lifetime::Default, 10);
    assert_eq!((outcome, causes(&out)), (Insertion::Inserted, vec![(1, RemovalCause::Expired)]));
}

#[test]
fn an_entry_s_own_lifetime_overrides_the_default() {
    let mut shard = shard(Config { time_to_live: Some(10), ..Config::default() });
    put(&mut shard, 1);
    put_for(&mut shard, 2, Lifetime::Forever, 0);
    put_for(&mut shard, 3, Lifetime::For(u64::MAX), 5);
    let mut out = Out::new();
    assert_eq!(shard.advance(Nanos(u64::MAX), 10, &mut out), Progress { expired: 1, more: false });
    assert_eq!(keys(&mut shard), [2, 3]);
    assert!(!shard.has_deadlines());
}

#[test]
fn a_lifetime_of_zero_forgets_the_older_value() {
    let mut shard = shard(Config::default());
    put(&mut shard, 1);
    let (outcome, out) = put_as(&mut shard, 1, 5, Lifetime::For(0), 0);
    assert_eq!(outcome, Insertion::Rejected);
    assert_eq!(causes(&out), [(1, RemovalCause::Replaced), (1, RemovalCause::Rejected)]);
    assert!(shard.is_empty());
}

#[test]
fn a_hit_extends_the_time_to_idle_but_never_the_time_to_live() {
    let mut shard = shard(Config { time_to_idle: Some(10), time_to_live: Some(25), ..Config::default() });
    put(&mut shard, 1);
    for now in [9, 18, 24] {
        assert_eq!(get(&mut shard, 1, now), Some(1), "at {now}");
        assert_eq!(shard.advance(Nanos(now), 9, &mut Out::new()).expired, 0);
        shard.validate();
    }
    assert_eq!(shard.peek(hash(1), &1, Nanos(25)), None);
    assert_eq!(shard.advance(Nanos(25), 9, &mut Out::new()).expired, 1);
}

#[test]
fn a_shorter_lifetime_is_noticed_by_the_wheel() {
    let mut shard = shard(Config { time_to_idle: Some(1000), ..Config::default() });
    put(&mut shard, 1);
    assert!(shard.set_lifetime(hash(1), &1, Lifetime::For(5), Nanos(10), &mut Out::new()));
    shard.validate();
    assert!(shard.next_deadline() <= Some(Nanos(15)));
    assert_eq!(shard.advance(Nanos(15), 9, &mut Out::new()).expired, 1);
}

#[test]
fn an_entry_that_cannot_fit_evicts_nothing() {
    let mut shard = shard(Config { budget: Room { entries: 9, weight: 10 }, ..Config::default() });
    let _ = put_as(&mut shard, 1, 4, Lifetime::Default, 0);
    let _ = put_as(&mut shard, 2, 4, Lifetime::Default, 0);
    let (outcome, out) = put_as(&mut shard, 1, 13, Lifetime::Default, 0);
    let missing = Room { entries: 0, weight: 3 };
    assert_eq!(outcome, Insertion::Short { key: 1, value: 1, missing });
    assert_eq!((out.len(), keys(&mut shard)), (0, vec![1, 2]));
}

#[test]
fn a_replaced_entry_is_never_evicted_for_its_own_replacement() {
    let mut shard = shard(Config { budget: Room { entries: 9, weight: 10 }, ..Config::default() });
    for key in [1, 2, 3] {
        let _ = put_as(&mut shard, key, 3, Lifetime::Default, 0);
    }
    let (outcome, out) = put_as(&mut shard, 1, 6, Lifetime::Default, 0);
    assert_eq!(outcome, Insertion::Replaced);
    assert_eq!(causes(&out), [(2, RemovalCause::Size), (1, RemovalCause::Replaced)]);
    assert_eq!((keys(&mut shard), shard.used().weight), (vec![3, 1], 9));
}

#[test]
fn the_key_that_was_first_stays_when_its_value_is_replaced() {
    #[derive(Debug)]
    struct Key(u8, &'static str);
    impl PartialEq for Key {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }
    impl Eq for Key {}
    let (mut shard, mut out) = (Shard::new(Config::default()), Vec::new());
    let mut put = |key| shard.insert(1, key, (), 1, Lifetime::Default, Nanos(0), &mut NoPool, &mut out);
    assert_eq!(put(Key(1, "first")), Insertion::Inserted);
    assert_eq!(put(Key(1, "second")), Insertion::Replaced);
    assert_eq!(out[0].key.1, "second");
    assert_eq!(shard.iter().next().map(|entry| entry.key.1), Some("first"));
}

/// A pool that gives what it has.
struct Purse(Room, Vec<Room>);

impl Pool for Purse {
    fn take(&mut self, wanted: Room) -> Room {
        self.1.push(wanted);
        let given = wanted.min(self.0);
        self.0 = self.0.saturating_sub(given);
        given
    }
}

#[test]
fn the_pool_is_asked_for_what_is_missing_before_anything_is_evicted() {
    let mut shard = shard(Config { budget: Room { entries: 1, weight: 10 }, ..Config::default() });
    let mut purse = Purse(Room { entries: 1, weight: 7 }, Vec::new());
    let mut out = Out::new();
    for (key, weight) in [(1, 8), (2, 8), (1, 9), (3, 1)] {
        let _ = shard.insert(hash(key), key, key, weight, Lifetime::Default, Nanos(0), &mut purse, &mut out);
        shard.validate();
        assert!(shard.used().fits_in(shard.budget()));
    }
    let asked = [
        Room { entries: 1, weight: 6 }, // for 2: one entry, and weight 16 in a budget of 10
        Room { entries: 0, weight: 1 }, // for the heavier 1: the pool gives the last it has
        Room { entries: 1, weight: 1 }, // for 3
    ];
    assert_eq!(purse.1, asked);
    assert_eq!(causes(&out), [(1, RemovalCause::Replaced), (2, RemovalCause::Size)]);
    assert_eq!(shard.budget(), Room { entries: 2, weight: 17 });
}

#[test]
fn a_lowered_budget_is_not_won_back_from_the_pool() {
    let mut shard = shard(Config::default());
    (0..10).for_each(|key| drop(put(&mut shard, key)));
    shard.set_budget(Room::for_entries(4));
    let mut purse = Purse(Room::UNLIMITED, Vec::new());
    let mut out = Out::new();
    let _ = shard.insert(hash(10), 10, 10, 1, Lifetime::Default, Nanos(0), &mut purse, &mut out);
    assert_eq!(purse.1, [Room { entries: 1, weight: 0 }]);
    assert_eq!((shard.len(), out.len(), shard.budget().entries), (5, 6, 5));
}

#[test]
fn a_batch_is_the_same_as_one_look_up_after_the_other() {
    let mut one = shard(entries(100));
    let mut many = shard(entries(100));
    for key in 0..100 {
        let lifetime = if key % 5 == 0 { Lifetime::For(10) } else { Lifetime::Default };
        put_for(&mut one, key, lifetime, 0);
        put_for(&mut many, key, lifetime, 0);
    }
    // Misses, expired entries, and the same key twice in a window.
    let asked: Vec<u64> = (0..150).map(|i| i * i % 120).collect();
    let hashes: Vec<u64> = asked.iter().map(|&key| hash(key)).collect();
    let mut out = Out::new();
    let mut seen = Vec::new();
    many.get_batch(&hashes, |i| &asked[i], Nanos(10), &mut out, |i, value| seen.push((i, value.copied())));
    many.validate();
    let expected: Vec<_> = asked.iter().enumerate().map(|(i, &key)| (i, get(&mut one, key, 10))).collect();
    assert_eq!(seen, expected);
    assert_eq!((keys(&mut many), many.counters()), (keys(&mut one), one.counters()));
    assert!(out.iter().all(|removed| removed.cause == RemovalCause::Expired));
}

#[test]
fn an_evicted_slot_is_used_again() {
    let mut shard = shard(entries(100));
    (0..100).for_each(|key| drop(put(&mut shard, key)));
    let before = shard.memory();
    (100..2000).for_each(|key| drop(put(&mut shard, key)));
    let after = shard.memory();
    assert_eq!(before.entries, after.entries);
    // Candidates for eviction take memory now. Those at hand and those found for later are about a quarter of
    // all entries each.
    assert!(after.order <= before.order + 100 * 2 * 8, "{before:?} {after:?}");
}

#[test]
fn clearing_hands_everything_over_and_leaves_a_shard_that_works() {
    let mut shard = shard(Config { budget: Room { entries: 10, weight: 100 }, ..Config::default() });
    for key in 0..10 {
        let _ = put_as(&mut shard, key, key as u32, Lifetime::For(10 + key), 0);
    }
    get(&mut shard, 0, 0);
    let contents = shard.clear();
    shard.validate();
    assert_eq!((shard.used(), shard.has_deadlines(), contents.weight()), (Room::NONE, false, 45));
    assert_eq!(shard.memory().total(), 0);
    let out: Vec<_> = contents.map(|removed| (removed.key, removed.weight)).collect();
    assert_eq!(out, [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (8, 8), (9, 9), (0, 0)]);
    put(&mut shard, 1);
    assert_eq!((keys(&mut shard), shard.counters().explicit), (vec![1], 10));
}

#[test]
fn the_oldest_live_entry_is_popped_and_dead_ones_expire_on_the_way() {
    let mut shard = shard(Config::default());
    put_for(&mut shard, 1, Lifetime::For(5), 0);
    put(&mut shard, 2);
    put(&mut shard, 3);
    get(&mut shard, 2, 0);
    let mut out = Out::new();
    assert_eq!(shard.remove_lru(Nanos(5), &mut out), Some((3, 3)));
    assert_eq!(causes(&out), [(1, RemovalCause::Expired)]);
    assert_eq!(shard.remove_lru(Nanos(5), &mut out), Some((2, 2)));
    assert_eq!(shard.remove_lru(Nanos(5), &mut out), None);
    shard.validate();
}

#[test]
fn a_candidate_names_one_entry_only() {
    let mut shard = shard(Config::default());
    put(&mut shard, 1);
    let ask = |shard: &mut Shard<u64, u64>| match shard.find_by(hash(1), |_| Match::Ask) {
        Finding::Undecided(undecided) => undecided.candidates[0],
        other => panic!("{other:?}"),
    };
    let old = ask(&mut shard);
    put(&mut shard, 1);
    assert!(shard.slot_of(old).is_some(), "a new value under the same key");
    shard.remove(hash(1), &1, Nanos(0), &mut Out::new());
    assert_eq!(shard.slot_of(old), None);
    put(&mut shard, 1);
    assert_eq!(shard.slot_of(old), None, "another entry in the same slot");
    let new = ask(&mut shard);
    drop(shard.clear());
    assert_eq!(shard.slot_of(new), None);
    put(&mut shard, 1);
    assert_eq!((shard.slot_of(old), shard.slot_of(new)), (None, None), "another one after clearing");
}

#[test]
fn an_insertion_in_between_is_noticed_by_its_hash() {
    let mut shard = shard(Config::default());
    let Finding::Absent(stamp) = shard.find_by(hash(1), |_| Match::Ask) else { panic!() };
    put(&mut shard, 1);
    put(&mut shard, 1);
    let Finding::Undecided(undecided) = shard.find_by(hash(1), |_| Match::Ask) else { panic!() };
    assert_ne!(undecided.stamp, stamp);
    put(&mut shard, 1);
    put(&mut shard, 2);
    let Finding::Absent(again) = shard.find_by(hash(1), |_| Match::Different) else { panic!() };
    assert_eq!(again, undecided.stamp, "a new value, and an entry with another hash");
}

#[test]
fn an_absent_key_is_absent_for_a_caller_whose_time_is_behind() {
    let mut shard = shard(Config::default());
    put_for(&mut shard, 1, Lifetime::For(90), 0);
    let by_key = |key: &u64| if *key == 1 { Match::Equal } else { Match::Different };
    // It expires at 90. One caller's time is past that, the other's is not.
    let Finding::Found(slot) = shard.find_by(hash(1), by_key) else { panic!() };
    assert!(shard.entry_at(slot, Nanos(100)).is_none() && shard.entry_at(slot, Nanos(80)).is_some());
    let mut out = Out::new();
    assert_eq!(shard.hit_slot(slot, Nanos(100), &mut out, |value| *value), None);
    assert_eq!(causes(&out), [(1, RemovalCause::Expired)]);
    assert!(matches!(shard.find_by(hash(1), by_key), Finding::Absent(_)));
    let outcome = shard.insert_absent(hash(1), 1, 2, 1, Lifetime::Default, Nanos(80), &mut NoPool, &mut out);
    assert_eq!((outcome, shard.len()), (Insertion::Inserted, 1), "never two entries of one key");
    shard.validate();
}

#[test]
fn an_equal_key_wins_over_undecided_ones() {
    let mut shard = Shard::<u64, u64>::new(Config::default());
    for key in 0..5 {
        let _ = shard.insert(7, key, key, 1, Lifetime::Default, Nanos(0), &mut NoPool, &mut Out::new());
    }
    for wanted in 0..5 {
        let decide = |key: &u64| if *key == wanted { Match::Equal } else { Match::Ask };
        let Finding::Found(slot) = shard.find_by(7, decide) else { panic!() };
        assert_eq!(shard.key_at(slot), Some(&wanted));
    }
}

#[test]
fn a_slot_without_an_entry_is_like_a_key_that_is_not_there() {
    let mut shard = shard(Config::default());
    put(&mut shard, 1);
    let Finding::Found(slot) = shard.find_by(hash(1), |_| Match::Equal) else { panic!() };
    let mut out = Out::new();
    assert_eq!(shard.remove_slot(slot, Nanos(0), &mut out), Some((1, 1)));
    assert_eq!(shard.hit_slot(slot, Nanos(0), &mut out, |value| *value), None);
    assert_eq!(shard.remove_slot(slot, Nanos(0), &mut out), None);
    assert!(!shard.set_lifetime_slot(slot, Lifetime::Default, Nanos(0), &mut out));
    assert!(shard.key_at(slot).is_none() && shard.entry_at(slot, Nanos(0)).is_none());
    let refused = shard.replace_slot(slot, 1, 1, 1, Lifetime::Default, Nanos(0), &mut NoPool, &mut out);
    assert_eq!(refused, Err(Changed { key: 1, value: 1 }));
}

#[test]
fn a_swap_is_a_replacement_that_leaves_the_key_and_gives_the_value_back() {
    let mut shard = shard(Config::default());
    for key in [1, 2] {
        put_for(&mut shard, key, Lifetime::For(90), 0);
    }
    let slot = shard.slot(hash(1), &1).unwrap();
    assert_eq!(shard.swap_slot(slot, 10, Lifetime::For(200), Nanos(50)), Ok(1));
    shard.validate();
    assert_eq!((shard.peek(hash(1), &1, Nanos(240)), shard.counters().replaced), (Some(&10), 1));
    assert_eq!(shard.iter().map(|entry| *entry.key).collect::<Vec<_>>(), [2, 1], "it is a use");
    let dead = shard.slot(hash(2), &2).unwrap();
    assert_eq!(shard.swap_slot(dead, 20, Lifetime::Default, Nanos(90)), Err(20), "a dead entry is another thing");
    assert_eq!(shard.swap_slot(slot, 11, Lifetime::For(0), Nanos(90)), Err(11), "nor is it to forget");
    assert_eq!((shard.len(), shard.counters().replaced), (2, 1));
}

#[test]
fn an_absent_key_can_be_stored_without_a_second_look() {
    let mut shard = shard(entries(1));
    let mut out = Out::new();
    for key in [1, 2] {
        assert_eq!(shard.slot(hash(key), &key), None);
        shard.count_miss();
        let kept = shard.insert_absent(hash(key), key, key, 1, Lifetime::Default, Nanos(0), &mut NoPool, &mut out);
        assert_eq!(kept, Insertion::Inserted);
    }
    shard.validate();
    assert_eq!(causes(&out), [(1, RemovalCause::Size)]);
    assert_eq!((shard.slot(hash(1), &1), shard.counters().misses), (None, 2));
}

#[test]
fn entries_without_a_size_are_entries_all_the_same() {
    let mut shard = Shard::<(), ()>::new(entries(1));
    let mut out = Vec::new();
    let mut insert = || shard.insert(1, (), (), 3, Lifetime::For(9), Nanos(0), &mut NoPool, &mut out);
    assert_eq!((insert(), insert()), (Insertion::Inserted, Insertion::Replaced));
    shard.validate();
    assert_eq!(shard.used(), Room { entries: 1, weight: 3 });
}

#[test]
#[cfg_attr(miri, ignore = "a table of this size takes minutes, and smaller ones run the same code")]
fn an_entry_costs_what_the_docs_say() {
    let n = 50_000;
    let mut shard = shard(Config { capacity_hint: n, ..Config::default() });
    let mut out = Out::new();
    for key in 0..n as u64 {
        let _ = shard.insert(hash(key), key, key, 1, Lifetime::Default, Nanos(0), &mut NoPool, &mut out);
    }
    let per_entry = |shard: &Shard<u64, u64>| (shard.memory().total() - shard.memory().entries) as f64 / n as f64;
    assert!(per_entry(&shard) < 20.1, "{}", per_entry(&shard));
    for key in 0..n as u64 {
        shard.set_lifetime(hash(key), &key, Lifetime::For(1000), Nanos(0), &mut out);
    }
    assert!(per_entry(&shard) < 36.1, "{}", per_entry(&shard));
}

#[test]
fn debug_shows_sizes_and_no_contents() {
    let mut shard = shard(entries(5));
    put(&mut shard, 77);
    assert!(!format!("{shard:?}").contains("77"));
}

#[test]
fn a_shard_of_things_that_can_be_sent_can_be_sent() {
    fn is<T: Send + Sync>() {}
    is::<Shard<u64, alloc::string::String>>();
    is::<Contents<u64, u64>>();
}
