//! Look-ups: one at a time, many at a time, without a trace, and updates in place.
//!
//! A hit writes the count of uses, and the number of this use alongside the entry (see `eldest`). It
//! allocates nothing. Only an entry found expired changes what is in the shard. The exception comes once in
//! 2^37 uses of a shard, by whatever operation: then its entries are renumbered, which sorts them.

use equivalent::Equivalent;

use super::{EntryRef, Shard};
use crate::index::{First, ShortHash};
use crate::probe::ProbeHint;
use crate::removed::{RemovalCause, Removals};
use crate::slab::Entry;
use crate::slot::Slot;
use crate::time::Nanos;

/// How many look-ups of a batch are in flight at once: enough to keep a core's outstanding loads busy, and
/// few enough that what was prefetched is still there when its turn comes.
const WINDOW: usize = 32;

/// What the index said of a look-up; see [`Shard::expect`].
///
/// It is a slot, or one of two that are never live. So code that asks whether that slot has the key may ask
/// about those as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected(Slot);

impl Expected {
    const NOTHING: Self = Self(Slot(u32::MAX));
    const UNKNOWN: Self = Self(Slot(u32::MAX - 1));
}

const _: () = assert!(Slot::LIMIT < Expected::UNKNOWN.0.0, "they are behind all slots");

/// Nothing is known of the look-up.
impl Default for Expected {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

impl From<First> for Expected {
    #[inline]
    fn from(first: First) -> Self {
        match first {
            First::Nothing => Self::NOTHING,
            First::Slot(slot) => Self(slot),
            First::Unknown => Self::UNKNOWN,
        }
    }
}

impl<K, V> Shard<K, V> {
    /// Looks `key` up and lets `f` read its value. Returns `None` if it is not there, or has expired: then it
    /// is handed back as [`RemovalCause::Expired`].
    ///
    /// A hit is recorded after `f` returned, so a look-up whose `f` panics does not count as one. O(1).
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let hash = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    /// # let (mut shard, mut removed) = (Shard::<u64, String>::new(Config::default()), Vec::new());
    /// shard.insert(hash(1), 1, "one".to_string(), 1, Lifetime::For(10), Nanos(0), &mut NoPool, &mut removed);
    /// assert_eq!(shard.get(hash(1), &1, Nanos(9), &mut removed, String::clone).as_deref(), Some("one"));
    /// assert_eq!(shard.get(hash(1), &1, Nanos(10), &mut removed, String::clone), None);
    /// assert_eq!(removed[0].cause, RemovalCause::Expired);
    /// ```
    #[inline]
    pub fn get<Q, R>(
        &mut self,
        hash: u64,
        key: &Q,
        now: Nanos,
        removed: &mut impl Removals<K, V>,
        f: impl FnOnce(&V) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        match self.try_get(hash, key, now, f) {
            Ok(result) => result,
            Err(f) => self.end_get(hash, key, now, removed, f),
        }
    }

    /// The fast path of [`get`](Self::get), as far as it goes.
    ///
    /// It serves a hit on an entry that is where it is looked for first and certainly lives, without a look
    /// at its exact deadline, and it serves nearly all misses. What it can't serve,
    /// [`end_get`](Self::end_get) does. O(1).
    ///
    /// This is for callers that want little code around a hit: `get` is these two.
    ///
    /// # Errors
    ///
    /// Gives `f` back, having done nothing, if it takes a closer look to tell.
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let hash = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    /// # let (mut shard, mut removed) = (Shard::<u64, u64>::new(Config::default()), Vec::new());
    /// shard.insert(hash(1), 1, 10, 1, Lifetime::For(20), Nanos(0), &mut NoPool, &mut removed);
    /// assert_eq!(shard.try_get(hash(2), &2, Nanos(5), |value| *value).ok(), Some(None));
    /// // The deadline is near, so it takes a closer look.
    /// let read = shard.try_get(hash(1), &1, Nanos(5), |value| *value).unwrap_err();
    /// assert_eq!(shard.end_get(hash(1), &1, Nanos(5), &mut removed, read), Some(10));
    /// assert_eq!((shard.counters().hits, shard.counters().misses), (1, 1));
    /// ```
    #[inline]
    pub fn try_get<Q, R, F>(&mut self, hash: u64, key: &Q, now: Nanos, f: F) -> Result<Option<R>, F>
    where
        Q: Equivalent<K> + ?Sized,
        F: FnOnce(&V) -> R,
    {
        self.try_use(hash, key, now, f, |f, value| f(value))
    }

    /// The slow path of [`get`](Self::get), for what [`try_get`](Self::try_get) can't serve. O(1).
    #[inline]
    pub fn end_get<Q, R>(
        &mut self,
        hash: u64,
        key: &Q,
        now: Nanos,
        removed: &mut impl Removals<K, V>,
        f: impl FnOnce(&V) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.update_found(self.sought(hash, key), now, removed, |value| f(value))
    }

    /// Looks up as many keys as there are hashes, in order, and passes the number and the value of each to
    /// `each`.
    ///
    /// This is the same as calling [`get`](Self::get) for each of them, but the memory of about thirty
    /// entries is fetched at once. Where entries don't fit in the processor's caches, that takes about 40 %
    /// off the time per key. Where they do, it costs a few nanoseconds more than it saves.
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let hash = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    /// # let (mut shard, mut removed) = (Shard::<u64, u64>::new(Config::default()), Vec::new());
    /// shard.insert(hash(1), 1, 10, 1, Lifetime::Default, Nanos(0), &mut NoPool, &mut removed);
    /// shard.insert(hash(3), 3, 30, 1, Lifetime::Default, Nanos(0), &mut NoPool, &mut removed);
    /// let keys = [1, 2, 3];
    /// let hashes = keys.map(hash);
    /// let mut values = Vec::new();
    /// shard.get_batch(&hashes, |i| &keys[i], Nanos(0), &mut removed, |_, value| values.push(value.copied()));
    /// assert_eq!(values, [Some(10), None, Some(30)]);
    /// ```
    pub fn get_batch<'q, Q>(
        &mut self,
        hashes: &[u64],
        key: impl Fn(usize) -> &'q Q,
        now: Nanos,
        removed: &mut impl Removals<K, V>,
        mut each: impl FnMut(usize, Option<&V>),
    ) where
        Q: Equivalent<K> + ?Sized + 'q,
    {
        let mut number = 0;
        for window in hashes.chunks(WINDOW) {
            let mut expected = [Expected::default(); WINDOW];
            for (expected, &hash) in expected.iter_mut().zip(window) {
                *expected = self.expect(hash);
            }
            for (&expected, &hash) in expected.iter().zip(window) {
                let found =
                    self.get_expected(expected, hash, key(number), now, removed, |value| each(number, Some(value)));
                if found.is_none() {
                    each(number, None);
                }
                number += 1;
            }
        }
    }

    /// Returns where look-ups begin, as of the last insertion, for callers that want to
    /// [`prefetch`](ProbeHint::prefetch) that place before they hold the shard.
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let hash = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    /// # let (mut shard, mut removed) = (Shard::<u64, u64>::new(Config::default()), Vec::new());
    /// shard.insert(hash(1), 1, 10, 1, Lifetime::Default, Nanos(0), &mut NoPool, &mut removed);
    /// let hint = shard.probe_hint();
    /// // Now or later, here or elsewhere, whatever became of the shard:
    /// hint.prefetch(hash(1));
    /// ```
    #[must_use]
    #[inline]
    pub fn probe_hint(&self) -> ProbeHint {
        self.hint
    }

    /// Asks the index about a look-up that is to follow, and starts loading the entry that is probably meant.
    /// Leaves no trace.
    ///
    /// With [`get_expected`](Self::get_expected) this is what [`get_batch`](Self::get_batch) is made of, for
    /// callers whose batch is spread over several shards.
    #[must_use]
    #[inline]
    pub fn expect(&self, hash: u64) -> Expected {
        let first = self.index.first(ShortHash::of(hash));
        if let First::Slot(slot) = first {
            self.slab.prefetch(slot);
        }
        first.into()
    }

    /// Does what [`get`](Self::get) does, with what [`expect`](Self::expect) said of the same hash. The shard
    /// may have changed since, but not by an insertion: an entry that came after it may be overlooked.
    #[inline]
    pub fn get_expected<Q, R>(
        &mut self,
        expected: Expected,
        hash: u64,
        key: &Q,
        now: Nanos,
        removed: &mut impl Removals<K, V>,
        f: impl FnOnce(&V) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        match self.try_expected(expected, key, now, f) {
            Ok(result) => result,
            Err(f) => self.end_get(hash, key, now, removed, f),
        }
    }

    /// The fast path of [`get_expected`](Self::get_expected), as far as it goes, as
    /// [`try_get`](Self::try_get) is of `get`.
    ///
    /// It serves a hit if the expected entry has the key and certainly lives, and a miss if none was
    /// expected. O(1).
    ///
    /// # Errors
    ///
    /// Gives `f` back, having done nothing, if only a look-up can tell.
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let hash = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    /// # let (mut shard, mut removed) = (Shard::<u64, u64>::new(Config::default()), Vec::new());
    /// shard.insert(hash(1), 1, 10, 1, Lifetime::Default, Nanos(0), &mut NoPool, &mut removed);
    /// let expected = shard.expect(hash(1));
    /// assert_eq!(shard.try_expected(expected, &1, Nanos(0), |value| *value).ok(), Some(Some(10)));
    /// assert!(shard.try_expected(expected, &2, Nanos(0), |value| *value).is_err());
    /// ```
    #[inline]
    pub fn try_expected<Q, R, F>(&mut self, expected: Expected, key: &Q, now: Nanos, f: F) -> Result<Option<R>, F>
    where
        Q: Equivalent<K> + ?Sized,
        F: FnOnce(&V) -> R,
    {
        // A key is there only once, so the guess is right if its key is. Its slot may have been freed since.
        if self.slab.holds_living(expected.0, now, |entry| key.equivalent(&entry.key)) {
            self.serve(expected.0, f, |f, value| f(value)).map(Some)
        } else if expected == Expected::NOTHING {
            self.frequent.misses += 1;
            Ok(None)
        } else {
            self.sought = expected.0;
            Err(f)
        }
    }

    /// Returns the value of `key`, without leaving a trace: the order, the counts and the time of access stay
    /// as they are. `None` if it is not there, or has expired. O(1).
    #[inline]
    pub fn peek<Q>(&self, hash: u64, key: &Q, now: Nanos) -> Option<&V>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let (slot, entry) = self.find(ShortHash::of(hash), key)?;
        if self.is_dead(slot, now) { None } else { Some(&entry.value) }
    }

    /// Returns all that is known of `key`, without leaving a trace, as with [`peek`](Self::peek). O(1).
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let hash = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    /// # let (mut shard, mut removed) = (Shard::<u64, u64>::new(Config::default()), Vec::new());
    /// shard.insert(hash(1), 1, 10, 7, Lifetime::For(100), Nanos(5), &mut NoPool, &mut removed);
    /// let entry = shard.entry(hash(1), &1, Nanos(6)).unwrap();
    /// assert_eq!((entry.weight, entry.deadline), (7, Some(Nanos(105))));
    /// ```
    pub fn entry<Q>(&self, hash: u64, key: &Q, now: Nanos) -> Option<EntryRef<'_, K, V>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let (slot, _) = self.find(ShortHash::of(hash), key)?;
        self.entry_at(slot, now)
    }

    /// Looks `key` up and lets `f` change its value in place. Counts as a hit. The weight and the deadline
    /// stay, and the time of access moves.
    ///
    /// If `f` panics, the value is as `f` left it, and no hit is recorded. O(1).
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let hash = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    /// # let (mut shard, mut removed) = (Shard::<u64, u64>::new(Config::default()), Vec::new());
    /// shard.insert(hash(1), 1, 10, 1, Lifetime::Default, Nanos(0), &mut NoPool, &mut removed);
    /// let old = shard.update(hash(1), &1, Nanos(0), &mut removed, |count| { *count += 1; *count - 1 });
    /// assert_eq!((old, shard.peek(hash(1), &1, Nanos(0))), (Some(10), Some(&11)));
    /// ```
    pub fn update<Q, R>(
        &mut self,
        hash: u64,
        key: &Q,
        now: Nanos,
        removed: &mut impl Removals<K, V>,
        f: impl FnOnce(&mut V) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        match self.try_update(hash, key, now, f) {
            Ok(result) => result,
            Err(f) => self.end_update(hash, key, now, removed, f),
        }
    }

    /// The fast path of [`update`](Self::update), as far as it goes, as [`try_get`](Self::try_get) is of
    /// `get`. O(1).
    ///
    /// # Errors
    ///
    /// Gives `f` back, having done nothing, for [`end_update`](Self::end_update).
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let hash = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    /// # let (mut shard, mut removed) = (Shard::<u64, u64>::new(Config::default()), Vec::new());
    /// shard.insert(hash(1), 1, 10, 1, Lifetime::Default, Nanos(0), &mut NoPool, &mut removed);
    /// assert_eq!(shard.try_update(hash(1), &1, Nanos(0), |count| *count += 1).ok(), Some(Some(())));
    /// assert_eq!(shard.peek(hash(1), &1, Nanos(0)), Some(&11));
    /// ```
    #[inline]
    pub fn try_update<Q, R, F>(&mut self, hash: u64, key: &Q, now: Nanos, f: F) -> Result<Option<R>, F>
    where
        Q: Equivalent<K> + ?Sized,
        F: FnOnce(&mut V) -> R,
    {
        self.try_use(hash, key, now, f, |f, value| f(value))
    }

    /// The slow path of [`update`](Self::update), for what [`try_update`](Self::try_update) can't serve.
    /// O(1).
    #[inline]
    pub fn end_update<Q, R>(
        &mut self,
        hash: u64,
        key: &Q,
        now: Nanos,
        removed: &mut impl Removals<K, V>,
        f: impl FnOnce(&mut V) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.update_found(self.sought(hash, key), now, removed, f)
    }

    /// Does what [`try_get`](Self::try_get) and [`try_update`](Self::try_update) share. They call `f` in
    /// different ways.
    #[inline]
    fn try_use<Q, R, F>(
        &mut self,
        hash: u64,
        key: &Q,
        now: Nanos,
        f: F,
        call: impl FnOnce(F, &mut V) -> R,
    ) -> Result<Option<R>, F>
    where
        Q: Equivalent<K> + ?Sized,
    {
        match self.index.first(ShortHash::of(hash)) {
            First::Nothing => {
                self.frequent.misses += 1;
                Ok(None)
            }
            First::Slot(slot) if self.slab.holds_living(slot, now, |entry| key.equivalent(&entry.key)) => {
                self.serve(slot, f, call).map(Some)
            }
            first => {
                self.sought = Expected::from(first).0;
                Err(f)
            }
        }
    }

    /// Returns the slot of `key`, live or expired: the one that was found last but could not be served on the
    /// fast path, if it has that key.
    #[inline]
    fn sought<Q>(&self, hash: u64, key: &Q) -> Option<Slot>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let is_it = self.slab.holds(self.sought, |entry| key.equivalent(&entry.key));
        if is_it { Some(self.sought) } else { self.slot(hash, key) }
    }

    /// Serves a hit on an entry that certainly lives, or gives `f` back if there is no number left for this
    /// use.
    #[inline]
    fn serve<R, F>(&mut self, slot: Slot, f: F, call: impl FnOnce(F, &mut V) -> R) -> Result<R, F> {
        match (self.uses.next(), self.slab.get_mut(slot)) {
            (Some(uses), Some(entry)) => {
                let result = call(f, &mut entry.value);
                self.note_use(slot, uses);
                Ok(result)
            }
            _ => Err(f),
        }
    }

    /// Ends a look-up or an update once the slot is known.
    #[inline]
    pub(super) fn update_found<R>(
        &mut self,
        slot: Option<Slot>,
        now: Nanos,
        removed: &mut impl Removals<K, V>,
        f: impl FnOnce(&mut V) -> R,
    ) -> Option<R> {
        let Some(slot) = slot.filter(|&slot| self.slab.is_live(slot)) else {
            self.frequent.misses += 1;
            return None;
        };
        if self.is_dead(slot, now) {
            self.expire_on_get(slot, removed);
            return None;
        }
        let Entry { value, .. } = self.slab.get_mut(slot)?;
        let result = f(value);
        self.record_hit(slot, now);
        Some(result)
    }

    /// Takes out an entry that a look-up found expired, which makes it a miss.
    #[cold]
    #[inline(never)]
    fn expire_on_get(&mut self, slot: Slot, removed: &mut impl Removals<K, V>) {
        self.frequent.misses += 1;
        self.seldom.expired_on_get += 1;
        self.hand_back(slot, RemovalCause::Expired, removed);
    }
}
