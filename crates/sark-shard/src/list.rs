//! The order of use: a circular doubly linked list over slots, and the free slots threaded through
//! the same links.
//!
//! The slab owns it and is its only caller. Eight bytes an entry, which lie beside the entry
//! itself: what looks an entry up reads its link too, and has it in the same cache line. What lies
//! beside a link is none of the list's business, but it gives nothing out twice: the slab's unsafe
//! code relies on *live* meaning occupied and not released since.

use alloc::vec::Vec;

use crate::slot::Slot;

/// `prev` leads to more recently used entries and `next` to less recently used ones, both as
/// positions in `nodes`. A free link has `prev == FREE`, and `next` is the position of the next
/// free one, or `SENTINEL` at the end. The top bit of a live link's `prev` is its mark, [`WAITING`].
#[derive(Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
}

impl Link {
    #[inline]
    fn is_free(self) -> bool {
        self.prev == FREE
    }

    #[inline]
    fn is_waiting(self) -> bool {
        self.prev & WAITING != 0
    }

    /// The position of the more recently used neighbour of a live link.
    #[inline]
    fn newer(self) -> u32 {
        self.prev & !WAITING
    }

    /// Changes that, and leaves the mark.
    #[inline]
    fn set_newer(&mut self, position: u32) {
        self.prev = self.prev & WAITING | position;
    }
}

/// Position of the link that closes the circle: its `next` is the most recently used entry, its
/// `prev` the least.
const SENTINEL: u32 = 0;
const FREE: u32 = u32::MAX;
/// Marks an entry of which a use waits to be applied. No position reaches it, nor `FREE` with it.
const WAITING: u32 = 1 << 31;
const _: () = assert!(Slot::LIMIT < WAITING - 1);

/// What a node carries beside its link.
pub(crate) trait Payload {
    /// What is there when there is nothing.
    fn none() -> Self;
}

#[repr(C)]
struct Node<P> {
    link: Link,
    payload: P,
}

/// The node of slot `s` is at position `s + 1`.
#[repr(C)]
pub(crate) struct List<P> {
    /// Empty before the first entry; then the sentinel, and one node per slot ever used. Memory for more of them isn't
    /// touched before they are.
    nodes: Vec<Node<P>>,
    /// Position of the free node to use next, `SENTINEL` if none is free.
    free: u32,
    /// Number of live slots.
    len: u32,
}

#[inline]
fn position(slot: Slot) -> u32 {
    slot.0 + 1
}

impl<P: Payload> List<P> {
    pub(crate) fn new() -> Self {
        Self { nodes: Vec::new(), free: SENTINEL, len: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Slots that have ever been live.
    #[inline]
    pub(crate) fn slots(&self) -> usize {
        self.nodes.len().saturating_sub(1)
    }

    /// Whether `slot` is live: linked and not free.
    #[inline]
    pub(crate) fn is_live(&self, slot: Slot) -> bool {
        self.payload(slot).is_some()
    }

    /// What a live slot carries.
    #[inline]
    pub(crate) fn payload(&self, slot: Slot) -> Option<&P> {
        self.nodes.get(slot.index() + 1).filter(|node| !node.link.is_free()).map(|node| &node.payload)
    }

    /// What a live slot carries, to be changed.
    #[inline]
    pub(crate) fn payload_mut(&mut self, slot: Slot) -> Option<&mut P> {
        self.nodes.get_mut(slot.index() + 1).filter(|node| !node.link.is_free()).map(|node| &mut node.payload)
    }

    /// Slots that there is memory for.
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.nodes.capacity().saturating_sub(1)
    }

    pub(crate) fn reserve_to(&mut self, slots: usize) {
        self.nodes.reserve_exact((slots + 1).saturating_sub(self.nodes.len()));
        if self.nodes.is_empty() {
            self.nodes.push(Node { link: Link { prev: SENTINEL, next: SENTINEL }, payload: P::none() });
        }
    }

    /// Whether there is memory for a slot more.
    #[inline]
    pub(crate) fn has_vacancy(&self) -> bool {
        self.free != SENTINEL || self.slots() < self.capacity()
    }

    /// Makes a free slot live, as the most recently used. The slot freed last is used first.
    #[inline]
    pub(crate) fn occupy(&mut self, payload: P) -> Slot {
        let mut at = self.free;
        if at == SENTINEL {
            if self.slots() >= self.capacity() {
                self.reserve_to((self.slots() * 2).max(8));
            }
            at = self.nodes.len() as u32;
            self.nodes.push(Node { link: Link { prev: FREE, next: SENTINEL }, payload });
        } else {
            let node = &mut self.nodes[at as usize];
            node.payload = payload;
            self.free = node.link.next;
        }
        // Live only now, with its payload in its place.
        self.link_behind(SENTINEL, at);
        self.len += 1;
        Slot(at - 1)
    }

    /// Takes a live slot out of the order, frees it, and gives what it carried.
    #[inline]
    pub(crate) fn release(&mut self, slot: Slot) -> Option<P> {
        if !self.is_live(slot) {
            return None;
        }
        let at = position(slot);
        self.unlink(at);
        // Free first, and only then without its payload.
        let free = core::mem::replace(&mut self.free, at);
        self.len -= 1;
        let node = &mut self.nodes[at as usize];
        node.link = Link { prev: FREE, next: free };
        Some(core::mem::replace(&mut node.payload, P::none()))
    }

    /// Marks a live slot: a use of it waits to be applied.
    ///
    /// Written only once, so that lines that other processors read stay with them; and without a branch, since whether an entry
    /// was used lately is nothing that a processor could guess: what is not to be written goes elsewhere.
    #[inline]
    pub(crate) fn mark_waiting(&mut self, slot: Slot) {
        debug_assert!(self.is_live(slot), "{slot:?} is used but not live");
        let link = self.link(position(slot));
        let marked = link.prev | WAITING;
        let mut elsewhere = 0;
        let place = if link.is_waiting() { &mut elsewhere } else { &mut link.prev };
        *place = marked;
    }

    /// Whether a live slot is marked.
    #[inline]
    pub(crate) fn is_waiting(&self, slot: Slot) -> bool {
        self.nodes.get(slot.index() + 1).is_some_and(|node| node.link.is_waiting())
    }

    /// Takes the mark off a live slot and moves it next to `newer`, the one used after it, or to the newest end.
    #[inline]
    pub(crate) fn settle(&mut self, newer: Option<Slot>, slot: Slot) {
        debug_assert!(self.is_live(slot), "{slot:?} waits but is not live");
        let (at, newer) = (position(slot), newer.map_or(SENTINEL, position));
        // Both ways, since a free slot's link may lead anywhere: it must not become live by this.
        if self.link(newer).next == at && self.link(at).newer() == newer {
            self.link(at).prev = newer;
        } else {
            self.unlink(at);
            self.link_behind(newer, at);
        }
    }

    /// The least recently used slot.
    #[inline]
    pub(crate) fn oldest(&self) -> Option<Slot> {
        self.slot_at(self.nodes.first()?.link.newer())
    }

    /// The slot that was used next after this live one.
    #[inline]
    pub(crate) fn newer(&self, slot: Slot) -> Option<Slot> {
        debug_assert!(self.is_live(slot), "the neighbour of {slot:?} is asked for, which is not live");
        self.slot_at(self.nodes[position(slot) as usize].link.newer())
    }

    /// Where the node of `slot` begins and ends, to be prefetched. An address, whether or not there is such a node.
    #[inline]
    pub(crate) fn addresses(&self, slot: Slot) -> (usize, usize) {
        let begin = self.address_at(position(slot));
        (begin, begin + size_of::<Node<P>>() - 1)
    }

    /// Where the links beside that of a live slot are, to be prefetched.
    #[inline]
    pub(crate) fn neighbours(&self, slot: Slot) -> Option<(usize, usize)> {
        let link = self.nodes.get(slot.index() + 1)?.link;
        Some((self.address_at(link.newer()), self.address_at(link.next)))
    }

    #[inline]
    fn address_at(&self, at: u32) -> usize {
        self.nodes.as_ptr().addr().wrapping_add((at as usize).wrapping_mul(size_of::<Node<P>>()))
    }

    /// Bytes allocated for the order, and for what lies beside it.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        let payloads = self.capacity() * size_of::<P>();
        (self.nodes.capacity() * size_of::<Node<P>>() - payloads, payloads)
    }

    #[inline]
    fn link(&mut self, at: u32) -> &mut Link {
        &mut self.nodes[at as usize].link
    }

    #[inline]
    fn slot_at(&self, at: u32) -> Option<Slot> {
        if at == SENTINEL { None } else { Some(Slot(at - 1)) }
    }

    #[inline]
    fn unlink(&mut self, at: u32) {
        let link = *self.link(at);
        let (newer, older) = (link.newer(), link.next);
        self.link(newer).next = older;
        self.link(older).set_newer(newer);
    }

    /// Puts a link that is in no order yet behind the one at `newer`, without a mark.
    #[inline]
    fn link_behind(&mut self, newer: u32, at: u32) {
        let older = core::mem::replace(&mut self.link(newer).next, at);
        *self.link(at) = Link { prev: newer, next: older };
        self.link(older).set_newer(at);
    }

    /// Asserts that both directions agree and that every slot is either live or free, once.
    #[cfg(any(test, fuzzing, feature = "validate"))]
    pub(crate) fn validate(&self) {
        let Some(Node { link: sentinel, .. }) = self.nodes.first() else {
            assert_eq!((self.len, self.free), (0, SENTINEL), "list: entries without links");
            return;
        };
        let mut seen = alloc::vec![false; self.nodes.len()];
        let (mut at, mut newer, mut live) = (sentinel.next, SENTINEL, 0u32);
        while at != SENTINEL {
            let link = self.nodes[at as usize].link;
            assert!(!link.is_free(), "list: the free slot {} is in the order", at - 1);
            assert_eq!(link.newer(), newer, "list: slot {} doesn't know its newer neighbour", at - 1);
            assert!(!core::mem::replace(&mut seen[at as usize], true), "list: slot {} is in the order twice", at - 1);
            (newer, at, live) = (at, link.next, live + 1);
        }
        assert_eq!(sentinel.prev, newer, "list: the oldest entry is not the end of the order");
        assert_eq!(live, self.len, "list: {live} entries are in the order, {} are counted", self.len);
        let (mut at, mut free) = (self.free, 0);
        while at != SENTINEL {
            let link = self.nodes[at as usize].link;
            assert!(link.is_free(), "list: slot {} is in the free list but not marked", at - 1);
            assert!(!core::mem::replace(&mut seen[at as usize], true), "list: slot {} is free twice", at - 1);
            (at, free) = (link.next, free + 1);
        }
        assert_eq!(live as usize + free, self.slots(), "list: a slot is neither live nor free");
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    impl Payload for () {
        fn none() -> Self {}
    }

    fn order(list: &List<()>) -> Vec<u32> {
        core::iter::successors(list.oldest(), |&slot| list.newer(slot)).map(|slot| slot.0).collect()
    }

    #[test]
    fn an_empty_list_has_no_oldest_and_no_memory() {
        let list = List::<()>::new();
        assert_eq!((list.oldest(), list.len(), list.bytes()), (None, 0, (0, 0)));
        list.validate();
    }

    #[test]
    fn slots_leave_in_the_order_of_their_last_use() {
        let mut list = List::new();
        let slots: Vec<Slot> = (0..4).map(|_| list.occupy(())).collect();
        assert_eq!(order(&list), [0, 1, 2, 3]);
        for slot in [slots[0], slots[2], slots[2]] {
            list.mark_waiting(slot);
        }
        list.settle(None, slots[2]);
        assert!(!list.is_waiting(slots[2]) && list.is_waiting(slots[0]));
        for _ in 0..2 {
            list.settle(Some(slots[2]), slots[0]);
            assert!(!list.is_waiting(slots[0]));
        }
        assert_eq!(order(&list), [1, 3, 0, 2]);
        list.validate();
    }

    #[test]
    fn a_mark_stays_while_neighbours_come_and_go() {
        let mut list = List::new();
        let slots: Vec<Slot> = (0..3).map(|_| list.occupy(())).collect();
        list.mark_waiting(slots[1]);
        list.release(slots[2]);
        list.release(slots[0]);
        list.occupy(());
        assert!(list.is_waiting(slots[1]) && list.is_live(slots[1]));
        assert_eq!((list.oldest(), list.release(slots[1])), (Some(slots[1]), Some(())));
        list.validate();
    }

    #[test]
    fn the_slot_freed_last_is_used_first() {
        let mut list = List::new();
        let slots: Vec<Slot> = (0..3).map(|_| list.occupy(())).collect();
        list.release(slots[0]);
        list.release(slots[2]);
        assert!(!list.is_live(slots[2]));
        assert_eq!((list.occupy(()), list.occupy(()), list.occupy(())), (slots[2], slots[0], Slot(3)));
        list.validate();
    }

    #[test]
    #[should_panic]
    fn a_free_slot_is_not_made_live_by_being_settled() {
        let mut list = List::new();
        let slots: Vec<Slot> = (0..3).map(|_| list.occupy(())).collect();
        list.release(slots[1]);
        list.release(slots[0]);
        // The free slots' links lead from the one to the other.
        list.settle(Some(slots[0]), slots[1]);
    }

    #[test]
    fn a_free_slot_is_not_released_again() {
        let mut list = List::new();
        let slot = list.occupy(());
        assert_eq!((list.release(slot), list.release(slot), list.len()), (Some(()), None, 0));
        list.validate();
    }
}
