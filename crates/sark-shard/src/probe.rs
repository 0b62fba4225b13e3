//! Where a look-up will begin, for who wants that memory loaded before the shard is his to look at.
//!
//! A look-up reads the index, then what the index names. Who knows beforehand where in the index that will be can start
//! loading it at once, while he still waits for the right to run the shard. The index makes these
//! hints; nothing in here reads memory, so a hint that is out of date costs time and nothing else.

use crate::index::ShortHash;
use crate::line::Line;
use crate::prefetch::prefetch_address;

/// A hint at the place of a shard's index; see [`Shard::probe_hint`](crate::Shard::probe_hint).
///
/// Two words to be kept wherever it suits, in atomics for example: any two words make a hint, if perhaps a useless one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeHint {
    /// Address of the first line of the index.
    pub base: usize,
    /// Number of lines.
    pub lines: usize,
}

impl ProbeHint {
    /// Where a look-up of `hash` begins.
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
