//! The order of use: a circular doubly linked list over slots, and the free slots threaded through
//! the same links.
//!
//! The slab owns it and is its only caller. Eight bytes an entry, apart from keys and values, so
//! that moving an entry touches small dense memory. It isn't generic over keys and values, so it
//! compiles once; it never sees an entry.

use alloc::boxed::Box;

use crate::column::{empty, grown};
use crate::slot::Slot;

/// `prev` leads to more recently used entries and `next` to less recently used ones, both as
/// positions in `links`. A free link has `prev == FREE`, and `next` is the position of the next
/// free one, or `SENTINEL` at the end.
#[derive(Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
}

/// Position of the link that closes the circle: its `next` is the most recently used entry, its
/// `prev` the least.
const SENTINEL: u32 = 0;
const FREE: u32 = u32::MAX;

/// What a link is before its slot is used for the first time: free, but not among those that `free` leads to.
const UNUSED: Link = Link { prev: FREE, next: SENTINEL };

/// The link of slot `s` is at position `s + 1`.
#[repr(C)]
pub(crate) struct List {
    /// Empty before the first entry; then the sentinel, one link per slot ever used, and as many unused ones as there is
    /// memory for.
    links: Box<[Link]>,
    /// Position of the free link to use next, `SENTINEL` if none is free.
    free: u32,
    /// Number of live slots.
    len: u32,
    /// Number of slots that have ever been live.
    slots: u32,
}

#[inline]
fn position(slot: Slot) -> u32 {
    slot.0 + 1
}

impl List {
    pub(crate) fn new() -> Self {
        Self { links: empty(), free: SENTINEL, len: 0, slots: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Slots that have ever been live.
    #[inline]
    pub(crate) fn slots(&self) -> usize {
        self.slots as usize
    }

    /// Whether `slot` is live: linked and not free.
    #[inline]
    pub(crate) fn is_live(&self, slot: Slot) -> bool {
        self.links.get(slot.index() + 1).is_some_and(|link| link.prev != FREE)
    }

    /// Slots that there is memory for.
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.links.len().saturating_sub(1)
    }

    pub(crate) fn reserve_to(&mut self, slots: usize) {
        let wanted = slots + 1;
        if self.links.len() < wanted {
            self.links = grown(core::mem::take(&mut self.links), wanted, || UNUSED);
            if self.slots == 0 {
                self.links[SENTINEL as usize] = Link { prev: SENTINEL, next: SENTINEL };
            }
        }
    }

    /// The slot that [`Self::occupy`] will use.
    #[inline]
    pub(crate) fn vacant(&self) -> Slot {
        if self.free == SENTINEL { Slot(self.slots) } else { Slot(self.free - 1) }
    }

    /// Makes the vacant slot live, as the most recently used.
    #[inline]
    pub(crate) fn occupy(&mut self) -> Slot {
        let slot = self.vacant();
        if self.free == SENTINEL {
            if slot.index() >= self.capacity() {
                self.reserve_to((slot.index() * 2).max(8));
            }
            self.slots += 1;
        } else {
            self.free = self.links[self.free as usize].next;
        }
        self.link_newest(position(slot));
        self.len += 1;
        slot
    }

    /// Takes a live slot out of the order and marks it free.
    #[inline]
    pub(crate) fn release(&mut self, slot: Slot) {
        debug_assert!(self.is_live(slot), "{slot:?} is released but not live");
        let at = position(slot);
        self.unlink(at);
        self.links[at as usize] = Link { prev: FREE, next: self.free };
        self.free = at;
        self.len -= 1;
    }

    /// Makes a live slot the most recently used.
    #[inline]
    pub(crate) fn promote(&mut self, slot: Slot) {
        debug_assert!(self.is_live(slot), "{slot:?} is promoted but not live");
        let at = position(slot);
        if self.links[SENTINEL as usize].next != at {
            self.unlink(at);
            self.link_newest(at);
        }
    }

    /// The least recently used slot.
    #[inline]
    pub(crate) fn oldest(&self) -> Option<Slot> {
        self.slot_at(self.links.first()?.prev)
    }

    /// The slot that was used next after this live one.
    #[inline]
    pub(crate) fn newer(&self, slot: Slot) -> Option<Slot> {
        debug_assert!(self.is_live(slot), "the neighbour of {slot:?} is asked for, which is not live");
        self.slot_at(self.links[position(slot) as usize].prev)
    }

    /// The link of `slot`, to be prefetched.
    #[inline]
    pub(crate) fn address(&self, slot: Slot) -> Option<&impl Sized> {
        self.links.get(slot.index() + 1)
    }

    /// The links beside that of `slot`, to be prefetched.
    #[inline]
    pub(crate) fn neighbours(&self, slot: Slot) -> [Option<&impl Sized>; 2] {
        match self.links.get(slot.index() + 1) {
            Some(link) => [self.links.get(link.prev as usize), self.links.get(link.next as usize)],
            None => [None, None],
        }
    }

    /// Bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.links.len() * size_of::<Link>()
    }

    #[inline]
    fn slot_at(&self, at: u32) -> Option<Slot> {
        if at == SENTINEL { None } else { Some(Slot(at - 1)) }
    }

    #[inline]
    fn unlink(&mut self, at: u32) {
        let Link { prev, next } = self.links[at as usize];
        self.links[prev as usize].next = next;
        self.links[next as usize].prev = prev;
    }

    #[inline]
    fn link_newest(&mut self, at: u32) {
        let second = self.links[SENTINEL as usize].next;
        self.links[at as usize] = Link { prev: SENTINEL, next: second };
        self.links[second as usize].prev = at;
        self.links[SENTINEL as usize].next = at;
    }

    /// Asserts that both directions agree and that every slot is either live or free, once.
    #[cfg(any(test, fuzzing, feature = "validate"))]
    pub(crate) fn validate(&self) {
        let Some(sentinel) = self.links.first() else {
            assert_eq!((self.len, self.free, self.slots), (0, SENTINEL, 0), "list: entries without links");
            return;
        };
        let mut seen = alloc::vec![false; self.links.len()];
        let (mut at, mut newer, mut live) = (sentinel.next, SENTINEL, 0u32);
        while at != SENTINEL {
            let link = self.links[at as usize];
            assert!(link.prev != FREE, "list: the free slot {} is in the order", at - 1);
            assert_eq!(link.prev, newer, "list: slot {} doesn't know its newer neighbour", at - 1);
            assert!(!core::mem::replace(&mut seen[at as usize], true), "list: slot {} is in the order twice", at - 1);
            (newer, at, live) = (at, link.next, live + 1);
        }
        assert_eq!(sentinel.prev, newer, "list: the oldest entry is not the end of the order");
        assert_eq!(live, self.len, "list: {live} entries are in the order, {} are counted", self.len);
        let (mut at, mut free) = (self.free, 0);
        while at != SENTINEL {
            let link = self.links[at as usize];
            assert_eq!(link.prev, FREE, "list: slot {} is in the free list but not marked", at - 1);
            assert!(!core::mem::replace(&mut seen[at as usize], true), "list: slot {} is free twice", at - 1);
            (at, free) = (link.next, free + 1);
        }
        assert_eq!(live as usize + free, self.slots(), "list: a slot is neither live nor free");
        let unused = self.links.iter().skip(self.slots() + 1);
        assert!(unused.copied().all(|link| link.prev == FREE), "list: a slot is live that was never used");
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn order(list: &List) -> Vec<u32> {
        core::iter::successors(list.oldest(), |&slot| list.newer(slot)).map(|slot| slot.0).collect()
    }

    #[test]
    fn an_empty_list_has_no_oldest_and_no_memory() {
        let list = List::new();
        assert_eq!((list.oldest(), list.len(), list.bytes()), (None, 0, 0));
        list.validate();
    }

    #[test]
    fn slots_leave_in_the_order_of_their_last_use() {
        let mut list = List::new();
        let slots: Vec<Slot> = (0..4).map(|_| list.occupy()).collect();
        assert_eq!(order(&list), [0, 1, 2, 3]);
        list.promote(slots[0]);
        list.promote(slots[2]);
        list.promote(slots[2]);
        assert_eq!(order(&list), [1, 3, 0, 2]);
        list.validate();
    }

    #[test]
    fn the_slot_freed_last_is_used_first() {
        let mut list = List::new();
        let slots: Vec<Slot> = (0..3).map(|_| list.occupy()).collect();
        list.release(slots[0]);
        list.release(slots[2]);
        assert!(!list.is_live(slots[2]));
        assert_eq!(list.vacant(), slots[2]);
        assert_eq!((list.occupy(), list.occupy(), list.occupy()), (slots[2], slots[0], Slot(3)));
        list.validate();
    }

    #[test]
    #[should_panic(expected = "not live")]
    #[cfg(debug_assertions)]
    fn releasing_a_free_slot_is_caught() {
        let mut list = List::new();
        let slot = list.occupy();
        list.release(slot);
        list.release(slot);
    }
}
