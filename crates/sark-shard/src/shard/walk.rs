//! A walk through all entries, a few at a time, while other operations happen in between.
//!
//! A walk goes by slots. An entry keeps its slot from its insertion until it leaves, no matter what is
//! inserted, removed, grown or renumbered meanwhile, and a new value takes the place of an older one. So a
//! pass over the slots in their order meets each entry that stays exactly once. Uses move no entry, and a walk
//! is not a use.

use super::{EntryRef, Shard};
use crate::removed::{RemovalCause, Removals};
use crate::slot::Slot;
use crate::time::Nanos;

/// How far a walk through the entries of a shard has come; see [`Shard::visit`].
///
/// It belongs to the shard that it began on. On another shard it is harmless, but promises nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// The first slot that has not been passed.
    next: u32,
    /// Where it ends, once it has begun. Entries in later slots came after that, and without an end a walk
    /// might never catch up with them.
    end: Option<u32>,
}

impl Walk {
    /// Returns a walk that has not begun.
    #[must_use]
    pub const fn new() -> Self {
        Self { next: 0, end: None }
    }

    /// Whether there is nothing left to visit.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

/// Showing an entry counts as much as looking at so many slots.
const PLACES_PER_ENTRY: usize = 8;

impl<K, V> Shard<K, V> {
    /// Goes on with a walk through all entries and shows up to `most` of them to `see`, with their slots.
    ///
    /// The order is not specified. A walk is not a use. Expired entries that have not been reclaimed are shown,
    /// too ([`EntryRef::is_dead`]).
    ///
    /// Anything may happen between two visits. An entry that is there from the first visit until the walk [is
    /// over](Walk::is_over) is shown exactly once, with the value that it has then. An entry that comes or
    /// leaves meanwhile is shown at most once. A key that leaves and comes back is a new entry.
    ///
    /// O(`most`), where zero counts as one. Free slots count, too, though many of them count as one, so a visit
    /// may show no entry and yet not be the last. The whole walk is O(slots), and there are as many slots as
    /// there ever were entries at once. If `see` panics, the entry counts as shown.
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let hash = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    /// # let (mut shard, mut removed) = (Shard::<u64, u64>::new(Config::default()), Vec::new());
    /// for key in 0..100 {
    ///     shard.insert(hash(key), key, 10, 1, Lifetime::Default, Nanos(0), &mut NoPool, &mut removed);
    /// }
    /// let (mut walk, mut sum) = (Walk::new(), 0);
    /// while !walk.is_over() {
    ///     shard.visit(&mut walk, 8, |_, entry| sum += entry.value);
    ///     // ... anything may be done with the shard here ...
    /// }
    /// assert_eq!(sum, 1000);
    /// ```
    pub fn visit(&self, walk: &mut Walk, most: usize, mut see: impl FnMut(Slot, EntryRef<'_, K, V>)) {
        self.pass_some(walk, most, |slot| {
            if let Some(entry) = self.entry_ref(slot) {
                see(slot, entry);
            }
        });
    }

    /// Goes on with a walk, as [`visit`](Self::visit) does, and removes the entries for which `keep` returns
    /// false. Returns how many it removed.
    ///
    /// They are handed back as [`RemovalCause::Explicit`]. Expired entries are handed back as
    /// [`RemovalCause::Expired`] without asking `keep`, and are not counted.
    ///
    /// A walk is not a use. If `keep` panics, that entry stays, and the entries that were removed before have
    /// been handed back.
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let hash = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    /// # let (mut shard, mut removed) = (Shard::<u64, u64>::new(Config::default()), Vec::new());
    /// for key in 0..100 {
    ///     shard.insert(hash(key), key, 10, 1, Lifetime::Default, Nanos(0), &mut NoPool, &mut removed);
    /// }
    /// let (mut walk, mut count) = (Walk::new(), 0);
    /// while !walk.is_over() {
    ///     count += shard.retain_some(&mut walk, 8, Nanos(0), |entry| entry.key % 4 == 0, &mut removed);
    /// }
    /// assert_eq!((count, removed.len(), shard.len()), (75, 75, 25));
    /// ```
    pub fn retain_some(
        &mut self,
        walk: &mut Walk,
        most: usize,
        now: Nanos,
        mut keep: impl FnMut(EntryRef<'_, K, V>) -> bool,
        removed: &mut impl Removals<K, V>,
    ) -> usize {
        let mut places = places(most);
        let mut count = 0;
        while let Some(slot) = self.pass(walk, &mut places) {
            if self.is_dead(slot, now) {
                self.hand_back(slot, RemovalCause::Expired, removed);
            } else if self.entry_ref(slot).is_some_and(|entry| !keep(entry)) {
                self.hand_back(slot, RemovalCause::Explicit, removed);
                count += 1;
            }
        }
        count
    }

    /// Calls `at` for the slots that a visit visits.
    pub(super) fn pass_some(&self, walk: &mut Walk, most: usize, mut at: impl FnMut(Slot)) {
        let mut places = places(most);
        while let Some(slot) = self.pass(walk, &mut places) {
            at(slot);
        }
    }

    /// Moves a walk on past its next live slot, and returns that. `None` if there is none left, or if `places`
    /// is used up.
    fn pass(&self, walk: &mut Walk, places: &mut usize) -> Option<Slot> {
        let slots = self.slab.slots();
        let end = *walk.end.get_or_insert(slots as u32) as usize;
        let at = self.slab.seek_live(walk.next as usize..end, places);
        if at >= end.min(slots) {
            // There are fewer slots than when the walk began if the shard was cleared.
            walk.next = walk.next.max(end as u32);
            return None;
        }
        if *places == 0 {
            walk.next = at as u32;
            return None;
        }
        *places = places.saturating_sub(PLACES_PER_ENTRY);
        walk.next = at as u32 + 1;
        Some(Slot(at as u32))
    }
}

fn places(entries: usize) -> usize {
    entries.max(1).saturating_mul(PLACES_PER_ENTRY)
}
