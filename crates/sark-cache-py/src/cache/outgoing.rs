//! Entries on their way out of a shard: collected while it is owned, dropped or told of when it isn't any more.

use sark_shard::{Removals, Removed};
use smallvec::SmallVec;

use crate::key::Key;
use crate::object::Object;

/// What leaves a shard. Made before the shard is taken, so that it is dropped after the release. The usual one or two need
/// no allocation.
#[derive(Default)]
pub(crate) struct Outgoing(SmallVec<[Removed<Key, Object>; 2]>);

impl Outgoing {
    #[inline]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Removals<Key, Object> for Outgoing {
    #[inline]
    fn push(&mut self, removed: Removed<Key, Object>) {
        self.0.push(removed);
    }
}

impl IntoIterator for Outgoing {
    type Item = Removed<Key, Object>;
    type IntoIter = smallvec::IntoIter<[Self::Item; 2]>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
