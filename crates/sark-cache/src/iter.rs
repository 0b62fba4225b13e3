//! Iteration over all entries, shard by shard and a few entries at a time.
//!
//! Each request clones some entries of one shard, and other callers wait no longer than that takes. No shard
//! is held between two requests, so the cache as a whole was perhaps never in the state that an iteration
//! shows. `retain` visits the shards in the same way.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::iter::FusedIterator;

use sark_shard::{Nanos, Slot, Walk};

use crate::Cache;

/// The number of entries that a shard is held for at a time, which takes some microseconds.
pub(crate) const VISITED_AT_ONCE: usize = 32;

/// An iterator over the entries of a cache, made by [`Cache::iter`].
pub struct Iter<'c, K, V, H = ahash::RandomState>
where
    K: Eq + Send + 'static,
    V: Send + 'static,
{
    cache: &'c Cache<K, V, H>,
    /// The shard that is visited next, and how far the walk through it has come.
    shard: usize,
    walk: Walk,
    /// What the last visit found.
    ahead: Vec<Ahead<K, V>>,
    /// The clone of a key while its value is being cloned. If that panics, the key is kept here, so that it is
    /// not dropped while the shard is held.
    half: Option<K>,
}

/// An entry that was read.
struct Ahead<K, V> {
    slot: Slot,
    key: K,
    value: V,
    /// Its deadline when it was read. Under time-to-idle, a use may have put that off since.
    deadline: Option<Nanos>,
}

impl<K, V, H> Cache<K, V, H>
where
    K: Hash + Eq + Send + 'static,
    V: Send + 'static,
    H: BuildHasher,
{
    /// Returns an iterator over all entries, as clones of key and value, in no particular order.
    ///
    /// An iteration is not a use: it changes neither the order of eviction nor any idle time, and counts no
    /// hits or misses.
    ///
    /// All callers may use and change the cache meanwhile, the iterating one included. An entry that is there
    /// from the beginning to the end of the iteration is yielded exactly once, with the value that it had when
    /// it was read. Entries that are stored or leave meanwhile may or may not be yielded. (A key that leaves
    /// and is stored again is a new entry, and may be yielded a second time.) An entry that is past its
    /// deadline is not yielded. Apart from that, changes to the up to 32 entries that the iterator has read
    /// ahead are not seen.
    ///
    /// A shard is held for about 32 entries at a time, and none is held between two calls of `next`. So other
    /// callers wait for some microseconds at most, however long the whole iteration takes. O(n) for n entries,
    /// or for the greatest number of entries there ever was, whose free slots are skipped by the hundred.
    /// Allocates once, for the entries read ahead.
    ///
    /// `Clone` runs where that of [`get`](Self::get) runs, and under the same rules: it must not block, and
    /// must not call a cache and wait.
    ///
    /// # Panics
    /// `iter` itself doesn't. `next` panics where `get` does: if `Clone` panics (the cache stays valid, and the
    /// iteration can go on after that entry); from inside code that a sark cache runs; in a forked child of a
    /// process where the cache had threads.
    ///
    /// ```
    /// let cache = sark_cache::Cache::new(100);
    /// cache.insert_many([("one", 1), ("two", 2), ("three", 3)]);
    /// let mut entries: Vec<_> = cache.iter().filter(|(_, number)| number % 2 == 1).collect();
    /// entries.sort();
    /// assert_eq!(entries, [("one", 1), ("three", 3)]);
    /// for (key, number) in &cache {
    ///     cache.insert(key, 10 * number); // nothing is held here
    /// }
    /// assert_eq!(cache.get("two"), Some(20));
    /// ```
    pub fn iter(&self) -> Iter<'_, K, V, H>
    where
        K: Clone,
        V: Clone,
    {
        Iter { cache: self, shard: 0, walk: Walk::new(), ahead: Vec::new(), half: None }
    }
}

impl<K, V, H> Iter<'_, K, V, H>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + 'static,
    H: BuildHasher,
{
    /// Reads some entries of the next shard. Called when none are ahead.
    fn read_ahead(&mut self) {
        let Self { walk, ahead, half, .. } = self;
        let inner = self.cache.inner();
        // While nothing is held: drop what a panic left, and make room.
        *half = None;
        ahead.reserve(VISITED_AT_ONCE);
        let now = inner.common.time.for_reading();
        inner.delegates.run(self.shard, |cell| {
            cell.shard.visit(walk, VISITED_AT_ONCE, |slot, entry| {
                if entry.is_dead(now) {
                    return;
                }
                *half = Some(entry.key.clone());
                let value = entry.value.clone();
                ahead.extend(half.take().map(|key| Ahead { slot, key, value, deadline: entry.deadline }));
            });
        });
        if walk.is_over() {
            (self.shard, self.walk) = (self.shard + 1, Walk::new());
        }
    }

    /// The value of an entry that has expired since it was read, unless a use has put its deadline off. It is
    /// sought in its slot only: if the key is in another one, that entry is new, and the walk may still meet it.
    #[cold]
    fn look_again(&self, slot: Slot, key: &mut K) -> Option<V> {
        let inner = self.cache.inner();
        let index = inner.route(inner.hash(key));
        let now = inner.common.time.for_reading();
        // The key moves by exclusive reference, since it need not be `Sync`.
        inner.delegates.run(index, move |cell| {
            let key: &mut K = key;
            let entry = cell.shard.entry_at(slot, now).filter(|entry| entry.key == key)?;
            Some(entry.value.clone())
        })
    }
}

impl<K, V, H> Iterator for Iter<'_, K, V, H>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + 'static,
    H: BuildHasher,
{
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        let inner = self.cache.inner();
        loop {
            while let Some(Ahead { slot, mut key, value, deadline }) = self.ahead.pop() {
                if deadline.is_none_or(|deadline| inner.common.time.for_reading() < deadline) {
                    return Some((key, value));
                }
                drop(value);
                if let Some(value) = self.look_again(slot, &mut key) {
                    return Some((key, value));
                }
            }
            if self.shard >= inner.delegates.len() {
                return None;
            }
            self.read_ahead();
        }
    }

    /// Returns an upper bound only after the last shard was read: until then none is known.
    fn size_hint(&self) -> (usize, Option<usize>) {
        let all_read = self.shard >= self.cache.inner().delegates.len();
        (0, all_read.then_some(self.ahead.len()))
    }
}

impl<K, V, H> FusedIterator for Iter<'_, K, V, H>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + 'static,
    H: BuildHasher,
{
}

/// Iterates over all entries; see [`Cache::iter`].
impl<'c, K, V, H> IntoIterator for &'c Cache<K, V, H>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + 'static,
    H: BuildHasher,
{
    type Item = (K, V);
    type IntoIter = Iter<'c, K, V, H>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Shows how far it has come, never keys or values.
impl<K, V, H> fmt::Debug for Iter<'_, K, V, H>
where
    K: Eq + Send + 'static,
    V: Send + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter")
            .field("shard", &self.shard)
            .field("read_ahead", &self.ahead.len())
            .finish_non_exhaustive()
    }
}
