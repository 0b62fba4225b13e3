//! Iteration: seeing entries without using them.
//!
//! Nothing in this file changes the shard: not the order, not the counts, not the deadlines.

use alloc::vec;
use core::iter::FusedIterator;

use super::Shard;
use crate::slot::Slot;
use crate::time::Nanos;

/// An entry, seen in its place.
#[derive(Debug)]
pub struct EntryRef<'a, K, V> {
    /// The key.
    pub key: &'a K,
    /// The value.
    pub value: &'a V,
    /// The weight that it was inserted with.
    pub weight: u32,
    /// When it expires if it is not used before; `None` for never.
    pub deadline: Option<Nanos>,
}

impl<K, V> EntryRef<'_, K, V> {
    /// Whether its deadline has come.
    #[must_use]
    pub fn is_dead(&self, now: Nanos) -> bool {
        self.deadline.is_some_and(|deadline| now.tick() >= deadline.0)
    }
}

impl<K, V> Clone for EntryRef<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for EntryRef<'_, K, V> {}

/// The entries of a shard, least recently used first; see [`Shard::iter`].
#[derive(Debug)]
pub struct Iter<'a, K, V> {
    shard: &'a Shard<K, V>,
    order: vec::IntoIter<Slot>,
}

impl<K, V> Shard<K, V> {
    /// The entries, least recently used first, without leaving a trace.
    ///
    /// Expired entries are among them until they are reclaimed; [`EntryRef::is_dead`] tells. O(n log n) for n
    /// entries, since they are put in order for this. [`entries`](Self::entries) does without the order.
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let hash = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    /// # let (mut shard, mut removed) = (Shard::<u64, u64>::new(Config::default()), Vec::new());
    /// for key in 0..3 {
    ///     shard.insert(hash(key), key, key, 1, Lifetime::Default, Nanos(0), &mut NoPool, &mut removed);
    /// }
    /// shard.get(hash(0), &0, Nanos(0), &mut removed, |_| ());
    /// assert_eq!(shard.iter().map(|entry| *entry.key).collect::<Vec<_>>(), [1, 2, 0]);
    /// ```
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter { order: self.slab.in_order().into_iter(), shard: self }
    }

    /// The entries in no particular order, otherwise as [`iter`](Self::iter) gives them. Allocates nothing.
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let hash = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    /// # let (mut shard, mut removed) = (Shard::<u64, u64>::new(Config::default()), Vec::new());
    /// for key in 0..3 {
    ///     shard.insert(hash(key), key, 10, 1, Lifetime::Default, Nanos(0), &mut NoPool, &mut removed);
    /// }
    /// assert_eq!(shard.entries().map(|entry| *entry.value).sum::<u64>(), 30);
    /// ```
    pub fn entries(&self) -> impl Iterator<Item = EntryRef<'_, K, V>> {
        self.slots().filter_map(|slot| self.entry_ref(slot))
    }

    /// All live slots, in the order of memory.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.slab.uses().map(|(_, slot)| slot)
    }

    /// All that is known of a live slot.
    #[inline]
    pub(super) fn entry_ref(&self, slot: Slot) -> Option<EntryRef<'_, K, V>> {
        let entry = self.slab.get(slot)?;
        let deadline = Some(Nanos(self.deadlines.deadline(slot))).filter(|&deadline| deadline != Nanos::MAX);
        Some(EntryRef { key: &entry.key, value: &entry.value, weight: self.weights.get(slot), deadline })
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = EntryRef<'a, K, V>;

    fn next(&mut self) -> Option<Self::Item> {
        self.order.next().and_then(|slot| self.shard.entry_ref(slot))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.order.size_hint()
    }
}

impl<K, V> ExactSizeIterator for Iter<'_, K, V> {}
impl<K, V> FusedIterator for Iter<'_, K, V> {}
