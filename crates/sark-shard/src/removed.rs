//! What leaves a shard, and why.
//!
//! A shard drops nothing of the user's: each entry that is evicted, expired, replaced or rejected
//! is pushed into the [`Removals`] that the caller brought, and dropped by the caller when and
//! where that is safe. This room never runs anything but that one push.

use alloc::vec::Vec;

/// Why an entry is not in the shard any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RemovalCause {
    /// Its deadline had come.
    Expired,
    /// Somebody removed it, or cleared the shard.
    Explicit,
    /// A newer value for its key took its place, or was refused one.
    Replaced,
    /// It was the least recently used one, and the room was needed.
    Size,
    /// It was never stored: it was not to be kept.
    Rejected,
}

/// An entry on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed<K, V> {
    /// The key. When a value was replaced in place, this is the newer key, equal to the one that
    /// stays.
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
/// `push` is called while the shard is consistent but in the middle of an operation; if it panics
/// the operation stops there and the shard stays valid.
pub trait Removals<K, V> {
    /// Takes one entry.
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
