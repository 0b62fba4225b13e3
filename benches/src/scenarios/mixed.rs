//! `mixed`: look-ups that insert what is missing, zipf over ten times as many keys as the cache holds.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Builder, Scenario, window};
use crate::case::Case;
use crate::contestants::{Absent, Contestant, Enter, Plan};
use crate::measure::{Effort, Fields, Lap, Run};
use crate::workload::keys::{Distribution, sequence};
use crate::workload::threads::{share, together};

const KEYS: u32 = 1_000_000;
const CAPACITY: u64 = KEYS as u64 / 10;

/// Requests that bring a cache to its steady state before anything is timed.
const WARM_UP: usize = 1 << 20;
/// The time limit for the warm-up. A contestant too slow for all of it continues with what it has by then.
/// That is at least a full cache, since only evicting is slow.
const WARM_UP_TIME: Duration = Duration::from_secs(2);

/// The scenario.
#[derive(Debug)]
pub struct Mixed;

/// One of its cases.
#[derive(Clone, Copy, Debug)]
pub struct MixedCase {
    threads: usize,
}

impl MixedCase {
    /// Creates the case of this many threads.
    pub(super) fn of_threads(threads: usize) -> Self {
        Self { threads }
    }
}

impl Scenario for Mixed {
    type Case = MixedCase;
    const NAME: &'static str = "mixed";
    const FULL_RUN: (u64, Duration) = (1 << 21, Duration::from_secs(2));

    fn cases(&self) -> Vec<MixedCase> {
        [1, 2, 8].map(|threads| MixedCase { threads }).into()
    }

    fn words(&self, case: MixedCase) -> Case {
        Case::new()
            .with("keys", KEYS)
            .with("capacity", CAPACITY)
            .with("dist", Distribution::Zipf)
            .with("threads", case.threads)
    }

    fn prepare(&self, case: MixedCase, effort: &Effort) -> Builder {
        let warm_up: Arc<[u32]> = sequence(Distribution::Zipf, KEYS, WARM_UP.max(effort.operations as usize), 3).into();
        // Rounds that reused the keys of another round, or those of the calibration, would find too many of
        // them.
        let all_rounds = effort.operations as usize * effort.rounds as usize;
        let asked: Arc<[u32]> = sequence(Distribution::Zipf, KEYS, all_rounds, 4).into();
        let rounds = effort.rounds;
        Box::new(move |name| {
            let plan = Plan::entries(CAPACITY);
            let (warm_up, asked) = (Arc::clone(&warm_up), Arc::clone(&asked));
            name.with::<u64, u64, _>(Build { plan: &plan, warm_up, asked, rounds, threads: case.threads })
        })
    }
}

struct Build<'a> {
    plan: &'a Plan,
    warm_up: Arc<[u32]>,
    asked: Arc<[u32]>,
    rounds: u32,
    threads: usize,
}

impl Enter<u64, u64> for Build<'_> {
    type Output = Result<Box<dyn Run>, Absent>;

    fn enter<C: Contestant<u64, u64>>(self) -> Self::Output {
        let cache = C::build(self.plan)?;
        let begun = Instant::now();
        let mut warmed_up = 0;
        for chunk in self.warm_up[..WARM_UP].chunks(256) {
            if begun.elapsed() > WARM_UP_TIME {
                break;
            }
            hits(&cache, chunk);
            warmed_up += chunk.len() as u64;
        }
        let Build { warm_up, asked, rounds, threads, .. } = self;
        Ok(Box::new(ReadThrough { cache, warm_up, asked, rounds, threads, warmed_up }))
    }
}

/// Looks up the keys in turn and inserts those that are missing. Returns how many were there.
fn hits<C: Contestant<u64, u64>>(cache: &C, keys: &[u32]) -> u64 {
    let mut hits = 0;
    for &key in keys {
        let key = u64::from(key);
        match cache.get(&key) {
            Some(value) => {
                black_box(value);
                hits += 1;
            }
            None => cache.insert(key, key),
        }
    }
    hits
}

struct ReadThrough<C> {
    cache: C,
    warm_up: Arc<[u32]>,
    asked: Arc<[u32]>,
    rounds: u32,
    threads: usize,
    warmed_up: u64,
}

impl<C: Contestant<u64, u64>> Run for ReadThrough<C> {
    fn run(&mut self, lap: u32, operations: u64) -> Lap {
        // Laps beyond the rounds are for calibration.
        let keys = if lap < self.rounds { &self.asked } else { &self.warm_up };
        let asked = &keys[window(lap, operations, keys.len())];
        let (elapsed, hits) = together(self.threads, &|thread| hits(&self.cache, share(asked, thread, self.threads)));
        let gets = asked.len() as u64;
        Lap { elapsed, operations: gets, gets, hits: hits.iter().sum() }
    }

    fn finish(&mut self) -> Fields {
        let mut fields = self.cache.remarks();
        fields.insert("entries".into(), self.cache.entries().into());
        fields.insert("warm_up_operations".into(), self.warmed_up.into());
        fields
    }
}
