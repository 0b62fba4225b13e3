//! Rounds and ratios: the same work for every contestant, in turn, over and over.
//!
//! Rounds run A B C A B C, so that a slow minute of the machine hits all alike, and contestants are compared within
//! each round before any median is taken.

use std::time::Duration;

use serde::Serialize;

use crate::contestants::Name;
use crate::machine::{self, Threads};

/// How long and how often to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How many times each contestant runs.
    pub rounds: u32,
    /// Operations of a full run.
    pub operations: u64,
    /// The time after which a run is too long; contestants that need more do fewer operations.
    pub budget: Duration,
}

/// One run of one contestant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lap {
    /// From the first thread's start to the last one's end.
    pub elapsed: Duration,
    /// Operations done by all threads together.
    pub operations: u64,
    /// Look-ups among them.
    pub gets: u64,
    /// Look-ups that found something.
    pub hits: u64,
}

impl Lap {
    /// Time per operation, over all threads: two threads at 10 ns each are 5 ns here.
    pub fn ns_per_op(&self) -> f64 {
        self.elapsed.as_nanos() as f64 / self.operations.max(1) as f64
    }
}

/// Work that can be done again and again on one contestant.
pub trait Run {
    /// Runs about `operations`; runs with the same `lap` and number are the same for every contestant.
    fn run(&mut self, lap: u32, operations: u64) -> Lap;

    /// Threads of the cache, where each run has a cache of its own that is gone afterwards.
    fn threads_owned(&self) -> Option<usize> {
        None
    }

    /// False when some run was less than a full one in a way that the number of operations doesn't tell. Asked before
    /// [`finish`](Self::finish).
    fn was_full(&self) -> bool {
        true
    }

    /// Called once, after the last run.
    fn finish(&mut self) -> Fields {
        Fields::new()
    }
}

/// What a scenario adds to its rows.
pub type Fields = serde_json::Map<String, serde_json::Value>;

/// A contestant in a case, and what it did so far.
pub struct Entrant {
    /// What its rows call it.
    pub name: &'static str,
    /// Whether the others are compared with it.
    pub is_ours: bool,
    /// What it does.
    pub run: Box<dyn Run>,
    /// Operations per run.
    pub operations: u64,
    /// Its runs, one per round.
    pub laps: Vec<Lap>,
    /// Threads that belong to the cache; `None` where the system doesn't tell.
    pub threads_owned: Option<usize>,
    /// All threads that it ever started, as far as that was seen.
    threads: Threads,
}

impl Entrant {
    /// Builds the contestant's run, watching which threads it starts.
    ///
    /// # Errors
    /// Whatever `build` says.
    pub fn build<E>(name: Name, operations: u64, build: impl FnOnce() -> Result<Box<dyn Run>, E>) -> Result<Self, E> {
        Self::called(name.as_str(), name.is_ours(), operations, build)
    }

    /// The same for what is measured beside the caches.
    ///
    /// # Errors
    /// Whatever `build` says.
    pub fn called<E>(
        name: &'static str,
        is_ours: bool,
        operations: u64,
        build: impl FnOnce() -> Result<Box<dyn Run>, E>,
    ) -> Result<Self, E> {
        let before = machine::threads_of_others();
        let run = build()?;
        let mut entrant =
            Self { name, is_ours, run, operations, laps: Vec::new(), threads: Threads::new(), threads_owned: None };
        entrant.count_threads(before);
        Ok(entrant)
    }

    /// Takes account of the threads that are there and were not before: they are the cache's, now and later.
    fn count_threads(&mut self, before: Option<Threads>) {
        let Some((before, now)) = before.zip(machine::threads_of_others()) else { return };
        self.threads.extend(now.difference(&before).cloned());
        self.threads_owned = self.threads_owned.max(Some(self.threads.intersection(&now).count()));
    }

    fn watched(&mut self, lap: u32, operations: u64) -> Lap {
        let before = machine::threads_of_others();
        let lap = self.run.run(lap, operations);
        self.count_threads(before);
        lap
    }

    /// Finds out how many operations fit the budget, by runs of growing length. It warms the cache up, too.
    pub fn calibrate(&mut self, effort: &Effort) {
        /// Long enough to judge by, and how often to look: the machine may have been away during one run.
        const ENOUGH: Duration = Duration::from_millis(20);
        const LOOKS: usize = 3;
        // Laps of their own, so that their keys are not met again.
        let mut laps = (0..u32::MAX).rev();
        let mut operations = effort.operations.min(8);
        loop {
            let mut best = f64::INFINITY;
            for lap in laps.by_ref().take(LOOKS) {
                let ran = self.watched(lap, operations);
                best = best.min(ran.ns_per_op());
                if ran.elapsed < ENOUGH || operations == effort.operations {
                    break;
                }
            }
            if best * operations as f64 >= ENOUGH.as_nanos() as f64 || operations == effort.operations {
                let affordable = effort.budget.as_nanos() as f64 / best.max(0.1);
                self.operations = effort.operations.min(affordable as u64).max(1);
                return;
            }
            operations = (operations * 4).min(effort.operations);
        }
    }
}

/// Runs all entrants in turn, `rounds` times. `done` hears of each run.
pub fn interleave(entrants: &mut [Entrant], rounds: u32, mut done: impl FnMut(&str)) {
    for round in 0..rounds {
        for entrant in entrants.iter_mut() {
            let lap = entrant.watched(round, entrant.operations);
            entrant.laps.push(lap);
            done(entrant.name);
        }
    }
}

/// The middle and the ends of some measurements.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of at least one value; `None` of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() {
            0 => return None,
            odd if odd % 2 == 1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        Some(Self { median, min: values[0], max: values[values.len() - 1] })
    }

    /// Times of `theirs` over times of `ours`, round by round.
    pub fn of_ratios(theirs: &[Lap], ours: &[Lap]) -> Option<Self> {
        Self::of(theirs.iter().zip(ours).map(|(theirs, ours)| theirs.ns_per_op() / ours.ns_per_op()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::thread::JoinHandle;

    use super::*;

    fn lap(nanoseconds: u64) -> Lap {
        Lap { elapsed: Duration::from_nanos(nanoseconds), operations: 1, ..Lap::default() }
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 9.0]), Some(Spread { median: 3.0, min: 1.0, max: 9.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ratios_are_taken_within_rounds_not_between_medians() {
        // The machine was ten times slower in the second round, for both.
        let (ours, theirs) = ([lap(10), lap(100), lap(10)], [lap(20), lap(200), lap(30)]);
        assert_eq!(Spread::of_ratios(&theirs, &ours), Some(Spread { median: 2.0, min: 2.0, max: 3.0 }));
    }

    struct Slow;
    impl Run for Slow {
        fn run(&mut self, _: u32, operations: u64) -> Lap {
            Lap { elapsed: Duration::from_millis(operations), operations, ..Lap::default() }
        }
    }

    #[test]
    fn a_contestant_too_slow_for_a_full_run_does_fewer_operations() {
        let effort = Effort { rounds: 1, operations: 1_000_000, budget: Duration::from_millis(50) };
        let mut entrant = Entrant::build(Name::Moka, effort.operations, || Ok::<_, ()>(Box::new(Slow) as _)).unwrap();
        entrant.calibrate(&effort);
        assert_eq!(entrant.operations, 50);
    }

    /// Ends somebody else's thread and starts one of its own, which stays.
    struct Successor {
        predecessor: Option<(Sender<()>, JoinHandle<()>)>,
        own: Option<Sender<()>>,
    }

    fn idler() -> (Sender<()>, JoinHandle<()>) {
        let (sender, receiver) = channel();
        // It ends when the sender is dropped.
        let wait = move || {
            let _gone = receiver.recv();
        };
        (sender, std::thread::spawn(wait))
    }

    impl Run for Successor {
        fn run(&mut self, _: u32, operations: u64) -> Lap {
            if let Some((sender, thread)) = self.predecessor.take() {
                drop(sender);
                thread.join().unwrap();
                self.own = Some(idler().0);
            }
            Lap { operations, ..Lap::default() }
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_is_counted_also_where_another_one_s_ends_meanwhile() {
        let predecessor = Some(idler());
        let run = Box::new(Successor { predecessor, own: None });
        let mut entrant = Entrant::called("successor", false, 1, || Ok::<_, ()>(run as _)).unwrap();
        entrant.watched(0, 1);
        entrant.watched(1, 1);
        // At least: tests that run beside this one have threads, too.
        assert!(entrant.threads_owned >= Some(1), "{:?}", entrant.threads_owned);
    }
}
