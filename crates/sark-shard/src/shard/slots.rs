//! The operations by slot, for callers that found it with [`Shard::find_by`].
//!
//! They do what the keyed forms do once those have found their entry. A slot without an entry is
//! like a key that is not there.

use super::insert::New;
use super::{Changed, EntryRef, Insertion, Shard};
use crate::removed::Removals;
use crate::room::Pool;
use crate::slot::Slot;
use crate::time::{Lifetime, Nanos};

impl<K, V> Shard<K, V> {
    /// [`get`](Self::get), by slot. `f` runs once, on a live entry. O(1).
    pub fn hit_slot<R>(
        &mut self,
        slot: Slot,
        now: Nanos,
        removed: &mut impl Removals<K, V>,
        f: impl FnOnce(&V) -> R,
    ) -> Option<R> {
        self.update_found(Some(slot), now, removed, |value| f(value))
    }

    /// [`update`](Self::update), by slot. O(1).
    pub fn update_slot<R>(
        &mut self,
        slot: Slot,
        now: Nanos,
        removed: &mut impl Removals<K, V>,
        f: impl FnOnce(&mut V) -> R,
    ) -> Option<R> {
        self.update_found(Some(slot), now, removed, f)
    }

    /// The key at a slot, dead or alive. O(1).
    #[must_use]
    pub fn key_at(&self, slot: Slot) -> Option<&K> {
        self.slab.get(slot).map(|entry| &entry.key)
    }

    /// [`entry`](Self::entry), by slot. O(1).
    #[must_use]
    pub fn entry_at(&self, slot: Slot, now: Nanos) -> Option<EntryRef<'_, K, V>> {
        self.entry_ref(slot).filter(|entry| !entry.is_dead(now))
    }

    /// [`remove`](Self::remove), by slot. O(1).
    pub fn remove_slot(&mut self, slot: Slot, now: Nanos, removed: &mut impl Removals<K, V>) -> Option<(K, V)> {
        if self.slab.is_live(slot) { self.remove_found(slot, now, removed) } else { None }
    }

    /// [`set_lifetime`](Self::set_lifetime), by slot. O(1).
    pub fn set_lifetime_slot(
        &mut self,
        slot: Slot,
        lifetime: Lifetime,
        now: Nanos,
        removed: &mut impl Removals<K, V>,
    ) -> bool {
        self.slab.is_live(slot) && self.set_lifetime_found(slot, lifetime, now, removed)
    }

    /// [`insert`](Self::insert) in place of the entry at a slot, whose key must be equal to `key`.
    /// O(1).
    ///
    /// # Errors
    ///
    /// [`Changed`] gives key and value back if the slot has no entry.
    #[expect(clippy::too_many_arguments, reason = "each is a fact that only the caller knows")]
    pub fn replace_slot(
        &mut self,
        slot: Slot,
        key: K,
        value: V,
        weight: u32,
        lifetime: Lifetime,
        now: Nanos,
        pool: &mut impl Pool,
        removed: &mut impl Removals<K, V>,
    ) -> Result<Insertion<K, V>, Changed<K, V>> {
        if !self.slab.is_live(slot) {
            return Err(Changed { key, value });
        }
        let hash = self.index.hash_of(slot);
        Ok(self.store(Some(slot), New { hash, key, value, weight, lifetime }, now, pool, removed))
    }
}
