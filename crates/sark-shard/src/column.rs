//! Columns: one value per slot, in a dense array that costs nothing while all values are the usual one.
//!
//! The index, the deadlines and the shard keep hashes, times of last access, weights and generations in
//! columns. A column never knows which slots are in use: when a slot is used again, its value is simply set
//! again.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::prefetch::prefetch;
use crate::slot::Slot;

/// Returns the array with `len` items, the new ones made by `fill`.
///
/// Wherever a whole array is in use at once, the crate has boxed slices instead of vectors. Each saves a
/// word, which lets everything that a hit reads of the shard, and doesn't write, share one cache line.
pub(crate) fn grown<T>(array: Box<[T]>, len: usize, fill: impl FnMut() -> T) -> Box<[T]> {
    let mut array = array.into_vec();
    array.reserve_exact(len.saturating_sub(array.len()));
    array.resize_with(len, fill);
    array.into_boxed_slice()
}

/// Returns an array without items.
pub(crate) fn empty<T>() -> Box<[T]> {
    Vec::new().into_boxed_slice()
}

/// The values of one property, by slot.
pub(crate) struct Column<T> {
    /// Slots at and beyond the length have the usual value.
    values: Box<[T]>,
    usual: T,
}

impl<T: Copy + PartialEq> Column<T> {
    pub(crate) fn new(usual: T) -> Self {
        Self { values: empty(), usual }
    }

    #[inline]
    pub(crate) fn get(&self, slot: Slot) -> T {
        self.values.get(slot.index()).copied().unwrap_or(self.usual)
    }

    /// Whether no slot ever had a value other than the usual one.
    #[inline]
    pub(crate) fn is_usual(&self) -> bool {
        self.values.is_empty()
    }

    /// Starts loading the value of `slot`.
    #[inline]
    pub(crate) fn prefetch(&self, slot: Slot) {
        if let Some(place) = self.values.get(slot.index()) {
            prefetch(place);
        }
    }

    /// Sets the value of `slot`. `capacity` is that of the slab, so that all arrays grow at the same moments.
    #[inline]
    pub(crate) fn set(&mut self, slot: Slot, value: T, capacity: usize) {
        match self.values.get_mut(slot.index()) {
            Some(place) => *place = value,
            None if value == self.usual => {}
            None => self.extend_to(slot, value, capacity),
        }
    }

    fn extend_to(&mut self, slot: Slot, value: T, capacity: usize) {
        let (values, usual) = (core::mem::take(&mut self.values), self.usual);
        self.values = grown(values, capacity.max(slot.index() + 1), || usual);
        self.values[slot.index()] = value;
    }

    /// Changes the value of a slot that the column already reaches, and does nothing otherwise.
    #[inline]
    pub(crate) fn change(&mut self, slot: Slot, change: impl FnOnce(&mut T)) {
        if let Some(place) = self.values.get_mut(slot.index()) {
            change(place);
        }
    }

    /// Gives the memory back. Every slot has the usual value again.
    pub(crate) fn reset(&mut self) {
        self.values = empty();
    }

    /// The number of bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.values.len() * size_of::<T>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_of_usual_values_allocates_nothing() {
        let mut column = Column::new(1u32);
        column.set(Slot(5), 1, 64);
        assert_eq!((column.get(Slot(5)), column.bytes()), (1, 0));
    }

    #[test]
    fn the_first_unusual_value_brings_the_column_to_the_capacity_of_the_slab() {
        let mut column = Column::new(1u32);
        column.set(Slot(5), 9, 64);
        assert_eq!((column.get(Slot(4)), column.get(Slot(5)), column.get(Slot(6))), (1, 9, 1));
        assert_eq!(column.bytes(), 64 * 4);
        column.set(Slot(5), 1, 64);
        assert_eq!(column.get(Slot(5)), 1);
    }
}
