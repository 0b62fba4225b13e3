//! The caches under test, behind one small trait so that every scenario treats them alike.
//!
//! Scenarios are generic over [`Contestant`] and so compiled once per cache: no call in a timed loop is virtual. They
//! write down what to do with a cache as an [`Enter`] or [`EnterExpiring`], and [`Name`] calls it with the right type.

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

/// The hasher every contestant gets, with fixed seeds: the same keys go the same ways in each run.
pub type Hasher = ahash::RandomState;

/// The one [`Hasher`].
pub fn hasher() -> Hasher {
    ahash::RandomState::with_seeds(0x5a17, 0xcac4e, 0x1ea5e, 0x70ad)
}

/// What a cache is built for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How much it may hold.
    pub capacity: Capacity,
    /// Into how many parts to split its policy; `None` leaves it what its users get. Caches whose policy is one for all
    /// entries stay so.
    pub shards: Option<usize>,
    /// A time-to-live that every [`insert`](Contestant::insert) gets.
    pub time_to_live: Option<Duration>,
    /// When expired entries give their places back, where the cache leaves a choice.
    pub reclaim: Reclaim,
}

impl Plan {
    /// A cache of so many entries, otherwise as its users get it.
    pub fn entries(capacity: u64) -> Self {
        Self { capacity: Capacity::Entries(capacity), shards: None, time_to_live: None, reclaim: Reclaim::Prompt }
    }
}

/// When the place of an expired entry is free again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Reclaim {
    /// The dead leave at once.
    Prompt,
    /// The dead keep their place until touched or evicted.
    Lazy,
}

/// How entries left a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Departures {
    /// For want of room.
    pub evicted: u64,
    /// Dead when a look-up met them.
    pub expired_on_get: u64,
    /// Dead, and removed without anybody asking for them.
    pub reclaimed: u64,
}

/// A bound in entries or in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// So many entries, whatever their size.
    Entries(u64),
    /// Entries of so many bytes together, as their [`Weigh`] says.
    Bytes(u64),
}

/// The size of a value, for caches bounded in bytes.
pub trait Weigh {
    /// Bytes, at most `u32::MAX`.
    fn weigh(&self) -> u32;
}

/// A number stands for a value of so many bytes.
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

/// What a key must be able to do for all contestants.
pub trait Key: std::hash::Hash + Eq + Clone + Send + Sync + 'static {}
impl<K: std::hash::Hash + Eq + Clone + Send + Sync + 'static> Key for K {}

/// What a value must be able to do for all contestants.
pub trait Value: Weigh + Clone + Send + Sync + 'static {}
impl<V: Weigh + Clone + Send + Sync + 'static> Value for V {}

/// A cache under test.
pub trait Contestant<K: Key, V: Value>: Send + Sync + Sized + 'static {
    /// Builds it, or says why it can't be built like that.
    ///
    /// # Errors
    /// [`Absent`] when the cache does not have what the plan asks for.
    fn build(plan: &Plan) -> Result<Self, Absent>;

    /// A copy of the live value, counted as a use by the cache's policy.
    fn get(&self, key: &K) -> Option<V>;

    /// Stores, with the plan's time-to-live if it has one.
    fn insert(&self, key: K, value: V);

    /// Forgets; true when there was something to forget.
    fn remove(&self, key: &K) -> bool;

    /// How its entries left, where it counts that itself; else the scenario works it out.
    fn departures(&self) -> Option<Departures> {
        None
    }

    /// How many entries it holds, once whatever it put off has been done. Not for a timed loop.
    fn entries(&self) -> u64;

    /// How entries of this cache expire, for the rows of runs with a time-to-live.
    fn expiry(&self) -> &'static str;

    /// What else it has to say about a run, for the row.
    fn remarks(&self) -> Fields {
        Fields::new()
    }

    /// Stores many entries, as quickly as the cache can; for filling it before anything is timed.
    fn insert_many(&self, entries: impl IntoIterator<Item = (K, V)>) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }

    /// Looks several keys up; caches without a batch of their own loop.
    fn get_many(&self, keys: &[K], mut each: impl FnMut(Option<V>)) {
        for key in keys {
            each(self.get(key));
        }
    }
}

/// A cache that can change a value, in its place or by another one, while nobody else changes it.
pub trait Updating<K: Key, V: Value>: Contestant<K, V> {
    /// Changes the value of `key` if it is there; says whether it was. `change` is called once then.
    fn update(&self, key: &K, change: impl Fn(&mut V) + Send + Sync) -> bool;

    /// What this cache calls it, for the row.
    fn update_is(&self) -> &'static str;
}

/// A cache that gives back what is dead by itself, with nobody calling, and takes a deadline for each entry.
pub trait Reclaiming<K: Key, V: Value>: Contestant<K, V> {
    /// Stores an entry that is live before `due`, on the machine's clock.
    fn insert_until(&self, key: K, value: V, due: Instant);
}

/// What a look-up met, for caches on a clock that the workload moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<V> {
    /// A live entry.
    Live(V),
    /// An entry whose time was up; it is gone now, or about to be replaced.
    Dead,
    /// Nothing.
    Nothing,
}

/// A cache whose entries each have a time-to-live of their own, on a clock that the workload moves.
///
/// It begins at zero and stands still until [`set_time`](Self::set_time).
pub trait Expiring<K: Key, V: Value>: Contestant<K, V> {
    /// Stores an entry that is live while the clock shows less than now + `ttl`.
    fn insert_with_ttl(&self, key: K, value: V, ttl: Duration);

    /// Like [`get`](Contestant::get), and tells a dead entry from none.
    fn look_up(&self, key: &K) -> Found<V>;

    /// The same, for a caller who stores the key at once if it is not found alive: a cache whose dead are removed from
    /// outside can leave that to the insertion.
    #[inline]
    fn look_up_or_store(&self, key: &K) -> Found<V> {
        self.look_up(key)
    }

    /// Moves the clock, never backwards.
    fn set_time(&self, now: Duration);
}
