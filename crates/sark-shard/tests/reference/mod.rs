//! The naive reference: a map, a vector in order of use, and a sorted set of deadlines. It is obvious, and
//! slow.

use std::collections::{BTreeSet, HashMap};

use sark_shard::{Counters, Lifetime, Pool, RemovalCause, Room};

/// A hash as bad as can be for an index. Up to three keys share each hash, and all searches begin in the same
/// line and go on from line to line. (`large.rs` has well-mixed hashes.)
pub fn hash(id: u8) -> u64 {
    u64::from(id % 37)
}

/// An entry that was handed back.
#[derive(Debug, PartialEq)]
pub struct Line {
    pub id: u8,
    pub edition: u32,
    pub value: u32,
    pub weight: u32,
    pub cause: RemovalCause,
}

#[derive(Debug, PartialEq)]
pub enum Outcome {
    Inserted,
    Replaced,
    Rejected,
    Short(u32, u32, Room),
}

/// A pool that gives what it has, even if that is less than was wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Purse(pub Room);

impl Pool for Purse {
    fn take(&mut self, wanted: Room) -> Room {
        let given = wanted.min(self.0);
        self.0 = self.0.saturating_sub(given);
        given
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub budget: Room,
    pub time_to_live: Option<u64>,
    pub time_to_idle: Option<u64>,
}

struct Entry {
    edition: u32,
    value: u32,
    weight: u32,
    fixed: u64,
    accessed: u64,
}

type Seen = (u8, u32, u32, u32, Option<u64>);

pub struct Model {
    pub rules: Rules,
    pub purse: Purse,
    pub counters: Counters,
    pub out: Vec<Line>,
    /// The keys, least recently used first.
    pub order: Vec<u8>,
    entries: HashMap<u8, Entry>,
    deadlines: BTreeSet<(u64, u8)>,
}

impl Model {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            purse: Purse::default(),
            counters: Counters::default(),
            out: Vec::new(),
            order: Vec::new(),
            entries: HashMap::new(),
            deadlines: BTreeSet::new(),
        }
    }

    pub fn used(&self) -> Room {
        let weight = self.entries.values().map(|entry| u64::from(entry.weight)).sum();
        Room { entries: self.entries.len() as u64, weight }
    }

    pub fn contents(&self) -> Vec<Seen> {
        let see = |id: &u8| {
            let entry = &self.entries[id];
            let deadline = Some(self.deadline(*id)).filter(|&deadline| deadline != u64::MAX);
            (*id, entry.edition, entry.value, entry.weight, deadline)
        };
        self.order.iter().map(see).collect()
    }

    pub fn first_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    pub fn is_live(&self, id: u8, now: u64) -> bool {
        self.entries.contains_key(&id) && now.min(u64::MAX - 1) < self.deadline(id)
    }

    pub fn with_hash(&self, hash: u64) -> Vec<u8> {
        let same = |id: &u8| self::hash(*id) as u32 == hash as u32;
        let mut ids: Vec<u8> = self.order.iter().copied().filter(same).collect();
        ids.sort_unstable();
        ids
    }

    pub fn peek(&self, id: u8, now: u64) -> Option<(u32, u32, Option<u64>)> {
        let entry = self.entries.get(&id).filter(|_| self.is_live(id, now))?;
        let deadline = Some(self.deadline(id)).filter(|&deadline| deadline != u64::MAX);
        Some((entry.value, entry.weight, deadline))
    }

    pub fn get(&mut self, id: u8, now: u64) -> Option<u32> {
        self.update(id, now, |value| value)
    }

    pub fn update(&mut self, id: u8, now: u64, f: impl Fn(u32) -> u32) -> Option<u32> {
        if !self.is_live(id, now) {
            self.counters.misses += 1;
            if self.take(id, RemovalCause::Expired) {
                self.counters.expired_on_get += 1;
            }
            return None;
        }
        self.counters.hits += 1;
        self.promote(id);
        self.change(id, |entry| {
            entry.accessed = entry.accessed.max(now);
            entry.value = f(entry.value);
        });
        Some(self.entries[&id].value)
    }

    pub fn insert(&mut self, id: u8, number: u32, weight: u32, lifetime: Lifetime, now: u64) -> Outcome {
        self.expire_if_dead(id, now);
        let Some(fixed) = self.fixed(lifetime, now) else {
            self.take(id, RemovalCause::Replaced);
            self.hand_back_new(id, number, weight);
            return Outcome::Rejected;
        };
        let new = Room { entries: 1, weight: u64::from(weight) };
        let old = match self.entries.get(&id) {
            Some(entry) => Room { entries: 1, weight: u64::from(entry.weight) },
            None => Room::NONE,
        };
        let goal = |model: &Self| model.used().saturating_sub(old).saturating_add(new);
        let excess = goal(self).saturating_sub(self.rules.budget);
        let given = self.purse.take(excess.min(new.saturating_sub(old)));
        self.rules.budget = self.rules.budget.saturating_add(given);
        if !new.fits_in(self.rules.budget) {
            return Outcome::Short(number, number, new.saturating_sub(self.rules.budget));
        }
        while !goal(self).fits_in(self.rules.budget) {
            let oldest = *self.order.iter().find(|&&other| other != id).expect("the new entry alone fits");
            self.take(oldest, RemovalCause::Size);
        }
        if !old.is_none() {
            self.promote(id);
            let (mut value, mut old_weight) = (number, weight);
            self.change(id, |entry| {
                core::mem::swap(&mut entry.value, &mut value);
                core::mem::swap(&mut entry.weight, &mut old_weight);
                (entry.fixed, entry.accessed) = (fixed, now);
            });
            self.counters.replaced += 1;
            let cause = RemovalCause::Replaced;
            self.out.push(Line { id, edition: number, value, weight: old_weight, cause });
            Outcome::Replaced
        } else {
            self.entries.insert(id, Entry { edition: number, value: number, weight, fixed, accessed: now });
            self.order.push(id);
            self.change(id, |_| ());
            self.counters.inserted += 1;
            Outcome::Inserted
        }
    }

    pub fn reject(&mut self, id: u8, number: u32, weight: u32, now: u64) {
        self.expire_if_dead(id, now);
        self.take(id, RemovalCause::Replaced);
        self.hand_back_new(id, number, weight);
    }

    pub fn remove(&mut self, id: u8, now: u64) -> Option<(u32, u32)> {
        self.expire_if_dead(id, now);
        let entry = self.forget(id)?;
        self.counters.explicit += 1;
        Some((entry.edition, entry.value))
    }

    pub fn remove_lru(&mut self, now: u64) -> Option<(u32, u32)> {
        loop {
            let id = *self.order.first()?;
            if let Some(entry) = self.remove(id, now) {
                return Some(entry);
            }
        }
    }

    pub fn set_lifetime(&mut self, id: u8, lifetime: Lifetime, now: u64) -> bool {
        self.expire_if_dead(id, now);
        if !self.entries.contains_key(&id) {
            return false;
        }
        match self.fixed(lifetime, now) {
            Some(fixed) => self.change(id, |entry| entry.fixed = fixed),
            None => drop(self.take(id, RemovalCause::Expired)),
        }
        true
    }

    /// Expires one entry that is due.
    pub fn expire(&mut self, id: u8, now: u64) {
        assert!(!self.is_live(id, now), "{id} expired before its time");
        assert!(self.take(id, RemovalCause::Expired));
    }

    pub fn take_surplus(&mut self) -> Room {
        let surplus = self.rules.budget.saturating_sub(self.used());
        self.rules.budget = self.rules.budget.saturating_sub(surplus);
        surplus
    }

    pub fn evict(&mut self, wanted: Room) -> Room {
        let before = self.used();
        while !wanted.fits_in(before.saturating_sub(self.used())) && !self.order.is_empty() {
            self.take(self.order[0], RemovalCause::Size);
        }
        before.saturating_sub(self.used())
    }

    pub fn enforce(&mut self, max: usize) -> bool {
        for _ in 0..max {
            if !self.used().fits_in(self.rules.budget) {
                self.take(self.order[0], RemovalCause::Size);
            }
        }
        self.used().fits_in(self.rules.budget)
    }

    pub fn clear(&mut self) {
        for id in self.order.clone() {
            self.take(id, RemovalCause::Explicit);
        }
    }

    fn fixed(&self, lifetime: Lifetime, now: u64) -> Option<u64> {
        let nanos = match lifetime {
            Lifetime::Default => self.rules.time_to_live.unwrap_or(u64::MAX),
            Lifetime::Forever => u64::MAX,
            Lifetime::For(nanos) => nanos,
        };
        let kept = nanos != 0 && self.rules.time_to_idle != Some(0);
        kept.then(|| now.saturating_add(nanos))
    }

    fn deadline(&self, id: u8) -> u64 {
        let entry = &self.entries[&id];
        let idle = self.rules.time_to_idle.map_or(u64::MAX, |span| entry.accessed.saturating_add(span));
        entry.fixed.min(idle)
    }

    fn change(&mut self, id: u8, f: impl FnOnce(&mut Entry)) {
        self.deadlines.retain(|&(_, other)| other != id);
        f(self.entries.get_mut(&id).expect("it is there"));
        let deadline = self.deadline(id);
        if deadline != u64::MAX {
            self.deadlines.insert((deadline, id));
        }
    }

    fn promote(&mut self, id: u8) {
        self.order.retain(|&other| other != id);
        self.order.push(id);
    }

    fn expire_if_dead(&mut self, id: u8, now: u64) {
        if !self.is_live(id, now) {
            self.take(id, RemovalCause::Expired);
        }
    }

    fn forget(&mut self, id: u8) -> Option<Entry> {
        self.order.retain(|&other| other != id);
        self.deadlines.retain(|&(_, other)| other != id);
        self.entries.remove(&id)
    }

    fn take(&mut self, id: u8, cause: RemovalCause) -> bool {
        let Some(entry) = self.forget(id) else { return false };
        match cause {
            RemovalCause::Expired => self.counters.expired += 1,
            RemovalCause::Explicit => self.counters.explicit += 1,
            RemovalCause::Replaced => self.counters.replaced += 1,
            RemovalCause::Size => self.counters.evicted += 1,
            RemovalCause::Rejected => unreachable!("it was stored"),
        }
        let Entry { edition, value, weight, .. } = entry;
        self.out.push(Line { id, edition, value, weight, cause });
        true
    }

    fn hand_back_new(&mut self, id: u8, number: u32, weight: u32) {
        self.counters.rejected += 1;
        let cause = RemovalCause::Rejected;
        self.out.push(Line { id, edition: number, value: number, weight, cause });
    }
}
