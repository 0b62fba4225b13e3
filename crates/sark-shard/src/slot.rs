//! Slots: a [`Slot`] names the place where an entry of a shard is stored.
//!
//! Every module speaks of entries by slot: the index maps hashes to slots, the nodes say when a slot was
//! used, the wheel times them. This module holds no data and decides nothing.

/// The place of one entry inside a shard, from its insertion until its removal.
///
/// A slot is used again after its entry is gone. So a slot alone does not prove *which* entry it names; a
/// [`Candidate`](crate::Candidate) does. All operations by slot are checked: a slot without an entry gives
/// `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub(crate) u32);

impl Slot {
    /// All slots are numbered below this limit, since the wheel keeps the top bit of its references for
    /// itself.
    pub(crate) const LIMIT: u32 = (1 << 31) - 2;

    /// The position in every array that runs parallel to the slab.
    #[inline]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}
