//! `replay`: a recorded trace, request by request. Each contestant gets a fresh cache in every round.
//!
//! A get that misses stores the key. With recorded times-to-live, an entry stored at t is live while
//! `now < t + ttl` on the trace's clock. An expired entry is a miss and is stored anew, and a request that
//! recorded no time-to-live stores nothing.

use std::hint::black_box;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{FEW_ROUNDS, Settings};
use crate::amount::Share;
use crate::case::{Case, choose};
use crate::contestants::{
    Absent, Capacity, Contestant, Departures, Enter, EnterExpiring, Expiring, Found, Key, Name, Plan, Reclaim,
};
use crate::machine;
use crate::measure::{Effort, Entrant, Fields, Lap, Run, interleave};
use crate::progress::Progress;
use crate::report::Report;
use crate::trace::{Operation, Request, Trace};

/// Whether entries expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TimeToLive {
    /// As recorded in the trace, on its own clock.
    Recorded,
    /// Never.
    Off,
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Question {
    /// The requests.
    pub trace: Arc<Trace>,
    /// How much the caches may hold.
    pub capacities: Vec<Share>,
    /// Whether capacities are bytes.
    pub bytes: bool,
    /// How many parts the policy is split into.
    pub shards: Option<usize>,
    /// Whether entries expire.
    pub ttl: TimeToLive,
    /// When sark-cache frees the space of expired entries.
    pub reclaim: Reclaim,
}

/// Returns how long a competitor may take in each round: two microseconds per request, within limits. Ours is
/// never cut short.
fn budget(requests: u64) -> Duration {
    Duration::from_micros(2 * requests).clamp(Duration::from_millis(500), Duration::from_secs(5))
}

/// Runs the trace through all contestants, at each capacity.
///
/// # Errors
/// If no case is wanted, nothing could be stored, or a capacity is too large for any cache.
pub fn run(settings: &Settings, question: &Question) -> Result<Report> {
    let trace = &question.trace;
    let (keys, bytes) = trace.footprint();
    if question.ttl == TimeToLive::Recorded {
        ensure!(trace.has_ttls(), "the trace recorded no times-to-live; use --ttl off");
    }
    let amounts = question.capacities.iter().map(|share| match question.bytes {
        true => Ok(Capacity::Bytes(share.capacity(bytes, true)?)),
        false => Ok(Capacity::Entries(share.capacity(keys, false)?)),
    });
    let cases = choose(amounts.collect::<Result<_>>()?, &settings.wishes, |&capacity| words(question, capacity))?;
    let length = trace.requests.len() as u64;
    let budget = budget(length);
    let rounds = settings.rounds(FEW_ROUNDS);
    let effort = Effort { rounds, operations: length, budget };
    let mut report = Report::new("replay", rounds, &settings.contestants);
    let mut progress = Progress::new((cases.len() * settings.contestants.len() * rounds as usize) as u64);
    for capacity in cases {
        let words = words(question, capacity);
        progress.begin(format!("replay {words}"));
        let mut entrants = Vec::new();
        for &name in &settings.contestants {
            let budget = (!name.is_ours()).then_some(budget);
            match Entrant::build(name, length, || contestant(name, question, capacity, budget)) {
                Ok(entrant) => entrants.push(entrant),
                Err(why) => report.miss(&words, name, why),
            }
        }
        interleave(&mut entrants, rounds, |name| progress.step(name));
        report.take(&words, entrants, &effort);
    }
    progress.end();
    Ok(report)
}

fn words(question: &Question, capacity: Capacity) -> Case {
    let case = Case::new().with("trace", &question.trace.name);
    let mut case = match capacity {
        Capacity::Entries(entries) => case.with("capacity", entries),
        Capacity::Bytes(bytes) => case.with("capacity", bytes).with("unit", "bytes"),
    };
    if let Some(shards) = question.shards {
        case = case.with("shards", shards);
    }
    case = case.with("policy", "lru");
    match (question.ttl, question.reclaim) {
        (TimeToLive::Off, _) => case.with("ttl", "off"),
        (TimeToLive::Recorded, Reclaim::Prompt) => case.with("ttl", "recorded").with("reclaim", "prompt"),
        (TimeToLive::Recorded, Reclaim::Lazy) => case.with("ttl", "recorded").with("reclaim", "lazy"),
    }
}

/// Builds one contestant's replay of the trace at one capacity. With a budget, it stops when the time is up.
///
/// # Errors
/// Says why it can't take part.
pub fn contestant(
    name: Name,
    question: &Question,
    capacity: Capacity,
    budget: Option<Duration>,
) -> Result<Box<dyn Run>, Absent> {
    if question.trace.has_text_keys() {
        with_keys::<String>(name, question, capacity, budget)
    } else {
        with_keys::<u64>(name, question, capacity, budget)
    }
}

fn with_keys<K: TraceKey>(
    name: Name,
    question: &Question,
    capacity: Capacity,
    budget: Option<Duration>,
) -> Result<Box<dyn Run>, Absent> {
    let plan = Plan { capacity, shards: question.shards, time_to_live: None, reclaim: question.reclaim };
    let build = Build { plan: &plan, trace: &question.trace, budget };
    match question.ttl {
        TimeToLive::Off if question.bytes => name.with_bytes::<K, u64, _>(build),
        TimeToLive::Off => name.with::<K, u64, _>(build),
        TimeToLive::Recorded => name.with_workload_clock::<K, u64, _>(&plan, build),
    }
}

/// A key in the form that the trace has.
trait TraceKey: Key {
    fn of<'a>(request: &'a Request, trace: &'a Trace) -> &'a Self;
}

impl TraceKey for u64 {
    fn of<'a>(request: &'a Request, _: &'a Trace) -> &'a Self {
        &request.key
    }
}

impl TraceKey for String {
    fn of<'a>(request: &'a Request, trace: &'a Trace) -> &'a Self {
        &trace.names[request.key as usize]
    }
}

struct Build<'a> {
    plan: &'a Plan,
    trace: &'a Arc<Trace>,
    budget: Option<Duration>,
}

impl<K: TraceKey> Enter<K, u64> for Build<'_> {
    type Output = Result<Box<dyn Run>, Absent>;

    fn enter<C: Contestant<K, u64>>(self) -> Self::Output {
        let step = |cache: &C, key: &K, request: &Request, counts: &mut Counts| {
            counts.without_expiry(cache, key, request);
        };
        replay(self, step, false)
    }
}

impl<K: TraceKey> EnterExpiring<K, u64> for Build<'_> {
    type Output = Result<Box<dyn Run>, Absent>;

    fn enter<C: Expiring<K, u64>>(self) -> Self::Output {
        let mut now = 0;
        let step = move |cache: &C, key: &K, request: &Request, counts: &mut Counts| {
            if request.at != now {
                now = request.at;
                cache.set_time(Duration::from_nanos(now));
            }
            counts.with_expiry(cache, key, request);
        };
        replay(self, step, true)
    }
}

fn replay<K, C, S>(build: Build<'_>, step: S, expires: bool) -> Result<Box<dyn Run>, Absent>
where
    K: TraceKey,
    C: Contestant<K, u64>,
    S: FnMut(&C, &K, &Request, &mut Counts) + Clone + 'static,
{
    // If it can't be built, that is reported now and not in the first round.
    C::build(build.plan)?;
    let Build { plan, trace, budget } = build;
    let (plan, trace) = (plan.clone(), Arc::clone(trace));
    Ok(Box::new(Replay {
        plan,
        trace,
        budget,
        step,
        expires,
        outcome: Fields::new(),
        threads_owned: None,
        most: 0,
        key: PhantomData::<fn() -> K>,
        cache: PhantomData::<fn() -> C>,
    }))
}

struct Replay<C, K, S> {
    plan: Plan,
    trace: Arc<Trace>,
    budget: Option<Duration>,
    step: S,
    expires: bool,
    outcome: Fields,
    threads_owned: Option<usize>,
    /// The operations of the longest run so far, which is the one reported.
    most: u64,
    key: PhantomData<fn() -> K>,
    cache: PhantomData<fn() -> C>,
}

impl<K, C, S> Run for Replay<C, K, S>
where
    K: TraceKey,
    C: Contestant<K, u64>,
    S: FnMut(&C, &K, &Request, &mut Counts) + Clone,
{
    fn run(&mut self, _: u32, _: u64) -> Lap {
        /// How many requests a contestant with a budget does between two looks at the clock.
        const CHUNK: usize = 64;
        let threads_before = machine::threads_of_others();
        let Ok(cache) = C::build(&self.plan) else { return Lap::default() };
        let mut counts = Counts::default();
        let mut step = self.step.clone();
        let mut done = 0;
        let begun = Instant::now();
        for chunk in self.trace.requests.chunks(CHUNK) {
            if self.budget.is_some_and(|budget| begun.elapsed() > budget) {
                break;
            }
            for request in chunk {
                step(&cache, K::of(request, &self.trace), request, &mut counts);
            }
            done += chunk.len() as u64;
        }
        let elapsed = begun.elapsed();
        if done > self.most {
            self.most = done;
            self.threads_owned = machine::threads_since(threads_before);
            self.outcome = counts.fields(cache.departures(), cache.entries());
            if self.expires {
                self.outcome.insert("expiry".into(), cache.expiry().into());
            }
            self.outcome.append(&mut cache.remarks());
        }
        Lap { elapsed, operations: done, gets: counts.hits + counts.misses(), hits: counts.hits }
    }

    fn threads_owned(&self) -> Option<usize> {
        self.threads_owned
    }

    fn finish(&mut self) -> Fields {
        std::mem::take(&mut self.outcome)
    }
}

/// The counts of one pass.
#[derive(Clone, Debug, Default)]
struct Counts {
    hits: u64,
    dead: u64,
    absent: u64,
    stored: u64,
    deleted: u64,
    /// True if a request may have replaced an entry, so that the entries stored are not all entries added.
    replaced: bool,
}

impl Counts {
    fn misses(&self) -> u64 {
        self.dead + self.absent
    }

    #[inline]
    fn without_expiry<K: Key>(&mut self, cache: &impl Contestant<K, u64>, key: &K, request: &Request) {
        match request.operation {
            Operation::Get => match cache.get(key) {
                Some(value) => {
                    black_box(value);
                    self.hits += 1;
                }
                None => {
                    self.absent += 1;
                    self.stored += 1;
                    cache.insert(key.clone(), request.size.into());
                }
            },
            Operation::Set => {
                self.replaced = true;
                cache.insert(key.clone(), request.size.into());
            }
            Operation::Delete => self.deleted += u64::from(cache.remove(key)),
        }
    }

    #[inline]
    fn with_expiry<K: Key>(&mut self, cache: &impl Expiring<K, u64>, key: &K, request: &Request) {
        match request.operation {
            Operation::Get => {
                let stores = request.lifetime().is_some();
                match if stores { cache.look_up_or_store(key) } else { cache.look_up(key) } {
                    Found::Live(value) => {
                        black_box(value);
                        self.hits += 1;
                        return;
                    }
                    Found::Dead => self.dead += 1,
                    Found::Nothing => self.absent += 1,
                }
            }
            Operation::Set => self.replaced = true,
            Operation::Delete => {
                self.deleted += u64::from(cache.remove(key));
                return;
            }
        }
        if let Some(ttl) = request.lifetime() {
            self.stored += 1;
            cache.insert_with_ttl(key.clone(), request.size.into(), ttl);
        }
    }

    /// Returns the row's counts. What the cache counts itself is taken from there and the rest is worked out:
    /// an entry that was stored and is neither there nor gone otherwise was evicted.
    fn fields(&self, departures: Option<Departures>, entries: u64) -> Fields {
        let worked_out = self.stored.saturating_sub(self.deleted + self.dead + entries);
        let evicted = match departures {
            Some(Departures { evicted, .. }) => Some(evicted),
            None => (!self.replaced).then_some(worked_out),
        };
        let mut fields = Fields::new();
        fields.insert("hits".into(), self.hits.into());
        fields.insert("misses".into(), self.misses().into());
        fields.insert("expired".into(), departures.map_or(self.dead, |gone| gone.expired_on_get).into());
        fields.insert("reclaimed".into(), departures.map(|gone| gone.reclaimed).into());
        fields.insert("evicted".into(), evicted.into());
        fields.insert("entries".into(), entries.into());
        fields
    }
}
