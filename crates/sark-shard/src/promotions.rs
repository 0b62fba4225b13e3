//! Uses that have not moved their entries yet.
//!
//! A hit only appends its slot to a list of uses. The order of entries matters to nobody but those who evict or look at it,
//! and then only for entries that were used: so the uses are applied when the entry that would have to leave is one of those,
//! when one of those is removed, when somebody wants to see the order, and when the shard grows. The last use of an entry is the one
//! that counts, so when the list is full, all older ones are struck out; only if that doesn't help is it applied. However
//! often an entry was hit meanwhile, it is moved once, and the order is exact LRU to anyone who looks.
//!
//! The list of uses has two parts. [`Recent`] comes first in the shard, sized so that it shares one cache line with 16 bytes
//! of the caller's, and a hit writes that line alone. When it is full it is spilled to the [`Journal`], and the entries are marked.
//!
//! Everything in either is live; what is marked is what is in the journal. The shard calls both.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use crate::slab::Slab;
use crate::slot::Slot;

/// Uses that wait on the line of the hits.
const RECENT: usize = 9;
/// Uses that wait in the journal for each slot, and how many at most. With two, up to a thousand slots, striking out always
/// empties half of it.
const JOURNAL_PER_SLOT: usize = 2;
const JOURNAL: usize = 2048;
/// In a shard of more slots than this entries are rarely hit twice meanwhile. There they are applied
/// as soon as they would be spilled, and there is no journal.
const MANY_SLOTS: usize = 8192;

/// How many turns before its own an entry's link is asked for, as uses are applied, and how many before it the links beside it.
const LINK_AHEAD: usize = 12;
const NEIGHBOURS_AHEAD: usize = 6;

/// The newest uses, and the count of all hits ever.
#[repr(C)]
pub(crate) struct Recent {
    hits: u64,
    /// In range `0 .. RECENT`.
    len: u16,
    /// Whether uses are applied instead of spilled. Then links are asked for as they are noted. The journal would tell, but is on
    /// a line that a hit doesn't read.
    applied_soon: bool,
    slots: [Slot; RECENT],
}

const _: () = assert!(size_of::<Recent>() == 48);

/// The uses before those, oldest first, unless they are applied soon. There is room for a whole [`Recent`], always.
pub(crate) struct Journal {
    uses: Vec<Slot>,
    /// A bit for each slot, set only while uses are struck out.
    seen: Box<[u64]>,
}

impl Recent {
    pub(crate) const fn new() -> Self {
        Self { hits: 0, len: 0, applied_soon: false, slots: [Slot(0); RECENT] }
    }

    /// Takes the ways, and gives the journal the size, that suit a shard with memory for so many slots. To be called before the
    /// first of them is used, while no use waits, and not by a hit: it allocates.
    pub(crate) fn suit(&mut self, slots: usize, journal: &mut Journal) {
        debug_assert!(journal.uses.is_empty(), "a journal with uses in it is replaced");
        self.applied_soon = slots > MANY_SLOTS;
        *journal = if self.applied_soon { Journal::new() } else { Journal::for_slots(slots) };
    }

    /// Counts a hit on a live slot and notes that it is now the most recently used.
    #[inline]
    pub(crate) fn hit<K, V>(&mut self, slot: Slot, slab: &mut Slab<K, V>, journal: &mut Journal) {
        self.hits += 1;
        self.note(slot, slab, journal);
    }

    /// Notes that a live slot is now the most recently used.
    #[inline]
    pub(crate) fn note<K, V>(&mut self, slot: Slot, slab: &mut Slab<K, V>, journal: &mut Journal) {
        if self.applied_soon {
            // Measured: a sixth less per key of a batch of a million entries.
            slab.prefetch_neighbours(slot);
        }
        if let Some(place) = self.slots.get_mut(self.len as usize) {
            *place = slot;
            self.len += 1;
        }
        if self.len as usize == RECENT {
            self.spill(slab, journal);
        }
    }

    /// Notes that a live slot, already at the newest end of the order, is the most recently used: if no use waits, there is
    /// nothing to note.
    #[inline]
    pub(crate) fn note_newest<K, V>(&mut self, slot: Slot, slab: &mut Slab<K, V>, journal: &mut Journal) {
        if self.len != 0 || !journal.uses.is_empty() {
            self.note(slot, slab, journal);
        }
    }

    /// Whether a use of a live slot waits.
    #[inline]
    pub(crate) fn is_waiting<K, V>(&self, slot: Slot, slab: &Slab<K, V>) -> bool {
        slab.is_waiting(slot) || self.slots().contains(&slot)
    }

    /// Makes room. Out of line, so that the many hits that only wait don't carry it.
    #[inline(never)]
    fn spill<K, V>(&mut self, slab: &mut Slab<K, V>, journal: &mut Journal) {
        if self.applied_soon {
            return self.apply(slab, journal);
        }
        for &slot in self.slots() {
            slab.mark_waiting(slot);
        }
        journal.uses.extend_from_slice(self.slots());
        self.len = 0;
        if !journal.has_room() {
            journal.strike_out();
            if journal.uses.len() > journal.uses.capacity() / 2 || !journal.has_room() {
                journal.move_all(slab);
            }
        }
    }

    /// Applies all uses: the order is as they left it, and nothing waits.
    pub(crate) fn apply<K, V>(&mut self, slab: &mut Slab<K, V>, journal: &mut Journal) {
        if self.applied_soon {
            for &slot in self.slots() {
                slab.settle(None, slot);
            }
        } else {
            journal.uses.extend_from_slice(self.slots());
            journal.strike_out();
            journal.move_all(slab);
        }
        self.len = 0;
    }

    /// Hits ever.
    #[inline]
    pub(crate) fn hits(&self) -> u64 {
        self.hits
    }

    /// Oldest use first.
    #[inline]
    fn slots(&self) -> &[Slot] {
        self.slots.get(..self.len as usize).unwrap_or(&self.slots)
    }

    /// Asserts that a hit has room and that every slot can be struck out, with memory for so many slots.
    #[cfg(any(test, fuzzing, feature = "validate"))]
    pub(crate) fn validate(&self, journal: &Journal, slots: usize) {
        assert!((self.len as usize) < RECENT, "promotions: {} uses are not spilled", self.len);
        assert!(journal.seen.iter().all(|&bits| bits == 0), "promotions: struck out by half");
        if self.applied_soon || slots == 0 {
            assert!(journal.uses.is_empty(), "promotions: a journal where there is none");
        } else {
            assert!(
                journal.has_room() && journal.seen.len() * 64 >= slots,
                "promotions: a journal for fewer than {slots}"
            );
        }
    }

    /// All slots of which uses wait, oldest use first.
    #[cfg(any(test, fuzzing, feature = "validate"))]
    pub(crate) fn waiting<'a>(&'a self, journal: &'a Journal) -> impl Iterator<Item = Slot> + 'a {
        journal.uses.iter().chain(self.slots()).copied()
    }
}

impl Journal {
    pub(crate) fn new() -> Self {
        Self { uses: Vec::new(), seen: Box::new([]) }
    }

    fn for_slots(slots: usize) -> Self {
        Self {
            uses: Vec::with_capacity((slots * JOURNAL_PER_SLOT).clamp(RECENT, JOURNAL)),
            seen: vec![0; slots.div_ceil(64)].into_boxed_slice(),
        }
    }

    /// Whether a whole [`Recent`] can be added.
    #[inline]
    fn has_room(&self) -> bool {
        self.uses.capacity() - self.uses.len() >= RECENT
    }

    /// Leaves the last use of each entry.
    fn strike_out(&mut self) {
        let uses = &mut self.uses[..];
        let mut first = uses.len();
        for turn in (0..uses.len()).rev() {
            let slot = uses[turn];
            let word = &mut self.seen[slot.index() / 64];
            let bit = slot.index() % 64;
            // Without a branch: whether there was a later use is nothing that a processor could guess.
            uses[first - 1] = slot;
            first -= usize::from(*word >> bit & 1 == 0);
            *word |= 1 << bit;
        }
        let last = uses.len() - first;
        uses.copy_within(first.., 0);
        self.uses.truncate(last);
        for slot in &self.uses {
            self.seen[slot.index() / 64] = 0;
        }
    }

    /// Moves the entries, of which each is here once, to where their uses belong, and takes their marks off.
    fn move_all<K, V>(&mut self, slab: &mut Slab<K, V>) {
        let uses = &self.uses[..];
        let mut newer = None;
        for (turn, &slot) in uses.iter().enumerate().rev() {
            if let Some(&soon) = uses.get(turn.wrapping_sub(LINK_AHEAD)) {
                slab.prefetch_link(soon);
            }
            if let Some(&soon) = uses.get(turn.wrapping_sub(NEIGHBOURS_AHEAD)) {
                slab.prefetch_neighbours(soon);
            }
            slab.settle(newer, slot);
            newer = Some(slot);
        }
        self.uses.clear();
    }

    /// The uses, oldest first.
    #[cfg(any(test, fuzzing, feature = "validate"))]
    pub(crate) fn uses(&self) -> &[Slot] {
        &self.uses
    }

    /// Bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.uses.capacity() * size_of::<Slot>() + size_of_val(&*self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Room {
        slab: Slab<u32, ()>,
        recent: Recent,
        journal: Journal,
    }

    impl Room {
        fn with_entries(entries: u32) -> Self {
            let (mut slab, mut journal) = (Slab::new(), Journal::new());
            for key in 0..entries {
                slab.insert(key, ());
            }
            let mut recent = Recent::new();
            recent.suit(slab.capacity(), &mut journal);
            Self { slab, recent, journal }
        }

        fn hit(&mut self, slots: impl IntoIterator<Item = u32>) {
            for slot in slots {
                self.recent.hit(Slot(slot), &mut self.slab, &mut self.journal);
            }
        }

        fn waiting(&self) -> Vec<u32> {
            self.recent.waiting(&self.journal).map(|slot| slot.0).collect()
        }

        /// The order as the list has it.
        fn order(&self) -> Vec<u32> {
            core::iter::successors(self.slab.oldest(), |&slot| self.slab.newer(slot)).map(|slot| slot.0).collect()
        }

        fn applied(&mut self) -> Vec<u32> {
            self.recent.apply(&mut self.slab, &mut self.journal);
            self.slab.validate();
            self.order()
        }
    }

    #[test]
    fn uses_wait_until_they_are_applied_and_the_last_one_of_each_counts() {
        let mut room = Room::with_entries(4);
        room.hit([0, 0, 2, 0]);
        assert_eq!((room.recent.hits(), room.waiting()), (4, Vec::from([0, 0, 2, 0])));
        assert_eq!(room.order(), [0, 1, 2, 3]);
        assert_eq!(room.applied(), [1, 3, 2, 0]);
        assert!(room.waiting().is_empty() && (0..4).all(|slot| !room.slab.is_waiting(Slot(slot))));
    }

    #[test]
    fn uses_spilled_to_the_journal_stay_in_order() {
        let mut room = Room::with_entries(100);
        room.hit((0..50).rev());
        assert_eq!(room.waiting(), (0..50).rev().collect::<Vec<_>>());
        assert_eq!(room.applied(), (50..100).chain((0..50).rev()).collect::<Vec<_>>());
    }

    #[test]
    fn a_full_journal_strikes_out_older_uses_and_moves_nothing() {
        let mut room = Room::with_entries(30);
        let (bytes, order) = (room.journal.bytes(), room.order());
        room.hit((0..20).cycle().take(1000));
        assert_eq!((room.journal.bytes(), room.order()), (bytes, order));
        assert!(room.waiting().len() <= JOURNAL_PER_SLOT * room.slab.capacity());
        assert_eq!(room.applied(), (20..30).chain(0..20).collect::<Vec<_>>());
    }

    #[test]
    fn a_journal_that_is_full_of_last_uses_is_applied() {
        let mut room = Room::with_entries(4_000);
        let hits = (JOURNAL - JOURNAL % RECENT) as u32;
        room.hit(0..hits);
        assert_eq!(room.order().last(), Some(&(hits - 1)));
        assert!(room.waiting().is_empty());
        room.hit((0..2).cycle().take(1000));
        assert!(!room.waiting().is_empty());
        assert_eq!(room.applied()[4_000 - 3..], [hits - 1, 0, 1]);
    }

    #[test]
    fn among_many_slots_uses_are_applied_by_the_nine() {
        let mut room = Room::with_entries(10_000);
        room.hit([5, 6, 5, 5, 7, 5, 6, 8]);
        assert_eq!((room.waiting().len(), room.order()[9_999]), (8, 9_999));
        room.hit([9]);
        assert!(room.waiting().is_empty());
        assert_eq!(room.order()[9_994..], [9_999, 7, 5, 6, 8, 9]);
        room.hit([7, 9, 7]);
        assert_eq!(room.applied()[9_997..], [8, 9, 7]);
    }

    #[test]
    fn a_journal_has_two_uses_for_each_of_few_slots_and_there_is_none_for_many() {
        let sizes = [0, 8, 365, 1024, 8192, 8193, 1 << 20].map(|slots| {
            let (mut recent, mut journal) = (Recent::new(), Journal::new());
            recent.suit(100, &mut journal);
            recent.suit(slots, &mut journal);
            (journal.uses.capacity(), journal.seen.len())
        });
        assert_eq!(sizes, [(9, 0), (16, 1), (730, 6), (2048, 16), (2048, 128), (0, 0), (0, 0)]);
    }

    #[test]
    fn an_entry_that_came_between_uses_is_between_them() {
        let mut room = Room::with_entries(3);
        room.hit([0]);
        let new = room.slab.insert(9, ());
        room.recent.note_newest(new, &mut room.slab, &mut room.journal);
        room.hit([1]);
        assert_eq!(room.applied(), [2, 0, 3, 1]);
    }
}
