//! An exact LRU with deadlines, written to be obviously correct: three ordered maps and nothing clever.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sark_bench::contestants::{Capacity, Reclaim};
use sark_bench::scenarios::replay::{Question, TimeToLive};
use sark_bench::trace::Operation;

/// The counts of one pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub hits: u64,
    pub misses: u64,
    /// Gets that found an expired entry.
    pub expired: u64,
    /// Expired entries that left without a get.
    pub reclaimed: u64,
    pub evicted: u64,
}

#[derive(Clone, Copy)]
struct Entry {
    used: u64,
    deadline: u64,
    weight: u64,
}

#[derive(Default)]
struct Naive {
    entries: HashMap<u64, Entry>,
    by_use: BTreeMap<u64, u64>,
    by_deadline: BTreeSet<(u64, u64)>,
    weight: u64,
    uses: u64,
}

impl Naive {
    fn remove(&mut self, key: u64) {
        let entry = self.entries.remove(&key).expect("it is there");
        self.by_use.remove(&entry.used);
        self.by_deadline.remove(&(entry.deadline, key));
        self.weight -= entry.weight;
    }

    fn use_now(&mut self, key: u64) {
        self.uses += 1;
        let entry = self.entries.get_mut(&key).expect("it is there");
        self.by_use.remove(&entry.used);
        entry.used = self.uses;
        self.by_use.insert(self.uses, key);
    }

    fn add(&mut self, key: u64, deadline: u64, weight: u64) {
        self.uses += 1;
        self.entries.insert(key, Entry { used: self.uses, deadline, weight });
        self.by_use.insert(self.uses, key);
        self.by_deadline.insert((deadline, key));
        self.weight += weight;
    }
}

/// Replays the whole trace.
pub fn replay(question: &Question, capacity: Capacity) -> Outcome {
    let mut outcome = Outcome::default();
    let mut cache = Naive::default();
    for request in &question.trace.requests {
        assert_eq!(request.operation, Operation::Get, "the reference only knows gets");
        let (key, now) = (request.key, request.at);
        if question.reclaim == Reclaim::Prompt {
            while let Some(&(deadline, dead)) = cache.by_deadline.first().filter(|(deadline, _)| *deadline <= now) {
                assert!(deadline <= now);
                cache.remove(dead);
                outcome.reclaimed += 1;
            }
        }
        match cache.entries.get(&key) {
            Some(entry) if now < entry.deadline => {
                cache.use_now(key);
                outcome.hits += 1;
                continue;
            }
            Some(_) => {
                cache.remove(key);
                outcome.expired += 1;
            }
            None => {}
        }
        outcome.misses += 1;
        let deadline = match (question.ttl, request.ttl) {
            (TimeToLive::Off, _) => u64::MAX,
            (TimeToLive::Recorded, None | Some(0)) => continue,
            (TimeToLive::Recorded, Some(ttl)) => now + ttl,
        };
        let (weight, bound) = match capacity {
            Capacity::Entries(entries) => (1, entries),
            Capacity::Bytes(bytes) => (u64::from(request.size), bytes),
        };
        if weight > bound {
            continue;
        }
        while cache.weight + weight > bound {
            let (_, &oldest) = cache.by_use.first_key_value().expect("something weighs that much");
            cache.remove(oldest);
            outcome.evicted += 1;
        }
        cache.add(key, deadline, weight);
    }
    outcome
}
