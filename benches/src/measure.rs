//! Rounds and ratios: every contestant does the same work, in turn, over and over.
//!
//! Rounds run A B C A B C, so that a slow minute of the machine hits all alike. Contestants are compared
//! within each round before any median is taken.

use std::time::Duration;

use serde::Serialize;

use crate::contestants::Name;
use crate::machine::{self, Threads};

/// How long and how often to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How many times each contestant runs.
    pub rounds: u32,
    /// The number of operations in a full run.
    pub operations: u64,
    /// The time limit for a run. Contestants that would need more do fewer operations.
    pub budget: Duration,
}

/// One run of one contestant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lap {
    /// The time from the first thread's start to the last one's end.
    pub elapsed: Duration,
    /// The number of operations done by all threads together.
    pub operations: u64,
    /// The number of look-ups among them.
    pub gets: u64,
    /// The number of look-ups that found something.
    pub hits: u64,
}

impl Lap {
    /// Returns the time per operation over all threads: two threads at 10 ns each make 5 ns.
    pub fn ns_per_op(&self) -> f64 {
        self.elapsed.as_nanos() as f64 / self.operations.max(1) as f64
    }
}

/// Work that can be repeated on one contestant.
pub trait Run {
    /// Runs about `operations` operations. Runs with the same `lap` and number of operations are the same for
    /// every contestant.
    fn run(&mut self, lap: u32, operations: u64) -> Lap;

    /// Returns the number of threads the cache owns, if each run has its own cache that is gone afterwards.
    fn threads_owned(&self) -> Option<usize> {
        None
    }

    /// Returns false if some run was not a full one in a way that the number of operations doesn't show.
    /// Called before [`finish`](Self::finish).
    fn was_full(&self) -> bool {
        true
    }

    /// Returns what the scenario adds to the row. Called once, after the last run.
    fn finish(&mut self) -> Fields {
        Fields::new()
    }
}

/// What a scenario adds to its rows.
pub type Fields = serde_json::Map<String, serde_json::Value>;

/// A contestant in a case, and its results so far.
pub struct Entrant {
    /// Its name in rows.
    pub name: &'static str,
    /// Whether this is the contestant that the others are compared with.
    pub is_ours: bool,
    /// The work it does.
    pub run: Box<dyn Run>,
    /// The number of operations per run.
    pub operations: u64,
    /// Its runs, one per round.
    pub laps: Vec<Lap>,
    /// The number of threads that belong to the cache; `None` where the system doesn't tell.
    pub threads_owned: Option<usize>,
    /// All threads seen so far that the cache started.
    threads: Threads,
}

impl Entrant {
    /// Builds the contestant's run and watches which threads it starts.
    ///
    /// # Errors
    /// Whatever `build` returns.
    pub fn build<E>(name: Name, operations: u64, build: impl FnOnce() -> Result<Box<dyn Run>, E>) -> Result<Self, E> {
        Self::called(name.as_str(), name.is_ours(), operations, build)
    }

    /// Does the same for something that is measured alongside the caches.
    ///
    /// # Errors
    /// Whatever `build` returns.
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

    /// Records the threads that exist now and did not before: from now on they count as the cache's.
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

    /// Finds out how many operations fit the budget, with runs of growing length. This also warms the cache
    /// up.
    pub fn calibrate(&mut self, effort: &Effort) {
        /// A run this long is enough to judge by. Each length is tried this many times, since the machine may
        /// have been busy elsewhere during one run.
        const ENOUGH: Duration = Duration::from_millis(20);
        const LOOKS: usize = 3;
        // Laps counted down from the top, so that the rounds don't meet their keys again.
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

/// Runs all entrants in turn, `rounds` times. `done` is told of each run.
pub fn interleave(entrants: &mut [Entrant], rounds: u32, mut done: impl FnMut(&str)) {
    for round in 0..rounds {
        for entrant in entrants.iter_mut() {
            let lap = entrant.watched(round, entrant.operations);
            entrant.laps.push(lap);
            done(entrant.name);
        }
    }
}

/// The median and the extremes of some measurements.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
}

impl Spread {
    /// Returns the spread of the values, or `None` if there are none.
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

    /// Returns the spread of `theirs` over `ours`, round by round.
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

    /// Ends another cache's thread and starts its own, which stays.
    struct Successor {
        predecessor: Option<(Sender<()>, JoinHandle<()>)>,
        own: Option<Sender<()>>,
    }

    fn idler() -> (Sender<()>, JoinHandle<()>) {
        let (sender, receiver) = channel();
        // The thread ends when the sender is dropped.
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
        // "At least", because tests that run at the same time have threads, too.
        assert!(entrant.threads_owned >= Some(1), "{:?}", entrant.threads_owned);
    }
}
