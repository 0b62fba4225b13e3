//! `get`: look-ups that all hit, one key at a time. The cache holds every key, with room to spare.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use super::{Builder, Scenario, window};
use crate::case::Case;
use crate::contestants::{Absent, Contestant, Enter, Plan};
use crate::measure::{Effort, Fields, Lap, Run};
use crate::workload::keys::{Distribution, sequence, shuffled};
use crate::workload::threads::{share, together};

/// Long enough that nothing expires during the measurement.
const TIME_TO_LIVE: Duration = Duration::from_secs(3600);

/// The scenario.
#[derive(Debug)]
pub struct Get;

/// One of its cases.
#[derive(Clone, Copy, Debug)]
pub struct GetCase {
    keys: u32,
    distribution: Distribution,
    threads: usize,
    expires: bool,
}

impl Scenario for Get {
    type Case = GetCase;
    const NAME: &'static str = "get";
    const FULL_RUN: (u64, Duration) = (1 << 21, Duration::from_millis(1500));

    fn cases(&self) -> Vec<GetCase> {
        let mut cases = Vec::new();
        for expires in [false, true] {
            for keys in [10_000, 1_000_000] {
                for distribution in [Distribution::Zipf, Distribution::Uniform] {
                    for threads in [1, 2, 8] {
                        cases.push(GetCase { keys, distribution, threads, expires });
                    }
                }
            }
        }
        cases
    }

    fn words(&self, case: GetCase) -> Case {
        Case::new()
            .with("keys", case.keys)
            .with("dist", case.distribution)
            .with("threads", case.threads)
            .with("ttl", if case.expires { "on" } else { "off" })
    }

    fn prepare(&self, case: GetCase, effort: &Effort) -> Builder {
        let fill: Arc<[u32]> = shuffled(case.keys, 1).into();
        let asked: Arc<[u32]> = sequence(case.distribution, case.keys, effort.operations as usize, 2).into();
        Box::new(move |name| {
            let time_to_live = case.expires.then_some(TIME_TO_LIVE);
            let plan = Plan { time_to_live, ..Plan::entries(roomy(case.keys)) };
            let (fill, asked) = (Arc::clone(&fill), Arc::clone(&asked));
            let build = Build { plan: &plan, fill, asked, threads: case.threads };
            if case.expires { name.with_time_to_live::<u64, u64, _>(build) } else { name.with::<u64, u64, _>(build) }
        })
    }
}

/// Returns a capacity with room to spare: caches that split it over shards need that for every key to stay.
pub(super) fn roomy(keys: u32) -> u64 {
    u64::from(keys) * 5 / 4
}

/// Builds a cache with the keys of `fill`, each key being its own value.
pub(super) fn filled<C: Contestant<u64, u64>>(plan: &Plan, fill: &[u32]) -> Result<C, Absent> {
    let cache = C::build(plan)?;
    cache.insert_many(fill.iter().map(|&key| (key.into(), key.into())));
    Ok(cache)
}

struct Build<'a> {
    plan: &'a Plan,
    fill: Arc<[u32]>,
    asked: Arc<[u32]>,
    threads: usize,
}

impl Enter<u64, u64> for Build<'_> {
    type Output = Result<Box<dyn Run>, Absent>;

    fn enter<C: Contestant<u64, u64>>(self) -> Self::Output {
        let cache: C = filled(self.plan, &self.fill)?;
        let expires = self.plan.time_to_live.is_some();
        Ok(Box::new(Hits { cache, asked: self.asked, threads: self.threads, expires }))
    }
}

struct Hits<C> {
    cache: C,
    asked: Arc<[u32]>,
    threads: usize,
    expires: bool,
}

impl<C: Contestant<u64, u64>> Run for Hits<C> {
    fn run(&mut self, lap: u32, operations: u64) -> Lap {
        let asked = &self.asked[window(lap, operations, self.asked.len())];
        let (elapsed, hits) = together(self.threads, &|thread| {
            let mut hits = 0;
            for &key in share(asked, thread, self.threads) {
                if let Some(value) = self.cache.get(&u64::from(key)) {
                    black_box(value);
                    hits += 1;
                }
            }
            hits
        });
        let gets = asked.len() as u64;
        Lap { elapsed, operations: gets, gets, hits: hits.iter().sum() }
    }

    fn finish(&mut self) -> Fields {
        let mut fields = self.cache.remarks();
        if self.expires {
            fields.insert("expiry".into(), self.cache.expiry().into());
        }
        fields
    }
}
