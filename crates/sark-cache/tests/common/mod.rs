//! What the tests of the cache share. Each test runs under both dispatches.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Turns `fn name(dispatch: Dispatch) {...}` into two tests, `adaptive::name` and `per_core::name`.
#[macro_export]
macro_rules! under_both_dispatches {
    ($($(#[$meta:meta])* fn $name:ident($dispatch:ident) $body:block)*) => {
        $($(#[$meta])* fn $name($dispatch: sark_cache::Dispatch) $body)*
        mod adaptive {
            $(#[test] fn $name() { super::$name(sark_cache::Dispatch::Adaptive) })*
        }
        mod per_core {
            $(#[test] fn $name() { super::$name(sark_cache::Dispatch::PerCore) })*
        }
    };
}

/// Counts the values that are made and dropped, so that a test can check that each was dropped once.
#[derive(Clone, Default)]
#[allow(dead_code, reason = "not every test file counts")]
pub struct Census(Arc<Counts>);

#[derive(Default)]
struct Counts {
    made: AtomicU64,
    alive: AtomicI64,
    most: AtomicI64,
}

#[allow(dead_code, reason = "not every test file counts")]
impl Census {
    /// Makes a value that counts as alive until it is dropped.
    pub fn make(&self, number: u64) -> Counted {
        self.0.made.fetch_add(1, Ordering::Relaxed);
        let alive = self.0.alive.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.most.fetch_max(alive, Ordering::Relaxed);
        Counted { number, census: self.clone() }
    }

    /// The number of values made so far, including clones.
    pub fn made(&self) -> u64 {
        self.0.made.load(Ordering::Relaxed)
    }

    /// The number of values that exist now.
    pub fn alive(&self) -> i64 {
        self.0.alive.load(Ordering::Relaxed)
    }

    /// Waits until other threads have dropped what is left.
    pub fn wait_until_nothing_is_alive(&self) {
        let patience = Instant::now() + Duration::from_secs(20);
        while self.alive() != 0 {
            assert!(Instant::now() < patience, "{} values are still there", self.alive());
            std::thread::yield_now();
        }
    }

    /// The most values that existed at once.
    pub fn most_alive(&self) -> i64 {
        self.0.most.load(Ordering::Relaxed)
    }
}

/// A value that its census counts. A clone counts as another value.
#[allow(dead_code, reason = "not every test file counts")]
pub struct Counted {
    pub number: u64,
    census: Census,
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.census.make(self.number)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.census.0.alive.fetch_sub(1, Ordering::Relaxed);
    }
}
