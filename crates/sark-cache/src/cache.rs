//! The public [`Cache`]. It hashes a key once, routes the request to a shard, waits for the answer and
//! returns it. What leaves a shard is dropped here, with nothing held.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use equivalent::Equivalent;
use sark_delegate::{Delegates, Entered};
use sark_shard::{Lifetime, Nanos, RemovalCause};

use crate::builder::{Builder, Weigher};
use crate::clock::nanos;
use crate::load::Loads;
use crate::outgoing::{Listener, Outgoing, tell_of_all};
use crate::resident::{Cell, Common, PostedInsert, RECLAIM_AT_ONCE};
use crate::stats::Stats;
use crate::storing::WakeLater;

/// A concurrent, bounded LRU + TTL cache in your process.
///
/// This is a cheap handle. Clones share one cache, and dropping the last of them ends its threads, if it ever
/// started any. Values are handed out as clones, so put large ones into an `Arc`.
///
/// # Where your code runs
///
/// Exactly one thread at a time runs a shard: usually the caller, otherwise a thread that serves the caller's
/// message.
///
/// * `Eq` of keys, `Clone` of values (with [`iter`](Self::iter), of keys, too) and the predicate of
///   [`retain`](Self::retain) may run on any thread that uses the cache. They must not block. A call from
///   inside them that waits for any sark cache panics at once instead of hanging.
/// * `Hash`, the weigher and `Drop` run on the calling thread, with nothing held, so they may use the cache.
/// * What a posted insertion displaced is dropped by the thread that served the post, and what a worker
///   reclaimed by that worker, also with nothing held.
/// * If `Eq` panics during an insertion, the entry is dropped while the shard is held. Its `Drop` must not
///   call a cache.
///
/// ```
/// use sark_cache::Cache;
///
/// let cache = Cache::new(10_000);
/// cache.insert("answer".to_owned(), 42);
/// assert_eq!(cache.get("answer"), Some(42));
/// assert_eq!(cache.remove("answer"), Some(42));
/// assert_eq!(cache.get("answer"), None);
/// ```
pub struct Cache<K, V, H = ahash::RandomState>
where
    K: Eq + Send + 'static,
    V: Send + 'static,
{
    inner: Arc<Inner<K, V, H>>,
}

pub(crate) struct Inner<K, V, H>
where
    K: Eq + Send + 'static,
    V: Send + 'static,
{
    pub(crate) delegates: Delegates<Cell<K, V>>,
    pub(crate) hasher: H,
    pub(crate) common: Arc<Common>,
    pub(crate) weigher: Option<Weigher<K, V>>,
    /// How long an entry that gets the default lifetime is kept if no call reads it, in nanoseconds.
    pub(crate) default_lifetime: Option<u64>,
    pub(crate) listener: Listener<K, V>,
    /// In a box, so that it is not on the cache lines of the other fields, which look-ups read.
    pub(crate) loads: Box<Loads<K, V>>,
    pub(crate) name: String,
}

impl<K, V, H> Inner<K, V, H>
where
    K: Eq + Send + 'static,
    V: Send + 'static,
{
    /// Collects what a caller's request displaces.
    #[inline]
    pub(crate) fn outgoing(&self) -> Outgoing<'_, K, V> {
        Outgoing::new(&self.listener)
    }
}

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Send + 'static,
    V: Send + 'static,
{
    /// Creates a cache of at most `max_capacity` entries that don't expire.
    ///
    /// Everything else is as the builder's defaults.
    ///
    /// # Panics
    /// If `max_capacity` is zero.
    #[must_use]
    #[track_caller]
    pub fn new(max_capacity: u64) -> Self {
        match Self::builder().max_capacity(max_capacity).build() {
            Ok(cache) => cache,
            Err(error) => panic!("{error}"),
        }
    }

    /// Starts setting up a cache.
    pub fn builder() -> Builder<K, V> {
        Builder::new()
    }
}

impl<K, V, H> Cache<K, V, H>
where
    K: Hash + Eq + Send + 'static,
    V: Send + 'static,
    H: BuildHasher,
{
    pub(crate) fn from_inner(inner: Inner<K, V, H>) -> Self {
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn inner(&self) -> &Inner<K, V, H> {
        &self.inner
    }

    /// Returns a clone of the value of `key`, if it is there and live.
    ///
    /// The entry becomes the most recently used one of its shard. O(1). On an idle shard nothing is allocated
    /// except by the clone.
    ///
    /// `key` may be any form that hashes and compares as `K` does, such as `str` for `String`. Another thread
    /// may be the one that compares it. So here, and wherever a key is looked up by reference, it must be
    /// [`Sync`]: a key type that is only `Send` can be inserted, but not looked up as itself.
    ///
    /// # Panics
    /// If `Hash`, `Eq` or `Clone` panics (the cache stays valid); when called from inside such code that a
    /// sark cache runs; in a forked child of a process where the cache had threads. All methods that look at
    /// entries panic in these cases.
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
        V: Clone,
    {
        self.get_with(key, V::clone)
    }

    /// Returns what `read` makes of the value of `key`, without cloning the value.
    ///
    /// Otherwise like [`get`](Self::get). `read` runs where `Clone` would, and under the same rules: it must
    /// not block, and must not call a cache and wait.
    ///
    /// ```
    /// let cache = sark_cache::Cache::new(100);
    /// cache.insert(1, "a long text".to_owned());
    /// assert_eq!(cache.get_with(&1, String::len), Some(11));
    /// ```
    #[inline]
    pub fn get_with<Q, R>(&self, key: &Q, read: impl FnOnce(&V) -> R + Send) -> Option<R>
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
        R: Send,
    {
        let inner = self.inner();
        let hash = inner.hash(key);
        let index = inner.approach(hash);
        let now = inner.common.time.for_reading();
        // `Delegates::run` would do, but a request that may become a message keeps its captures in memory.
        // Here they stay in registers.
        match inner.delegates.enter(index) {
            Some(mut entered) => match entered.run(|cell| cell.shard.try_get(hash, key, now, read)) {
                Ok(result) => result,
                Err(read) => end_look_up(entered, inner.outgoing(), |cell, expired| {
                    cell.shard.end_get(hash, key, now, expired, read)
                }),
            },
            None => inner.get_by_message(index, hash, key, now, read),
        }
    }

    /// Changes the value of `key` in place and returns what `change` returns.
    ///
    /// No other call comes between reading the value and writing it. Returns `None`, without calling
    /// `change`, if the key isn't there or is past its deadline.
    ///
    /// It counts as a hit and makes the entry the most recently used one of its shard. As with any hit, the
    /// time-to-live goes on and a time-to-idle begins anew. The weight stays what it was when the entry was
    /// stored. O(1), on an idle shard no allocation.
    ///
    /// `change` runs where `Clone` would, and under the same rules: it must not block, and must not call a
    /// cache and wait. That includes the `Drop` of a value that it overwrites. If `change` panics, the value
    /// stays as `change` left it.
    ///
    /// ```
    /// let cache = sark_cache::Cache::new(100);
    /// cache.insert("visits", 1);
    /// let before = cache.update("visits", |visits| std::mem::replace(visits, *visits + 1));
    /// assert_eq!((before, cache.get("visits")), (Some(1), Some(2)));
    /// assert_eq!(cache.update("never stored", |visits| *visits += 1), None);
    /// ```
    #[inline]
    pub fn update<Q, R>(&self, key: &Q, change: impl FnOnce(&mut V) -> R + Send) -> Option<R>
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
        R: Send,
    {
        let inner = self.inner();
        let hash = inner.hash(key);
        let index = inner.approach(hash);
        let now = inner.common.time.for_reading();
        match inner.delegates.enter(index) {
            Some(mut entered) => match entered.run(|cell| cell.shard.try_update(hash, key, now, change)) {
                Ok(result) => result,
                Err(change) => end_look_up(entered, inner.outgoing(), |cell, expired| {
                    cell.shard.end_update(hash, key, now, expired, change)
                }),
            },
            None => {
                let mut expired = inner.outgoing();
                inner.delegates.run(index, |cell| cell.update(hash, key, now, &mut expired, change))
            }
        }
    }

    /// Like [`get`](Self::get), but leaves no trace.
    ///
    /// The order of use, the time of last use and the counts stay as they are.
    #[inline]
    pub fn peek<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
        V: Clone,
    {
        self.look(key, |cell, hash, now| cell.shard.peek(hash, key, now).cloned())
    }

    /// Returns whether `key` is there and live. Leaves no trace.
    #[inline]
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
    {
        self.look(key, |cell, hash, now| cell.shard.peek(hash, key, now).is_some())
    }

    /// Returns how long `key` will still be served if no call uses it.
    ///
    /// That is `None` if it isn't there, and [`Duration::MAX`] if it doesn't expire. Leaves no trace.
    ///
    /// This is the deadline as the cache keeps it, and the system's coarse clock errs early. Right after an
    /// entry was stored, the result may be up to two ticks of that clock (8 ms on most Linux systems) less
    /// than the time-to-live, and up to three less than the time-to-idle.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let cache = sark_cache::Cache::new(10);
    /// cache.insert("forever", 1);
    /// cache.insert_with_ttl("soon", 2, Duration::from_secs(60));
    /// assert_eq!(cache.expires_in("forever"), Some(Duration::MAX));
    /// assert!(cache.expires_in("soon").unwrap() <= Duration::from_secs(60));
    /// assert_eq!(cache.expires_in("never stored"), None);
    /// ```
    pub fn expires_in<Q>(&self, key: &Q) -> Option<Duration>
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
    {
        self.look(key, |cell, hash, now| {
            let entry = cell.shard.entry(hash, key, now)?;
            Some(
                entry.deadline.map_or(Duration::MAX, |deadline| Duration::from_nanos(deadline.0.saturating_sub(now.0))),
            )
        })
    }

    fn look<Q, R>(&self, key: &Q, look: impl FnOnce(&Cell<K, V>, u64, Nanos) -> R + Send) -> R
    where
        Q: Hash + ?Sized,
        R: Send,
    {
        let inner = self.inner();
        let hash = inner.hash(key);
        let now = inner.common.time.for_reading();
        inner.delegates.run(inner.approach(hash), move |cell| look(cell, hash, now))
    }

    /// Stores `value` under `key`, as the most recently used entry of its shard.
    ///
    /// It is kept for the cache's time-to-live. If the cache is full, the least recently used entries of the
    /// shard are evicted. O(1), plus what is evicted.
    ///
    /// Returns false if the entry is not kept. That happens only if it is heavier than the whole cache, and
    /// an older value of the key is forgotten then, too.
    pub fn insert(&self, key: K, value: V) -> bool {
        self.insert_for(key, value, Lifetime::Default)
    }

    /// Like [`insert`](Self::insert), with a time-to-live for this entry.
    ///
    /// Zero means: don't keep the entry, and forget an older value. The result is false then, too. A duration
    /// beyond the range of the clock means *for ever*.
    ///
    /// This overrides only the cache's time-to-live. A [time-to-idle](Builder::time_to_idle) applies in
    /// addition, so even an entry that is stored for ever leaves if no call uses it.
    pub fn insert_with_ttl(&self, key: K, value: V, time_to_live: Duration) -> bool {
        let lifetime = nanos(time_to_live);
        self.inner.common.time.prepare_for(lifetime);
        self.insert_for(key, value, Lifetime::For(lifetime))
    }

    fn insert_for(&self, key: K, value: V, lifetime: Lifetime) -> bool {
        let inner = self.inner();
        let arrival = inner.arrival(key, value, lifetime);
        let index = inner.approach(arrival.hash);
        let now = inner.common.time.for_storing();
        let mut out = inner.outgoing();
        inner.insert_at(index, arrival, now, &mut out)
    }

    /// Like [`insert`](Self::insert), but hands the entry over without waiting for it to be stored.
    ///
    /// If the shard is busy (under `PerCore`, always), the entry is stored a little later, and another thread
    /// drops what it displaces. Calls that start after this one returned see the entry.
    ///
    /// If other shards would have to make room for the entry, it is rejected instead.
    ///
    /// Unlike the calls that wait, this one may be made from inside code that a cache runs. If the shard's
    /// mailbox (of 256 messages) is full then, the entry is accepted only once the shard that runs this code
    /// has been given back. Under `PerCore` that may be after the outer call returned, and a call that starts
    /// in between may not see the entry yet.
    pub fn post_insert(&self, key: K, value: V) {
        let inner = self.inner();
        let arrival = inner.arrival(key, value, Lifetime::Default);
        let index = inner.route(arrival.hash);
        let now = inner.common.time.for_storing();
        inner.common.expect_untold();
        // The guard's drop comes after the post, even if dropping what the post displaced panics.
        let _wake = WakeLater { inner, index };
        inner.delegates.post(index, PostedInsert { arrival, now });
    }

    /// Removes `key` and returns its value, if it was there and live. O(1).
    pub fn remove<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
    {
        self.remove_entry(key).map(|(_key, value)| value)
    }

    /// Removes `key`. O(1).
    ///
    /// No later call sees its value, nor a value whose [load](Self::get_or_insert_with) began before this
    /// call.
    pub fn invalidate<Q>(&self, key: &Q)
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
    {
        self.invalidate_found(key);
    }

    /// [`invalidate`](Self::invalidate), and returns whether the key was there and live.
    pub(crate) fn invalidate_found<Q>(&self, key: &Q) -> bool
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
    {
        let Some((key, value)) = self.remove_entry(key) else { return false };
        if let Some(listener) = &self.inner.listener {
            tell_of_all(&**listener, [(key, value, RemovalCause::Explicit)]);
        }
        true
    }

    fn remove_entry<Q>(&self, key: &Q) -> Option<(K, V)>
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
    {
        let inner = self.inner();
        let hash = inner.hash(key);
        let now = inner.common.time.for_reading();
        inner.loads.outdate(Some(hash));
        let mut out = inner.outgoing();
        inner.delegates.run(inner.approach(hash), |cell| cell.remove(hash, key, now, &mut out))
    }

    /// Removes all entries.
    ///
    /// Each shard is emptied in one step. After the last of them, this thread drops what they held. Entries
    /// that are inserted meanwhile may stay.
    pub fn invalidate_all(&self) {
        let inner = self.inner();
        inner.loads.outdate(None);
        let contents: Vec<_> =
            (0..inner.delegates.len()).map(|index| inner.delegates.run(index, Cell::clear)).collect();
        match &inner.listener {
            Some(listener) => {
                let entries = contents.into_iter().flatten();
                tell_of_all(&**listener, entries.map(|entry| (entry.key, entry.value, entry.cause)));
            }
            None => drop(contents),
        }
    }

    /// Changes the capacity that the builder's `max_capacity` set.
    ///
    /// A larger capacity is available at once. If the new one is less than what is there, every shard evicts
    /// its least recently used entries, in proportion to what it holds, before this returns. Zero empties the
    /// cache and keeps it empty.
    pub fn set_capacity(&self, capacity: u64) {
        self.inner().change_capacity(capacity);
    }

    /// The number of entries, including expired ones that are not reclaimed yet. Exact, never above the
    /// capacity, and O(1).
    #[must_use]
    pub fn entry_count(&self) -> u64 {
        self.inner.common.ledger.used().entries
    }

    /// The sum of the weights of all entries, or their number if there is no weigher. Exact, never above the
    /// capacity, and O(1).
    #[must_use]
    pub fn weighted_size(&self) -> u64 {
        self.inner.common.ledger.used().weight
    }

    /// The capacity, as the builder or the last [`set_capacity`](Self::set_capacity) set it. `u64::MAX` if
    /// there is no bound.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        let limit = self.inner.common.ledger.limit();
        if self.inner.common.ledger.is_weighted() { limit.weight } else { limit.entries }
    }

    /// Reclaims everything that is past its deadline, and drops it on this thread.
    ///
    /// Workers do this anyway. Call it where there are none: under `workers(0)` or with a manual clock. There
    /// it costs some nanoseconds for each shard in which nothing is due. If entries were
    /// [posted](Self::post_insert), it asks every shard.
    pub fn run_pending_tasks(&self) {
        let inner = self.inner();
        let now = inner.common.time.for_reading();
        for index in 0..inner.delegates.len() {
            // The first shard is always asked, so that a call that can't be served always fails, and not only
            // when something is due.
            while index == 0 || !inner.common.is_quiet(index, now) {
                let mut out = inner.outgoing();
                if !inner.delegates.run(index, |cell| cell.reclaim(now, RECLAIM_AT_ONCE, &mut out)) {
                    break;
                }
            }
        }
    }

    /// Returns the counts since the cache was made, over all shards. Asks each shard in turn.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats { dispatch: self.inner.delegates.counts(), ..Stats::default() };
        for index in 0..self.inner.delegates.len() {
            stats.add(&self.inner.delegates.run(index, |cell| cell.shard.counters()));
        }
        stats
    }

    /// The number of shards.
    #[must_use]
    pub fn shard_count(&self) -> usize {
        self.inner.delegates.len()
    }

    /// The number of worker threads that the cache runs now.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        self.inner.delegates.threads()
    }

    /// The name that the builder gave the cache.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }
}

impl<K, V, H> Inner<K, V, H>
where
    K: Hash + Eq + Send + 'static,
    V: Send + 'static,
    H: BuildHasher,
{
    #[inline]
    pub(crate) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The shard of a hash: the upper half of the hash, taken as a fraction of all shards. Shards index by
    /// the lower half.
    #[inline]
    pub(crate) fn route(&self, hash: u64) -> usize {
        // The result is less than `len`, which is a `usize`.
        (((hash >> 32) * self.delegates.len() as u64) >> 32) as usize
    }

    /// Like [`route`](Self::route), for a request that follows soon: starts loading what the request reads
    /// first.
    #[inline]
    pub(crate) fn approach(&self, hash: u64) -> usize {
        let index = self.route(hash);
        if let Some(hint) = self.common.hints.get(index) {
            hint.get().prefetch(hash);
        }
        index
    }

    #[cold]
    #[inline(never)]
    fn get_by_message<Q, R>(
        &self,
        index: usize,
        hash: u64,
        key: &Q,
        now: Nanos,
        read: impl FnOnce(&V) -> R + Send,
    ) -> Option<R>
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
        R: Send,
    {
        let mut expired = self.outgoing();
        self.delegates.run(index, |cell| cell.get(hash, key, now, &mut expired, read))
    }
}

/// Finishes a look-up that the quick way leaves open: its entry may have expired, or is not in the first
/// place where it is sought. Kept out of line, so that other look-ups have little code around them. In large
/// caches that lets the processor begin the next look-up while it waits for the memory of this one.
#[cold]
#[inline(never)]
fn end_look_up<K, V, R>(
    entered: Entered<'_, Cell<K, V>>,
    mut expired: Outgoing<'_, K, V>,
    end: impl FnOnce(&mut Cell<K, V>, &mut Outgoing<'_, K, V>) -> Option<R>,
) -> Option<R>
where
    K: Eq + Send + 'static,
    V: Send + 'static,
{
    // Declared here, so that it is dropped first: `expired` is dropped after the shard is given back, however
    // this ends.
    let mut entered = entered;
    entered.run(|cell| {
        let result = end(cell, &mut expired);
        if !expired.is_empty() {
            cell.balance();
        }
        result
    })
}

impl<K, V, H> Clone for Cache<K, V, H>
where
    K: Eq + Send + 'static,
    V: Send + 'static,
{
    /// Returns another handle of the same cache.
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K, V, H> std::fmt::Debug for Cache<K, V, H>
where
    K: Hash + Eq + Send + 'static,
    V: Send + 'static,
    H: BuildHasher,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("name", &self.name())
            .field("entry_count", &self.entry_count())
            .field("capacity", &self.capacity())
            .field("shards", &self.shard_count())
            .finish_non_exhaustive()
    }
}
