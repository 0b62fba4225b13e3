//! Many keys at once: each shard gets its part in one message and serves it at one moment; the whole is not atomic.

use std::hash::{BuildHasher, Hash};

use equivalent::Equivalent;
use sark_shard::Lifetime;

use crate::Cache;
use crate::outgoing::Outgoing;
use crate::resident::{Arrived, Cell};

/// Positions of a batch, sorted by shard, stable within one.
struct Routing {
    /// Positions in the batch.
    order: Vec<usize>,
    /// Where in `order` the part of each shard that has one ends, with the shard.
    parts: Vec<(usize, usize)>,
}

impl Routing {
    /// A counting sort: `shard_of[position]` is below `shards`.
    fn new(shard_of: &[usize], shards: usize) -> Self {
        let mut ends = vec![0; shards + 1];
        for &shard in shard_of {
            ends[shard + 1] += 1;
        }
        for shard in 1..=shards {
            ends[shard] += ends[shard - 1];
        }
        let mut order = vec![0; shard_of.len()];
        // `ends[shard]` is where the part of the shard begins, and moves to its end as it fills.
        for (position, &shard) in shard_of.iter().enumerate() {
            order[ends[shard]] = position;
            ends[shard] += 1;
        }
        let mut begin = 0;
        let mut parts = Vec::new();
        for (shard, &end) in ends[..shards].iter().enumerate() {
            if end > begin {
                parts.push((shard, end));
            }
            begin = end;
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
        let keys: Vec<&Q> = keys.into_iter().collect();
        let hashes: Vec<u64> = keys.iter().map(|key| inner.hash(*key)).collect();
        let shard_of: Vec<usize> = hashes.iter().map(|&hash| inner.route(hash)).collect();
        let routing = Routing::new(&shard_of, inner.delegates.len());

        // The same batch in the order of the shards, so that each shard's part is one slice.
        let sorted_keys: Vec<&Q> = routing.order.iter().map(|&position| keys[position]).collect();
        let sorted_hashes: Vec<u64> = routing.order.iter().map(|&position| hashes[position]).collect();
        let mut sorted_values: Vec<Option<V>> = std::iter::repeat_with(|| None).take(keys.len()).collect();

        let mut requests = Vec::with_capacity(routing.parts.len());
        let (mut values_left, mut begin) = (sorted_values.as_mut_slice(), 0);
        for &(shard, end) in &routing.parts {
            let (values, rest) = values_left.split_at_mut(end - begin);
            values_left = rest;
            let (keys, hashes) = (&sorted_keys[begin..end], &sorted_hashes[begin..end]);
            begin = end;
            requests.push((shard, move |cell: &mut Cell<K, V>| {
                let mut out = Outgoing::new();
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
        let shard_of: Vec<usize> = arrivals.iter().map(|arrival| inner.route(arrival.hash)).collect();
        let routing = Routing::new(&shard_of, inner.delegates.len());

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
                let mut short = Vec::new();
                for arrival in part {
                    match cell.insert(arrival, now, &mut &*ledger, &mut out) {
                        Arrived::Kept => kept += 1,
                        Arrived::Refused => {}
                        Arrived::Short { arrival, missing } => short.push((arrival, missing)),
                    }
                }
                (kept, short, cell.earlier_alarm(now), out)
            }));
        }
        let mut all_kept = 0;
        for ((shard, _), (kept, short, alarm, mut out)) in routing.parts.iter().zip(inner.run_each(requests)) {
            all_kept += kept;
            if let Some(delay) = alarm {
                inner.delegates.wake_in(*shard, delay);
            }
            for (arrival, missing) in short {
                all_kept += usize::from(inner.insert_with_room_of_others(*shard, arrival, missing, now, &mut out));
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
