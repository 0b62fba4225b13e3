//! Storing one entry. It is hashed and weighed with nothing held. Then the quick way is tried, if nothing is
//! in its way, and what that can't do is done after it.
//!
//! Called by `cache`, `upsert`, `batch` and `load`; `gathering` makes room where a shard alone can't. A worker is
//! told of an entry's deadline after the shard is given back, and before what left for the entry is dropped.

use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use sark_delegate::Entered;
use sark_shard::{Lifetime, Nanos, Unstored};

use crate::arrival::{Arrival, Short, Terms, Unless};
use crate::cache::Inner;
use crate::outgoing::Outgoing;
use crate::resident::Cell;

impl<K, V, H> Inner<K, V, H>
where
    K: Hash + Eq + Send + 'static,
    V: Send + 'static,
    H: BuildHasher,
{
    /// Hashes and weighs an entry, with nothing held.
    pub(crate) fn arrival(&self, key: K, value: V, lifetime: Lifetime) -> Arrival<K, V> {
        let hash = self.hash(&key);
        let weight = self.weigher.as_ref().map_or(1, |weigh| weigh(&key, &value));
        Arrival { hash, key, value, weight, lifetime }
    }

    /// Stores an entry in its shard, making room in other shards if need be. Returns false if it isn't kept.
    #[inline]
    pub(crate) fn insert_at(
        &self,
        index: usize,
        arrival: Arrival<K, V>,
        now: Nanos,
        out: &mut Outgoing<'_, K, V>,
    ) -> bool {
        // Taken apart, so that only the ways that are seldom taken put it into memory.
        let Arrival { hash, key, value, weight, lifetime } = arrival;
        // What the quick way displaces is dropped below, where it comes back. Carrying it on to a listener
        // would slow down caches without one, so caches with a listener don't take the quick way.
        let entered = if self.listener.is_none() { self.delegates.enter(index) } else { None };
        let Some(mut entered) = entered else {
            let arrival = Arrival { hash, key, value, weight, lifetime };
            return self.insert_by_request(index, arrival, now, &mut Unless::Never, out);
        };
        let stored = entered.run(|cell| {
            let arrival = Arrival { hash, key, value, weight, lifetime };
            let evicted = cell.try_insert(arrival, now, &mut &self.common.ledger, out)?;
            Ok((evicted, cell.earlier_alarm(now)))
        });
        match stored {
            Ok((evicted, alarm)) => {
                // The shard is given back before what left is dropped.
                drop(entered);
                if let Some(delay) = alarm {
                    self.delegates.wake_in(index, delay);
                }
                drop(evicted);
                true
            }
            Err(unstored) => self.end_insert(entered, index, unstored, Terms { hash, weight, lifetime }, now, out),
        }
    }

    /// Ends an insertion that [`Cell::try_insert`] did not do.
    #[inline(never)]
    fn end_insert(
        &self,
        mut entered: Entered<'_, Cell<K, V>>,
        index: usize,
        unstored: Unstored<K, V>,
        terms: Terms,
        now: Nanos,
        out: &mut Outgoing<'_, K, V>,
    ) -> bool {
        let mut short = None;
        let stored = entered.run(|cell| {
            let kept = cell.end_insert(unstored, terms, now, &mut &self.common.ledger, out, &mut short);
            (kept, cell.earlier_alarm(now))
        });
        drop(entered);
        self.conclude_insertion(index, stored, short, now, &mut Unless::Never, out)
    }

    pub(crate) fn conclude_insertion(
        &self,
        index: usize,
        (kept, alarm): (bool, Option<Duration>),
        short: Option<Short<K, V>>,
        now: Nanos,
        unless: &mut Unless<'_, K, V>,
        out: &mut Outgoing<'_, K, V>,
    ) -> bool {
        if let Some(delay) = alarm {
            self.delegates.wake_in(index, delay);
        }
        match short {
            None => kept,
            Some(short) => self.insert_with_room_of_others(index, short, now, unless, out),
        }
    }

    /// Stores an entry, unless something keeps it out, by a request that puts everything that it displaces into
    /// `out`, and the entry itself if it is outdated.
    #[inline(never)]
    pub(crate) fn insert_by_request(
        &self,
        index: usize,
        arrival: Arrival<K, V>,
        now: Nanos,
        unless: &mut Unless<'_, K, V>,
        out: &mut Outgoing<'_, K, V>,
    ) -> bool {
        let (mut short, mut pool) = (None, &self.common.ledger);
        let request = |cell: &mut Cell<K, V>| cell.insert_unless(unless, arrival, now, &mut pool, out, &mut short);
        let stored = self.delegates.run(index, request);
        self.conclude_insertion(index, stored, short, now, unless, out)
    }
}

/// When dropped, asks a worker to look at a shard once a posted entry has lived for as long as it may.
pub(crate) struct WakeLater<'i, K, V, H>
where
    K: Eq + Send + 'static,
    V: Send + 'static,
{
    pub(crate) inner: &'i Inner<K, V, H>,
    pub(crate) index: usize,
}

impl<K, V, H> Drop for WakeLater<'_, K, V, H>
where
    K: Eq + Send + 'static,
    V: Send + 'static,
{
    fn drop(&mut self) {
        if let Some(lifetime) = self.inner.default_lifetime
            && self.inner.common.workers_reclaim
        {
            self.inner.delegates.wake_in(self.index, Duration::from_nanos(lifetime));
        }
    }
}
