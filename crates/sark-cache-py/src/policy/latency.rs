//! How long look-ups that hit take. The first and then one in so many is timed; the others don't pay for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One hit in this many is timed.
const ONE_IN: u64 = 16;

/// The upper bounds of the buckets in nanoseconds, inclusive. One more bucket takes the rest.
/// `LATENCY_BUCKETS` of `metrics.py`.
const BOUNDS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// Sampled durations.
#[derive(Default)]
pub(crate) struct Latency {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Latency {
    /// Returns the time if a hit after this many hits is to be timed.
    #[inline]
    pub(crate) fn start(hits: u64) -> Option<Instant> {
        hits.is_multiple_of(ONE_IN).then(Instant::now)
    }

    pub(crate) fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[BOUNDS.partition_point(|&bound| bound < nanos)].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Takes what was recorded since the last call: the count per bucket, and the sum in nanoseconds.
    pub(crate) fn take(&self) -> (Vec<u64>, u64) {
        let buckets = self.buckets.iter().map(|bucket| bucket.swap(0, Ordering::Relaxed)).collect();
        (buckets, self.nanos.swap(0, Ordering::Relaxed))
    }
}
