//! The index: from a hash to a slot.
//!
//! The shard calls it with the caller's 64-bit hash, and with a closure that compares keys. Only the low 32
//! bits are used and kept, four bytes an entry. So the table grows without running anyone's `Hash`, and the
//! caller may route to shards by the high 32 bits. The index never sees a key.
//!
//! The table is an array of any number of lines. The upper bits of a slot's 32-bit hash give its line, its
//! home. If the home was full, the slot is in one of the lines after it. The low bits are its tag.

use alloc::boxed::Box;
use alloc::vec;
use core::iter;

use crate::column::{Column, empty};
#[cfg(any(test, fuzzing, feature = "validate"))]
use crate::line::MANY;
use crate::line::{Line, ROOM, Tag};
use crate::probe::ProbeHint;
use crate::slot::Slot;

/// The part of the caller's hash that a shard uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShortHash(pub(crate) u32);

impl ShortHash {
    #[inline]
    pub(crate) const fn of(hash: u64) -> Self {
        Self(hash as u32)
    }

    #[inline]
    const fn tag(self) -> Tag {
        Tag::of(self.0)
    }

    /// Returns the line where a search begins, in a table of so many: greater hashes begin later. (A hint may
    /// speak of 2^32 lines and more; no table has them.)
    #[inline]
    pub(crate) const fn home(self, lines: usize) -> usize {
        ((self.0 as u64).wrapping_mul(lines as u64) >> 32) as usize
    }
}

/// The number of slots for each line at which the table is full.
///
/// As entries come and go, those that had to go on from a full line stay where they are. So searches become
/// longer than the share of full lines alone would suggest: an unsuccessful search sees 1.6 to 1.8 lines at
/// eight of twelve, and more than three at nine.
const FULL: usize = ROOM * 2 / 3;

/// The factor by which a table may grow at once, if that takes it beyond [`SMALL`] lines. Writing more new
/// lines takes longer than moving those that are there, and is wasted if the table stays as empty as it is.
const MOST_GROWN: usize = 4;

/// The number of lines that are written in about fifty microseconds: half a megabyte, for 65,536 slots.
const SMALL: usize = 1 << 13;

/// When a table is moved, the hashes of the slots in a line are prefetched this many lines ahead. They may be
/// anywhere in memory.
const AHEAD: usize = 4;

/// What the beginning of a search says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// There is nothing under this hash.
    Nothing,
    /// This slot is probably the one sought.
    Slot(Slot),
    /// It takes a whole search to tell.
    Unknown,
}

/// Which slots have which hash.
#[repr(C)]
pub(crate) struct Index {
    lines: Box<[Line]>,
    /// The hash of every slot in the table.
    hashes: Column<u32>,
}

/// Puts a slot into a table that has room for it.
#[inline]
fn place(lines: &mut [Line], hash: ShortHash, slot: Slot) {
    let count = lines.len();
    let mut at = hash.home(count);
    loop {
        let line = &mut lines[at];
        if let Some(place) = line.vacant().next() {
            return line.put(place, hash.tag(), slot);
        }
        line.pass();
        at = after(at, count);
        debug_assert!(at != hash.home(count), "no room was made for {slot:?}");
    }
}

/// Returns the line after this one, in a table of so many.
#[inline]
const fn after(at: usize, lines: usize) -> usize {
    if at + 1 < lines { at + 1 } else { 0 }
}

impl Index {
    /// How many bytes at its beginning a look-up reads: where the lines are, and how many.
    pub(crate) const HOT_BYTES: usize = 16;

    pub(crate) fn new() -> Self {
        Self { lines: empty(), hashes: Column::new(0) }
    }

    #[inline]
    pub(crate) fn hash_of(&self, slot: Slot) -> ShortHash {
        ShortHash(self.hashes.get(slot))
    }

    /// Starts loading the hash of a slot.
    #[inline]
    pub(crate) fn prefetch_hash(&self, slot: Slot) {
        self.hashes.prefetch(slot);
    }

    /// The lines where a slot with this hash may be: its home, and those after it as long as slots went on
    /// from there.
    #[inline]
    fn search(&self, hash: ShortHash) -> impl Iterator<Item = &Line> {
        let home = hash.home(self.lines.len());
        let (mut at, mut seen) = (home, None::<&Line>);
        iter::from_fn(move || {
            if let Some(line) = seen {
                at = after(at, self.lines.len());
                // If slots went on from every line, all of them have been seen when the search is back home.
                if !line.is_passed() || at == home {
                    return None;
                }
            }
            seen = self.lines.get(at);
            seen
        })
    }

    /// Returns the first slot under `hash` that `is_it` accepts, which may be asked about slots with other
    /// hashes as well.
    ///
    /// This is [`search`](Self::search) written out: through `search`, a look-up takes four instructions
    /// more.
    #[inline]
    pub(crate) fn find(&self, hash: ShortHash, mut is_it: impl FnMut(Slot) -> bool) -> Option<Slot> {
        let home = hash.home(self.lines.len());
        let mut at = home;
        while let Some(line) = self.lines.get(at) {
            for place in line.tagged(hash.tag()) {
                let slot = line.slot(place);
                if is_it(slot) {
                    return Some(slot);
                }
            }
            // If slots went on from every line, all of them have been seen when the search is back home.
            at = after(at, self.lines.len());
            if !line.is_passed() || at == home {
                break;
            }
        }
        None
    }

    /// Does the beginning of a search, which is usually all of it. A slot that is there is usually in its
    /// home line; to find out that none is there, the line after that is looked at as well.
    #[inline]
    pub(crate) fn first(&self, hash: ShortHash) -> First {
        let home = hash.home(self.lines.len());
        let Some(line) = self.lines.get(home) else { return First::Nothing };
        if let Some(place) = line.tagged(hash.tag()).next() {
            return First::Slot(line.slot(place));
        }
        if !line.is_passed() {
            return First::Nothing;
        }
        match self.lines.get(after(home, self.lines.len())) {
            Some(line) if line.is_passed() || line.tagged(hash.tag()).next().is_some() => First::Unknown,
            _ => First::Nothing,
        }
    }

    /// All slots with exactly this hash, in no particular order.
    pub(crate) fn with_hash(&self, hash: ShortHash) -> impl Iterator<Item = Slot> + '_ {
        self.search(hash)
            .flat_map(move |line| line.tagged(hash.tag()).map(|place| line.slot(place)))
            .filter(move |&slot| self.hash_of(slot) == hash)
    }

    /// Makes sure that one more slot can be inserted without growing. There are `slots` in the table.
    ///
    /// The table grows by half. Once it has a sixteenth of `hint` slots, it grows to what `hint` slots need,
    /// since moving it now takes much less time than the last move would. It does so at once if that is
    /// little, and otherwise grows to four times its size. From what `hint` slots need to twice that, it
    /// grows by an eighth at a time.
    #[inline]
    pub(crate) fn reserve_one(&mut self, slots: usize, hint: usize) {
        if slots >= self.lines.len() * FULL {
            self.grow(slots, hint);
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, slots: usize, hint: usize) {
        let (lines, expected) = (self.lines.len(), hint.div_ceil(FULL));
        let next = if lines < expected && slots >= hint / 16 {
            expected.min(lines.saturating_mul(MOST_GROWN).max(SMALL))
        } else {
            lines + lines.div_ceil(if expected <= lines && lines < expected * 2 { 8 } else { 2 })
        };
        let mut grown = vec![Line::EMPTY; next.max(1)].into_boxed_slice();
        // From the first line to the last, which is the order in which the new ones are written.
        for (number, line) in self.lines.iter().enumerate() {
            if let Some(coming) = self.lines.get(number + AHEAD) {
                coming.occupied().for_each(|at| self.prefetch_hash(coming.slot(at)));
            }
            for at in line.occupied() {
                let slot = line.slot(at);
                place(&mut grown, self.hash_of(slot), slot);
            }
        }
        self.lines = grown;
    }

    /// Adds a slot, for which there is room, and returns where the table is. `capacity` is that of the slab.
    #[inline]
    pub(crate) fn insert(&mut self, hash: ShortHash, slot: Slot, capacity: usize) -> ProbeHint {
        self.hashes.set(slot, hash.0, capacity);
        place(&mut self.lines, hash, slot);
        ProbeHint { base: self.lines.as_ptr().addr(), lines: self.lines.len() }
    }

    /// Takes a slot out, adds it again under another hash, and returns where the table is. `capacity` is that
    /// of the slab.
    #[inline]
    pub(crate) fn move_to(&mut self, hash: ShortHash, slot: Slot, capacity: usize) -> ProbeHint {
        self.remove(slot);
        self.insert(hash, slot, capacity)
    }

    /// Takes a slot out.
    #[inline]
    pub(crate) fn remove(&mut self, slot: Slot) {
        let (hash, count) = (self.hash_of(slot), self.lines.len());
        let mut at = hash.home(count);
        while let Some(line) = self.lines.get_mut(at) {
            if let Some(place) = line.tagged(hash.tag()).find(|&place| line.slot(place) == slot) {
                line.clear(place);
                return;
            }
            if !line.is_passed() {
                debug_assert!(false, "{slot:?} is removed but not in the index");
                return;
            }
            line.unpass();
            at = after(at, count);
        }
    }

    /// The number of bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.lines) + self.hashes.bytes()
    }

    /// Asserts that each of the `live` slots is found under its hash, that nothing else is in the table, and
    /// that each line counts the slots that went on from there.
    #[cfg(any(test, fuzzing, feature = "validate"))]
    pub(crate) fn validate(&self, live: impl Iterator<Item = Slot>) {
        let mut count = 0;
        for slot in live {
            let places = self.with_hash(self.hash_of(slot)).filter(|&other| other == slot).count();
            assert_eq!(places, 1, "index: {slot:?} is in {places} places under its hash");
            count += 1;
        }
        let mut again = vec![Line::EMPTY; self.lines.len()];
        let mut occupied = 0;
        for (at, line) in self.lines.iter().enumerate() {
            for place in line.occupied() {
                let mut passed = self.hash_of(line.slot(place)).home(self.lines.len());
                while passed != at {
                    again[passed].pass();
                    passed = after(passed, self.lines.len());
                }
                occupied += 1;
            }
        }
        assert_eq!(occupied, count, "index: slots in the table, and those that are live");
        assert!(count <= self.lines.len() * FULL, "index: {count} in {} lines", self.lines.len());
        for (at, (line, again)) in self.lines.iter().zip(&again).enumerate() {
            let (passed, needed) = (line.passed(), again.passed());
            assert!(passed == needed || passed == MANY, "index: {needed} went on from line {at}, not {passed}");
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;
    use core::ops::Range;

    use super::*;

    /// splitmix64: well mixed, as a cache's hasher must be.
    fn mix(key: u64) -> u64 {
        let z = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns an index of so many slots, made with this hint.
    fn filled(slots: u32, hint: usize, hash: impl Fn(u32) -> ShortHash) -> Index {
        let mut index = Index::new();
        for slot in 0..slots {
            index.reserve_one(slot as usize, hint);
            index.insert(hash(slot), Slot(slot), slots as usize);
        }
        index
    }

    #[test]
    fn a_slot_is_found_under_its_hash_until_removed() {
        let hash = |slot: u32| ShortHash::of(mix(u64::from(slot / 2)));
        let mut index = filled(1000, 0, hash);
        index.validate((0..1000).map(Slot));
        assert_eq!(index.with_hash(hash(14)).map(|slot| slot.0).sum::<u32>(), 14 + 15);
        assert_eq!(index.find(hash(14), |slot| slot == Slot(15)), Some(Slot(15)));
        index.remove(Slot(15));
        assert_eq!(index.find(hash(14), |slot| slot == Slot(15)), None);
        assert_eq!(index.with_hash(hash(14)).collect::<Vec<_>>(), [Slot(14)]);
        index.validate((0..1000).filter(|&slot| slot != 15).map(Slot));
    }

    #[test]
    fn a_hint_names_the_line_where_a_search_begins() {
        let hash = |slot: u32| ShortHash::of(mix(u64::from(slot)));
        let mut index = filled(1000, 1000, hash);
        let hint = index.move_to(hash(0), Slot(0), 1000);
        assert_eq!((hint.base, hint.lines), (index.lines.as_ptr().addr(), index.lines.len()));
        let at_home = |&slot: &u32| {
            let line = (hint.address(u64::from(hash(slot).0)) - hint.base) / size_of::<Line>();
            index.lines[line].tagged(hash(slot).tag()).any(|place| index.lines[line].slot(place) == Slot(slot))
        };
        let near = (0..1000).filter(at_home).count();
        assert!(near > 900, "{near} of 1000 are in the first line of their search");
    }

    #[test]
    fn equal_hashes_are_kept_apart_by_the_closure_alone() {
        let mut index = filled(40, 0, |_| ShortHash(7));
        for slot in 0..40 {
            assert_eq!(index.find(ShortHash(7), |it| it == Slot(slot)), Some(Slot(slot)));
        }
        index.validate((0..40).map(Slot));
        for slot in (0..40).filter(|slot| slot % 3 != 1) {
            index.remove(Slot(slot));
        }
        index.validate((0..40).filter(|slot| slot % 3 == 1).map(Slot));
        assert_eq!(index.find(ShortHash(7), |it| it == Slot(0)), None);
    }

    #[test]
    fn lines_that_were_passed_too_often_to_count_lose_no_slot() {
        // More slots of one home than are counted.
        let mut index = filled(600, 600, |_| ShortHash(7));
        for slot in (0..600).filter(|slot| slot % 25 != 3) {
            index.remove(Slot(slot));
        }
        index.validate((0..600).filter(|slot| slot % 25 == 3).map(Slot));
        assert!(index.lines.iter().any(|line| line.passed() == MANY));
        for slot in 0..600 {
            let found = index.find(ShortHash(7), |it| it == Slot(slot)).is_some();
            assert_eq!(found, slot % 25 == 3, "{slot}");
        }
    }

    #[test]
    fn a_search_ends_though_some_went_on_from_every_line() {
        fn insert(index: &mut Index, slots: Range<u32>, home: u32) {
            for slot in slots {
                let slots = index.lines.iter().map(|line| line.occupied().count()).sum();
                index.reserve_one(slots, 0);
                index.insert(ShortHash(home << 31), Slot(slot), 28);
            }
        }
        // The first line is full, and some slots go on to the second. That one fills up in its turn when
        // there is room in the first again, so slots that go on from there are in the first.
        let mut index = Index::new();
        insert(&mut index, 0..16, 0);
        for slot in 0..10 {
            index.remove(Slot(slot));
        }
        insert(&mut index, 16..26, 1);
        assert!(index.lines.len() == 2 && index.lines.iter().all(Line::is_passed));
        assert_eq!(index.find(ShortHash(1), |_| true), None);
        assert_eq!(index.with_hash(ShortHash(1 << 31)).count(), 10);
        index.validate((10..26).map(Slot));
    }

    #[test]
    #[cfg_attr(miri, ignore = "large tables take minutes, and smaller ones run the same code")]
    fn a_large_table_jumps_to_four_times_of_what_it_was_at_most() {
        let hash = |slot: u32| ShortHash::of(mix(u64::from(slot)));
        let (expected, mut most) = (1 << 20, 0);
        let mut index = Index::new();
        for slot in 0..400_000 {
            let lines = index.lines.len();
            index.reserve_one(slot as usize, expected);
            index.insert(hash(slot), Slot(slot), 400_000);
            if lines > SMALL / 4 {
                most = most.max(index.lines.len().div_ceil(lines));
            }
        }
        assert_eq!((most, index.lines.len()), (4, expected / FULL));
        // What fits into a small table comes at once.
        assert_eq!(filled(1 << 13, 1 << 16, hash).lines.len(), SMALL);
    }

    #[test]
    fn the_table_grows_by_half_jumps_to_what_is_expected_and_a_little_beyond_by_the_eighth() {
        let grown = |expected: usize, slots: u32| {
            let mut index = Index::new();
            let mut grown = Vec::new();
            for slot in 0..slots {
                index.reserve_one(slot as usize, expected);
                index.insert(ShortHash::of(mix(u64::from(slot))), Slot(slot), slots as usize);
                if grown.last() != Some(&index.lines.len()) {
                    grown.push(index.lines.len());
                }
            }
            index.validate((0..slots).map(Slot));
            grown
        };
        assert_eq!(grown(800, 1200), [1, 2, 3, 5, 8, 100, 113, 128, 144, 162]);
        assert_eq!(grown(0, 400), [1, 2, 3, 5, 8, 12, 18, 27, 41, 62]);
        assert_eq!(grown(usize::MAX, 400), grown(0, 400));
        // Here there are more slots than expected.
        assert_eq!(grown(80, 600), [1, 10, 12, 14, 16, 18, 21, 32, 48, 72, 108]);
    }

    #[test]
    fn searches_stay_short_when_entries_come_and_go() {
        let slots = 20_000;
        let hash = |key: u32| ShortHash::of(mix(u64::from(key)));
        let mut index = filled(slots, slots as usize, hash);
        for key in slots..10 * slots {
            index.move_to(hash(key), Slot(key % slots), slots as usize);
        }
        let lines: usize = (0..slots).map(|key| index.search(hash(key + 100 * slots)).count()).sum();
        let mean = lines as f64 / f64::from(slots);
        assert!(mean < 1.9, "a search in vain sees {mean} lines");
    }

    #[test]
    #[cfg_attr(miri, ignore = "counts twelve million hashes, and has nothing to do with memory")]
    fn tags_keep_their_entropy_within_a_shard_routed_by_the_high_bits() {
        let mut tags = BTreeMap::<Tag, u32>::new();
        let in_one_shard = (0..).map(mix).filter(|hash| (hash >> 32) % 128 == 5).take(100_000);
        for hash in in_one_shard {
            *tags.entry(ShortHash::of(hash).tag()).or_default() += 1;
        }
        let entropy: f64 = tags.values().map(|&n| f64::from(n) / 100_000.0).map(|p| -p * p.log2()).sum();
        assert!(entropy > 7.98, "{entropy} bits of 8");
    }
}
