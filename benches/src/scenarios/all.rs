//! All scenarios, one after another, for the report.
//!
//! Each scenario shows only its most telling cases, so that a quick report takes minutes. Run the scenario
//! itself to see all of them.

use std::time::Instant;

use anyhow::Result;

use super::{
    Settings, churn, expiry, gateway, get, get_many, hot, idle, latency, memory, mixed, percore, run as run_one, scale,
};
use crate::report::Report;

/// A function that runs a scenario.
type Runner = fn(&Settings) -> Result<Report>;

/// The name of each scenario, how to run it, the cases shown, and whether a quick report runs one round only,
/// since a round takes seconds.
const SCENARIOS: [(&str, Runner, &str, bool); 13] = [
    (
        gateway::NAME,
        |settings| gateway::run(settings, &gateway::Job { trace: None, capacity: None, threads: None }),
        "",
        false,
    ),
    ("get", |settings| run_one(&get::Get, settings), "dist=zipf0.99 threads=1|8", false),
    ("get-many", |settings| run_one(&get_many::GetMany, settings), "batch=64", false),
    ("churn", |settings| run_one(&churn::Churn, settings), "capacity=100k", false),
    ("mixed", |settings| run_one(&mixed::Mixed, settings), "", false),
    ("scale", |settings| run_one(&scale::Scale, settings), "", false),
    ("hot", |settings| run_one(&hot::Hot, settings), "", true),
    ("latency", |settings| run_one(&latency::Latency, settings), "threads=8", true),
    ("expiry", |settings| run_one(&expiry::Expiry, settings), "", true),
    ("memory", |settings| run_one(&memory::Memory, settings), "entries=1M", true),
    (percore::NAME, percore::run, "", false),
    ("idle", |settings| run_one(&idle::Idle, settings), "", true),
    ("get, uniform", |settings| run_one(&get::Get, settings), "keys=1M dist=uniform threads=1|2 ttl=off", false),
];

/// Runs all scenarios, and announces each on standard error.
///
/// # Errors
/// Returns the first error of a scenario.
pub fn run(settings: &Settings) -> Result<Vec<Report>> {
    let begun = Instant::now();
    let mut reports = Vec::new();
    for (number, (name, runner, cases, once)) in SCENARIOS.into_iter().enumerate() {
        eprintln!("[{}/{}, {} s] {name}", number + 1, SCENARIOS.len(), begun.elapsed().as_secs());
        let rounds = if once && settings.quick { settings.rounds.or(Some(1)) } else { settings.rounds };
        let wishes = if cases.is_empty() { Vec::new() } else { vec![cases.parse()?] };
        let mut report = runner(&Settings { rounds, wishes, ..settings.clone() })?;
        name.clone_into(&mut report.scenario);
        reports.push(report);
    }
    Ok(reports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Wanted;

    #[test]
    fn the_cases_that_are_shown_can_be_read() {
        assert!(SCENARIOS.iter().all(|(.., cases, _)| cases.parse::<Wanted>().is_ok()));
    }
}
