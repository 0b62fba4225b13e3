//! Counters: what has happened in a shard, in numbers.
//!
//! Each operation counts what it did. The shard hands the counters out and never bases a decision on them.

/// Counts since the shard was made. They wrap at 2^64.
///
/// ```
/// # use sark_shard::*;
/// let mut shard = Shard::<u64, u64>::new(Config::default());
/// let mut removed = Vec::new();
/// shard.get(1, &1, Nanos(0), &mut removed, |value| *value);
/// assert_eq!(shard.counters(), Counters { misses: 1, ..Counters::default() });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Look-ups that found a live entry: `get`, `get_batch` and `update`, in one step or two, and `hit_slot`
    /// and `update_slot`.
    pub hits: u64,
    /// Look-ups that did not, and those reported through [`count_miss`](crate::Shard::count_miss).
    pub misses: u64,
    /// Entries stored under a new key.
    pub inserted: u64,
    /// Values that gave way to a newer one under the same key: exchanged for it, or forgotten because the
    /// newer one was rejected for being too heavy or having no lifetime.
    pub replaced: u64,
    /// Entries evicted to make room ([`RemovalCause::Size`](crate::RemovalCause::Size)).
    pub evicted: u64,
    /// Entries removed because their deadline had come, however that was noticed.
    pub expired: u64,
    /// Those of `expired` that a look-up came across.
    pub expired_on_get: u64,
    /// Entries removed or cleared.
    pub explicit: u64,
    /// Entries handed back without being stored ([`RemovalCause::Rejected`](crate::RemovalCause::Rejected)).
    pub rejected: u64,
}

impl Counters {
    /// Puts together what the shard counts in several places.
    pub(crate) const fn of(hits: u64, frequent: Frequent, seldom: Seldom) -> Self {
        let Frequent { misses, inserted, evicted } = frequent;
        let Seldom { replaced, expired, expired_on_get, explicit, rejected } = seldom;
        Self { hits, misses, inserted, replaced, evicted, expired, expired_on_get, explicit, rejected }
    }
}

/// Those of the [`Counters`] that look-ups and insertions write all the time. The shard keeps them on the line
/// that it writes anyway.
#[derive(Clone, Copy, Default)]
pub(crate) struct Frequent {
    pub(crate) misses: u64,
    pub(crate) inserted: u64,
    pub(crate) evicted: u64,
}

/// The others, apart from the hits, which the count of uses tells.
#[derive(Clone, Copy, Default)]
pub(crate) struct Seldom {
    pub(crate) replaced: u64,
    pub(crate) expired: u64,
    pub(crate) expired_on_get: u64,
    pub(crate) explicit: u64,
    pub(crate) rejected: u64,
}
