//! The cache people use: hash once, route, send, wait, return. What leaves a shard is dropped here, with nothing held.

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

/// A concurrent, bounded LRU + TTL cache, embedded in your process.
///
/// A cheap handle: clones share one cache, and the last one to be dropped ends its threads, if it ever started any.
/// Values are handed out as clones, so put large ones into an `Arc`.
///
/// Its shards are single-threaded code that is run by exactly one thread at a time: as a rule by the caller, otherwise by
/// message. Therefore `Eq` of keys and `Clone` of values may run on any thread that uses the cache. They must not block,
/// and a call that waits for any sark cache from inside them panics at once instead of hanging. Everything else of yours
/// (`Hash`, the weigher, `Drop`) runs on the calling thread with nothing held, except `Drop` of what a posted insertion
/// or a worker displaced, which runs on the thread that did it, with nothing held; and except that of the entry of an
/// insertion whose `Eq` panics, which must not call a cache either.
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
    /// How long entries without a lifetime of their own are kept if nobody reads them, in nanoseconds.
    pub(crate) default_lifetime: Option<u64>,
    pub(crate) listener: Listener<K, V>,
    /// On lines of its own: a look-up reads the others.
    pub(crate) loads: Box<Loads<K, V>>,
    pub(crate) name: String,
}

impl<K, V, H> Inner<K, V, H>
where
    K: Eq + Send + 'static,
    V: Send + 'static,
{
    /// For what leaves by a caller's hand.
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
    /// A cache of at most `max_capacity` entries that don't expire, with everything else as the builder's defaults.
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

    /// The value of `key`, cloned, if it is there and alive. Makes it the most recently used of its shard. O(1), no
    /// allocation but the clone's.
    ///
    /// `key` may be any form that hashes and compares as `K` does, such as `str` for `String`. It must be [`Sync`], here and wherever a key
    /// is looked up by reference, since another thread may be the one who compares it: a key type that is `Send` only can be inserted, but
    /// not looked up as itself.
    ///
    /// # Panics
    /// If `Hash`, `Eq` or `Clone` panics (the cache stays valid); from inside such code of any sark cache; in a forked child
    /// of a process where the cache had threads. This goes for all methods that look at entries.
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
        V: Clone,
    {
        self.get_with(key, V::clone)
    }

    /// As [`get`](Self::get), but what comes back is what `read` makes of the value in its place. `read` runs where `Clone`
    /// would, and under the same rules: it must not block, and not call a cache and wait.
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
        // `Delegates::run` would do, but by message a request's captures go through memory; here they stay in registers.
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

    /// Lets `change` change the value of `key` in its place, and gives what it returns: read, modify and write in one step that
    /// no other call comes between. `None`, and `change` is not called, if the key isn't there or is past its deadline.
    ///
    /// Counts as a hit and makes the entry the most recently used of its shard. Its time-to-live goes on, a time-to-idle begins anew, as
    /// with any hit, and the weight stays that it was stored with. O(1), no allocation. `change` runs where `Clone` would, and under the
    /// same rules: it must not block, and not call a cache and wait. That goes for the `Drop` of a value that it overwrites, too. If it
    /// panics, the value stays as it left it.
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

    /// As [`get`](Self::get), but leaves no trace: the order of use, the time of last use and the counts stay.
    #[inline]
    pub fn peek<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
        V: Clone,
    {
        self.look(key, |cell, hash, now| cell.shard.peek(hash, key, now).cloned())
    }

    /// Whether `key` is there and alive. Leaves no trace.
    #[inline]
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
    {
        self.look(key, |cell, hash, now| cell.shard.peek(hash, key, now).is_some())
    }

    /// How long `key` will still be served if nobody uses it: `None` if it isn't there, [`Duration::MAX`] if it doesn't
    /// expire. Leaves no trace.
    ///
    /// Right after an entry was stored, that is up to two ticks of the system's coarse clock (8 ms on most Linux systems) less than its
    /// time-to-live, and up to three less than the time-to-idle: that clock errs early, and this tells of the deadline as it is kept.
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

    /// Stores `value` under `key` as the most recently used entry, for the cache's time-to-live. Evicts the least recently
    /// used entries of the shard if the cache is full.
    ///
    /// False if the entry is not kept, which happens only if it is heavier than the whole cache; an older value of the key
    /// is forgotten then too. O(1), plus what is evicted.
    pub fn insert(&self, key: K, value: V) -> bool {
        self.insert_for(key, value, Lifetime::Default)
    }

    /// As [`insert`](Self::insert), for a time-to-live of its own. Zero means: don't keep it, and forget an older value; that
    /// is false, too. Too long a duration means *for ever*. It overrides the cache's time-to-live only: a
    /// [time-to-idle](Builder::time_to_idle) applies besides, so that even an entry for ever leaves when nobody uses it.
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

    /// As [`insert`](Self::insert), but only hands the entry over and goes on: if the shard is busy (or, under `PerCore`,
    /// always) it is stored a little later, and what it displaces is dropped by another thread. Calls that start after this
    /// one returned see it.
    ///
    /// An entry for which room would have to be made in other shards is rejected instead. Unlike the calls that wait, this
    /// one may be made from inside code that runs in a cache. There, if the shard's mailbox (of 256 messages) is full, the entry is accepted
    /// only once the shard whose code this is has been given back: under `PerCore` that may be after the outer call returned, and a call
    /// that starts then may not see the entry yet.
    pub fn post_insert(&self, key: K, value: V) {
        let inner = self.inner();
        let arrival = inner.arrival(key, value, Lifetime::Default);
        let index = inner.route(arrival.hash);
        let now = inner.common.time.for_storing();
        inner.common.expect_untold();
        // After the post, also if dropping what it displaced panics.
        let _wake = WakeLater { inner, index };
        inner.delegates.post(index, PostedInsert { arrival, now });
    }

    /// Removes `key` and returns its value, if it was there and alive. O(1).
    pub fn remove<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
    {
        self.remove_entry(key).map(|(_key, value)| value)
    }

    /// Removes `key`; nothing afterwards sees its value, nor one of which a [load](Self::get_or_insert_with) had begun before. O(1).
    pub fn invalidate<Q>(&self, key: &Q)
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
    {
        self.invalidate_found(key);
    }

    /// The same, and says whether it was there and alive.
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

    /// Removes everything. Each shard is emptied at one moment, and what they held is dropped by this thread when all of them are. Entries
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

    /// Changes what the builder's `max_capacity` said; a larger one is available at once. If the new one is smaller than what is
    /// there, every shard gives up its least recently used entries, in proportion, before this returns. Zero empties the
    /// cache and keeps it empty.
    pub fn set_capacity(&self, capacity: u64) {
        self.inner().change_capacity(capacity);
    }

    /// How many entries there are, dead ones that nobody has reclaimed yet included. Exact, never above the capacity, and O(1).
    #[must_use]
    pub fn entry_count(&self) -> u64 {
        self.inner.common.ledger.used().entries
    }

    /// The sum of the weights of all entries; their number if there is no weigher. Exact, never above the capacity, and O(1).
    #[must_use]
    pub fn weighted_size(&self) -> u64 {
        self.inner.common.ledger.used().weight
    }

    /// The capacity, as [`set_capacity`](Self::set_capacity) or the builder said last; `u64::MAX` if there is no bound.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        let limit = self.inner.common.ledger.limit();
        if self.inner.common.ledger.is_weighted() { limit.weight } else { limit.entries }
    }

    /// Reclaims everything that is past its deadline, all of it, and drops it on this thread.
    ///
    /// Workers do this by themselves; call it where there are none (`workers(0)`, a manual clock). There it costs some nanoseconds for
    /// each shard in which nothing is due, unless entries were [posted](Self::post_insert): then every shard is asked.
    pub fn run_pending_tasks(&self) {
        let inner = self.inner();
        let now = inner.common.time.for_reading();
        for index in 0..inner.delegates.len() {
            // The first one is always asked, so that a call that can't be served fails always, not only when something is due.
            while index == 0 || !inner.common.is_quiet(index, now) {
                let mut out = inner.outgoing();
                if !inner.delegates.run(index, |cell| cell.reclaim(now, RECLAIM_AT_ONCE, &mut out)) {
                    break;
                }
            }
        }
    }

    /// What has happened so far, over all shards. Asks each of them in turn.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats { dispatch: self.inner.delegates.counts(), ..Stats::default() };
        for index in 0..self.inner.delegates.len() {
            stats.add(&self.inner.delegates.run(index, |cell| cell.shard.counters()));
        }
        stats
    }

    /// How many shards there are.
    #[must_use]
    pub fn shard_count(&self) -> usize {
        self.inner.delegates.len()
    }

    /// How many threads of its own the cache runs now.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        self.inner.delegates.threads()
    }

    /// What the builder named it.
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

    /// The shard of a hash: its upper half as a fraction of all shards. Shards index by the lower half.
    #[inline]
    pub(crate) fn route(&self, hash: u64) -> usize {
        // Less than `len`, which is a usize.
        (((hash >> 32) * self.delegates.len() as u64) >> 32) as usize
    }

    /// As [`route`](Self::route), for a request that will follow soon: what it will read first is being loaded.
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

/// Finds out what a look-up is whose entry may be dead. Apart, so that the others have little around them: in large caches that
/// is what lets a processor begin with the next one while it waits for the memory of this one.
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
    // What expired is dropped after the shard is given back, whichever way this ends.
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
    /// Another handle of the same cache.
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
