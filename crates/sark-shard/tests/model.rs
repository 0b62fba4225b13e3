//! Long random sequences of all operations against a naive reference.
//!
//! After each step the results, what was handed back and why, the order, the counters and the use of room
//! must be the same, and every invariant must hold.
//!
//! `PROPTEST_CASES=100000 cargo test --release -p sark-shard --features validate --test model` goes deeper.
#![cfg(feature = "validate")]

mod reference;

use std::collections::BTreeMap;
use std::rc::Rc;

use proptest::prelude::*;
use reference::{Line, Model, Outcome, Purse, Rules, hash};
use sark_shard::{
    Changed, Config, EntryRef, Finding, Insertion, Lifetime, Match, Nanos, RemovalCause, Removed, Room, Shard, Slot,
    Undecided, Walk,
};

/// A key whose equality ignores its edition, so that it shows which of two equal keys is kept.
#[derive(Clone, Copy, Debug)]
struct Key {
    id: u8,
    edition: u32,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Key {}

/// A value that is counted for as long as it lives.
#[derive(Clone, Debug)]
struct Value(u32, #[expect(dead_code, reason = "counted, never read")] Rc<()>);

#[derive(Clone, Debug)]
enum Step {
    Get(u8),
    Peek(u8),
    Update(u8),
    Batch(Vec<u8>),
    Insert(u8, u32, Lifetime),
    Reject(u8),
    Remove(u8),
    RemoveLru,
    SetLifetime(u8, Lifetime),
    /// Asks by predicate, lets another insertion happen meanwhile, then stores by slot or stamp.
    Decide {
        id: u8,
        undecided: bool,
        meanwhile: Option<u8>,
        lifetime: Lifetime,
    },
    BySlot(u8, u8),
    /// Goes on with a walk through all entries that anything else may come between.
    Visit(usize),
    /// The same, and keeps those whose number and this one have no bit in common.
    RetainSome(usize, u8),
    Pass(u64),
    Advance(usize),
    SetBudget(Room),
    TakeSurplus,
    Evict(Room),
    Enforce(usize),
    Donate(Room),
    Clear,
}

struct Pair {
    shard: Shard<Key, Value>,
    model: Model,
    purse: Purse,
    now: Nanos,
    removed: Vec<Removed<Key, Value>>,
    editions: u32,
    witness: Rc<()>,
    walk: Walk,
    /// How often the walk has met each entry that was there when it began.
    met: BTreeMap<u32, usize>,
    /// Whether the budget was lowered below the use.
    lowered: bool,
    /// Whether all entries weigh one, as in most caches.
    plain: bool,
}

fn line(removed: &Removed<Key, Value>) -> Line {
    Line {
        id: removed.key.id,
        edition: removed.key.edition,
        value: removed.value.0,
        weight: removed.weight,
        cause: removed.cause,
    }
}

impl Pair {
    fn new(rules: Rules, plain: bool) -> Self {
        let shard = Shard::new(Config {
            budget: rules.budget,
            time_to_live: rules.time_to_live,
            time_to_idle: rules.time_to_idle,
            capacity_hint: 12,
        });
        Self {
            shard,
            model: Model::new(rules),
            purse: Purse::default(),
            now: Nanos(0),
            removed: Vec::new(),
            editions: 0,
            witness: Rc::new(()),
            walk: Walk::new(),
            met: BTreeMap::new(),
            lowered: false,
            plain,
        }
    }

    fn weight(&self, weight: u32) -> u32 {
        if self.plain { 1 } else { weight }
    }

    fn new_entry(&mut self, id: u8) -> (Key, Value) {
        self.editions += 1;
        (Key { id, edition: self.editions }, Value(self.editions, Rc::clone(&self.witness)))
    }

    fn outcome(insertion: &Insertion<Key, Value>) -> Outcome {
        match insertion {
            Insertion::Inserted => Outcome::Inserted,
            Insertion::Replaced => Outcome::Replaced,
            Insertion::Rejected => Outcome::Rejected,
            Insertion::Short { key, value, missing } => Outcome::Short(key.edition, value.0, *missing),
        }
    }

    fn insert(&mut self, id: u8, weight: u32, lifetime: Lifetime) {
        let weight = self.weight(weight);
        let (key, value) = self.new_entry(id);
        let number = key.edition;
        let Self { shard, purse, removed, now, .. } = self;
        // Alternates between one call and its two parts.
        let got = if number % 2 == 0 {
            shard.insert(hash(id), key, value, weight, lifetime, *now, purse, removed)
        } else {
            match shard.try_insert(hash(id), key, value, weight, lifetime, *now, purse) {
                Err(unstored) => shard.end_insert(unstored, *now, purse, removed),
                Ok(left) => {
                    let replaced = left.as_ref().is_some_and(|left| left.cause == RemovalCause::Replaced);
                    left.into_iter().for_each(|left| removed.push(left));
                    if replaced { Insertion::Replaced } else { Insertion::Inserted }
                }
            }
        };
        let expected = self.model.insert(id, number, weight, lifetime, self.now.0);
        assert_eq!(Self::outcome(&got), expected);
        // An entry that is short of room would fit with what is said to be missing.
        if let Insertion::Short { missing, .. } = got {
            let room = self.shard.budget().saturating_add(missing);
            assert!(Room { entries: 1, weight: u64::from(weight) }.fits_in(room));
        }
        if expected != Outcome::Rejected && !matches!(expected, Outcome::Short(..)) {
            assert!(self.shard.used().fits_in(self.shard.budget()));
        }
    }

    fn slot(&mut self, id: u8) -> Option<Slot> {
        let is_it = |key: &Key| if key.id == id { Match::Equal } else { Match::Different };
        match self.shard.find_by(hash(id), is_it) {
            Finding::Found(slot) => Some(slot),
            Finding::Absent(_) => None,
            Finding::Undecided(_) => panic!("everything could be decided"),
        }
    }

    fn decide(&mut self, id: u8, undecided: bool, meanwhile: Option<u8>, lifetime: Lifetime) {
        let predicate = |key: &Key| match (undecided, key.id == id) {
            (true, _) => Match::Ask,
            (false, true) => Match::Equal,
            (false, false) => Match::Different,
        };
        let now = self.now;
        let finding = self.shard.find_by(hash(id), predicate);
        let (candidates, stamp) = match finding {
            Finding::Found(slot) => {
                assert_eq!(self.shard.key_at(slot).map(|key| key.id), Some(id));
                assert!(self.model.order.contains(&id));
                return;
            }
            Finding::Absent(stamp) => (Vec::new(), stamp),
            Finding::Undecided(undecided) => (undecided.candidates, undecided.stamp),
        };
        let mut ids = Vec::new();
        let mut equal = None;
        for candidate in candidates {
            let slot = self.shard.slot_of(candidate).expect("nothing has happened yet");
            let key = *self.shard.key_at(slot).expect("it is live");
            ids.push(key.id);
            if key.id == id {
                equal = Some(candidate);
            }
        }
        ids.sort_unstable();
        assert_eq!(ids, if undecided { self.model.with_hash(hash(id)) } else { vec![] });
        let inserted = self.model.counters.inserted;
        if let Some(other) = meanwhile {
            self.insert(other, 1, Lifetime::Default);
        }
        let slot = equal.and_then(|candidate| self.shard.slot_of(candidate));
        if let Some(slot) = slot {
            assert_eq!(self.shard.key_at(slot).map(|key| key.id), Some(id));
        }
        let (key, value) = self.new_entry(id);
        let (number, weight) = (key.edition, self.weight(2));
        let Self { shard, purse, removed, .. } = self;
        let got = match (equal, slot) {
            (Some(_), Some(slot)) => shard.replace_slot(slot, key, value, weight, lifetime, now, purse, removed),
            // The entry was removed meanwhile: a real caller asks again.
            (Some(_), None) => return,
            // No candidate was equal, so the key is absent if nothing with such a hash came meanwhile.
            // Otherwise a real caller asks again.
            (None, _) => match shard.find_by(hash(id), |_| Match::Ask) {
                Finding::Absent(again) | Finding::Undecided(Undecided { stamp: again, .. }) if again == stamp => {
                    Ok(shard.insert_absent(hash(id), key, value, weight, lifetime, now, purse, removed))
                }
                _ => Err(Changed { key, value }),
            },
        };
        match got {
            Ok(got) => {
                if equal.is_none() && meanwhile.is_some_and(|other| hash(other) as u32 == hash(id) as u32) {
                    assert_eq!(inserted, self.model.counters.inserted, "an insertion of this hash went unnoticed");
                }
                assert!(equal.is_some() || !self.model.order.contains(&id), "two entries of one key");
                assert_eq!(Self::outcome(&got), self.model.insert(id, number, weight, lifetime, now.0));
            }
            Err(changed) => {
                assert_eq!((changed.key.edition, changed.value.0), (number, number));
                assert_ne!(inserted, self.model.counters.inserted, "refused though nothing was inserted");
            }
        }
    }

    fn step(&mut self, step: Step) {
        let now = self.now;
        // The operations by key push what leaves; what they return is let go here.
        match step {
            Step::Get(id) => {
                let key = Key { id, edition: 0 };
                let got = self.shard.get(hash(id), &key, now, &mut self.removed, |value| value.0);
                assert_eq!(got, self.model.get(id, now.0));
            }
            Step::Peek(id) => {
                let key = Key { id, edition: 0 };
                let entry = self.shard.entry(hash(id), &key, now);
                let seen = entry.map(|e| (e.value.0, e.weight, e.deadline.map(|d| d.0)));
                assert_eq!(seen, self.model.peek(id, now.0));
                let value = self.shard.peek(hash(id), &key, now).map(|value| value.0);
                assert_eq!(value, seen.map(|seen| seen.0));
            }
            Step::Update(id) => {
                let key = Key { id, edition: 0 };
                let got = self.shard.update(hash(id), &key, now, &mut self.removed, |value| {
                    value.0 += 1_000_000;
                    value.0
                });
                assert_eq!(got, self.model.update(id, now.0, |value| value + 1_000_000));
            }
            Step::Batch(ids) => {
                let keys: Vec<Key> = ids.iter().map(|&id| Key { id, edition: 0 }).collect();
                let hashes: Vec<u64> = ids.iter().map(|&id| hash(id)).collect();
                let mut got = Vec::new();
                self.shard.get_batch(
                    &hashes,
                    |i| &keys[i],
                    now,
                    &mut self.removed,
                    |i, value| {
                        assert_eq!(i, got.len());
                        got.push(value.map(|value| value.0));
                    },
                );
                let expected: Vec<_> = ids.iter().map(|&id| self.model.get(id, now.0)).collect();
                assert_eq!(got, expected);
            }
            Step::Insert(id, weight, lifetime) => self.insert(id, weight, lifetime),
            Step::Reject(id) => {
                let (key, value) = self.new_entry(id);
                self.model.reject(id, key.edition, 9, now.0);
                self.shard.reject(hash(id), key, value, 9, now, &mut self.removed);
            }
            Step::Remove(id) => {
                let key = Key { id, edition: 0 };
                let got = self.shard.remove(hash(id), &key, now, &mut self.removed);
                assert_eq!(got.map(|(key, value)| (key.edition, value.0)), self.model.remove(id, now.0));
            }
            Step::RemoveLru => {
                let got = self.shard.remove_lru(now, &mut self.removed);
                let got = got.map(|(key, value)| (key.edition, value.0));
                assert_eq!(got, self.model.remove_lru(now.0));
            }
            Step::SetLifetime(id, lifetime) => {
                let key = Key { id, edition: 0 };
                let got = self.shard.set_lifetime(hash(id), &key, lifetime, now, &mut self.removed);
                assert_eq!(got, self.model.set_lifetime(id, lifetime, now.0));
            }
            Step::Decide { id, undecided, meanwhile, lifetime } => {
                self.decide(id, undecided, meanwhile, lifetime);
            }
            Step::BySlot(id, which) => self.by_slot(id, which),
            Step::Visit(most) => self.visit(most),
            Step::RetainSome(most, unwanted) => self.retain_some(most, unwanted),
            Step::Pass(span) => self.now = Nanos(now.0.saturating_add(span)),
            Step::Advance(budget) => self.advance(budget),
            Step::SetBudget(budget) => {
                self.shard.set_budget(budget);
                self.model.rules.budget = budget;
                self.lowered = !self.shard.used().fits_in(budget);
            }
            Step::TakeSurplus => assert_eq!(self.shard.take_surplus(), self.model.take_surplus()),
            Step::Evict(wanted) => {
                assert_eq!(self.shard.evict(wanted, &mut self.removed), self.model.evict(wanted));
            }
            Step::Enforce(max) => {
                assert_eq!(self.shard.enforce_budget(max, &mut self.removed), self.model.enforce(max));
            }
            Step::Donate(room) => {
                self.purse = Purse(room);
                self.model.purse = Purse(room);
            }
            Step::Clear => {
                let contents = self.shard.clear();
                assert_eq!(contents.weight(), self.model.used().weight);
                self.model.clear();
                self.removed.extend(contents);
            }
        }
        self.compare();
    }

    fn by_slot(&mut self, id: u8, which: u8) {
        let now = self.now;
        let Some(slot) = self.slot(id) else {
            return assert!(!self.model.order.contains(&id));
        };
        match which % 4 {
            0 => {
                let got = self.shard.hit_slot(slot, now, &mut self.removed, |value| value.0);
                assert_eq!(got, self.model.get(id, now.0));
            }
            1 => {
                let got = self.shard.remove_slot(slot, now, &mut self.removed);
                assert_eq!(got.map(|(key, value)| (key.edition, value.0)), self.model.remove(id, now.0));
            }
            2 => {
                let seen = self.shard.entry_at(slot, now).map(|e| (e.value.0, e.weight, e.deadline.map(|d| d.0)));
                assert_eq!(seen, self.model.peek(id, now.0));
            }
            _ => {
                let lifetime = Lifetime::For(77);
                let got = self.shard.set_lifetime_slot(slot, lifetime, now, &mut self.removed);
                assert_eq!(got, self.model.set_lifetime(id, lifetime, now.0));
            }
        }
    }

    fn visit(&mut self, most: usize) {
        self.begin_walk();
        let Self { shard, walk, met, model, .. } = self;
        shard.visit(walk, most, |_, entry| {
            let seen = (entry.key.id, entry.key.edition, entry.value.0, entry.weight, entry.deadline.map(|d| d.0));
            assert!(model.contents().contains(&seen), "{seen:?} is not there");
            if let Some(times) = met.get_mut(&seen.1) {
                *times += 1;
            }
        });
        self.end_walk();
    }

    /// In which order it goes is not specified, so what left is compared as a set.
    fn retain_some(&mut self, most: usize, unwanted: u8) {
        self.begin_walk();
        let Self { shard, walk, met, now, removed, .. } = self;
        let wanted = |value: u32| value & u32::from(unwanted) == 0;
        let mut judged = Vec::new();
        let keep = |entry: EntryRef<'_, Key, Value>| {
            judged.push(entry.key.id);
            met.entry(entry.key.edition).and_modify(|times| *times += 1);
            wanted(entry.value.0)
        };
        let count = shard.retain_some(walk, most, *now, keep, removed);
        assert!(judged.iter().all(|&id| self.model.is_live(id, now.0)), "it was asked of a dead one");
        assert_eq!(count, removed.iter().filter(|removed| removed.cause == RemovalCause::Explicit).count());
        for removed in removed {
            match removed.cause {
                RemovalCause::Expired => self.model.expire(removed.key.id, now.0),
                _ => {
                    assert!(!wanted(removed.value.0) && judged.contains(&removed.key.id));
                    let entry = self.model.remove(removed.key.id, now.0);
                    self.model.out.push(line(removed));
                    assert_eq!(entry, Some((removed.key.edition, removed.value.0)));
                }
            }
        }
        let unwanted = self.model.contents().into_iter().filter(|seen| judged.contains(&seen.0) && !wanted(seen.2));
        assert_eq!(unwanted.count(), 0, "something unwanted was kept");
        self.end_walk();
    }

    fn begin_walk(&mut self) {
        if self.walk == Walk::new() {
            self.met = self.shard.entries().map(|entry| (entry.key.edition, 0)).collect();
        }
    }

    fn end_walk(&mut self) {
        assert!(self.met.values().all(|&times| times <= 1), "an entry was met twice");
        if self.walk.is_over() {
            let missed = |entry: &EntryRef<'_, Key, Value>| self.met.get(&entry.key.edition) == Some(&0);
            assert_eq!(self.shard.entries().find(missed).map(|entry| *entry.key), None, "it was not met");
            self.walk = Walk::new();
        }
    }

    /// Which of the due entries go first is not specified, so they are compared as a set.
    fn advance(&mut self, budget: usize) {
        let progress = self.shard.advance(self.now, budget, &mut self.removed);
        assert_eq!(progress.expired, self.removed.len());
        assert!(progress.expired <= budget);
        for removed in &self.removed {
            self.model.expire(removed.key.id, self.now.0);
        }
        if !progress.more {
            assert_eq!(self.model.first_deadline().filter(|&deadline| deadline <= self.now.0), None);
            assert!(budget == 0 || self.shard.quiet_until() > self.now || self.now == Nanos::MAX, "it comes to no end");
        }
    }

    fn compare(&mut self) {
        self.shard.validate();
        let got: Vec<Line> = self.removed.iter().map(line).collect();
        assert_eq!(got, self.model.out);
        let here = self.shard.len() + self.removed.len();
        assert_eq!(Rc::strong_count(&self.witness) - 1, here, "an entry was lost or doubled");
        self.removed.clear();
        self.model.out.clear();

        let order: Vec<_> = self
            .shard
            .iter()
            .map(|e| (e.key.id, e.key.edition, e.value.0, e.weight, e.deadline.map(|d| d.0)))
            .collect();
        assert_eq!(order, self.model.contents());
        assert_eq!(self.shard.len(), self.model.order.len());
        assert_eq!(self.shard.used(), self.model.used());
        assert_eq!(self.shard.budget(), self.model.rules.budget);
        assert_eq!(self.purse, self.model.purse);
        assert_eq!(self.shard.counters(), self.model.counters);
        assert!(self.lowered || self.shard.used().fits_in(self.shard.budget()), "above the budget");
        let first = self.model.first_deadline();
        assert_eq!(self.shard.has_deadlines(), first.is_some());
        assert!(self.shard.next_deadline().map(|next| next.0) <= first);
        assert!(first.is_none_or(|first| self.shard.quiet_until().0 <= first));
        self.shard.validate();
    }
}

fn id() -> impl Strategy<Value = u8> {
    prop_oneof![3 => 0u8..8, 1 => 0u8..90]
}

fn span() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0u64..30, 2 => 0u64..5_000, 1 => (0u32..64, any::<u64>()).prop_map(|(bits, n)| n >> bits)]
}

fn lifetime() -> impl Strategy<Value = Lifetime> {
    prop_oneof![6 => Just(Lifetime::Default), 1 => Just(Lifetime::Forever), 4 => span().prop_map(Lifetime::For)]
}

fn room() -> impl Strategy<Value = Room> {
    (0u64..20, 0u64..80).prop_map(|(entries, weight)| Room { entries, weight })
}

fn weight() -> impl Strategy<Value = u32> {
    prop_oneof![6 => Just(1u32), 3 => 0u32..10, 1 => 0u32..90]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => id().prop_map(Step::Get),
        2 => id().prop_map(Step::Peek),
        2 => id().prop_map(Step::Update),
        2 => prop::collection::vec(id(), 0..80).prop_map(Step::Batch),
        30 => (id(), weight(), lifetime()).prop_map(|(id, weight, lifetime)| Step::Insert(id, weight, lifetime)),
        1 => id().prop_map(Step::Reject),
        4 => id().prop_map(Step::Remove),
        1 => Just(Step::RemoveLru),
        4 => (id(), lifetime()).prop_map(|(id, lifetime)| Step::SetLifetime(id, lifetime)),
        5 => (id(), any::<bool>(), prop::option::of(id()), lifetime())
            .prop_map(|(id, undecided, meanwhile, lifetime)| Step::Decide { id, undecided, meanwhile, lifetime }),
        3 => (id(), any::<u8>()).prop_map(|(id, which)| Step::BySlot(id, which)),
        4 => prop_oneof![0usize..5, Just(1000)].prop_map(Step::Visit),
        2 => (prop_oneof![0usize..5, Just(1000)], prop_oneof![1 => any::<u8>(), 3 => (0u32..8).prop_map(|bit| 1 << bit)])
            .prop_map(|(most, unwanted)| Step::RetainSome(most, unwanted)),
        10 => prop_oneof![9 => 0u64..20, 1 => span().prop_map(|span| span >> 6)].prop_map(Step::Pass),
        6 => prop_oneof![0usize..4, Just(1000)].prop_map(Step::Advance),
        1 => prop_oneof![1 => Just(Room::UNLIMITED), 4 => room()].prop_map(Step::SetBudget),
        1 => Just(Step::TakeSurplus),
        1 => (0u64..3, 0u64..20).prop_map(|(entries, weight)| Step::Evict(Room { entries, weight })),
        1 => (0usize..5).prop_map(Step::Enforce),
        2 => (0u64..4, 0u64..9).prop_map(|(entries, weight)| Step::Donate(Room { entries, weight })),
        1 => Just(Step::Clear),
    ]
}

fn rules() -> impl Strategy<Value = Rules> {
    let budget = prop_oneof![
        Just(Room::UNLIMITED),
        (1u64..20).prop_map(Room::for_entries),
        (1u64..80).prop_map(Room::for_weight),
        room(),
    ];
    let time = || prop_oneof![5 => Just(None), 4 => (1u64..60).prop_map(Some), 1 => prop_oneof![Just(0), span()].prop_map(Some)];
    (budget, time(), time()).prop_map(|(budget, time_to_live, time_to_idle)| Rules {
        budget,
        time_to_live,
        time_to_idle,
    })
}

proptest! {
    #[test]
    fn the_shard_agrees_with_a_naive_reference(
        rules in rules(),
        plain in any::<bool>(),
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let mut pair = Pair::new(rules, plain);
        for step in steps {
            pair.step(step);
        }
        let Pair { shard, witness, .. } = pair;
        drop(shard);
        prop_assert_eq!(Rc::strong_count(&witness), 1, "a value outlived the shard");
    }
}
