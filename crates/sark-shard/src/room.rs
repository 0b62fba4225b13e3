//! Room: how much a shard may hold, counted in entries and in weight, and where more of it comes
//! from.
//!
//! Budgets, use and shortfalls are all a [`Room`]. A shard that is full asks a [`Pool`] before it
//! evicts; the cache's free pool is one, and this room knows nothing more of it. It never moves
//! room by itself.

/// An amount of entries and an amount of weight: a budget, what is used of it, or what is missing.
///
/// ```
/// use sark_shard::Room;
///
/// let budget = Room { entries: 10, weight: 500 };
/// let used = Room { entries: 4, weight: 600 };
/// assert!(!used.fits_in(budget));
/// assert_eq!(used.saturating_sub(budget), Room { entries: 0, weight: 100 });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Room {
    /// Number of entries.
    pub entries: u64,
    /// Sum of weights, in the caller's unit.
    pub weight: u64,
}

impl Room {
    /// No room at all.
    pub const NONE: Self = Self { entries: 0, weight: 0 };
    /// More room than anybody can use.
    pub const UNLIMITED: Self = Self { entries: u64::MAX, weight: u64::MAX };

    /// Room for this many entries of any weight.
    #[must_use]
    pub const fn for_entries(entries: u64) -> Self {
        Self { entries, weight: u64::MAX }
    }

    /// Room for this much weight in any number of entries.
    #[must_use]
    pub const fn for_weight(weight: u64) -> Self {
        Self { entries: u64::MAX, weight }
    }

    /// Both sums, each at most `u64::MAX`.
    #[must_use]
    #[inline]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self { entries: self.entries.saturating_add(other.entries), weight: self.weight.saturating_add(other.weight) }
    }

    /// Both differences, each at least zero.
    #[must_use]
    #[inline]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self { entries: self.entries.saturating_sub(other.entries), weight: self.weight.saturating_sub(other.weight) }
    }

    /// The smaller of the entries with the smaller of the weights.
    #[must_use]
    #[inline]
    pub fn min(self, other: Self) -> Self {
        Self { entries: self.entries.min(other.entries), weight: self.weight.min(other.weight) }
    }

    /// Whether neither part exceeds that of `budget`.
    #[must_use]
    #[inline]
    pub const fn fits_in(self, budget: Self) -> bool {
        self.entries <= budget.entries && self.weight <= budget.weight
    }

    /// Whether there is neither an entry nor weight in it.
    #[must_use]
    #[inline]
    pub const fn is_none(self) -> bool {
        self.entries == 0 && self.weight == 0
    }
}

/// Where a full shard gets more room before it evicts anything.
///
/// What is taken belongs to the shard's budget from then on, until
/// [`Shard::take_surplus`](crate::Shard::take_surplus) or
/// [`Shard::set_budget`](crate::Shard::set_budget) takes it away again.
pub trait Pool {
    /// Gives up to `wanted`, possibly nothing; the answer says how much. More than was wanted is
    /// added all the same.
    fn take(&mut self, wanted: Room) -> Room;
}

/// The pool that never has anything: the shard's budget stays as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPool;

impl Pool for NoPool {
    #[inline]
    fn take(&mut self, _wanted: Room) -> Room {
        Room::NONE
    }
}

impl<P: Pool + ?Sized> Pool for &mut P {
    #[inline]
    fn take(&mut self, wanted: Room) -> Room {
        (**self).take(wanted)
    }
}
