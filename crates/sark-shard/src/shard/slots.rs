//! The operations by slot, for callers that find an entry first and then decide what to do with it.
//!
//! They find it with [`Shard::slot`], or with [`Shard::find_by`] where equality is decided outside. These
//! operations do what the keyed forms do once those have found their entry. They never compare keys, apart
//! from `slot`. A slot without an entry is like a key that is not there.

use equivalent::Equivalent;

use super::insert::New;
use super::{Changed, EntryRef, Insertion, Shard};
use crate::index::ShortHash;
use crate::removed::{RemovalCause, Removals};
use crate::room::Pool;
use crate::slot::Slot;
use crate::time::{Lifetime, Nanos};

impl<K, V> Shard<K, V> {
    /// Returns the slot of `key`, live or expired, without leaving a trace. O(1).
    #[must_use]
    #[inline]
    pub fn slot<Q>(&self, hash: u64, key: &Q) -> Option<Slot>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.find(ShortHash::of(hash), key).map(|(slot, _)| slot)
    }

    /// Counts a look-up that found no slot, which [`get`](Self::get) does on its own.
    #[inline]
    pub fn count_miss(&mut self) {
        self.frequent.misses += 1;
    }

    /// Does what [`get`](Self::get) does, by slot. `f` runs once, on a live entry. O(1).
    #[inline]
    pub fn hit_slot<R>(
        &mut self,
        slot: Slot,
        now: Nanos,
        removed: &mut impl Removals<K, V>,
        f: impl FnOnce(&V) -> R,
    ) -> Option<R> {
        self.update_found(Some(slot), now, removed, |value| f(value))
    }

    /// Does what [`update`](Self::update) does, by slot. O(1).
    pub fn update_slot<R>(
        &mut self,
        slot: Slot,
        now: Nanos,
        removed: &mut impl Removals<K, V>,
        f: impl FnOnce(&mut V) -> R,
    ) -> Option<R> {
        self.update_found(Some(slot), now, removed, f)
    }

    /// Returns the key at a slot, live or expired. O(1).
    #[must_use]
    pub fn key_at(&self, slot: Slot) -> Option<&K> {
        self.slab.get(slot).map(|entry| &entry.key)
    }

    /// Returns what [`entry`](Self::entry) does, by slot. O(1).
    #[must_use]
    pub fn entry_at(&self, slot: Slot, now: Nanos) -> Option<EntryRef<'_, K, V>> {
        self.entry_ref(slot).filter(|entry| !entry.is_dead(now))
    }

    /// Does what [`remove`](Self::remove) does, by slot. O(1).
    pub fn remove_slot(&mut self, slot: Slot, now: Nanos, removed: &mut impl Removals<K, V>) -> Option<(K, V)> {
        if self.slab.is_live(slot) { self.remove_found(slot, now, removed) } else { None }
    }

    /// Does what [`set_lifetime`](Self::set_lifetime) does, by slot. O(1).
    pub fn set_lifetime_slot(
        &mut self,
        slot: Slot,
        lifetime: Lifetime,
        now: Nanos,
        removed: &mut impl Removals<K, V>,
    ) -> bool {
        self.slab.is_live(slot) && self.set_lifetime_found(slot, lifetime, now, removed)
    }

    /// Stores as [`insert`](Self::insert) does, in place of the entry at a slot, whose key must be equal to
    /// `key`. O(1).
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
    /// Stores as [`insert`](Self::insert) does, under a key that the caller knows to be absent: it has just
    /// looked, with [`slot`](Self::slot) or [`find_by`](Self::find_by).
    ///
    /// If the key is there after all, there are then two entries, of which look-ups find one. O(1).
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let (mut shard, mut removed) = (Shard::<String, u64>::new(Config::default()), Vec::new());
    /// # let now = Nanos(0);
    /// assert_eq!(shard.slot(7, "a"), None);
    /// let _ = shard.insert_absent(7, "a".into(), 1, 1, Lifetime::Default, now, &mut NoPool, &mut removed);
    /// let slot = shard.slot(7, "a").unwrap();
    /// assert_eq!(shard.hit_slot(slot, now, &mut removed, |value| *value), Some(1));
    /// ```
    #[expect(clippy::too_many_arguments, reason = "each is a fact that only the caller knows")]
    #[inline]
    pub fn insert_absent(
        &mut self,
        hash: u64,
        key: K,
        value: V,
        weight: u32,
        lifetime: Lifetime,
        now: Nanos,
        pool: &mut impl Pool,
        removed: &mut impl Removals<K, V>,
    ) -> Insertion<K, V> {
        self.store(None, New { hash: ShortHash::of(hash), key, value, weight, lifetime }, now, pool, removed)
    }
    /// Puts `value` in the place of that of a live entry, whose weight stays, and returns the older one. This
    /// is [`replace_slot`](Self::replace_slot) for callers that have no use for the key. Counts as
    /// [`RemovalCause::Replaced`]. O(1).
    ///
    /// # Errors
    ///
    /// Gives `value` back, having done nothing, if the slot has no live entry, or if `lifetime` keeps
    /// nothing.
    #[inline]
    pub fn swap_slot(&mut self, slot: Slot, value: V, lifetime: Lifetime, now: Nanos) -> Result<V, V> {
        match self.deadlines.fixed(lifetime, now) {
            Some(fixed) if self.slab.is_live(slot) && !self.is_dead(slot, now) => {
                let weight = self.weights.get(slot);
                let (older, _) = self.exchange(slot, value, weight, fixed, now);
                self.count(RemovalCause::Replaced);
                Ok(older)
            }
            _ => Err(value),
        }
    }
}
