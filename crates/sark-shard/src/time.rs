//! Time as the shard sees it: an argument, never a clock.
//!
//! Callers pass a [`Nanos`] to every operation that depends on time, and a [`Lifetime`] when they store. This
//! module reads no clock and keeps no time.

/// A point in time, in nanoseconds since an origin that the caller picks once per shard.
///
/// An entry with the deadline `d` is live while `now < d`. Additions saturate, and [`Nanos::MAX`] means
/// *never*, so no duration is too long. The range is 584 years. Look-ups are fastest in the first nine, so
/// pick an origin that isn't long past.
///
/// ```
/// use sark_shard::Nanos;
///
/// assert_eq!(Nanos(5).after(7), Nanos(12));
/// assert_eq!(Nanos(5).after(u64::MAX), Nanos::MAX);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The deadline that never comes.
    pub const MAX: Self = Self(u64::MAX);

    /// Returns the time `nanos` nanoseconds after this one, or [`Nanos::MAX`] if there is no such time.
    #[must_use]
    #[inline]
    pub const fn after(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// Returns this time as one to compare with deadlines. [`Nanos::MAX`] means *never*, so as a time it
    /// counts as the one before.
    #[inline]
    pub(crate) const fn tick(self) -> u64 {
        if self.0 == u64::MAX { u64::MAX - 1 } else { self.0 }
    }
}

/// How long an entry may be kept, counted from the operation that is given the lifetime.
///
/// A shard's time to idle applies in addition, whatever the lifetime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lifetime {
    /// The duration in [`Config::time_to_live`](crate::Config::time_to_live).
    #[default]
    Default,
    /// No time to live, even if the shard has a default one.
    Forever,
    /// This many nanoseconds. Zero means that the entry is not kept, and that an older value is forgotten.
    For(u64),
}
