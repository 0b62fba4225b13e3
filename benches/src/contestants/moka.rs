//! `moka`: its `sync` cache with the defaults its users get, apart from the common hasher.
//!
//! Its expiry runs on the machine's clock, which a workload can't move. Runs on a workload's clock wrap it in
//! [`DeadlineInValue`](super::deadline_in_value::DeadlineInValue).

use moka::ops::compute::{CompResult, Op};

use super::{Absent, Capacity, Contestant, Hasher, Key, Plan, Updating, Value, hasher};

/// The cache.
pub struct Moka<K, V>(moka::sync::Cache<K, V, Hasher>);

impl<K: Key, V: Value> Contestant<K, V> for Moka<K, V> {
    fn build(plan: &Plan) -> Result<Self, Absent> {
        let mut builder = moka::sync::Cache::builder();
        builder = match plan.capacity {
            Capacity::Entries(entries) => builder.max_capacity(entries),
            Capacity::Bytes(bytes) => builder.max_capacity(bytes).weigher(|_, value: &V| value.weigh()),
        };
        if let Some(ttl) = plan.time_to_live {
            builder = builder.time_to_live(ttl);
        }
        Ok(Self(builder.build_with_hasher(hasher())))
    }

    #[inline]
    fn get(&self, key: &K) -> Option<V> {
        self.0.get(key)
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
    }

    fn remove(&self, key: &K) -> bool {
        self.0.remove(key).is_some()
    }

    fn entries(&self) -> u64 {
        self.0.run_pending_tasks();
        self.0.entry_count()
    }

    fn expiry(&self) -> &'static str {
        "its own time_to_live"
    }
}

impl<K: Key, V: Value> Updating<K, V> for Moka<K, V> {
    #[inline]
    fn update(&self, key: &K, change: impl Fn(&mut V) + Send + Sync) -> bool {
        let changed = self.0.entry_by_ref(key).and_compute_with(|entry| match entry {
            Some(entry) => {
                let mut value = entry.into_value();
                change(&mut value);
                Op::Put(value)
            }
            None => Op::Nop,
        });
        matches!(changed, CompResult::ReplacedWith(_))
    }

    fn update_is(&self) -> &'static str {
        "and_compute_with: not in place, a changed clone replaces the value while other callers wait"
    }
}
