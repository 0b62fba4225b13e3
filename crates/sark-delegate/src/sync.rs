//! The one place that decides whether the crate runs on the real machine or under the model checker.
//!
//! Everything that the hand-over protocol synchronizes with comes from here. So under `--cfg loom` each of
//! these atomics, fences, cells and threads is loom's, and every interleaving is explored. Apart from
//! `worker`, which spawns threads, no other module uses `loom`.

#[cfg(loom)]
mod imp {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::Mutex;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, fence};
    pub(crate) use loom::thread::{JoinHandle, Thread, current, park, yield_now};
    pub(crate) use loom::thread_local;

    /// One turn of a waiting loop: under the model checker, lets another thread run.
    pub(crate) fn spin_loop() {
        loom::thread::yield_now();
    }

    /// loom has no clock: parking with a limit is a switch to another thread.
    pub(crate) fn park_timeout(_limit: std::time::Duration) {
        loom::thread::yield_now();
    }

    /// The limit guards against other callers' code, which no model contains: a thread that sleeps here must
    /// be woken.
    pub(crate) fn park_watchfully(_limit: std::time::Duration) {
        loom::thread::park();
    }
}

#[cfg(not(loom))]
mod imp {
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::Mutex;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, fence};
    pub(crate) use std::thread::{JoinHandle, Thread, current, park, park_timeout, yield_now};

    pub(crate) use std::thread::park_timeout as park_watchfully;

    /// `std::cell::UnsafeCell` with the closure interface of loom's, which checks each access for races.
    #[derive(Debug)]
    #[repr(transparent)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

pub(crate) use imp::*;
// Reference counts order nothing in the protocol, so they are the standard library's in both worlds.
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::Ordering;

/// A `SeqCst` fence for a thread that has just changed or read what another thread changes, and is about to
/// read. Where a locked instruction is a full barrier and loads keep their order, as on x86-64, only the
/// compiler needs to be told.
#[inline]
pub(crate) fn fence_before_reading() {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    fence(Ordering::SeqCst);
}

/// Locks, and goes on after another holder panicked: what these locks guard is valid at every point.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> impl std::ops::DerefMut<Target = T> + '_ {
    match mutex.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}
