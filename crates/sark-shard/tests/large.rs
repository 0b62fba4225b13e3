//! Shards too large for the model of `model.rs`, with many candidates for eviction that are searched for in
//! slices. Their order of eviction must still be that of a naive LRU.

use std::collections::{BTreeMap, HashMap};

use sark_shard::{Config, Insertion, Lifetime, Nanos, NoPool, RemovalCause, Removed, Room, Shard};

/// splitmix64.
fn mix(key: u64) -> u64 {
    let z = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// When each key was used last, and the keys in that order.
#[derive(Default)]
struct Naive {
    used: HashMap<u64, u64>,
    order: BTreeMap<u64, u64>,
    time: u64,
}

impl Naive {
    /// Returns false if the key was not there.
    fn remove(&mut self, key: u64) -> bool {
        self.used.remove(&key).is_some_and(|time| self.order.remove(&time).is_some())
    }

    fn put(&mut self, key: u64) {
        self.remove(key);
        self.time += 1;
        self.used.insert(key, self.time);
        self.order.insert(self.time, key);
    }

    fn oldest(&self) -> Option<u64> {
        self.order.values().next().copied()
    }
}

fn walk(entries: u64, capacity_hint: usize, keys: u64, hits_of_100: u64) {
    let config = Config { budget: Room::for_entries(entries), capacity_hint, ..Config::default() };
    let (mut shard, mut naive) = (Shard::<u64, u64>::new(config), Naive::default());
    for step in 0..30_000 {
        let dice = mix(step ^ entries << 32 ^ hits_of_100 << 50);
        // Three of four keys are picked with a preference for the lower ones.
        let key = if dice.is_multiple_of(4) { mix(dice) % keys } else { mix(dice) % keys * (mix(!dice) % keys) / keys };
        let (hash, now) = (mix(key), Nanos(0));
        let mut out: Vec<Removed<u64, u64>> = Vec::new();
        match mix(dice + 1) % 100 {
            roll if roll < hits_of_100 => {
                let found = shard.get(hash, &key, now, &mut out, |value| *value);
                assert_eq!(found.is_some(), naive.used.contains_key(&key));
                if found.is_some() {
                    naive.put(key);
                }
            }
            94 => {
                let oldest = naive.oldest();
                shard.evict(Room { entries: 1, weight: 0 }, &mut out);
                assert_eq!(out.first().map(|removed| removed.key), oldest);
                oldest.map(|key| naive.remove(key));
            }
            95 if dice.is_multiple_of(16) => {
                shard.set_budget(Room::for_entries(entries / 2));
                while !shard.enforce_budget(7, &mut out) {}
                for removed in out {
                    assert_eq!(Some(removed.key), naive.oldest());
                    naive.remove(removed.key);
                }
                shard.set_budget(config.budget);
            }
            97 => assert_eq!(shard.remove(hash, &key, now, &mut out).is_some(), naive.remove(key)),
            98 => {
                let oldest = naive.oldest();
                assert_eq!(shard.remove_lru(now, &mut out).map(|(key, _)| key), oldest);
                oldest.map(|key| naive.remove(key));
            }
            _ => {
                let outcome = shard.insert(hash, key, key, 1, Lifetime::Forever, now, &mut NoPool, &mut out);
                assert_eq!(outcome == Insertion::Replaced, naive.used.contains_key(&key));
                let evicted = out.iter().filter(|removed| removed.cause == RemovalCause::Size);
                for removed in evicted {
                    assert_eq!(Some(removed.key), naive.oldest());
                    naive.remove(removed.key);
                }
                naive.put(key);
            }
        }
        if step % 5000 == 0 {
            shard.validate();
        }
    }
    shard.validate();
    assert!(shard.iter().map(|entry| *entry.key).eq(naive.order.values().copied()));
}

#[test]
fn the_order_of_a_large_shard_is_that_of_a_naive_lru() {
    for (entries, capacity_hint) in [(30, 0), (500, 500), (1500, 0), (3000, 3000), (9000, 0)] {
        for hits_of_100 in [30, 90] {
            walk(entries, capacity_hint, entries * 3 / 2, hits_of_100);
            walk(entries, capacity_hint, entries * 9 / 10, hits_of_100);
        }
    }
}
