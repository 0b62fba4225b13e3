//! The ownership word: who may run a delegate right now.
//!
//! One compare-exchange takes it and nobody ever queues for it; who can't have it leaves a message instead. It says
//! nothing about messages: that is the `pending` counter beside it (see `delegate`).

use crate::sync::{AtomicU32, Ordering};

const FREE: u32 = 0;
const OWNED: u32 = 1;
/// The process was forked while the delegate could not be held still: its contents may be torn. Never leaves this state.
const SEALED: u32 = 2;

/// A try-only exclusive right. `FREE`, `OWNED`, or `SEALED` for ever after an unguarded fork.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct OwnershipWord(AtomicU32);

impl OwnershipWord {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(FREE))
    }

    /// Takes ownership if nobody has it. `Acquire`: sees everything that the last owner did.
    #[inline(always)]
    pub(crate) fn try_take(&self) -> bool {
        self.0.compare_exchange(FREE, OWNED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Whether a try looks worthwhile: spares spinning waiters the write of a failed compare-exchange.
    #[inline]
    pub(crate) fn looks_free(&self) -> bool {
        self.0.load(Ordering::Relaxed) == FREE
    }

    /// Gives ownership back. Only the owner calls it, and looks for messages after the runner's side of the barrier.
    #[inline(always)]
    pub(crate) fn release(&self) {
        self.0.store(FREE, Ordering::Release);
    }

    /// Closes the delegate for good, in a forked child that has no other thread.
    #[cfg(all(unix, not(loom), not(miri)))]
    pub(crate) fn seal(&self) {
        self.0.store(SEALED, Ordering::Release);
    }

    /// Whether it was closed by [`seal`](Self::seal).
    #[inline]
    pub(crate) fn is_sealed(&self) -> bool {
        self.0.load(Ordering::Relaxed) == SEALED
    }
}
