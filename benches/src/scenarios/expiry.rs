//! `expiry`: many entries due at one moment, and nobody who calls the cache.
//!
//! A round does it twice. First nobody calls, and what is timed is how long after the deadline the last value was dropped:
//! values count themselves. Then one thread asks for other entries, over and over, and what is timed is how long it is held
//! up while the dead leave. The same thread's longest stall before the deadline is beside it, since the machine has some
//! of its own.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;

use super::{Builder, Scenario};
use crate::case::Case;
use crate::contestants::{Absent, EnterReclaiming, Plan, Reclaiming, Weigh};
use crate::measure::{Effort, Fields, Lap, Run, Spread};
use crate::percentiles::{histogram, merge};
use crate::workload::threads::{share, together};

/// Entries without a deadline that are asked for meanwhile.
const RESIDENTS: u64 = 1000;
/// Their keys begin here.
const FIRST_RESIDENT: u64 = 1 << 40;
/// Threads that fill the cache, so that one that answers by message is filled in time, too.
const FILLERS: usize = 8;
/// The share of the entries that tells how long all of them will take.
const SAMPLE: usize = 50;
/// From the end of filling to the deadline, about.
const AHEAD: Duration = Duration::from_millis(200);
/// A cache that has dropped nothing more for so long after the deadline is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The scenario.
#[derive(Debug)]
pub struct Expiry;

/// One of its cases.
#[derive(Clone, Copy, Debug)]
pub struct ExpiryCase {
    entries: u64,
}

impl Scenario for Expiry {
    type Case = ExpiryCase;
    const NAME: &'static str = "expiry";
    const FULL_RUN: (u64, Duration) = (1, Duration::MAX);
    const MOST_ROUNDS: u32 = 5;
    const CALIBRATED: bool = false;

    fn cases(&self) -> Vec<ExpiryCase> {
        [100_000, 1_000_000].map(|entries| ExpiryCase { entries }).into()
    }

    fn words(&self, case: ExpiryCase) -> Case {
        Case::new().with("entries", case.entries)
    }

    fn prepare(&self, case: ExpiryCase, _: &Effort) -> Builder {
        Box::new(move |name| name.with_reclaim::<u64, Tracked, _>(Build { entries: case.entries })?)
    }
}

/// A value that is counted while it exists, if it is one of those that expire.
#[derive(Debug)]
pub struct Tracked(Option<&'static AtomicI64>);

impl Tracked {
    fn new(alive: &'static AtomicI64) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self(Some(alive))
    }
}

impl Clone for Tracked {
    fn clone(&self) -> Self {
        self.0.map_or(Self(None), Self::new)
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if let Some(alive) = self.0 {
            alive.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Weigh for Tracked {
    fn weigh(&self) -> u32 {
        1
    }
}

struct Build {
    entries: u64,
}

impl EnterReclaiming<u64, Tracked> for Build {
    type Output = Result<Box<dyn Run>, Absent>;

    fn enter<C: Reclaiming<u64, Tracked>>(self) -> Self::Output {
        // Room to spare, so that nothing is evicted.
        let cache = C::build(&Plan::entries((self.entries + RESIDENTS) * 5 / 4))?;
        (0..RESIDENTS).for_each(|key| cache.insert(FIRST_RESIDENT + key, Tracked(None)));
        Ok(Box::new(Together {
            cache,
            keys: (0..self.entries).collect(),
            // A few bytes for each case, so that values need not count references to it.
            alive: Box::leak(Box::new(AtomicI64::new(0))),
            reclaimed_after: Vec::new(),
            first_after: Vec::new(),
            timeline: Vec::new(),
            still_there: 0,
            waits: histogram(),
            longest: Vec::new(),
            longest_before: Vec::new(),
        }))
    }
}

struct Together<C> {
    cache: C,
    keys: Vec<u64>,
    alive: &'static AtomicI64,
    /// Milliseconds after the deadline at which the last value was dropped, a round each.
    reclaimed_after: Vec<f64>,
    /// The same of the first.
    first_after: Vec<f64>,
    /// How many values were still there so many milliseconds after the deadline, in the last round.
    timeline: Vec<(f64, i64)>,
    /// Values that a round gave up waiting for, at most.
    still_there: i64,
    waits: Histogram<u64>,
    /// Microseconds, a round each.
    longest: Vec<f64>,
    longest_before: Vec<f64>,
}

impl<C: Reclaiming<u64, Tracked>> Together<C> {
    fn alive(&self) -> i64 {
        self.alive.load(Ordering::Relaxed)
    }

    fn insert(&self, keys: &[u64], due: Instant) {
        together(FILLERS, &|filler| {
            for &key in share(keys, filler, FILLERS) {
                self.cache.insert_until(key, Tracked::new(self.alive), due);
            }
        });
    }

    /// Inserts all keys with one deadline, some time ahead, and gives it.
    fn fill(&self) -> Instant {
        let begun = Instant::now();
        let sample = &self.keys[..self.keys.len() / SAMPLE];
        self.insert(sample, begun + Duration::from_secs(3600));
        let mut expected = begun.elapsed() * SAMPLE as u32;
        loop {
            let begun = Instant::now();
            let due = begun + expected * 3 / 2 + AHEAD;
            self.insert(&self.keys, due);
            if Instant::now() < due {
                return due;
            }
            // It took longer than the sample let expect: some were dead before the last came, so all come again.
            expected = begun.elapsed() * 2;
        }
    }

    /// Watches the values go, without a call to the cache. Gives when the first and the last went.
    fn watch(&mut self, due: Instant) -> (Instant, Instant) {
        let full = self.alive();
        // A point for each hundredth that went, and for the end.
        let step = (full / 100).max(1);
        self.timeline = vec![(0.0, full)];
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let (mut first, mut last, mut before) = (None, Instant::now(), full);
        loop {
            let (now, alive) = (Instant::now(), self.alive());
            if alive != before {
                (before, last) = (alive, now);
                first = first.or(Some(now));
                if alive <= 0 || self.timeline.last().is_some_and(|(_, shown)| shown - alive >= step) {
                    self.timeline.push((now.saturating_duration_since(due).as_secs_f64() * 1e3, alive));
                }
            }
            if alive <= 0 || now.max(due) - last.max(due) > PATIENCE {
                return (first.unwrap_or(last), last);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Asks for residents until all the dead are gone; gives how long each look-up took, before and after the deadline.
    fn ask(&self, due: Instant) -> (Histogram<u64>, Histogram<u64>) {
        let (mut before, mut after) = (histogram(), histogram());
        std::thread::sleep(due.saturating_duration_since(Instant::now() + AHEAD / 2));
        for key in (0..RESIDENTS).cycle() {
            let begun = Instant::now();
            std::hint::black_box(self.cache.get(&(FIRST_RESIDENT + key)));
            let end = Instant::now();
            let waits = if end < due { &mut before } else { &mut after };
            waits.saturating_record((end - begun).as_nanos() as u64);
            // Some time more, since the last few may be on their way.
            if end > due + AHEAD && (self.alive() <= 0 || end > due + PATIENCE) {
                break;
            }
        }
        (before, after)
    }
}

impl<C: Reclaiming<u64, Tracked>> Run for Together<C> {
    fn run(&mut self, _: u32, _: u64) -> Lap {
        let due = self.fill();
        let (first, last) = self.watch(due);
        self.still_there = self.still_there.max(self.alive());
        if self.alive() <= 0 {
            self.first_after.push(first.saturating_duration_since(due).as_secs_f64() * 1e3);
            self.reclaimed_after.push(last.saturating_duration_since(due).as_secs_f64() * 1e3);
        }

        let due = self.fill();
        let (elapsed, mut waits) = together(1, &|_| self.ask(due));
        let mut lap = Lap { elapsed, ..Lap::default() };
        if let Some((before, after)) = waits.pop() {
            self.longest_before.push(before.max() as f64 / 1e3);
            self.longest.push(after.max() as f64 / 1e3);
            merge(&mut self.waits, &after);
            // The time slept before is none of the operations'.
            let asked = before.len() + after.len();
            let busy = before.mean() * before.len() as f64 + after.mean() * after.len() as f64;
            lap = Lap { elapsed: Duration::from_nanos(busy as u64), operations: asked, gets: asked, hits: asked };
        }
        lap
    }

    fn finish(&mut self) -> Fields {
        let mut fields = self.cache.remarks();
        let median = |values: &[f64]| Spread::of(values.iter().copied()).map(|spread| spread.median);
        fields.insert("reclaimed_after_ms".into(), median(&self.reclaimed_after).into());
        fields.insert("first_dropped_after_ms".into(), median(&self.first_after).into());
        fields.insert("reclaimed_after_ms_rounds".into(), self.reclaimed_after.clone().into());
        fields.insert("timeline".into(), json!(self.timeline));
        fields.insert("still_there".into(), self.still_there.into());
        fields.insert("longest_stall_us".into(), median(&self.longest).into());
        fields.insert("longest_stall_us_before".into(), median(&self.longest_before).into());
        fields.insert("p999_us".into(), (self.waits.value_at_quantile(0.999) as f64 / 1e3).into());
        fields.insert("expiry".into(), self.cache.expiry().into());
        fields
    }
}
