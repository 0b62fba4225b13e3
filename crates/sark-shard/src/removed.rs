//! Removals: what leaves a shard, and why.
//!
//! A shard drops nothing of the caller's. It pushes each entry that is evicted, expired, replaced or rejected
//! into the [`Removals`] that the caller brought, and the caller drops it when and where that is safe. This
//! module never runs anything but that one push.

use alloc::vec::Vec;

/// Why an entry is no longer in the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RemovalCause {
    /// Its deadline had come.
    Expired,
    /// The caller removed it, or cleared the shard.
    Explicit,
    /// A newer value for its key took its place, or would have but was rejected.
    Replaced,
    /// It was the least recently used one, and its room was needed.
    Size,
    /// It was not to be kept, so it was never stored.
    Rejected,
}

/// An entry on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed<K, V> {
    /// The key. If a value was replaced in place, this is the newer key, equal to the one that stays.
    pub key: K,
    /// The value.
    pub value: V,
    /// The weight that it was inserted with.
    pub weight: u32,
    /// Why it left.
    pub cause: RemovalCause,
}

/// Takes in what leaves a shard.
///
/// `push` is called in the middle of an operation, while the shard is consistent. If it panics, the operation
/// stops there and the shard stays valid.
pub trait Removals<K, V> {
    /// Takes in one entry.
    fn push(&mut self, removed: Removed<K, V>);
}

impl<K, V> Removals<K, V> for Vec<Removed<K, V>> {
    #[inline]
    fn push(&mut self, removed: Removed<K, V>) {
        Vec::push(self, removed);
    }
}

impl<K, V, R: Removals<K, V> + ?Sized> Removals<K, V> for &mut R {
    #[inline]
    fn push(&mut self, removed: Removed<K, V>) {
        (**self).push(removed);
    }
}
