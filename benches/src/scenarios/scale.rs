//! `scale`: the requests of [`mixed`](super::mixed) from more and more threads, up to twice the cores and
//! beyond.

use std::time::Duration;

use super::mixed::{Mixed, MixedCase};
use super::{Builder, FEW_ROUNDS, Scenario};
use crate::case::Case;
use crate::machine;
use crate::measure::Effort;

/// A number of threads that is always measured, however few the cores.
const CROWD: usize = 8;

/// The scenario.
#[derive(Debug)]
pub struct Scale;

/// Returns each number of threads up to eight and then powers of two, up to twice the cores, and the crowd.
fn threads(cores: usize) -> Vec<usize> {
    let few = 1..=8;
    let many = (4..).map(|power| 1 << power);
    let mut threads: Vec<usize> = few.chain(many.take_while(|count| *count < 2 * cores)).collect();
    threads.retain(|count| *count <= 2 * cores);
    threads.extend([2 * cores, CROWD]);
    threads.sort_unstable();
    threads.dedup();
    threads
}

impl Scenario for Scale {
    type Case = MixedCase;
    const NAME: &'static str = "scale";
    const FULL_RUN: (u64, Duration) = Mixed::FULL_RUN;
    const QUICK_ROUNDS: u32 = FEW_ROUNDS;

    fn cases(&self) -> Vec<MixedCase> {
        threads(machine::cores()).into_iter().map(MixedCase::of_threads).collect()
    }

    fn words(&self, case: MixedCase) -> Case {
        Mixed.words(case)
    }

    fn prepare(&self, case: MixedCase, effort: &Effort) -> Builder {
        Mixed.prepare(case, effort)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_go_from_one_to_twice_the_cores_and_a_crowd_is_always_there() {
        assert_eq!(threads(2), [1, 2, 3, 4, 8]);
        assert_eq!(threads(12), [1, 2, 3, 4, 5, 6, 7, 8, 16, 24]);
        assert_eq!(threads(1), [1, 2, 8]);
    }
}
