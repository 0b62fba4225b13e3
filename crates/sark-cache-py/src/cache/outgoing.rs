//! Entries leaving a shard: collected while it is owned, and dropped or reported after its release.

use sark_shard::{Removals, Removed};
use smallvec::SmallVec;

use crate::key::Key;
use crate::object::Object;

/// What leaves a shard. It is created before the shard is taken, so that it is dropped after the release. The
/// usual one or two entries need no allocation.
#[derive(Default)]
pub(crate) struct Outgoing {
    removed: SmallVec<[Removed<Key, Object>; 2]>,
    /// A value that another one replaced, if there is no listener to tell.
    pub(super) displaced: Option<Object>,
}

impl Outgoing {
    #[inline]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Drops everything. In the usual case, with no entry and at most one value, finding that out costs no
    /// call.
    #[inline]
    pub(crate) fn discard(self) {
        let Self { removed, displaced } = self;
        if removed.is_empty() {
            std::mem::forget(removed);
        }
        drop(displaced);
    }

    /// The entries, to be reported to the listener.
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
