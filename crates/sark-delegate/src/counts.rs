//! How requests were served: counters that the owner of a delegate writes and any thread may read.
//!
//! `delegate` counts, `handle` adds up. Nothing is ever decided by these numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many requests a delegate served in each way.
///
/// A request is counted once as `in_place`, `delegated` or `posted`; `by_worker` and `parked` say more about
/// the same ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DispatchCounts {
    /// Run at once by the calling thread, because no thread was running the delegate.
    pub in_place: u64,
    /// Left in the mailbox, or in a slot, by a caller that waited for the answer.
    pub delegated: u64,
    /// Left in the mailbox by a caller that went on: posts and submissions.
    pub posted: u64,
    /// Those of `delegated` and `posted` that a worker thread ran.
    pub by_worker: u64,
    /// Those of `delegated` whose caller had gone to sleep before the answer came.
    pub parked: u64,
    /// Panics that no caller waits for: of posts run by message, of maintenance, of wakers, and of dropping
    /// what was left over.
    pub panicked: u64,
}

impl std::ops::AddAssign for DispatchCounts {
    fn add_assign(&mut self, other: Self) {
        self.in_place += other.in_place;
        self.delegated += other.delegated;
        self.posted += other.posted;
        self.by_worker += other.by_worker;
        self.parked += other.parked;
        self.panicked += other.panicked;
    }
}

/// A counter with one writer at a time, the owner of the delegate: an addition is a load and a store, not a
/// locked instruction.
///
/// Relaxed throughout: nothing is decided by it. It is the standard library's atomic under the model checker
/// too, which has nothing to find here and would only explore more.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds `more`. Only the owner of the delegate calls this.
    #[inline(always)]
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters that a request served in place doesn't touch.
#[derive(Debug, Default)]
pub(crate) struct MessageCounts {
    pub(crate) delegated: Count,
    pub(crate) posted: Count,
    pub(crate) by_worker: Count,
    pub(crate) parked: Count,
    pub(crate) panicked: Count,
}
