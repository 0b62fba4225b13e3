//! `sark-cache` under both dispatches, and one bare shard of it for replays in which expired entries keep
//! their places.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sark_cache::{Cache, Clock, Dispatch, Hands};
use sark_shard::{Config, Insertion, Lifetime, Nanos, NoPool, Removed, Room, Shard};
use serde_json::json;

use super::clock::nanoseconds;
use super::{
    Absent, Capacity, Contestant, Departures, Expiring, Found, Hasher, Key, Plan, Reclaim, Reclaiming, Updating, Value,
    hasher,
};
use crate::measure::Fields;

/// The cache. With `HAND`, the workload moves its clock.
pub struct Sark<K, V, const PER_CORE: bool, const HAND: bool>
where
    K: Key,
    V: Value,
{
    cache: Cache<K, V, Hasher>,
    hands: Hands,
}

impl<K: Key, V: Value, const PER_CORE: bool, const HAND: bool> Contestant<K, V> for Sark<K, V, PER_CORE, HAND> {
    fn build(plan: &Plan) -> Result<Self, Absent> {
        if HAND && plan.reclaim == Reclaim::Lazy {
            return Err(Absent("expired entries only keep their places on one bare shard".into()));
        }
        let (clock, hands) = Clock::manual();
        let mut builder = Cache::builder()
            .dispatch(if PER_CORE { Dispatch::PerCore } else { Dispatch::Adaptive })
            .clock(if HAND { clock } else { Clock::system() });
        builder = match plan.capacity {
            Capacity::Entries(entries) => builder.max_capacity(entries),
            Capacity::Bytes(bytes) => builder.max_capacity(bytes).weigher(|_, value: &V| value.weigh()),
        };
        if let Some(shards) = plan.shards {
            builder = builder.shards(shards);
        }
        if let Some(ttl) = plan.time_to_live {
            builder = builder.time_to_live(ttl);
        }
        let cache = builder.hasher(hasher()).build().map_err(|error| Absent(error.to_string()))?;
        Ok(Self { cache, hands })
    }

    #[inline]
    fn get(&self, key: &K) -> Option<V> {
        self.cache.get(key)
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.cache.insert(key, value);
    }

    fn remove(&self, key: &K) -> bool {
        self.cache.remove(key).is_some()
    }

    fn entries(&self) -> u64 {
        self.cache.run_pending_tasks();
        self.cache.entry_count()
    }

    fn departures(&self) -> Option<Departures> {
        let stats = self.cache.stats();
        Some(Departures {
            evicted: stats.evicted,
            expired_on_get: stats.expired_on_get,
            reclaimed: stats.expired - stats.expired_on_get,
        })
    }

    fn expiry(&self) -> &'static str {
        if HAND { "its own, reclaimed as the workload's clock moves" } else { "its own" }
    }

    fn remarks(&self) -> Fields {
        let served = self.cache.stats().dispatch;
        let mut fields = Fields::new();
        fields.insert("shards".into(), self.cache.shard_count().into());
        fields.insert(
            "dispatch".into(),
            json!({
                "in_place": served.in_place,
                "delegated": served.delegated,
                "posted": served.posted,
                "by_worker": served.by_worker,
                "parked": served.parked,
            }),
        );
        fields
    }

    fn insert_many(&self, entries: impl IntoIterator<Item = (K, V)>) {
        const BATCH: usize = 4096;
        let mut entries = entries.into_iter();
        loop {
            let batch: Vec<(K, V)> = entries.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return;
            }
            self.cache.insert_many(batch);
        }
    }

    #[inline]
    fn get_many(&self, keys: &[K], each: impl FnMut(Option<V>)) {
        self.cache.get_many(keys).into_iter().for_each(each);
    }
}

impl<K: Key, V: Value, const PER_CORE: bool> Updating<K, V> for Sark<K, V, PER_CORE, false> {
    #[inline]
    fn update(&self, key: &K, change: impl Fn(&mut V) + Send + Sync) -> bool {
        self.cache.update(key, change).is_some()
    }

    fn update_is(&self) -> &'static str {
        "update"
    }
}

impl<K: Key, V: Value, const PER_CORE: bool> Reclaiming<K, V> for Sark<K, V, PER_CORE, false> {
    #[inline]
    fn insert_until(&self, key: K, value: V, due: Instant) {
        self.cache.insert_with_ttl(key, value, due.saturating_duration_since(Instant::now()));
    }
}

impl<K: Key, V: Value, const PER_CORE: bool> Expiring<K, V> for Sark<K, V, PER_CORE, true> {
    #[inline]
    fn insert_with_ttl(&self, key: K, value: V, ttl: Duration) {
        self.cache.insert_with_ttl(key, value, ttl);
    }

    /// Looks up a key. An expired entry counts as none here, since the cache counts it.
    #[inline]
    fn look_up(&self, key: &K) -> Found<V> {
        self.cache.get(key).map_or(Found::Nothing, Found::Live)
    }

    fn set_time(&self, now: Duration) {
        self.hands.set(now);
        self.cache.run_pending_tasks();
    }
}

/// A single shard whose timer wheel is not turned: expired entries keep their places until touched or
/// evicted.
///
/// The mutex only stands in for the ownership that a cache gives its shards.
pub struct BareShard<K, V> {
    shard: Mutex<(Shard<K, V>, Nanos)>,
    hasher: Hasher,
    by_bytes: bool,
}

impl<K: Key, V: Value> BareShard<K, V> {
    fn store(&self, key: K, value: V, lifetime: Lifetime) {
        let hash = self.hasher.hash_one(&key);
        let weight = if self.by_bytes { value.weigh() } else { 1 };
        // Dropped after the shard is released.
        let mut gone: Vec<Removed<K, V>> = Vec::new();
        let (shard, now) = &mut *self.shard.lock();
        let insertion = shard.insert(hash, key, value, weight, lifetime, *now, &mut NoPool, &mut gone);
        // An entry that is too heavy is not admitted, and takes an older value of its key along, as in a
        // whole cache.
        if let Insertion::Short { key, value, .. } = insertion {
            shard.reject(hash, key, value, weight, *now, &mut gone);
        }
    }
}

impl<K: Key, V: Value> Contestant<K, V> for BareShard<K, V> {
    fn build(plan: &Plan) -> Result<Self, Absent> {
        if plan.shards.is_some_and(|shards| shards > 1) {
            return Err(Absent("expired entries only keep their places on one bare shard".into()));
        }
        let (budget, by_bytes) = match plan.capacity {
            Capacity::Entries(entries) => (Room::for_entries(entries), false),
            Capacity::Bytes(bytes) => (Room::for_weight(bytes), true),
        };
        let shard = Shard::new(Config { budget, ..Config::default() });
        Ok(Self { shard: Mutex::new((shard, Nanos(0))), hasher: hasher(), by_bytes })
    }

    fn get(&self, key: &K) -> Option<V> {
        let hash = self.hasher.hash_one(key);
        let mut gone: Vec<Removed<K, V>> = Vec::new();
        let (shard, now) = &mut *self.shard.lock();
        shard.get(hash, key, *now, &mut gone, V::clone)
    }

    fn insert(&self, key: K, value: V) {
        self.store(key, value, Lifetime::Forever);
    }

    fn remove(&self, key: &K) -> bool {
        let hash = self.hasher.hash_one(key);
        let mut gone: Vec<Removed<K, V>> = Vec::new();
        let (shard, now) = &mut *self.shard.lock();
        shard.remove(hash, key, *now, &mut gone).is_some()
    }

    fn entries(&self) -> u64 {
        self.shard.lock().0.len() as u64
    }

    fn departures(&self) -> Option<Departures> {
        let counters = self.shard.lock().0.counters();
        Some(Departures {
            evicted: counters.evicted,
            expired_on_get: counters.expired_on_get,
            reclaimed: counters.expired - counters.expired_on_get,
        })
    }

    fn expiry(&self) -> &'static str {
        "its own, expired entries keep their places until touched or evicted"
    }

    fn remarks(&self) -> Fields {
        let mut fields = Fields::new();
        fields.insert("engine".into(), "one bare shard, its timer wheel not advanced".into());
        fields
    }
}

impl<K: Key, V: Value> Expiring<K, V> for BareShard<K, V> {
    fn insert_with_ttl(&self, key: K, value: V, ttl: Duration) {
        self.store(key, value, Lifetime::For(nanoseconds(ttl)));
    }

    /// Looks up a key. An expired entry counts as none here, since the shard counts it.
    fn look_up(&self, key: &K) -> Found<V> {
        self.get(key).map_or(Found::Nothing, Found::Live)
    }

    fn set_time(&self, now: Duration) {
        self.shard.lock().1 = Nanos(nanoseconds(now));
    }
}
