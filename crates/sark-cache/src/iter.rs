//! Going through all entries, shard by shard, a few at a time: nobody waits for longer than cloning those
//! takes.
//!
//! Nothing is held between two requests, so what is seen is no state that the whole cache was ever in.
//! `retain` visits as this does.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::iter::FusedIterator;

use sark_shard::{Nanos, Walk};

use crate::Cache;

/// A shard is held for so many entries at a time, or for the time that they take: some microseconds.
pub(crate) const VISITED_AT_ONCE: usize = 32;

/// The entries of a cache, as clones; made by [`Cache::iter`].
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
    /// The clone of a key, while the value is being cloned: if that panics, the key is not dropped where the
    /// shard is held.
    half: Option<K>,
}

/// An entry that was read.
struct Ahead<K, V> {
    key: K,
    value: V,
    /// When it dies unless it is used.
    deadline: Option<Nanos>,
}

impl<K, V, H> Cache<K, V, H>
where
    K: Hash + Eq + Send + 'static,
    V: Send + 'static,
    H: BuildHasher,
{
    /// All entries, as clones of key and value, in no particular order. It is not a use: the order of
    /// eviction, the times of last use and the counts of hits and misses stay.
    ///
    /// Others may use and change the cache meanwhile, and so may who iterates. An entry that is there from
    /// before the iteration until after it comes exactly once, with the value that it had when it was read;
    /// what comes or leaves meanwhile comes or doesn't. (A key that leaves, and is stored again, is another
    /// entry, and may come a second time.) An entry that is past its deadline does not come. Otherwise up to
    /// 32 entries are read ahead, and what happens to those after that is not seen.
    ///
    /// A shard is held for about 32 entries at a time, and none between two calls of `next`. So whoever needs
    /// one waits for some microseconds and not for the whole iteration, which may take as long as it likes.
    /// O(n) for n entries, or for as many as there ever were at once if that is more, of which those that are
    /// free are passed over by the thousand. One allocation, for what is read ahead.
    ///
    /// `Clone` runs where that of [`get`](Self::get) does, and under the same rules: it must not block, and
    /// not call a cache and wait.
    ///
    /// # Panics
    /// Not by itself; `next` does as `get` does: if `Clone` panics (the cache stays valid, and the iteration
    /// goes on after that entry if it is asked to); from inside code that a cache runs; in a forked child of
    /// a process where the cache had threads.
    ///
    /// ```
    /// let cache = sark_cache::Cache::new(100);
    /// cache.insert_many([("one", 1), ("two", 2), ("three", 3)]);
    /// let mut entries: Vec<_> = cache.iter().filter(|(_, number)| number % 2 == 1).collect();
    /// entries.sort();
    /// assert_eq!(entries, [("one", 1), ("three", 3)]);
    /// for (key, number) in &cache {
    ///     cache.insert(key, 10 * number); // whoever iterates holds nothing
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
    /// Reads some entries of the shard that is next. None are ahead.
    fn read_ahead(&mut self) {
        let Self { walk, ahead, half, .. } = self;
        let inner = self.cache.inner();
        // Where nothing is held: what a panic left, and room.
        *half = None;
        ahead.reserve(VISITED_AT_ONCE);
        let now = inner.common.time.for_reading();
        inner.delegates.run(self.shard, |cell| {
            cell.shard.visit(walk, VISITED_AT_ONCE, |entry| {
                if entry.is_dead(now) {
                    return;
                }
                *half = Some(entry.key.clone());
                let value = entry.value.clone();
                ahead.extend(half.take().map(|key| Ahead { key, value, deadline: entry.deadline }));
            });
        });
        if walk.is_over() {
            (self.shard, self.walk) = (self.shard + 1, Walk::new());
        }
    }

    /// The value of an entry that has died since it was read, as far as was known then: under time-to-idle,
    /// uses may have put that off.
    #[cold]
    fn look_again(&self, key: &mut K) -> Option<V> {
        let inner = self.cache.inner();
        let hash = inner.hash(key);
        let now = inner.common.time.for_reading();
        // By a reference that nobody else has: keys need not be `Sync`.
        inner.delegates.run(inner.route(hash), move |cell| {
            let key: &mut K = key;
            cell.shard.peek(hash, key, now).cloned()
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
            while let Some(Ahead { mut key, value, deadline }) = self.ahead.pop() {
                if deadline.is_none_or(|deadline| inner.common.time.for_reading() < deadline) {
                    return Some((key, value));
                }
                drop(value);
                if let Some(value) = self.look_again(&mut key) {
                    return Some((key, value));
                }
            }
            if self.shard >= inner.delegates.len() {
                return None;
            }
            self.read_ahead();
        }
    }

    /// How many will come can't be known before the last shard was read.
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

/// All entries: see [`Cache::iter`].
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
