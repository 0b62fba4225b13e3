//! `idle`: the processor time a cache takes while it is not used, full of entries far from their deadlines.
//!
//! Each run has the process to itself: no other contestant exists meanwhile, so all of the time belongs to
//! this one.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::{Builder, FEW_ROUNDS, Scenario};
use crate::case::Case;
use crate::contestants::{Absent, Contestant, Enter, Plan};
use crate::machine;
use crate::measure::{Effort, Fields, Lap, Run, Spread};
use crate::workload::threads::together;

const ENTRIES: u64 = 1_000_000;
/// Deadlines are far away, but there are some.
const TIME_TO_LIVE: Duration = Duration::from_secs(3600);
/// What a cache still has to finish after use does not count as idling.
const SETTLING: Duration = Duration::from_millis(200);
/// The number of threads that use the cache beforehand.
const USERS: usize = 4;

/// The scenario.
#[derive(Debug)]
pub struct Idle;

impl Scenario for Idle {
    type Case = ();
    const NAME: &'static str = "idle";
    /// A quick run takes a second.
    const FULL_RUN: (u64, Duration) = (1, Duration::from_secs(5));
    const QUICK_ROUNDS: u32 = FEW_ROUNDS;
    const MOST_ROUNDS: u32 = 3;
    const CALIBRATED: bool = false;

    fn cases(&self) -> Vec<()> {
        vec![()]
    }

    fn words(&self, (): ()) -> Case {
        Case::new().with("entries", ENTRIES).with("ttl", "on")
    }

    fn prepare(&self, (): (), effort: &Effort) -> Builder {
        let time = effort.budget.max(Duration::from_secs(1));
        Box::new(move |name| {
            let plan = Plan { time_to_live: Some(TIME_TO_LIVE), ..Plan::entries(ENTRIES * 5 / 4) };
            name.with_time_to_live::<u64, u64, _>(Build { plan: &plan, time })
        })
    }
}

struct Build<'a> {
    plan: &'a Plan,
    time: Duration,
}

impl Enter<u64, u64> for Build<'_> {
    type Output = Result<Box<dyn Run>, Absent>;

    fn enter<C: Contestant<u64, u64>>(self) -> Self::Output {
        C::build(self.plan)?;
        Ok(Box::new(Rest { plan: self.plan.clone(), time: self.time, rest: rest::<C>, seen: Vec::new() }))
    }
}

struct Rest {
    plan: Plan,
    time: Duration,
    rest: fn(&Plan, Duration) -> Option<Seen>,
    seen: Vec<Seen>,
}

struct Seen {
    used: Duration,
    entries: u64,
    threads_owned: Option<usize>,
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    // The processor time of a process is never negative.
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

fn rest<C: Contestant<u64, u64>>(plan: &Plan, time: Duration) -> Option<Seen> {
    let threads_before = machine::threads_of_others();
    let cache = C::build(plan).ok()?;
    cache.insert_many((0..ENTRIES).map(|key| (key, key)));
    together(USERS, &|user| (0..20_000).filter(|key| cache.get(&(key * USERS as u64 + user as u64)).is_some()).count());
    std::thread::sleep(SETTLING);
    let before = processor_time();
    std::thread::sleep(time);
    let used = processor_time() - before;
    Some(Seen { used, entries: cache.entries(), threads_owned: machine::threads_since(threads_before) })
}

impl Run for Rest {
    fn run(&mut self, _: u32, _: u64) -> Lap {
        self.seen.extend((self.rest)(&self.plan, self.time));
        Lap::default()
    }

    fn threads_owned(&self) -> Option<usize> {
        self.seen.last()?.threads_owned
    }

    fn finish(&mut self) -> Fields {
        let mut fields = Fields::new();
        let rounds: Vec<f64> = self.seen.iter().map(|seen| seen.used.as_secs_f64() * 1e3).collect();
        if let Some(used) = Spread::of(rounds.iter().copied()) {
            fields.insert("cpu_ms".into(), used.median.into());
            fields.insert("cpu_ms_most".into(), used.max.into());
        }
        fields.insert("cpu_ms_rounds".into(), rounds.into());
        fields.insert("idle_s".into(), self.time.as_secs_f64().into());
        fields.insert("entries".into(), self.seen.last().map(|seen| seen.entries).into());
        fields
    }
}
