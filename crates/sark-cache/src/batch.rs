//! Operations on many keys at once. What the keys have in common is done once, and the memory that they need
//! is fetched at the same time. One message serves a shard's part of a batch in one step; the batch as a
//! whole is not atomic.

use std::hash::{BuildHasher, Hash};
use std::thread;
use std::time::Duration;

use equivalent::Equivalent;
use sark_delegate::Delegates;
use sark_shard::{Expected, Lifetime, Nanos};
use smallvec::{SmallVec, smallvec};

use crate::Cache;
use crate::arrival::Unless;
use crate::cache::Inner;
use crate::resident::Cell;

/// Batches of up to this many keys are routed without allocating.
const INLINE: usize = 64;
/// This many keys are looked up together. Their memory is on its way at the same time, and their shards are
/// held meanwhile.
const TOGETHER: usize = 64;
/// Up to so many keys are looked up one by one in any cache: the misses that holding all their shards would
/// overlap are too few to pay for it.
const FEW: usize = 2;
/// The same for a cache that is [near](NEAR), where misses are cheap.
const FEW_NEAR: usize = 16;
/// A cache whose entries take up to so many bytes probably fits in a core's own cache.
const NEAR: u64 = 512 << 10;
const _: () = assert!(TOGETHER <= Delegates::<Cell<(), ()>>::MOST_ENTERED, "each of them may have its shard");
/// A key that is looked up, with what is known about it.
struct Asked<'q, Q: ?Sized> {
    key: &'q Q,
    hash: u64,
    shard: usize,
    /// Where its shard expects the entry to be.
    expected: Expected,
}

/// A key that could not be looked up at once, because its shard was not to be had.
struct Left<'q, Q: ?Sized> {
    asked: Asked<'q, Q>,
    /// Its place in the batch.
    position: usize,
}

impl<Q: ?Sized> Clone for Asked<'_, Q> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Q: ?Sized> Copy for Asked<'_, Q> {}

/// The positions of a batch, sorted by shard. The order within a shard is that of the batch.
struct Routing {
    /// Positions in the batch.
    order: SmallVec<[usize; INLINE]>,
    /// The shards that have a part of the batch, in the order of `order`.
    parts: SmallVec<[Part; INLINE]>,
}

/// One shard's part of a batch.
#[derive(Clone, Copy)]
struct Part {
    shard: usize,
    /// The part begins here in `order`, and ends at `end`.
    begin: usize,
    end: usize,
}

impl Routing {
    /// Sorts by counting. `items` are positions with their shards, each of which is below `shards`.
    fn new(items: impl Iterator<Item = (usize, usize)> + Clone, shards: usize) -> Self {
        let mut ends: SmallVec<[usize; INLINE + 1]> = smallvec![0; shards + 1];
        let mut length = 0;
        for (_, shard) in items.clone() {
            ends[shard + 1] += 1;
            length += 1;
        }
        let (mut begin, mut parts) = (0, SmallVec::new());
        for (shard, end) in ends[1..].iter_mut().enumerate() {
            let here = *end;
            *end += begin;
            if here != 0 {
                parts.push(Part { shard, begin, end: *end });
            }
            begin = *end;
        }
        let mut order = smallvec![0; length];
        // `ends[shard]` is where the part of that shard begins. It moves to the end of the part as the part
        // fills.
        for (position, shard) in items {
            order[ends[shard]] = position;
            ends[shard] += 1;
        }
        Self { order, parts }
    }

    /// The positions of a part.
    fn of(&self, part: &Part) -> &[usize] {
        &self.order[part.begin..part.end]
    }
}

impl<K, V, H> Cache<K, V, H>
where
    K: Hash + Eq + Send + 'static,
    V: Send + 'static,
    H: BuildHasher,
{
    /// Returns the values of many keys, in the order of the keys, as [`get`](Self::get) would one by one.
    ///
    /// With many keys it is cheaper than single look-ups if the entries don't fit in the processor's caches,
    /// because the memory of many is fetched at once. Shards that are busy, or run by threads of their own, get one
    /// message each. The batch as a whole is not atomic.
    ///
    /// ```
    /// let cache = sark_cache::Cache::new(100);
    /// cache.insert_many([("one".to_owned(), 1), ("two".to_owned(), 2)]);
    /// assert_eq!(cache.get_many(["two", "three", "one"]), [Some(2), None, Some(1)]);
    /// ```
    pub fn get_many<'q, Q>(&self, keys: impl IntoIterator<Item = &'q Q>) -> Vec<Option<V>>
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized + 'q,
        V: Clone,
    {
        let inner = self.inner();
        let mut keys = keys.into_iter();
        let mut values = Vec::with_capacity(keys.size_hint().0);
        let mut left = Vec::new();
        loop {
            let mut asked: SmallVec<[Asked<'q, Q>; TOGETHER]> = SmallVec::new();
            asked.extend(keys.by_ref().take(TOGETHER).map(|key| {
                let hash = inner.hash(key);
                Asked { key, hash, shard: inner.approach(hash), expected: Expected::default() }
            }));
            if !asked.is_empty() {
                if inner.pays_to_hold_shards_for(asked.len()) {
                    self.get_together(&mut asked, &mut values, &mut left);
                } else {
                    self.get_one_by_one(&asked, &mut values, &mut left);
                }
            }
            // With fewer keys than asked for, the iterator has said that there are no more. It must not be
            // asked again.
            if asked.len() < TOGETHER {
                break;
            }
        }
        if !left.is_empty() {
            self.get_by_messages(&left, inner.common.time.for_reading(), &mut values);
        }
        values
    }

    /// Looks up some keys one after the other, as far as their shards are to be had at once. The other keys go
    /// to `left`.
    fn get_one_by_one<'q, Q>(&self, asked: &[Asked<'q, Q>], values: &mut Vec<Option<V>>, left: &mut Vec<Left<'q, Q>>)
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
        V: Clone,
    {
        let inner = self.inner();
        let first = values.len();
        // Dropped when all are given back.
        let mut out = inner.outgoing();
        values.extend(asked.iter().enumerate().map(|(number, &asked)| {
            let Asked { key, hash, shard, .. } = asked;
            // Read for each key: when the shard of the one before was given back, other callers' code may have
            // run.
            let now = inner.common.time.for_reading();
            let Some(mut entered) = inner.delegates.enter(shard) else {
                left.push(Left { asked, position: first + number });
                return None;
            };
            entered.run(|cell| cell.get(hash, key, now, &mut out, V::clone))
        }));
    }

    /// Looks up some keys at the same time, as far as their shards are to be had at once. The other keys go
    /// to `left`.
    fn get_together<'q, Q>(&self, asked: &mut [Asked<'q, Q>], values: &mut Vec<Option<V>>, left: &mut Vec<Left<'q, Q>>)
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
        V: Clone,
    {
        // Read after all keys have come, since the iterator may take its time over them, and so may hashing.
        let now = self.inner().common.time.for_reading();
        // Made before the shards are taken. What expired is dropped after they are given back.
        let first = values.len();
        values.resize_with(first + asked.len(), || None);
        let mut out = self.inner().outgoing();
        let mut entered = self.inner().delegates.enter_several(asked.iter().map(|asked| asked.shard));
        // First ask for the memory that all look-ups need, then finish them, so that their cache misses
        // overlap. This helps even if the entries are in a cache of the core.
        entered.run_for_each(asked.iter_mut(), |cell, asked| {
            if let Some(cell) = cell {
                asked.expected = cell.shard.expect(asked.hash);
            }
        });
        entered.run_for_each(asked.iter().zip(&mut values[first..]).enumerate(), |cell, (number, (asked, value))| {
            let &Asked { key, hash, expected, .. } = asked;
            match cell {
                Some(cell) => *value = cell.get_expected(expected, (hash, key), now, &mut out, V::clone),
                None => left.push(Left { asked: *asked, position: first + number }),
            }
        });
    }

    /// Looks up keys whose shards are busy or run by threads of their own, with one message for each shard.
    fn get_by_messages<Q>(&self, left: &[Left<'_, Q>], now: Nanos, values: &mut [Option<V>])
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
        V: Clone,
    {
        let inner = self.inner();
        let routing = Routing::new(left.iter().map(|left| left.asked.shard).enumerate(), inner.delegates.len());
        // What expired is dropped at the end, with nothing held.
        let mut outs: Vec<_> = routing.parts.iter().map(|_| inner.outgoing()).collect();
        let requests = routing.parts.iter().zip(&mut outs).map(|(part, out)| {
            let places = routing.of(part);
            let request = move |cell: &mut Cell<K, V>| {
                let hashes: SmallVec<[u64; INLINE]> = places.iter().map(|&place| left[place].asked.hash).collect();
                let mut found = Vec::with_capacity(places.len());
                let read = |_, value: Option<&V>| found.push(value.cloned());
                cell.shard.get_batch(&hashes, |number| left[places[number]].asked.key, now, out, read);
                if !out.is_empty() {
                    cell.balance();
                }
                found
            };
            (part.shard, request)
        });
        for (part, found) in routing.parts.iter().zip(inner.run_each(requests.collect())) {
            for (&place, value) in routing.of(part).iter().zip(found) {
                values[left[place].position] = value;
            }
        }
    }

    /// Stores many entries, as [`insert`](Self::insert) would one by one.
    ///
    /// If a key comes more than once, its last value counts. Returns how many entries were not rejected; some
    /// of them may have left again for later ones of the same batch. If `Eq` panics, the entries of the batch
    /// that are not stored yet are dropped.
    pub fn insert_many(&self, entries: impl IntoIterator<Item = (K, V)>) -> usize {
        let inner = self.inner();
        let arrivals: Vec<_> =
            entries.into_iter().map(|(key, value)| inner.arrival(key, value, Lifetime::Default)).collect();
        // Read here, since the iterator may take its time over the entries.
        let now = inner.common.time.for_storing();
        let routed = arrivals.iter().map(|arrival| inner.route(arrival.hash));
        let routing = Routing::new(routed.enumerate(), inner.delegates.len());

        let ledger = &inner.common.ledger;
        // What they displace is dropped at the end, when everything is stored and nothing is held.
        let mut outs: Vec<_> = routing.parts.iter().map(|_| inner.outgoing()).collect();
        let mut arrivals: Vec<_> = arrivals.into_iter().map(Some).collect();
        let mut requests = Vec::with_capacity(routing.parts.len());
        for (part, out) in routing.parts.iter().zip(&mut outs) {
            let shard = part.shard;
            let part: Vec<_> = routing.of(part).iter().filter_map(|&position| arrivals[position].take()).collect();
            requests.push((shard, move |cell: &mut Cell<K, V>| {
                let mut kept = 0;
                let mut short = None;
                let mut part = part.into_iter();
                for arrival in part.by_ref() {
                    kept += usize::from(cell.insert(arrival, now, &mut &*ledger, out, &mut short));
                    if short.is_some() {
                        break;
                    }
                }
                // The rest of the part must not overtake the entry that waits for room: it may have the same
                // key.
                (kept, short, part, cell.earlier_alarm(now))
            }));
        }
        let untold = Untold { inner, parts: &routing.parts };
        let mut all_kept = 0;
        let answers = inner.run_each(requests);
        for ((&Part { shard, .. }, (kept, short, rest, alarm)), out) in routing.parts.iter().zip(answers).zip(&mut outs)
        {
            all_kept += kept;
            if let Some(delay) = alarm {
                inner.delegates.wake_in(shard, delay);
            }
            if let Some(short) = short {
                all_kept += usize::from(inner.insert_with_room_of_others(shard, short, now, &mut Unless::Never, out));
            }
            for arrival in rest {
                all_kept += usize::from(inner.insert_at(shard, arrival, now, out));
            }
        }
        drop(untold);
        all_kept
    }
}

/// Guards the shards of a batch until their new deadlines have been told to whatever reclaims. If a panic
/// comes first, workers look for themselves, and without workers `run_pending_tasks` asks every shard.
struct Untold<'b, K, V, H>
where
    K: Eq + Send + 'static,
    V: Send + 'static,
{
    inner: &'b Inner<K, V, H>,
    parts: &'b [Part],
}

impl<K, V, H> Drop for Untold<'_, K, V, H>
where
    K: Eq + Send + 'static,
    V: Send + 'static,
{
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        self.inner.common.expect_untold();
        if self.inner.common.workers_reclaim {
            for part in self.parts {
                self.inner.delegates.wake_in(part.shard, Duration::ZERO);
            }
        }
    }
}

impl<K, V, H> Inner<K, V, H>
where
    K: Eq + Send + 'static,
    V: Send + 'static,
{
    /// Whether it pays to hold the shards of so many keys at the same time.
    fn pays_to_hold_shards_for(&self, keys: usize) -> bool {
        // An entry's word and its place in the index take about as much as two words.
        let entry = (size_of::<K>() + size_of::<V>() + 2 * size_of::<u64>()) as u64;
        let is_near = || self.common.ledger.used().entries.saturating_mul(entry) <= NEAR;
        keys > FEW_NEAR || keys > FEW && !is_near()
    }

    /// Runs one request for each shard of a batch. Returns the answers in the order of the requests.
    fn run_each<F, R>(&self, requests: Vec<(usize, F)>) -> Vec<R>
    where
        F: FnOnce(&mut Cell<K, V>) -> R + Send,
        R: Send,
    {
        match self.delegates.run_each(requests) {
            Ok(results) => results,
            Err(error) => panic!("{error}"),
        }
    }
}
