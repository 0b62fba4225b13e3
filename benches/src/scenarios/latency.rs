//! `latency`: how long single look-ups and insertions take in a full cache under churn, up to the highest
//! percentiles.
//!
//! Each thread looks up a key that is used over and over, then inserts one never seen before, and times both.
//! With `ttl=on` each round has its own cache, filled with a million entries that expire during the
//! measurement, so that whatever a cache does about expired entries happens among the operations. The cost of
//! reading the clock is in every figure alike.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::{Builder, FEW_ROUNDS, Scenario, fill_within};
use crate::case::Case;
use crate::contestants::{Absent, Contestant, Enter, Plan};
use crate::machine;
use crate::measure::{Effort, Fields, Lap, Run};
use crate::percentiles::{histogram, merge, summary};
use crate::workload::keys::{Distribution, never_seen, sequence};
use crate::workload::threads::{share, together};

const CAPACITY: u64 = 1_000_000;
/// The keys looked up, few enough that every policy keeps them.
const WANTED: u32 = 20_000;
/// About as long as filling takes, so that the first entries expire when the measurement begins. If a cache
/// is filled sooner, the scenario waits.
const TIME_TO_LIVE: Duration = Duration::from_secs(1);
/// New keys per round: more than any contestant gets to insert.
const NEW_KEYS: usize = 1 << 22;
/// The keys that fill the cache come from laps that are never run.
const FILL: u32 = u32::MAX / 2;
/// The time limit for filling, which is not measured itself. The row says if filling was cut short.
const FILL_TIME: Duration = Duration::from_secs(10);
/// With fewer operations there is no 99.99th percentile.
const ENOUGH: u64 = 10_000;

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
    const QUICK_ROUNDS: u32 = FEW_ROUNDS;
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
        let mut churn = Churn {
            cache: None,
            plan: plan.clone(),
            build: C::build,
            threads,
            expires,
            asked,
            time,
            gets: Operations::default(),
            inserts: Operations::default(),
            filling: Duration::ZERO,
            cut: None,
            threads_owned: None,
            outcome: Fields::new(),
        };
        if !expires {
            churn.fill(&cache, 0);
            churn.cache = Some(cache);
        }
        Ok(Box::new(churn))
    }
}

struct Churn<C> {
    /// The cache of all rounds; `None` if entries expire, since each round then has its own.
    cache: Option<C>,
    plan: Plan,
    build: fn(&Plan) -> Result<C, Absent>,
    threads: usize,
    expires: bool,
    asked: Arc<[u32]>,
    time: Duration,
    gets: Operations,
    inserts: Operations,
    /// The longest time that filling took.
    filling: Duration,
    /// The number of entries stored if filling was cut short, the smallest of all rounds.
    cut: Option<u64>,
    threads_owned: Option<usize>,
    /// The cache's remarks after the last round.
    outcome: Fields,
}

/// How long operations of one kind took: a histogram over all rounds, and a summary for each round.
struct Operations {
    all: Histogram<u64>,
    rounds: Vec<Value>,
}

impl Default for Operations {
    fn default() -> Self {
        Self { all: histogram(), rounds: Vec::new() }
    }
}

impl Operations {
    /// Adds a round, and returns how many operations it had.
    fn take<'a>(&mut self, seen: impl Iterator<Item = &'a Histogram<u64>>) -> u64 {
        let mut round = histogram();
        seen.for_each(|thread| merge(&mut round, thread));
        merge(&mut self.all, &round);
        self.rounds.push(summary(&round));
        round.len()
    }
}

/// The measurements of one thread.
struct Seen {
    gets: Histogram<u64>,
    inserts: Histogram<u64>,
    hits: u64,
}

impl<C: Contestant<u64, u64>> Churn<C> {
    /// Fills the cache with keys that are never looked up, and with the wanted ones last.
    fn fill(&mut self, cache: &C, lap: u32) {
        let others = never_seen(FILL - lap, (CAPACITY - u64::from(WANTED)) as usize);
        let begun = Instant::now();
        let stored = fill_within(cache, others.into_iter().map(|key| (key, key)), FILL_TIME)
            + fill_within(cache, (0..u64::from(WANTED)).map(|key| (key, key)), FILL_TIME);
        self.filling = self.filling.max(begun.elapsed());
        if stored < CAPACITY {
            self.cut = Some(self.cut.map_or(stored, |before| before.min(stored)));
        }
    }

    fn churn(&self, cache: &C, asked: &[u32], new: &[u64]) -> Seen {
        let mut seen = Seen { gets: histogram(), inserts: histogram(), hits: 0 };
        let begun = Instant::now();
        for (&key, &new) in asked.iter().cycle().zip(new) {
            let key = u64::from(key);
            let first = Instant::now();
            let found = black_box(cache.get(&key));
            let second = Instant::now();
            cache.insert(new, new);
            let third = Instant::now();
            seen.gets.saturating_record((second - first).as_nanos() as u64);
            seen.inserts.saturating_record((third - second).as_nanos() as u64);
            seen.hits += u64::from(found.is_some());
            if found.is_none() {
                cache.insert(key, key);
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
        let before = machine::threads_of_others();
        // If entries expire, each round builds a new cache: one still full of an earlier round's expired
        // entries would have to be filled against them.
        let Some(cache) = self.cache.take().or_else(|| (self.build)(&self.plan).ok()) else { return Lap::default() };
        if self.expires {
            let begun = Instant::now();
            self.fill(&cache, lap);
            std::thread::sleep(TIME_TO_LIVE.saturating_sub(begun.elapsed()));
        }
        let (elapsed, seen) = together(self.threads, &|thread| {
            let asked = share(&self.asked, thread, self.threads);
            self.churn(&cache, asked, share(&new, thread, self.threads))
        });
        let gets = self.gets.take(seen.iter().map(|thread| &thread.gets));
        let inserts = self.inserts.take(seen.iter().map(|thread| &thread.inserts));
        let hits = seen.iter().map(|thread| thread.hits).sum();
        self.outcome = cache.remarks();
        self.outcome.insert("entries".into(), cache.entries().into());
        if self.expires {
            self.outcome.insert("expiry".into(), cache.expiry().into());
            self.threads_owned = self.threads_owned.max(machine::threads_since(before));
        } else {
            self.cache = Some(cache);
        }
        Lap { elapsed, operations: gets + inserts, gets, hits }
    }

    fn threads_owned(&self) -> Option<usize> {
        self.threads_owned
    }

    fn was_full(&self) -> bool {
        self.cut.is_none() && self.gets.all.len() >= ENOUGH && self.inserts.all.len() >= ENOUGH
    }

    fn finish(&mut self) -> Fields {
        let mut fields = std::mem::take(&mut self.outcome);
        let percentiles = json!({"get": summary(&self.gets.all), "insert": summary(&self.inserts.all)});
        fields.insert("percentiles_ns".into(), percentiles);
        let rounds = json!({"get": self.gets.rounds, "insert": self.inserts.rounds});
        fields.insert("percentiles_ns_rounds".into(), rounds);
        fields.insert("inserted".into(), self.inserts.all.len().into());
        fields.insert("fill_ms".into(), (self.filling.as_secs_f64() * 1e3).into());
        if let Some(stored) = self.cut {
            fields.insert("fill_cut_at".into(), stored.into());
        }
        fields
    }
}
