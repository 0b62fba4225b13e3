//! Deciding equality outside: for keys whose comparison must not run while the shard is held.
//!
//! The Python binding is such a caller, since comparing two keys may run any Python code. It asks for what
//! can be decided without that, gets the candidates that can't, decides outside, and comes back. If one was
//! equal, [`Shard::slot_of`] says whether it is still that entry. If none was, the caller asks again. The
//! same stamp says that no entry with such a hash came meanwhile, so the key is absent, and the caller may
//! insert while it still holds the shard ([`Shard::insert_absent`]).
//!
//! The memory for this is allocated at the first [`Shard::find_by`]. This module never compares keys: it only
//! asks the caller's predicate.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::Shard;
use crate::column::Column;
use crate::index::ShortHash;
use crate::slot::Slot;

/// What a predicate says of a stored key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// It is the key that is looked for.
    Equal,
    /// It is another key.
    Different,
    /// The predicate can't tell.
    Ask,
}

/// What a look-up by predicate found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The entry with the key.
    Found(Slot),
    /// No entry has this key, as of this stamp.
    Absent(Stamp),
    /// One of these entries may have the key.
    Undecided(Undecided),
}

/// The entries for which the predicate could not tell. All others are different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// At least one candidate.
    pub candidates: Vec<Candidate>,
    /// If none of the candidates turns out equal, the key is absent as of this stamp: for as long as
    /// [`Shard::find_by`] gives the same one.
    pub stamp: Stamp,
}

/// One particular entry, and no other that may come to its slot later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    slot: Slot,
    generation: u64,
}

/// How many entries with such a hash had been inserted at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp(u64);

/// A replacement that did not happen because there is no longer an entry at the slot: look up again.
#[derive(Debug, PartialEq, Eq)]
pub struct Changed<K, V> {
    /// The key, handed back.
    pub key: K,
    /// The value, handed back.
    pub value: V,
}

/// The number of classes of hashes. Those equal in the low bits share a counter. Sharing costs nothing but a
/// needless second look-up.
const CLASSES: usize = 256;

/// Tells entries of one slot apart, and notices insertions.
pub(super) struct Decide {
    /// Insertions by class of hash, or `None` until the first question.
    inserted: Option<Box<[u64; CLASSES]>>,
    /// The number of each insertion after the first question, or zero for older entries.
    generations: Column<u64>,
    /// The last number given. No number is used twice, so a candidate stays unambiguous after a `clear`.
    last: u64,
}

fn class(hash: ShortHash) -> usize {
    hash.0 as usize % CLASSES
}

impl Decide {
    pub(super) fn new() -> Self {
        Self { inserted: None, generations: Column::new(0), last: 0 }
    }

    /// Records an insertion, if there was ever a question.
    #[inline]
    pub(super) fn inserted(&mut self, hash: ShortHash, slot: Slot, capacity: usize) {
        if let Some(inserted) = &mut self.inserted {
            inserted[class(hash)] += 1;
            self.last += 1;
            self.generations.set(slot, self.last, capacity);
        }
    }

    /// Forgets all slots, since the entries are gone.
    pub(super) fn forget_slots(&mut self) {
        self.generations.reset();
    }

    /// The number of bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.generations.bytes() + self.inserted.as_deref().map_or(0, size_of_val)
    }

    fn stamp(&mut self, hash: ShortHash) -> Stamp {
        let inserted = self.inserted.get_or_insert_with(|| Box::new([0; CLASSES]));
        Stamp(inserted[class(hash)])
    }
}

impl<K, V> Shard<K, V> {
    /// Looks for the entry under `hash` that `predicate` says is equal, and collects those for which it can't
    /// tell.
    ///
    /// An equal one wins at once. The order and the counters stay as they are. The time plays no part: the
    /// entry may have expired, which the operations by slot find out. If the key is absent, it is so at any
    /// time, even for a caller whose time is a little behind. `predicate` is asked only about keys with the
    /// same low 32 bits of hash. O(1), unless many keys share a hash.
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let (mut shard, mut removed) = (Shard::<String, u64>::new(Config::default()), Vec::new());
    /// # let now = Nanos(0);
    /// let Finding::Absent(before) = shard.find_by(7, |_| Match::Ask) else { panic!() };
    /// let _ = shard.insert_absent(7, "a".into(), 1, 1, Lifetime::Default, now, &mut NoPool, &mut removed);
    ///
    /// let Finding::Undecided(undecided) = shard.find_by(7, |_| Match::Ask) else { panic!() };
    /// // ... here "a" is compared, with the shard let go ...
    /// let slot = shard.slot_of(undecided.candidates[0]).expect("it is still there");
    /// assert_eq!(shard.hit_slot(slot, now, &mut removed, |value| *value), Some(1));
    /// assert_ne!(undecided.stamp, before, "an entry with such a hash came");
    /// ```
    pub fn find_by(&mut self, hash: u64, mut predicate: impl FnMut(&K) -> Match) -> Finding {
        let hash = ShortHash::of(hash);
        let stamp = self.decide.stamp(hash);
        let mut candidates = Vec::new();
        for slot in self.index.with_hash(hash) {
            let Some(entry) = self.slab.get(slot) else { continue };
            match predicate(&entry.key) {
                Match::Equal => return Finding::Found(slot),
                Match::Different => {}
                Match::Ask => candidates.push(Candidate { slot, generation: self.decide.generations.get(slot) }),
            }
        }
        if candidates.is_empty() { Finding::Absent(stamp) } else { Finding::Undecided(Undecided { candidates, stamp }) }
    }

    /// Returns the slot of a candidate if it is still the same entry: not removed since, but perhaps with a
    /// new value. O(1).
    #[must_use]
    pub fn slot_of(&self, candidate: Candidate) -> Option<Slot> {
        let Candidate { slot, generation } = candidate;
        let same = self.slab.is_live(slot) && self.decide.generations.get(slot) == generation;
        same.then_some(slot)
    }
}

#[cfg(any(test, fuzzing, feature = "validate"))]
impl Decide {
    /// Asserts that no two entries inserted since the first question have the same number.
    pub(super) fn validate(&self, live: impl Iterator<Item = Slot>) {
        let mut numbers: Vec<u64> = live.map(|slot| self.generations.get(slot)).filter(|&number| number != 0).collect();
        numbers.sort_unstable();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "decide: two entries have one number");
        assert!(numbers.last().is_none_or(|&number| number <= self.last), "decide: a number was never given");
    }
}
