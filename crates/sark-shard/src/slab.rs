//! The slab: keys and values by slot, and when each was last used. It has the `unsafe` code of this crate,
//! except for one comparison in `line` and that of `prefetch`.
//!
//! The shard calls it. One fact carries all the unsafe code: *the entry of a slot is initialised exactly
//! while the nodes say that the slot is live.* The nodes are private to this module. They take in initialised
//! entries, show them while their slot is live, and give them back as they free the slot. The slab never
//! compares keys, and never drops an entry before it is itself dropped.

use alloc::vec::Vec;
use core::mem::MaybeUninit;
use core::ops::Range;

use crate::nodes::{Nodes, Payload};
use crate::prefetch::prefetch_address;
use crate::slot::Slot;
use crate::time::Nanos;
use crate::word::{Horizon, Use, Uses, Word};

/// A key with its value.
pub(crate) struct Entry<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
}

/// The payload is initialised while its slot is live.
impl<K, V> Payload for MaybeUninit<Entry<K, V>> {
    #[inline]
    fn none() -> Self {
        Self::uninit()
    }
}

/// Entries by slot, and when they were used.
#[repr(transparent)]
pub(crate) struct Slab<K, V> {
    nodes: Nodes<MaybeUninit<Entry<K, V>>>,
}

/// Returns the next capacity of arrays that are full at `current`.
///
/// It doubles up to `hint`, then adds an eighth at a time, so that a shard slightly fuller than expected does
/// not take twice the memory. Without a hint it always doubles.
fn next_capacity(current: usize, hint: usize) -> usize {
    const SMALLEST: usize = 8;
    if current < hint {
        (current * 2).clamp(SMALLEST, hint.max(SMALLEST))
    } else if hint == 0 {
        (current * 2).max(SMALLEST)
    } else {
        current + (current / 8).max(SMALLEST)
    }
}

impl<K, V> Slab<K, V> {
    pub(crate) fn new() -> Self {
        Self { nodes: Nodes::new() }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The number of slots that there is memory for.
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.nodes.capacity()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of slots that were ever live.
    #[inline]
    pub(crate) fn slots(&self) -> usize {
        self.nodes.slots()
    }

    #[inline]
    pub(crate) fn is_live(&self, slot: Slot) -> bool {
        self.nodes.is_live(slot)
    }

    #[inline]
    pub(crate) fn get(&self, slot: Slot) -> Option<&Entry<K, V>> {
        // SAFETY: the slot is live, so its entry is initialised.
        self.nodes.payload(slot).map(|entry| unsafe { entry.assume_init_ref() })
    }

    /// Whether a slot is live and its entry satisfies `is_it`.
    #[inline]
    pub(crate) fn holds(&self, slot: Slot, is_it: impl FnOnce(&Entry<K, V>) -> bool) -> bool {
        // SAFETY: the slot is live, so its entry is initialised.
        self.nodes.carries(slot, |entry| is_it(unsafe { entry.assume_init_ref() }))
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut Entry<K, V>> {
        // SAFETY: the slot is live, so its entry is initialised.
        self.nodes.payload_mut(slot).map(|entry| unsafe { entry.assume_init_mut() })
    }

    /// Makes sure that one more entry can be inserted without allocating. `hint` is the expected number of
    /// entries.
    #[inline]
    pub(crate) fn reserve_one(&mut self, hint: usize) {
        if !self.nodes.has_vacancy() {
            self.grow(hint);
        }
    }

    #[cold]
    fn grow(&mut self, hint: usize) {
        self.nodes.reserve_to(next_capacity(self.nodes.capacity(), hint));
    }

    /// Stores an entry, with the last of `uses` as its last use.
    #[inline]
    pub(crate) fn insert(&mut self, key: K, value: V, uses: Uses, horizon: Horizon) -> Slot {
        self.nodes.occupy(MaybeUninit::new(Entry { key, value }), Word::live(uses, horizon))
    }

    /// Puts another entry into a live slot, with the last of `uses` as its last use, and returns the previous
    /// one.
    #[inline]
    pub(crate) fn replace(
        &mut self,
        slot: Slot,
        entry: Entry<K, V>,
        uses: Uses,
        horizon: Horizon,
    ) -> Option<Entry<K, V>> {
        let older = self.nodes.reoccupy(slot, MaybeUninit::new(entry), Word::live(uses, horizon));
        // SAFETY: the slot was live, so its entry was initialised, as is the one that is there now.
        older.map(|entry| unsafe { entry.assume_init() })
    }

    /// Takes the entry out and frees the slot.
    #[inline]
    pub(crate) fn remove(&mut self, slot: Slot) -> Option<Entry<K, V>> {
        // SAFETY: the slot was live, so its entry was initialised; the nodes have freed the slot.
        self.nodes.release(slot).map(|entry| unsafe { entry.assume_init() })
    }

    /// Records the last of `uses`, later than all before, as a use of a live slot.
    #[inline]
    pub(crate) fn touch(&mut self, slot: Slot, uses: Uses) {
        self.nodes.touch(slot, uses);
    }

    /// Records until when a live slot certainly lives.
    #[inline]
    pub(crate) fn set_horizon(&mut self, slot: Slot, horizon: Horizon) {
        self.nodes.set_horizon(slot, horizon);
    }

    /// Whether a slot is live and its entry certainly lives at `now`. False proves nothing.
    #[inline]
    pub(crate) fn outlives(&self, slot: Slot, now: Nanos) -> bool {
        self.nodes.outlives(slot, now)
    }

    /// Whether a slot is live, and its entry certainly lives at `now` and satisfies `is_it`. False proves
    /// nothing.
    #[inline]
    pub(crate) fn holds_living(&self, slot: Slot, now: Nanos, is_it: impl FnOnce(&Entry<K, V>) -> bool) -> bool {
        // SAFETY: the slot is live, so its entry is initialised.
        self.nodes.carries_living(slot, now, |entry| is_it(unsafe { entry.assume_init_ref() }))
    }

    /// The last use of a live slot.
    #[inline]
    pub(crate) fn last_use(&self, slot: Slot) -> Option<Use> {
        self.nodes.last_use(slot)
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
        self.nodes.used_from(from, until, slots)
    }

    /// Does the same for callers that want many: passes what `make` makes of those slots to `take`, up to
    /// [`BLOCK`](crate::nodes::BLOCK) at a time.
    #[inline]
    pub(crate) fn gather_used<T: Copy>(
        &self,
        from: Use,
        until: Use,
        slots: Range<usize>,
        make: impl Fn(Use, Slot) -> T,
        take: impl FnMut(&[T]),
    ) {
        self.nodes.gather_used(from, until, slots, make, take);
    }

    /// The first live slot in a range; see [`Nodes::seek_live`].
    pub(crate) fn seek_live(&self, slots: Range<usize>, places: &mut usize) -> usize {
        self.nodes.seek_live(slots, places)
    }

    /// All live slots in the order of memory, with their last uses.
    pub(crate) fn uses(&self) -> impl Iterator<Item = (Use, Slot)> + '_ {
        self.used_from(0, Use::MAX, 0..self.slots())
    }

    /// All live slots, least recently used first. O(n log n) for n entries.
    pub(crate) fn in_order(&self) -> Vec<Slot> {
        let mut uses: Vec<(Use, Slot)> = self.uses().collect();
        uses.sort_unstable();
        uses.into_iter().map(|(_, slot)| slot).collect()
    }

    /// Renumbers the last uses of all live slots from one on, in the same order, and returns how many there
    /// are. O(n log n) for n entries.
    pub(crate) fn renumber(&mut self) -> Uses {
        let mut uses = Uses::NONE;
        for (slot, number) in self.in_order().into_iter().zip(1..) {
            uses = Uses::counted(number);
            self.nodes.touch(slot, uses);
        }
        uses
    }

    /// Starts loading what a hit on `slot` will touch. If the entry spans many lines, those are the first and
    /// the last.
    #[inline]
    pub(crate) fn prefetch(&self, slot: Slot) {
        let (begin, end) = self.nodes.addresses(slot);
        prefetch_address(begin);
        if size_of::<Entry<K, V>>() > 32 {
            prefetch_address(end);
        }
    }

    /// The number of bytes allocated for everything but the entries themselves, and for the entries.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        self.nodes.bytes()
    }

    /// Asserts the nodes' invariants, and with them which entries are initialised.
    #[cfg(any(test, fuzzing, feature = "validate"))]
    pub(crate) fn validate(&self) {
        self.nodes.validate();
    }
}

/// Drops the entries that are left. If one of them panics, the others are still dropped.
impl<K, V> Drop for Slab<K, V> {
    fn drop(&mut self) {
        /// Goes through the slots in the order of memory.
        struct Rest<'a, K, V>(&'a mut Slab<K, V>, u32);

        impl<K, V> Rest<'_, K, V> {
            fn drop_all(&mut self) {
                while (self.1 as usize) < self.0.nodes.slots() {
                    let slot = Slot(self.1);
                    self.1 += 1;
                    drop(self.0.remove(slot));
                }
            }
        }

        impl<K, V> Drop for Rest<'_, K, V> {
            fn drop(&mut self) {
                self.drop_all();
            }
        }

        if core::mem::needs_drop::<Entry<K, V>>() {
            Rest(self, 0).drop_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::rc::Rc;
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn what_goes_in_comes_out_once() {
        let mut slab = Slab::new();
        slab.reserve_one(0);
        let slot = slab.insert("key", 7, Uses::counted(1), Horizon::UNKNOWN);
        assert_eq!(slab.get(slot).map(|entry| (entry.key, entry.value)), Some(("key", 7)));
        assert_eq!(slab.remove(slot).map(|entry| entry.value), Some(7));
        assert!(slab.get(slot).is_none() && slab.get_mut(slot).is_none() && slab.remove(slot).is_none());
        slab.validate();
    }

    #[test]
    fn a_slot_that_never_was_is_not_live() {
        let slab = Slab::<u8, u8>::new();
        assert!(slab.get(Slot(0)).is_none() && slab.get(Slot(Slot::LIMIT)).is_none());
    }

    #[test]
    fn the_slab_drops_what_is_left_in_it_and_nothing_else() {
        let witness = Rc::new(());
        let mut slab = Slab::new();
        let slots: Vec<Slot> =
            (0..10).map(|key| slab.insert(key, Rc::clone(&witness), Uses::counted(key), Horizon::UNKNOWN)).collect();
        let out = slab.remove(slots[4]);
        assert_eq!(Rc::strong_count(&witness), 11);
        drop(slab);
        assert_eq!(Rc::strong_count(&witness), 2);
        drop(out);
        assert_eq!(Rc::strong_count(&witness), 1);
    }

    #[test]
    fn a_panicking_drop_does_not_leak_the_rest() {
        struct Bomb {
            _witness: Rc<()>,
            armed: bool,
        }
        impl Drop for Bomb {
            fn drop(&mut self) {
                assert!(!self.armed, "bomb");
            }
        }
        let witness = Rc::new(());
        let mut slab = Slab::new();
        for key in 0..10 {
            slab.insert(
                key,
                Bomb { _witness: Rc::clone(&witness), armed: key == 3 },
                Uses::counted(key),
                Horizon::UNKNOWN,
            );
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(slab)));
        assert!(outcome.is_err());
        assert_eq!(Rc::strong_count(&witness), 1);
    }

    #[test]
    fn numbering_anew_keeps_the_order() {
        let mut slab = Slab::new();
        for (key, number) in [(0, 500), (1, 3), (2, 90_000), (3, 7)] {
            slab.insert(key, (), Uses::counted(number), Horizon::UNKNOWN);
        }
        slab.remove(Slot(3));
        let before = slab.in_order();
        assert_eq!(slab.renumber(), Uses::counted(3));
        assert_eq!(slab.in_order(), before);
        assert_eq!(before.iter().map(|&slot| slab.last_use(slot)).collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn growth_doubles_up_to_the_hint_and_is_gentle_beyond() {
        let steps = |hint, from: usize| core::iter::successors(Some(from), move |&c| Some(next_capacity(c, hint)));
        assert_eq!(steps(100, 0).take(7).collect::<Vec<_>>(), [0, 8, 16, 32, 64, 100, 112]);
        assert_eq!(steps(10_000, 10_000).nth(1), Some(11_250));
        assert_eq!(steps(3, 0).take(3).collect::<Vec<_>>(), [0, 8, 16]);
        assert_eq!(steps(0, 0).take(4).collect::<Vec<_>>(), [0, 8, 16, 32]);
    }
}
