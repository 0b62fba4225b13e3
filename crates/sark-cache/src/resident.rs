//! What a delegate of a cache owns: a shard, and what it needs to keep the cache's promises while the shard
//! is held.
//!
//! The steps here run with the shard held, on whatever thread runs it. They don't wait, don't drop anything
//! of the user's, and read no clock, except that `tend` reads it. `cache`, `storing`, `upsert`, `batch`,
//! `gathering` and `string_cache` call them through `sark_delegate`, and the delegates call them for posts and
//! maintenance.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use equivalent::Equivalent;
use sark_delegate::Resident;
use sark_shard::{Contents, Expected, Insertion, Nanos, Removals, Removed, Room, Shard, Unstored};

use crate::arrival::{Arrival, Instead, Short, Terms, Unless};
use crate::clock::Timekeeping;
use crate::hints::SharedHint;
use crate::ledger::{Ledger, Source};
use crate::outgoing::{Leftovers, Listener, Outgoing};

/// An insertion first reclaims about this many expired entries. They are few, since other callers may be
/// waiting for the shard. The rest is left to later insertions and to workers.
const RECLAIM_PER_INSERT: usize = 4;
/// The same if the cache is full, where a live entry would have to leave although expired ones are there.
const RECLAIM_BEFORE_EVICTION: usize = 32;
/// A thread that reclaims everything due takes this many entries before others can have the shard. That is
/// some microseconds of work, less than it takes to put a waiting caller to sleep.
pub(crate) const RECLAIM_AT_ONCE: usize = 32;

/// What the shards of a cache share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) ledger: Ledger,
    pub(crate) time: Timekeeping,
    /// Whether workers may be asked to reclaim what expires.
    pub(crate) workers_reclaim: bool,
    /// Where the index of each shard is, for the shards that callers may run.
    pub(crate) hints: Box<[SharedHint]>,
    /// For each shard, the time until which it is quiet: see [`Common::is_quiet`]. Empty if workers reclaim.
    pub(crate) quiet_until: Box<[AtomicU64]>,
    /// Whether there may be deadlines that were told nowhere: those of entries that were posted, and are
    /// perhaps still under way, or of a batch that a panic ended. Never reset.
    pub(crate) untold: AtomicBool,
}

impl Common {
    /// Whether a shard certainly has nothing to reclaim at this time, as far as calls that have returned are
    /// concerned. Answered without a look at the shard, whose cache line is written by all threads that use
    /// it.
    #[inline]
    pub(crate) fn is_quiet(&self, index: usize, now: Nanos) -> bool {
        // Relaxed: both are stored before the call that they are stored for returns.
        !self.untold.load(Ordering::Relaxed)
            && self.quiet_until.get(index).is_some_and(|until| until.load(Ordering::Relaxed) > now.0)
    }

    /// Notes that there may be deadlines that will be told nowhere. This holds for good, because nothing
    /// shows when they are gone.
    #[inline]
    pub(crate) fn expect_untold(&self) {
        if !self.untold.load(Ordering::Relaxed) {
            self.untold.store(true, Ordering::Relaxed);
        }
    }
}

/// A shard and its place in the cache. The shard comes first, because its first fields share a cache line
/// with the ownership word.
#[repr(C)]
pub(crate) struct Cell<K, V> {
    pub(crate) shard: Shard<K, V>,
    common: Arc<Common>,
    /// The number of this shard.
    index: usize,
    /// The deadline that was told last, to a worker or, if workers don't reclaim, in `quiet_until`. `MAX` if
    /// there is none. No deadline of the shard is before it, except for those that are
    /// [untold](Common::untold).
    alarm: Nanos,
    /// Hears of what leaves when a worker reclaims or a post is served.
    listener: Listener<K, V>,
}

impl<K, V> Cell<K, V> {
    pub(crate) fn new(shard: Shard<K, V>, index: usize, common: Arc<Common>, listener: Listener<K, V>) -> Self {
        const { assert!(std::mem::offset_of!(Self, shard) == 0) }
        Self { shard, common, index, alarm: Nanos::MAX, listener }
    }

    /// Returns to the ledger what the shard has a budget for and doesn't use.
    #[inline]
    pub(crate) fn balance(&mut self) {
        let surplus = self.take_surplus();
        if !surplus.is_none() {
            self.common.ledger.give_back(surplus);
        }
    }

    /// Lowers the budget to what is used, and returns the difference. From then on that belongs to the
    /// caller.
    #[inline]
    fn take_surplus(&mut self) -> Room {
        let tight = self.common.ledger.budget_for(self.shard.used());
        let surplus = self.shard.budget().saturating_sub(tight);
        if !surplus.is_none() {
            self.shard.set_budget(tight);
        }
        surplus
    }

    #[inline]
    pub(crate) fn get<Q, R>(
        &mut self,
        hash: u64,
        key: &Q,
        now: Nanos,
        expired: &mut Outgoing<'_, K, V>,
        read: impl FnOnce(&V) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.shard.try_get(hash, key, now, read).unwrap_or_else(|read| self.end_get(hash, key, now, expired, read))
    }

    /// [`get`](Self::get), with where the shard expects the entry to be.
    #[inline]
    pub(crate) fn get_expected<Q, R>(
        &mut self,
        expected: Expected,
        (hash, key): (u64, &Q),
        now: Nanos,
        out: &mut Outgoing<'_, K, V>,
        read: impl FnOnce(&V) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.shard.try_expected(expected, key, now, read).unwrap_or_else(|read| self.end_get(hash, key, now, out, read))
    }

    /// Finishes a look-up that the quick way leaves open.
    #[cold]
    #[inline(never)]
    fn end_get<Q, R>(
        &mut self,
        hash: u64,
        key: &Q,
        now: Nanos,
        out: &mut Outgoing<'_, K, V>,
        read: impl FnOnce(&V) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let before = out.len();
        let result = self.shard.end_get(hash, key, now, out, read);
        if out.len() != before {
            self.balance();
        }
        result
    }

    #[inline]
    pub(crate) fn update<Q, R>(
        &mut self,
        hash: u64,
        key: &Q,
        now: Nanos,
        expired: &mut Outgoing<'_, K, V>,
        change: impl FnOnce(&mut V) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let result = self.shard.update(hash, key, now, expired, change);
        if !expired.is_empty() {
            self.balance();
        }
        result
    }

    /// Stores an entry, taking room from `pool`. Returns true if it is kept. Otherwise it is in `short`, or
    /// it was not to be kept and went out with its cause.
    ///
    /// `short` is an argument, and is written only if the entry is short of room. If the answer itself could
    /// hold an entry, it would be moved on the way back in pieces of another size than it was written in, and
    /// the processor waits for that (measured: a seventh of an insertion into a large cache).
    #[inline]
    pub(crate) fn insert(
        &mut self,
        arrival: Arrival<K, V>,
        now: Nanos,
        pool: &mut impl Source,
        out: &mut impl Removals<K, V>,
        short: &mut Option<Short<K, V>>,
    ) -> bool
    where
        K: Eq,
    {
        self.reclaim_if_due(now, out);
        let Arrival { hash, key, value, weight, lifetime } = arrival;
        let insertion = self.shard.insert(hash, key, value, weight, lifetime, now, pool, out);
        self.conclude(insertion, Terms { hash, weight, lifetime }, pool, short)
    }

    /// Gives an arrival back unless something keeps it out. If something does, that is dealt with here, and
    /// there is nothing to store.
    pub(crate) fn admit(
        &mut self,
        unless: &mut Unless<'_, K, V>,
        arrival: Arrival<K, V>,
        out: &mut impl Removals<K, V>,
    ) -> Option<Arrival<K, V>>
    where
        K: Eq,
    {
        match unless {
            Unless::Never => {}
            Unless::Outdated(outdated) => {
                if outdated.load(Ordering::Relaxed) {
                    let Arrival { key, value, weight, .. } = arrival;
                    self.shard.turn_away(key, value, weight, out);
                    return None;
                }
            }
            Unless::There(Instead { change, now, tried, spare }) => {
                let Arrival { hash, key, value, weight, lifetime } = arrival;
                // Kept there, so that it is not dropped here if `Eq` or the change panics.
                let (key, _) = spare.insert((key, value));
                // Only the first try counts as a miss.
                let again = std::mem::replace(tried, true);
                let may_be_there = !again || self.shard.peek(hash, key, *now).is_some();
                // What this finds expired leaves its room to the arrival.
                if may_be_there && self.shard.update(hash, key, *now, out, change).is_some() {
                    return None;
                }
                let (key, value) = spare.take()?;
                return Some(Arrival { hash, key, value, weight, lifetime });
            }
        }
        Some(arrival)
    }

    /// [`insert`](Self::insert) for a caller that waits, unless something keeps the arrival out. Also returns
    /// the earlier alarm, if there is one.
    pub(crate) fn insert_unless(
        &mut self,
        unless: &mut Unless<'_, K, V>,
        arrival: Arrival<K, V>,
        now: Nanos,
        pool: &mut impl Source,
        out: &mut Outgoing<'_, K, V>,
        short: &mut Option<Short<K, V>>,
    ) -> (bool, Option<Duration>)
    where
        K: Eq,
    {
        let Some(arrival) = self.admit(unless, arrival, out) else { return (false, None) };
        let kept = self.insert(arrival, now, pool, out, short);
        (kept, self.earlier_alarm(now))
    }

    /// The quick way of [`insert`](Self::insert), as far as it goes: see [`Shard::try_insert`]. What it can't
    /// do, [`end_insert`](Self::end_insert) does. It doesn't access `out` unless something is due.
    #[inline(always)]
    pub(crate) fn try_insert(
        &mut self,
        arrival: Arrival<K, V>,
        now: Nanos,
        pool: &mut impl Source,
        out: &mut Outgoing<'_, K, V>,
    ) -> Result<Option<Removed<K, V>>, Unstored<K, V>>
    where
        K: Eq,
    {
        let reclaimed = self.reclaim_if_due(now, out);
        let Arrival { hash, key, value, weight, lifetime } = arrival;
        let evicted = self.shard.try_insert(hash, key, value, weight, lifetime, now, pool)?;
        // If no entry left for this one, it has taken room, perhaps out of more than it needed: after a panic
        // in the middle of an insertion, what had been reclaimed before is still in the budget.
        if reclaimed || evicted.is_none() {
            self.balance();
        }
        self.publish_hint();
        Ok(evicted)
    }

    /// Ends what [`try_insert`](Self::try_insert) began. `short` is as in [`insert`](Self::insert).
    pub(crate) fn end_insert(
        &mut self,
        unstored: Unstored<K, V>,
        terms: Terms,
        now: Nanos,
        pool: &mut impl Source,
        out: &mut Outgoing<'_, K, V>,
        short: &mut Option<Short<K, V>>,
    ) -> bool {
        let insertion = self.shard.end_insert(unstored, now, pool, out);
        self.conclude(insertion, terms, pool, short)
    }

    #[inline]
    fn conclude(
        &mut self,
        insertion: Insertion<K, V>,
        Terms { hash, weight, lifetime }: Terms,
        pool: &mut impl Source,
        short: &mut Option<Short<K, V>>,
    ) -> bool {
        let surplus = self.take_surplus();
        if !surplus.is_none() {
            pool.put_back(surplus);
        }
        self.publish_hint();
        match insertion {
            Insertion::Inserted | Insertion::Replaced => true,
            Insertion::Rejected => false,
            Insertion::Short { key, value, missing } => {
                *short = Some(Short { arrival: Arrival { hash, key, value, weight, lifetime }, missing });
                false
            }
        }
    }

    /// Reclaims some of what has expired before an entry comes in. Returns whether it had to look. What that
    /// frees stays in the shard's budget, for the entry, until the caller balances.
    #[inline]
    fn reclaim_if_due(&mut self, now: Nanos, out: &mut impl Removals<K, V>) -> bool {
        let due = self.shard.quiet_until() <= now;
        if due {
            self.reclaim_for_entry(now, out);
        }
        due
    }

    #[inline(never)]
    fn reclaim_for_entry(&mut self, now: Nanos, out: &mut impl Removals<K, V>) {
        let full = self.common.ledger.is_full();
        self.shard.advance(now, if full { RECLAIM_BEFORE_EVICTION } else { RECLAIM_PER_INSERT }, out);
    }

    /// Tells callers where the index is now.
    #[inline]
    fn publish_hint(&self) {
        if let Some(hint) = self.common.hints.get(self.index) {
            hint.update(self.shard.probe_hint());
        }
    }

    /// Refuses an entry that can't have room, and forgets an older value of its key, which would be wrong
    /// from now on.
    pub(crate) fn reject(&mut self, arrival: Arrival<K, V>, now: Nanos, out: &mut impl Removals<K, V>)
    where
        K: Eq,
    {
        let Arrival { hash, key, value, weight, .. } = arrival;
        self.shard.reject(hash, key, value, weight, now, out);
        self.balance();
    }

    pub(crate) fn remove<Q>(&mut self, hash: u64, key: &Q, now: Nanos, out: &mut Outgoing<'_, K, V>) -> Option<(K, V)>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let entry = self.shard.remove(hash, key, now, out);
        self.balance();
        entry
    }

    /// Evicts until `wanted` is free, and gives that room to the caller.
    pub(crate) fn evict_for_another(&mut self, wanted: Room, out: &mut Outgoing<'_, K, V>) -> Room {
        self.shard.evict(wanted, out);
        self.take_surplus()
    }

    pub(crate) fn clear(&mut self) -> Contents<K, V> {
        let contents = self.shard.clear();
        self.balance();
        contents
    }

    /// Reclaims what has expired. Returns true if there is more to do than `budget` allows.
    #[inline]
    pub(crate) fn reclaim(&mut self, now: Nanos, budget: usize, out: &mut impl Removals<K, V>) -> bool {
        if self.shard.quiet_until() <= now {
            let progress = self.shard.advance(now, budget, out);
            self.balance();
            if progress.more {
                return true;
            }
        }
        // With workers, the alarm stays what was told last: a look from elsewhere tells the worker nothing.
        if !self.common.workers_reclaim {
            self.tell_of_deadline(self.shard.next_deadline().unwrap_or(Nanos::MAX));
        }
        false
    }

    /// Tells of the earliest deadline, if it is earlier than the one told last. With workers, it returns how
    /// soon a worker is to look, and the caller asks for that. Without, it notes the deadline in
    /// `quiet_until` for callers that reclaim.
    #[inline]
    pub(crate) fn earlier_alarm(&mut self, now: Nanos) -> Option<Duration> {
        if self.shard.quiet_until() < self.alarm { self.set_alarm(now) } else { None }
    }

    #[inline(never)]
    fn set_alarm(&mut self, now: Nanos) -> Option<Duration> {
        let due = self.shard.next_deadline()?;
        if due >= self.alarm {
            return None;
        }
        self.tell_of_deadline(due);
        self.common.workers_reclaim.then(|| until(due, now))
    }

    fn tell_of_deadline(&mut self, due: Nanos) {
        self.alarm = due;
        if let Some(until) = self.common.quiet_until.get(self.index) {
            until.store(due.0, Ordering::Relaxed);
        }
    }
}

fn until(due: Nanos, now: Nanos) -> Duration {
    Duration::from_nanos(due.0.saturating_sub(now.0))
}

/// An insertion that no caller waits for.
pub(crate) struct PostedInsert<K, V> {
    pub(crate) arrival: Arrival<K, V>,
    pub(crate) now: Nanos,
}

impl<K, V> Resident for Cell<K, V>
where
    K: Eq + Send + 'static,
    V: Send + 'static,
{
    type Post = PostedInsert<K, V>;
    type Leftovers = Leftovers<K, V>;

    fn accept(&mut self, PostedInsert { arrival, now }: Self::Post, out: &mut Self::Leftovers) {
        out.tell(&self.listener);
        let common = Arc::clone(&self.common);
        let mut short = None;
        self.insert(arrival, now, &mut &common.ledger, out, &mut short);
        if let Some(Short { arrival, .. }) = short {
            // Room would have to be gathered from other shards, and no caller waits that could do that.
            self.reject(arrival, now, out);
        }
    }

    fn tend(&mut self, out: &mut Self::Leftovers) -> Option<Duration> {
        out.tell(&self.listener);
        let now = self.common.time.for_reading();
        if self.reclaim(now, RECLAIM_AT_ONCE, out) {
            return Some(Duration::ZERO);
        }
        self.alarm = self.shard.next_deadline().unwrap_or(Nanos::MAX);
        (self.alarm != Nanos::MAX).then(|| until(self.alarm, now))
    }
}

#[cfg(test)]
mod tests;
