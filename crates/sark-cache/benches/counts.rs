//! Counts the instructions that the hot paths take, with valgrind's callgrind. This guards them against
//! regressions whatever the machine's mood.
//!
//! `make counts` runs it, and fails if a path takes more than its limit. If valgrind is not installed, it
//! says that nothing was counted. Times are measured elsewhere: a cache line on its way between two
//! processors is one instruction here.
//!
//! One thread walks each path [`TIMES`] times in a full cache of [`ENTRIES`], with fixed keys and a fixed
//! hasher. Deadlines are kept on a clock that is moved by hand, since the cost of the machine's clock depends
//! on the system. The program runs itself under callgrind once for each path, and only what [`counted`] calls
//! is counted. Harnesses that do the same would need some hundred crates more.

use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::time::Duration;

use sark_cache::{Builder, Cache, Clock};
use sark_shard::{Config, Insertion, Lifetime, Nanos, NoPool, Removed, Room, Shard};

/// The entries of each cache.
const ENTRIES: u64 = 10_000;
/// How often a path is walked. This is often enough to count work that is put off and done once in a thousand
/// times.
const TIMES: u64 = 65_536;
/// How many keys are walked over, in a random-looking order. They are those stored last, so they are in the
/// cache.
const WALKED: u64 = 8_000;
/// The keys of a batch.
const BATCH: usize = 64;
/// Fixed, since the number of shards would otherwise follow from the machine's processors.
const SHARDS: usize = 16;

/// The paths, each with the most instructions that one walk may take. The loop's own instructions are
/// included.
///
/// A limit is what was counted with Rust 1.95 on x86-64, plus some 4 % for what another compiler may do
/// differently. When a change lowers a count for good, its limit is lowered with it.
const PATHS: [(&str, fn(), u64); 9] = [
    ("hit", hit, 128),
    ("hit-with-deadline", hit_with_deadline, 143),
    ("hit-with-time-to-idle", hit_with_time_to_idle, 291),
    ("miss", miss, 112),
    ("insert-that-evicts", insert_that_evicts, 536),
    ("insert-with-deadline", insert_with_deadline, 577),
    ("replacement", replacement, 369),
    ("key-of-a-batch", key_of_a_batch, 177),
    ("bare-shard-hit", bare_shard_hit, 59),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, walk, name] = &arguments[..]
        && walk == WALK
    {
        PATHS.iter().filter(|(path, ..)| path == name).for_each(|(_, walk, _)| walk());
        return ExitCode::SUCCESS;
    }
    if cfg!(debug_assertions) || Command::new("valgrind").arg("--version").output().is_err() {
        println!("SKIPPED, nothing was counted: it takes an optimized build, and valgrind.");
        return ExitCode::SUCCESS;
    }
    let mut code = ExitCode::SUCCESS;
    for (name, _, limit) in PATHS {
        match count(name) {
            Ok(each) => {
                let verdict = if each > limit { "TOO MANY" } else { "fine" };
                println!("{name:21} {each:5} instructions, at most {limit:5}: {verdict}");
                if each > limit {
                    code = ExitCode::FAILURE;
                }
            }
            Err(why) => {
                println!("{name:21} was not counted: {why}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// The argument with which the program runs itself.
const WALK: &str = "--walk";

/// Counts the instructions of one walk along a path, rounded up.
fn count(name: &str) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--toggle-collect=*counts*counted*", "--callgrind-out-file=/dev/null"]);
    let output = valgrind.arg(program).args([WALK, name]).output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse::<u64>().ok());
    // A run that counted nothing would pass every limit.
    collected.filter(|all| *all > TIMES).map(|all| all.div_ceil(TIMES)).ok_or_else(|| said.into_owned())
}

/// Runs what is counted. Callgrind knows this function by its name.
#[inline(never)]
fn counted(walk: &mut dyn FnMut()) {
    walk();
}

type Hasher = ahash::RandomState;
type Counted = Cache<u64, u64, Hasher>;

fn hasher() -> Hasher {
    Hasher::with_seeds(1, 2, 3, 4)
}

/// A full cache, with further settings if need be, and keys that are in it.
fn full(set: impl FnOnce(Builder<u64, u64>) -> Builder<u64, u64>) -> (Counted, Vec<u64>) {
    let (clock, _) = Clock::manual();
    let builder = set(Cache::builder().max_capacity(ENTRIES).shards(SHARDS).clock(clock));
    let cache = builder.hasher(hasher()).build().expect("the configuration is valid");
    // More than there is room for, so that no shard has a free place. The last ones are in the cache.
    for key in 0..2 * ENTRIES {
        cache.insert(key, key);
    }
    (cache, walk().map(|key| 2 * ENTRIES - 1 - key).collect())
}

fn plain(builder: Builder<u64, u64>) -> Builder<u64, u64> {
    builder
}

fn with_deadlines(builder: Builder<u64, u64>) -> Builder<u64, u64> {
    builder.time_to_live(Duration::from_secs(60))
}

/// Numbers below [`WALKED`], the same in every run.
fn walk() -> impl Iterator<Item = u64> {
    (1..=TIMES)
        .map(|time| (time.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 40)
        .map(|n| n % WALKED)
}

/// As many keys, none of which is in the cache.
fn strange(keys: Vec<u64>) -> Vec<u64> {
    keys.into_iter().map(|key| key + 1_000_000).collect()
}

fn look_up(cache: &Counted, keys: &[u64]) {
    counted(&mut || {
        for key in keys {
            black_box(cache.get(black_box(key)));
        }
    });
}

fn hit() {
    let (cache, keys) = full(plain);
    look_up(&cache, &keys);
    assert_eq!(cache.stats().hits, TIMES);
}

fn hit_with_deadline() {
    let (cache, keys) = full(with_deadlines);
    look_up(&cache, &keys);
    assert_eq!(cache.stats().hits, TIMES);
}

fn hit_with_time_to_idle() {
    let (cache, keys) = full(|builder| builder.time_to_idle(Duration::from_secs(60)));
    look_up(&cache, &keys);
    assert_eq!(cache.stats().hits, TIMES);
}

fn miss() {
    let (cache, keys) = full(plain);
    look_up(&cache, &strange(keys));
    assert_eq!(cache.stats().misses, TIMES);
}

fn insert_that_evicts() {
    insert_into(&full(plain).0);
}

fn insert_with_deadline() {
    insert_into(&full(with_deadlines).0);
}

/// Inserts new keys into a full cache.
fn insert_into(cache: &Counted) {
    let before = cache.stats().evicted;
    counted(&mut || {
        for key in 1_000_000..1_000_000 + TIMES {
            black_box(cache.insert(black_box(key), key));
        }
    });
    assert_eq!(cache.stats().evicted - before, TIMES);
}

fn replacement() {
    let (cache, keys) = full(plain);
    counted(&mut || {
        for &key in &keys {
            black_box(cache.insert(black_box(key), key));
        }
    });
    assert_eq!(cache.stats().replaced, TIMES);
}

fn key_of_a_batch() {
    let (cache, keys) = full(plain);
    counted(&mut || {
        for batch in keys.chunks(BATCH) {
            black_box(cache.get_many(black_box(batch)));
        }
    });
    assert_eq!(cache.stats().hits, TIMES);
}

fn bare_shard_hit() {
    let mut shard =
        Shard::new(Config { budget: Room::for_entries(ENTRIES), capacity_hint: ENTRIES as usize, ..Config::default() });
    let mut gone: Vec<Removed<u64, u64>> = Vec::new();
    let hasher = hasher();
    for key in 0..ENTRIES {
        let hash = hasher.hash_one(key);
        let stored = shard.insert(hash, key, key, 1, Lifetime::Forever, Nanos(0), &mut NoPool, &mut gone);
        assert!(matches!(stored, Insertion::Inserted));
    }
    let asked: Vec<(u64, u64)> = walk().map(|key| (hasher.hash_one(key), key)).collect();
    counted(&mut || {
        for (hash, key) in &asked {
            black_box(shard.get(*hash, black_box(key), Nanos(0), &mut gone, |value| *value));
        }
    });
    assert_eq!(shard.counters().hits, TIMES);
}
