//! How many instructions the hot paths take, counted by valgrind's callgrind: a guard that no mood of a machine can trip.
//!
//! `make counts` runs it, and fails when a path takes more than its limit. Times belong elsewhere: a cache line on its way
//! between two processors is one instruction here.
//!
//! Each path is walked [`TIMES`] times by one thread over [`ENTRIES`] entries, which all fit the caches of the simulated
//! processor, with keys and hasher fixed. Deadlines stand on a clock moved by hand, since what the machine's clock costs depends
//! on the system. A limit is what was counted with Rust 1.95 on x86-64, and 4 % more for what another compiler may do
//! differently. When a change lowers a count for good, lower its limit with it.

use std::hint::black_box;
use std::time::Duration;

use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind};
use sark_cache::{Cache, Clock};
use sark_shard::{Config, Lifetime, Nanos, NoPool, Removed, Room, Shard};

/// Entries of each cache.
const ENTRIES: u64 = 10_000;
/// How often a path is walked.
const TIMES: u64 = 1024;
/// Keys of a batch.
const BATCH: usize = 64;
/// The number of shards would follow from the machine's processors.
const SHARDS: usize = 16;

type Hasher = ahash::RandomState;
type Counted = Cache<u64, u64, Hasher>;

fn hasher() -> Hasher {
    Hasher::with_seeds(1, 2, 3, 4)
}

/// At most so many instructions for one walk along a path. A loop's own are among them.
fn at_most(each: u64) -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::default();
    callgrind.hard_limits([(EventKind::Ir, each * TIMES)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

/// A full cache, and keys in it.
fn full(time_to_live: Option<Duration>) -> (Counted, Vec<u64>) {
    let (clock, _) = Clock::manual();
    let mut builder = Cache::builder().max_capacity(ENTRIES).shards(SHARDS).clock(clock);
    if let Some(time) = time_to_live {
        builder = builder.time_to_live(time);
    }
    let cache = builder.hasher(hasher()).build().expect("the configuration is valid");
    // More than there is room for, so that no shard has a place left; the last are there.
    (0..2 * ENTRIES).for_each(|key| drop(cache.insert(key, key)));
    (cache, (0..TIMES).map(|time| 2 * ENTRIES - 1 - time).collect())
}

fn without_deadlines() -> (Counted, Vec<u64>) {
    full(None)
}

fn with_deadlines() -> (Counted, Vec<u64>) {
    full(Some(Duration::from_secs(60)))
}

/// Keys that nobody inserted.
fn with_strange_keys() -> (Counted, Vec<u64>) {
    let (cache, keys) = full(None);
    (cache, keys.into_iter().map(|key| key + 1_000_000).collect())
}

/// A shard and keys in it, with their hashes.
fn bare() -> (Shard<u64, u64>, Vec<(u64, u64)>) {
    let mut shard =
        Shard::new(Config { budget: Room::for_entries(ENTRIES), capacity_hint: ENTRIES as usize, ..Config::default() });
    let mut gone: Vec<Removed<u64, u64>> = Vec::new();
    let hasher = hasher();
    for key in 0..ENTRIES {
        let hash = hasher.hash_one(key);
        let stored = shard.insert(hash, key, key, 1, Lifetime::Forever, Nanos(0), &mut NoPool, &mut gone);
        assert!(stored.is_ok(), "there is room");
    }
    (shard, (0..TIMES).map(|key| (hasher.hash_one(key), key)).collect())
}

/// What is counted with the caches goes back, so that dropping it is not.
type Walked = (Counted, Vec<u64>);

fn look_up((cache, keys): Walked) -> Walked {
    for key in &keys {
        black_box(cache.get(black_box(key)));
    }
    (cache, keys)
}

#[library_benchmark(config = at_most(HIT), teardown = drop)]
#[bench::of_64_bits(without_deadlines())]
fn hit(walk: Walked) -> Walked {
    look_up(walk)
}

#[library_benchmark(config = at_most(HIT_WITH_DEADLINE), teardown = drop)]
#[bench::of_64_bits(with_deadlines())]
fn hit_with_deadline(walk: Walked) -> Walked {
    look_up(walk)
}

#[library_benchmark(config = at_most(MISS), teardown = drop)]
#[bench::of_64_bits(with_strange_keys())]
fn miss(walk: Walked) -> Walked {
    look_up(walk)
}

#[library_benchmark(config = at_most(INSERT_THAT_EVICTS), teardown = drop)]
#[bench::of_64_bits(with_strange_keys())]
fn insert_that_evicts((cache, keys): Walked) -> Walked {
    for &key in &keys {
        black_box(cache.insert(black_box(key), key));
    }
    (cache, keys)
}

#[library_benchmark(config = at_most(KEY_OF_A_BATCH), teardown = drop)]
#[bench::of_64(without_deadlines())]
fn batch((cache, keys): Walked) -> Walked {
    for batch in keys.chunks(BATCH) {
        black_box(cache.get_many(black_box(batch)));
    }
    (cache, keys)
}

#[library_benchmark(config = at_most(HIT_ON_A_BARE_SHARD), teardown = drop)]
#[bench::hashed_before(bare())]
fn bare_shard_hit((mut shard, keys): (Shard<u64, u64>, Vec<(u64, u64)>)) -> (Shard<u64, u64>, Vec<(u64, u64)>) {
    let mut gone: Vec<Removed<u64, u64>> = Vec::new();
    for (hash, key) in &keys {
        black_box(shard.get(*hash, black_box(key), Nanos(0), &mut gone, |value| *value));
    }
    (shard, keys)
}

// The limits, in instructions.
const HIT: u64 = 1;
const HIT_WITH_DEADLINE: u64 = 1;
const MISS: u64 = 1;
const INSERT_THAT_EVICTS: u64 = 1;
const KEY_OF_A_BATCH: u64 = 1;
const HIT_ON_A_BARE_SHARD: u64 = 1;

library_benchmark_group!(
    name = paths,
    benchmarks = [hit, hit_with_deadline, miss, insert_that_evicts, batch, bare_shard_hit]
);
main!(library_benchmark_groups = paths);
