//! Any sequence of the cache's operations from one thread, on a manual clock that may go back.
//!
//! With several shards, an observer can't tell which entry leaves. So the reference says what *may* be there,
//! with which value and until when. Whatever is missing must be accounted for: by the counts of evictions,
//! and only if the cache was full. With one shard, the entries that leave must be the least recently used.
#![no_main]

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use sark_cache::{Cache, Clock, Hands};

const KEYS: u8 = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key(u8);

impl Arbitrary<'_> for Key {
    fn arbitrary(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(Self(u8::arbitrary(input)? % KEYS))
    }
}

/// A hasher that is the same in each run, and that gives every sixth key the same hash.
#[derive(Clone, Copy, Default)]
struct FixedHasher(u64);

impl Hasher for FixedHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let key = if byte % 6 == 5 { 5 } else { byte };
            let mixed = (self.0 ^ u64::from(key)).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            self.0 = (mixed ^ (mixed >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        }
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}

impl BuildHasher for FixedHasher {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

/// A value that is counted while it exists, as is each of its clones.
#[derive(Clone, Debug)]
struct Value {
    number: u32,
    weight: u32,
    _witness: Arc<()>,
}

/// Nanoseconds, usually few.
#[derive(Clone, Copy, Debug)]
struct Span(u64);

impl Arbitrary<'_> for Span {
    fn arbitrary(input: &mut Unstructured<'_>) -> Result<Self> {
        let byte = u8::arbitrary(input)?;
        Ok(Self(match byte {
            0..220 => u64::from(byte % 100),
            220..250 => u64::from(u16::arbitrary(input)?),
            _ => u64::arbitrary(input)? >> (u8::arbitrary(input)? % 64),
        }))
    }
}

#[derive(Arbitrary, Debug)]
enum Step {
    Get(Key),
    GetMany(Vec<Key>),
    Insert(Key, u8),
    InsertWithTtl(Key, u8, Span),
    InsertMany(Vec<(Key, u8)>),
    PostInsert(Key, u8),
    UpdateOrInsert(Key, u8),
    Remove(Key),
    Invalidate(Key),
    InvalidateAll,
    Iterate,
    /// Keeps the values whose number has no bit in common with this.
    Retain(u8),
    SetCapacity(u8),
    RunPendingTasks,
    Pass(Span),
    Back(u8),
}

#[derive(Arbitrary, Debug)]
struct History {
    capacity: u8,
    shards: u8,
    /// Whether entries have weights; if so, the largest number of entries.
    weighted: Option<u8>,
    time_to_live: Option<Span>,
    time_to_idle: Option<Span>,
    steps: Vec<Step>,
}

struct Entry {
    key: Key,
    number: u32,
    weight: u64,
    /// The deadline from the time to live; `END` for never.
    fixed: u64,
    used: u64,
}

struct World {
    cache: Cache<Key, Value, FixedHasher>,
    hands: Hands,
    /// The entries that may be there, least recently used first. An entry past its deadline stays here as
    /// long as it may not have been reclaimed, since it is served again if the clock goes back.
    entries: Vec<Entry>,
    /// The time since the clock was made, and the latest that it has been.
    now: u64,
    latest: u64,
    time_to_live: Option<u64>,
    time_to_idle: Option<u64>,
    weighted: bool,
    most_entries: u64,
    capacity: u64,
    numbers: u32,
    evicted: u64,
    witness: Arc<()>,
}

/// What may be missing after a step.
#[derive(Clone, Copy, PartialEq)]
enum MayEvict {
    Nothing,
    /// Any entries, if the entries and the weight after the step, given here, are too much.
    ForEntries(u64, u64),
    Anything,
}

impl World {
    fn new(history: &History) -> Self {
        let (clock, hands) = Clock::manual();
        let capacity = u64::from(history.capacity.max(1));
        let most_entries = match history.weighted {
            Some(entries) => u64::from(entries.max(1)),
            None => capacity,
        };
        let shards = u64::from(history.shards).clamp(1, 6).min(most_entries) as usize;
        let time_to_live = history.time_to_live.map(|span| span.0.max(1));
        let time_to_idle = history.time_to_idle.map(|span| span.0.max(1));
        let mut builder = Cache::builder().max_capacity(capacity).shards(shards).workers(0).clock(clock);
        if history.weighted.is_some() {
            builder = builder.max_entries(most_entries).weigher(|_: &Key, value: &Value| value.weight);
        }
        if let Some(nanos) = time_to_live {
            builder = builder.time_to_live(Duration::from_nanos(nanos));
        }
        if let Some(nanos) = time_to_idle {
            builder = builder.time_to_idle(Duration::from_nanos(nanos));
        }
        Self {
            cache: builder.hasher(FixedHasher::default()).build().expect("every setting is in its range"),
            hands,
            entries: Vec::new(),
            now: 0,
            latest: 0,
            time_to_live,
            time_to_idle,
            weighted: history.weighted.is_some(),
            most_entries,
            capacity,
            numbers: 0,
            evicted: 0,
            witness: Arc::new(()),
        }
    }

    fn value(&mut self, weight: u8) -> Value {
        self.numbers += 1;
        Value { number: self.numbers, weight: weight.into(), _witness: Arc::clone(&self.witness) }
    }

    fn weight_of(&self, weight: u8) -> u64 {
        if self.weighted { weight.into() } else { 1 }
    }

    fn deadline(&self, entry: &Entry) -> u64 {
        let idle = self.time_to_idle.map_or(END, |idle| after(entry.used, idle));
        entry.fixed.min(idle)
    }

    fn is_live(&self, entry: &Entry) -> bool {
        self.now.min(END - 1) < self.deadline(entry)
    }

    fn find(&self, key: Key) -> Option<usize> {
        self.entries.iter().position(|entry| entry.key == key)
    }

    fn fits(&self, weight: u64) -> bool {
        // With capacity zero nothing fits, not even an entry of weight zero.
        weight <= self.capacity && self.capacity > 0 && self.most_entries > 0
    }

    /// Checks a look-up that counts as a use.
    fn use_it(&mut self, key: Key, got: Option<u32>) {
        let place = self.find(key);
        let live = place.filter(|&place| self.is_live(&self.entries[place]));
        assert_eq!(got, live.map(|place| self.entries[place].number), "{key:?}");
        if let Some(place) = place {
            let mut entry = self.entries.remove(place);
            if live.is_some() {
                entry.used = entry.used.max(self.now);
                self.entries.push(entry);
            }
        }
    }

    fn stored(&mut self, key: Key, number: u32, weight: u64, time_to_live: Option<u64>) {
        self.entries.retain(|entry| entry.key != key);
        if time_to_live != Some(0) && self.fits(weight) {
            let fixed = time_to_live.map_or(END, |nanos| after(self.now, nanos));
            self.entries.push(Entry { key, number, weight, fixed, used: self.now });
        }
    }

    fn removed(&mut self, key: Key, got: Option<u32>) {
        let place = self.find(key);
        let expected = place.map(|place| self.entries.remove(place)).filter(|entry| self.is_live(entry));
        assert_eq!(got, expected.map(|entry| entry.number));
    }

    fn insert(&mut self, key: Key, weight: u8, time_to_live: Option<Span>) {
        let value = self.value(weight);
        let (number, weight) = (value.number, self.weight_of(weight));
        let room = MayEvict::ForEntries(self.cache.entry_count() + 1, self.cache.weighted_size() + weight);
        let kept = match time_to_live {
            Some(span) => self.cache.insert_with_ttl(key, value, Duration::from_nanos(span.0)),
            None => self.cache.insert(key, value),
        };
        let lifetime = time_to_live.map(|span| span.0);
        assert_eq!(kept, self.fits(weight) && lifetime != Some(0), "whether {key:?} is kept");
        self.stored(key, number, weight, lifetime.or(self.time_to_live));
        self.settle(room);
        if kept {
            self.assert_kept(key, number);
        }
    }

    /// Checks that what was just stored is there, unless time went back and its deadline had been reached
    /// before.
    fn assert_kept(&self, key: Key, number: u32) {
        let kept = self.find(key).is_some_and(|place| self.entries[place].number == number);
        assert!(kept || self.now < self.latest, "{key:?} was kept and isn't there");
    }

    fn insert_many(&mut self, entries: &[(Key, u8)]) {
        let entries: Vec<_> = entries.iter().map(|&(key, weight)| (key, self.value(weight))).collect();
        let numbers: Vec<_> = entries.iter().map(|(key, value)| (*key, value.number, value.weight)).collect();
        let fitting = numbers.iter().filter(|&&(_, _, weight)| self.fits(self.weight_of(weight as u8))).count();
        let weights: u64 = numbers.iter().map(|&(_, _, weight)| self.weight_of(weight as u8)).sum();
        let room =
            MayEvict::ForEntries(self.cache.entry_count() + numbers.len() as u64, self.cache.weighted_size() + weights);
        assert_eq!(self.cache.insert_many(entries), fitting);
        for (key, number, weight) in numbers {
            self.stored(key, number, self.weight_of(weight as u8), self.time_to_live);
        }
        self.settle(room);
    }

    fn post_insert(&mut self, key: Key, weight: u8) {
        let value = self.value(weight);
        let (number, weight) = (value.number, self.weight_of(weight));
        let rejected = self.cache.stats().rejected;
        let room = MayEvict::ForEntries(self.cache.entry_count() + 1, self.cache.weighted_size() + weight);
        self.cache.post_insert(key, value);
        self.stored(key, number, weight, self.time_to_live);
        if self.cache.stats().rejected > rejected {
            let without_room = self.cache.shard_count() > 1 || !self.fits(weight);
            assert!(without_room, "a posted entry was rejected for which there was room");
            self.entries.retain(|entry| entry.key != key);
        }
        self.settle(room);
    }

    fn update_or_insert(&mut self, key: Key, weight: u8) {
        let value = self.value(weight);
        let (number, weight) = (value.number, self.weight_of(weight));
        let room = MayEvict::ForEntries(self.cache.entry_count() + 1, self.cache.weighted_size() + weight);
        let before = self.cache.update_or_insert(key, value, |there| std::mem::replace(&mut there.number, number));
        self.use_it(key, before);
        match self.entries.last_mut() {
            Some(entry) if before.is_some() => {
                entry.number = number;
                self.settle(MayEvict::Nothing);
            }
            _ => {
                self.stored(key, number, weight, self.time_to_live);
                self.settle(room);
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Get(key) => {
                let got = self.cache.get(key).map(|value| value.number);
                self.use_it(*key, got);
                self.settle(MayEvict::Nothing);
            }
            Step::GetMany(keys) => {
                let got = self.cache.get_many(keys);
                assert_eq!(got.len(), keys.len());
                for (key, got) in keys.iter().zip(&got) {
                    self.use_it(*key, got.as_ref().map(|value| value.number));
                }
                drop(got);
                self.settle(MayEvict::Nothing);
            }
            Step::Insert(key, weight) => self.insert(*key, *weight, None),
            Step::InsertWithTtl(key, weight, span) => self.insert(*key, *weight, Some(*span)),
            Step::InsertMany(entries) => self.insert_many(entries),
            Step::PostInsert(key, weight) => self.post_insert(*key, *weight),
            Step::UpdateOrInsert(key, weight) => self.update_or_insert(*key, *weight),
            Step::Remove(key) => {
                let got = self.cache.remove(key).map(|value| value.number);
                self.removed(*key, got);
                self.settle(MayEvict::Nothing);
            }
            Step::Invalidate(key) => {
                self.cache.invalidate(key);
                self.entries.retain(|entry| entry.key != *key);
                self.settle(MayEvict::Nothing);
            }
            Step::InvalidateAll => {
                self.cache.invalidate_all();
                self.entries.clear();
                assert_eq!((self.cache.entry_count(), self.cache.weighted_size()), (0, 0));
                self.settle(MayEvict::Nothing);
            }
            Step::Iterate => {
                let mut got: Vec<_> = self.cache.iter().map(|(key, value)| (key.0, value.number)).collect();
                let live = self.entries.iter().filter(|entry| self.is_live(entry));
                // Of those that may have been reclaimed, whether they were is told by a look at each.
                let there = live.filter(|entry| self.cache.contains_key(&entry.key));
                let mut expected: Vec<_> = there.map(|entry| (entry.key.0, entry.number)).collect();
                got.sort_unstable();
                expected.sort_unstable();
                assert_eq!(got, expected);
                self.settle(MayEvict::Nothing);
            }
            Step::Retain(unwanted) => {
                let mut refused = 0;
                let removed = self.cache.retain(|_, value| {
                    let wanted = value.number & u32::from(*unwanted) == 0;
                    refused += u64::from(!wanted);
                    wanted
                });
                assert_eq!(removed, refused);
                self.entries.retain(|entry| entry.number & u32::from(*unwanted) == 0);
                self.settle(MayEvict::Nothing);
            }
            Step::SetCapacity(capacity) => {
                self.capacity = u64::from(*capacity);
                if !self.weighted {
                    self.most_entries = self.capacity;
                }
                self.cache.set_capacity(self.capacity);
                assert_eq!(self.cache.capacity(), self.capacity);
                self.settle(MayEvict::Anything);
            }
            Step::RunPendingTasks => {
                self.cache.run_pending_tasks();
                self.settle(MayEvict::Nothing);
                let live = self.entries.iter().filter(|entry| self.is_live(entry)).count();
                assert_eq!(self.cache.entry_count(), live as u64, "not everything due was reclaimed");
            }
            Step::Pass(span) => {
                self.hands.advance(Duration::from_nanos(span.0));
                self.now = after(self.now, span.0);
                self.latest = self.latest.max(self.now);
            }
            Step::Back(span) => {
                self.now = self.now.saturating_sub((*span).into());
                self.hands.set(Duration::from_nanos(self.now));
                self.settle(MayEvict::Nothing);
            }
        }
    }

    /// Compares all keys, forgets those that have left, and checks that they were allowed to leave.
    fn settle(&mut self, room: MayEvict) {
        let (count, weight) = (self.cache.entry_count(), self.cache.weighted_size());
        assert!(count <= self.most_entries, "{count} entries, at most {} fit", self.most_entries);
        assert!(weight <= self.capacity, "they weigh {weight}, at most {} fit", self.capacity);
        assert_eq!(Arc::strong_count(&self.witness) as u64 - 1, count, "a value was lost, doubled or kept");

        let stats = self.cache.stats();
        let evicted = stats.evicted - self.evicted;
        self.evicted = stats.evicted;
        match room {
            MayEvict::Nothing => assert_eq!(evicted, 0, "evicted for nothing"),
            MayEvict::ForEntries(entries, weight) if evicted > 0 => {
                assert!(entries > self.most_entries || weight > self.capacity, "evicted though there was room");
            }
            _ => {}
        }

        let mut gone = 0;
        let mut first_left = true;
        let mut entries = std::mem::take(&mut self.entries);
        entries.retain(|entry| {
            let there = self.cache.peek(&entry.key);
            assert_eq!(there.is_some(), self.cache.contains_key(&entry.key));
            if !self.is_live(entry) {
                assert!(there.is_none(), "{:?} is served after its deadline", entry.key);
                return true;
            }
            match there {
                Some(value) => {
                    first_left = false;
                    assert_eq!(value.number, entry.number, "{:?} has an older value", entry.key);
                    let left = match self.deadline(entry) {
                        END => Duration::MAX,
                        deadline => Duration::from_nanos(deadline - self.now),
                    };
                    assert_eq!(self.cache.expires_in(&entry.key), Some(left));
                    true
                }
                None => {
                    let reclaimed_before = self.now < self.latest && self.deadline(entry) <= self.latest;
                    if !reclaimed_before {
                        gone += 1;
                        let in_order = first_left || self.cache.shard_count() > 1;
                        assert!(in_order, "{:?} left, one used less recently didn't", entry.key);
                    }
                    false
                }
            }
        });
        self.entries = entries;
        assert!(gone <= evicted, "{gone} live entries have gone, {evicted} were evicted");
        for key in (0..KEYS).map(Key).filter(|&key| self.find(key).is_none()) {
            assert!(!self.cache.contains_key(&key), "{key:?} should not be there");
        }
        let live = self.entries.iter().filter(|entry| self.is_live(entry));
        let (live, heavy) = live.fold((0, 0), |(live, heavy), entry| (live + 1, heavy + entry.weight));
        assert!(live <= count && heavy <= weight, "more is there than is counted");
    }
}

/// The end of the clock's range, which starts at one second. A deadline at this point never comes.
const END: u64 = u64::MAX - 1_000_000_000;

fn after(time: u64, nanos: u64) -> u64 {
    time.saturating_add(nanos).min(END)
}

fuzz_target!(|history: History| {
    let mut world = World::new(&history);
    for step in &history.steps {
        world.step(step);
    }
    let World { cache, witness, .. } = world;
    drop(cache);
    assert_eq!(Arc::strong_count(&witness), 1, "a value outlived the cache");
});
