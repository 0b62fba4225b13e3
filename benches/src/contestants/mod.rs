//! The caches under test, behind one small trait so that every scenario treats them alike.
//!
//! Scenarios are generic over [`Contestant`] and so compiled once per cache: no call in a timed loop is
//! virtual. They describe what to do with a cache as an [`Enter`] or [`EnterExpiring`], and [`Name`] calls it
//! with the right type.

mod clock;
mod dashmap_design;
mod deadline_in_value;
mod fibre;
mod foyer;
mod kora;
mod moka;
mod mutex_lru;
mod name;
mod quick_cache;
mod sark;
mod tinyufo;

use std::time::{Duration, Instant};

use crate::measure::Fields;

pub use name::{Enter, EnterExpiring, EnterReclaiming, EnterUpdating, Name};

/// Why a contestant cannot take part in something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent(pub String);

/// The hasher every contestant gets. Its seeds are fixed, so that keys are placed the same way in each run.
pub type Hasher = ahash::RandomState;

/// Returns the common [`Hasher`].
pub fn hasher() -> Hasher {
    ahash::RandomState::with_seeds(0x5a17, 0xcac4e, 0x1ea5e, 0x70ad)
}

/// What a cache is built for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How much it may hold.
    pub capacity: Capacity,
    /// How many parts to split its policy into; `None` leaves what its users get. A cache with one policy for
    /// all entries stays undivided.
    pub shards: Option<usize>,
    /// The time-to-live of every [`insert`](Contestant::insert), if any.
    pub time_to_live: Option<Duration>,
    /// When expired entries free their space, if the cache leaves a choice.
    pub reclaim: Reclaim,
}

impl Plan {
    /// Plans a cache of this many entries, otherwise as its users get it.
    pub fn entries(capacity: u64) -> Self {
        Self { capacity: Capacity::Entries(capacity), shards: None, time_to_live: None, reclaim: Reclaim::Prompt }
    }
}

/// When the space of an expired entry is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Reclaim {
    /// As soon as the entry expires.
    Prompt,
    /// When the expired entry is touched or evicted.
    Lazy,
}

/// How entries left a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Departures {
    /// Removed to make room.
    pub evicted: u64,
    /// Found expired by a look-up.
    pub expired_on_get: u64,
    /// Expired, and removed without a look-up.
    pub reclaimed: u64,
}

/// A limit on entries or on bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// This many entries, whatever their size.
    Entries(u64),
    /// Entries of this many bytes together, by their [`Weigh`].
    Bytes(u64),
}

/// The size of a value, for caches limited in bytes.
pub trait Weigh {
    /// Returns the size in bytes, at most `u32::MAX`.
    fn weigh(&self) -> u32;
}

/// A number stands for a value of that many bytes.
impl Weigh for u64 {
    fn weigh(&self) -> u32 {
        u32::try_from(*self).unwrap_or(u32::MAX)
    }
}

impl Weigh for std::sync::Arc<str> {
    fn weigh(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }
}

/// The requirements of all contestants on a key.
pub trait Key: std::hash::Hash + Eq + Clone + Send + Sync + 'static {}
impl<K: std::hash::Hash + Eq + Clone + Send + Sync + 'static> Key for K {}

/// The requirements of all contestants on a value.
pub trait Value: Weigh + Clone + Send + Sync + 'static {}
impl<V: Weigh + Clone + Send + Sync + 'static> Value for V {}

/// A cache under test.
pub trait Contestant<K: Key, V: Value>: Send + Sync + Sized + 'static {
    /// Builds the cache, or says why it can't be built to this plan.
    ///
    /// # Errors
    /// [`Absent`] if the cache does not have what the plan asks for.
    fn build(plan: &Plan) -> Result<Self, Absent>;

    /// Returns a copy of the live value. The cache's policy counts this as a use.
    fn get(&self, key: &K) -> Option<V>;

    /// Stores an entry, with the plan's time-to-live if it has one.
    fn insert(&self, key: K, value: V);

    /// Removes an entry, and returns whether there was one.
    fn remove(&self, key: &K) -> bool;

    /// Returns how its entries left, if the cache counts that itself; otherwise the scenario works it out.
    fn departures(&self) -> Option<Departures> {
        None
    }

    /// Returns how many entries it holds, after finishing any work it has put off. Not for a timed loop.
    fn entries(&self) -> u64;

    /// Says how entries of this cache expire, for the rows of runs with a time-to-live.
    fn expiry(&self) -> &'static str;

    /// Returns what else the row should say about a run.
    fn remarks(&self) -> Fields {
        Fields::new()
    }

    /// Stores many entries as fast as the cache can, to fill it before anything is timed.
    fn insert_many(&self, entries: impl IntoIterator<Item = (K, V)>) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }

    /// Looks up several keys. Caches without a batch operation loop.
    fn get_many(&self, keys: &[K], mut each: impl FnMut(Option<V>)) {
        for key in keys {
            each(self.get(key));
        }
    }
}

/// A cache that can change a value, in place or by replacing it, while no other thread changes it.
pub trait Updating<K: Key, V: Value>: Contestant<K, V> {
    /// Changes the value of `key`, and returns whether there was one. If so, `change` is called once.
    fn update(&self, key: &K, change: impl Fn(&mut V) + Send + Sync) -> bool;

    /// Says what this cache calls the operation, for the row.
    fn update_is(&self) -> &'static str;
}

/// A cache that reclaims expired entries although nothing calls it, and takes a deadline for each entry.
pub trait Reclaiming<K: Key, V: Value>: Contestant<K, V> {
    /// Stores an entry that is live before `due`, on the machine's clock.
    fn insert_until(&self, key: K, value: V, due: Instant);
}

/// What a look-up found, for caches on a clock that the workload moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<V> {
    /// A live entry.
    Live(V),
    /// An expired entry, which is gone now or about to be replaced.
    Dead,
    /// Nothing.
    Nothing,
}

/// A cache whose entries each have their own time-to-live, on a clock that the workload moves.
///
/// The clock begins at zero and stands still until [`set_time`](Self::set_time).
pub trait Expiring<K: Key, V: Value>: Contestant<K, V> {
    /// Stores an entry that is live while the clock shows less than now + `ttl`.
    fn insert_with_ttl(&self, key: K, value: V, ttl: Duration);

    /// Looks up a key like [`get`](Contestant::get), but tells an expired entry from none.
    fn look_up(&self, key: &K) -> Found<V>;

    /// Does the same for a caller that stores the key at once if no live entry is found. A cache whose
    /// expired entries are removed from outside can leave that to the insertion.
    #[inline]
    fn look_up_or_store(&self, key: &K) -> Found<V> {
        self.look_up(key)
    }

    /// Moves the clock, but never backwards.
    fn set_time(&self, now: Duration);
}
