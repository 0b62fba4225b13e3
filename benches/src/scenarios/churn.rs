//! `churn`: only new keys are inserted into a full cache, so that every insert evicts.

use std::time::Duration;

use super::{Builder, Scenario};
use crate::case::Case;
use crate::contestants::{Absent, Contestant, Enter, Plan};
use crate::measure::{Effort, Fields, Lap, Run};
use crate::workload::keys::never_seen;
use crate::workload::threads::{share, together};

/// The scenario.
#[derive(Debug)]
pub struct Churn;

/// One of its cases.
#[derive(Clone, Copy, Debug)]
pub struct ChurnCase {
    capacity: u64,
    threads: usize,
}

/// The keys that fill the cache come from a lap that is never run.
const FILL: u32 = u32::MAX;

impl Scenario for Churn {
    type Case = ChurnCase;
    const NAME: &'static str = "churn";
    const FULL_RUN: (u64, Duration) = (1 << 21, Duration::from_secs(2));

    fn cases(&self) -> Vec<ChurnCase> {
        let capacities = [10_000, 100_000, 1_000_000].into_iter();
        capacities.flat_map(|capacity| [1, 2].map(|threads| ChurnCase { capacity, threads })).collect()
    }

    fn words(&self, case: ChurnCase) -> Case {
        Case::new().with("capacity", case.capacity).with("threads", case.threads)
    }

    fn prepare(&self, case: ChurnCase, _: &Effort) -> Builder {
        Box::new(move |name| {
            let plan = Plan::entries(case.capacity);
            name.with::<u64, u64, _>(Build { plan: &plan, case })
        })
    }
}

struct Build<'a> {
    plan: &'a Plan,
    case: ChurnCase,
}

impl Enter<u64, u64> for Build<'_> {
    type Output = Result<Box<dyn Run>, Absent>;

    fn enter<C: Contestant<u64, u64>>(self) -> Self::Output {
        let cache = C::build(self.plan)?;
        // If the capacity is split over shards, a few places are still free after this; the first untimed
        // runs fill them.
        let fill = never_seen(FILL, self.case.capacity as usize);
        cache.insert_many(fill.into_iter().map(|key| (key, key)));
        let entries_at_first = cache.entries();
        Ok(Box::new(Inserts { cache, threads: self.case.threads, entries_at_first, inserted: 0 }))
    }
}

struct Inserts<C> {
    cache: C,
    threads: usize,
    entries_at_first: u64,
    inserted: u64,
}

impl<C: Contestant<u64, u64>> Run for Inserts<C> {
    fn run(&mut self, lap: u32, operations: u64) -> Lap {
        let keys = never_seen(lap, operations as usize);
        let (elapsed, _) = together(self.threads, &|thread| {
            for &key in share(&keys, thread, self.threads) {
                self.cache.insert(key, key);
            }
        });
        self.inserted += operations;
        Lap { elapsed, operations, gets: 0, hits: 0 }
    }

    fn finish(&mut self) -> Fields {
        let gone = (self.entries_at_first + self.inserted).saturating_sub(self.cache.entries());
        let mut fields = self.cache.remarks();
        fields.insert("inserted".into(), self.inserted.into());
        fields.insert("evicted".into(), gone.into());
        fields.insert("entries".into(), self.cache.entries().into());
        fields
    }
}
