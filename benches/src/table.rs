//! What people read: the rows as a table, and below it sentences that say what it shows.

use std::fmt::Write;
use std::io::IsTerminal;

use comfy_table::presets::{ASCII_MARKDOWN, UTF8_FULL_CONDENSED};
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};

use crate::measure::Spread;
use crate::page::escape;
use crate::report::{Report, Row};
use crate::scenarios::percore;
use crate::summary;

/// A column: its heading, and the text of a row's cell, if it has one.
type Column = (&'static str, fn(&Row) -> Option<String>);

/// The columns in order. A column for which no row has a value is left out.
const COLUMNS: [Column; 33] = [
    ("case", |row| Some(row.case.clone())),
    ("contestant", |row| Some(row.contestant.clone())),
    ("ns/op", |row| row.ns_per_op.map(|time| format!("{:.1}", time.median))),
    ("min..max", |row| row.ns_per_op.map(|time| format!("{:.1}..{:.1}", time.min, time.max))),
    ("Mops/s", |row| row.ops_per_s.map(|rate| format!("{:.3}", rate / 1e6))),
    ("we are ahead", |row| row.ours_ahead.filter(|_| row.contestant != OURS).map(times)),
    ("requests timed", |row| percentile(row, "count")),
    ("p50 ns", |row| percentile(row, "p50")),
    ("p99 ns", |row| percentile(row, "p99")),
    ("p99.9 ns", |row| percentile(row, "p99.9")),
    ("gets timed", |row| nested(row, "get", "count")),
    ("get p50", |row| nested(row, "get", "p50")),
    ("get p99.9", |row| nested(row, "get", "p99.9")),
    ("get p99.99", |row| nested(row, "get", "p99.99")),
    ("inserts timed", |row| nested(row, "insert", "count")),
    ("insert p50", |row| nested(row, "insert", "p50")),
    ("insert p99.9", |row| nested(row, "insert", "p99.9")),
    ("insert p99.99", |row| nested(row, "insert", "p99.99")),
    ("reclaimed ms", |row| decimal(row, "reclaimed_after_ms")),
    ("dropped early", |row| count(row, "dropped_early")),
    ("stall us", |row| decimal(row, "longest_stall_us")),
    ("p99.9 us", |row| decimal(row, "p999_us")),
    ("bytes/entry", |row| decimal(row, "bytes_per_entry")),
    ("CPU ms", |row| Some(format!("{:.3}", row.fields.get("cpu_ms")?.as_f64()?))),
    ("hit ratio", |row| row.hit_ratio.map(|ratio| format!("{ratio:.4}"))),
    ("fairness", |row| row.fields.get("fairness")?.as_f64().map(|share| format!("{share:.2}"))),
    ("hits", |row| count(row, "hits")),
    ("misses", |row| count(row, "misses")),
    ("expired", |row| count(row, "expired")),
    ("reclaimed", |row| count(row, "reclaimed")),
    ("evicted", |row| count(row, "evicted")),
    ("own threads", |row| row.threads_owned.map(|threads| threads.to_string())),
    ("ran only", |row| (!row.full_run).then(|| format!("{} ops", row.operations))),
];

/// Formats everything a person should see, ending with a line break.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    let machine = &report.machine;
    let versions: Vec<String> = report.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let _ = writeln!(text, "{}: {} rounds on {}, {} cores", report.scenario, report.rounds, machine.cpu, machine.cores);
    let _ = writeln!(text, "{}", versions.join(", "));
    let cases = cases(report);
    if let [case] = cases[..] {
        let _ = writeln!(text, "{case}");
    }
    let _ = writeln!(text, "{}", table(report, cases.len() > 1));
    for line in verdicts(report).into_iter().chain(notes(report)) {
        let _ = writeln!(text, "{line}");
    }
    text
}

fn table(report: &Report, show_case: bool) -> Table {
    let terminal = std::io::stdout().is_terminal();
    let mut table = Table::new();
    table.load_style(if terminal { UTF8_FULL_CONDENSED } else { ASCII_MARKDOWN });
    table.set_content_arrangement(if terminal { ContentArrangement::Dynamic } else { ContentArrangement::Disabled });
    let says_something = |(heading, says): &&Column| {
        (*heading != "case" || show_case) && report.rows.iter().any(|row| says(row).is_some())
    };
    let columns: Vec<&Column> = COLUMNS.iter().filter(says_something).collect();
    table.set_header(columns.iter().map(|(heading, _)| *heading));
    let mut case_above = "";
    for row in &report.rows {
        let repeated = row.case == case_above;
        case_above = &row.case;
        table.add_row(columns.iter().map(|(heading, says)| match *heading {
            "case" if repeated => Cell::new(""),
            "case" | "contestant" => Cell::new(says(row).unwrap_or_default()),
            _ => Cell::new(says(row).unwrap_or_default()).set_alignment(CellAlignment::Right),
        }));
    }
    table
}

fn times(spread: Spread) -> String {
    let digits = |ratio: f64| match ratio {
        small if small < 10.0 => format!("{small:.2}"),
        great => format!("{great:.0}"),
    };
    format!("{}x ({}..{})", digits(spread.median), digits(spread.min), digits(spread.max))
}

fn count(row: &Row, field: &str) -> Option<String> {
    row.fields.get(field)?.as_u64().map(|count| count.to_string())
}

fn percentile(row: &Row, which: &str) -> Option<String> {
    row.fields.get("percentiles_ns")?.get(which)?.as_u64().map(|nanoseconds| nanoseconds.to_string())
}

fn nested(row: &Row, operation: &str, which: &str) -> Option<String> {
    row.fields.get("percentiles_ns")?.get(operation)?.get(which)?.as_u64().map(|nanoseconds| nanoseconds.to_string())
}

fn decimal(row: &Row, field: &str) -> Option<String> {
    row.fields.get(field)?.as_f64().map(|value| format!("{value:.1}"))
}

/// Formats the rows as an HTML table.
pub(crate) fn html(report: &Report) -> String {
    let says_something = |(_, says): &&Column| report.rows.iter().any(|row| says(row).is_some());
    let columns: Vec<&Column> = COLUMNS.iter().filter(says_something).collect();
    let heading: String = columns.iter().map(|(name, _)| format!("<th scope=\"col\">{}</th>", escape(name))).collect();
    let mut text = format!(
        "<table><caption>All figures of {}</caption><thead><tr>{heading}</tr></thead><tbody>",
        escape(&report.scenario)
    );
    for row in &report.rows {
        let cell = |(name, says): &&Column| {
            let said = escape(&says(row).unwrap_or_default());
            match *name {
                "contestant" => format!("<th scope=\"row\">{said}</th>"),
                _ => format!("<td>{said}</td>"),
            }
        };
        let _ = write!(text, "<tr>{}</tr>", columns.iter().map(cell).collect::<String>());
    }
    text + "</tbody></table>"
}

/// Returns the cases in order, each once.
pub(crate) fn cases(report: &Report) -> Vec<&str> {
    let mut cases: Vec<&str> = report.rows.iter().map(|row| row.case.as_str()).collect();
    cases.dedup();
    cases
}

/// Returns the contestants in order, each once.
pub(crate) fn contestants(report: &Report) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for row in &report.rows {
        if !names.contains(&row.contestant.as_str()) {
            names.push(&row.contestant);
        }
    }
    names
}

/// Says in words who wins and who loses.
pub(crate) fn verdicts(report: &Report) -> Vec<String> {
    if report.scenario == percore::NAME {
        return percore::verdicts(report);
    }
    summary::of(report).iter().map(summary::sentence).collect()
}

/// Says what one has to know to read the rows.
pub(crate) fn notes(report: &Report) -> Vec<String> {
    let mut lines: Vec<String> = summary::method(report).into_iter().collect();
    if report.rows.iter().any(|row| count(row, "expired").is_some_and(|expired| expired != "0")) {
        let ways = contestants(report).into_iter().filter_map(|name| {
            let row = report.rows.iter().find(|row| row.contestant == name)?;
            Some((row.fields.get("expiry")?.as_str()?.to_owned(), name))
        });
        let ways = together(ways);
        if !ways.is_empty() {
            lines.push(format!("How entries expire. {ways}."));
        }
    }
    let updates = contestants(report).into_iter().filter_map(|name| {
        let row = of(report, name).next()?;
        Some((row.fields.get("update")?.as_str()?.to_owned(), name))
    });
    let updates = together(updates);
    if !updates.is_empty() {
        lines.push(format!("How values are changed. {updates}."));
    }
    if let Some(resized) = report.rows.iter().find_map(|row| row.fields.get("values_resized")?.as_u64()) {
        lines.push(format!(
            "The trace's sizes are limited to 8 to 4096 bytes here, so {resized} keys have values of another \
             length than recorded."
        ));
    }
    let cut = report.rows.iter().filter_map(|row| Some((row, row.fields.get("fill_cut_at")?.as_u64()?)));
    for (row, stored) in cut {
        let Row { case, contestant, .. } = row;
        lines.push(format!("Filling {contestant} ({case}) took too long and was cut short at {stored} entries."));
    }
    let slow: Vec<&str> =
        contestants(report).into_iter().filter(|name| of(report, name).any(|row| !row.full_run)).collect();
    if !slow.is_empty() {
        lines.push(format!(
            "Too slow for a full run in some case, and so measured over fewer operations or entries: {}. Hit \
             ratios and counts of such rows cover only the beginning.",
            slow.join(", ")
        ));
    }
    let mut absent: Vec<(String, &str)> = Vec::new();
    for missing in &report.absent {
        if !absent.contains(&(missing.why.clone(), &missing.contestant)) {
            absent.push((missing.why.clone(), &missing.contestant));
        }
    }
    if !absent.is_empty() {
        lines.push(format!("Absent. {}.", together(absent.into_iter())));
    }
    lines
}

/// Formats statements about names, joining the names that share a statement.
fn together<'a>(said: impl Iterator<Item = (String, &'a str)>) -> String {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for (what, name) in said {
        match groups.iter_mut().find(|(other, _)| *other == what) {
            Some((_, names)) => names.push(name),
            None => groups.push((what, vec![name])),
        }
    }
    let groups: Vec<String> = groups.iter().map(|(what, names)| format!("{}: {what}", names.join(", "))).collect();
    groups.join("; ")
}

fn of<'a>(report: &'a Report, contestant: &'a str) -> impl Iterator<Item = &'a Row> {
    report.rows.iter().filter(move |row| row.contestant == contestant)
}

/// The contestant that the others are compared with.
pub(crate) const OURS: &str = "sark-cache";
