//! Changing a value, or storing one where there is none, in one step.

use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use sark_delegate::Entered;
use sark_shard::Lifetime;

use crate::Cache;
use crate::arrival::{Arrival, Instead, Unless};
use crate::cache::Inner;
use crate::clock::nanos;
use crate::resident::Cell;

impl<K, V, H> Cache<K, V, H>
where
    K: Hash + Eq + Send + 'static,
    V: Send + 'static,
    H: BuildHasher,
{
    /// Changes the value of `key` in place and returns what `change` returns, or stores `value` if the key
    /// isn't there.
    ///
    /// No other call comes between finding out and changing or storing, so no change is lost. It is
    /// [`update`](Self::update) if the key is there, and [`insert`](Self::insert) if it is not, or was past its
    /// deadline when the call began:
    ///
    /// * A value that is changed keeps its time-to-live and its weight; a time-to-idle begins anew. That counts
    ///   as a hit, and `key` and `value` are dropped.
    /// * A value that is stored lives for the cache's time-to-live. That counts as a miss, and the result is
    ///   `None`. If the entry is heavier than the whole cache, it is not kept. If other shards must give up
    ///   room for it and the key comes meanwhile, that value is changed, which counts as a hit in addition.
    ///
    /// A weigher is asked about `value` in either case, before the key is looked up. O(1), plus what is
    /// evicted. `change` runs under the rules of [`update`](Self::update).
    ///
    /// ```
    /// let cache = sark_cache::Cache::new(100);
    /// let mut count = |word| cache.update_or_insert(word, 1, |count| { *count += 1; *count }).unwrap_or(1);
    /// assert_eq!([count("to"), count("be"), count("to")], [1, 1, 2]);
    /// ```
    #[doc(alias = "upsert")]
    #[doc(alias = "entry")]
    #[doc(alias = "and_upsert_with")]
    pub fn update_or_insert<R>(&self, key: K, value: V, change: impl FnOnce(&mut V) -> R + Send) -> Option<R>
    where
        R: Send,
    {
        self.update_or_insert_for(key, value, Lifetime::Default, change)
    }

    /// Like [`update_or_insert`](Self::update_or_insert), with a time-to-live for the entry if it is stored,
    /// as with [`insert_with_ttl`](Self::insert_with_ttl). Zero means: change a value that is there, and store
    /// none.
    ///
    /// A limit of requests in each window of time, for example:
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let windows = sark_cache::Cache::new(1000);
    /// let may = |user| {
    ///     let used = windows.update_or_insert_with_ttl(user, 1, Duration::from_secs(60), |used| { *used += 1; *used });
    ///     used.unwrap_or(1) <= 2
    /// };
    /// assert_eq!([may("alice"), may("alice"), may("alice"), may("bob")], [true, true, false, true]);
    /// ```
    pub fn update_or_insert_with_ttl<R>(
        &self,
        key: K,
        value: V,
        time_to_live: Duration,
        change: impl FnOnce(&mut V) -> R + Send,
    ) -> Option<R>
    where
        R: Send,
    {
        let lifetime = nanos(time_to_live);
        self.inner().common.time.prepare_for(lifetime);
        self.update_or_insert_for(key, value, Lifetime::For(lifetime), change)
    }

    fn update_or_insert_for<R>(
        &self,
        key: K,
        value: V,
        lifetime: Lifetime,
        change: impl FnOnce(&mut V) -> R + Send,
    ) -> Option<R>
    where
        R: Send,
    {
        let inner = self.inner();
        let hash = inner.hash(&key);
        let index = inner.approach(hash);
        let now = inner.common.time.for_reading();
        // Called at most once: what is there is changed, and nothing is tried again.
        let (mut change, mut result) = (Some(change), None);
        let mut change = |value: &mut V| result = change.take().map(|change| change(value));
        // The weigher must not run with the shard held, and may be needed.
        let mut entered = if inner.weigher.is_none() { inner.delegates.enter(index) } else { None };
        let mut tried = false;
        if let Some(entered) = &mut entered {
            match entered.run(|cell| cell.shard.try_update(hash, &key, now, &mut change)) {
                Ok(Some(())) => return result,
                Ok(None) => tried = true,
                Err(_not_called) => {}
            }
        }
        let mut instead = Instead { change: &mut change, now, tried, spare: None };
        inner.end_upsert(entered, index, New { hash, key, value, lifetime }, &mut Unless::There(&mut instead));
        result
    }
}

/// An entry to be stored if its key isn't there, not weighed yet.
struct New<K, V> {
    hash: u64,
    key: K,
    value: V,
    lifetime: Lifetime,
}

impl<K, V, H> Inner<K, V, H>
where
    K: Hash + Eq + Send + 'static,
    V: Send + 'static,
    H: BuildHasher,
{
    /// Does what one look at a shard that was idle did not do. If the shard is held, it stays so from that
    /// look to the insertion.
    #[inline(never)]
    fn end_upsert(
        &self,
        entered: Option<Entered<'_, Cell<K, V>>>,
        index: usize,
        New { hash, key, value, lifetime }: New<K, V>,
        unless: &mut Unless<'_, K, V>,
    ) {
        // Dropped when nothing is held.
        let mut out = self.outgoing();
        // The key was hashed before anything was held, and nothing is held if there is a weigher.
        let weight = self.weigher.as_ref().map_or(1, |weigh| weigh(&key, &value));
        let arrival = Arrival { hash, key, value, weight, lifetime };
        let now = self.common.time.for_storing();
        let Some(mut entered) = entered else {
            self.insert_by_request(index, arrival, now, unless, &mut out);
            return;
        };
        let mut short = None;
        let pool = &mut &self.common.ledger;
        let stored = entered.run(|cell| cell.insert_unless(unless, arrival, now, pool, &mut out, &mut short));
        drop(entered);
        self.conclude_insertion(index, stored, short, now, unless, &mut out);
    }
}
