//! Entries on their way out: taken from a shard while it is held, dropped when it isn't any more.

use sark_shard::{Removals, Removed};
use smallvec::SmallVec;

/// Collects what leaves a shard. Lives on the caller's stack, so its drop runs the user's destructors there, with
/// nothing held. The usual one or two need no allocation.
pub(crate) struct Outgoing<K, V>(SmallVec<[Removed<K, V>; 2]>);

impl<K, V> Outgoing<K, V> {
    #[inline]
    pub(crate) fn new() -> Self {
        Self(SmallVec::new())
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl<K, V> Default for Outgoing<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> Removals<K, V> for Outgoing<K, V> {
    #[inline]
    fn push(&mut self, removed: Removed<K, V>) {
        self.0.push(removed);
    }
}

/// The entry that a look-up found dead: there is one at most, so that a hit carries no list around.
pub(crate) struct Expired<K, V>(Option<Removed<K, V>>);

impl<K, V> Expired<K, V> {
    #[inline]
    pub(crate) fn new() -> Self {
        Self(None)
    }

    #[inline]
    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }
}

impl<K, V> Removals<K, V> for Expired<K, V> {
    #[inline]
    fn push(&mut self, removed: Removed<K, V>) {
        debug_assert!(self.0.is_none(), "a look-up takes out the entry of its key and no other");
        self.0 = Some(removed);
    }
}
