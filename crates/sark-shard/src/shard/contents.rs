//! Contents: what was in a shard, to be carried away and taken apart or dropped where that does no harm.
//!
//! [`Shard::clear`](super::Shard::clear) makes one. It owns the entries and knows nothing of the shard that
//! they were in.

use alloc::vec::Vec;
use core::fmt;
use core::iter::FusedIterator;

use crate::column::Column;
use crate::removed::{RemovalCause, Removed};
use crate::slab::Slab;
use crate::slot::Slot;

/// The entries that [`Shard::clear`](super::Shard::clear) took out, least recently used first.
///
/// Dropping it drops those that were not taken from it. If the drop of one panics, the others are still
/// dropped.
#[must_use = "dropping it drops all entries"]
pub struct Contents<K, V> {
    slab: Slab<K, V>,
    /// The entries that are left, most recently used first. Not known before the first of them is asked for.
    order: Vec<Slot>,
    weights: Column<u32>,
    weight: u64,
}

impl<K, V> Contents<K, V> {
    pub(super) const fn new(slab: Slab<K, V>, weights: Column<u32>, weight: u64) -> Self {
        Self { slab, order: Vec::new(), weights, weight }
    }

    /// The number of entries left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether no entry is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sum of the weights of those left.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.weight
    }
}

/// Yields each entry as [`RemovalCause::Explicit`]. The first call puts the entries in order: O(n log n) for
/// n of them.
impl<K, V> Iterator for Contents<K, V> {
    type Item = Removed<K, V>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.order.is_empty() && !self.slab.is_empty() {
            self.order = self.slab.in_order();
            self.order.reverse();
        }
        let slot = self.order.pop()?;
        let entry = self.slab.remove(slot)?;
        let weight = self.weights.get(slot);
        self.weight -= u64::from(weight);
        Some(Removed { key: entry.key, value: entry.value, weight, cause: RemovalCause::Explicit })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl<K, V> ExactSizeIterator for Contents<K, V> {}
impl<K, V> FusedIterator for Contents<K, V> {}

impl<K, V> fmt::Debug for Contents<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents").field("len", &self.len()).field("weight", &self.weight).finish_non_exhaustive()
    }
}
