//! The contestants by name, and the mapping from names to types.

use std::fmt;

use super::dashmap_design::DashmapDesign;
use super::deadline_in_value::{DeadlineInValue, Timed};
use super::fibre::Fibre;
use super::foyer::Foyer;
use super::kora::{self, Kora};
use super::moka::Moka;
use super::mutex_lru::MutexLru;
use super::quick_cache::QuickCache;
use super::sark::{BareShard, Sark};
use super::tinyufo::TinyUfoCache;
use super::{Absent, Capacity, Contestant, Expiring, Key, Plan, Reclaim, Reclaiming, Updating, Value};

/// A contestant, under the name that rows and `--contestants` use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Name {
    /// sark-cache as its users get it.
    SarkCache,
    /// sark-cache with a pinned thread for each shard.
    #[value(name = "sark-cache-percore")]
    SarkPerCore,
    /// The design that sark-cache replaces.
    DashmapDesign,
    /// The `lru` crate behind sharded mutexes.
    MutexLru,
    /// The `quick_cache` crate (crates are spelled as on the registry).
    #[value(name = "quick_cache")]
    QuickCache,
    /// The `moka` crate.
    Moka,
    /// The `TinyUFO` crate.
    #[value(name = "tinyufo")]
    TinyUfo,
    /// The memory part of the `foyer` crate.
    Foyer,
    /// The `fibre_cache` crate.
    #[value(name = "fibre_cache")]
    FibreCache,
    /// The `kora-embedded` crate, which takes part in nothing.
    KoraEmbedded,
}

/// The two clocks: the machine's, and one that the workload moves.
const WALL: bool = false;
const HAND: bool = true;

/// What to do with a cache once its type is known.
pub trait Enter<K: Key, V: Value> {
    /// The result.
    type Output;
    /// Does it.
    fn enter<C: Contestant<K, V>>(self) -> Self::Output;
}

/// What to do, once its type is known, with a cache whose entries expire on the workload's clock.
pub trait EnterExpiring<K: Key, V: Value> {
    /// The result.
    type Output;
    /// Does it.
    fn enter<C: Expiring<K, V>>(self) -> Self::Output;
}

/// What to do, once its type is known, with a cache that changes values in place.
pub trait EnterUpdating<K: Key, V: Value> {
    /// The result.
    type Output;
    /// Does it.
    fn enter<C: Updating<K, V>>(self) -> Self::Output;
}

/// What to do, once its type is known, with a cache that reclaims expired entries although nothing calls it.
pub trait EnterReclaiming<K: Key, V: Value> {
    /// The result.
    type Output;
    /// Does it.
    fn enter<C: Reclaiming<K, V>>(self) -> Self::Output;
}

impl Name {
    /// All contestants, in the order in which they run and are shown.
    pub const ALL: &[Self] = &[
        Self::SarkCache,
        Self::SarkPerCore,
        Self::DashmapDesign,
        Self::MutexLru,
        Self::QuickCache,
        Self::Moka,
        Self::TinyUfo,
        Self::Foyer,
        Self::FibreCache,
        Self::KoraEmbedded,
    ];

    /// Returns the spelling used in rows and options.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SarkCache => "sark-cache",
            Self::SarkPerCore => "sark-cache-percore",
            Self::DashmapDesign => "dashmap-design",
            Self::MutexLru => "mutex-lru",
            Self::QuickCache => "quick_cache",
            Self::Moka => "moka",
            Self::TinyUfo => "tinyufo",
            Self::Foyer => "foyer",
            Self::FibreCache => "fibre_cache",
            Self::KoraEmbedded => "kora-embedded",
        }
    }

    /// Returns the crates whose versions say what was measured.
    pub fn crates(self) -> &'static [&'static str] {
        match self {
            Self::SarkCache | Self::SarkPerCore => &["sark-cache"],
            Self::DashmapDesign => &["dashmap"],
            Self::MutexLru => &["lru", "parking_lot"],
            Self::QuickCache => &["quick_cache"],
            Self::Moka => &["moka"],
            Self::TinyUfo => &["TinyUFO"],
            Self::Foyer => &["foyer-memory"],
            Self::FibreCache => &["fibre_cache"],
            // Not built in, since it takes no part.
            Self::KoraEmbedded => &[],
        }
    }

    /// Returns true for the contestant that all others are compared with.
    pub fn is_ours(self) -> bool {
        self == Self::SarkCache
    }

    /// Calls `what` with the type of this cache, limited in entries, none of which expires.
    ///
    /// This and the next two are separate, so that a scenario is compiled only for the types it can meet.
    pub fn with<K: Key, V: Value, E: Enter<K, V>>(self, what: E) -> E::Output {
        match self {
            Self::SarkCache => what.enter::<Sark<K, V, false, WALL>>(),
            Self::SarkPerCore => what.enter::<Sark<K, V, true, WALL>>(),
            Self::DashmapDesign => what.enter::<DashmapDesign<K, V, WALL>>(),
            Self::MutexLru => what.enter::<MutexLru<K, V>>(),
            Self::QuickCache => what.enter::<QuickCache<K, V, false>>(),
            Self::Moka => what.enter::<Moka<K, V>>(),
            Self::TinyUfo => what.enter::<TinyUfoCache<K, V>>(),
            Self::Foyer => what.enter::<Foyer<K, V>>(),
            Self::FibreCache => what.enter::<Fibre<K, V>>(),
            Self::KoraEmbedded => what.enter::<Kora>(),
        }
    }

    /// Does the same for a cache limited in bytes.
    pub fn with_bytes<K: Key, V: Value, E: Enter<K, V>>(self, what: E) -> E::Output {
        match self {
            Self::QuickCache => what.enter::<QuickCache<K, V, true>>(),
            other => other.with(what),
        }
    }

    /// Calls `what` with the type of this cache, limited in entries that expire on the machine's clock.
    pub fn with_time_to_live<K: Key, V: Value, E: Enter<K, V>>(self, what: E) -> E::Output {
        match self {
            Self::SarkCache => what.enter::<Sark<K, V, false, WALL>>(),
            Self::SarkPerCore => what.enter::<Sark<K, V, true, WALL>>(),
            Self::DashmapDesign => what.enter::<DashmapDesign<K, V, WALL>>(),
            Self::MutexLru => what.enter::<DeadlineInValue<MutexLru<K, Timed<V>>, V, WALL>>(),
            Self::QuickCache => what.enter::<DeadlineInValue<QuickCache<K, Timed<V>, false>, V, WALL>>(),
            Self::Moka => what.enter::<Moka<K, V>>(),
            Self::TinyUfo => what.enter::<DeadlineInValue<TinyUfoCache<K, Timed<V>>, V, WALL>>(),
            Self::Foyer => what.enter::<DeadlineInValue<Foyer<K, Timed<V>>, V, WALL>>(),
            Self::FibreCache => what.enter::<Fibre<K, V>>(),
            Self::KoraEmbedded => what.enter::<Kora>(),
        }
    }

    /// Calls `what` with the type of this cache, if it can change a value while no other thread does. Nothing
    /// expires.
    ///
    /// # Errors
    /// Says why it can't.
    pub fn with_updates<K: Key, V: Value, E: EnterUpdating<K, V>>(self, what: E) -> Result<E::Output, Absent> {
        Ok(match self {
            Self::SarkCache => what.enter::<Sark<K, V, false, WALL>>(),
            Self::SarkPerCore => what.enter::<Sark<K, V, true, WALL>>(),
            Self::DashmapDesign => what.enter::<DashmapDesign<K, V, WALL>>(),
            Self::MutexLru => what.enter::<MutexLru<K, V>>(),
            Self::QuickCache => what.enter::<QuickCache<K, V, false>>(),
            Self::Moka => what.enter::<Moka<K, V>>(),
            Self::TinyUfo | Self::Foyer => return Err(Absent("it can't change a value in place".into())),
            Self::FibreCache => what.enter::<Fibre<K, V>>(),
            Self::KoraEmbedded => return Err(kora::why()),
        })
    }

    /// Calls `what` with the type of this cache, if it reclaims expired entries while nothing calls it.
    ///
    /// # Errors
    /// Says why it doesn't.
    pub fn with_reclaim<K: Key, V: Value, E: EnterReclaiming<K, V>>(self, what: E) -> Result<E::Output, Absent> {
        let why = match self {
            Self::SarkCache => return Ok(what.enter::<Sark<K, V, false, WALL>>()),
            Self::SarkPerCore => return Ok(what.enter::<Sark<K, V, true, WALL>>()),
            Self::DashmapDesign => "an expired entry leaves when a get meets it, and not before",
            Self::FibreCache => return Ok(what.enter::<Fibre<K, V>>()),
            Self::KoraEmbedded => return Err(kora::why()),
            Self::MutexLru | Self::QuickCache | Self::TinyUfo | Self::Foyer => "it has no expiry of its own",
            Self::Moka => "it has no thread: expired entries leave only when it is called",
        };
        Err(Absent(why.into()))
    }

    /// Calls `what` with the type of this cache, whose entries expire on a clock that the workload moves.
    pub fn with_workload_clock<K: Key, V: Value, E: EnterExpiring<K, V>>(self, plan: &Plan, what: E) -> E::Output {
        match (self, plan.capacity) {
            (Self::SarkCache, _) if plan.reclaim == Reclaim::Lazy => what.enter::<BareShard<K, V>>(),
            (Self::SarkCache, _) => what.enter::<Sark<K, V, false, HAND>>(),
            (Self::SarkPerCore, _) => what.enter::<Sark<K, V, true, HAND>>(),
            (Self::DashmapDesign, _) => what.enter::<DashmapDesign<K, V, HAND>>(),
            (Self::MutexLru, _) => what.enter::<DeadlineInValue<MutexLru<K, Timed<V>>, V, HAND>>(),
            (Self::QuickCache, Capacity::Entries(_)) => {
                what.enter::<DeadlineInValue<QuickCache<K, Timed<V>, false>, V, HAND>>()
            }
            (Self::QuickCache, Capacity::Bytes(_)) => {
                what.enter::<DeadlineInValue<QuickCache<K, Timed<V>, true>, V, HAND>>()
            }
            (Self::Moka, _) => what.enter::<DeadlineInValue<Moka<K, Timed<V>>, V, HAND>>(),
            (Self::TinyUfo, _) => what.enter::<DeadlineInValue<TinyUfoCache<K, Timed<V>>, V, HAND>>(),
            (Self::Foyer, _) => what.enter::<DeadlineInValue<Foyer<K, Timed<V>>, V, HAND>>(),
            (Self::FibreCache, _) => what.enter::<DeadlineInValue<Fibre<K, Timed<V>>, V, HAND>>(),
            (Self::KoraEmbedded, _) => what.enter::<Kora>(),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
