//! Lines: one cache line of the index each, with up to twelve slots and a byte of the hash of each.
//!
//! In a table that keeps tags and slots apart, a look-up in distant memory waits for two cache lines; here it
//! waits for one. The layout follows folly's `F14VectorMap` (see `F14.md` there). So does the count of the
//! slots that found a line full and went on. It says where a search ends, and goes down again when those
//! slots leave, so removals need no tombstones. In F14 a tag of zero marks a vacant place. Here each place
//! has a bit for that, so that tags have all eight bits.
//!
//! The index is the only caller. A line knows neither keys nor hashes.

use crate::slot::Slot;

/// The number of slots that a line has room for.
pub(crate) const ROOM: usize = 12;

/// A byte of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tag(u8);

impl Tag {
    /// Returns the lowest byte.
    #[inline]
    pub(crate) const fn of(hash: u32) -> Self {
        Self(hash as u8)
    }
}

/// Places in a line. Each is the number of a word, and of the byte of that word's tag.
#[derive(Debug)]
pub(crate) struct Places(u32);

/// The places that can hold a slot. The first four words hold none, nor do bytes of the first word hold a
/// tag.
const PLACES: u32 = 0xFFF0;

/// Once this many slots went on from a line, they are no longer counted.
pub(crate) const MANY: u32 = if cfg!(test) { 0xFF } else { 0xFFFF };

impl Iterator for Places {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let place = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(place)
    }
}

/// The upper half of the first word counts the slots that went on from here; bit *n* of it says whether there
/// is a slot in word *n*. The next three words are tags, a byte each, and the others are the slots
/// themselves. The tag of the slot in word *n* is byte *n* of the line, where the lowest byte of a word comes
/// first. Where there is no slot, word and tag mean nothing.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line([u32; 16]);

impl Line {
    pub(crate) const EMPTY: Self = Self([0; 16]);

    /// The places of slots with this tag.
    #[inline]
    pub(crate) fn tagged(&self, tag: Tag) -> Places {
        let &Self([w0, w1, w2, w3, ..]) = self;
        // The comparison has sixteen bits, so the count in the upper half drops out.
        Places(bytes_equal([w0, w1, w2, w3], tag.0) & w0)
    }

    /// The vacant places.
    #[inline]
    pub(crate) fn vacant(&self) -> Places {
        Places(!self.0[0] & PLACES)
    }

    /// The places with a slot.
    #[inline]
    pub(crate) fn occupied(&self) -> Places {
        Places(self.0[0] & PLACES)
    }

    /// The slot at an occupied place.
    #[inline]
    pub(crate) fn slot(&self, place: usize) -> Slot {
        Slot(self.0[place % 16])
    }

    /// Puts a slot into a vacant place.
    #[inline]
    pub(crate) fn put(&mut self, place: usize, Tag(tag): Tag, slot: Slot) {
        self.0[place % 16] = slot.0;
        let (word, shift) = (place / 4 % 4, place % 4 * 8);
        self.0[word] = self.0[word] & !(0xFF << shift) | u32::from(tag) << shift;
        self.0[0] |= 1 << (place % 16);
    }

    #[inline]
    pub(crate) fn clear(&mut self, place: usize) {
        self.0[0] &= !(1 << (place % 16));
    }

    /// Whether a search goes on after this line.
    #[inline]
    pub(crate) fn is_passed(&self) -> bool {
        self.passed() != 0
    }

    /// The number of slots that went on from here; [`MANY`] stands for that many or more.
    #[inline]
    pub(crate) fn passed(&self) -> u32 {
        self.0[0] >> 16
    }

    /// Counts a slot that goes on.
    #[inline]
    pub(crate) fn pass(&mut self) {
        if self.passed() < MANY {
            self.0[0] += 1 << 16;
        }
    }

    /// Uncounts a slot that had gone on and leaves. Once [`MANY`] slots went on, which takes as many with
    /// similar hashes, it is no longer known how many of them are left.
    #[inline]
    pub(crate) fn unpass(&mut self) {
        if self.passed() < MANY {
            self.0[0] -= 1 << 16;
        }
    }
}

/// Compares each of the sixteen bytes of four words, the lowest byte of a word first, with `byte`: a bit
/// each.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[inline]
fn bytes_equal(words: [u32; 4], byte: u8) -> u32 {
    use core::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi32, _mm_set1_epi32};
    let [a, b, c, d] = words.map(u32::cast_signed);
    // This takes an instruction less than `_mm_set1_epi8`.
    let four_bytes = (0x0101_0101 * u32::from(byte)).cast_signed();
    // SAFETY: the intrinsics require only a processor with SSE2, and this is compiled only for those.
    let equal = unsafe { _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_set_epi32(d, c, b, a), _mm_set1_epi32(four_bytes))) };
    equal.cast_unsigned()
}

#[cfg(not(all(target_arch = "x86_64", target_feature = "sse2")))]
use bytes_equal_anywhere as bytes_equal;

/// Does the same on any processor.
#[cfg(any(test, not(all(target_arch = "x86_64", target_feature = "sse2"))))]
#[inline]
fn bytes_equal_anywhere([a, b, c, d]: [u32; 4], byte: u8) -> u32 {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const LOW_BITS: u64 = u64::from_ne_bytes([0x7F; 8]);
    let eight = |low: u32, high: u32| {
        let differing = (u64::from(high) << 32 | u64::from(low)) ^ (u64::from(byte) * ONES);
        // The top bit of each byte that is zero, and nothing else. No carry goes from one byte into the next.
        let zero = !(((differing & LOW_BITS) + LOW_BITS) | differing | LOW_BITS);
        // This brings bit 8 n to bit 56 + n.
        ((zero >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
    };
    eight(a, b) | eight(c, d) << 8
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn a_line_is_one_cache_line() {
        assert_eq!((size_of::<Line>(), align_of::<Line>()), (64, 64));
    }

    #[test]
    fn twelve_slots_are_found_by_their_tags_until_cleared() {
        let mut line = Line::EMPTY;
        for number in 0..ROOM as u32 {
            let place = line.vacant().next().expect("there is room for twelve");
            line.put(place, Tag::of(number % 3), Slot(number));
        }
        assert_eq!((line.vacant().next(), line.occupied().count(), line.is_passed()), (None, ROOM, false));
        let tagged =
            |line: &Line, hash: u32| line.tagged(Tag::of(hash)).map(|place| line.slot(place).0).collect::<Vec<_>>();
        assert_eq!(tagged(&line, 1), [1, 4, 7, 10]);
        assert_eq!(tagged(&line, 3), []);
        let place = line.tagged(Tag::of(1)).nth(2).unwrap();
        line.clear(place);
        assert_eq!((tagged(&line, 1), line.vacant().collect::<Vec<_>>()), ([1, 4, 10].into(), [place].into()));
    }

    #[test]
    fn neither_what_is_counted_nor_what_was_cleared_is_taken_for_a_slot() {
        let mut line = Line::EMPTY;
        let there = |line: &Line| (0..=0xFF).flat_map(|hash| line.tagged(Tag::of(hash))).collect::<Vec<_>>();
        for _ in 0..MANY - 1 {
            line.pass();
            assert_eq!((there(&line).len(), line.occupied().count(), line.vacant().count()), (0, 0, ROOM));
        }
        line.put(7, Tag::of(0xFF), Slot(3));
        assert_eq!((there(&line), line.passed()), (vec![7], MANY - 1));
        line.clear(7);
        for _ in 0..MANY - 1 {
            line.unpass();
        }
        assert_eq!((there(&line).len(), line.is_passed()), (0, false));
    }

    #[test]
    fn a_line_that_was_passed_too_often_to_count_stays_passed() {
        let mut line = Line::EMPTY;
        line.put(15, Tag::of(0), Slot(3));
        for _ in 0..MANY + 5 {
            line.pass();
        }
        for _ in 0..MANY + 5 {
            line.unpass();
        }
        assert_eq!((line.is_passed(), line.occupied().collect::<Vec<_>>()), (true, vec![15]));
    }

    #[test]
    fn bytes_are_compared_alike_on_all_processors() {
        let mut words = [0x0080_FF01, 0x7F80_0081, 0xFFFF_FF00, 0x0101_8001];
        for round in 0..1000u32 {
            for byte in [0, 1, 0x7F, 0x80, 0x81, 0xFF] {
                let naive =
                    (0..16).filter(|i| (words[i / 4] >> (i % 4 * 8)) as u8 == byte).fold(0, |bits, i| bits | 1 << i);
                assert_eq!((bytes_equal(words, byte), bytes_equal_anywhere(words, byte)), (naive, naive));
            }
            words = words.map(|word| word.rotate_left(5).wrapping_mul(0x9E37_79B1) ^ round);
        }
    }
}
