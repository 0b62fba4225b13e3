//! What a report shows in short: for each scenario, by which figures caches are judged there, and who is ahead.
//!
//! A ratio is a contestant's figure over ours in the same case; less is better in every figure here, so above one means
//! that we are ahead. The same ratios make the table, the sentences and the page.

use std::fmt::Write;

use crate::report::{Report, Row};
use crate::table::{self, OURS};

/// Ours in its other form: shown, but nobody to win against.
const OUR_OTHER: &str = "sark-cache-percore";

/// A figure that caches are judged by.
pub struct Judged {
    /// What it is called.
    pub name: &'static str,
    /// It, of a row.
    pub of: fn(&Row) -> Option<f64>,
}

/// What a scenario is judged by; nothing, where no cache is compared with another.
pub fn judged(scenario: &str) -> Vec<Judged> {
    let field = |name, of| vec![Judged { name, of }];
    match scenario {
        "percore" => Vec::new(),
        "latency" => vec![
            Judged { name: "p99.9 of gets", of: |row| percentile(row, "get", "p99.9") },
            Judged { name: "p99.99 of gets", of: |row| percentile(row, "get", "p99.99") },
            Judged { name: "p99.9 of inserts", of: |row| percentile(row, "insert", "p99.9") },
            Judged { name: "p99.99 of inserts", of: |row| percentile(row, "insert", "p99.99") },
        ],
        "expiry" => vec![
            Judged { name: "time until the last value is dropped", of: |row| number(row, "reclaimed_after_ms") },
            Judged { name: "p99.9 of gets meanwhile", of: |row| number(row, "p999_us") },
        ],
        "memory" => field("bytes per entry", |row| number(row, "bytes_per_entry")),
        "idle" => field("processor time", |row| number(row, "cpu_ms")),
        _ => field("time per operation", |row| Some(row.ns_per_op?.median)),
    }
}

fn number(row: &Row, field: &str) -> Option<f64> {
    row.fields.get(field)?.as_f64()
}

/// A percentile, if there were operations enough for one to lie beyond it.
pub(crate) fn percentile(row: &Row, operation: &str, which: &str) -> Option<f64> {
    let all = row.fields.get("percentiles_ns")?.get(operation)?;
    let count = all.get("count")?.as_f64()?;
    let enough = match which.strip_prefix('p') {
        Some(percent) => count * (100.0 - percent.parse::<f64>().ok()?) / 100.0 >= 1.0,
        None => true,
    };
    all.get(which)?.as_f64().filter(|_| enough)
}

/// One contestant beside ours in one scenario.
pub struct Beside {
    /// Who.
    pub contestant: String,
    /// Its figures over ours, a case each.
    pub ratios: Vec<f64>,
}

impl Beside {
    /// In how many cases its figure is less than ours.
    fn ahead_of_us(&self) -> usize {
        self.ratios.iter().filter(|ratio| **ratio < 1.0).count()
    }

    /// The least and the greatest ratio; the first is where it does best.
    pub fn ends(&self) -> (f64, f64) {
        let least = self.ratios.iter().copied().fold(f64::INFINITY, f64::min);
        (least, self.ratios.iter().copied().fold(0.0, f64::max))
    }
}

/// A scenario by one of its figures.
pub struct Line {
    /// The scenario.
    pub scenario: String,
    /// The figure.
    pub by: &'static str,
    /// The others.
    pub beside: Vec<Beside>,
}

/// The lines of a scenario.
pub fn of(report: &Report) -> Vec<Line> {
    let line = |judged: Judged| {
        let beside = table::contestants(report).into_iter().filter(|name| *name != OURS).map(|name| {
            let rows = report.rows.iter().filter(|row| row.contestant == name);
            let ratio = |row: &Row| {
                let ours = report.rows.iter().find(|ours| ours.contestant == OURS && ours.case == row.case)?;
                if judged.name == "time per operation" {
                    return Some(row.ours_ahead?.median);
                }
                let ours = (judged.of)(ours).filter(|figure| *figure > 0.0)?;
                Some((judged.of)(row)? / ours)
            };
            Beside { contestant: name.to_owned(), ratios: rows.filter_map(ratio).collect() }
        });
        let beside = beside.filter(|beside| !beside.ratios.is_empty()).collect();
        Line { scenario: report.scenario.clone(), by: judged.name, beside }
    };
    judged(&report.scenario).into_iter().map(line).filter(|line| !line.beside.is_empty()).collect()
}

/// Where we win and where we lose, in one sentence.
pub fn sentence(line: &Line) -> String {
    let (mut losing, mut winning): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for beside in line.beside.iter().filter(|beside| beside.contestant != OUR_OTHER) {
        let (least, most) = beside.ends();
        let (ahead, cases) = (beside.ahead_of_us(), beside.ratios.len());
        let name = &beside.contestant;
        if ahead > 0 {
            let of = if cases == 1 { String::new() } else { format!(" in {ahead} of {cases} cases, at best") };
            losing.push(format!("{name}{of} {}", figure(least)));
        } else if cases == 1 || figure(least) == figure(most) {
            winning.push(format!("{name} {}", figure(least)));
        } else {
            winning.push(format!("{name} {} to {}", figure(least), figure(most)));
        }
    }
    let by = line.by;
    let losing = if losing.is_empty() { "to nobody".into() } else { format!("to {}", losing.join(", ")) };
    let winning = if winning.is_empty() { "nobody in all cases".into() } else { winning.join(", ") };
    format!("By {by}, as a multiple of ours: we lose {losing}; we beat {winning}.")
}

/// A ratio with the digits that say something.
pub fn figure(ratio: f64) -> String {
    match ratio {
        great if great >= 9.95 => format!("{great:.0}"),
        middle if middle >= 2.0 => format!("{middle:.1}"),
        tiny if tiny < 0.1 => format!("{tiny:.3}"),
        small => format!("{small:.2}"),
    }
}

/// What a cell of the summary says: the range over the cases.
pub fn range(beside: &Beside) -> String {
    let (least, most) = beside.ends();
    let (least, most) = (figure(least), figure(most));
    if least == most { least } else { format!("{least} to {most}") }
}

/// True where somebody is ahead of us in some case.
pub fn loses(beside: &Beside) -> bool {
    beside.ahead_of_us() > 0
}

/// The columns of a summary: everybody who is in a line, in order.
pub fn columns(lines: &[Line]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for beside in lines.iter().flat_map(|line| &line.beside) {
        if !names.contains(&beside.contestant.as_str()) {
            names.push(&beside.contestant);
        }
    }
    names
}

/// Of all ratios, how many are above one, and how many there are.
pub fn score(lines: &[Line]) -> (usize, usize) {
    let others = lines.iter().flat_map(|line| &line.beside).filter(|beside| beside.contestant != OUR_OTHER);
    others.fold((0, 0), |(ahead, all), beside| {
        (ahead + beside.ratios.len() - beside.ahead_of_us(), all + beside.ratios.len())
    })
}

/// The summary as a Markdown table; bold where somebody is ahead of us in some case.
pub fn markdown(lines: &[Line]) -> String {
    let columns = columns(lines);
    let mut text =
        format!("| scenario | judged by | {} |\n|---|---|{}\n", columns.join(" | "), "---|".repeat(columns.len()));
    for line in lines {
        let _ = write!(text, "| {} | {} |", line.scenario, line.by);
        for name in &columns {
            let cell = line.beside.iter().find(|beside| beside.contestant == *name).map_or(String::new(), |beside| {
                if loses(beside) { format!("**{}**", range(beside)) } else { range(beside) }
            });
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(ratios: &[(&str, &[f64])]) -> Line {
        let beside = |(name, ratios): &(&str, &[f64])| Beside { contestant: (*name).into(), ratios: ratios.to_vec() };
        Line { scenario: "get".into(), by: "time per operation", beside: ratios.iter().map(beside).collect() }
    }

    #[test]
    fn a_sentence_says_who_is_ahead_of_us_and_whom_we_beat() {
        let line = line(&[("quick_cache", &[0.56, 1.35, 0.9]), ("moka", &[2.7, 10.59])]);
        let expected = "By time per operation, as a multiple of ours: we lose to quick_cache in 2 of 3 cases, at best \
                        0.56; we beat moka 2.7 to 11.";
        assert_eq!(sentence(&line), expected);
    }

    #[test]
    fn in_the_table_what_we_lose_is_bold_and_who_was_absent_has_an_empty_cell() {
        let lines = [line(&[("quick_cache", &[0.5, 1.0])]), line(&[("moka", &[3.0])])];
        let table = markdown(&lines);
        assert!(table.contains("| get | time per operation | **0.50 to 1.00** |  |"), "{table}");
        assert!(table.contains("| get | time per operation |  | 3.0 |"), "{table}");
        assert_eq!(score(&lines), (2, 3));
    }
}
