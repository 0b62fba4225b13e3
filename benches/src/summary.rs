//! The short form of a report: which figures caches are judged by in each scenario, and which cache is ahead.
//!
//! A ratio is a contestant's figure over ours in the same case and round; the median of the rounds is shown.
//! Smaller is better for every figure here, so a ratio above one means that we are ahead. The table, the
//! sentences and the page use the same ratios.

use std::fmt::Write;

use crate::measure::Spread;
use crate::report::{Report, Row};
use crate::table::{self, OURS};
use crate::workload::threads::SEATS;

/// Our cache in its other form: shown, but not counted as a competitor.
const OUR_OTHER: &str = "sark-cache-percore";

/// The scenario that repeats the requests of `mixed`, so that the score does not count it a second time.
const REPEATS_MIXED: &str = "scale";

/// Milliseconds of processor time that waking the measuring thread may take. Less than that says nothing
/// about a cache.
pub const IDLE_NOISE_MS: f64 = 1.0;

/// A figure that rows have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Time per operation.
    Time,
    /// A field. Its values for each round are in the field of that name with the suffix `_rounds`.
    Field(&'static str),
    /// A percentile of an operation.
    Percentile(&'static str, &'static str),
}

impl Figure {
    /// Returns the figure of a row.
    pub fn of(self, row: &Row) -> Option<f64> {
        match self {
            Self::Time => Some(row.ns_per_op?.median),
            Self::Field(name) => row.fields.get(name)?.as_f64(),
            Self::Percentile(operation, which) => percentile(row, operation, which),
        }
    }

    /// Returns the figure of each round of a row, or `None` if the row has no rounds for it.
    fn rounds(self, row: &Row) -> Option<Vec<Option<f64>>> {
        match self {
            Self::Time => Some(row.ns_per_op_rounds.as_ref()?.iter().copied().map(Some).collect()),
            Self::Field(name) => {
                let rounds = row.fields.get(&format!("{name}_rounds"))?.as_array()?;
                Some(rounds.iter().map(serde_json::Value::as_f64).collect())
            }
            Self::Percentile(operation, which) => {
                let rounds = row.fields.get("percentiles_ns_rounds")?.get(operation)?.as_array()?;
                Some(rounds.iter().map(|round| round.get(which)?.as_f64()).collect())
            }
        }
    }

    /// Returns the smallest and the largest round of a row.
    pub fn ends(self, row: &Row) -> Option<(f64, f64)> {
        let spread = Spread::of(self.rounds(row)?.into_iter().flatten())?;
        Some((spread.min, spread.max))
    }

    /// Returns the level below which the figure is noise, if there is one.
    fn noise(self) -> Option<f64> {
        (self == Self::Field("cpu_ms")).then_some(IDLE_NOISE_MS)
    }

    /// Divides one figure by the other. If both are noise there is no ratio; if one is, it counts as the
    /// noise level.
    fn over(self, theirs: f64, ours: f64) -> Option<f64> {
        match self.noise() {
            Some(noise) if theirs < noise && ours < noise => None,
            Some(noise) => Some(theirs.max(noise) / ours.max(noise)),
            None => (ours > 0.0).then(|| theirs / ours),
        }
    }

    /// Returns a row's figure over ours: the median over the rounds in which both have it.
    pub fn ratio(self, theirs: &Row, ours: &Row) -> Option<f64> {
        match self.rounds(theirs).zip(self.rounds(ours)) {
            Some((theirs, ours)) => {
                let ratios = theirs.into_iter().zip(ours).filter_map(|(theirs, ours)| self.over(theirs?, ours?));
                Some(Spread::of(ratios)?.median)
            }
            None => self.over(self.of(theirs)?, self.of(ours)?),
        }
    }
}

/// A figure that caches are judged by, with its name.
pub type Judged = (&'static str, Figure);

/// Returns what a scenario is judged by; nothing if it compares no caches.
pub fn judged(scenario: &str) -> Vec<Judged> {
    match scenario {
        "percore" => Vec::new(),
        "latency" => vec![
            ("p99.9 of gets", Figure::Percentile("get", "p99.9")),
            ("p99.99 of gets", Figure::Percentile("get", "p99.99")),
            ("p99.9 of inserts", Figure::Percentile("insert", "p99.9")),
            ("p99.99 of inserts", Figure::Percentile("insert", "p99.99")),
        ],
        "expiry" => vec![
            ("time until the last value is dropped", Figure::Field("reclaimed_after_ms")),
            ("p99.9 of gets meanwhile", Figure::Field("p999_us")),
        ],
        "memory" => vec![("bytes per entry", Figure::Field("bytes_per_entry"))],
        "idle" => vec![("processor time", Figure::Field("cpu_ms"))],
        _ => vec![("time per operation", Figure::Time)],
    }
}

/// Returns a percentile, if there were enough operations for one to lie beyond it.
pub(crate) fn percentile(row: &Row, operation: &str, which: &str) -> Option<f64> {
    row.fields.get("percentiles_ns")?.get(operation)?.get(which)?.as_f64()
}

/// One contestant compared with ours in one scenario.
pub struct Beside {
    /// The contestant's name.
    pub contestant: String,
    /// Its figures over ours, one for each case.
    pub ratios: Vec<f64>,
}

impl Beside {
    /// Returns the number of cases in which its figure is smaller than ours.
    fn ahead_of_us(&self) -> usize {
        self.ratios.iter().filter(|ratio| **ratio < 1.0).count()
    }

    /// Returns the smallest and the largest ratio; the smallest is where the contestant does best.
    pub fn ends(&self) -> (f64, f64) {
        let least = self.ratios.iter().copied().fold(f64::INFINITY, f64::min);
        (least, self.ratios.iter().copied().fold(0.0, f64::max))
    }
}

/// A scenario judged by one of its figures.
pub struct Line {
    /// The scenario.
    pub scenario: String,
    /// The figure's name.
    pub by: &'static str,
    /// The other contestants.
    pub beside: Vec<Beside>,
}

/// Returns the lines of a scenario.
pub fn of(report: &Report) -> Vec<Line> {
    let line = |(by, figure): Judged| {
        let beside = table::contestants(report).into_iter().filter(|name| *name != OURS).map(|name| {
            let rows = report.rows.iter().filter(|row| row.contestant == name);
            let ratio = |row: &Row| figure.ratio(row, ours(report, &row.case)?);
            Beside { contestant: name.to_owned(), ratios: rows.filter_map(ratio).collect() }
        });
        let beside = beside.filter(|beside| !beside.ratios.is_empty()).collect();
        Line { scenario: report.scenario.clone(), by, beside }
    };
    judged(&report.scenario).into_iter().map(line).filter(|line| !line.beside.is_empty()).collect()
}

/// Returns our row of a case.
pub(crate) fn ours<'a>(report: &'a Report, case: &str) -> Option<&'a Row> {
    report.rows.iter().find(|row| row.contestant == OURS && row.case == case)
}

/// Explains the ratios shown under a scenario, if there are any.
pub fn method(report: &Report) -> Option<String> {
    let figures = judged(&report.scenario);
    let Some((_, figure)) = figures.first() else {
        return Some("ns/op is the time divided by the operations of all threads together.".into());
    };
    let said = match figure {
        Figure::Time => format!(
            "ns/op is the time divided by the operations of all threads together. {SEATS} A ratio is a contestant's \
             time over ours within a round; the median of the rounds is shown."
        ),
        Figure::Percentile(..) => format!(
            "Percentiles cover the operations of all rounds together. {SEATS} A ratio is a contestant's percentile \
             over ours within a round; shown is the median of the rounds in which both had enough operations."
        ),
        Figure::Field("cpu_ms") => format!(
            "A ratio is a contestant's processor time over ours within a round; the median of the rounds is \
             shown. Less than {IDLE_NOISE_MS} ms may come from the measurement itself. It counts as \
             {IDLE_NOISE_MS} ms, and there is no ratio if both are below."
        ),
        Figure::Field("bytes_per_entry") => {
            "There is only one round, since bytes don't vary; ratios are taken from its figures.".into()
        }
        Figure::Field(_) => {
            "A ratio is a contestant's figure over ours within a round; shown is the median of the rounds that have \
             both. Times and stalls are medians of the rounds, and the percentile covers the look-ups of all rounds \
             together."
                .into()
        }
    };
    report.rows.iter().any(|row| figures.iter().any(|(_, figure)| figure.of(row).is_some())).then_some(said)
}

/// Says in one sentence where we win and where we lose.
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
    let losing = if losing.is_empty() { "to none".into() } else { format!("to {}", losing.join(", ")) };
    let winning = if winning.is_empty() { "none in all cases".into() } else { winning.join(", ") };
    format!("By {by}, as a multiple of ours: we lose {losing}; we beat {winning}.")
}

/// Formats a ratio with as many digits as are meaningful.
pub fn figure(ratio: f64) -> String {
    match ratio {
        great if great >= 9.95 => format!("{great:.0}"),
        middle if middle >= 2.0 => format!("{middle:.1}"),
        tiny if tiny < 0.1 => format!("{tiny:.3}"),
        small => format!("{small:.2}"),
    }
}

/// Formats a cell of the summary: the range over the cases.
pub fn range(beside: &Beside) -> String {
    let (least, most) = beside.ends();
    let (least, most) = (figure(least), figure(most));
    if least == most { least } else { format!("{least} to {most}") }
}

/// Returns true if the contestant is ahead of us in some case.
pub fn loses(beside: &Beside) -> bool {
    beside.ahead_of_us() > 0
}

/// Returns the columns of a summary: every contestant that is in a line, in order.
pub fn columns(lines: &[Line]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for beside in lines.iter().flat_map(|line| &line.beside) {
        if !names.contains(&beside.contestant.as_str()) {
            names.push(&beside.contestant);
        }
    }
    names
}

/// Returns how many of all ratios are above one, and how many ratios there are. `scale` is not counted if
/// `mixed` is there, whose requests it repeats.
pub fn score(lines: &[Line]) -> (usize, usize) {
    let repeated = lines.iter().any(|line| line.scenario == "mixed");
    let counted = lines.iter().filter(|line| !repeated || line.scenario != REPEATS_MIXED);
    let others = counted.flat_map(|line| &line.beside).filter(|beside| beside.contestant != OUR_OTHER);
    others.fold((0, 0), |(ahead, all), beside| {
        (ahead + beside.ratios.len() - beside.ahead_of_us(), all + beside.ratios.len())
    })
}

/// Formats the summary as a Markdown table, bold where the contestant is ahead of us in some case.
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
    use serde_json::json;

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

    fn row(contestant: &str, fields: serde_json::Value) -> Row {
        let serde_json::Value::Object(fields) = fields else { panic!("fields are an object") };
        Row { case: "c".into(), contestant: contestant.into(), fields, ..Row::default() }
    }

    #[test]
    fn ratios_are_taken_within_rounds_for_every_figure_that_has_rounds() {
        // The second round was slow for both; in the last one they have no figure.
        let ours = row(OURS, json!({"x": 10.0, "x_rounds": [10.0, 100.0, 10.0, 7.0]}));
        let theirs = row("moka", json!({"x": 30.0, "x_rounds": [20.0, 200.0, 30.0, null]}));
        assert_eq!(Figure::Field("x").ratio(&theirs, &ours), Some(2.0));
        let of = |nanoseconds: [u64; 2]| json!({"percentiles_ns_rounds": {"get": [{"p99.9": nanoseconds[0]}, {"p99.9": nanoseconds[1]}]}});
        let figure = Figure::Percentile("get", "p99.9");
        assert_eq!(figure.ratio(&row("moka", of([30, 300])), &row(OURS, of([10, 100]))), Some(3.0));
        assert_eq!(Figure::Field("y").ratio(&row("moka", json!({"y": 3})), &row(OURS, json!({"y": 2}))), Some(1.5));
    }

    #[test]
    fn an_idle_cache_wins_and_loses_nothing_by_noise() {
        let ratio = |theirs: f64, ours: f64| {
            let row = |name, used: f64| row(name, json!({"cpu_ms": used, "cpu_ms_rounds": [used]}));
            Figure::Field("cpu_ms").ratio(&row("moka", theirs), &row(OURS, ours))
        };
        assert_eq!([ratio(0.03, 0.02), ratio(0.02, 0.03)], [None, None]);
        assert_eq!([ratio(50.0, 0.02), ratio(0.02, 50.0)], [Some(50.0), Some(0.02)]);
    }

    #[test]
    fn what_scale_repeats_of_mixed_is_counted_once() {
        let named = |name: &str| Line { scenario: name.into(), ..line(&[("moka", &[3.0, 0.5])]) };
        assert_eq!(score(&[named("mixed"), named("scale")]), (1, 2));
        assert_eq!(score(&[named("scale")]), (1, 2));
    }
}
