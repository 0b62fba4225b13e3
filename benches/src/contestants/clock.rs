//! Time for the contestants that are told it: either the machine's clock, or one that the workload moves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Nanoseconds since the cache was built, on one of two clocks.
#[derive(Debug)]
pub(super) enum Clock {
    /// The machine's monotonic clock.
    Wall(Instant),
    /// A clock that stands still until it is moved.
    Hand(AtomicU64),
}

impl Clock {
    pub(super) fn wall() -> Self {
        Self::Wall(Instant::now())
    }

    pub(super) fn hand() -> Self {
        Self::Hand(AtomicU64::new(0))
    }

    #[inline]
    pub(super) fn now(&self) -> u64 {
        match self {
            Self::Wall(start) => nanoseconds(start.elapsed()),
            Self::Hand(now) => now.load(Ordering::Relaxed),
        }
    }

    /// Moves a clock that the workload controls; has no effect on the machine's.
    pub(super) fn set(&self, now: Duration) {
        if let Self::Hand(hand) = self {
            hand.fetch_max(nanoseconds(now), Ordering::Relaxed);
        }
    }
}

/// Converts a duration to nanoseconds. More than 584 years counts as "never".
#[inline]
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
