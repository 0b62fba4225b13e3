//! `get-many`: look-ups that all hit, in batches. Caches without a batch operation loop over the keys.
//!
//! So does `fibre_cache`, although it has one. Its `multiget` spreads the keys over rayon's threads and
//! collects them in a map, which took ten times as long as a loop for 256 keys and a hundred times as long
//! for 16. Its users would loop.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use super::get::{filled, roomy};
use super::{Builder, Scenario, window};
use crate::case::Case;
use crate::contestants::{Absent, Contestant, Enter, Plan};
use crate::measure::{Effort, Fields, Lap, Run};
use crate::workload::keys::{Distribution, sequence, shuffled};
use crate::workload::threads::together;

/// The scenario.
#[derive(Debug)]
pub struct GetMany;

/// One of its cases.
#[derive(Clone, Copy, Debug)]
pub struct GetManyCase {
    batch: usize,
    keys: u32,
}

impl Scenario for GetMany {
    type Case = GetManyCase;
    const NAME: &'static str = "get-many";
    const FULL_RUN: (u64, Duration) = (1 << 21, Duration::from_millis(1500));

    fn cases(&self) -> Vec<GetManyCase> {
        let batches = [16, 64, 256].into_iter();
        batches.flat_map(|batch| [10_000, 1_000_000].map(|keys| GetManyCase { batch, keys })).collect()
    }

    fn words(&self, case: GetManyCase) -> Case {
        Case::new()
            .with("batch", case.batch)
            .with("keys", case.keys)
            .with("dist", Distribution::Uniform)
            .with("threads", 1)
    }

    fn prepare(&self, case: GetManyCase, effort: &Effort) -> Builder {
        let fill = shuffled(case.keys, 1);
        let asked = sequence(Distribution::Uniform, case.keys, effort.operations as usize, 2);
        let asked: Arc<[u64]> = asked.into_iter().map(u64::from).collect();
        Box::new(move |name| {
            let plan = Plan::entries(roomy(case.keys));
            let asked = Arc::clone(&asked);
            name.with::<u64, u64, _>(Build { plan: &plan, fill: &fill, asked, batch: case.batch })
        })
    }
}

struct Build<'a> {
    plan: &'a Plan,
    fill: &'a [u32],
    asked: Arc<[u64]>,
    batch: usize,
}

impl Enter<u64, u64> for Build<'_> {
    type Output = Result<Box<dyn Run>, Absent>;

    fn enter<C: Contestant<u64, u64>>(self) -> Self::Output {
        let cache: C = filled(self.plan, self.fill)?;
        Ok(Box::new(Batches { cache, asked: self.asked, batch: self.batch }))
    }
}

struct Batches<C> {
    cache: C,
    asked: Arc<[u64]>,
    batch: usize,
}

impl<C: Contestant<u64, u64>> Run for Batches<C> {
    fn run(&mut self, lap: u32, operations: u64) -> Lap {
        let asked = &self.asked[window(lap, operations, self.asked.len())];
        let (elapsed, hits) = together(1, &|_| {
            let mut hits = 0;
            for batch in asked.chunks(self.batch) {
                self.cache.get_many(batch, |value| {
                    if let Some(value) = value {
                        black_box(value);
                        hits += 1;
                    }
                });
            }
            hits
        });
        let gets = asked.len() as u64;
        Lap { elapsed, operations: gets, gets, hits: hits.iter().sum() }
    }

    fn finish(&mut self) -> Fields {
        self.cache.remarks()
    }
}
