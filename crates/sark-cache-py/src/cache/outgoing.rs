//! Entries on their way out of a shard: collected while it is owned, dropped or told of when it isn't any more.

use sark_shard::{Removals, Removed};
use smallvec::SmallVec;

use crate::key::Key;
use crate::object::Object;

/// What leaves a shard. Made before the shard is taken, so that it is dropped after the release. The usual one or two
/// need no allocation.
#[derive(Default)]
pub(crate) struct Outgoing {
    removed: SmallVec<[Removed<Key, Object>; 2]>,
    /// A value that another took the place of, if nobody wants to hear of it.
    pub(super) displaced: Option<Object>,
}

impl Outgoing {
    #[inline]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Drops everything. The usual case, in which there is nothing or one value, costs no call to find that out.
    #[inline]
    pub(crate) fn discard(self) {
        let Self { removed, displaced } = self;
        if removed.is_empty() {
            std::mem::forget(removed);
        }
        drop(displaced);
    }

    /// The entries, to be told of.
    pub(crate) fn entries(self) -> impl Iterator<Item = Removed<Key, Object>> {
        self.removed.into_iter()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.removed.is_empty()
    }
}

impl Removals<Key, Object> for Outgoing {
    #[inline]
    fn push(&mut self, removed: Removed<Key, Object>) {
        self.removed.push(removed);
    }
}
