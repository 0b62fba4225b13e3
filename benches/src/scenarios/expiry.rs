//! `expiry`: many entries due at the same moment, while nothing calls the cache.
//!
//! A round does this twice. The first time nothing calls the cache, and the scenario measures how long after
//! the deadline the last value is dropped. Values count themselves, and those dropped before the deadline are
//! counted separately. The second time one thread looks up other entries, over and over, and the scenario
//! measures how long it is held up until the last expired entry has left. The same thread's longest stall
//! before the deadline is reported as well, since the machine causes some stalls itself.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;

use super::{Builder, FEW_ROUNDS, Scenario};
use crate::case::Case;
use crate::contestants::{Absent, EnterReclaiming, Plan, Reclaiming, Weigh};
use crate::measure::{Effort, Fields, Lap, Run, Spread};
use crate::percentiles::{histogram, merge, reaches};
use crate::workload::threads::{anywhere, share, together};

/// Entries without a deadline, which are looked up meanwhile.
const RESIDENTS: u64 = 1000;
/// The first of their keys.
const FIRST_RESIDENT: u64 = 1 << 40;
/// Threads that fill the cache. With several, a cache that answers by message is filled in time, too.
const FILLERS: usize = 8;
/// One in this many entries is inserted first, to estimate how long all of them take.
const SAMPLE: usize = 50;
/// The approximate time from the end of filling to the deadline.
const AHEAD: Duration = Duration::from_millis(200);
/// The wait ends once a cache has dropped nothing for this long after the deadline.
const PATIENCE: Duration = Duration::from_secs(5);
/// The wait also ends after this long for a cache that still drops a few now and then.
const LIMIT: Duration = Duration::from_secs(30);
/// The time limit for filling, which is not measured itself. The attempt that is expected to run past it is
/// the last: it gets this much time from its own start, and the row says if fewer entries than wanted are in
/// by then.
const FILL_TIME: Duration = Duration::from_secs(20);
/// Insertions of one thread between two looks at the clock.
const CHUNK: usize = 64;

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
    const QUICK_ROUNDS: u32 = FEW_ROUNDS;
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
            // Leaks a few bytes per case, so that values need not count references.
            alive: Box::leak(Box::new(AtomicI64::new(0))),
            filled: self.entries as usize,
            reclaimed_after: Vec::new(),
            first_after: Vec::new(),
            timeline: Vec::new(),
            dropped_early: 0,
            still_there: 0,
            waits: histogram(),
            percentile: Vec::new(),
            longest: Vec::new(),
            longest_before: Vec::new(),
        }))
    }
}

struct Together<C> {
    cache: C,
    keys: Vec<u64>,
    alive: &'static AtomicI64,
    /// The smallest number of entries that a filling reached.
    filled: usize,
    /// Milliseconds after the deadline at which the last value was dropped, for each round; none if one
    /// stayed.
    reclaimed_after: Vec<Option<f64>>,
    /// The same for the first value.
    first_after: Vec<Option<f64>>,
    /// How many values were left this many milliseconds after the deadline, in the last round.
    timeline: Vec<(f64, i64)>,
    /// The largest number of values that were gone just before the deadline.
    dropped_early: i64,
    /// The largest number of values that a round gave up waiting for.
    still_there: i64,
    /// Look-up times of all rounds.
    waits: Histogram<u64>,
    /// Microseconds, for each round.
    percentile: Vec<Option<f64>>,
    longest: Vec<Option<f64>>,
    longest_before: Vec<Option<f64>>,
}

/// Returns the 99.9th percentile in microseconds, if there are enough operations for it.
fn percentile(waits: &Histogram<u64>) -> Option<f64> {
    reaches(waits.len(), 0.999).then(|| waits.value_at_quantile(0.999) as f64 / 1e3)
}

/// Returns the longest time in microseconds.
fn longest(waits: &Histogram<u64>) -> Option<f64> {
    (!waits.is_empty()).then(|| waits.max() as f64 / 1e3)
}

impl<C: Reclaiming<u64, Tracked>> Together<C> {
    fn alive(&self) -> i64 {
        self.alive.load(Ordering::Relaxed)
    }

    /// Inserts the keys until all are in or the time is up, and returns how many are in.
    fn insert(&self, keys: &[u64], due: Instant, until: Instant) -> usize {
        let inserted = AtomicUsize::new(0);
        anywhere(FILLERS, &|filler| {
            for chunk in share(keys, filler, FILLERS).chunks(CHUNK) {
                if Instant::now() >= until {
                    break;
                }
                for &key in chunk {
                    self.cache.insert_until(key, Tracked::new(self.alive), due);
                }
                inserted.fetch_add(chunk.len(), Ordering::Relaxed);
            }
        });
        inserted.into_inner()
    }

    /// Inserts all keys with one deadline, some time ahead, and returns it. Stores fewer keys if all would
    /// take too long.
    fn fill(&mut self) -> Instant {
        let begun = Instant::now();
        let end = begun + FILL_TIME;
        let sample = &self.keys[..self.keys.len() / SAMPLE];
        let inserted = self.insert(sample, begun + Duration::from_secs(3600), begun + FILL_TIME / 4);
        let mut expected = begun.elapsed().mul_f64(self.keys.len() as f64 / inserted.max(1) as f64);
        // None of the sample may stay behind with its later deadline if the rest is cut short.
        for key in sample {
            self.cache.remove(key);
        }
        loop {
            let begun = Instant::now();
            let last = begun + expected * 3 / 2 >= end;
            let until = if last { begun + FILL_TIME } else { begun + expected * 3 / 2 };
            let due = until + AHEAD;
            let inserted = self.insert(&self.keys, due, until);
            if last || (inserted == self.keys.len() && Instant::now() < due) {
                self.filled = self.filled.min(inserted);
                return due;
            }
            // This took longer than the sample suggested. Some entries would expire before the last is in, so
            // all are inserted again.
            expected = begun.elapsed() * 2;
        }
    }

    /// Watches the values go without calling the cache. Returns when the first and the last were dropped.
    fn watch(&mut self, due: Instant) -> (Instant, Instant) {
        const LOOK: Duration = Duration::from_millis(1);
        let filled = self.alive();
        let mut full = filled;
        std::thread::sleep(due.saturating_duration_since(Instant::now() + 5 * LOOK));
        // The last look before the deadline tells how many were dropped early.
        loop {
            let alive = self.alive();
            let ahead = due.saturating_duration_since(Instant::now());
            if ahead.is_zero() {
                break;
            }
            full = alive;
            std::thread::sleep(ahead.min(LOOK / 4));
        }
        self.dropped_early = self.dropped_early.max(filled - full);
        // One point for each hundredth that was dropped, and one for the end.
        let step = (full / 100).max(1);
        self.timeline = vec![(0.0, full)];
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
            if alive <= 0 || now - last > PATIENCE || now > due + LIMIT {
                return (first.unwrap_or(last), last);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Looks up residents until all expired entries are gone. Returns how long each look-up took, before the
    /// deadline and from then until the last had left.
    fn ask(&self, due: Instant) -> (Histogram<u64>, Histogram<u64>) {
        let (mut before, mut after) = (histogram(), histogram());
        std::thread::sleep(due.saturating_duration_since(Instant::now() + AHEAD / 2));
        for key in (0..RESIDENTS).cycle() {
            let begun = Instant::now();
            std::hint::black_box(self.cache.get(&(FIRST_RESIDENT + key)));
            let end = Instant::now();
            let waits = if end < due { &mut before } else { &mut after };
            waits.saturating_record((end - begun).as_nanos() as u64);
            // Later look-ups would only dilute the percentile.
            if end >= due && (self.alive() <= 0 || end > due + PATIENCE) {
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
        let after = |moment: Instant| moment.saturating_duration_since(due).as_secs_f64() * 1e3;
        let gone = self.alive() <= 0;
        self.first_after.push(gone.then(|| after(first)));
        self.reclaimed_after.push(gone.then(|| after(last)));

        let due = self.fill();
        let (elapsed, mut waits) = together(1, &|_| self.ask(due));
        let mut lap = Lap { elapsed, ..Lap::default() };
        if let Some((before, after)) = waits.pop() {
            self.longest_before.push(longest(&before));
            self.longest.push(longest(&after));
            self.percentile.push(percentile(&after));
            merge(&mut self.waits, &after);
            // The time slept beforehand does not count as time of the operations.
            let asked = before.len() + after.len();
            let busy = before.mean() * before.len() as f64 + after.mean() * after.len() as f64;
            lap = Lap { elapsed: Duration::from_nanos(busy as u64), operations: asked, gets: asked, hits: asked };
        }
        lap
    }

    fn was_full(&self) -> bool {
        self.filled == self.keys.len()
    }

    fn finish(&mut self) -> Fields {
        let mut fields = self.cache.remarks();
        let median = |values: &[Option<f64>]| Spread::of(values.iter().copied().flatten()).map(|spread| spread.median);
        fields.insert("reclaimed_after_ms".into(), median(&self.reclaimed_after).into());
        fields.insert("first_dropped_after_ms".into(), median(&self.first_after).into());
        fields.insert("reclaimed_after_ms_rounds".into(), self.reclaimed_after.clone().into());
        fields.insert("timeline".into(), json!(self.timeline));
        fields.insert("dropped_early".into(), self.dropped_early.into());
        fields.insert("still_there".into(), self.still_there.into());
        fields.insert("longest_stall_us".into(), median(&self.longest).into());
        fields.insert("longest_stall_us_rounds".into(), self.longest.clone().into());
        fields.insert("longest_stall_us_before".into(), median(&self.longest_before).into());
        fields.insert("p999_us".into(), percentile(&self.waits).into());
        fields.insert("p999_us_rounds".into(), self.percentile.clone().into());
        fields.insert("gets_meanwhile".into(), self.waits.len().into());
        fields.insert("expiry".into(), self.cache.expiry().into());
        if self.filled < self.keys.len() {
            fields.insert("fill_cut_at".into(), self.filled.into());
        }
        fields
    }
}
