//! Where a look-up will begin, for who wants that memory loaded before the shard is his to look at.
//!
//! A look-up reads the index, then what the index names. Who knows beforehand where in the index that will be can start
//! loading both of its cache lines at once, and while he still waits for the right to run the shard. The index makes these
//! hints; nothing in here reads memory, so a hint that is out of date costs time and nothing else.

use crate::index::ShortHash;
use crate::slab::prefetch_address;
use crate::slot::Slot;

/// A hint at the place of a shard's index; see [`Shard::probe_hint`](crate::Shard::probe_hint).
///
/// Two words to be kept wherever it suits, in atomics for example: any two words make a hint, if perhaps a useless one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeHint {
    /// Address of the control bytes of `hashbrown`'s table. The buckets lie before them, the first one last.
    pub base: usize,
    /// One less than the number of buckets.
    pub mask: usize,
}

impl ProbeHint {
    /// Starts loading what a look-up of `hash` will read first.
    #[inline(always)]
    pub fn prefetch(self, hash: u64) {
        /// An entry lies in the first vacant bucket from where its probe began, so rather a little behind it.
        const BEHIND: usize = 2;
        let position = ShortHash::of(hash).probe_start(self.mask);
        prefetch_address(self.base.wrapping_add(position));
        prefetch_address(self.base.wrapping_sub(position.wrapping_add(BEHIND).wrapping_mul(size_of::<Slot>())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_two_words_make_a_hint() {
        for (base, mask) in [(0, usize::MAX), (usize::MAX, usize::MAX), (usize::MAX, 0), (0, 0)] {
            for hash in [0, 1, u64::MAX] {
                ProbeHint { base, mask }.prefetch(hash);
            }
        }
    }
}
