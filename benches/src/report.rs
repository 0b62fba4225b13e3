//! The results: rows with their figures, as one JSON object.
//!
//! The table for people is made of the same rows, in [`table`](crate::table).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::case::Case;
use crate::contestants::{Absent, Name};
use crate::machine::{self, Machine};
use crate::measure::{Effort, Entrant, Fields, Lap, Spread};

/// The results of one contestant in one case.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// The case's words.
    pub case: String,
    /// The contestant's name.
    pub contestant: String,
    /// Nanoseconds per operation over all threads; null where no operation is timed.
    pub ns_per_op: Option<Spread>,
    /// The same for each round, in order.
    pub ns_per_op_rounds: Option<Vec<f64>>,
    /// Operations per second, from the median.
    pub ops_per_s: Option<f64>,
    /// Its time over ours, round by round; absent if ours did not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ours_ahead: Option<Spread>,
    /// The share of the look-ups that hit; null where there were none.
    pub hit_ratio: Option<f64>,
    /// The number of threads the cache runs; null where the system doesn't tell.
    pub threads_owned: Option<usize>,
    /// Operations in each round; in the shortest one if they differ.
    pub operations: u64,
    /// False if it was too slow in some round: it did fewer operations than the others, or fewer than figures
    /// of this kind need.
    pub full_run: bool,
    /// What else its scenario measures.
    #[serde(flatten)]
    pub fields: Fields,
}

/// A contestant that did not take part.
#[derive(Clone, Debug, Serialize)]
pub struct Missing {
    /// The case's words.
    pub case: String,
    /// The contestant's name.
    pub contestant: String,
    /// The reason.
    pub why: String,
}

/// Returns operations per second, as a whole number unless the rate is so low that rounding would lose
/// digits.
fn rate(nanoseconds: f64) -> f64 {
    let rate = 1e9 / nanoseconds;
    if rate < 1000.0 { rate } else { rate.round() }
}

/// Everything that one call of the program measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// The machine it ran on.
    pub machine: Machine,
    /// The versions of the crates measured.
    pub versions: BTreeMap<String, String>,
    /// The arguments it was called with.
    pub arguments: Vec<String>,
    /// Rounds per contestant and case.
    pub rounds: u32,
    /// The rows: cases in order, and contestants in order within each.
    pub rows: Vec<Row>,
    /// The contestants that did not take part, and why.
    pub absent: Vec<Missing>,
}

impl Report {
    /// Creates an empty report about this machine.
    pub fn new(scenario: &str, rounds: u32, contestants: &[Name]) -> Self {
        let crates = contestants.iter().flat_map(|name| name.crates());
        let version = |name: &&str| Some(((*name).to_owned(), machine::version_of(name)?));
        Self {
            scenario: scenario.to_owned(),
            machine: Machine::here(),
            versions: crates.filter_map(version).collect(),
            arguments: std::env::args().skip(1).collect(),
            rounds,
            rows: Vec::new(),
            absent: Vec::new(),
        }
    }

    /// Records a contestant that cannot take part.
    pub fn miss(&mut self, case: &Case, contestant: Name, why: Absent) {
        self.absent.push(Missing { case: case.to_string(), contestant: contestant.to_string(), why: why.0 });
    }

    /// Adds the figures of a case whose rounds are over.
    pub fn take(&mut self, case: &Case, entrants: Vec<Entrant>, effort: &Effort) {
        let ours = entrants.iter().find(|entrant| entrant.is_ours).map(|ours| ours.laps.clone());
        for mut entrant in entrants {
            let timed = entrant.laps.iter().all(|lap| lap.operations > 0);
            let rounds: Vec<f64> = entrant.laps.iter().map(Lap::ns_per_op).collect();
            let ns_per_op = Spread::of(rounds.iter().copied()).filter(|_| timed);
            let (gets, hits) = entrant.laps.iter().fold((0, 0), |sum, lap| (sum.0 + lap.gets, sum.1 + lap.hits));
            let operations = entrant.laps.iter().map(|lap| lap.operations).min().unwrap_or(0);
            self.rows.push(Row {
                case: case.to_string(),
                contestant: entrant.name.to_string(),
                ns_per_op,
                ns_per_op_rounds: ns_per_op.map(|_| rounds),
                ops_per_s: ns_per_op.map(|time| rate(time.median)),
                ours_ahead: ours.as_deref().filter(|_| timed).and_then(|ours| Spread::of_ratios(&entrant.laps, ours)),
                hit_ratio: (gets > 0).then(|| hits as f64 / gets as f64),
                threads_owned: entrant.run.threads_owned().or(entrant.threads_owned),
                operations,
                full_run: entrant.run.was_full() && (!timed || operations >= effort.operations),
                fields: entrant.run.finish(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_rate_keeps_its_digits_and_a_fast_one_is_whole() {
        assert_eq!([rate(2.5e9), rate(3.0)], [0.4, 333_333_333.0]);
    }
}
