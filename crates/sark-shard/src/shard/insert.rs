//! Insertion: make sure of room, evict if there is none, then store the entry.
//!
//! This is the only place where entries come in. It never holds more than the budget, not even for a moment,
//! and evicts nothing for an entry that won't fit anyway.
//!
//! What a shard does nearly always has a fast path (`try_store`), for shards where all entries weigh one: an
//! entry takes the place of another, or a free one. Everything else goes through `end_insert`.

use core::fmt;
use core::mem::needs_drop;

use super::Shard;
use crate::index::ShortHash;
use crate::prefetch::prefetch_for_drop;
use crate::removed::{RemovalCause, Removals, Removed};
use crate::room::{Pool, Room};
use crate::slab::Entry;
use crate::slot::Slot;
use crate::time::{Lifetime, Nanos};

/// What became of an insertion.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an entry that is short of room was not stored"]
pub enum Insertion<K, V> {
    /// It was stored under a key that was not there.
    Inserted,
    /// It was stored in place of an older value, which was handed back.
    Replaced,
    /// It was not to be kept, so it was handed back, as was an older value.
    Rejected,
    /// It doesn't fit, even if everything else were evicted. Nothing was evicted, and an older value is still
    /// there.
    Short {
        /// The key, handed back.
        key: K,
        /// The value, handed back.
        value: V,
        /// How much more budget would let it in.
        missing: Room,
    },
}

/// An entry that is to be stored, with all that is decided about it before the shard is asked.
pub(super) struct New<K, V> {
    pub(super) hash: ShortHash,
    pub(super) key: K,
    pub(super) value: V,
    pub(super) weight: u32,
    pub(super) lifetime: Lifetime,
}

/// An insertion that [`Shard::try_insert`] did not do.
#[must_use = "an entry that is not stored is lost"]
pub struct Unstored<K, V> {
    /// The slot of an entry with the key, live or expired.
    found: Option<Slot>,
    new: New<K, V>,
}

/// Shows nothing of key and value.
impl<K, V> fmt::Debug for Unstored<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unstored").field("found", &self.found).finish_non_exhaustive()
    }
}

impl<K, V> Shard<K, V> {
    /// Stores `value` under `key`, as the most recently used entry.
    ///
    /// If the shard is full, it asks `pool` for the room that is missing. Then it evicts the least recently
    /// used entries ([`RemovalCause::Size`]) until the new one fits, and stores that. An older value of the
    /// key is handed back as [`RemovalCause::Replaced`] with the key passed in, while the older, equal key
    /// stays; it is never evicted for its own replacement. An older value that had expired is handed back as
    /// [`RemovalCause::Expired`], and the new one counts as new.
    ///
    /// With a lifetime of zero nothing is stored: an older value is handed back as
    /// [`RemovalCause::Replaced`], then the new one as [`RemovalCause::Rejected`].
    ///
    /// O(1), plus the evictions, O(1) each in the long run, plus growing from time to time.
    ///
    /// # Panics
    ///
    /// If `Eq`, `pool` or `removed` panics. The shard is then valid, but the entry may have been dropped.
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let hash = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    /// let mut shard = Shard::new(Config { budget: Room::for_weight(10), ..Config::default() });
    /// let mut removed = Vec::new();
    /// let mut insert = |key, weight| {
    ///     shard.insert(hash(key), key, (), weight, Lifetime::Default, Nanos(0), &mut NoPool, &mut removed)
    /// };
    /// assert_eq!(insert(1, 6), Insertion::Inserted);
    /// assert_eq!(insert(1, 7), Insertion::Replaced);
    /// assert!(matches!(insert(2, 12), Insertion::Short { missing: Room { entries: 0, weight: 2 }, .. }));
    /// assert_eq!(insert(2, 4), Insertion::Inserted);
    /// assert_eq!((shard.used(), removed[0].cause), (Room { entries: 1, weight: 4 }, RemovalCause::Replaced));
    /// ```
    #[expect(clippy::too_many_arguments, reason = "each is a fact that only the caller knows")]
    pub fn insert(
        &mut self,
        hash: u64,
        key: K,
        value: V,
        weight: u32,
        lifetime: Lifetime,
        now: Nanos,
        pool: &mut impl Pool,
        removed: &mut impl Removals<K, V>,
    ) -> Insertion<K, V>
    where
        K: Eq,
    {
        let (found, hash) = self.seek(hash, &key);
        self.store(found, New { hash, key, value, weight, lifetime }, now, pool, removed)
    }

    /// The fast path of [`insert`](Self::insert), as far as it goes.
    ///
    /// It works where all entries weigh one, and did since the shard was made or [cleared](Self::clear). It
    /// stores a new entry where there is room or in the place of the least recently used one, or a value in
    /// place of an older one that certainly lives. It returns what leaves for that, with its cause. What it
    /// can't do, [`end_insert`](Self::end_insert) does, which may ask `pool` a second time. O(1) in the long
    /// run.
    ///
    /// This is for callers that want little code around what a shard does all the time: `insert` is these
    /// two.
    ///
    /// # Errors
    ///
    /// Returns [`Unstored`], to be passed on to `end_insert` on the same shard, with nothing in between.
    ///
    /// # Panics
    ///
    /// As `insert` does.
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let hash = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    /// let mut shard = Shard::new(Config { budget: Room::for_entries(1), ..Config::default() });
    /// let (now, mut removed) = (Nanos(0), Vec::new());
    /// assert!(shard.try_insert(hash(1), 1, "one", 1, Lifetime::Default, now, &mut NoPool).unwrap().is_none());
    /// let evicted = shard.try_insert(hash(2), 2, "two", 1, Lifetime::Default, now, &mut NoPool).unwrap().unwrap();
    /// assert_eq!((evicted.value, evicted.cause, shard.len()), ("one", RemovalCause::Size, 1));
    /// // Not to be kept at all.
    /// let unstored = shard.try_insert(hash(3), 3, "three", 1, Lifetime::For(0), now, &mut NoPool).unwrap_err();
    /// assert_eq!(shard.end_insert(unstored, now, &mut NoPool, &mut removed), Insertion::Rejected);
    /// ```
    #[expect(clippy::too_many_arguments, reason = "each is a fact that only the caller knows")]
    #[inline]
    pub fn try_insert(
        &mut self,
        hash: u64,
        key: K,
        value: V,
        weight: u32,
        lifetime: Lifetime,
        now: Nanos,
        pool: &mut impl Pool,
    ) -> Result<Option<Removed<K, V>>, Unstored<K, V>>
    where
        K: Eq,
    {
        let (found, hash) = self.seek(hash, &key);
        self.try_store(found, New { hash, key, value, weight, lifetime }, now, pool)
    }

    /// Returns the slot of an entry with the key that is to be stored.
    #[inline]
    fn seek(&self, hash: u64, key: &K) -> (Option<Slot>, ShortHash)
    where
        K: Eq,
    {
        self.foresee_eviction();
        let hash = ShortHash::of(hash);
        (self.locate(hash, key), hash)
    }

    /// If the bound on entries is reached, starts loading what it takes to evict the least recently used
    /// entry and to drop it.
    ///
    /// So the loading overlaps the search of the index for the new key.
    /// [`foresee_next_eviction`](Self::foresee_next_eviction) has already loaded what says where to look, and
    /// the entry itself was loaded some evictions ago.
    #[inline]
    fn foresee_eviction(&self) {
        if self.slab.len() as u64 >= self.budget.entries
            && let Some(slot) = self.eldest.peek()
        {
            self.hint.prefetch(u64::from(self.index.hash_of(slot).0));
            if needs_drop::<Entry<K, V>>()
                && let Some(Entry { key, value }) = self.slab.get(slot)
            {
                prefetch_for_drop(key);
                prefetch_for_drop(value);
            }
        }
    }

    /// After an eviction, starts loading what says where the next one will look.
    #[inline]
    fn foresee_next_eviction(&self) {
        if let Some(slot) = self.eldest.peek() {
            self.index.prefetch_hash(slot);
            self.deadlines.prefetch(slot);
        }
    }

    /// Refuses a new entry, for entries that are too heavy for the whole cache.
    ///
    /// An older value of its key is forgotten ([`RemovalCause::Replaced`], or `Expired` if it had expired),
    /// and the new one is handed back as [`RemovalCause::Rejected`]. O(1).
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let hash = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    /// # let (mut shard, mut removed) = (Shard::<u64, u64>::new(Config::default()), Vec::new());
    /// shard.insert(hash(1), 1, 10, 1, Lifetime::Default, Nanos(0), &mut NoPool, &mut removed);
    /// shard.reject(hash(1), 1, 11, 1 << 30, Nanos(0), &mut removed);
    /// assert_eq!(removed.iter().map(|r| (r.value, r.cause)).collect::<Vec<_>>(),
    ///     [(10, RemovalCause::Replaced), (11, RemovalCause::Rejected)]);
    /// ```
    pub fn reject(&mut self, hash: u64, key: K, value: V, weight: u32, now: Nanos, removed: &mut impl Removals<K, V>)
    where
        K: Eq,
    {
        let found = self.find(ShortHash::of(hash), &key).map(|(slot, _)| slot);
        let found = self.unless_dead(found, now, removed);
        if let Some(slot) = found {
            self.hand_back(slot, RemovalCause::Replaced, removed);
        }
        self.hand_back_new(key, value, weight, removed);
    }

    /// Hands a new entry back as [`RemovalCause::Rejected`], and counts it. An older value of its key stays.
    /// O(1).
    pub fn turn_away(&mut self, key: K, value: V, weight: u32, removed: &mut impl Removals<K, V>) {
        self.hand_back_new(key, value, weight, removed);
    }

    /// Stores an entry whose key is at `found`, or nowhere.
    #[inline]
    pub(super) fn store(
        &mut self,
        found: Option<Slot>,
        new: New<K, V>,
        now: Nanos,
        pool: &mut impl Pool,
        removed: &mut impl Removals<K, V>,
    ) -> Insertion<K, V> {
        match self.try_store(found, new, now, pool) {
            Ok(left) => {
                let replaced = left.as_ref().is_some_and(|left| left.cause == RemovalCause::Replaced);
                left.into_iter().for_each(|left| removed.push(left));
                if replaced { Insertion::Replaced } else { Insertion::Inserted }
            }
            Err(unstored) => self.end_insert(unstored, now, pool, removed),
        }
    }

    /// Does what a shard does nearly always, with little around it: [`try_insert`](Self::try_insert) once it
    /// is known what is there.
    #[inline]
    fn try_store(
        &mut self,
        found: Option<Slot>,
        new: New<K, V>,
        now: Nanos,
        pool: &mut impl Pool,
    ) -> Result<Option<Removed<K, V>>, Unstored<K, V>> {
        // Every entry weighs one, so weights change nothing.
        let plain = new.weight == 1 && self.weights.is_usual();
        let fixed = if plain { self.deadlines.fixed(new.lifetime, now) } else { None };
        if let Some(fixed) = fixed {
            if let Some(slot) = found {
                if self.slab.outlives(slot, now) && self.used().fits_in(self.budget) {
                    let New { key, value, .. } = new;
                    let (value, weight) = self.exchange(slot, value, 1, fixed, now);
                    self.count(RemovalCause::Replaced);
                    return Ok(Some(Removed { key, value, weight, cause: RemovalCause::Replaced }));
                }
            } else if let Some(slot) = self.place_of_eldest(pool) {
                let New { hash, key, value, weight, .. } = new;
                let Entry { key, value } = self.take_over(slot, hash, Entry { key, value }, fixed, now);
                self.foresee_next_eviction();
                return Ok(Some(Removed { key, value, weight, cause: RemovalCause::Size }));
            } else if self.has_room_for_one() {
                let New { hash, key, value, .. } = new;
                self.put_light(hash, Entry { key, value }, fixed, now);
                return Ok(None);
            }
        }
        Err(Unstored { found, new })
    }

    /// Returns the slot of the least recently used entry if that entry leaves for the new one, both weighing
    /// one. The slot is for the caller to use: it is not found a second time.
    ///
    /// `None` if there is room, or was in the pool, or if it takes more than that one eviction.
    #[inline]
    fn place_of_eldest(&mut self, pool: &mut impl Pool) -> Option<Slot> {
        let limit = self.limit();
        if self.slab.len() as u64 != limit.entries || self.weight >= limit.weight {
            return None;
        }
        let given = pool.take(Room { entries: 1, weight: 0 });
        if !given.is_none() {
            self.budget = self.budget.saturating_add(given);
            return None;
        }
        self.take_eldest()
    }

    /// Whether there is room for an entry that weighs one, as all others do.
    #[inline]
    fn has_room_for_one(&self) -> bool {
        let limit = self.limit();
        (self.slab.len() as u64) < limit.entries && self.weight < limit.weight
    }

    /// Stores an entry that weighs one and has room, under a key that is not there. Kept out of line, apart
    /// from what a full shard does.
    #[inline(never)]
    fn put_light(&mut self, hash: ShortHash, Entry { key, value }: Entry<K, V>, fixed: Nanos, now: Nanos) {
        self.put(hash, key, value, 1, fixed, now);
        self.frequent.inserted += 1;
    }

    /// Puts a new entry in the place of one that leaves for it, and returns the latter. Runs none of the
    /// caller's code.
    #[inline]
    fn take_over(&mut self, slot: Slot, hash: ShortHash, new: Entry<K, V>, fixed: Nanos, now: Nanos) -> Entry<K, V> {
        let uses = self.other_use();
        let Some(older) = self.slab.replace(slot, new, uses, self.deadlines.horizon(fixed)) else {
            unreachable!("{slot:?} was found live, and nothing has been removed since")
        };
        let capacity = self.slab.capacity();
        self.hint = self.index.move_to(hash, slot, capacity);
        self.deadlines.start(slot, fixed, now, capacity);
        self.decide.inserted(hash, slot, capacity);
        self.count(RemovalCause::Size);
        self.frequent.inserted += 1;
        older
    }

    /// Ends what [`try_insert`](Self::try_insert) began. O(1), plus the evictions.
    ///
    /// # Panics
    ///
    /// As [`insert`](Self::insert) does.
    #[inline(never)]
    pub fn end_insert(
        &mut self,
        unstored: Unstored<K, V>,
        now: Nanos,
        pool: &mut impl Pool,
        removed: &mut impl Removals<K, V>,
    ) -> Insertion<K, V> {
        let Unstored { found, new } = unstored;
        // A caller that did something in between may end up with two entries of one key, but the shard stays
        // valid.
        let found = found.filter(|&slot| self.slab.is_live(slot));
        let found = self.unless_dead(found, now, removed);
        let Some(fixed) = self.deadlines.fixed(new.lifetime, now) else {
            if let Some(slot) = found {
                self.hand_back(slot, RemovalCause::Replaced, removed);
            }
            self.hand_back_new(new.key, new.value, new.weight, removed);
            return Insertion::Rejected;
        };
        if let Err(missing) = self.make_room(found, new.weight, pool, removed) {
            return Insertion::Short { key: new.key, value: new.value, missing };
        }
        let New { hash, key, value, weight, .. } = new;
        match found {
            None => {
                self.put(hash, key, value, weight, fixed, now);
                self.frequent.inserted += 1;
                Insertion::Inserted
            }
            Some(slot) => {
                let (value, weight) = self.exchange(slot, value, weight, fixed, now);
                self.count(RemovalCause::Replaced);
                removed.push(Removed { key, value, weight, cause: RemovalCause::Replaced });
                Insertion::Replaced
            }
        }
    }

    /// Puts a value in the place of another, and returns the latter with its weight. Runs none of the
    /// caller's code.
    #[inline]
    pub(super) fn exchange(&mut self, slot: Slot, value: V, weight: u32, fixed: Nanos, now: Nanos) -> (V, u32) {
        let uses = self.other_use();
        self.slab.touch(slot, uses);
        self.slab.set_horizon(slot, self.deadlines.horizon(fixed));
        let capacity = self.slab.capacity();
        let old = self.weights.get(slot);
        self.weights.set(slot, weight, capacity);
        self.weight = self.weight - u64::from(old) + u64::from(weight);
        self.deadlines.start(slot, fixed, now, capacity);
        match self.slab.get_mut(slot) {
            Some(Entry { value: place, .. }) => (core::mem::replace(place, value), old),
            None => unreachable!("{slot:?} was found live, and nothing has been removed but others"),
        }
    }

    /// Makes sure that an entry of this weight fits, in the place of `replaced` if there is one. Otherwise
    /// returns what is missing.
    #[inline]
    fn make_room(
        &mut self,
        replaced: Option<Slot>,
        weight: u32,
        pool: &mut impl Pool,
        removed: &mut impl Removals<K, V>,
    ) -> Result<(), Room> {
        let new = Room { entries: 1, weight: u64::from(weight) };
        let old = match replaced {
            Some(slot) => Room { entries: 1, weight: u64::from(self.weights.get(slot)) },
            None => Room::NONE,
        };
        if self.used_with(new, old).fits_in(self.limit()) {
            return Ok(());
        }
        self.make_room_for(replaced, new, old, pool, removed)
    }

    /// Returns what everything else and the new entry would use. No sum overflows: there are fewer than 2^31
    /// entries, of weights below 2^32.
    #[inline]
    fn used_with(&self, new: Room, old: Room) -> Room {
        let used = self.used();
        Room { entries: used.entries - old.entries + new.entries, weight: used.weight - old.weight + new.weight }
    }

    #[inline(never)]
    fn make_room_for(
        &mut self,
        replaced: Option<Slot>,
        new: Room,
        old: Room,
        pool: &mut impl Pool,
        removed: &mut impl Removals<K, V>,
    ) -> Result<(), Room> {
        // A budget that was lowered below what is used is not won back here: only what this entry adds is
        // asked for.
        let excess = self.used_with(new, old).saturating_sub(self.limit());
        let wanted = excess.min(new.saturating_sub(old));
        if !wanted.is_none() {
            let given = pool.take(wanted);
            self.budget = self.budget.saturating_add(given);
        }
        let limit = self.limit();
        if !new.fits_in(limit) {
            return Err(new.saturating_sub(limit));
        }
        // The entry to be replaced is about to be the most recently used. So it would be evicted last, and
        // never is, since there is room enough without all the others.
        if let Some(slot) = replaced {
            let uses = self.other_use();
            self.slab.touch(slot, uses);
        }
        while !self.used_with(new, old).fits_in(limit) {
            match self.take_eldest() {
                Some(slot) => self.hand_back(slot, RemovalCause::Size, removed),
                None => break,
            }
        }
        self.foresee_next_eviction();
        Ok(())
    }

    /// Returns `found`, unless that entry has expired: then it is handed back, and there is nothing.
    #[inline]
    fn unless_dead(&mut self, found: Option<Slot>, now: Nanos, removed: &mut impl Removals<K, V>) -> Option<Slot> {
        let slot = found?;
        if self.is_dead(slot, now) {
            self.hand_back(slot, RemovalCause::Expired, removed);
            return None;
        }
        Some(slot)
    }
}
