//! Validation: asserts what must always be true, for tests, fuzzing, and the tests of other crates (feature
//! `validate`).
//!
//! No other build has it, and no operation calls it.

use super::{Shard, Walk};
use crate::slot::Slot;
use crate::time::Nanos;

impl<K, V> Shard<K, V> {
    /// Asserts every invariant: slots, free slots, uses, the order of eviction, index, deadlines, weights,
    /// counts.
    ///
    /// O(n log n) for n slots. Runs none of the caller's code.
    ///
    /// # Panics
    ///
    /// If one of them doesn't hold, saying which.
    pub fn validate(&self) {
        self.slab.validate();
        self.deadlines.validate();
        self.index.validate(self.slots());
        for slot in (0..self.slab.slots() as u32).map(Slot) {
            self.deadlines.validate_slot(slot, self.slab.is_live(slot));
            let deadline = Nanos(self.deadlines.deadline(slot));
            // A look-up on the fast path serves the entry without a look at its exact deadline.
            assert!(
                deadline == Nanos::MAX || !self.slab.outlives(slot, deadline),
                "deadlines: {slot:?} is said to live after {deadline:?}"
            );
        }
        let weight: u64 = self.slots().map(|slot| u64::from(self.weights.get(slot))).sum();
        assert_eq!(weight, self.weight, "weights: the entries weigh {weight}, {} is counted", self.weight);
        self.eldest.validate(&self.slab, self.uses.last());
        self.decide.validate(self.slots());
        self.validate_counters();
        self.validate_walk();
    }

    /// Asserts that a walk, in whatever steps, meets each live slot once, in the order of memory.
    fn validate_walk(&self) {
        for most in [1, 3, usize::MAX] {
            let (mut walk, mut live) = (Walk::new(), self.slots());
            while !walk.is_over() {
                let before = walk;
                let mut meet = |slot| assert_eq!(Some(slot), live.next(), "walk: out of step");
                self.pass_some(&mut walk, most, &mut meet);
                assert!(walk != before, "walk: it does not go on at {walk:?}");
            }
            assert_eq!(live.next(), None, "walk: a live slot was passed over");
        }
    }

    /// Asserts that the counters account for the entries that are there.
    fn validate_counters(&self) {
        let counters = self.counters();
        let in_place = counters.evicted + counters.expired + counters.explicit;
        assert!(
            counters.inserted - in_place >= self.len() as u64,
            "counters: {} entries from {counters:?}",
            self.len()
        );
        assert!(counters.expired_on_get <= counters.expired.min(counters.misses), "counters: {counters:?}");
    }
}
