//! Room: how much a shard may hold, in entries and in weight, and where it gets more.
//!
//! Budgets, use and shortfalls are all a [`Room`]. A shard that is full asks a [`Pool`] before it evicts. The
//! cache's free pool is one, and this module knows nothing more about it. It never moves room: the shard
//! does.

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
    /// The number of entries.
    pub entries: u64,
    /// The sum of their weights, in the caller's unit.
    pub weight: u64,
}

impl Room {
    /// No room at all.
    pub const NONE: Self = Self { entries: 0, weight: 0 };
    /// More room than any shard can use.
    pub const UNLIMITED: Self = Self { entries: u64::MAX, weight: u64::MAX };

    /// Returns room for this many entries of any weight.
    #[must_use]
    pub const fn for_entries(entries: u64) -> Self {
        Self { entries, weight: u64::MAX }
    }

    /// Returns room for this much weight in any number of entries.
    #[must_use]
    pub const fn for_weight(weight: u64) -> Self {
        Self { entries: u64::MAX, weight }
    }

    /// Returns the sums of entries and of weights, each at most `u64::MAX`.
    #[must_use]
    #[inline]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self { entries: self.entries.saturating_add(other.entries), weight: self.weight.saturating_add(other.weight) }
    }

    /// Returns the differences of entries and of weights, each at least zero.
    #[must_use]
    #[inline]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self { entries: self.entries.saturating_sub(other.entries), weight: self.weight.saturating_sub(other.weight) }
    }

    /// Returns the smaller number of entries with the smaller weight.
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

    /// Whether it is room for neither entries nor weight.
    #[must_use]
    #[inline]
    pub const fn is_none(self) -> bool {
        self.entries == 0 && self.weight == 0
    }
}

/// The source from which a full shard gets more room before it evicts anything.
///
/// What the shard takes belongs to its budget from then on, until
/// [`Shard::take_surplus`](crate::Shard::take_surplus) or [`Shard::set_budget`](crate::Shard::set_budget)
/// takes it away again.
pub trait Pool {
    /// Gives up to `wanted`, possibly nothing, and returns how much. If it returns more than was wanted, all
    /// of it is added to the budget.
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
