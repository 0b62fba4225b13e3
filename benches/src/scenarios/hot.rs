//! `hot`: all threads read, modify and write the value of one key, for a fixed time.
//!
//! The scenario measures throughput, and whether every thread gets its share. A lock that lets its holder
//! take it again at once is fast and unfair, since the value never has to travel to another core.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Builder, FEW_ROUNDS, Scenario};
use crate::case::Case;
use crate::contestants::{EnterUpdating, Plan, Updating};
use crate::measure::{Effort, Fields, Lap, Run, Spread};
use crate::workload::threads::together;

/// The key that all threads update. The cache holds others too, so that it is built as usual.
const KEY: u64 = 1;
const ENTRIES: u64 = 10_000;

/// The time of every run, quick ones included. In a shorter run, the shares would show which thread was given
/// a processor and not which one got the value.
const TIME: Duration = Duration::from_secs(1);

/// Updates between two looks at the clock.
const CHUNK: u64 = 64;

/// The scenario.
#[derive(Debug)]
pub struct Hot;

/// One of its cases.
#[derive(Clone, Copy, Debug)]
pub struct HotCase {
    threads: usize,
}

impl Scenario for Hot {
    type Case = HotCase;
    const NAME: &'static str = "hot";
    const FULL_RUN: (u64, Duration) = (1, TIME);
    const QUICK_ROUNDS: u32 = FEW_ROUNDS;
    const CALIBRATED: bool = false;

    fn cases(&self) -> Vec<HotCase> {
        [1, 2, 8, 32].map(|threads| HotCase { threads }).into()
    }

    fn words(&self, case: HotCase) -> Case {
        Case::new().with("keys", 1).with("threads", case.threads)
    }

    fn prepare(&self, case: HotCase, _: &Effort) -> Builder {
        Box::new(move |name| name.with_updates::<u64, u64, _>(Build { threads: case.threads })?)
    }
}

struct Build {
    threads: usize,
}

impl EnterUpdating<u64, u64> for Build {
    type Output = Result<Box<dyn Run>, crate::contestants::Absent>;

    fn enter<C: Updating<u64, u64>>(self) -> Self::Output {
        let cache = C::build(&Plan::entries(ENTRIES))?;
        cache.insert_many((0..ENTRIES / 2).map(|key| (key, 0)));
        Ok(Box::new(Counter { cache, threads: self.threads, updates: 0, shares: Vec::new(), last: Vec::new() }))
    }
}

struct Counter<C> {
    cache: C,
    threads: usize,
    /// The updates of all rounds, to be compared with the value at the end.
    updates: u64,
    /// The slowest thread's updates over the fastest's, for each round.
    shares: Vec<f64>,
    last: Vec<u64>,
}

impl<C: Updating<u64, u64>> Run for Counter<C> {
    fn run(&mut self, _: u32, _: u64) -> Lap {
        // The first thread that sees that time is up ends the run for all, so that no thread counts for
        // longer.
        let over = AtomicBool::new(false);
        let (elapsed, counts) = together(self.threads, &|_| {
            let begun = Instant::now();
            let mut updates = 0;
            while !over.load(Ordering::Relaxed) {
                for _ in 0..CHUNK {
                    updates += u64::from(self.cache.update(&KEY, |value| *value += 1));
                }
                if begun.elapsed() >= TIME {
                    over.store(true, Ordering::Relaxed);
                }
            }
            updates
        });
        let operations = counts.iter().sum();
        self.updates += operations;
        let slowest = counts.iter().min().copied().unwrap_or(0);
        let fastest = counts.iter().max().copied().unwrap_or(0);
        self.shares.push(slowest as f64 / fastest.max(1) as f64);
        self.last = counts;
        Lap { elapsed, operations, gets: 0, hits: 0 }
    }

    fn finish(&mut self) -> Fields {
        let mut fields = self.cache.remarks();
        if let Some(shares) = Spread::of(self.shares.iter().copied()) {
            fields.insert("fairness".into(), shares.median.into());
            fields.insert("fairness_rounds".into(), json!(shares));
        }
        fields.insert("updates_of_threads".into(), json!(self.last));
        fields.insert("updates".into(), self.updates.into());
        fields.insert("value".into(), self.cache.get(&KEY).into());
        fields.insert("update".into(), self.cache.update_is().into());
        fields
    }
}
