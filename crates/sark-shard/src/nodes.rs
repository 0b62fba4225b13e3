//! Nodes: for each slot the word that says when it was last used, and the payload; free slots are linked
//! through those words.
//!
//! The slab owns the nodes and is their only caller. A word is eight bytes and lies alongside the entry
//! itself, so a look-up of the entry has it in the same cache line. What the payload is does not concern this
//! module. It never gives a payload out twice: the slab's unsafe code relies on *live* meaning occupied and
//! not released since.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

use crate::column::{empty, grown};
use crate::slot::Slot;
use crate::time::Nanos;
use crate::word::{Horizon, LAST_USE, Use, Uses, Word};

/// What a node carries.
pub(crate) trait Payload {
    /// Returns what a node carries while its slot is free.
    fn none() -> Self;
}

/// No slot.
const NONE: u32 = u32::MAX;
const _: () = assert!(Slot::LIMIT < NONE);

#[repr(C)]
struct Node<P> {
    word: Word,
    payload: P,
}

impl<P> Node<P> {
    #[inline]
    fn is_live(&self) -> bool {
        self.word.is_live()
    }
}

/// The number of nodes that are skipped at once if all of them are free.
pub(crate) const BLOCK: usize = 64;
/// Skipping so many blocks costs about as much as looking at one node.
const BLOCKS_PER_PLACE: usize = 8;

/// The nodes of all slots that were ever in use.
#[repr(C)]
pub(crate) struct Nodes<P> {
    /// Memory for more nodes is not touched before they are used.
    nodes: Vec<Node<P>>,
    /// The number of live slots in each block of nodes that there is memory for.
    live: Box<[u8]>,
    /// The free slot to use next, or `NONE`.
    free: u32,
    /// The number of live slots.
    len: u32,
}

impl<P: Payload> Nodes<P> {
    pub(crate) fn new() -> Self {
        Self { nodes: Vec::new(), live: empty(), free: NONE, len: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// The number of slots that were ever live.
    #[inline]
    pub(crate) fn slots(&self) -> usize {
        self.nodes.len()
    }

    /// Whether `slot` is live: occupied and not free.
    #[inline]
    pub(crate) fn is_live(&self, slot: Slot) -> bool {
        self.payload(slot).is_some()
    }

    /// The payload of a live slot.
    #[inline]
    pub(crate) fn payload(&self, slot: Slot) -> Option<&P> {
        self.nodes.get(slot.index()).filter(|node| node.is_live()).map(|node| &node.payload)
    }

    /// Whether a slot is live and its payload satisfies `is_it`. (Written without an `Option` of a reference,
    /// which would be compared with null.)
    #[inline]
    pub(crate) fn carries(&self, slot: Slot, is_it: impl FnOnce(&P) -> bool) -> bool {
        slot.index() < self.nodes.len() && {
            let node = &self.nodes[slot.index()];
            node.is_live() && is_it(&node.payload)
        }
    }

    /// The payload of a live slot, mutably.
    #[inline]
    pub(crate) fn payload_mut(&mut self, slot: Slot) -> Option<&mut P> {
        self.nodes.get_mut(slot.index()).filter(|node| node.is_live()).map(|node| &mut node.payload)
    }

    /// The number of slots that there is memory for.
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.nodes.capacity()
    }

    pub(crate) fn reserve_to(&mut self, slots: usize) {
        self.nodes.reserve_exact(slots.saturating_sub(self.nodes.len()));
        // As many as there are slots by now, which may be more than were asked for.
        self.live = grown(core::mem::take(&mut self.live), self.capacity().div_ceil(BLOCK), || 0);
    }

    /// Whether there is memory for one more slot.
    #[inline]
    pub(crate) fn has_vacancy(&self) -> bool {
        self.free != NONE || self.slots() < self.capacity()
    }

    /// Makes a free slot live, with a `word` that says so. The slot freed last is used first.
    #[inline]
    pub(crate) fn occupy(&mut self, payload: P, word: Word) -> Slot {
        debug_assert!(word.is_live());
        let slot = match self.nodes.get_mut(self.free as usize) {
            Some(node) => {
                let slot = Slot(self.free);
                self.free = node.word.next_free();
                // The slot becomes live only once its payload is in place.
                node.payload = payload;
                node.word = word;
                slot
            }
            None => {
                if self.slots() == self.capacity() {
                    self.reserve_to((self.slots() * 2).max(8));
                }
                self.nodes.push(Node { word, payload });
                Slot(self.nodes.len() as u32 - 1)
            }
        };
        self.len += 1;
        self.live[slot.index() / BLOCK] += 1;
        slot
    }

    /// Puts another payload into a live slot, with a `word` that says that it is live, and returns the
    /// previous payload.
    #[inline]
    pub(crate) fn reoccupy(&mut self, slot: Slot, payload: P, word: Word) -> Option<P> {
        debug_assert!(word.is_live());
        let node = self.nodes.get_mut(slot.index()).filter(|node| node.is_live())?;
        node.word = word;
        Some(core::mem::replace(&mut node.payload, payload))
    }

    /// Frees a live slot and returns its payload.
    #[inline]
    pub(crate) fn release(&mut self, slot: Slot) -> Option<P> {
        let node = self.nodes.get_mut(slot.index()).filter(|node| node.is_live())?;
        // The slot becomes free before its payload is taken out.
        node.word = Word::free(self.free);
        self.free = slot.0;
        self.len -= 1;
        self.live[slot.index() / BLOCK] -= 1;
        Some(core::mem::replace(&mut node.payload, P::none()))
    }

    /// Records the last of `uses` as a use of a live slot. It is later than all before, except when the slab
    /// renumbers.
    #[inline]
    pub(crate) fn touch(&mut self, slot: Slot, uses: Uses) {
        self.change_word(slot, |word| word.used(uses));
    }

    /// Records until when a live slot certainly lives.
    #[inline]
    pub(crate) fn set_horizon(&mut self, slot: Slot, horizon: Horizon) {
        self.change_word(slot, |word| word.with_horizon(horizon));
    }

    #[inline]
    fn change_word(&mut self, slot: Slot, change: impl FnOnce(Word) -> Word) {
        debug_assert!(self.is_live(slot), "{slot:?} is used but not live");
        if let Some(node) = self.nodes.get_mut(slot.index())
            && node.is_live()
        {
            node.word = change(node.word);
        }
    }

    /// The last use of a live slot.
    #[inline]
    pub(crate) fn last_use(&self, slot: Slot) -> Option<Use> {
        self.nodes.get(slot.index()).filter(|node| node.is_live()).map(|node| node.word.last_use())
    }

    /// Whether a slot is live and what it carries certainly lives at `now`. False proves nothing.
    #[inline]
    pub(crate) fn outlives(&self, slot: Slot, now: Nanos) -> bool {
        self.nodes.get(slot.index()).is_some_and(|node| node.word.outlives(now))
    }

    /// Whether a slot is live, its payload certainly lives at `now` and satisfies `is_it`, with one look at
    /// the word. False proves nothing.
    #[inline]
    pub(crate) fn carries_living(&self, slot: Slot, now: Nanos, is_it: impl FnOnce(&P) -> bool) -> bool {
        slot.index() < self.nodes.len() && {
            let node = &self.nodes[slot.index()];
            node.word.outlives(now) && is_it(&node.payload)
        }
    }

    /// The nodes of a range of slots, block by block or parts of blocks, each with the number of its first
    /// slot. Blocks without live slots are skipped.
    #[inline]
    fn blocks(&self, slots: Range<usize>) -> impl Iterator<Item = (u32, &[Node<P>])> + '_ {
        let Range { start, end } = slots;
        let end = end.min(self.slots());
        let blocks = if start < end { start / BLOCK..end.div_ceil(BLOCK) } else { 0..0 };
        blocks.filter(|&block| self.live[block] != 0).map(move |block| {
            let first = start.max(block * BLOCK);
            (first as u32, &self.nodes[first..end.min((block + 1) * BLOCK)])
        })
    }

    /// The first live slot in a range, or the end of the range if there is none. Looks at no more than `places`
    /// nodes, which it counts down, and gives the slot that it came to when they are used up.
    pub(crate) fn seek_live(&self, slots: Range<usize>, places: &mut usize) -> usize {
        let Range { start: mut at, end } = slots;
        let end = end.min(self.slots());
        while at < end && *places > 0 {
            if at.is_multiple_of(BLOCK) {
                let blocks = &self.live[at / BLOCK..end.div_ceil(BLOCK)];
                let most = places.saturating_mul(BLOCKS_PER_PLACE);
                let free = blocks.iter().take(most).take_while(|&&live| live == 0).count();
                if free != 0 {
                    *places -= free.div_ceil(BLOCKS_PER_PLACE);
                    at = end.min(at + free * BLOCK);
                    continue;
                }
            }
            if self.nodes[at].is_live() {
                break;
            }
            at += 1;
            *places -= 1;
        }
        at
    }

    /// The slots in a range that are live and were last used from `from` on but before `until`, with their
    /// last uses.
    #[inline]
    pub(crate) fn used_from(
        &self,
        from: Use,
        until: Use,
        slots: Range<usize>,
    ) -> impl Iterator<Item = (Use, Slot)> + '_ {
        let width = until.min(LAST_USE + 1).saturating_sub(from);
        self.blocks(slots).flat_map(move |(first, nodes)| {
            (first..)
                .zip(nodes)
                .filter(move |(_, node)| node.word.was_used_among(from, width))
                .map(|(slot, node)| (node.word.last_use(), Slot(slot)))
        })
    }

    /// Does the same for callers that want many: passes what `make` makes of those slots to `take`, up to
    /// [`BLOCK`] at a time.
    ///
    /// `make` may be called for other slots as well. Whether a node belongs is not decided by a branch, since
    /// no processor could predict it.
    #[inline]
    pub(crate) fn gather_used<T: Copy>(
        &self,
        from: Use,
        until: Use,
        slots: Range<usize>,
        make: impl Fn(Use, Slot) -> T,
        mut take: impl FnMut(&[T]),
    ) {
        let width = until.min(LAST_USE + 1).saturating_sub(from);
        let mut found = [make(from, Slot(0)); BLOCK];
        for (first, nodes) in self.blocks(slots) {
            let mut count = 0;
            for (slot, node) in (first..).zip(nodes) {
                // A block has no more nodes than there are places.
                found[count % BLOCK] = make(node.word.last_use(), Slot(slot));
                count += usize::from(node.word.was_used_among(from, width));
            }
            take(&found[..count]);
        }
    }

    /// The addresses of the first and the last byte of the node of `slot`, for prefetching. They are
    /// addresses whether or not there is such a node.
    #[inline]
    pub(crate) fn addresses(&self, slot: Slot) -> (usize, usize) {
        let begin = self.nodes.as_ptr().addr().wrapping_add(slot.index().wrapping_mul(size_of::<Node<P>>()));
        (begin, begin + size_of::<Node<P>>() - 1)
    }

    /// The number of bytes allocated for the order of use, and for payloads.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        let payloads = self.capacity() * size_of::<P>();
        (self.nodes.capacity() * size_of::<Node<P>>() - payloads + self.live.len(), payloads)
    }

    /// Asserts that every slot is either live or free, that none is free twice, and that no two live slots
    /// have the same last use.
    #[cfg(any(test, fuzzing, feature = "validate"))]
    pub(crate) fn validate(&self) {
        let mut uses: Vec<Use> = self.used_from(0, Use::MAX, 0..self.slots()).map(|(number, _)| number).collect();
        assert_eq!(uses.len(), self.len(), "nodes: {} are live, {} are counted", uses.len(), self.len());
        uses.sort_unstable();
        assert!(uses.windows(2).all(|pair| pair[0] < pair[1]), "nodes: one use of two entries");
        assert_eq!(self.live.len(), self.capacity().div_ceil(BLOCK), "nodes: blocks");
        assert!(self.live[self.slots().div_ceil(BLOCK)..].iter().all(|&live| live == 0), "nodes: blocks without slots");
        for (nodes, &live) in self.nodes.chunks(BLOCK).zip(&self.live) {
            let count = nodes.iter().filter(|node| node.is_live()).count();
            assert_eq!(count, usize::from(live), "nodes: a block's live slots");
        }
        let mut seen = alloc::vec![false; self.slots()];
        let mut at = self.free;
        while at != NONE {
            let node = &self.nodes[at as usize];
            assert!(!node.is_live(), "nodes: slot {at} is in the free list but not free");
            assert!(!core::mem::replace(&mut seen[at as usize], true), "nodes: slot {at} is free twice");
            at = node.word.next_free();
        }
        let free = seen.iter().filter(|&&free| free).count();
        assert_eq!(self.len() + free, self.slots(), "nodes: a slot is neither live nor free");
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    impl Payload for () {
        fn none() -> Self {}
    }

    impl Nodes<()> {
        fn add(&mut self, first_use: Use) -> Slot {
            self.occupy((), Word::live(Uses::counted(first_use), Horizon::UNKNOWN))
        }
    }

    #[test]
    fn at_first_there_is_no_memory() {
        let nodes = Nodes::<()>::new();
        assert_eq!((nodes.len(), nodes.slots(), nodes.bytes()), (0, 0, (0, 0)));
        nodes.validate();
    }

    #[test]
    fn the_last_use_of_a_live_slot_is_known() {
        let mut nodes = Nodes::new();
        let slots: Vec<Slot> = (1..=4).map(|number| nodes.add(number)).collect();
        nodes.touch(slots[1], Uses::counted(5));
        nodes.touch(slots[1], Uses::counted(6));
        nodes.release(slots[0]);
        assert_eq!(
            slots.iter().map(|&slot| nodes.last_use(slot)).collect::<Vec<_>>(),
            [None, Some(6), Some(3), Some(4)]
        );
        assert_eq!(nodes.used_from(3, 7, 0..3).collect::<Vec<_>>(), [(6, slots[1]), (3, slots[2])]);
        assert_eq!(nodes.used_from(4, 6, 0..4).collect::<Vec<_>>(), [(4, slots[3])]);
        assert_eq!(nodes.used_from(0, Use::MAX, 0..4).count(), 3);
        assert_eq!(nodes.used_from(0, 9, 4..9).count() + nodes.used_from(6, 3, 0..4).count(), 0);
        nodes.validate();
    }

    #[test]
    fn a_use_changes_nothing_about_how_long_an_entry_lives() {
        let mut nodes = Nodes::new();
        let slot = nodes.add(1);
        let (far, near) = (Nanos(1 << 40), Nanos(1));
        assert!(!nodes.outlives(slot, near));
        nodes.set_horizon(slot, Horizon::of(far));
        nodes.touch(slot, Uses::counted(2));
        assert_eq!(
            (nodes.outlives(slot, near), nodes.outlives(slot, far), nodes.last_use(slot)),
            (true, false, Some(2))
        );
        nodes.release(slot);
        assert!(!nodes.outlives(slot, near));
    }

    #[test]
    fn the_slot_freed_last_is_used_first() {
        let mut nodes = Nodes::new();
        let slots: Vec<Slot> = (1..=3).map(|number| nodes.add(number)).collect();
        nodes.release(slots[0]);
        nodes.release(slots[2]);
        assert!(!nodes.is_live(slots[2]));
        nodes.validate();
        let again = [4, 5, 6].map(|number| nodes.add(number));
        assert_eq!(again, [slots[2], slots[0], Slot(3)]);
        nodes.validate();
    }

    #[test]
    fn what_is_free_is_passed_over_by_the_block() {
        let mut nodes = Nodes::new();
        let slots: Vec<Slot> = (1..=500).map(|number| nodes.add(number)).collect();
        for (place, &slot) in slots.iter().enumerate() {
            if ![0, 70, 71, 319, 320, 499].contains(&place) {
                nodes.release(slot);
            }
        }
        nodes.validate();
        let used = |from, until, slots: Range<usize>| {
            nodes.used_from(from, until, slots).map(|(use_, _)| use_).collect::<Vec<_>>()
        };
        assert_eq!(used(0, 1000, 0..500), [1, 71, 72, 320, 321, 500]);
        assert_eq!(used(72, 321, 0..500), [72, 320]);
        assert_eq!(used(0, 1000, 71..320), [72, 320]);
        assert_eq!(used(0, 1000, 72..319), []);
    }

    #[test]
    fn a_live_slot_is_sought_by_looking_at_no_more_places_than_allowed() {
        let mut nodes = Nodes::new();
        let slots: Vec<Slot> = (1..=3000).map(|number| nodes.add(number)).collect();
        for (place, &slot) in slots.iter().enumerate() {
            if ![5, 70, 2900].contains(&place) {
                nodes.release(slot);
            }
        }
        let seek = |slots, mut places| (nodes.seek_live(slots, &mut places), places);
        assert_eq!(seek(0..3000, 100), (5, 95));
        assert_eq!(seek(5..3000, 100), (5, 100));
        assert_eq!(seek(6..3000, 100), (70, 100 - 64));
        // What is left of its block, then eight blocks of free slots for each place.
        assert_eq!(seek(71..3000, 57 + 4), (128 + 2048, 0));
        assert_eq!(seek(71..3000, 100), (2900, 100 - 57 - 6 - 20));
        assert_eq!(seek(2901..3000, 1000), (3000, 1000 - 43 - 1));
        assert_eq!(seek(0..5, 1000), (5, 995));
        assert_eq!((seek(9000..10_000, 7), seek(6..6, 7), seek(0..9, 0)), ((9000, 7), (6, 7), (0, 0)));
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "is used but not live"))]
    fn a_free_slot_is_not_made_live_by_being_used() {
        let mut nodes = Nodes::new();
        let slot = nodes.add(1);
        nodes.release(slot);
        nodes.touch(slot, Uses::counted(2));
        assert!(!nodes.is_live(slot));
    }

    #[test]
    fn a_free_slot_is_not_released_again() {
        let mut nodes = Nodes::new();
        let slot = nodes.add(1);
        assert_eq!((nodes.release(slot), nodes.release(slot), nodes.len()), (Some(()), None, 0));
        nodes.validate();
    }
}
