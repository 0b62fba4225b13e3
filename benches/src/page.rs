//! The report for people: all scenarios as one HTML page that needs nothing beside itself.
//!
//! Made of the same rows as the tables and the JSON. What a plot shows depends on the scenario alone.

use std::fmt::Write;

use anyhow::Result;

use crate::plots::{Bar, Group, Line, bars, lines};
use crate::report::{Report, Row};
use crate::table::{self, OURS};

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#222}\
    table{border-collapse:collapse;font-size:12px}td,th{border:1px solid #ddd;padding:2px 6px;text-align:right}\
    td:nth-child(-n+2),th:nth-child(-n+2){text-align:left}details{margin:.5em 0}svg{max-width:100%;height:auto}\
    code{background:#f4f4f4;padding:1px 4px}.lead{font-size:17px}";

/// The page.
///
/// # Errors
/// When a plot can't be drawn.
pub fn render(reports: &[Report]) -> Result<String> {
    let mut page = String::from("<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>sark-bench</title>");
    let _ = write!(page, "<style>{STYLE}</style>\n<h1>sark-cache beside other caches</h1>");
    if let Some(first) = reports.first() {
        let machine = &first.machine;
        let cores = machine.cores;
        let _ = write!(page, "<p>{}, {cores} cores, {}. ", escape(&machine.cpu), machine.os);
        let mut versions: Vec<String> = Vec::new();
        for (name, version) in reports.iter().flat_map(|report| &report.versions) {
            let version = format!("{name} {version}");
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
        let _ = write!(page, "{}. ", escape(&versions.join(", ")));
        let _ = write!(page, "Made by <code>sark-bench {}</code>.</p>", escape(&first.arguments.join(" ")));
    }
    let _ = write!(page, "\n<p class=\"lead\">{}</p>", escape(&verdict(reports)));
    page.push_str(
        "<p>Contestants run in turn, round by round; ratios are taken within a round, and bars show the median with \
         the least and the greatest. Axes of bars are logarithmic. Figures of a busy machine say less than their ranges.</p>",
    );
    for report in reports {
        section(&mut page, report)?;
    }
    page.push_str("</html>\n");
    Ok(page)
}

/// One sentence: where we win, where we lose.
fn verdict(reports: &[Report]) -> String {
    let (mut ahead, mut all) = (0, 0);
    let mut lost: Vec<String> = Vec::new();
    for report in reports {
        for name in table::contestants(report).into_iter().filter(|name| *name != OURS && !OF_OUR_OWN.contains(name)) {
            let ratios = report.rows.iter().filter(|row| row.contestant == name).filter_map(|row| row.ours_ahead);
            let medians: Vec<f64> = ratios.map(|ratio| ratio.median).collect();
            let behind: Vec<f64> = medians.iter().copied().filter(|ratio| *ratio < 1.0).collect();
            all += medians.len();
            ahead += medians.len() - behind.len();
            if let Some(worst) = behind.iter().copied().reduce(f64::min) {
                let (scenario, count, of) = (&report.scenario, behind.len(), medians.len());
                lost.push(format!("{name} in {count} of {of} cases of {scenario} (at worst {worst:.2} of our time)"));
            }
        }
    }
    let lost = if lost.is_empty() { "nobody".to_owned() } else { lost.join("; ") };
    format!("In time per operation sark-cache was ahead in {ahead} of {all} comparisons; ahead of it were {lost}.")
}

/// Ours in other forms, and what is no cache.
const OF_OUR_OWN: [&str; 3] = ["sark-cache-percore", "bare-shard", "ping-pong"];

fn section(page: &mut String, report: &Report) -> Result<()> {
    let _ = write!(page, "\n<h2>{}</h2>", escape(&report.scenario));
    let cases = table::cases(report);
    for sentence in table::sentences(report, &cases) {
        let _ = write!(page, "<p>{}</p>", escape(&sentence));
    }
    match report.scenario.as_str() {
        "scale" => scaling(page, report)?,
        "latency" => latencies(page, report)?,
        "memory" => plot_field(page, report, "bytes per entry beyond key and value", "bytes_per_entry")?,
        "idle" => plot_field(page, report, "ms of processor time while idle", "cpu_ms")?,
        "expiry" => {
            plot_field(page, report, "ms after the deadline until the last value was dropped", "reclaimed_after_ms")?;
            plot_field(page, report, "longest stall of a look-up meanwhile, us", "longest_stall_us")?;
        }
        _ => {
            let shown = |row: &Row| row.ns_per_op.map(|time| (time.median, time.min, time.max));
            page.push_str(&bars("ns per operation", &groups(report, shown))?);
        }
    }
    let _ = write!(page, "<details><summary>All figures</summary>{}</details>", table::html(report));
    Ok(())
}

fn plot_field(page: &mut String, report: &Report, unit: &str, field: &str) -> Result<()> {
    let shown = |row: &Row| row.fields.get(field)?.as_f64().map(|value| (value, value, value));
    page.push_str(&bars(unit, &groups(report, shown))?);
    Ok(())
}

fn groups(report: &Report, shown: impl Fn(&Row) -> Option<(f64, f64, f64)>) -> Vec<Group> {
    let group = |case: &&str| {
        let rows = report.rows.iter().filter(|row| row.case == **case);
        let bars = rows.filter_map(|row| {
            let (value, from, to) = shown(row)?;
            Some(Bar { label: row.contestant.clone(), value, from, to, colour: colour(report, &row.contestant) })
        });
        Group { heading: (*case).to_owned(), bars: bars.collect() }
    };
    table::cases(report).iter().map(group).collect()
}

/// The place of a contestant among those of its report; ours comes first.
fn colour(report: &Report, contestant: &str) -> usize {
    table::contestants(report).iter().position(|name| *name == contestant).unwrap_or(0)
}

fn scaling(page: &mut String, report: &Report) -> Result<()> {
    let cases = table::cases(report);
    let places: Vec<String> = cases.iter().map(|case| word(case, "threads").to_owned()).collect();
    let line = |name: &&str| {
        let points = cases.iter().enumerate().filter_map(|(place, case)| {
            let row = report.rows.iter().find(|row| row.case == *case && row.contestant == **name)?;
            Some((place as f64, row.ops_per_s? / 1e6))
        });
        Line { label: (*name).to_owned(), points: points.collect(), colour: colour(report, name) }
    };
    page.push_str("<p>Million operations per second by threads.</p>");
    let all: Vec<Line> = table::contestants(report).iter().map(line).collect();
    page.push_str(&lines(&places, "Mops/s", &all, false)?);
    Ok(())
}

fn latencies(page: &mut String, report: &Report) -> Result<()> {
    const PLACES: [&str; 6] = ["p50", "p90", "p99", "p99.9", "p99.99", "max"];
    for case in table::cases(report) {
        for operation in ["get", "insert"] {
            let rows = report.rows.iter().filter(|row| row.case == case);
            let line = |row: &Row| {
                let percentiles = row.fields.get("percentiles_ns")?.get(operation)?;
                let at = |(place, name): (usize, &&str)| Some((place as f64, percentiles.get(name)?.as_f64()?));
                let points: Vec<(f64, f64)> = PLACES.iter().enumerate().filter_map(at).collect();
                Some(Line { label: row.contestant.clone(), points, colour: colour(report, &row.contestant) })
            };
            let all: Vec<Line> = rows.filter_map(line).collect();
            let _ = write!(page, "<p>{operation}, {}</p>", escape(case));
            page.push_str(&lines(&PLACES.map(str::to_owned), "ns", &all, true)?);
        }
    }
    Ok(())
}

/// The value of a word of a case.
fn word<'a>(case: &'a str, name: &str) -> &'a str {
    let words = case.split(' ').filter_map(|word| word.split_once('='));
    words.into_iter().find(|(word, _)| *word == name).map_or("", |(_, value)| value)
}

/// Text that stands in HTML as it is.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_line_says_is_no_markup() {
        assert_eq!(escape("a<b & c>d"), "a&lt;b &amp; c&gt;d");
    }

    #[test]
    fn a_word_of_a_case_is_found_by_its_name() {
        assert_eq!(word("keys=10 dist=uniform threads=8", "threads"), "8");
        assert_eq!(word("keys=10", "threads"), "");
    }

    #[test]
    fn a_page_of_nothing_is_still_a_page() {
        assert!(render(&[]).unwrap().ends_with("</html>\n"));
    }
}
