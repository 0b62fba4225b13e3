//! Removal: by key, by age, and everything at once.
//!
//! Entries asked for are returned, and expired ones that are met are handed back. None is dropped in here.

use core::mem;

use equivalent::Equivalent;

use super::{Contents, Shard};
use crate::column::Column;
use crate::index::{Index, ShortHash};
use crate::removed::{RemovalCause, Removals};
use crate::slab::Slab;
use crate::slot::Slot;
use crate::time::Nanos;

impl<K, V> Shard<K, V> {
    /// Removes `key` and returns its entry. `None` if it is not there, or has expired: then it is handed back
    /// as [`RemovalCause::Expired`]. O(1).
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let hash = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    /// # let (mut shard, mut removed) = (Shard::<u64, u64>::new(Config::default()), Vec::new());
    /// shard.insert(hash(1), 1, 10, 1, Lifetime::Default, Nanos(0), &mut NoPool, &mut removed);
    /// assert_eq!(shard.remove(hash(1), &1, Nanos(0), &mut removed), Some((1, 10)));
    /// assert_eq!(shard.remove(hash(1), &1, Nanos(0), &mut removed), None);
    /// ```
    pub fn remove<Q>(&mut self, hash: u64, key: &Q, now: Nanos, removed: &mut impl Removals<K, V>) -> Option<(K, V)>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let (slot, _) = self.find(ShortHash::of(hash), key)?;
        self.remove_found(slot, now, removed)
    }

    /// Removes the least recently used live entry and returns it. Expired entries met on the way are handed
    /// back as [`RemovalCause::Expired`]. O(1) in the long run, plus those.
    pub fn remove_lru(&mut self, now: Nanos, removed: &mut impl Removals<K, V>) -> Option<(K, V)> {
        loop {
            let slot = self.take_eldest()?;
            if let Some(entry) = self.remove_found(slot, now, removed) {
                return Some(entry);
            }
        }
    }

    /// Removes the entry of a live slot, and returns it unless it has expired.
    pub(super) fn remove_found(&mut self, slot: Slot, now: Nanos, removed: &mut impl Removals<K, V>) -> Option<(K, V)> {
        if self.is_dead(slot, now) {
            self.hand_back(slot, RemovalCause::Expired, removed);
            return None;
        }
        let (entry, _) = self.take_out(slot)?;
        self.count(RemovalCause::Explicit);
        Some((entry.key, entry.value))
    }

    /// Takes everything out at once, live or expired, and returns it. Budget, rules and counters stay; the
    /// memory goes with the contents.
    ///
    /// O(1): the entries are not touched, only counted ([`RemovalCause::Explicit`]).
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let hash = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    /// # let (mut shard, mut removed) = (Shard::<u64, u64>::new(Config::default()), Vec::new());
    /// shard.insert(hash(1), 1, 10, 5, Lifetime::Default, Nanos(0), &mut NoPool, &mut removed);
    /// let contents = shard.clear();
    /// assert_eq!((shard.len(), contents.len(), contents.weight()), (0, 1, 5));
    /// assert_eq!(contents.into_iter().map(|removed| removed.key).collect::<Vec<_>>(), [1]);
    /// ```
    pub fn clear(&mut self) -> Contents<K, V> {
        self.eldest.forget();
        self.index = Index::new();
        self.deadlines = self.deadlines.emptied();
        self.decide.forget_slots();
        let slab = mem::replace(&mut self.slab, Slab::new());
        let weights = mem::replace(&mut self.weights, Column::new(1));
        self.seldom.explicit = self.seldom.explicit.wrapping_add(slab.len() as u64);
        Contents::new(slab, weights, mem::take(&mut self.weight))
    }
}
