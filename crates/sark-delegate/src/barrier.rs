//! The StoreLoad barrier between "release" and "look for messages", in two forms.
//!
//! A runner releases ownership and then looks for messages; a sender counts its message and then tries
//! ownership. One of them must see the other's write, or a message is left behind. That takes a barrier on
//! both sides:
//!
//! * [`Barrier::Fences`]: a `SeqCst` fence on each side. It works everywhere, and costs the runner some 20
//!   cycles per request.
//! * [`Barrier::Membarrier`]: the runner's side is free (a compiler fence: a plain store, a plain load). The
//!   side that is about to go away without an answer asks the kernel to run a full barrier on every thread of
//!   the process (`membarrier(2)`, private expedited). It costs that side more, microseconds, but that is
//!   rare.
//!
//! The form is chosen when delegates are built and never changes. Called by `delegate`, `entered` and `fork`
//! (the runner's side), and by `group` and `waiting` (the other side). Under the model checker both halves
//! are `SeqCst` fences: loom can't model the process-wide barrier, so `tests/litmus.rs` stresses the shipped
//! form.

use crate::sync::{Ordering, fence};

/// What keeps the two sides of the hand-over from passing each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// A `SeqCst` fence on both sides.
    Fences,
    /// Only a compiler fence in the runner; the waiting side issues a process-wide barrier. Linux only.
    Membarrier,
}

impl Barrier {
    /// Returns the cheapest form that this system offers.
    #[must_use]
    pub fn detect() -> Self {
        if process_wide::register() { Self::Membarrier } else { Self::Fences }
    }

    /// The runner's side: after its release, before it looks for messages.
    #[inline(always)]
    pub(crate) fn light(self) {
        if self == Self::Fences || cfg!(loom) {
            fence(Ordering::SeqCst);
        } else {
            std::sync::atomic::compiler_fence(Ordering::SeqCst);
        }
    }

    /// The other side: after it published, before it looks at the ownership word for the last time.
    ///
    /// Returns false if the process-wide barrier was refused (in a sandbox that was entered later, for
    /// example). The caller must then not rely on being seen, and must look again after a while.
    #[cold]
    pub(crate) fn heavy(self) -> bool {
        fence(Ordering::SeqCst);
        match self {
            Self::Fences => true,
            Self::Membarrier => process_wide::issue(),
        }
    }
}

#[cfg(all(target_os = "linux", not(loom), not(miri)))]
mod process_wide {
    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: membarrier takes two integers (and a CPU number that these commands ignore), touches no
        // memory of ours, and reports commands that it doesn't know or allow as an error.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0 as libc::c_uint, 0 as libc::c_int) == 0 }
    }

    /// Registers the process as a user of the expedited barrier. Returns false if the kernel doesn't offer
    /// it.
    pub(super) fn register() -> bool {
        membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) && issue()
    }

    /// Runs a full barrier on every running thread of the process.
    pub(super) fn issue() -> bool {
        membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
    }
}

#[cfg(not(all(target_os = "linux", not(loom), not(miri))))]
mod process_wide {
    pub(super) fn register() -> bool {
        false
    }

    pub(super) fn issue() -> bool {
        // Never reached with a real barrier: `detect` returns `Fences` here. Under loom the fence before this
        // is the barrier.
        cfg!(loom)
    }
}
