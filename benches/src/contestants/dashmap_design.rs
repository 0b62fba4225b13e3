//! `dashmap-design`: the design that this project replaces, built as well as possible.
//!
//! It is a `DashMap` whose entries know when they were stored, for how long, and when they were last asked
//! for. A get reads the clock once, for both expiry and last access. An expired entry leaves when a get meets
//! it, and not before. At capacity, an insert scans every entry for the one whose last access is the oldest.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;

use super::clock::{Clock, nanoseconds};
use super::{Absent, Capacity, Contestant, Expiring, Found, Hasher, Key, Plan, Updating, Value, hasher};

struct Entry<V> {
    value: V,
    inserted_at: u64,
    time_to_live: u64,
    /// Nanoseconds of the machine's clock since the cache was built.
    last_access: AtomicU64,
}

impl<V> Entry<V> {
    fn is_dead(&self, now: u64) -> bool {
        now.saturating_sub(self.inserted_at) >= self.time_to_live
    }
}

/// The cache. With `HAND`, entries expire on a clock that the workload moves.
pub struct DashmapDesign<K, V, const HAND: bool> {
    map: DashMap<K, Entry<V>, Hasher>,
    capacity: usize,
    time_to_live: u64,
    built: Instant,
    workload_clock: Clock,
}

impl<K: Key, V: Value, const HAND: bool> DashmapDesign<K, V, HAND> {
    /// Returns the current time for last access, and the current time for expiry.
    #[inline]
    fn now(&self) -> (u64, u64) {
        let access = nanoseconds(self.built.elapsed());
        (access, if HAND { self.workload_clock.now() } else { access })
    }

    fn evict_oldest(&self) {
        let mut oldest: Option<(u64, K)> = None;
        for entry in self.map.iter() {
            let last_access = entry.last_access.load(Ordering::Relaxed);
            if oldest.as_ref().is_none_or(|(before, _)| last_access < *before) {
                oldest = Some((last_access, entry.key().clone()));
            }
        }
        if let Some((_, key)) = oldest {
            self.map.remove(&key);
        }
    }
}

impl<K: Key, V: Value, const HAND: bool> Contestant<K, V> for DashmapDesign<K, V, HAND> {
    fn build(plan: &Plan) -> Result<Self, Absent> {
        let Capacity::Entries(capacity) = plan.capacity else {
            return Err(Absent("it bounds entries, not bytes".into()));
        };
        let capacity = capacity as usize;
        // The map's shards only concern locking: the scan covers all of them.
        let map = DashMap::with_capacity_and_hasher(capacity, hasher());
        let time_to_live = plan.time_to_live.map_or(u64::MAX, nanoseconds);
        Ok(Self { map, capacity, time_to_live, built: Instant::now(), workload_clock: Clock::hand() })
    }

    #[inline]
    fn get(&self, key: &K) -> Option<V> {
        match self.look_up(key) {
            Found::Live(value) => Some(value),
            Found::Dead | Found::Nothing => None,
        }
    }

    fn insert(&self, key: K, value: V) {
        self.insert_with_ttl(key, value, Duration::from_nanos(self.time_to_live));
    }

    fn remove(&self, key: &K) -> bool {
        self.map.remove(key).is_some()
    }

    fn entries(&self) -> u64 {
        self.map.len() as u64
    }

    fn expiry(&self) -> &'static str {
        if HAND { "its own, checked on get against the workload's clock" } else { "its own, checked on get" }
    }
}

impl<K: Key, V: Value, const HAND: bool> Expiring<K, V> for DashmapDesign<K, V, HAND> {
    fn insert_with_ttl(&self, key: K, value: V, ttl: Duration) {
        if self.map.len() >= self.capacity && !self.map.contains_key(&key) {
            self.evict_oldest();
        }
        let (access, inserted_at) = self.now();
        let time_to_live = nanoseconds(ttl);
        self.map.insert(key, Entry { value, inserted_at, time_to_live, last_access: AtomicU64::new(access) });
    }

    #[inline]
    fn look_up(&self, key: &K) -> Found<V> {
        let Some(entry) = self.map.get(key) else { return Found::Nothing };
        let (access, now) = self.now();
        if entry.is_dead(now) {
            drop(entry);
            self.map.remove_if(key, |_, entry| entry.is_dead(now));
            return Found::Dead;
        }
        entry.last_access.store(access, Ordering::Relaxed);
        Found::Live(entry.value.clone())
    }

    fn set_time(&self, now: Duration) {
        self.workload_clock.set(now);
    }
}

impl<K: Key, V: Value> Updating<K, V> for DashmapDesign<K, V, false> {
    /// Does not update the last access as look-ups do, so that this is what a plain `DashMap` does.
    #[inline]
    fn update(&self, key: &K, change: impl Fn(&mut V) + Send + Sync) -> bool {
        self.map.get_mut(key).map(|mut entry| change(&mut entry.value)).is_some()
    }

    fn update_is(&self) -> &'static str {
        "DashMap::get_mut, without noting the last access"
    }
}
