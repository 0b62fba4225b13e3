//! The main job: an authorization gateway's cache under load. Each contestant gets a fresh cache in every
//! round.
//!
//! Threads take the requests in small chunks, in order. The workload's clock is moved for all of them once
//! per tenth of a second of its own time. Every seventh request is timed individually (look-up, and insert
//! after a miss), so that reading the clock stays a small part of what is measured.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::{FEW_ROUNDS, Settings};
use crate::amount::Share;
use crate::case::{Case, choose};
use crate::contestants::{Absent, EnterExpiring, Expiring, Found, Plan};
use crate::machine;
use crate::measure::{Effort, Entrant, Fields, Lap, Run, interleave};
use crate::percentiles::{histogram, merge, summary};
use crate::progress::Progress;
use crate::report::Report;
use crate::trace::{Operation, Trace};
use crate::workload::gateway::{Asked, Load, REQUESTS};
use crate::workload::threads::together;

/// How the main job runs.
#[derive(Debug)]
pub struct Job {
    /// A recorded trace to use instead of the gateway's load.
    pub trace: Option<Trace>,
    /// The number of entries each cache may hold.
    pub capacity: Option<Share>,
    /// The number of threads that send requests.
    pub threads: Option<usize>,
}

/// The name of the main job in reports.
pub const NAME: &str = "gateway";

/// The number of decisions that the gateway's cache may hold.
const CAPACITY: Share = Share::Amount(20_000);
/// The same for a trace, as a share of its keys.
const CAPACITY_OF_TRACE: Share = Share::Percent(10.0);
/// The time after which a contestant is stopped in each round, and the same for quick runs.
const BUDGET: Duration = Duration::from_millis(1500);
const QUICK_BUDGET: Duration = Duration::from_millis(1000);
/// The number of requests a thread takes at a time.
const CHUNK: usize = 64;
/// The step in nanoseconds by which the workload's clock is moved.
const TICK: u64 = 100_000_000;
/// One request in this many is timed individually.
const TIMED: usize = 7;

/// Runs the main job.
///
/// # Errors
/// If its only case is not wanted, or its capacity is too large for any cache.
pub fn run(settings: &Settings, job: &Job) -> Result<Report> {
    let load = Arc::new(job.trace.as_ref().map_or_else(|| Load::gateway(2026, REQUESTS), Load::recorded));
    let default_capacity = if job.trace.is_some() { CAPACITY_OF_TRACE } else { CAPACITY };
    let capacity = job.capacity.unwrap_or(default_capacity).capacity(load.keys.len() as u64, false)?;
    let threads = job.threads.unwrap_or_else(|| machine::cores().min(4));
    let case = Case::new().with("load", &load.name).with("capacity", capacity).with("threads", threads);
    choose(vec![case.clone()], &settings.wishes, Case::clone)?;

    let length = load.requests.len() as u64;
    let budget = if settings.quick { QUICK_BUDGET } else { BUDGET };
    let rounds = settings.rounds(FEW_ROUNDS);
    let effort = Effort { rounds, operations: length, budget };
    let mut report = Report::new(NAME, rounds, &settings.contestants);
    let mut progress = Progress::new(settings.contestants.len() as u64 * u64::from(rounds));
    progress.begin(format!("{} requests, {} keys, {case}", load.requests.len(), load.keys.len()));
    let plan = Plan::entries(capacity);
    let mut entrants = Vec::new();
    for &name in &settings.contestants {
        let build = Build { plan: &plan, load: Arc::clone(&load), threads, budget };
        match Entrant::build(name, length, || name.with_workload_clock::<String, Arc<str>, _>(&plan, build)) {
            Ok(entrant) => entrants.push(entrant),
            Err(why) => report.miss(&case, name, why),
        }
    }
    interleave(&mut entrants, rounds, |name| progress.step(name));
    report.take(&case, entrants, &effort);
    progress.end();
    Ok(report)
}

struct Build<'a> {
    plan: &'a Plan,
    load: Arc<Load>,
    threads: usize,
    budget: Duration,
}

impl EnterExpiring<String, Arc<str>> for Build<'_> {
    type Output = Result<Box<dyn Run>, Absent>;

    fn enter<C: Expiring<String, Arc<str>>>(self) -> Self::Output {
        C::build(self.plan)?;
        let Build { plan, load, threads, budget } = self;
        let build = C::build;
        let latencies = histogram();
        Ok(Box::new(Gateway {
            plan: plan.clone(),
            load,
            threads,
            build,
            latencies,
            outcome: Fields::new(),
            threads_owned: None,
            most: 0,
            budget,
        }))
    }
}

struct Gateway<C> {
    plan: Plan,
    load: Arc<Load>,
    threads: usize,
    build: fn(&Plan) -> Result<C, Absent>,
    latencies: Histogram<u64>,
    outcome: Fields,
    threads_owned: Option<usize>,
    /// The requests of the longest run so far, which is the one reported.
    most: u64,
    budget: Duration,
}

/// The counts of one thread.
struct Tally {
    requests: u64,
    gets: u64,
    hits: u64,
    dead: u64,
    stored: u64,
    deleted: u64,
    /// True if a request may have replaced an entry, so that the entries stored are not all entries added.
    replaced: bool,
    latencies: Histogram<u64>,
}

impl Tally {
    fn new() -> Self {
        let latencies = histogram();
        Self { requests: 0, gets: 0, hits: 0, dead: 0, stored: 0, deleted: 0, replaced: false, latencies }
    }

    #[inline]
    fn ask<C: Expiring<String, Arc<str>>>(&mut self, cache: &C, load: &Load, asked: Asked) {
        let key = &load.keys[asked.key as usize];
        self.requests += 1;
        match asked.operation {
            Operation::Get => {
                self.gets += 1;
                match if asked.ttl.is_some() { cache.look_up_or_store(key) } else { cache.look_up(key) } {
                    Found::Live(decision) => {
                        black_box(decision.as_bytes().first());
                        self.hits += 1;
                        return;
                    }
                    Found::Dead => self.dead += 1,
                    Found::Nothing => {}
                }
            }
            Operation::Set => self.replaced = true,
            Operation::Delete => {
                self.deleted += u64::from(cache.remove(key));
                return;
            }
        }
        if let Some(ttl) = asked.ttl {
            self.stored += 1;
            cache.insert_with_ttl(key.clone(), Arc::clone(&load.values[asked.key as usize]), ttl);
        }
    }
}

impl<C: Expiring<String, Arc<str>>> Run for Gateway<C> {
    fn run(&mut self, _: u32, _: u64) -> Lap {
        let threads_before = machine::threads_of_others();
        let Ok(cache) = (self.build)(&self.plan) else { return Lap::default() };
        let load = &*self.load;
        let chunks = AtomicUsize::new(0);
        let clock = Mutex::new(0);
        let begun = Instant::now();
        let (elapsed, tallies) = together(self.threads, &|_| {
            let mut tally = Tally::new();
            while begun.elapsed() < self.budget {
                let start = chunks.fetch_add(CHUNK, Ordering::Relaxed);
                let Some(first) = load.requests.get(start) else { break };
                move_clock(&clock, &cache, first.at);
                let end = load.requests.len().min(start + CHUNK);
                for (index, &asked) in (start..end).zip(&load.requests[start..end]) {
                    if index % TIMED == 0 {
                        let begun = Instant::now();
                        tally.ask(&cache, load, asked);
                        tally.latencies.saturating_record(begun.elapsed().as_nanos() as u64);
                    } else {
                        tally.ask(&cache, load, asked);
                    }
                }
            }
            tally
        });
        let sum = |field: fn(&Tally) -> u64| tallies.iter().map(field).sum::<u64>();
        let (requests, gets) = (sum(|tally| tally.requests), sum(|tally| tally.gets));
        let (hits, dead) = (sum(|tally| tally.hits), sum(|tally| tally.dead));
        for tally in &tallies {
            merge(&mut self.latencies, &tally.latencies);
        }
        if requests > self.most {
            self.most = requests;
            self.threads_owned = machine::threads_since(threads_before);
            let departures = cache.departures();
            let entries = cache.entries();
            let gone = dead + sum(|tally| tally.deleted);
            let worked_out = sum(|tally| tally.stored).saturating_sub(gone + entries);
            let replaced = tallies.iter().any(|tally| tally.replaced);
            let expired = departures.map_or(dead, |gone| gone.expired_on_get + gone.reclaimed);
            let evicted = departures.map(|gone| gone.evicted).or((!replaced).then_some(worked_out));
            self.outcome = cache.remarks();
            self.outcome.insert("hits".into(), hits.into());
            self.outcome.insert("misses".into(), (gets - hits).into());
            self.outcome.insert("expired".into(), expired.into());
            self.outcome.insert("evicted".into(), evicted.into());
            self.outcome.insert("entries".into(), entries.into());
            self.outcome.insert("expiry".into(), cache.expiry().into());
            if load.resized > 0 {
                self.outcome.insert("values_resized".into(), load.resized.into());
            }
        }
        Lap { elapsed, operations: requests, gets, hits }
    }

    fn threads_owned(&self) -> Option<usize> {
        self.threads_owned
    }

    fn finish(&mut self) -> Fields {
        let mut fields = std::mem::take(&mut self.outcome);
        fields.insert("percentiles_ns".into(), summary(&self.latencies));
        fields
    }
}

/// Moves the cache's clock once the workload's time has reached the next tick.
fn move_clock<C: Expiring<String, Arc<str>>>(clock: &Mutex<u64>, cache: &C, now: u64) {
    let tick = now / TICK;
    let mut shown = clock.lock();
    if *shown < tick {
        *shown = tick;
        cache.set_time(Duration::from_nanos(tick * TICK));
    }
}
