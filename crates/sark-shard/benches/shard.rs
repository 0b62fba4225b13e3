//! Benchmarks of a shard on its own: no clock, no ownership, no hashing.
//!
//! Run with `cargo bench -p sark-shard`. Each figure is for `u64` keys and values, hashed ahead; the time is
//! an argument. The growth stalls are single measurements, printed before the rest.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sark_shard::{Config, Lifetime, Nanos, NoPool, Removals, Removed, Room, Shard};

/// Drops what leaves, at once.
struct Discard;

impl<K, V> Removals<K, V> for Discard {
    fn push(&mut self, removed: Removed<K, V>) {
        drop(removed);
    }
}

/// splitmix64.
fn mix(key: u64) -> u64 {
    let z = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn insert(shard: &mut Shard<u64, u64>, key: u64, lifetime: Lifetime, now: u64) {
    let outcome = shard.insert(mix(key), key, key, 1, lifetime, Nanos(now), &mut NoPool, &mut Discard);
    black_box(&outcome);
}

fn filled(entries: u64, lifetime: Lifetime) -> Shard<u64, u64> {
    let mut shard =
        Shard::new(Config { budget: Room::for_entries(entries), capacity_hint: entries as usize, ..Config::default() });
    (0..entries).for_each(|key| insert(&mut shard, key, lifetime, 0));
    shard
}

/// Returns uniformly distributed keys with their hashes, in an order unrelated to that of memory.
fn asked(entries: u64) -> Vec<(u64, u64)> {
    (0..1 << 18).map(|i| mix(i ^ 0xABCD) % entries).map(|key| (mix(key), key)).collect()
}

fn hits(c: &mut Criterion) {
    for (name, entries, lifetime) in [
        ("hit, 10k entries", 10_000, Lifetime::Default),
        ("hit, 10k entries with deadlines", 10_000, Lifetime::For(1 << 40)),
        ("hit, 1M entries", 1_000_000, Lifetime::Default),
        ("hit, 1M entries with deadlines", 1_000_000, Lifetime::For(1 << 40)),
    ] {
        let mut shard = filled(entries, lifetime);
        let asked = asked(entries);
        let mut turn = asked.iter().cycle();
        c.bench_function(name, |b| {
            b.iter(|| {
                let &(hash, key) = turn.next().expect("a cycle");
                shard.get(hash, &key, Nanos(7), &mut Discard, |value| *value)
            });
        });
    }
}

fn batches(c: &mut Criterion) {
    let mut group = c.benchmark_group("64 keys of 1M entries");
    group.throughput(Throughput::Elements(64));
    let mut shard = filled(1_000_000, Lifetime::Default);
    let (hashes, keys): (Vec<u64>, Vec<u64>) = asked(1_000_000).into_iter().unzip();
    let mut turn = (0..hashes.len() / 64).cycle();
    group.bench_function("one by one", |b| {
        b.iter(|| {
            let from = turn.next().expect("a cycle") * 64;
            let mut sum = 0;
            for (&hash, key) in hashes[from..from + 64].iter().zip(&keys[from..]) {
                sum += shard.get(hash, key, Nanos(7), &mut Discard, |value| *value).unwrap_or(0);
            }
            sum
        });
    });
    group.bench_function("as a batch", |b| {
        b.iter(|| {
            let from = turn.next().expect("a cycle") * 64;
            let mut sum = 0;
            let each = |_: usize, value: Option<&u64>| sum += value.copied().unwrap_or(0);
            shard.get_batch(&hashes[from..from + 64], |i| &keys[from + i], Nanos(7), &mut Discard, each);
            sum
        });
    });
    group.finish();
}

fn insertions(c: &mut Criterion) {
    for (name, entries, lifetime) in [
        ("insert with eviction, 10k entries", 10_000, Lifetime::Default),
        ("insert with eviction and deadline, 10k entries", 10_000, Lifetime::For(1 << 40)),
        ("insert with eviction, 1M entries", 1_000_000, Lifetime::Default),
    ] {
        let mut shard = filled(entries, lifetime);
        let mut key = entries;
        c.bench_function(name, |b| {
            b.iter(|| {
                key += 1;
                insert(&mut shard, key, lifetime, key);
            });
        });
    }
    let mut shard = filled(10_000, Lifetime::For(1 << 40));
    let mut now = 0;
    c.bench_function("replace with a new deadline, 10k entries", |b| {
        b.iter(|| {
            now += 1;
            insert(&mut shard, mix(now) % 10_000, Lifetime::For(1 << 40), now);
        });
    });
}

fn advances(c: &mut Criterion) {
    let mut group = c.benchmark_group("advance");
    group.throughput(Throughput::Elements(10_000));
    group.sample_size(20);
    let spread = || {
        let mut shard = filled(10_000, Lifetime::Default);
        // Lifetimes of one to two minutes: they end within a minute, as a clock of milliseconds meets it.
        (0..10_000u64).for_each(|key| {
            let lifetime = Lifetime::For(60_000_000_000 + mix(key) % 60_000_000_000);
            insert(&mut shard, key, lifetime, 0);
        });
        shard
    };
    group.bench_function("10k entries, all at once", |b| {
        let expire = |shard: &mut Shard<u64, u64>| shard.advance(Nanos(1 << 40), usize::MAX, &mut Discard);
        b.iter_batched_ref(spread, expire, BatchSize::LargeInput);
    });
    group.bench_function("10k entries, in steps of 4 ms", |b| {
        let expire = |shard: &mut Shard<u64, u64>| {
            for step in 0..30_001 {
                shard.advance(Nanos(step * 4_000_000), 1000, &mut Discard);
            }
            assert!(shard.is_empty());
        };
        b.iter_batched_ref(spread, expire, BatchSize::LargeInput);
    });
    group.finish();
    let mut shard = spread();
    let mut now = 0;
    c.bench_function("advance, nothing due", |b| {
        b.iter(|| {
            now += 1;
            shard.advance(Nanos(now), 64, &mut Discard)
        });
    });
}

/// Prints the longest single insertion while a shard grows, best of a few runs: anything above is due to the
/// machine.
fn growth(_: &mut Criterion) {
    for (entries, hint) in [(65_536u64, 0usize), (65_536, 65_536), (1_000_000, 1_000_000)] {
        let longest = |lifetime| {
            let run = || {
                let config = Config { capacity_hint: hint, ..Config::default() };
                let mut shard = Shard::new(config);
                let timed = |key| {
                    let start = Instant::now();
                    insert(&mut shard, key, lifetime, 0);
                    start.elapsed()
                };
                (0..entries).map(timed).max().unwrap_or(Duration::ZERO)
            };
            (0..7).map(|_| run()).min().unwrap_or(Duration::ZERO)
        };
        println!(
            "longest insertion up to {entries} entries, hint {hint}: {:?}, with deadlines {:?}",
            longest(Lifetime::Default),
            longest(Lifetime::For(1 << 40)),
        );
    }
}

criterion_group! {
    name = shard;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = growth, hits, batches, insertions, advances
}
criterion_main!(shard);
