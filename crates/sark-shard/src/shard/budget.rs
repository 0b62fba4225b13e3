//! Budget: what is used, what may be used, and giving room back.
//!
//! Callers move budgets and give room back with these operations. None of them asks a pool for more: only
//! insertions do.

use super::Shard;
use crate::removed::{RemovalCause, Removals};
use crate::room::Room;
use crate::slot::Slot;

impl<K, V> Shard<K, V> {
    /// What the entries take up, including expired ones until they are reclaimed.
    #[must_use]
    #[inline]
    pub fn used(&self) -> Room {
        Room { entries: self.slab.len() as u64, weight: self.weight }
    }

    /// What the entries may take up.
    #[must_use]
    #[inline]
    pub fn budget(&self) -> Room {
        self.budget
    }

    /// Changes the budget.
    ///
    /// If more than that is used, nothing happens at once. Insertions evict down to the budget, and so does
    /// [`enforce_budget`](Self::enforce_budget), in steps of the caller's choice.
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

    /// Evicts least recently used entries ([`RemovalCause::Size`]) until they have freed `wanted`, or the
    /// shard is empty. Returns what was freed, which may be more. The budget stays. O(entries evicted) in the
    /// long run.
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

    /// Evicts at most `max` least recently used entries ([`RemovalCause::Size`]) to come within the budget.
    /// Returns whether the shard is within it. O(max) in the long run.
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
