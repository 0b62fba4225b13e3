//! Hints: where a look-up will begin, for callers that want that memory loaded before they hold the shard.
//!
//! A look-up reads the index, then the entry that the index names. A caller that knows beforehand where in
//! the index the look-up begins can start loading that place at once, while it still waits for the right to
//! run the shard. The index makes these hints. Nothing in here reads memory, so a hint that is out of date
//! costs time and nothing else.

use crate::index::ShortHash;
use crate::line::Line;
use crate::prefetch::prefetch_address;

/// A hint at where a shard's index is; see [`Shard::probe_hint`](crate::Shard::probe_hint).
///
/// The caller can keep its two words anywhere, in atomics for example. Any two words make a hint, though
/// perhaps a useless one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeHint {
    /// The address of the first line of the index.
    pub base: usize,
    /// The number of lines.
    pub lines: usize,
}

impl ProbeHint {
    /// The address where a look-up of `hash` begins.
    #[inline(always)]
    pub(crate) fn address(self, hash: u64) -> usize {
        self.base.wrapping_add(ShortHash::of(hash).home(self.lines).wrapping_mul(size_of::<Line>()))
    }

    /// Starts loading what a look-up of `hash` will read first.
    #[inline(always)]
    pub fn prefetch(self, hash: u64) {
        prefetch_address(self.address(hash));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_two_words_make_a_hint() {
        for (base, lines) in [(0, usize::MAX), (usize::MAX, usize::MAX), (usize::MAX, 0), (0, 0)] {
            for hash in [0, 1, u64::MAX] {
                ProbeHint { base, lines }.prefetch(hash);
            }
        }
    }
}
