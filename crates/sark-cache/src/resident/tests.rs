//! What a cell does with the room that it gets, gives and is short of.

use sark_shard::{Config, Lifetime, Pool};

use super::*;
use crate::clock::Clock;

/// Other threads, which take all that is free whenever room is looked for.
struct Others<'l>(&'l Ledger);

impl Pool for Others<'_> {
    fn take(&mut self, wanted: Room) -> Room {
        let mut ledger = self.0;
        ledger.take(Room { entries: u64::MAX, weight: u64::MAX });
        ledger.take(wanted)
    }
}

impl Source for Others<'_> {
    fn put_back(&mut self, room: Room) {
        self.0.give_back(room);
    }
}

fn cell(capacity: u64) -> (Cell<u64, u64>, Arc<Common>) {
    let common = Arc::new(Common {
        ledger: Ledger::new(capacity, None),
        time: Timekeeping::new(Clock::manual().0),
        workers_reclaim: false,
        hints: Box::default(),
        quiet_until: Box::default(),
        untold: AtomicBool::new(false),
    });
    let config = Config { budget: common.ledger.budget_for(Room::NONE), ..Config::default() };
    (Cell::new(Shard::new(config), 0, Arc::clone(&common), None), common)
}

fn arrival(key: u64, nanos: u64) -> Arrival<u64, u64> {
    Arrival { hash: key, key, value: key, weight: 1, lifetime: Lifetime::For(nanos) }
}

#[test]
fn an_arrival_that_was_short_of_room_changes_the_value_that_came_meanwhile() {
    let (mut cell, common) = cell(1);
    let (mut out, mut short) = (Outgoing::new(&None), None);
    let mut add = |value: &mut u64| *value += 10;
    let mut instead = Instead { change: &mut add, now: Nanos(0), tried: false, spare: None };
    let mut unless = Unless::There(&mut instead);
    let mut ledger = &common.ledger;
    let elsewhere = ledger.take(Room { entries: 1, weight: 0 });
    let stored = cell.insert_unless(&mut unless, arrival(1, 10), Nanos(0), &mut ledger, &mut out, &mut short);
    assert_eq!(stored, (false, None));
    let Short { arrival: again, .. } = short.take().expect("there is no room");
    common.ledger.give_back(elsewhere);
    assert!(cell.insert(arrival(1, 10), Nanos(0), &mut ledger, &mut out, &mut short));
    let stored = cell.insert_unless(&mut unless, again, Nanos(0), &mut ledger, &mut out, &mut short);
    assert!(stored == (false, None) && short.is_none());
    assert!(matches!(unless, Unless::There(Instead { spare: Some((1, 1)), .. })));
    assert_eq!(cell.shard.peek(1, &1, Nanos(0)), Some(&11));
    let counters = cell.shard.counters();
    assert_eq!((counters.misses, counters.hits, counters.inserted, counters.replaced), (1, 1, 1, 0));
}

#[test]
fn an_arrival_that_is_outdated_by_its_turn_leaves_the_value_that_came_meanwhile() {
    let (mut cell, common) = cell(2);
    let (mut out, mut short) = (Outgoing::new(&None), None);
    let outdated = AtomicBool::new(false);
    let mut unless = Unless::Outdated(&outdated);
    let heavy = Arrival { value: 100, ..arrival(1, 10) };
    let Some(heavy) = cell.admit(&mut unless, heavy, &mut out) else { panic!("nothing outdates it yet") };
    outdated.store(true, Ordering::Relaxed);
    assert!(cell.insert(arrival(1, 10), Nanos(0), &mut &common.ledger, &mut out, &mut short));
    assert!(cell.admit(&mut unless, heavy, &mut out).is_none());
    assert_eq!((cell.shard.peek(1, &1, Nanos(0)), out.len()), (Some(&1), 1));
    let counters = cell.shard.counters();
    assert_eq!((counters.rejected, counters.replaced), (1, 0));
}

#[test]
fn an_arrival_gets_the_room_of_an_older_value_of_its_key_that_expired_whatever_others_take() {
    let (mut cell, common) = cell(1);
    let (mut out, mut short) = (Outgoing::new(&None), None);
    assert!(cell.insert(arrival(1, 10), Nanos(0), &mut &common.ledger, &mut out, &mut short));
    let mut add = |value: &mut u64| *value += 10;
    let late = Nanos(10);
    let mut instead = Instead { change: &mut add, now: late, tried: false, spare: None };
    let (mut unless, mut others) = (Unless::There(&mut instead), Others(&common.ledger));
    let (kept, _) = cell.insert_unless(&mut unless, arrival(1, 10), late, &mut others, &mut out, &mut short);
    assert!(kept && short.is_none());
    assert_eq!(cell.shard.peek(1, &1, late), Some(&1));
}

#[test]
fn an_entry_gets_the_room_of_what_expired_before_it_whatever_others_take() {
    // In one go, by the quick way, and in both parts, because the weight isn't one.
    for (in_parts, weight) in [(false, 1), (true, 1), (true, 2)] {
        let (mut cell, common) = cell(2);
        let (mut out, mut short) = (Outgoing::new(&None), None);
        assert!(cell.insert(arrival(1, 10), Nanos(0), &mut &common.ledger, &mut out, &mut short));
        let (late, mut others) = (Nanos(10), Others(&common.ledger));
        let arrival = Arrival { weight, ..arrival(2, 10) };
        let kept = if in_parts {
            let terms = Terms { hash: arrival.hash, weight, lifetime: arrival.lifetime };
            match cell.try_insert(arrival, late, &mut others, &mut out) {
                Ok(evicted) => weight == 1 && evicted.is_none(),
                Err(unstored) => {
                    assert_eq!(weight, 2, "the quick way takes what weighs one");
                    cell.end_insert(unstored, terms, late, &mut others, &mut out, &mut short)
                }
            }
        } else {
            cell.insert(arrival, late, &mut others, &mut out, &mut short)
        };
        assert!(kept && short.is_none());
        assert_eq!((out.len(), cell.shard.len(), common.ledger.used().entries), (1, 1, 1));
    }
}

#[test]
fn room_that_a_panic_left_behind_goes_back_with_the_next_entry() {
    let (mut cell, common) = cell(100);
    let (mut out, mut short) = (Outgoing::new(&None), None);
    for key in 0..4 {
        cell.insert(arrival(key, 10), Nanos(0), &mut &common.ledger, &mut out, &mut short);
    }
    // This part of an insertion comes before keys are compared.
    assert!(cell.reclaim_if_due(Nanos(10), &mut out));
    assert_eq!((cell.shard.len(), common.ledger.used().entries), (0, 4));
    assert!(cell.try_insert(arrival(8, 1 << 40), Nanos(10), &mut &common.ledger, &mut out).is_ok());
    assert_eq!((cell.shard.len(), common.ledger.used().entries), (1, 1));
}

#[test]
fn room_that_a_replacement_does_not_need_goes_back() {
    let (mut cell, common) = cell(100);
    let (mut out, mut short) = (Outgoing::new(&None), None);
    for key in 0..8 {
        cell.insert(arrival(key, 10), Nanos(0), &mut &common.ledger, &mut out, &mut short);
    }
    cell.insert(arrival(8, 1 << 40), Nanos(0), &mut &common.ledger, &mut out, &mut short);
    // Some of the expired entries are reclaimed, and the value is exchanged.
    assert!(cell.try_insert(arrival(8, 1 << 40), Nanos(10), &mut &common.ledger, &mut out).is_ok());
    assert!(!out.is_empty() && cell.shard.len() < 9);
    let entries = cell.shard.len() as u64;
    assert_eq!((common.ledger.used().entries, cell.shard.budget().entries), (entries, entries));
}

#[test]
fn a_worker_is_not_asked_again_before_there_is_something_to_do() {
    let (mut cell, common) = cell(100);
    let (mut out, mut short) = (Outgoing::new(&None), None);
    for nanos in [100, 5000, 1_000_000] {
        cell.insert(arrival(nanos, nanos), Nanos(0), &mut &common.ledger, &mut out, &mut short);
    }
    for now in [0, 70, 99, 100, 4100, 4999, 5000, 900_000] {
        let more = cell.reclaim(Nanos(now), RECLAIM_AT_ONCE, &mut out);
        let next = cell.shard.next_deadline().expect("one is left");
        assert!(!more && next > Nanos(now), "at {now} it is told to come at {next:?}");
    }
    assert!(!cell.reclaim(Nanos(1_000_000), RECLAIM_AT_ONCE, &mut out));
    assert_eq!(cell.shard.next_deadline(), None);
}
