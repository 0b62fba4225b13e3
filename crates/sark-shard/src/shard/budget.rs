//! Room: what is used, what may be used, and giving it back.

use super::Shard;
use crate::removed::{RemovalCause, Removals};
use crate::room::Room;
use crate::slot::Slot;

impl<K, V> Shard<K, V> {
    /// What the entries take up, dead ones included until they are reclaimed.
    #[must_use]
    #[inline]
    pub fn used(&self) -> Room {
        Room { entries: self.slab.len() as u64, weight: self.weight }
    }

    /// What they may take up.
    #[must_use]
    #[inline]
    pub fn budget(&self) -> Room {
        self.budget
    }

    /// Changes the budget. If more than that is used, nothing happens at once: insertions evict
    /// down to it, and so does [`enforce_budget`](Self::enforce_budget), in steps of your choice.
    pub fn set_budget(&mut self, budget: Room) {
        self.budget = budget;
    }

    /// Lowers the budget to what is used, and returns what that freed.
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let (mut shard, mut removed) = (Shard::<u64, u64>::new(Config::default()), Vec::new());
    /// shard.set_budget(Room { entries: 5, weight: 50 });
    /// shard.insert(1, 1, 10, 7, Lifetime::Default, Nanos(0), &mut NoPool, &mut removed);
    /// assert_eq!(shard.take_surplus(), Room { entries: 4, weight: 43 });
    /// assert_eq!(shard.budget(), shard.used());
    /// ```
    pub fn take_surplus(&mut self) -> Room {
        let surplus = self.budget.saturating_sub(self.used());
        self.budget = self.budget.saturating_sub(surplus);
        surplus
    }

    /// Evicts least recently used entries ([`RemovalCause::Size`]) until `wanted` is free that was
    /// used, or the shard is empty; returns what was freed, which may be more. The budget stays.
    /// O(entries evicted), in the long run.
    pub fn evict(&mut self, wanted: Room, removed: &mut impl Removals<K, V>) -> Room {
        let before = self.used();
        while !wanted.fits_in(before.saturating_sub(self.used())) {
            match self.take_eldest() {
                Some(slot) => self.hand_back(slot, RemovalCause::Size, removed),
                None => break,
            }
        }
        before.saturating_sub(self.used())
    }

    /// Evicts at most `max` least recently used entries ([`RemovalCause::Size`]) to come within the
    /// budget; says whether it is there. O(max), in the long run.
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let hash = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    /// # let (mut shard, mut removed) = (Shard::<u64, u64>::new(Config::default()), Vec::new());
    /// for key in 0..10 {
    ///     shard.insert(hash(key), key, key, 1, Lifetime::Default, Nanos(0), &mut NoPool, &mut removed);
    /// }
    /// shard.set_budget(Room::for_entries(3));
    /// assert!(!shard.enforce_budget(4, &mut removed));
    /// assert!(shard.enforce_budget(4, &mut removed));
    /// assert_eq!(shard.len(), 3);
    /// ```
    pub fn enforce_budget(&mut self, max: usize, removed: &mut impl Removals<K, V>) -> bool {
        for _ in 0..max {
            if self.used().fits_in(self.budget) {
                return true;
            }
            match self.take_eldest() {
                Some(slot) => self.hand_back(slot, RemovalCause::Size, removed),
                None => break,
            }
        }
        self.used().fits_in(self.budget)
    }

    /// The budget, as far as there are slots for it.
    #[inline]
    pub(super) fn limit(&self) -> Room {
        Room { entries: self.budget.entries.min(u64::from(Slot::LIMIT)), weight: self.budget.weight }
    }
}
