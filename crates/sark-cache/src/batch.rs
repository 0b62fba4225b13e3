//! Many keys at once, so that what they have in common is done once and the memory they need is fetched at the same time.
//! A message serves a shard's part of a batch at one moment; the whole is not atomic.

use std::hash::{BuildHasher, Hash};

use equivalent::Equivalent;
use sark_delegate::Delegates;
use sark_shard::{Expected, Lifetime, Nanos};
use smallvec::{SmallVec, smallvec};

use crate::Cache;
use crate::outgoing::{Expired, Outgoing};
use crate::resident::Cell;

/// Batches of up to so many keys are routed without allocating, and so many are looked up together at most.
const INLINE: usize = 64;
/// So many shards are held together at most.
const MOST_ENTERED: usize = Delegates::<Cell<(), ()>>::MOST_ENTERED;

/// A cache of about so many bytes is near the processor: a fraction of a core's own cache, as they are built today.
const NEAR_BYTES: u64 = 1 << 20;
/// What an entry takes beside its key and value, as far as a look-up reads it: link, bucket and control byte.
const BYTES_PER_ENTRY: u64 = 16;

/// What a batch looks up: keys with their hashes and shards, and the time.
struct Lookups<'b, Q: ?Sized> {
    keys: &'b [&'b Q],
    hashes: &'b [u64],
    shards: &'b [usize],
    now: Nanos,
}

/// Positions of a batch, sorted by shard, stable within one.
struct Routing {
    /// Positions in the batch.
    order: SmallVec<[usize; INLINE]>,
    /// The shards that have a part, in the order of `order`.
    parts: SmallVec<[Part; INLINE]>,
}

/// What one shard has of a batch.
#[derive(Clone, Copy)]
struct Part {
    shard: usize,
    /// Where it begins and ends in `order`.
    begin: usize,
    end: usize,
}

impl Routing {
    /// A counting sort: `items` are positions with their shards, each of which is below `shards`.
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
        // `ends[shard]` is where the part of the shard begins, and moves to its end as it fills.
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

/// How many of the first parts are looked up together: as many as may be held at once, of `INLINE` keys at most.
fn together(parts: &[Part]) -> usize {
    let keys = |part: &Part| part.end - parts[0].begin;
    parts.iter().take(MOST_ENTERED).take_while(|part| keys(part) <= INLINE).count()
}

impl<K, V, H> Cache<K, V, H>
where
    K: Hash + Eq + Send + 'static,
    V: Send + 'static,
    H: BuildHasher,
{
    /// The values of many keys, in the order of the keys, as [`get`](Self::get) gives them one by one.
    ///
    /// Cheaper than single look-ups where entries don't fit in the processor's caches: the memory of many is fetched at once.
    /// Shards that are busy, or run by threads of their own, get one message each. The batch as a whole is not atomic.
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
        let bytes = inner.common.ledger.used().entries.saturating_mul(size_of::<(K, V)>() as u64 + BYTES_PER_ENTRY);
        if bytes <= NEAR_BYTES {
            return self.get_one_by_one(keys.into_iter(), now);
        }
        let keys: SmallVec<[&Q; INLINE]> = keys.into_iter().collect();
        let hashes: SmallVec<[u64; INLINE]> = keys.iter().map(|key| inner.hash(*key)).collect();
        let shards: SmallVec<[usize; INLINE]> = hashes.iter().map(|&hash| inner.approach(hash)).collect();
        self.get_together(&Lookups { keys: &keys, hashes: &hashes, shards: &shards, now })
    }

    /// Each key by itself: where memory is near, sorting keys by shard costs more than it saves. Those of busy shards are left
    /// to the end, and get one message a shard.
    fn get_one_by_one<'q, Q>(&self, keys: impl Iterator<Item = &'q Q>, now: Nanos) -> Vec<Option<V>>
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized + 'q,
        V: Clone,
    {
        let inner = self.inner();
        let mut values = Vec::with_capacity(keys.size_hint().0);
        let (mut busy, mut hashes, mut shards, mut positions) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for key in keys {
            let hash = inner.hash(key);
            let shard = inner.approach(hash);
            let mut expired = Expired::new();
            values.push(match inner.delegates.enter(shard) {
                Some(entered) => entered.run(|cell| cell.get(hash, key, now, &mut expired, V::clone)),
                None => {
                    busy.push(key);
                    hashes.push(hash);
                    shards.push(shard);
                    positions.push(values.len());
                    None
                }
            });
        }
        if !busy.is_empty() {
            let batch = Lookups { keys: &busy, hashes: &hashes, shards: &shards, now };
            let routing = Routing::new(shards.iter().copied().enumerate(), inner.delegates.len());
            let mut found: Vec<Option<V>> = std::iter::repeat_with(|| None).take(busy.len()).collect();
            self.get_by_messages(&routing.parts, &routing, &batch, &mut found);
            for (position, value) in positions.into_iter().zip(found) {
                values[position] = value;
            }
        }
        values
    }

    /// Keys of several shards at once, so that the memory of many entries is on its way at the same time.
    fn get_together<Q>(&self, batch: &Lookups<'_, Q>) -> Vec<Option<V>>
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
        V: Clone,
    {
        let delegates = &self.inner().delegates;
        let &Lookups { keys, hashes, now, .. } = batch;
        let routing = Routing::new(batch.shards.iter().copied().enumerate(), delegates.len());
        let mut values: Vec<Option<V>> = std::iter::repeat_with(|| None).take(keys.len()).collect();
        let mut left: SmallVec<[Part; INLINE]> = SmallVec::new();
        let mut out = Outgoing::new();
        let mut rest = routing.parts.as_slice();
        while let Some(first) = rest.first() {
            let count = together(rest);
            if count == 0 {
                // By itself it is more than is looked up together.
                left.push(*first);
                rest = &rest[1..];
                continue;
            }
            let (parts, others) = rest.split_at(count);
            rest = others;
            let mut expected = [Expected::default(); INLINE];
            let mut entered = delegates.enter_several(parts.iter().map(|part| part.shard));
            // First the memory that all of them need is asked for, then the look-ups are finished: their misses overlap.
            for (place, part) in parts.iter().enumerate() {
                let expected = &mut expected[part.begin - first.begin..];
                entered.run(place, |cell| {
                    for (expected, &position) in expected.iter_mut().zip(routing.of(part)) {
                        *expected = cell.shard.expect(hashes[position]);
                    }
                });
            }
            for (place, part) in parts.iter().enumerate() {
                let expected = &expected[part.begin - first.begin..];
                let done = entered.run(place, |cell| {
                    let before = out.len();
                    for (&expected, &position) in expected.iter().zip(routing.of(part)) {
                        let (hash, key) = (hashes[position], keys[position]);
                        values[position] = cell.shard.get_expected(expected, hash, key, now, &mut out, V::clone);
                    }
                    if out.len() != before {
                        cell.balance();
                    }
                });
                if done.is_none() {
                    left.push(*part);
                }
            }
        }
        if !left.is_empty() {
            self.get_by_messages(&left, &routing, batch, &mut values);
        }
        values
    }

    /// The parts of a batch whose shards are busy or run by threads of their own, and large ones.
    fn get_by_messages<Q>(&self, parts: &[Part], routing: &Routing, batch: &Lookups<'_, Q>, values: &mut [Option<V>])
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
        V: Clone,
    {
        let &Lookups { keys, hashes, now, .. } = batch;
        let requests = parts.iter().map(|part| {
            let positions = routing.of(part);
            let request = move |cell: &mut Cell<K, V>| {
                let mut out = Vec::new();
                let hashes: SmallVec<[u64; INLINE]> = positions.iter().map(|&position| hashes[position]).collect();
                let mut found = Vec::with_capacity(positions.len());
                let read = |_, value: Option<&V>| found.push(value.cloned());
                cell.shard.get_batch(&hashes, |number| keys[positions[number]], now, &mut out, read);
                if !out.is_empty() {
                    cell.balance();
                }
                (found, out)
            };
            (part.shard, request)
        });
        // What expired is dropped here, with nothing held.
        for (part, (found, _out)) in parts.iter().zip(self.inner().run_each(requests.collect())) {
            for (&position, value) in routing.of(part).iter().zip(found) {
                values[position] = value;
            }
        }
    }

    /// Stores many entries, as [`insert`](Self::insert) does one by one, later ones of a key over earlier ones. Returns how
    /// many are kept.
    pub fn insert_many(&self, entries: impl IntoIterator<Item = (K, V)>) -> usize {
        let inner = self.inner();
        let now = inner.common.time.for_storing();
        let arrivals: Vec<_> =
            entries.into_iter().map(|(key, value)| inner.arrival(key, value, Lifetime::Default)).collect();
        let routed = arrivals.iter().map(|arrival| inner.route(arrival.hash));
        let routing = Routing::new(routed.enumerate(), inner.delegates.len());

        let ledger = &inner.common.ledger;
        let mut arrivals: Vec<_> = arrivals.into_iter().map(Some).collect();
        let mut requests = Vec::with_capacity(routing.parts.len());
        for part in &routing.parts {
            let shard = part.shard;
            let part: Vec<_> = routing.of(part).iter().filter_map(|&position| arrivals[position].take()).collect();
            requests.push((shard, move |cell: &mut Cell<K, V>| {
                let mut out = Outgoing::new();
                let mut kept = 0;
                let mut short = None;
                let mut part = part.into_iter();
                for arrival in part.by_ref() {
                    kept += usize::from(cell.insert(arrival, now, &mut &*ledger, &mut out, &mut short));
                    if short.is_some() {
                        break;
                    }
                }
                // What follows must not overtake the one that waits for room: it may have the same key.
                (kept, short, part, cell.earlier_alarm(now), out)
            }));
        }
        let mut all_kept = 0;
        for (&Part { shard, .. }, (kept, short, rest, alarm, mut out)) in
            routing.parts.iter().zip(inner.run_each(requests))
        {
            all_kept += kept;
            if let Some(delay) = alarm {
                inner.delegates.wake_in(shard, delay);
            }
            if let Some(short) = short {
                all_kept += usize::from(inner.insert_with_room_of_others(shard, short, now, &mut out));
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
