//! `memory`: what a cache allocates per entry, beyond the key and the value themselves.
//!
//! A fresh cache is filled to its capacity, and the bytes allocated by then are divided by the number of
//! entries in it. A key and a value count with their own size and with what they point to. The rest is the
//! cache's: its table, order, deadlines and spare room.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Builder, Scenario};
use crate::allocation::Count;
use crate::case::Case;
use crate::contestants::{Absent, Contestant, Enter, Key, Name, Plan, Value};
use crate::measure::{Effort, Fields, Lap, Run};

/// Long enough that nothing expires during the measurement.
const TIME_TO_LIVE: Duration = Duration::from_secs(3600);

/// The scenario.
#[derive(Debug)]
pub struct Memory;

/// One of its cases.
#[derive(Clone, Copy, Debug)]
pub struct MemoryCase {
    entries: u64,
    strings: bool,
    expires: bool,
}

impl Scenario for Memory {
    type Case = MemoryCase;
    const NAME: &'static str = "memory";
    const FULL_RUN: (u64, Duration) = (1, Duration::MAX);
    /// Bytes don't depend on the state of the machine.
    const MOST_ROUNDS: u32 = 1;
    const CALIBRATED: bool = false;

    fn cases(&self) -> Vec<MemoryCase> {
        let mut cases = Vec::new();
        for strings in [false, true] {
            for entries in [10_000, 1_000_000] {
                cases.extend([false, true].map(|expires| MemoryCase { entries, strings, expires }));
            }
        }
        cases
    }

    fn words(&self, case: MemoryCase) -> Case {
        Case::new()
            .with("entries", case.entries)
            .with("kv", if case.strings { "string" } else { "u64" })
            .with("ttl", if case.expires { "on" } else { "off" })
    }

    fn prepare(&self, case: MemoryCase, _: &Effort) -> Builder {
        Box::new(move |name| {
            let time_to_live = case.expires.then_some(TIME_TO_LIVE);
            let plan = Plan { time_to_live, ..Plan::entries(case.entries) };
            if case.strings {
                // Keys of 32 bytes, values of 100.
                let make: fn(u64) -> (String, Arc<str>) = |number| (format!("{number:032}"), "v".repeat(100).into());
                fills(name, &plan, case, make)
            } else {
                let make: fn(u64) -> (u64, u64) = |number| (number, number);
                fills(name, &plan, case, make)
            }
        })
    }
}

fn fills<K: Key, V: Value>(
    name: Name,
    plan: &Plan,
    MemoryCase { entries, expires, .. }: MemoryCase,
    make: Make<K, V>,
) -> Result<Box<dyn Run>, Absent> {
    let build = Build { plan, entries, make };
    if expires { name.with_time_to_live(build) } else { name.with(build) }
}

/// A function that makes the n-th entry.
type Make<K, V> = fn(u64) -> (K, V);

struct Build<'a, K, V> {
    plan: &'a Plan,
    entries: u64,
    make: Make<K, V>,
}

impl<K: Key, V: Value> Enter<K, V> for Build<'_, K, V> {
    type Output = Result<Box<dyn Run>, Absent>;

    fn enter<C: Contestant<K, V>>(self) -> Self::Output {
        // Only checks that it can be built; the measured one is built while allocations are counted.
        C::build(self.plan)?;
        let Build { plan, entries, make } = self;
        Ok(Box::new(Fill::<K, V> { plan: plan.clone(), entries, make, fill: fill::<K, V, C>, outcome: Fields::new() }))
    }
}

struct Fill<K, V> {
    plan: Plan,
    entries: u64,
    make: Make<K, V>,
    fill: fn(&Plan, u64, Make<K, V>) -> Option<Filled>,
    outcome: Fields,
}

/// What was found once the cache was full.
struct Filled {
    bytes: i64,
    entries: u64,
    threads_owned: Option<usize>,
}

fn fill<K: Key, V: Value, C: Contestant<K, V>>(plan: &Plan, entries: u64, make: Make<K, V>) -> Option<Filled> {
    wait_for_threads_to_end();
    let threads_before = crate::machine::threads_of_others();
    let count = Count::begin();
    let cache = C::build(plan).ok()?;
    for number in 0..entries {
        let (key, value) = make(number);
        cache.insert(key, value);
    }
    let entries = cache.entries();
    let threads_owned = crate::machine::threads_since(threads_before);
    Some(Filled { bytes: count.bytes(), entries, threads_owned })
}

/// Waits for threads of earlier caches to end, since what they free would be subtracted from this cache's
/// bytes.
fn wait_for_threads_to_end() {
    const PATIENCE: Duration = Duration::from_secs(5);
    let begun = Instant::now();
    while crate::machine::threads_of_others().is_some_and(|threads| !threads.is_empty()) && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the bytes of a key and a value, and of what they point to.
fn own_bytes<K, V>(make: Make<K, V>) -> i64 {
    wait_for_threads_to_end();
    let count = Count::begin();
    let entry = make(0);
    let pointed_to = count.bytes();
    drop(entry);
    pointed_to + (size_of::<K>() + size_of::<V>()) as i64
}

impl<K: Key, V: Value> Run for Fill<K, V> {
    fn run(&mut self, _: u32, _: u64) -> Lap {
        let own = own_bytes(self.make);
        let Some(filled) = (self.fill)(&self.plan, self.entries, self.make) else { return Lap::default() };
        let per_entry = filled.bytes as f64 / filled.entries.max(1) as f64;
        self.outcome.insert("bytes_per_entry".into(), (per_entry - own as f64).into());
        self.outcome.insert("key_and_value_bytes".into(), own.into());
        self.outcome.insert("bytes".into(), filled.bytes.into());
        self.outcome.insert("entries".into(), filled.entries.into());
        self.outcome.insert("threads_then".into(), filled.threads_owned.into());
        // Keys and values are made while the cache fills, so that time says nothing about the cache.
        Lap::default()
    }

    fn threads_owned(&self) -> Option<usize> {
        Some(self.outcome.get("threads_then")?.as_u64()? as usize)
    }

    fn finish(&mut self) -> Fields {
        self.outcome.remove("threads_then");
        std::mem::take(&mut self.outcome)
    }
}
