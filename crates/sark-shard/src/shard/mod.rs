//! The shard: what it is made of, and the steps that all operations share.
//!
//! `sark-cache` and the Python binding call the operations, which are in the files next to this one, by
//! theme. They all keep one rule, which makes a panic in the caller's code harmless: *find first, then
//! change*. The caller's code (`Eq`, closures, `Pool`, `Removals`) runs only while the shard is whole. None
//! of it runs between the first and the last step of a change.

mod budget;
mod contents;
mod decide;
mod expiry;
mod insert;
mod iter;
mod lookup;
mod remove;
mod slots;
#[cfg(any(test, fuzzing, feature = "validate"))]
mod validate;
mod walk;

#[cfg(test)]
mod tests;

use core::fmt;
use core::mem::offset_of;

use equivalent::Equivalent;

use crate::column::Column;
use crate::counters::{Counters, Frequent, Seldom};
use crate::deadlines::Deadlines;
use crate::eldest::Eldest;
use crate::index::{First, Index, ShortHash};
use crate::prefetch::prefetch_for_drop;
use crate::probe::ProbeHint;
use crate::removed::{RemovalCause, Removals, Removed};
use crate::room::Room;
use crate::slab::{Entry, Slab};
use crate::slot::Slot;
use crate::time::Nanos;
use crate::word::Uses;

pub use contents::Contents;
pub use decide::{Candidate, Changed, Finding, Match, Stamp, Undecided};
pub use expiry::Progress;
pub use insert::{Insertion, Unstored};
pub use iter::{EntryRef, Iter};
pub use lookup::Expected;
pub use walk::Walk;

/// How a shard is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// What it may hold. [`Shard::set_budget`] changes it later. Whatever its budget, a shard holds at most
    /// about two billion (2^31) entries.
    pub budget: Room,
    /// Nanoseconds that an entry with [`Lifetime::Default`](crate::Lifetime::Default) is kept. With zero it
    /// is not kept at all.
    pub time_to_live: Option<u64>,
    /// Nanoseconds that any entry is kept after it was last read or written. With zero it is not kept at all.
    pub time_to_idle: Option<u64>,
    /// How many entries to expect, or zero if unknown.
    ///
    /// Up to there, memory doubles as it grows (that of the index grows by half); a little beyond, it grows
    /// gently. Once a sixteenth of the entries is there, the index grows to all that it will need if that is
    /// at most half a megabyte. Otherwise it grows to at most four times its size at once, so that no
    /// insertion is held up for long.
    pub capacity_hint: usize,
}

/// Unlimited room, no deadlines, no expectations.
impl Default for Config {
    fn default() -> Self {
        Self { budget: Room::UNLIMITED, time_to_live: None, time_to_idle: None, capacity_hint: 0 }
    }
}

/// Bytes that a shard has allocated; see [`Shard::memory`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// For keys and values themselves (not what they point to), including spare room.
    pub entries: usize,
    /// For the order of use.
    pub order: usize,
    /// For the index and the hashes.
    pub index: usize,
    /// For deadlines and times of access.
    pub deadlines: usize,
    /// For weights, and for deciding equality outside.
    pub other: usize,
}

impl Memory {
    /// Returns the sum of all parts.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.entries + self.order + self.index + self.deadlines + self.other
    }
}

/// A single-threaded cache of entries under hashes, in order of use, with deadlines. See the [crate] for an
/// overview.
///
/// First come the fields that hits, misses and insertions write most, then those that hits only read, on lines
/// of their own. The former share a line with the word that says who runs the shard, which travels from core
/// to core. While a core waits for that line, many processors go ahead with what doesn't need it; for that,
/// where the index and the entries are must be on another. A hit also writes the word alongside the entry
/// that it found and, under time to idle, the time of access.
#[repr(C)]
pub struct Shard<K, V> {
    /// All uses of any entry so far: hit, stored or replaced.
    uses: Uses,
    /// `uses` less the hits, modulo 2^64.
    other_uses: u64,
    weight: u64,
    frequent: Frequent,
    // From here on come the fields that hits read. A full shard of entries that weigh one doesn't write them
    // either, as long as new entries take over the slots of others.
    slab: Slab<K, V>,
    index: Index,
    deadlines: Deadlines,
    // From here on come the fields that hits don't touch.
    eldest: Eldest,
    weights: Column<u32>,
    budget: Room,
    capacity_hint: usize,
    /// Where the index was at the last insertion.
    hint: ProbeHint,
    decide: decide::Decide,
    /// The slot that the last look-up found but could not serve on the fast path, so that it is not searched
    /// for twice. This is only a hint: code that follows it compares the key. (Under time to idle, all hits
    /// come this way.)
    sought: Slot,
    seldom: Seldom,
}

const _: () = {
    // If 16 bytes of the caller's precede the shard in its cache line, the fields that are written fill the
    // rest of that line, and a hit finds what it reads in the second ...
    assert!(offset_of!(Shard<u64, u64>, slab) == 48);
    assert!(offset_of!(Shard<u64, u64>, index) + Index::HOT_BYTES <= 48 + 64);
    // ... and what deadlines take is in the third.
    assert!(offset_of!(Shard<u64, u64>, deadlines) + Deadlines::HOT_BYTES <= 48 + 2 * 64);
};

impl<K, V> Shard<K, V> {
    /// Returns an empty shard. Allocates nothing.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            uses: Uses::NONE,
            other_uses: 0,
            weight: 0,
            frequent: Frequent::default(),
            slab: Slab::new(),
            index: Index::new(),
            deadlines: Deadlines::new(config.time_to_live, config.time_to_idle),
            eldest: Eldest::new(),
            weights: Column::new(1),
            budget: config.budget,
            capacity_hint: config.capacity_hint,
            hint: ProbeHint::default(),
            decide: decide::Decide::new(),
            sought: Slot(0),
            seldom: Seldom::default(),
        }
    }

    /// The number of entries, including expired ones that have not been reclaimed yet.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there are no entries.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What has happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters::of(self.hits(), self.frequent, self.seldom)
    }

    fn hits(&self) -> u64 {
        self.uses.last().wrapping_sub(self.other_uses)
    }

    /// The number of bytes allocated at this moment, by purpose.
    ///
    /// ```
    /// # use sark_shard::*;
    /// let mut shard = Shard::new(Config { capacity_hint: 100, ..Config::default() });
    /// assert_eq!(shard.memory().total(), 0);
    /// for key in 0..100u64 {
    ///     let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ///     shard.insert(hash, key, key, 1, Lifetime::Default, Nanos(0), &mut NoPool, &mut Vec::new());
    /// }
    /// assert_eq!(shard.memory().entries, 100 * 16);
    /// assert_eq!(shard.memory().deadlines, 0);
    /// ```
    #[must_use]
    pub fn memory(&self) -> Memory {
        let (order, entries) = self.slab.bytes();
        Memory {
            entries,
            order: order + self.eldest.bytes(),
            index: self.index.bytes(),
            deadlines: self.deadlines.bytes(),
            other: self.weights.bytes() + self.decide.bytes(),
        }
    }

    /// The slot and the entry of `key`, live or expired. Runs the caller's comparison.
    #[inline]
    fn find<Q>(&self, hash: ShortHash, key: &Q) -> Option<(Slot, &Entry<K, V>)>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let slot = self.index.find(hash, |slot| self.slab.holds(slot, |entry| key.equivalent(&entry.key)))?;
        // Where the comparison of keys is inlined, the compiled code looks at the slot only once.
        Some((slot, self.slab.get(slot)?))
    }

    /// The slot of `key`, live or expired, as [`find`](Self::find) finds it. Inlined only for the place where
    /// it is looked for first.
    #[inline]
    fn locate<Q>(&self, hash: ShortHash, key: &Q) -> Option<Slot>
    where
        Q: Equivalent<K> + ?Sized,
    {
        match self.index.first(hash) {
            First::Nothing => None,
            First::Slot(slot) if self.slab.holds(slot, |entry| key.equivalent(&entry.key)) => Some(slot),
            First::Slot(_) | First::Unknown => self.locate_further(hash, key),
        }
    }

    #[inline(never)]
    fn locate_further<Q>(&self, hash: ShortHash, key: &Q) -> Option<Slot>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.find(hash, key).map(|(slot, _)| slot)
    }

    /// Returns the least recently used entry, for the caller to take out: it is not found a second time.
    #[inline]
    fn take_eldest(&mut self) -> Option<Slot> {
        self.eldest.take(&self.slab, self.uses.last())
    }

    /// Counts a hit on a live entry and records its use.
    #[inline]
    fn record_hit(&mut self, slot: Slot, now: Nanos) {
        let uses = self.next_use();
        self.note_use(slot, uses);
        self.deadlines.touch(slot, now);
    }

    /// Records a use of a live slot that counts as a hit. `uses` is the count of uses including this one.
    #[inline]
    fn note_use(&mut self, slot: Slot, uses: Uses) {
        self.uses = uses;
        self.slab.touch(slot, uses);
    }

    /// Counts a use that is not a hit.
    #[inline]
    fn other_use(&mut self) -> Uses {
        self.uses = self.next_use();
        self.other_uses = self.other_uses.wrapping_add(1);
        self.uses
    }

    /// Returns how many uses there are with the next one.
    #[inline]
    fn next_use(&mut self) -> Uses {
        match self.uses.next() {
            Some(uses) => uses,
            None => self.renumber(),
        }
    }

    /// Renumbers the last uses of the entries, and returns the count with the next use.
    #[cold]
    #[inline(never)]
    fn renumber(&mut self) -> Uses {
        let hits = self.hits();
        self.uses = self.slab.renumber();
        self.other_uses = self.uses.last().wrapping_sub(hits);
        self.eldest.forget();
        let Some(uses) = self.uses.next() else { unreachable!("there are fewer slots than numbers") };
        uses
    }

    /// Whether the deadline of a live slot has come.
    #[inline]
    fn is_dead(&self, slot: Slot, now: Nanos) -> bool {
        !self.slab.outlives(slot, now) && self.deadlines.is_dead(slot, now)
    }

    /// Stores an entry that has room, under a key that is not there. Runs none of the caller's code.
    #[inline]
    fn put(&mut self, hash: ShortHash, key: K, value: V, weight: u32, fixed: Nanos, now: Nanos) -> Slot {
        self.index.reserve_one(self.slab.len(), self.capacity_hint);
        self.slab.reserve_one(self.capacity_hint);
        let uses = self.other_use();
        let slot = self.slab.insert(key, value, uses, self.deadlines.horizon(fixed));
        let capacity = self.slab.capacity();
        self.hint = self.index.insert(hash, slot, capacity);
        self.deadlines.start(slot, fixed, now, capacity);
        self.weights.set(slot, weight, capacity);
        self.weight += u64::from(weight);
        self.decide.inserted(hash, slot, capacity);
        slot
    }

    /// Takes a live entry out, for whatever reason. Runs none of the caller's code.
    #[inline]
    fn take_out(&mut self, slot: Slot) -> Option<(Entry<K, V>, u32)> {
        let entry = self.slab.remove(slot)?;
        self.index.remove(slot);
        self.deadlines.cancel(slot);
        let weight = self.weights.get(slot);
        self.weight -= u64::from(weight);
        Some((entry, weight))
    }

    /// Takes a live entry out, counts it under `cause` and hands it back. The caller usually drops it soon,
    /// so what that needs is prefetched.
    fn hand_back(&mut self, slot: Slot, cause: RemovalCause, removed: &mut impl Removals<K, V>) {
        if let Some((Entry { key, value }, weight)) = self.take_out(slot) {
            prefetch_for_drop(&key);
            prefetch_for_drop(&value);
            self.count(cause);
            removed.push(Removed { key, value, weight, cause });
        }
    }

    /// Hands back an entry that was never stored.
    fn hand_back_new(&mut self, key: K, value: V, weight: u32, removed: &mut impl Removals<K, V>) {
        self.count(RemovalCause::Rejected);
        removed.push(Removed { key, value, weight, cause: RemovalCause::Rejected });
    }

    #[inline]
    fn count(&mut self, cause: RemovalCause) {
        let counter = match cause {
            RemovalCause::Expired => &mut self.seldom.expired,
            RemovalCause::Explicit => &mut self.seldom.explicit,
            RemovalCause::Replaced => &mut self.seldom.replaced,
            RemovalCause::Size => &mut self.frequent.evicted,
            RemovalCause::Rejected => &mut self.seldom.rejected,
        };
        *counter = counter.wrapping_add(1);
    }
}

/// Shows sizes and counts, never keys or values.
impl<K, V> fmt::Debug for Shard<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("used", &self.used())
            .field("budget", &self.budget())
            .field("deadlines", &self.deadlines.len())
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}
