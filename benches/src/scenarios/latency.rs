//! `latency`: how long single look-ups and insertions take in a full cache under churn, to the last percentiles.
//!
//! Each thread looks up a key that is used over and over, then inserts one never seen before, and times both. With
//! `ttl=on` a million entries fill the cache before each round whose time is up while it is measured, so that whatever a
//! cache does about the dead happens among the operations. What the clock itself costs is in every figure alike.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;

use super::{Builder, Scenario};
use crate::case::Case;
use crate::contestants::{Absent, Contestant, Enter, Plan};
use crate::measure::{Effort, Fields, Lap, Run};
use crate::percentiles::{histogram, merge, summary};
use crate::workload::keys::{Distribution, never_seen, sequence};
use crate::workload::threads::{share, together};

const CAPACITY: u64 = 1_000_000;
/// Keys that are asked for, few enough that every policy keeps them.
const WANTED: u32 = 20_000;
/// Filling takes about as long, so that the first entries die when the measurement begins. A cache that is filled sooner
/// waits.
const TIME_TO_LIVE: Duration = Duration::from_secs(1);
/// New keys of a round: more than any contestant comes to insert.
const NEW_KEYS: usize = 1 << 22;
/// The keys that fill the cache are those of laps that are never run.
const FILL: u32 = u32::MAX / 2;

/// The scenario.
#[derive(Debug)]
pub struct Latency;

/// One of its cases.
#[derive(Clone, Copy, Debug)]
pub struct LatencyCase {
    threads: usize,
    expires: bool,
}

impl Scenario for Latency {
    type Case = LatencyCase;
    const NAME: &'static str = "latency";
    const FULL_RUN: (u64, Duration) = (1, Duration::from_secs(1));
    const CALIBRATED: bool = false;

    fn cases(&self) -> Vec<LatencyCase> {
        let cases = [false, true].into_iter();
        cases.flat_map(|expires| [2, 8].map(|threads| LatencyCase { threads, expires })).collect()
    }

    fn words(&self, case: LatencyCase) -> Case {
        let ttl = if case.expires { "on" } else { "off" };
        Case::new().with("capacity", CAPACITY).with("threads", case.threads).with("ttl", ttl)
    }

    fn prepare(&self, case: LatencyCase, effort: &Effort) -> Builder {
        let asked: Arc<[u32]> = sequence(Distribution::Uniform, WANTED, 1 << 18, 5).into();
        let time = effort.budget;
        Box::new(move |name| {
            let time_to_live = case.expires.then_some(TIME_TO_LIVE);
            let plan = Plan { time_to_live, ..Plan::entries(CAPACITY) };
            let build = Build { plan: &plan, case, asked: Arc::clone(&asked), time };
            if case.expires { name.with_time_to_live::<u64, u64, _>(build) } else { name.with::<u64, u64, _>(build) }
        })
    }
}

struct Build<'a> {
    plan: &'a Plan,
    case: LatencyCase,
    asked: Arc<[u32]>,
    time: Duration,
}

impl Enter<u64, u64> for Build<'_> {
    type Output = Result<Box<dyn Run>, Absent>;

    fn enter<C: Contestant<u64, u64>>(self) -> Self::Output {
        let Build { plan, case: LatencyCase { threads, expires }, asked, time } = self;
        let cache = C::build(plan)?;
        let (gets, inserts) = (histogram(), histogram());
        let churn = Churn { cache, threads, expires, asked, time, gets, inserts, inserted: 0 };
        if !expires {
            churn.fill(0);
        }
        Ok(Box::new(churn))
    }
}

struct Churn<C> {
    cache: C,
    threads: usize,
    expires: bool,
    asked: Arc<[u32]>,
    time: Duration,
    gets: Histogram<u64>,
    inserts: Histogram<u64>,
    inserted: u64,
}

/// What one thread saw.
struct Seen {
    gets: Histogram<u64>,
    inserts: Histogram<u64>,
    hits: u64,
}

impl<C: Contestant<u64, u64>> Churn<C> {
    /// Fills the cache with keys that nobody asks for, and the wanted ones last.
    fn fill(&self, lap: u32) {
        let others = never_seen(FILL - lap, (CAPACITY - u64::from(WANTED)) as usize);
        self.cache.insert_many(others.into_iter().map(|key| (key, key)));
        self.cache.insert_many((0..u64::from(WANTED)).map(|key| (key, key)));
    }

    fn churn(&self, asked: &[u32], new: &[u64]) -> Seen {
        let mut seen = Seen { gets: histogram(), inserts: histogram(), hits: 0 };
        let begun = Instant::now();
        for (&key, &new) in asked.iter().cycle().zip(new) {
            let key = u64::from(key);
            let first = Instant::now();
            let found = black_box(self.cache.get(&key));
            let second = Instant::now();
            self.cache.insert(new, new);
            let third = Instant::now();
            seen.gets.saturating_record((second - first).as_nanos() as u64);
            seen.inserts.saturating_record((third - second).as_nanos() as u64);
            seen.hits += u64::from(found.is_some());
            if found.is_none() {
                self.cache.insert(key, key);
            }
            if third - begun >= self.time {
                break;
            }
        }
        seen
    }
}

impl<C: Contestant<u64, u64>> Run for Churn<C> {
    fn run(&mut self, lap: u32, _: u64) -> Lap {
        let new = never_seen(lap, NEW_KEYS);
        if self.expires {
            let begun = Instant::now();
            self.fill(lap);
            std::thread::sleep(TIME_TO_LIVE.saturating_sub(begun.elapsed()));
        }
        let (elapsed, seen) = together(self.threads, &|thread| {
            self.churn(share(&self.asked, thread, self.threads), share(&new, thread, self.threads))
        });
        let mut lap = Lap { elapsed, ..Lap::default() };
        for Seen { gets, inserts, hits } in seen {
            merge(&mut self.gets, &gets);
            merge(&mut self.inserts, &inserts);
            self.inserted += inserts.len();
            lap.operations += gets.len() + inserts.len();
            lap.gets += gets.len();
            lap.hits += hits;
        }
        lap
    }

    fn finish(&mut self) -> Fields {
        let mut fields = self.cache.remarks();
        let percentiles = json!({"get": summary(&self.gets), "insert": summary(&self.inserts)});
        fields.insert("percentiles_ns".into(), percentiles);
        fields.insert("inserted".into(), self.inserted.into());
        fields.insert("entries".into(), self.cache.entries().into());
        if self.expires {
            fields.insert("expiry".into(), self.cache.expiry().into());
        }
        fields
    }
}
