//! Setting a cache up: the settings, their defaults, and what is refused.

use std::hash::{BuildHasher, Hash};
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use sark_delegate::{Delegates, Dispatch, Transport};
use sark_shard::{Config, RemovalCause, Room, Shard};
use thiserror::Error;

use crate::Cache;
use crate::cache::Inner;
use crate::clock::{Clock, Timekeeping, nanos};
use crate::hints::SharedHint;
use crate::ledger::Ledger;
use crate::load::Loads;
use crate::outgoing::Listener;
use crate::resident::{Cell, Common};

/// Returns the weight of an entry.
pub(crate) type Weigher<K, V> = Arc<dyn Fn(&K, &V) -> u32 + Send + Sync>;

/// Shards of fewer entries than this would make the order of eviction coarse, and save nothing.
const ENTRIES_PER_SHARD: u64 = 512;
/// The same for caches that are bounded by weight only, which is usually bytes.
const WEIGHT_PER_SHARD: u64 = 1 << 20;
/// The index of a shard grows while the shard is held, and a larger shard would be held for longer.
const MOST_ENTRIES_PER_SHARD: u64 = 1 << 16;
/// Shards per processor under `Adaptive`, so that callers rarely meet.
const SHARDS_PER_PROCESSOR: u64 = 16;
/// More shards than this are refused.
const MOST_SHARDS: usize = 1 << 16;

/// Why a cache could not be built.
///
/// The message says which setting is wrong, what it was, and what is allowed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A cache of capacity zero could not hold anything.
    #[error("{setting}: 0 was given, at least 1 is needed for a cache that holds anything")]
    ZeroCapacity {
        /// `max_capacity` or `max_entries`; `max_size` or `max_bytes` of an
        /// [`LruTtlCache`](crate::LruTtlCache).
        setting: &'static str,
    },
    /// Entries would have expired on arrival.
    #[error("{setting}: a duration of zero was given, it must be longer (leave it out for entries that don't expire)")]
    ZeroDuration {
        /// `time_to_live` or `time_to_idle`.
        setting: &'static str,
    },
    /// No shards, more than can be useful, or more than there may be entries.
    #[error("shards: {given} was given, 1 to {most} is allowed{}", why(*bounded_by))]
    Shards {
        /// The number that was given.
        given: usize,
        /// The largest number that is allowed.
        most: usize,
        /// `max_capacity` or `max_entries`, if that is what allows no more. Without them the bound is 65,536.
        bounded_by: Option<&'static str>,
    },
    /// `PerCore` serves every request on a worker thread, so it needs one.
    #[error("workers: 0 was given with PerCore dispatch, at least 1 is needed, since callers never run shards there")]
    NoWorkers,
    /// Thread names can't hold NUL.
    #[error("name: {0:?} was given, it must not contain a NUL character")]
    Name(String),
    /// Without a weigher every entry counts as one, and `max_capacity` bounds their number already.
    #[error(
        "max_entries: {0} was given without a weigher, where each entry counts as 1 and max_capacity bounds their number"
    )]
    EntriesTwice(u64),
}

/// The rest of the sentence.
fn why(bounded_by: Option<&'static str>) -> String {
    bounded_by.map_or_else(String::new, |setting| format!(", at most one for each entry that {setting} lets in"))
}

/// Builds a [`Cache`]. Made by [`Cache::builder`].
///
/// ```
/// use std::time::Duration;
/// use sark_cache::Cache;
///
/// let cache: Cache<String, Vec<u8>> = Cache::builder()
///     .max_capacity(64 << 20)
///     .weigher(|key: &String, value: &Vec<u8>| u32::try_from(key.len() + value.len()).unwrap_or(u32::MAX))
///     .time_to_live(Duration::from_secs(300))
///     .build()?;
/// cache.insert("key".to_owned(), vec![1, 2, 3]);
/// assert_eq!(cache.weighted_size(), 6);
/// # Ok::<(), sark_cache::ConfigError>(())
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder<K, V, H = ahash::RandomState> {
    max_capacity: Option<u64>,
    max_entries: Option<u64>,
    weigher: Option<Weigher<K, V>>,
    eviction_listener: Listener<K, V>,
    time_to_live: Option<Duration>,
    time_to_idle: Option<Duration>,
    shards: Option<usize>,
    dispatch: Dispatch,
    workers: Option<usize>,
    pin: bool,
    transport: Transport,
    hasher: H,
    clock: Clock,
    name: String,
}

impl<K, V> Builder<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            max_capacity: None,
            max_entries: None,
            weigher: None,
            eviction_listener: None,
            time_to_live: None,
            time_to_idle: None,
            shards: None,
            dispatch: Dispatch::default(),
            workers: None,
            pin: true,
            transport: Transport::default(),
            hasher: ahash::RandomState::new(),
            clock: Clock::system(),
            name: "sark-cache".to_owned(),
        }
    }
}

impl<K, V, H> Builder<K, V, H> {
    /// Sets the most that the cache holds at any moment.
    ///
    /// It counts entries, or, with a [`weigher`](Self::weigher), the sum of their weights. Without it the
    /// cache is unbounded.
    pub fn max_capacity(mut self, capacity: u64) -> Self {
        self.max_capacity = Some(capacity);
        self
    }

    /// Sets the most entries that the cache holds, in addition to the bound on their weight.
    ///
    /// This is only for caches with a [`weigher`](Self::weigher).
    pub fn max_entries(mut self, entries: u64) -> Self {
        self.max_entries = Some(entries);
        self
    }

    /// Sets how heavy an entry is, in a unit of your choice.
    ///
    /// The weigher is called once per insertion, by the thread that inserts, with no shard held. A weight of
    /// zero is allowed: such entries leave with the others.
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Arc::new(weigher));
        self
    }

    /// Sets a listener that gets each entry that leaves the cache and that no caller gets, with the cause.
    ///
    /// These are the entries that were evicted, that expired (when that is noticed), that were invalidated
    /// and that were not kept, and the values that were replaced. [`Cache::remove`] gives the value to its
    /// caller instead. What is left when the cache itself is dropped is dropped with it.
    ///
    /// The listener is called once for each entry, after the fact, with no shard held, so it may use the
    /// cache. The thread whose call made the entry leave calls it. For what expired without any call, that is
    /// a worker. For what a posted insertion displaced, it is the thread that served the post, which may be
    /// any caller. A listener that takes its time holds these threads up.
    ///
    /// Entries that leave in two threads may be reported in either order. If the listener panics, the other
    /// entries are reported nevertheless. The panic reaches the call that made them leave, or is counted if
    /// that was a worker or a post.
    ///
    /// A listener that owns a handle of its cache keeps the cache for ever. Give it a `Weak` of an `Arc`
    /// around a handle.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use sark_cache::{Cache, RemovalCause};
    ///
    /// let (leaves, left) = mpsc::channel();
    /// let cache = Cache::builder()
    ///     .max_capacity(1)
    ///     .eviction_listener(move |key, value, cause| leaves.send((key, value, cause)).unwrap())
    ///     .build()?;
    /// cache.insert("one", 1);
    /// cache.insert("two", 2);
    /// assert_eq!(left.try_iter().collect::<Vec<_>>(), [("one", 1, RemovalCause::Size)]);
    /// # Ok::<(), sark_cache::ConfigError>(())
    /// ```
    pub fn eviction_listener(mut self, listener: impl Fn(K, V, RemovalCause) + Send + Sync + 'static) -> Self {
        self.eviction_listener = Some(Arc::new(listener));
        self
    }

    /// Sets how long an entry is served after it was stored.
    ///
    /// A hit doesn't extend that time, and [`Cache::insert_with_ttl`] overrides it for one entry. Without it
    /// entries stay until they are evicted. A duration beyond the range of the clock means *for ever*.
    pub fn time_to_live(mut self, duration: Duration) -> Self {
        self.time_to_live = Some(duration);
        self
    }

    /// Sets how long an entry is served after it was last read or stored.
    ///
    /// An entry is never served for longer than that. It may be served for up to three ticks of the system's
    /// coarse clock less (12 ms on most Linux systems). Durations shorter than eight ticks are kept exactly.
    pub fn time_to_idle(mut self, duration: Duration) -> Self {
        self.time_to_idle = Some(duration);
        self
    }

    /// Sets into how many shards the cache is divided.
    ///
    /// The order of eviction is exact within a shard, so with 1 it is exact LRU over everything. The default
    /// is 16 per processor under `Adaptive` and one per processor under `PerCore`. There are fewer if each
    /// would hold less than 512 entries, or, in a cache that is bounded by weight only, less than 2^20 of
    /// weight. Under `Adaptive` there are more, up to 4,096, if each would hold more than 65,536 entries.
    ///
    /// At most 65,536 are allowed, and no more than entries. Each shard takes nearly a kilobyte before it
    /// holds anything (65,536 of them some 60 MiB). A batch takes time for each shard there is, in addition
    /// to that for its keys.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Sets which threads run the shards.
    ///
    /// These are the callers where they can ([`Dispatch::Adaptive`], the default), or threads of the cache
    /// ([`Dispatch::PerCore`]).
    pub fn dispatch(mut self, dispatch: Dispatch) -> Self {
        self.dispatch = dispatch;
        self
    }

    /// Sets the most worker threads that the cache may start.
    ///
    /// The default is one under `Adaptive`, started when it is first needed, and one per shard under
    /// `PerCore`. With 0, which is for `Adaptive` only, there is never a thread. Then insertions and
    /// [`Cache::run_pending_tasks`] reclaim what expired.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Sets whether `PerCore` ties its threads to cores, of those that the process may use. True by default.
    pub fn pin(mut self, pin: bool) -> Self {
        self.pin = pin;
        self
    }

    /// Sets how requests whose callers wait reach the threads of `PerCore`.
    ///
    /// They go through a channel ([`Transport::Channel`], the default), or through a slot for each caller
    /// ([`Transport::Slots`]), which takes two thirds to three quarters of the time. Under `Adaptive` this
    /// makes no difference.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Sets what hashes keys.
    ///
    /// Its hashes must be well mixed in all 64 bits: the upper half picks the shard, the lower half the place
    /// within it. If a hasher returns integers as they are, all entries are sought in the same place.
    pub fn hasher<H2>(self, hasher: H2) -> Builder<K, V, H2> {
        Builder {
            max_capacity: self.max_capacity,
            max_entries: self.max_entries,
            weigher: self.weigher,
            eviction_listener: self.eviction_listener,
            time_to_live: self.time_to_live,
            time_to_idle: self.time_to_idle,
            shards: self.shards,
            dispatch: self.dispatch,
            workers: self.workers,
            pin: self.pin,
            transport: self.transport,
            hasher,
            clock: self.clock,
            name: self.name,
        }
    }

    /// Sets the clock that deadlines are kept on.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the name of the cache and its threads.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }
}

impl<K, V, H> Builder<K, V, H>
where
    K: Hash + Eq + Send + 'static,
    V: Send + 'static,
    H: BuildHasher,
{
    /// Builds the cache. Starts no thread, and allocates little until entries come.
    ///
    /// # Errors
    /// [`ConfigError`] says which setting is wrong, what it was and what is allowed.
    pub fn build(self) -> Result<Cache<K, V, H>, ConfigError> {
        for (setting, capacity) in [("max_capacity", self.max_capacity), ("max_entries", self.max_entries)] {
            if capacity == Some(0) {
                return Err(ConfigError::ZeroCapacity { setting });
            }
        }
        for (setting, duration) in [("time_to_live", self.time_to_live), ("time_to_idle", self.time_to_idle)] {
            if duration == Some(Duration::ZERO) {
                return Err(ConfigError::ZeroDuration { setting });
            }
        }
        if let (Some(given), None) = (self.max_entries, &self.weigher) {
            return Err(ConfigError::EntriesTwice(given));
        }
        if self.name.contains('\0') {
            return Err(ConfigError::Name(self.name));
        }
        if self.workers == Some(0) && self.dispatch == Dispatch::PerCore {
            return Err(ConfigError::NoWorkers);
        }
        let (entries, weight) = match self.weigher {
            Some(_) => (self.max_entries, Some(self.max_capacity.unwrap_or(u64::MAX))),
            None => (self.max_capacity, None),
        };
        let shards = self.shard_count(entries, weight)?;
        let workers_reclaim = self.workers != Some(0) && self.clock.can_be_slept_on();
        // If callers never run shards, the hints would load the lines into the wrong core's cache.
        let hinted = if self.dispatch == Dispatch::Adaptive { shards } else { 0 };
        let common = Arc::new(Common {
            ledger: Ledger::new(entries.unwrap_or(u64::MAX), weight),
            time: Timekeeping::new(self.clock),
            workers_reclaim,
            hints: std::iter::repeat_with(SharedHint::default).take(hinted).collect(),
            quiet_until: (0..if workers_reclaim { 0 } else { shards }).map(|_| AtomicU64::new(u64::MAX)).collect(),
            untold: AtomicBool::new(false),
        });
        let time_to_live = self.time_to_live.map(nanos);
        let time_to_idle = self.time_to_idle.map(nanos);
        for lifetime in [time_to_live, time_to_idle].into_iter().flatten() {
            common.time.prepare_for(lifetime);
        }
        let config = Config {
            budget: common.ledger.budget_for(Room::NONE),
            time_to_live,
            time_to_idle: time_to_idle.map(|nanos| common.time.idle_time(nanos)),
            capacity_hint: usize::try_from(entries.map_or(0, |entries| expected_most(entries, shards as u64)))
                .unwrap_or(0),
        };
        let cells = (0..shards)
            .map(|index| Cell::new(Shard::new(config), index, Arc::clone(&common), self.eviction_listener.clone()));
        let delegates = Delegates::new(
            sark_delegate::Config {
                dispatch: self.dispatch,
                workers: self.workers,
                pin: self.pin,
                transport: self.transport,
                name: self.name.clone(),
                ..sark_delegate::Config::default()
            },
            cells,
        )
        .map_err(|_| ConfigError::NoWorkers)?;
        Ok(Cache::from_inner(Inner {
            delegates,
            hasher: self.hasher,
            common,
            weigher: self.weigher,
            default_lifetime: [time_to_live, time_to_idle].into_iter().flatten().min(),
            listener: self.eviction_listener.clone(),
            loads: Box::new(Loads::new()),
            name: self.name,
        }))
    }

    fn shard_count(&self, entries: Option<u64>, weight: Option<u64>) -> Result<usize, ConfigError> {
        let most = usize::try_from(entries.unwrap_or(u64::MAX)).unwrap_or(usize::MAX).min(MOST_SHARDS);
        if let Some(given) = self.shards {
            let setting = if self.weigher.is_some() { "max_entries" } else { "max_capacity" };
            let bounded_by = (most < MOST_SHARDS).then_some(setting);
            return if (1..=most).contains(&given) {
                Ok(given)
            } else {
                Err(ConfigError::Shards { given, most, bounded_by })
            };
        }
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get) as u64;
        let useful = entries.map_or(u64::MAX, |entries| entries / ENTRIES_PER_SHARD);
        let useful = useful.min(match (entries, weight) {
            (None, Some(weight)) => weight / WEIGHT_PER_SHARD,
            _ => u64::MAX,
        });
        let shards = match self.dispatch {
            Dispatch::PerCore => processors,
            Dispatch::Adaptive => {
                let needed = entries.map_or(0, |entries| entries / MOST_ENTRIES_PER_SHARD);
                (processors * SHARDS_PER_PROCESSOR).max(needed.min(1 << 12))
            }
        };
        Ok(usize::try_from(shards.min(useful).max(1)).unwrap_or(1).min(most))
    }
}

/// A number of `entries` that one of `shards` shards hardly ever exceeds. Hashes spread the entries like
/// dice, so this is the mean plus three standard deviations. A shard with more grows by an eighth.
fn expected_most(entries: u64, shards: u64) -> u64 {
    let mean = entries.div_ceil(shards);
    if shards == 1 { entries } else { mean.saturating_add(3 * mean.isqrt()).min(entries) }
}

impl<K, V, H> std::fmt::Debug for Builder<K, V, H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("max_capacity", &self.max_capacity)
            .field("max_entries", &self.max_entries)
            .field("weigher", &self.weigher.is_some())
            .field("time_to_live", &self.time_to_live)
            .field("time_to_idle", &self.time_to_idle)
            .field("shards", &self.shards)
            .field("dispatch", &self.dispatch)
            .field("workers", &self.workers)
            .field("transport", &self.transport)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_expects_no_more_than_there_is_and_a_little_more_than_its_share() {
        assert_eq!(expected_most(1000, 1), 1000);
        assert_eq!(expected_most(32, 32), 4);
        assert_eq!(expected_most(2, 2), 2);
        assert_eq!(expected_most(1_000_000, 32), 31_250 + 3 * 176);
        assert!(expected_most(u64::MAX, 3) > u64::MAX / 3);
    }
}
