//! Going through all entries a few at a time, with anything else happening in between.
//!
//! By slots: an entry keeps its slot from its insertion until it leaves, whatever else comes, goes, grows or
//! is numbered anew, and a new value takes the place of an older one. So who goes through the slots once, in
//! their order, meets each entry that stays once. Uses move nothing, and are not moved.

use super::{EntryRef, Shard};
use crate::removed::{RemovalCause, Removals};
use crate::slot::Slot;
use crate::time::Nanos;

/// How far a walk through the entries of a shard has come; see [`Shard::visit`]. For the shard that it began
/// on: on another one it is harmless, and promises nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// The first slot that was not passed.
    next: u32,
    /// Where it ends, once it has begun: what comes to further slots came later. Otherwise it might never
    /// end.
    end: Option<u32>,
}

impl Walk {
    /// One that has not begun.
    #[must_use]
    pub const fn new() -> Self {
        Self { next: 0, end: None }
    }

    /// Whether it is through: there is nothing left to visit.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

/// An entry is as much work as looking at so many places where there may be one.
const PLACES_PER_ENTRY: usize = 8;

impl<K, V> Shard<K, V> {
    /// Goes on with a walk through all entries, for about as long as `most` of them take: shows each of them
    /// to `see`, in no particular order and without leaving a trace, and those whose deadline has come, too
    /// ([`EntryRef::is_dead`]).
    ///
    /// Anything may happen between two visits. An entry that is there from the first one until the walk [is
    /// over](Walk::is_over) is shown once, with the value that it has then; one that comes or goes meanwhile
    /// is shown once or not. A key that leaves and comes back is another entry.
    ///
    /// O(`most`), which counts as one if it is zero. Free slots are passed over by many at a time, so a visit
    /// may show none. A walk takes O(slots) in all, of which there are as many as there ever were entries at
    /// once. If `see` panics, the entry counts as shown.
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
    ///     shard.visit(&mut walk, 8, |entry| sum += entry.value);
    ///     // ... here others may have the shard ...
    /// }
    /// assert_eq!(sum, 1000);
    /// ```
    pub fn visit(&self, walk: &mut Walk, most: usize, mut see: impl FnMut(EntryRef<'_, K, V>)) {
        self.pass_some(walk, most, |slot| {
            if let Some(entry) = self.entry_ref(slot) {
                see(entry);
            }
        });
    }

    /// As [`visit`](Self::visit), and removes what is not to be kept: hands back those that live and that
    /// `keep` says false of, as [`RemovalCause::Explicit`], and those that are dead as
    /// [`RemovalCause::Expired`], of which `keep` isn't asked. Returns how many of the first kind there were.
    ///
    /// It uses nothing: order and times of access stay. If `keep` panics, its entry stays, and what was
    /// handed back before is.
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

    /// The slots that [`visit`](Self::visit) visits.
    pub(super) fn pass_some(&self, walk: &mut Walk, most: usize, mut at: impl FnMut(Slot)) {
        let mut places = places(most);
        while let Some(slot) = self.pass(walk, &mut places) {
            at(slot);
        }
    }

    /// The next live slot of a walk, which has passed it then. `None` if there is none left, or if no more
    /// places may be looked at.
    fn pass(&self, walk: &mut Walk, places: &mut usize) -> Option<Slot> {
        let slots = self.slab.slots();
        let end = *walk.end.get_or_insert(slots as u32) as usize;
        let at = self.slab.seek_live(walk.next as usize..end, places);
        if at >= end.min(slots) {
            // Fewer may be there than when it began: then all of them have left, and others come.
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
