//! The ownership word: which thread may run a delegate right now.
//!
//! One compare-exchange takes it, and no thread ever queues for it; a caller that can't have it leaves a
//! message instead. It says nothing about messages: the counters `announced` and `pending` do that. Called by
//! `delegate`, by `group` and `waiting` for a look at it, and by `fork`.

use crate::sync::{AtomicU32, Ordering};

const FREE: u32 = 0;
const OWNED: u32 = 1;
/// The process was forked while the delegate could not be held still: its contents may be torn. The word
/// never leaves this state.
const SEALED: u32 = 2;

/// An exclusive right that can only be tried for. `FREE`, `OWNED`, or `SEALED` for ever after an unguarded
/// fork.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct OwnershipWord(AtomicU32);

impl OwnershipWord {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(FREE))
    }

    /// Takes ownership if no thread has it. `Acquire`: the new owner sees everything that the last owner did.
    #[inline(always)]
    pub(crate) fn try_take(&self) -> bool {
        self.0.compare_exchange(FREE, OWNED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Whether a try looks worthwhile. This spares spinning waiters the write of a failed compare-exchange.
    #[inline]
    pub(crate) fn looks_free(&self) -> bool {
        self.0.load(Ordering::Relaxed) == FREE
    }

    /// Gives ownership back. Only the owner calls this; it looks for messages after its side of the barrier.
    #[inline(always)]
    pub(crate) fn release(&self) {
        self.0.store(FREE, Ordering::Release);
    }

    /// Closes the delegate for good, in a forked child that has no other thread.
    #[cfg(all(unix, not(loom), not(miri)))]
    pub(crate) fn seal(&self) {
        self.0.store(SEALED, Ordering::Release);
    }

    /// Whether [`seal`](Self::seal) closed it.
    #[inline]
    pub(crate) fn is_sealed(&self) -> bool {
        self.0.load(Ordering::Relaxed) == SEALED
    }
}
