//! The scenarios: what is done with a cache, one file each.
//!
//! Those that make their own keys implement [`Scenario`], a list of cases with a way to build each
//! contestant's run, and share [`run`]. `replay` and the main job work through a recorded or simulated stream
//! and have their own `run`.

pub mod all;
pub mod churn;
pub mod expiry;
pub mod gateway;
pub mod get;
pub mod get_many;
pub mod hot;
pub mod idle;
pub mod latency;
pub mod memory;
pub mod mixed;
pub mod percore;
pub mod replay;
pub mod scale;

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::case::{Case, Wanted, choose};
use crate::contestants::{Absent, Contestant, Key, Name, Value};
use crate::measure::{Effort, Entrant, Run, interleave};
use crate::progress::Progress;
use crate::report::Report;

/// What was asked for, whatever the scenario.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether runs are shorter.
    pub quick: bool,
    /// How many times each contestant runs, if that was given.
    pub rounds: Option<u32>,
    /// The contestants that take part.
    pub contestants: Vec<Name>,
    /// Which cases to run; all if empty.
    pub wishes: Vec<Wanted>,
}

/// Builds a contestant's run from keys that have already been made.
pub type Builder = Box<dyn Fn(Name) -> Result<Box<dyn Run>, Absent>>;

/// A scenario that makes its own keys.
pub trait Scenario {
    /// One of its cases.
    type Case: Copy;

    /// Its name on the command line and in reports.
    const NAME: &'static str;

    /// The number of operations in a full run, and the time after which a contestant does fewer. A scenario
    /// that lasts a fixed time has one operation, and takes that time from the effort.
    const FULL_RUN: (u64, Duration);
    /// The number of rounds of a quick run: as many as otherwise, unless a round takes seconds.
    const QUICK_ROUNDS: u32 = ROUNDS;
    /// The number of rounds beyond which nothing new is learned.
    const MOST_ROUNDS: u32 = u32::MAX;
    /// Whether runs are lengthened until they fit the time. Runs of a fixed length aren't.
    const CALIBRATED: bool = true;

    /// Returns all its cases.
    fn cases(&self) -> Vec<Self::Case>;

    /// Returns the case in words.
    fn words(&self, case: Self::Case) -> Case;

    /// Makes the case's keys, once for all contestants, and returns the function that builds a contestant's
    /// run.
    fn prepare(&self, case: Self::Case, effort: &Effort) -> Builder;
}

/// Quick runs do an eighth of the operations in a quarter of the time, so that a contestant that does a full
/// run otherwise still does one.
const QUICKER: (u64, u32) = (8, 4);

/// The number of rounds, unless it was given.
const ROUNDS: u32 = 7;
/// The number of rounds of a quick run where a round takes seconds.
const FEW_ROUNDS: u32 = 3;

impl Settings {
    /// Returns how many times each contestant runs; `quick` times in a quick run, unless the number was given.
    pub fn rounds(&self, quick: u32) -> u32 {
        self.rounds.unwrap_or(if self.quick { quick } else { ROUNDS })
    }

    /// Returns the effort for one case.
    fn effort(&self, (operations, budget): (u64, Duration), rounds: u32) -> Effort {
        let (fewer, sooner) = if self.quick { QUICKER } else { (1, 1) };
        Effort { rounds, operations: (operations / fewer).max(1), budget: budget / sooner }
    }
}

/// Runs all wanted cases of a scenario.
///
/// # Errors
/// If no case is wanted.
pub fn run<S: Scenario>(scenario: &S, settings: &Settings) -> Result<Report> {
    let cases = choose(scenario.cases(), &settings.wishes, |case| scenario.words(*case))?;
    let effort = settings.effort(S::FULL_RUN, settings.rounds(S::QUICK_ROUNDS).min(S::MOST_ROUNDS));
    let mut report = Report::new(S::NAME, effort.rounds, &settings.contestants);
    let steps = cases.len() * settings.contestants.len() * effort.rounds as usize;
    let mut progress = Progress::new(steps as u64);
    for case in cases {
        let words = scenario.words(case);
        progress.begin(format!("{} {words}", S::NAME));
        let build = scenario.prepare(case, &effort);
        let mut entrants = Vec::new();
        for &name in &settings.contestants {
            match Entrant::build(name, effort.operations, || build(name)) {
                Ok(mut entrant) => {
                    if S::CALIBRATED {
                        entrant.calibrate(&effort);
                    }
                    entrants.push(entrant);
                }
                Err(why) => report.miss(&words, name, why),
            }
        }
        interleave(&mut entrants, effort.rounds, |name| progress.step(name));
        report.take(&words, entrants, &effort);
    }
    progress.end();
    Ok(report)
}

/// Stores entries as fast as the cache can until all are in or the time is up. Returns how many were stored.
fn fill_within<K: Key, V: Value, C: Contestant<K, V>>(
    cache: &C,
    entries: impl IntoIterator<Item = (K, V)>,
    time: Duration,
) -> u64 {
    /// Entries stored between two looks at the clock.
    const CHUNK: usize = 4096;
    let begun = Instant::now();
    let mut entries = entries.into_iter().peekable();
    let mut stored = 0;
    while entries.peek().is_some() && begun.elapsed() < time {
        let chunk = entries.by_ref().take(CHUNK).inspect(|_| stored += 1);
        cache.insert_many(chunk);
    }
    stored
}

/// Returns the part of `0..length` that a lap of `operations` covers. Each lap continues where the one before
/// ended, and starts over at the end.
fn window(lap: u32, operations: u64, length: usize) -> std::ops::Range<usize> {
    let operations = usize::try_from(operations).map_or(length, |operations| operations.min(length));
    let places = length / operations.max(1);
    let start = lap as usize % places.max(1) * operations;
    start..start + operations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestants::Plan;

    /// A cache that takes a millisecond for each batch it stores.
    struct Slow;

    impl Contestant<u64, u64> for Slow {
        fn build(_: &Plan) -> Result<Self, Absent> {
            Ok(Self)
        }
        fn get(&self, _: &u64) -> Option<u64> {
            None
        }
        fn insert(&self, _: u64, _: u64) {}
        fn insert_many(&self, entries: impl IntoIterator<Item = (u64, u64)>) {
            entries.into_iter().for_each(|_| ());
            std::thread::sleep(Duration::from_millis(1));
        }
        fn remove(&self, _: &u64) -> bool {
            false
        }
        fn entries(&self) -> u64 {
            0
        }
        fn expiry(&self) -> &'static str {
            "none"
        }
    }

    #[test]
    fn filling_ends_with_the_entries_or_with_the_time() {
        let entries = |count: u64| (0..count).map(|key| (key, key));
        assert_eq!(fill_within(&Slow, entries(10_000), Duration::from_secs(60)), 10_000);
        let cut = fill_within(&Slow, entries(u64::MAX), Duration::from_millis(20));
        assert!(cut > 0 && cut % 4096 == 0, "{cut}");
    }

    #[test]
    fn short_laps_walk_through_all_the_keys_and_full_ones_repeat_them() {
        assert_eq!([0, 1, 2, 3].map(|lap| window(lap, 30, 100)), [0..30, 30..60, 60..90, 0..30]);
        assert_eq!(window(5, 100, 100), 0..100);
        assert_eq!(window(5, 1000, 100), 0..100);
    }
}
