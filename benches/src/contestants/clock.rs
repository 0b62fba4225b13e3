//! Time for the contestants that are told it: either the machine's, or a workload's that somebody moves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Nanoseconds since the cache was built, on the one clock or the other.
#[derive(Debug)]
pub(super) enum Clock {
    /// The machine's monotonic clock.
    Wall(Instant),
    /// Stands still until moved.
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

    /// Moves a clock that has hands; the machine's goes on as it likes.
    pub(super) fn set(&self, now: Duration) {
        if let Self::Hand(hand) = self {
            hand.fetch_max(nanoseconds(now), Ordering::Relaxed);
        }
    }
}

/// Durations beyond 584 years are "never".
#[inline]
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
