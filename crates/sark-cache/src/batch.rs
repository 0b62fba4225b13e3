//! Many keys at once: each shard gets its part in one message and serves it at one moment; the whole is not atomic.

use std::hash::{BuildHasher, Hash};

use equivalent::Equivalent;
use sark_shard::Lifetime;
use smallvec::{SmallVec, smallvec};

use crate::Cache;
use crate::outgoing::Outgoing;
use crate::resident::{Arrived, Cell};

/// Batches of up to so many keys are routed without allocating.
const INLINE: usize = 64;

/// Positions of a batch, sorted by shard, stable within one.
struct Routing {
    /// Positions in the batch.
    order: SmallVec<[usize; INLINE]>,
    /// The shards that have a part, each with where in `order` it ends.
    parts: SmallVec<[(usize, usize); INLINE]>,
}

impl Routing {
    /// A counting sort: `shard_of` gives a number below `shards` for each position.
    fn new(shard_of: impl Iterator<Item = usize> + Clone, shards: usize) -> Self {
        let mut ends: SmallVec<[usize; INLINE + 1]> = smallvec![0; shards + 1];
        let mut length = 0;
        for shard in shard_of.clone() {
            ends[shard + 1] += 1;
            length += 1;
        }
        let (mut begin, mut parts) = (0, SmallVec::new());
        for (shard, end) in ends[1..].iter_mut().enumerate() {
            let here = *end;
            *end += begin;
            if here != 0 {
                parts.push((shard, *end));
            }
            begin = *end;
        }
        let mut order = smallvec![0; length];
        // `ends[shard]` is where the part of the shard begins, and moves to its end as it fills.
        for (position, shard) in shard_of.enumerate() {
            order[ends[shard]] = position;
            ends[shard] += 1;
        }
        Self { order, parts }
    }
}

impl<K, V, H> Cache<K, V, H>
where
    K: Hash + Eq + Send + 'static,
    V: Send + 'static,
    H: BuildHasher,
{
    /// The values of many keys, in the order of the keys, as [`get`](Self::get) gives them one by one.
    ///
    /// Cheaper than single look-ups: one request per shard, and the memory of many entries is fetched at once.
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
        let now = inner.common.time.for_reading();
        let keys: SmallVec<[&Q; INLINE]> = keys.into_iter().collect();
        let hashes: SmallVec<[u64; INLINE]> = keys.iter().map(|key| inner.hash(*key)).collect();
        let routing = Routing::new(hashes.iter().map(|&hash| inner.route(hash)), inner.delegates.len());

        // The same batch in the order of the shards, so that each shard's part is one slice.
        let sorted_keys: SmallVec<[&Q; INLINE]> = routing.order.iter().map(|&position| keys[position]).collect();
        let sorted_hashes: SmallVec<[u64; INLINE]> = routing.order.iter().map(|&position| hashes[position]).collect();
        let mut sorted_values: Vec<Option<V>> = std::iter::repeat_with(|| None).take(keys.len()).collect();

        let mut requests = Vec::with_capacity(routing.parts.len());
        let (mut values_left, mut begin) = (sorted_values.as_mut_slice(), 0);
        for &(shard, end) in &routing.parts {
            let (values, rest) = values_left.split_at_mut(end - begin);
            values_left = rest;
            let (keys, hashes) = (&sorted_keys[begin..end], &sorted_hashes[begin..end]);
            begin = end;
            requests.push((shard, move |cell: &mut Cell<K, V>| {
                let mut out = Vec::new();
                let read = |position: usize, value: Option<&V>| values[position] = value.cloned();
                cell.shard.get_batch(hashes, |position| keys[position], now, &mut out, read);
                if !out.is_empty() {
                    cell.balance();
                }
                out
            }));
        }
        drop(inner.run_each(requests));

        let mut values: Vec<Option<V>> = std::iter::repeat_with(|| None).take(keys.len()).collect();
        for (position, value) in routing.order.into_iter().zip(sorted_values) {
            values[position] = value;
        }
        values
    }

    /// Stores many entries, as [`insert`](Self::insert) does one by one, later ones of a key over earlier ones. Returns how
    /// many are kept.
    pub fn insert_many(&self, entries: impl IntoIterator<Item = (K, V)>) -> usize {
        let inner = self.inner();
        let now = inner.common.time.for_storing();
        let arrivals: Vec<_> =
            entries.into_iter().map(|(key, value)| inner.arrival(key, value, Lifetime::Default)).collect();
        let routing = Routing::new(arrivals.iter().map(|arrival| inner.route(arrival.hash)), inner.delegates.len());

        let ledger = &inner.common.ledger;
        let mut arrivals: Vec<_> = arrivals.into_iter().map(Some).collect();
        let mut begin = 0;
        let mut requests = Vec::with_capacity(routing.parts.len());
        for &(shard, end) in &routing.parts {
            let part: Vec<_> =
                routing.order[begin..end].iter().filter_map(|&position| arrivals[position].take()).collect();
            begin = end;
            requests.push((shard, move |cell: &mut Cell<K, V>| {
                let mut out = Outgoing::new();
                let mut kept = 0;
                let mut short = None;
                let mut part = part.into_iter();
                for arrival in part.by_ref() {
                    match cell.insert(arrival, now, &mut &*ledger, &mut out) {
                        Arrived::Kept => kept += 1,
                        Arrived::Refused => {}
                        Arrived::Short { arrival, missing } => {
                            short = Some((arrival, missing));
                            break;
                        }
                    }
                }
                // What follows must not overtake the one that waits for room: it may have the same key.
                (kept, short, part, cell.earlier_alarm(now), out)
            }));
        }
        let mut all_kept = 0;
        for (&(shard, _), (kept, short, rest, alarm, mut out)) in routing.parts.iter().zip(inner.run_each(requests)) {
            all_kept += kept;
            if let Some(delay) = alarm {
                inner.delegates.wake_in(shard, delay);
            }
            if let Some((arrival, missing)) = short {
                all_kept += usize::from(inner.insert_with_room_of_others(shard, arrival, missing, now, &mut out));
            }
            for arrival in rest {
                all_kept += usize::from(inner.insert_at(shard, arrival, now, &mut out));
            }
        }
        all_kept
    }
}

impl<K, V, H> crate::cache::Inner<K, V, H>
where
    K: Eq + Send + 'static,
    V: Send + 'static,
{
    /// One request for each shard of a batch; answers in the order of the requests.
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
