//! The time that a cache compares deadlines with: the system's coarse clock, or the caller's `timer`.
//!
//! It is read before a shard is taken, and only once something in the cache has a deadline.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use sark_cache::{Clock, Timekeeping};
use sark_shard::Nanos;

use super::hooks::{Hook, Hooks};

/// The time source of one cache.
pub(super) struct CacheClock {
    system: Timekeeping,
    /// Whether the caller's timer must be called: there is one, and something has a deadline.
    asks_timer: AtomicBool,
}

impl CacheClock {
    pub(super) fn new() -> Self {
        Self { system: Timekeeping::new(Clock::system()), asks_timer: AtomicBool::new(false) }
    }

    /// Must be called before anything is stored with this lifetime or time to idle, in nanoseconds. An entry
    /// with a lifetime of zero isn't stored, and needs no clock.
    pub(super) fn prepare_for(&self, nanos: u64, hooks: &Hooks) {
        if nanos == 0 {
            return;
        }
        if hooks.has(Hook::Timer) {
            self.asks_timer.store(true, Ordering::Relaxed);
        } else {
            self.system.prepare_for(nanos);
        }
    }

    /// The time to compare deadlines with.
    #[inline]
    pub(super) fn for_reading(&self, py: Python<'_>, hooks: &Hooks) -> PyResult<Nanos> {
        if self.asks_timer.load(Ordering::Relaxed) { hooks.time(py) } else { Ok(self.system.for_reading()) }
    }

    /// The time at which an entry is stored.
    #[inline]
    pub(super) fn for_storing(&self, py: Python<'_>, hooks: &Hooks) -> PyResult<Nanos> {
        if self.asks_timer.load(Ordering::Relaxed) { hooks.time(py) } else { Ok(self.system.for_storing()) }
    }
}
